//! ARP for IPv4 over Ethernet (RFC 826).

use super::Mac;
use std::net::Ipv4Addr;

pub const REQUEST: u16 = 1;
pub const REPLY: u16 = 2;
/// Bytes of a packet.
pub const LEN: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const PREAMBLE: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    pub operation: u16,
    pub sender_mac: Mac,
    pub sender_ip: Ipv4Addr,
    pub target_mac: Mac,
    pub target_ip: Ipv4Addr,
}

impl Repr {
    /// Reads a packet; whatever follows it is padding. None if it is cut short, not of IPv4 over Ethernet, or neither a
    /// request nor a reply.
    pub fn parse(bytes: &[u8]) -> Option<Repr> {
        let bytes = bytes.first_chunk::<LEN>()?;
        let mac = |at: usize| Mac([0, 1, 2, 3, 4, 5].map(|n| bytes[at + n]));
        let ip = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|n| bytes[at + n]));
        let operation = u16::from_be_bytes([bytes[6], bytes[7]]);
        (bytes[..6] == PREAMBLE && matches!(operation, REQUEST | REPLY)).then(|| Repr {
            operation,
            sender_mac: mac(8),
            sender_ip: ip(14),
            target_mac: mac(18),
            target_ip: ip(24),
        })
    }

    /// Writes the packet. None if it does not fit.
    pub fn emit(&self, bytes: &mut [u8]) -> Option<()> {
        let bytes = bytes.first_chunk_mut::<LEN>()?;
        bytes[..6].copy_from_slice(&PREAMBLE);
        bytes[6..8].copy_from_slice(&self.operation.to_be_bytes());
        bytes[8..14].copy_from_slice(&self.sender_mac.0);
        bytes[14..18].copy_from_slice(&self.sender_ip.octets());
        bytes[18..24].copy_from_slice(&self.target_mac.0);
        bytes[24..28].copy_from_slice(&self.target_ip.octets());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(operation in 1u16..=2, macs: ([u8; 6], [u8; 6]), ips: (u32, u32)) {
            let repr = Repr {
                operation,
                sender_mac: Mac(macs.0),
                sender_ip: ips.0.into(),
                target_mac: Mac(macs.1),
                target_ip: ips.1.into(),
            };
            let mut bytes = [0; LEN + 18];
            repr.emit(&mut bytes).unwrap();
            prop_assert_eq!(Repr::parse(&bytes), Some(repr));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Repr::parse(&bytes);
        }
    }
}
