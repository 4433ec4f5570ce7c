//! Generic routing encapsulation (RFC 2784), without a checksum.

use super::Malformed;
use super::field::{set_u16, u16_of};

/// Bytes of a header.
pub const HEADER_LEN: usize = field::PAYLOAD_AT;

mod field {
    use crate::wire::field::Field;

    /// Which options there are, and the version.
    pub(super) const FLAGS: Field = 0..2;
    /// An Ethertype.
    pub(super) const PROTOCOL: Field = 2..4;
    pub(super) const PAYLOAD_AT: usize = 4;
}

/// A header without options, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Gre<T>(T);

impl<T: AsRef<[u8]>> Gre<T> {
    /// # Errors
    /// [`Malformed::Truncated`]; [`Malformed::Option`]: a checksum, a key or a sequence number (RFC 2890), which weir does not
    /// send; [`Malformed::Version`]: of PPTP (RFC 2637), or unknown.
    pub fn new_checked(bytes: T) -> Result<Self, Malformed> {
        const VERSION: u16 = 0x0007;
        let Some(header) = bytes.as_ref().first_chunk::<HEADER_LEN>() else {
            return Err(Malformed::Truncated);
        };
        match u16_of(header, field::FLAGS) {
            0 => Ok(Gre(bytes)),
            flags if flags & VERSION != 0 => Err(Malformed::Version),
            // RFC 2784 section 2.3: the reserved bits that a receiver may not ignore are among them.
            _ => Err(Malformed::Option),
        }
    }

    /// The Ethertype of what is inside.
    pub fn protocol(&self) -> u16 {
        u16_of(self.0.as_ref(), field::PROTOCOL)
    }
}

impl<'a> Gre<&'a [u8]> {
    pub fn payload(&self) -> &'a [u8] {
        &self.0[field::PAYLOAD_AT..]
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// An Ethertype.
    pub protocol: u16,
}

impl Repr {
    /// Writes the header at the start of `bytes`. None if it does not fit.
    pub fn emit(&self, bytes: &mut [u8]) -> Option<()> {
        let header = bytes.first_chunk_mut::<HEADER_LEN>()?;
        set_u16(header, field::FLAGS, 0);
        set_u16(header, field::PROTOCOL, self.protocol);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_read(protocol: u16, payload in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = [&[0xa5; HEADER_LEN][..], &payload].concat();
            Repr { protocol }.emit(&mut bytes).unwrap();
            let gre = Gre::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!((gre.protocol(), gre.payload()), (protocol, &payload[..]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            match Gre::new_checked(&bytes[..]) {
                Ok(gre) => prop_assert_eq!(gre.payload().len() + HEADER_LEN, bytes.len()),
                Err(Malformed::Truncated) => prop_assert!(bytes.len() < HEADER_LEN),
                Err(_) => prop_assert!(bytes[..2] != [0, 0]),
            }
        }
    }

    #[test]
    fn what_weir_does_not_send_is_refused_by_its_name() {
        let of = |flags: u16| {
            let mut bytes = [0; HEADER_LEN];
            bytes[..2].copy_from_slice(&flags.to_be_bytes());
            Gre::new_checked(bytes).err()
        };
        assert_eq!(of(0), None);
        for (flags, why) in [
            (0x8000, Malformed::Option),
            (0x2000, Malformed::Option),
            (0x1000, Malformed::Option),
            (0x2001, Malformed::Version),
        ] {
            assert_eq!(of(flags), Some(why), "{flags:#x}");
        }
    }
}
