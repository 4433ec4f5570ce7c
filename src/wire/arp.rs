//! ARP for IPv4 over Ethernet (RFC 826).

use super::field::{array, set_u16, u16_of};
use super::{Mac, Malformed};
use std::net::Ipv4Addr;

pub const REQUEST: u16 = 1;
pub const REPLY: u16 = 2;
/// Bytes of a packet.
pub const LEN: usize = field::TARGET_IP.end;

mod field {
    use crate::wire::field::Field;

    /// Hardware type, protocol type, and the lengths of their addresses.
    pub(super) const FORMAT: Field = 0..6;
    pub(super) const OPERATION: Field = 6..8;
    pub(super) const SENDER_MAC: Field = 8..14;
    pub(super) const SENDER_IP: Field = 14..18;
    pub(super) const TARGET_MAC: Field = 18..24;
    pub(super) const TARGET_IP: Field = 24..28;
}

/// Ethernet (1), IPv4 (0x0800), and their lengths: 6 and 4.
const FORMAT: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// A packet; whatever follows it is padding.
#[derive(Clone, Copy, Debug)]
pub struct Arp<T>(T);

impl<T: AsRef<[u8]>> Arp<T> {
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::AddressFormat`], or [`Malformed::Operation`].
    pub fn new_checked(bytes: T) -> Result<Self, Malformed> {
        let arp = Arp(bytes);
        let bytes = arp.0.as_ref();
        if bytes.len() < LEN {
            return Err(Malformed::Truncated);
        }
        // RFC 826, packet reception: the hardware type, the protocol, and optionally both lengths.
        if bytes[field::FORMAT] != FORMAT {
            return Err(Malformed::AddressFormat);
        }
        match arp.operation() {
            REQUEST | REPLY => Ok(arp),
            _ => Err(Malformed::Operation),
        }
    }

    pub fn operation(&self) -> u16 {
        u16_of(self.0.as_ref(), field::OPERATION)
    }

    pub fn sender_mac(&self) -> Mac {
        Mac(array(self.0.as_ref(), field::SENDER_MAC))
    }

    pub fn sender_ip(&self) -> Ipv4Addr {
        array(self.0.as_ref(), field::SENDER_IP).into()
    }

    pub fn target_mac(&self) -> Mac {
        Mac(array(self.0.as_ref(), field::TARGET_MAC))
    }

    pub fn target_ip(&self) -> Ipv4Addr {
        array(self.0.as_ref(), field::TARGET_IP).into()
    }
}

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
    /// Reads a packet.
    ///
    /// # Errors
    /// Those of [`Arp::new_checked`].
    pub fn parse(bytes: &[u8]) -> Result<Repr, Malformed> {
        let arp = Arp::new_checked(bytes)?;
        Ok(Repr {
            operation: arp.operation(),
            sender_mac: arp.sender_mac(),
            sender_ip: arp.sender_ip(),
            target_mac: arp.target_mac(),
            target_ip: arp.target_ip(),
        })
    }

    /// Writes the packet. None if it does not fit.
    pub fn emit(&self, bytes: &mut [u8]) -> Option<()> {
        let bytes = bytes.first_chunk_mut::<LEN>()?;
        bytes[field::FORMAT].copy_from_slice(&FORMAT);
        set_u16(bytes, field::OPERATION, self.operation);
        bytes[field::SENDER_MAC].copy_from_slice(&self.sender_mac.0);
        bytes[field::SENDER_IP].copy_from_slice(&self.sender_ip.octets());
        bytes[field::TARGET_MAC].copy_from_slice(&self.target_mac.0);
        bytes[field::TARGET_IP].copy_from_slice(&self.target_ip.octets());
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
            prop_assert_eq!(Repr::parse(&bytes), Ok(repr));
            for cut in 0..LEN {
                prop_assert_eq!(Repr::parse(&bytes[..cut]), Err(Malformed::Truncated));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64), usual: bool) {
            if usual && bytes.len() > FORMAT.len() {
                bytes[field::FORMAT].copy_from_slice(&FORMAT);
            }
            let _ = Repr::parse(&bytes);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let of = |changes: &[(usize, u8)]| {
            let mut bytes = [&FORMAT[..], &[0, 1], &[7; 20]].concat();
            changes.iter().for_each(|&(at, value)| bytes[at] = value);
            Arp::new_checked(bytes).err()
        };
        assert_eq!(of(&[]), None);
        for (place, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16)] {
            assert_eq!(
                of(&[(place, value)]),
                Some(Malformed::AddressFormat),
                "{place}"
            );
        }
        for operation in [0, 3, 8] {
            assert_eq!(
                of(&[(7, operation)]),
                Some(Malformed::Operation),
                "{operation}"
            );
        }
    }
}
