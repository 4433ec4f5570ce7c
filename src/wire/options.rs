//! The option lists of IPv4 and TCP headers, which have one form (RFC 791 section 3.1, RFC 9293 section 3.1).

use super::Malformed;

/// Ends the list; what follows is padding.
const END: u8 = 0;
/// Of one byte.
const NO_OPERATION: u8 = 1;

/// An option of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderOption<'a> {
    pub kind: u8,
    /// Without kind and length.
    pub data: &'a [u8],
}

/// The options of a header, but for its end and no operation. Ends with the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Those of the bytes of a header that follow its fixed part.
    pub fn new(bytes: &'a [u8]) -> Self {
        Options(bytes)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<HeaderOption<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let list = self.0.iter().position(|&kind| kind != NO_OPERATION)?;
        let list = std::mem::take(&mut self.0).get(list..)?;
        let kind = *list.first().filter(|&&kind| kind != END)?;
        // The length counts kind and length.
        let length = list.get(1).map_or(0, |&length| usize::from(length));
        Some(match (list.get(2..length), list.get(length..)) {
            (Some(data), Some(rest)) => {
                self.0 = rest;
                Ok(HeaderOption { kind, data })
            }
            _ => Err(Malformed::Option),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..44)) {
            let options: Vec<_> = Options::new(&bytes).collect();
            prop_assert!(options.len() <= bytes.len());
            // Nothing after a malformed one.
            prop_assert!(options.iter().rev().skip(1).all(Result::is_ok));
        }

        #[test]
        fn what_is_written_is_read(
            options in prop::collection::vec((2u8.., prop::collection::vec(any::<u8>(), 0..6), 0usize..3), 0..6),
            padding in prop::collection::vec(any::<u8>(), 0..4),
            is_ended: bool,
        ) {
            let mut bytes = vec![];
            for (kind, data, between) in &options {
                bytes.extend([*kind, data.len() as u8 + 2]);
                bytes.extend(data);
                bytes.extend(std::iter::repeat_n(NO_OPERATION, *between));
            }
            if is_ended {
                bytes.push(END);
                bytes.extend(padding);
            }
            let read: Vec<_> = Options::new(&bytes).map(Result::unwrap).collect();
            let written: Vec<_> = options.iter().map(|(kind, data, _)| HeaderOption { kind: *kind, data }).collect();
            prop_assert_eq!(read, written);
        }
    }
}
