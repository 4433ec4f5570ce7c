//! ICMP for IPv4 (RFC 792).

use super::Malformed;
use super::checksum::sum;
use super::field::{set_u16, set_u32, u16_of, u32_of};
use crate::net::IcmpErrorKind;

/// Bytes of a header: of every message that weir looks at.
pub const HEADER_LEN: usize = field::DATA_AT;

pub const ECHO_REPLY: u8 = 0;
pub const DESTINATION_UNREACHABLE: u8 = 3;
pub const SOURCE_QUENCH: u8 = 4;
pub const REDIRECT: u8 = 5;
pub const ECHO_REQUEST: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;
pub const PARAMETER_PROBLEM: u8 = 12;

/// Codes of [`DESTINATION_UNREACHABLE`].
pub const NET_UNREACHABLE: u8 = 0;
pub const HOST_UNREACHABLE: u8 = 1;
pub const PORT_UNREACHABLE: u8 = 3;
pub const FRAGMENTATION_NEEDED: u8 = 4;

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
    /// Of an error: how much it quotes, in words of 32 bits (RFC 4884 section 4).
    pub(super) const QUOTED_WORDS: usize = 5;
    /// Of "fragmentation needed" (RFC 1191 section 4).
    pub(super) const MTU: Field = 6..8;
    pub(super) const DATA_AT: usize = 8;
}

/// A message that is at least a header long.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<T>(T);

impl<T: AsRef<[u8]>> Icmp<T> {
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn new_checked(message: T) -> Result<Self, Malformed> {
        match message.as_ref().len() {
            ..HEADER_LEN => Err(Malformed::Truncated),
            HEADER_LEN.. => Ok(Icmp(message)),
        }
    }

    /// The type.
    #[inline(always)]
    pub fn kind(&self) -> u8 {
        self.0.as_ref()[field::KIND]
    }

    #[inline(always)]
    pub fn code(&self) -> u8 {
        self.0.as_ref()[field::CODE]
    }

    /// The second word of the header.
    #[inline(always)]
    pub fn rest(&self) -> u32 {
        u32_of(self.0.as_ref(), field::REST)
    }

    /// Of an echo request or reply.
    #[inline(always)]
    pub fn identifier(&self) -> u16 {
        u16_of(self.0.as_ref(), field::IDENTIFIER)
    }

    /// Of an echo request or reply.
    #[inline(always)]
    pub fn sequence(&self) -> u16 {
        u16_of(self.0.as_ref(), field::SEQUENCE)
    }

    /// Of "fragmentation needed": the next hop's, or 0 from a router older than RFC 1191.
    pub fn mtu(&self) -> Option<u16> {
        let is_needed =
            (self.kind(), self.code()) == (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED);
        is_needed.then(|| u16_of(self.0.as_ref(), field::MTU))
    }

    #[inline(always)]
    pub fn is_echo_request(&self) -> bool {
        self.kind() == ECHO_REQUEST
    }

    /// RFC 1122 section 3.2.2: the messages that tell of a fault, and quote the packet that met it.
    pub fn is_error(&self) -> bool {
        matches!(
            self.kind(),
            DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }

    /// What an error is about; none of another message.
    pub fn error(&self) -> Option<IcmpErrorKind> {
        Some(match (self.kind(), self.code()) {
            (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) => IcmpErrorKind::TooBig,
            (DESTINATION_UNREACHABLE, _) => IcmpErrorKind::Unreachable,
            (TIME_EXCEEDED, _) => IcmpErrorKind::TimeExceeded,
            (PARAMETER_PROBLEM, _) => IcmpErrorKind::ParameterProblem,
            _ if self.is_error() => IcmpErrorKind::Advice,
            _ => return None,
        })
    }

    /// Whether it says that a network, host, protocol or port is not there: not that someone forbids the way to it.
    pub fn is_absence(&self) -> bool {
        self.kind() == DESTINATION_UNREACHABLE && self.code() <= PORT_UNREACHABLE
    }

    /// RFC 792: the checksum covers the message alone.
    #[inline(always)]
    pub fn is_checksum_right(&self) -> bool {
        sum(self.0.as_ref()) == 0xffff
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmp<T> {
    /// Computes the checksum.
    pub fn fill_checksum(&mut self) {
        let message = self.0.as_mut();
        set_u16(message, field::CHECKSUM, 0);
        let checksum = !sum(message);
        set_u16(message, field::CHECKSUM, checksum);
    }
}

impl<'a> Icmp<&'a [u8]> {
    #[inline(always)]
    pub fn data(&self) -> &'a [u8] {
        &self.0[HEADER_LEN..]
    }

    /// What an error quotes of the packet that it is about, and the extensions behind that (RFC 4884), for
    /// [`Ipv4::new_quoted`](super::ipv4::Ipv4::new_quoted). None of another message.
    pub fn quote(&self) -> Option<Quote<'a>> {
        let words = match self.kind() {
            // RFC 4884 section 4: only these have the length.
            DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {
                self.0[field::QUOTED_WORDS]
            }
            _ => 0,
        };
        let data = self.data();
        self.is_error()
            .then(|| Quote::split(data, usize::from(words) * 4))
    }
}

/// What an ICMP or ICMPv6 error says of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// The packet's beginning, and perhaps padding.
    pub packet: &'a [u8],
    /// Empty if there are none.
    pub extensions: &'a [u8],
}

