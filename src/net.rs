//! What every room knows of the network: MAC addresses, and the numbers that headers name each other by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a QUIC connection id says of the server that made it (draft-ietf-quic-load-balancers section 5.1): 1 to 15 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    bytes: [u8; ServerId::LONGEST],
    length: u8,
}

impl ServerId {
    pub const LONGEST: usize = 15;

    /// None if there are too many bytes, or none.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = ServerId {
            bytes: [0; Self::LONGEST],
            length: bytes.len() as u8,
        };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        (!bytes.is_empty()).then_some(id)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.as_bytes().iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether it is a group address: multicast or broadcast.
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Returns the link-local address of the interface that has it: a modified EUI-64 (RFC 4291 appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(interface))
    }

    /// Whether a station can have it: neither a group address nor zero.
    pub fn is_station(&self) -> bool {
        !self.is_multicast() && *self != Mac::default()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The VLAN of a port: the identifiers in the tags of its frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vlan {
    #[default]
    Untagged,
    /// One tag of 802.1Q.
    Tagged(u16),
    /// Two tags: one of 802.1ad (QinQ), and one of 802.1Q inside.
    Stacked { outer: u16, inner: u16 },
}

impl Vlan {
    /// The highest identifier; 4095 is reserved (IEEE 802.1Q table 9-2).
    pub const MAX_ID: u16 = 4094;

    /// Returns how many tags a frame has.
    pub fn tags(self) -> usize {
        match self {
            Vlan::Untagged => 0,
            Vlan::Tagged(_) => 1,
            Vlan::Stacked { .. } => 2,
        }
    }

    /// Returns the identifier of the outer tag, or of the only one.
    pub fn outer(self) -> Option<u16> {
        match self {
            Vlan::Untagged => None,
            Vlan::Tagged(id) => Some(id),
            Vlan::Stacked { outer, .. } => Some(outer),
        }
    }
}

/// As the configuration file has it.
impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Vlan::Untagged => f.write_str("0"),
            Vlan::Tagged(id) => write!(f, "{id}"),
            Vlan::Stacked { outer, inner } => write!(f, "{outer}.{inner}"),
        }
    }
}

/// The priorities (PCP, 0 to 7) of a frame's VLAN tags, 0 where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagPriorities {
    pub outer: u8,
    pub inner: u8,
}

/// EtherTypes (IEEE 802 Numbers, IANA).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    /// The customer tag of 802.1Q.
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    /// The service tag of 802.1ad, outside of a customer tag.
    pub const QINQ: u16 = 0x88a8;
}

/// What follows an IP header: IPv4's protocol and IPv6's next header (Assigned Internet Protocol Numbers, IANA).
pub mod protocol {
    /// RFC 8200 section 4.3.
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    /// An IPv4 packet (RFC 2003).
    pub const IPIP: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    /// An IPv6 packet (RFC 4213, RFC 2473).
    pub const IPV6: u8 = 41;
    /// RFC 8200 section 4.4.
    pub const ROUTING: u8 = 43;
    /// RFC 8200 section 4.5.
    pub const FRAGMENT: u8 = 44;
    /// RFC 2784.
    pub const GRE: u8 = 47;
    pub const ICMPV6: u8 = 58;
    /// RFC 8200 section 4.6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const VRRP: u8 = 112;
    /// RFC 9260.
    pub const SCTP: u8 = 132;
}

/// A value for each address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByFamily<T> {
    pub v4: T,
    pub v6: T,
}

impl<T> ByFamily<T> {
    /// Returns the value of an address's family.
    #[inline]
    pub fn of(&self, address: IpAddr) -> &T {
        match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        }
    }

    #[inline]
    pub fn of_mut(&mut self, address: IpAddr) -> &mut T {
        match address {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }
}

/// Returns an address that the configuration holds to be IPv4, as the service is that it belongs to; the unspecified
/// address in the place of another family's.
#[inline(always)]
pub fn ipv4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// Returns whether an address is one of IPv6 that only its link knows (RFC 4291 section 2.5.6).
#[inline]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The least MTU that a link has for IPv6 (RFC 8200 section 5).
pub const LEAST_MTU_V6: u32 = 1280;

/// Returns what a family of addresses is called.
pub fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Returns an IPv4 address with only the first `prefix` bits left.
#[inline]
pub fn masked(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = (u32::MAX).checked_shl(32 - u32::from(prefix.min(32)));
    Ipv4Addr::from_bits(address.to_bits() & mask.unwrap_or(0))
}

/// What an ICMP or ICMPv6 error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrorKind {
    Unreachable,
    /// "Packet too big", or "fragmentation needed".
    TooBig,
    TimeExceeded,
    ParameterProblem,
    /// Of a type that is not known (RFC 4443 section 2.1).
    Other,
    /// No fault: a source quench, which hosts ignore (RFC 6633), or a redirect, which is for hosts alone.
    Advice,
}

impl IcmpErrorKind {
    pub const ALL: [IcmpErrorKind; 6] = [
        IcmpErrorKind::Unreachable,
        IcmpErrorKind::TooBig,
        IcmpErrorKind::TimeExceeded,
        IcmpErrorKind::ParameterProblem,
        IcmpErrorKind::Other,
        IcmpErrorKind::Advice,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            IcmpErrorKind::Unreachable => "unreachable",
            IcmpErrorKind::TooBig => "too_big",
            IcmpErrorKind::TimeExceeded => "time_exceeded",
            IcmpErrorKind::ParameterProblem => "parameter_problem",
            IcmpErrorKind::Other => "other",
            IcmpErrorKind::Advice => "advice",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_keeps_the_first_bits_of_an_address() {
        let address = Ipv4Addr::new(203, 0, 113, 255);
        for (prefix, kept) in [
            (0, [0, 0, 0, 0]),
            (1, [128, 0, 0, 0]),
            (24, [203, 0, 113, 0]),
            (31, [203, 0, 113, 254]),
            (32, [203, 0, 113, 255]),
        ] {
            assert_eq!(masked(address, prefix), Ipv4Addr::from(kept), "/{prefix}");
        }
    }

    #[test]
    fn an_interface_has_the_link_local_address_that_its_mac_address_makes() {
        // RFC 2464 section 4.
        let mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    #[test]
    fn stations_have_neither_group_addresses_nor_zero() {
        for (mac, expected) in [
            (Mac([2, 0, 0, 0, 0, 1]), true),
            (Mac::default(), false),
            (Mac::BROADCAST, false),
            (Mac([1, 0, 0x5e, 0, 0, 5]), false),
            (Mac([0, 0, 0, 0, 0, 1]), true),
        ] {
            assert_eq!(mac.is_station(), expected, "{mac}");
        }
        assert_eq!(Mac([2, 0, 0xab, 0, 0, 1]).to_string(), "02:00:ab:00:00:01");
    }
}
