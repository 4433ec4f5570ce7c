//! Frames that scapy made, and what it reads in them: tests/wire/vectors.txt, written by tests/wire/vectors.py.

use super::ethernet::Ethernet;
use super::icmp::{self, Icmp};
use super::icmpv6::{self, Icmpv6};
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::ndisc::{self, NdOption};
use super::tcp::Tcp;
use super::udp::Udp;
use super::vlan::Vlan;
use super::{Mac, arp};
use crate::net::{ethertype, protocol};
use std::fmt::Display;

/// Writes an option as scapy does.
fn or_none(value: Option<impl Display>) -> String {
    value.map_or("None".to_owned(), |value| value.to_string())
}

fn read(frame: &[u8]) -> Vec<String> {
    let ethernet = Ethernet::new_checked(frame).unwrap();
    assert_eq!(ethernet.destination(), Mac([2, 0, 0, 0, 0, 1]));
    assert_eq!(ethernet.source(), Mac([2, 0, 0, 0, 2, 0x54]));
    let (mut kind, mut payload) = (ethernet.ethertype(), ethernet.payload());
    let mut said = vec![];
    if kind == ethertype::VLAN {
        let tag = Vlan::new_checked(payload).unwrap();
        let (id, priority) = (tag.id(), tag.priority());
        let drop = u8::from(tag.is_drop_eligible());
        said.push(format!("vlan={id} priority={priority} drop={drop}"));
        (kind, payload) = (tag.ethertype(), tag.payload());
    }
    match kind {
        ethertype::ARP => {
            let arp = arp::Repr::parse(payload).unwrap();
            said.push(format!(
                "arp={} sender={}/{} target={}/{}",
                arp.operation, arp.sender_mac, arp.sender_ip, arp.target_mac, arp.target_ip
            ));
        }
        ethertype::IPV4 => ipv4(payload, &mut said),
        _ => ipv6(payload, &mut said),
    }
    said
}

fn ipv4(bytes: &[u8], said: &mut Vec<String>) {
    let ip = Ipv4::new_checked(bytes).unwrap();
    assert!(ip.is_header_right());
    // Over a source route the checksum is for the last destination; the director drops such packets.
    let is_routed = ip.has_source_route().unwrap();
    assert!(ip.is_fragment() || is_routed || ip.is_l4_checksum_right());
    said.extend([
        format!("ipv4={}>{}", ip.source(), ip.destination()),
        format!("header={} length={}", ip.header_len(), ip.total_length()),
        format!("protocol={} ttl={}", ip.protocol(), ip.ttl()),
        format!("tos={} ident={}", ip.tos(), ip.identification()),
        format!("df={}", u8::from(ip.dont_fragment())),
        format!("mf={}", u8::from(ip.more_fragments())),
        format!("offset={}", ip.fragment_offset()),
        format!("route={}", u8::from(is_routed)),
    ]);
    if ip.is_fragment() {
        said.push(format!("data={}", ip.payload().len()));
        return;
    }
    match ip.protocol() {
        protocol::ICMP => {
            let message = Icmp::new_checked(ip.payload()).unwrap();
            said.push(format!("icmp={}/{}", message.kind(), message.code()));
            if message.kind() == icmp::ECHO_REQUEST {
                let (id, sequence) = (message.identifier(), message.sequence());
                said.push(format!("id={id} sequence={sequence}"));
            }
            if let Some(mtu) = message.mtu() {
                said.push(format!("mtu={mtu}"));
            }
            if let Some(quote) = message.quote() {
                let ip = Ipv4::new_quoted(quote.packet).unwrap();
                let (from, to) = ip.ports().unwrap();
                said.push(format!(
                    "quoted={}>{}:{from}>{to}",
                    ip.source(),
                    ip.destination()
                ));
            }
        }
        protocol => upper_layer(protocol, ip.payload(), said),
    }
}

fn upper_layer(protocol: u8, bytes: &[u8], said: &mut Vec<String>) {
    if protocol == protocol::TCP {
        let tcp = Tcp::new_checked(bytes).unwrap();
        said.extend([
            format!("tcp={}>{}", tcp.source_port(), tcp.destination_port()),
            format!("flags={} seq={}", tcp.flags().0, tcp.sequence()),
            format!("ack={} window={}", tcp.acknowledged(), tcp.window()),
            format!("mss={} data={}", or_none(tcp.mss()), tcp.payload().len()),
        ]);
    } else {
        let udp = Udp::new_checked(bytes).unwrap();
        said.extend([
            format!("udp={}>{}", udp.source_port(), udp.destination_port()),
            format!("length={} data={}", udp.length(), udp.payload().len()),
        ]);
    }
}