impl<'a> Quote<'a> {
    /// A length of 0 says that there are no extensions, and one beyond the data nothing.
    pub(super) fn split(data: &'a [u8], length: usize) -> Self {
        let whole = (data, &data[data.len()..]);
        let (packet, extensions) = match length {
            0 => whole,
            length => data.split_at_checked(length).unwrap_or(whole),
        };
        Quote { packet, extensions }
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
    pub fn emit(&self, message: &mut [u8]) -> Option<()> {
        if message.len() < HEADER_LEN {
            return None;
        }
        message[field::KIND] = self.kind;
        message[field::CODE] = self.code;
        set_u32(message, field::REST, self.rest);
        Icmp(message).fill_checksum();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::protocol;
    use crate::wire::checksum::naive;
    use crate::wire::ipv4::{self, Ipv4};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    proptest! {
        #[test]
        fn what_is_emitted_is_read(kind: u8, code: u8, rest: u32, data in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = [&[0x5a; HEADER_LEN][..], &data].concat();
            Repr { kind, code, rest }.emit(&mut bytes).unwrap();
            prop_assert_eq!(naive(&bytes), 0xffff);
            let message = Icmp::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!((message.kind(), message.code(), message.rest()), (kind, code, rest));
            prop_assert_eq!((message.identifier(), message.sequence()), ((rest >> 16) as u16, rest as u16));
            prop_assert_eq!(message.data(), &data[..]);
            prop_assert!(message.is_checksum_right());
            prop_assert_eq!(message.quote().is_some(), [3, 4, 5, 11, 12].contains(&kind));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(message) = Icmp::new_checked(&bytes[..]) {
                let quote = message.quote();
                prop_assert_eq!(quote.is_some(), message.is_error());
                if let Some(quote) = quote {
                    prop_assert_eq!([quote.packet, quote.extensions].concat(), message.data());
                    let _ = Ipv4::new_quoted(quote.packet).map(|ip| (ip.ports(), ip.payload().len()));
                }
                let _ = message.mtu();
            }
        }

        /// An error is understood with as little as the quoted header and 8 bytes (RFC 792), and with extensions.
        #[test]
        fn the_quoted_packet_is_read(
            ports: (u16, u16),
            room in 8usize..200,
            extensions in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let header = ipv4::Repr::new(Ipv4Addr::new(192, 0, 2, 80), Ipv4Addr::new(203, 0, 113, 7), protocol::UDP);
            let mut packet = vec![0; 1000];
            header.emit(&mut packet).unwrap();
            packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
            packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
            packet.truncate((20 + room).next_multiple_of(4));
            let words = if extensions.is_empty() { 0 } else { packet.len() as u32 / 4 };
            let mut bytes = [&[0; HEADER_LEN][..], &packet, &extensions].concat();
            Repr { kind: TIME_EXCEEDED, code: 0, rest: words << 16 }.emit(&mut bytes).unwrap();
            let quote = Icmp::new_checked(&bytes[..]).unwrap().quote().unwrap();
            prop_assert_eq!(quote, Quote { packet: &packet, extensions: &extensions });
            let ip = Ipv4::new_quoted(quote.packet).unwrap();
            prop_assert_eq!((ip.source(), ip.destination()), (header.source, header.destination));
            prop_assert_eq!(ip.ports(), Some(ports));
            prop_assert_eq!(ip.total_length(), 1000);
            prop_assert_eq!(ip.payload(), &packet[20..]);
            prop_assert_eq!(Ipv4::new_checked(quote.packet).err(), Some(Malformed::Truncated));
        }
    }

    #[test]
    fn only_fragmentation_needed_has_an_mtu() {
        let of = |kind, code| {
            let mut bytes = [0; HEADER_LEN];
            Repr {
                kind,
                code,
                rest: 1280,
            }
            .emit(&mut bytes)
            .unwrap();
            Icmp::new_checked(bytes).unwrap().mtu()
        };
        assert_eq!(
            of(DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED),
            Some(1280)
        );
        assert_eq!(of(DESTINATION_UNREACHABLE, PORT_UNREACHABLE), None);
        assert_eq!(of(TIME_EXCEEDED, FRAGMENTATION_NEEDED), None);
    }
}
