//! ICMPv6 (RFC 4443). What neighbour discovery says in it is in [`ndisc`](super::ndisc).

use super::Malformed;
use super::checksum::{fold, partial};
use super::field::{set_u16, set_u32, u16_of, u32_of};
use super::icmp::Quote;
use crate::net::{IcmpErrorKind, LEAST_MTU_V6};

/// Bytes of a header: of every message that weir looks at.
pub const HEADER_LEN: usize = field::DATA_AT;

pub const DESTINATION_UNREACHABLE: u8 = 1;
pub const PACKET_TOO_BIG: u8 = 2;
pub const TIME_EXCEEDED: u8 = 3;
pub const PARAMETER_PROBLEM: u8 = 4;
pub const ECHO_REQUEST: u8 = 128;
pub const ECHO_REPLY: u8 = 129;
pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
pub const REDIRECT: u8 = 137;

/// Whether a type is one of neighbour discovery (RFC 4861 section 4).
pub fn is_discovery(kind: u8) -> bool {
    (ROUTER_SOLICITATION..=REDIRECT).contains(&kind)
}

mod field {
    use crate::wire::field::Field;

    pub(super) const KIND: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: Field = 2..4;
    /// What it is depends on the type.
    pub(super) const REST: Field = 4..8;
    /// Of an echo.
    pub(super) const IDENTIFIER: Field = 4..6;
    /// Of an echo.
    pub(super) const SEQUENCE: Field = 6..8;
    /// Of an error: how much it quotes, in words of 64 bits (RFC 4884 section 4).
    pub(super) const QUOTED_WORDS: usize = 4;
    pub(super) const DATA_AT: usize = 8;
}

/// A message that is at least a header long.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6<T>(T);

impl<T: AsRef<[u8]>> Icmpv6<T> {
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn new_checked(message: T) -> Result<Self, Malformed> {
        match message.as_ref().len() {
            ..HEADER_LEN => Err(Malformed::Truncated),
            HEADER_LEN.. => Ok(Icmpv6(message)),
        }
    }

    /// The type.
    pub fn kind(&self) -> u8 {
        self.0.as_ref()[field::KIND]
    }

    pub fn code(&self) -> u8 {
        self.0.as_ref()[field::CODE]
    }

    /// The second word of the header.
    pub fn rest(&self) -> u32 {
        u32_of(self.0.as_ref(), field::REST)
    }

    /// Of an echo request or reply.
    pub fn identifier(&self) -> u16 {
        u16_of(self.0.as_ref(), field::IDENTIFIER)
    }

    /// Of an echo request or reply.
    pub fn sequence(&self) -> u16 {
        u16_of(self.0.as_ref(), field::SEQUENCE)
    }

    /// Of "packet too big": the next hop's.
    pub fn mtu(&self) -> Option<u32> {
        (self.kind() == PACKET_TOO_BIG).then(|| self.rest())
    }

    pub fn is_echo_request(&self) -> bool {
        self.kind() == ECHO_REQUEST
    }

    /// RFC 4443 section 2.1: the types below 128 are errors, unknown ones as well.
    pub fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// What an error is about; none of another message.
    pub fn error(&self) -> Option<IcmpErrorKind> {
        Some(match self.kind() {
            DESTINATION_UNREACHABLE => IcmpErrorKind::Unreachable,
            PACKET_TOO_BIG => IcmpErrorKind::TooBig,
            TIME_EXCEEDED => IcmpErrorKind::TimeExceeded,
            PARAMETER_PROBLEM => IcmpErrorKind::ParameterProblem,
            _ if self.is_error() => IcmpErrorKind::Other,
            _ => return None,
        })
    }

    /// Whether it says that a host or port is not there, or no route to it: not that someone forbids the way.
    pub fn is_absence(&self) -> bool {
        const NO_ROUTE: u8 = 0;
        const ADDRESS_UNREACHABLE: u8 = 3;
        const PORT_UNREACHABLE: u8 = 4;
        self.kind() == DESTINATION_UNREACHABLE
            && matches!(
                self.code(),
                NO_ROUTE | ADDRESS_UNREACHABLE | PORT_UNREACHABLE
            )
    }

