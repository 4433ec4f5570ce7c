//! UDP (RFC 768).

use super::Malformed;
use super::checksum::{fold, partial};
use super::field::{set_u16, u16_of};

/// Bytes of a header.
pub const HEADER_LEN: usize = field::PAYLOAD_AT;

mod field {
    use crate::wire::field::Field;

    pub(super) const SOURCE_PORT: Field = 0..2;
    pub(super) const DESTINATION_PORT: Field = 2..4;
    pub(super) const LENGTH: Field = 4..6;
    pub(super) const CHECKSUM: Field = 6..8;
    pub(super) const PAYLOAD_AT: usize = 8;
}

/// A datagram, at the start of bytes that may be more: it has a length of its own.
#[derive(Clone, Copy, Debug)]
pub struct Udp<T>(T);

impl<T: AsRef<[u8]>> Udp<T> {
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::Length`]: its length is below 8 or beyond the packet.
    #[inline(always)]
    pub fn new_checked(bytes: T) -> Result<Self, Malformed> {
        let udp = Udp(bytes);
        let bytes = udp.0.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        // RFC 768: the minimum value of the length is eight. 0, as of a jumbogram (RFC 2675 section 4), is refused too.
        match usize::from(udp.length()) {
            length if (HEADER_LEN..=bytes.len()).contains(&length) => Ok(udp),
            _ => Err(Malformed::Length),
        }
    }

    #[inline(always)]
    pub fn source_port(&self) -> u16 {
        u16_of(self.0.as_ref(), field::SOURCE_PORT)
    }

    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        u16_of(self.0.as_ref(), field::DESTINATION_PORT)
    }

    /// Bytes of the datagram, its header counted.
    #[inline(always)]
    pub fn length(&self) -> u16 {
        u16_of(self.0.as_ref(), field::LENGTH)
    }

    /// RFC 768: 0 says that the sender computed none. That is illegal over IPv6 (RFC 8200 section 8.1).
    pub fn checksum(&self) -> Option<u16> {
        Some(u16_of(self.0.as_ref(), field::CHECKSUM)).filter(|&checksum| checksum != 0)
    }

    /// Whether the checksum is right, or there is none. `pseudo`: of the IP header, with [`length`](Self::length).
    pub fn is_checksum_right(&self, pseudo: u64) -> bool {
        let datagram = &self.0.as_ref()[..usize::from(self.length())];
        self.checksum().is_none() || fold(pseudo + partial(datagram)) == 0xffff
    }
}

impl<'a> Udp<&'a [u8]> {
    #[inline(always)]
    pub fn payload(&self) -> &'a [u8] {
        &self.0[HEADER_LEN..usize::from(self.length())]
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    pub source_port: u16,
    pub destination_port: u16,
}

impl Repr {
    /// Writes the header of a datagram that fills `datagram`, whose payload is there. None if it does not fit.
    pub fn emit(&self, datagram: &mut [u8], pseudo: u64) -> Option<()> {
        self.emit_without_checksum(datagram)?;
        // RFC 768: a computed 0 is sent as 0xffff.
        let checksum = match !fold(pseudo + partial(datagram)) {
            0 => 0xffff,
            checksum => checksum,
        };
        set_u16(datagram, field::CHECKSUM, checksum);
        Some(())
    }

    /// As [`emit`](Self::emit), with the checksum 0, which says that there is none.
    #[inline]
    pub fn emit_without_checksum(&self, datagram: &mut [u8]) -> Option<()> {
        let length = u16::try_from(datagram.len()).ok()?;
        if datagram.len() < HEADER_LEN {
            return None;
        }
        set_u16(datagram, field::SOURCE_PORT, self.source_port);
        set_u16(datagram, field::DESTINATION_PORT, self.destination_port);
        set_u16(datagram, field::LENGTH, length);
        set_u16(datagram, field::CHECKSUM, 0);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::naive;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_read(
            ports: (u16, u16),
            payload in prop::collection::vec(any::<u8>(), 0..50),
            pseudo in 0u64..0x4_0000,
            surplus in 0usize..4,
        ) {
            let mut bytes = [&[0; HEADER_LEN][..], &payload].concat();
            Repr { source_port: ports.0, destination_port: ports.1 }.emit(&mut bytes, pseudo).unwrap();
            let halves = [pseudo >> 16, pseudo & 0xffff].map(|half| (half as u16).to_be_bytes());
            prop_assert_eq!(naive(&[&halves.concat()[..], &bytes].concat()), 0xffff);
            bytes.resize(bytes.len() + surplus, 0x5a);
            let udp = Udp::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!((udp.source_port(), udp.destination_port()), ports);
            prop_assert_eq!(udp.payload(), &payload[..]);
            prop_assert!(udp.is_checksum_right(pseudo));
            prop_assert!(udp.checksum().is_some());
            // 0 and 0xffff are the same number in ones' complement.
            prop_assert!(!udp.is_checksum_right(pseudo + 1));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            match Udp::new_checked(&bytes[..]) {
                Ok(udp) => prop_assert_eq!(udp.payload().len() + HEADER_LEN, usize::from(udp.length())),
                Err(Malformed::Truncated) => prop_assert!(bytes.len() < HEADER_LEN),
                Err(why) => prop_assert_eq!(why, Malformed::Length),
            }
        }
    }

    #[test]
    fn lengths_are_checked_by_their_names() {
        let of = |length: u16, room: usize| {
            let mut bytes = vec![0; room];
            bytes[field::LENGTH].copy_from_slice(&length.to_be_bytes());
            Udp::new_checked(bytes).err()
        };
        assert_eq!(of(8, 8), None);
        assert_eq!(of(8, 12), None);
        for length in [0, 7, 9, u16::MAX] {
            assert_eq!(of(length, 8), Some(Malformed::Length), "{length}");
        }
    }
}
