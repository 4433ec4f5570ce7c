//! IPv4 packets (RFC 791) as received: what answering one, or passing it to the host, needs to know of it.

use super::checksum::{fold, partial, pseudo_header_v4, sum};
use super::ethernet;
use std::net::Ipv4Addr;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
pub const PROTOCOL_VRRP: u8 = 112;

/// An IPv4 packet in its frame, without what follows it there.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    pub packet: &'a [u8],
    pub payload: &'a [u8],
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub is_fragment: bool,
}

impl<'a> Ipv4<'a> {
    /// The packet that follows the Ethernet header. None if its lengths reach beyond the frame.
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(ethernet::HEADER_LEN..)?;
        let header = packet.first_chunk::<HEADER_LEN>()?;
        let packet = packet.get(..usize::from(u16::from_be_bytes([header[2], header[3]])))?;
        Some(Ipv4 {
            packet,
            payload: packet.get(usize::from(header[0] & 0x0f) * 4..)?,
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
            protocol: header[9],
            ttl: header[8],
            // More fragments, or an offset.
            is_fragment: u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0,
        })
    }

    /// Source and destination port of a whole TCP segment or UDP datagram.
    pub fn ports(&self) -> Option<(u16, u16)> {
        if self.is_fragment || !matches!(self.protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
            return None;
        }
        let ports = self.payload.first_chunk::<4>()?;
        Some((
            u16::from_be_bytes([ports[0], ports[1]]),
            u16::from_be_bytes([ports[2], ports[3]]),
        ))
    }

    /// Whether the checksum of a whole TCP segment, UDP datagram or ICMP message is right. Every other protocol is
    /// taken as right.
    pub fn is_l4_checksum_right(&self) -> bool {
        let covered = match self.protocol {
            PROTOCOL_ICMP => return sum(self.payload) == 0xffff,
            PROTOCOL_TCP => self.payload,
            PROTOCOL_UDP => {
                let Some(header) = self.payload.first_chunk::<8>() else {
                    return false;
                };
                // RFC 768: 0 says that the sender computed none.
                if header[6..8] == [0, 0] {
                    return true;
                }
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let Some(datagram) = self.payload.get(..length) else {
                    return false;
                };
                datagram
            }
            _ => return true,
        };
        let length = covered.len() as u16;
        let pseudo = pseudo_header_v4(self.source, self.destination, self.protocol, length);
        fold(pseudo + partial(covered)) == 0xffff
    }
}

/// What the options of a header ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Options {
    /// Nothing that weir minds.
    Usual,
    /// The sender chooses the way: loose or strict source and record route.
    SourceRoute,
    /// An option without its length, or with one that is impossible.
    Malformed,
}

/// Reads the bytes of a header that follow its first 20 (RFC 791 section 3.1).
pub fn options(mut bytes: &[u8]) -> Options {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    let mut found = Options::Usual;
    while let Some((&kind, rest)) = bytes.split_first() {
        match kind {
            END => break,
            NO_OPERATION => bytes = rest,
            _ => {
                let length = rest.first().map_or(0, |&length| usize::from(length));
                let Some(next) = bytes.get(length..).filter(|_| length >= 2) else {
                    return Options::Malformed;
                };
                if matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE) {
                    found = Options::SourceRoute;
                }
                bytes = next;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_are_told_by_the_whole_list() {
        let cases: &[(&[u8], Options)] = &[
            (&[], Options::Usual),
            (&[1, 1, 1, 0], Options::Usual),
            (&[148, 4, 0, 0], Options::Usual),
            (&[7, 7, 4, 0, 0, 0, 0, 0], Options::Usual),
            (&[131, 7, 4, 10, 0, 0, 11, 0], Options::SourceRoute),
            (&[137, 3, 4, 0], Options::SourceRoute),
            (&[1, 148, 4, 0, 0, 131, 3, 4], Options::SourceRoute),
            // What follows the end of the list is padding.
            (&[0, 131, 3, 4], Options::Usual),
            // In an option's data it is no option.
            (&[148, 4, 131, 3], Options::Usual),
            (&[131], Options::Malformed),
            (&[148, 0, 0, 0], Options::Malformed),
            (&[148, 1, 0, 0], Options::Malformed),
            (&[148, 5, 0, 0], Options::Malformed),
            (&[131, 3, 4, 148], Options::Malformed),
            (&[1, 1, 1, 131], Options::Malformed),
        ];
        for (bytes, expected) in cases {
            assert_eq!(options(bytes), *expected, "{bytes:?}");
        }
    }

    /// A frame with a packet of any of the three protocols, its checksum right.
    fn frame(protocol: u8, payload: &[u8], surplus: usize) -> Vec<u8> {
        let header = match protocol {
            PROTOCOL_TCP => 20,
            _ => 8,
        };
        let at = match protocol {
            PROTOCOL_TCP => 16,
            PROTOCOL_UDP => 6,
            _ => 2,
        };
        let mut l4 = vec![7; header];
        l4.extend(payload);
        let length = l4.len() as u16;
        if protocol == PROTOCOL_UDP {
            l4[4..6].copy_from_slice(&length.to_be_bytes());
        }
        l4[at..at + 2].fill(0);
        let (source, destination) = (Ipv4Addr::new(203, 0, 113, 7), Ipv4Addr::new(192, 0, 2, 80));
        let pseudo = match protocol {
            PROTOCOL_ICMP => 0,
            _ => pseudo_header_v4(source, destination, protocol, length),
        };
        let checksum = match !fold(pseudo + partial(&l4)) {
            0 if protocol == PROTOCOL_UDP => 0xffff,
            checksum => checksum,
        };
        l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        // A UDP datagram may be shorter than its packet says (RFC 768 gives it a length of its own).
        if protocol == PROTOCOL_UDP {
            l4.resize(l4.len() + surplus, 0x5a);
        }
        let mut frame = vec![0; ethernet::HEADER_LEN + HEADER_LEN];
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(20 + l4.len() as u16).to_be_bytes());
        frame[22] = 64;
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&source.octets());
        frame[30..34].copy_from_slice(&destination.octets());
        frame.extend(l4);
        frame
    }

    proptest! {
        #[test]
        fn a_changed_bit_makes_a_right_checksum_wrong(
            protocol in prop::sample::select(vec![PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP]),
            payload in prop::collection::vec(any::<u8>(), 0..100),
            surplus in 0usize..4,
            trailer in 0usize..30,
            place: prop::sample::Index,
            bit in 0u8..8,
        ) {
            let mut frame = frame(protocol, &payload, surplus);
            let covered = frame.len() - if protocol == PROTOCOL_UDP { surplus } else { 0 };
            frame.resize(frame.len() + trailer, 0xa5);
            prop_assert!(Ipv4::of(&frame).unwrap().is_l4_checksum_right());
            let place = 34 + place.index(covered - 34);
            frame[place] ^= 1 << bit;
            let is_length = protocol == PROTOCOL_UDP && (38..40).contains(&place);
            let is_none = protocol == PROTOCOL_UDP && frame[40..42] == [0, 0];
            if !is_length {
                prop_assert_eq!(Ipv4::of(&frame).unwrap().is_l4_checksum_right(), is_none);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(ip) = Ipv4::of(&bytes) {
                let _ = (ip.ports(), ip.is_l4_checksum_right());
            }
            let _ = options(&bytes);
        }
    }
}