fn ipv6(bytes: &[u8], said: &mut Vec<String>) {
    let ip = Ipv6::new_checked(bytes).unwrap();
    let upper = ip.upper_layer().unwrap();
    said.extend([
        format!("ipv6={}>{}", ip.source(), ip.destination()),
        format!("class={} flow={}", ip.traffic_class(), ip.flow_label()),
        format!("hops={} length={}", ip.hop_limit(), ip.payload_length()),
    ]);
    if let Some(fragment) = upper.fragment {
        let (offset, more) = (fragment.offset, u8::from(fragment.more));
        let identification = fragment.identification;
        said.push(format!(
            "fragment={offset} mf={more} ident={identification}"
        ));
    }
    let (protocol, extensions) = (upper.protocol, upper.extensions);
    said.push(format!("protocol={protocol} extensions={extensions}"));
    if upper.is_fragment() {
        said.push(format!("data={}", upper.payload.len()));
        return;
    }
    assert!(ip.is_l4_checksum_right(&upper));
    if protocol != protocol::ICMPV6 {
        return upper_layer(protocol, upper.payload, said);
    }
    if let Ok(message) = ndisc::Repr::parse(&ip) {
        return said.extend(neighbours(&message));
    }
    let message = Icmpv6::new_checked(upper.payload).unwrap();
    said.push(format!("icmpv6={}/{}", message.kind(), message.code()));
    if message.kind() == icmpv6::ECHO_REQUEST {
        let (id, sequence) = (message.identifier(), message.sequence());
        said.push(format!("id={id} sequence={sequence}"));
    }
    if let Some(mtu) = message.mtu() {
        said.push(format!("mtu={mtu}"));
    }
    if let Some(quote) = message.quote() {
        let ip = Ipv6::new_quoted(quote.packet).unwrap();
        let (from, to) = ip.upper_layer().unwrap().ports().unwrap();
        said.push(format!(
            "quoted={}>{}:{from}>{to}",
            ip.source(),
            ip.destination()
        ));
    }
}

fn neighbours(message: &ndisc::Repr) -> Vec<String> {
    match message {
        ndisc::Repr::RouterSolicitation { source_mac } => {
            vec![format!("rs source={}", or_none(*source_mac))]
        }
        ndisc::Repr::RouterAdvertisement {
            hop_limit,
            lifetime,
            reachable,
            retransmit,
            options,
            ..
        } => {
            let mut said = vec![
                format!("ra hops={hop_limit} lifetime={}", lifetime.as_secs()),
                format!("reachable={}", reachable.as_millis()),
                format!("retransmit={}", retransmit.as_millis()),
            ];
            said.extend(options.iter().map(|option| match option {
                NdOption::SourceLinkLayer(mac) => format!("source={mac}"),
                NdOption::TargetLinkLayer(mac) => format!("target={mac}"),
                NdOption::Mtu(mtu) => format!("mtu={mtu}"),
                NdOption::Prefix(prefix) => format!(
                    "prefix={}/{} onlink={} addresses={} valid={} preferred={}",
                    prefix.address,
                    prefix.length,
                    u8::from(prefix.is_on_link),
                    u8::from(prefix.is_for_addresses),
                    prefix.valid,
                    prefix.preferred
                ),
                NdOption::Other(kind) => format!("option={kind}"),
            }));
            said
        }
        ndisc::Repr::NeighbourSolicitation { target, source_mac } => {
            vec![format!(
                "ns target={target} source={}",
                or_none(*source_mac)
            )]
        }
        ndisc::Repr::NeighbourAdvertisement {
            target,
            is_router,
            is_solicited,
            overrides,
            target_mac,
        } => vec![
            format!("na target={target} router={}", u8::from(*is_router)),
            format!("solicited={}", u8::from(*is_solicited)),
            format!("override={}", u8::from(*overrides)),
            format!("mac={}", or_none(*target_mac)),
        ],
        ndisc::Repr::Redirect { target, .. } => vec![format!("redirect={target}")],
    }
}

#[test]
fn the_views_read_what_scapy_reads() {
    let vectors = include_str!("../../tests/wire/vectors.txt");
    assert!(vectors.lines().count() >= 25);
    for line in vectors.lines() {
        let [name, frame, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}");
        };
        let frame: Vec<u8> = (0..frame.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&frame[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(read(&frame).join(" "), expected, "{name}");
        // Cut anywhere, it is read or refused, never with a panic.
        for cut in 0..frame.len() {
            if let Ok(ethernet) = Ethernet::new_checked(&frame[..cut]) {
                let payload = ethernet.payload();
                let _ = Ipv4::new_quoted(payload).map(|ip| (ip.ports(), ip.is_l4_checksum_right()));
                let _ =
                    Ipv6::new_quoted(payload).map(|ip| (ip.upper_layer(), ndisc::Repr::parse(&ip)));
                let _ = arp::Repr::parse(payload);
            }
        }
    }
}
