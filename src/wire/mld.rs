//! Multicast listener discovery for IPv6, version 2 (RFC 3810): which groups a port listens to, for switches that forward a
//! group's frames only where a host does.

use super::field::{Field, u16_of};
use super::ipv6::{self, Ipv6};
use super::ndisc::group_mac;
use super::{Mac, ethernet, icmpv6};
use crate::net::{ethertype, protocol};
use std::net::Ipv6Addr;
use std::time::Duration;

const ETH: usize = ethernet::HEADER_LEN;
const IPV6_LEN: usize = ipv6::HEADER_LEN;

/// RFC 3810 section 5.1.
pub const QUERY: u8 = 130;
/// The length of a query of version 1 (RFC 2710 section 3).
const QUERY_V1_LEN: usize = 24;
/// Of a query: for how long the answers may come, in milliseconds.
const MAXIMUM_RESPONSE_CODE: Field = 4..6;
/// RFC 3810 section 5.2.
const REPORT: u8 = 143;
/// Every router that speaks version 2 listens to it (RFC 3810 section 5.2.14).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// The option "router alert" for MLD (RFC 2711 section 2.1), and two bytes of padding, behind the header's first two bytes.
const ROUTER_ALERT: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Type, no auxiliary data, no sources, and the group (RFC 3810 section 5.2.4).
const RECORD_LEN: usize = 20;

/// The most groups that one report tells of here.
pub const GROUPS: usize = 8;
/// The longest frame of a report.
pub const MAX_LEN: usize =
    ETH + IPV6_LEN + ROUTER_ALERT.len() + icmpv6::HEADER_LEN + GROUPS * RECORD_LEN;

/// What is told of a group (RFC 3810 section 5.2.12): the port listens to all of its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It still does: to a query.
    IsExclude = 2,
    /// It does from now on.
    ToExclude = 4,
}

/// The report that a port listens to these groups, at most [`GROUPS`]. `source`: the port's link-local address, or the
/// unspecified one while it has none (RFC 3810 section 5.2.13).
pub fn report(
    frame: &mut [u8],
    mac: Mac,
    source: Ipv6Addr,
    record: Record,
    groups: &[Ipv6Addr],
) -> Option<usize> {
    let length = icmpv6::HEADER_LEN + groups.len() * RECORD_LEN;
    let start = ETH + IPV6_LEN + ROUTER_ALERT.len();
    let frame = frame.get_mut(..start + length)?;
    ethernet::emit(frame, group_mac(ALL_ROUTERS), mac, ethertype::IPV6)?;
    let ip = ipv6::Repr {
        hop_limit: 1,
        ..ipv6::Repr::new(source, ALL_ROUTERS, protocol::HOP_BY_HOP)
    };
    ip.emit(&mut frame[ETH..])?;
    frame[ETH + IPV6_LEN..start].copy_from_slice(&ROUTER_ALERT);
    let message = &mut frame[start..];
    let (_, records) = message.split_at_mut(icmpv6::HEADER_LEN);
    for (bytes, group) in records.chunks_exact_mut(RECORD_LEN).zip(groups) {
        bytes[..4].copy_from_slice(&[record as u8, 0, 0, 0]);
        bytes[4..].copy_from_slice(&group.octets());
    }
    let header = icmpv6::Repr {
        kind: REPORT,
        code: 0,
        rest: groups.len() as u32,
    };
    let upper = ipv6::Repr {
        next_header: protocol::ICMPV6,
        ..ip
    };
    header.emit(message, upper.pseudo_header(length as u32))?;
    Some(start + length)
}

/// How long the router that sent a packet waits for answers, if the packet asks which groups are listened to: all of them, or
/// one. Checked as RFC 3810 section 5.1.14 has it.
pub fn query(ip: &Ipv6<&[u8]>) -> Option<Duration> {
    let upper = ip.upper_layer().ok()?;
    let is_query = ip.hop_limit() == 1
        && ip.source().is_unicast_link_local()
        && ip.next_header() == protocol::HOP_BY_HOP
        && upper.protocol == protocol::ICMPV6
        && upper.payload.first() == Some(&QUERY)
        && upper.payload.len() >= QUERY_V1_LEN
        && ip.is_l4_checksum_right(&upper);
    is_query.then(|| longest_wait(upper.payload))
}

