//! Generic UDP encapsulation (draft-ietf-intarea-gue): what is behind the UDP header. Variant 0 has a header of its own, of
//! which only the part without extensions is written; variant 1 is the IP packet itself, whose version says so.

use super::Malformed;
use super::field::{set_u16, u16_of};

/// Bytes of a header of variant 0 without extensions.
pub const HEADER_LEN: usize = field::EXTENSIONS_AT;

mod field {
    use crate::wire::field::Field;

    /// Variant (2 bits), control (1), and the length of extensions in words of 32 bits (5).
    pub(super) const FIRST: usize = 0;
    /// An IP protocol number.
    pub(super) const PROTOCOL: usize = 1;
    pub(super) const FLAGS: Field = 2..4;
    pub(super) const EXTENSIONS_AT: usize = 4;
}

const CONTROL: u8 = 0x20;
const EXTENSION_WORDS: u8 = 0x1f;

/// What a datagram of GUE carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gue<'a> {
    /// Variant 0.
    Header { protocol: u8, payload: &'a [u8] },
    /// Variant 1: an IPv4 or IPv6 packet.
    Plain(&'a [u8]),
}

impl<'a> Gue<'a> {
    /// Of the payload of a UDP datagram.
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; [`Malformed::Kind`]: a control message; [`Malformed::Option`]: flags, whose extensions are not
    /// known here; [`Malformed::Version`]: another variant.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let first = *bytes.get(field::FIRST).ok_or(Malformed::Truncated)?;
        match first >> 6 {
            0 => {}
            // The variant is the first half of an IP version of 4 or 6 (section 4).
            1 if matches!(first >> 4, 4 | 6) => return Ok(Gue::Plain(bytes)),
            _ => return Err(Malformed::Version),
        }
        if first & CONTROL != 0 {
            return Err(Malformed::Kind);
        }
        let start = HEADER_LEN + usize::from(first & EXTENSION_WORDS) * 4;
        let payload = bytes.get(start..).ok_or(Malformed::Truncated)?;
        match u16_of(bytes, field::FLAGS) {
            0 => Ok(Gue::Header {
                protocol: bytes[field::PROTOCOL],
                payload,
            }),
            _ => Err(Malformed::Option),
        }
    }
}

/// A header of variant 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// An IP protocol number.
    pub protocol: u8,
}

impl Repr {
    /// Writes the header at the start of `bytes`. None if it does not fit.
    pub fn emit(&self, bytes: &mut [u8]) -> Option<()> {
        let header = bytes.first_chunk_mut::<HEADER_LEN>()?;
        header[field::FIRST] = 0;
        header[field::PROTOCOL] = self.protocol;
        set_u16(header, field::FLAGS, 0);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_read(protocol: u8, payload in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = [&[0xa5; HEADER_LEN][..], &payload].concat();
            Repr { protocol }.emit(&mut bytes).unwrap();
            let payload = &payload[..];
            prop_assert_eq!(Gue::new_checked(&bytes), Ok(Gue::Header { protocol, payload }));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            match Gue::new_checked(&bytes) {
                Ok(Gue::Plain(packet)) => prop_assert_eq!(packet, &bytes[..]),
                Ok(Gue::Header { payload, .. }) => prop_assert!(payload.len() + HEADER_LEN <= bytes.len()),
                Err(Malformed::Truncated) => prop_assert!(bytes.len() < HEADER_LEN + 31 * 4),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn variants_and_extensions_are_told_apart() {
        for (bytes, expected) in [
            (&[0x45, 0, 0, 20][..], Ok(Gue::Plain(&[0x45, 0, 0, 20][..]))),
            (&[0x60][..], Ok(Gue::Plain(&[0x60][..]))),
            (&[0x50, 0, 0, 0], Err(Malformed::Version)),
            (&[0x80, 4, 0, 0], Err(Malformed::Version)),
            (&[0x20, 4, 0, 0], Err(Malformed::Kind)),
            (&[0x00, 4, 0, 1], Err(Malformed::Option)),
            (&[0x01, 4, 0, 0], Err(Malformed::Truncated)),
            (&[0x00, 4, 0], Err(Malformed::Truncated)),
            (&[], Err(Malformed::Truncated)),
            (
                &[0x01, 41, 0, 0, 9, 9, 9, 9, 7],
                Ok(Gue::Header {
                    protocol: 41,
                    payload: &[7],
                }),
            ),
        ] {
            assert_eq!(Gue::new_checked(bytes), expected, "{bytes:x?}");
        }
    }
}