    /// RFC 4443 section 2.3: the checksum covers the pseudo header of IPv6 and the message. `pseudo`: with the message's
    /// length.
    pub fn is_checksum_right(&self, pseudo: u64) -> bool {
        fold(pseudo + partial(self.0.as_ref())) == 0xffff
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmpv6<T> {
    /// Lets "too big" say no less than every IPv6 link takes (RFC 8200 section 5), and computes the checksum anew then.
    pub fn raise_mtu(&mut self, pseudo: u64) {
        if self.mtu().is_some_and(|mtu| mtu < LEAST_MTU_V6) {
            set_u32(self.0.as_mut(), field::REST, LEAST_MTU_V6);
            self.fill_checksum(pseudo);
        }
    }

    /// Computes the checksum. `pseudo`: with the message's length.
    pub fn fill_checksum(&mut self, pseudo: u64) {
        let message = self.0.as_mut();
        set_u16(message, field::CHECKSUM, 0);
        let checksum = !fold(pseudo + partial(message));
        set_u16(message, field::CHECKSUM, checksum);
    }
}

impl<'a> Icmpv6<&'a [u8]> {
    pub fn data(&self) -> &'a [u8] {
        &self.0[HEADER_LEN..]
    }

    /// What an error quotes of the packet that it is about, and the extensions behind that (RFC 4884), for
    /// [`Ipv6::new_quoted`](super::ipv6::Ipv6::new_quoted). None of another message.
    pub fn quote(&self) -> Option<Quote<'a>> {
        let words = match self.kind() {
            // RFC 4884 section 4: only these have the length.
            DESTINATION_UNREACHABLE | TIME_EXCEEDED => self.0[field::QUOTED_WORDS],
            _ => 0,
        };
        let data = self.data();
        self.is_error()
            .then(|| Quote::split(data, usize::from(words) * 8))
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    pub kind: u8,
    pub code: u8,
    /// The second word of the header.
    pub rest: u32,
}

impl Repr {
    /// Writes the header of a message that fills `message`, whose data are there. None if it does not fit.
    pub fn emit(&self, message: &mut [u8], pseudo: u64) -> Option<()> {
        if message.len() < HEADER_LEN {
            return None;
        }
        message[field::KIND] = self.kind;
        message[field::CODE] = self.code;
        set_u32(message, field::REST, self.rest);
        Icmpv6(message).fill_checksum(pseudo);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::{naive, pseudo_header_v6};
    use crate::wire::ipv6::Ipv6;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    proptest! {
        #[test]
        fn what_is_emitted_is_read(
            kind: u8,
            code: u8,
            rest: u32,
            data in prop::collection::vec(any::<u8>(), 0..50),
            addresses: (u128, u128),
        ) {
            let (source, destination) = (Ipv6Addr::from_bits(addresses.0), Ipv6Addr::from_bits(addresses.1));
            let mut bytes = [&[0x5a; HEADER_LEN][..], &data].concat();
            let length = bytes.len() as u32;
            let pseudo = pseudo_header_v6(source, destination, 58, length);
            Repr { kind, code, rest }.emit(&mut bytes, pseudo).unwrap();
            // RFC 8200 section 8.1, to the letter.
            let header = [&source.octets()[..], &destination.octets(), &length.to_be_bytes(), &[0, 0, 0, 58]].concat();
            prop_assert_eq!(naive(&[header, bytes.clone()].concat()), 0xffff);
            let message = Icmpv6::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!((message.kind(), message.code(), message.rest()), (kind, code, rest));
            prop_assert_eq!((message.identifier(), message.sequence()), ((rest >> 16) as u16, rest as u16));
            prop_assert_eq!(message.data(), &data[..]);
            prop_assert!(message.is_checksum_right(pseudo));
            prop_assert!(!message.is_checksum_right(pseudo + 1));
            prop_assert_eq!(message.quote().is_some(), kind < 128);
            prop_assert_eq!(message.mtu(), (kind == 2).then_some(rest));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(message) = Icmpv6::new_checked(&bytes[..])
                && let Some(quote) = message.quote()
            {
                prop_assert_eq!([quote.packet, quote.extensions].concat(), message.data());
                let _ = Ipv6::new_quoted(quote.packet).and_then(|ip| ip.upper_layer());
            }
        }
    }

    #[test]
    fn the_quoted_length_is_in_words_of_64_bits() {
        let mut bytes = [&[0; HEADER_LEN][..], &[1; 48], &[2; 12]].concat();
        let quoted = |kind, rest: u32, bytes: &mut [u8]| {
            Repr {
                kind,
                code: 0,
                rest,
            }
            .emit(bytes, 0)
            .unwrap();
            let quote = Icmpv6::new_checked(&*bytes).unwrap().quote().unwrap();
            (quote.packet.len(), quote.extensions.len())
        };
        assert_eq!(
            quoted(DESTINATION_UNREACHABLE, 6 << 24, &mut bytes),
            (48, 12)
        );
        assert_eq!(quoted(TIME_EXCEEDED, 6 << 24, &mut bytes), (48, 12));
        assert_eq!(quoted(TIME_EXCEEDED, 0, &mut bytes), (60, 0));
        // Beyond the message.
        assert_eq!(quoted(TIME_EXCEEDED, 200 << 24, &mut bytes), (60, 0));
        // A pointer and an MTU are no lengths.
        assert_eq!(quoted(PARAMETER_PROBLEM, 6 << 24, &mut bytes), (60, 0));
        assert_eq!(quoted(PACKET_TOO_BIG, 6 << 24, &mut bytes), (60, 0));
    }
}