/// The Maximum Response Delay of a query's bytes: in version 1, which is told by its length (RFC 3810 section 8.1), the
/// code itself; in version 2 from 32,768 on a mantissa and an exponent (section 5.1.3).
fn longest_wait(query: &[u8]) -> Duration {
    let code = u16_of(query, MAXIMUM_RESPONSE_CODE);
    let millis = match (query.len(), code) {
        (QUERY_V1_LEN, _) | (_, ..0x8000) => code.into(),
        _ => u64::from(code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
    };
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::super::field::set_u16;
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_report_has_a_record_for_each_group() {
        let groups: [Ipv6Addr; 2] = [
            "ff02::1:ff00:1".parse().unwrap(),
            "ff02::1:ff12:3456".parse().unwrap(),
        ];
        let source = MAC.link_local();
        let mut frame = [0xa5; MAX_LEN];
        let length = report(&mut frame, MAC, source, Record::ToExclude, &groups).unwrap();
        let frame = &frame[..length];
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 0x16]);
        let ip = ipv6::in_frame(frame).unwrap();
        assert_eq!(
            (ip.source(), ip.destination(), ip.hop_limit()),
            (source, ALL_ROUTERS, 1)
        );
        let upper = ip.upper_layer().unwrap();
        assert_eq!((upper.protocol, upper.extensions), (protocol::ICMPV6, 8));
        assert!(ip.is_l4_checksum_right(&upper));
        let message = upper.payload;
        assert_eq!(message[..2], [143, 0]);
        assert_eq!((u16_of(message, 4..6), u16_of(message, 6..8)), (0, 2));
        for (record, group) in message[8..].chunks_exact(20).zip(groups) {
            assert_eq!(record[..4], [4, 0, 0, 0]);
            assert_eq!(record[4..], group.octets());
        }
        for room in 0..length {
            let mut frame = [0; MAX_LEN];
            let frame = &mut frame[..room];
            assert_eq!(report(frame, MAC, source, Record::IsExclude, &groups), None);
        }
    }

    /// A query, and what a test changes of it.
    fn asked(source: Ipv6Addr, hop_limit: u8, kind: u8, (code, length): (u16, usize)) -> Vec<u8> {
        let destination = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let header = ipv6::Repr {
            hop_limit,
            ..ipv6::Repr::new(source, destination, protocol::HOP_BY_HOP)
        };
        let mut packet = vec![0; IPV6_LEN + 8 + length];
        header.emit(&mut packet).unwrap();
        packet[IPV6_LEN..IPV6_LEN + 8].copy_from_slice(&ROUTER_ALERT);
        let upper = ipv6::Repr {
            next_header: protocol::ICMPV6,
            ..header
        };
        let message = icmpv6::Repr {
            kind,
            code: 0,
            rest: u32::from(code) << 16,
        };
        let message_at = &mut packet[IPV6_LEN + 8..];
        message
            .emit(message_at, upper.pseudo_header(length as u32))
            .unwrap();
        packet
    }

    #[test]
    fn a_query_comes_from_the_link_by_a_hop() {
        let router: Ipv6Addr = "fe80::1".parse().unwrap();
        let beyond: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let reads = |packet: &[u8]| query(&Ipv6::new_checked(packet).unwrap());
        let usual = (0, 28);
        assert_eq!(reads(&asked(router, 1, QUERY, usual)), Some(Duration::ZERO));
        assert_eq!(reads(&asked(router, 2, QUERY, usual)), None);
        assert_eq!(reads(&asked(beyond, 1, QUERY, usual)), None);
        assert_eq!(reads(&asked(router, 1, REPORT, usual)), None);
        assert_eq!(reads(&asked(router, 1, QUERY, (0, 20))), None, "cut short");
        let mut packet = asked(router, 1, QUERY, usual);
        set_u16(&mut packet, 50..52, 0x1234);
        assert_eq!(reads(&packet), None, "the checksum");
        for (code, length, millis) in [
            (10_000, 28, 10_000),
            (10_000, 24, 10_000),
            (0x7fff, 28, 32_767),
            (0x8000, 28, 32_768),
            (0xffff, 28, 8_387_584),
            // Version 1 has no exponent.
            (0xffff, 24, 65_535),
        ] {
            let packet = asked(router, 1, QUERY, (code, length));
            let expected = Duration::from_millis(millis);
            assert_eq!(reads(&packet), Some(expected), "{code:#x}, {length} bytes");
        }
    }
}
