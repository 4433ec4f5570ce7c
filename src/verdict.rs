//! What becomes of a packet: the closed list of verdicts, and of the reasons behind each drop.
//!
//! A drop reason is one line here. The counter label, the `--explain` reason, the documentation
//! (`docs/drop-reasons.md`) and the tests all read this list.

use crate::units::{PortId, RealId, ServiceId, WorkerId};

macro_rules! drop_reasons {
    ($($variant:ident, $name:literal, $doc:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $doc] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that counters, `--explain` and the documentation use.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// One sentence for an operator.
            pub const fn description(self) -> &'static str {
                match self { $(DropReason::$variant => $doc,)* }
            }
        }
    };
}

drop_reasons! {
    Truncated, "truncated", "The frame ends before its headers do, or before the length that its IP header gives.";
    OtherHost, "other_host", "The destination MAC address is another host's (a switch flooded the frame).";
    UnknownEthertype, "unknown_ethertype", "Neither IPv4, IPv6, ARP nor VLAN (LLDP, spanning tree, …).";
    OtherVlan, "other_vlan", "The frame's VLAN tags (802.1Q, 802.1ad) are those of no port on its device, or it has none and no port there is untagged; a tag of VLAN 0 is none.";
    BadSourceMac, "bad_source_mac", "The source MAC address is a group address, zero or that of one of weir's ports: never answered, never a connection.";
    Ipv6, "ipv6", "An IPv6 packet, and the configuration has no IPv6 address.";
    BadIpHeader, "bad_ip_header", "The IP version, header length or total length is impossible, the IP options contradict their lengths, or a fragment has no data, or as one that is not the last no multiple of 8 bytes.";
    SourceRoute, "source_route", "The packet has the IPv4 option loose or strict source route, by which its sender chooses its way.";
    RoutingHeader, "routing_header", "The packet has an IPv6 routing header with segments left, by which its sender chooses its way.";
    Ipv6Extension, "ipv6_extension", "There are more than 8 IPv6 extension headers or more than 256 bytes of them, one is cut short, out of place or contradicts its own length, or, to a VIP or a local pool address, is of a kind that weir does not read (authentication, mobility, HIP, Shim6, experiments).";
    Jumbogram, "jumbogram", "An IPv6 jumbogram, longer than 65,535 bytes: no link here takes it.";
    BadIpChecksum, "bad_ip_checksum", "The IPv4 header checksum is wrong.";
    BadSource, "bad_source", "A source address that no host can have: multicast, the broadcast address of any port's subnet, loopback, zero, or one of weir's own.";
    Fragment, "fragment", "A fragment of a packet of another protocol than TCP and UDP, and SCTP where a service has that, to a VIP or a local pool address, that is no echo request's; or of neighbour discovery.";
    FragmentTiny, "fragment_tiny", "The first fragment of a TCP segment or UDP datagram that lacks a part of the header, or one at offset 8 of a TCP segment, which would overwrite it (RFC 1858, RFC 3128); and the others of that datagram.";
    FragmentTooLong, "fragment_too_long", "A fragment that reaches beyond the 65,535 bytes that a packet may have; and the others of that datagram.";
    FragmentOverlap, "fragment_overlap", "A fragment that overlaps others of its datagram, other than as an exact duplicate, or contradicts its end; and all of that datagram that come later (RFC 5722).";
    FragmentTimeout, "fragment_timeout", "A fragment that waited for the first one of its datagram, which did not come within `fragment_timeout`.";
    FragmentsFull, "fragments_full", "A fragment without the first one of its datagram, and as many as `[limits]` allows were waiting already; or one that waited and gave way to those of a sender with less.";
    BadL4Header, "bad_l4_header", "The TCP, UDP, SCTP or ICMP header is cut short or its lengths contradict each other; or an SCTP INIT that no host takes: with a verification tag, without an initiate tag, or not alone.";
    NoUdpChecksum, "no_udp_checksum", "A UDP datagram over IPv6 without a checksum, which it must have there (RFC 8200 section 8.1); or fragments of one over IPv4 that are to go on as IPv6 (RFC 7915 section 4.5).";
    BadL4Checksum, "bad_l4_checksum", "An answer (RST, ABORT, ICMP) was due, but the packet's own TCP, UDP, SCTP or ICMP checksum is wrong; or an ICMP error with a wrong one.";
    IcmpIgnored, "icmp_ignored", "An ICMP source quench or redirect, which no one but a host heeds, or an error that has none like it in the other family (RFC 7915).";
    IcmpBadQuote, "icmp_bad_quote", "An ICMP error that does not quote the first 8 bytes of a TCP, UDP or SCTP packet: cut short, malformed, about a later fragment or about another protocol, another error among them.";
    IcmpMismatch, "icmp_mismatch", "An ICMP error to another host than the one that sent the packet it quotes.";
    IcmpNoConnection, "icmp_no_connection", "An ICMP error that quotes a packet of no connection.";
    IcmpSequence, "icmp_sequence", "An ICMP error that quotes a TCP sequence number that its connection is nowhere near, or another verification tag of SCTP: most probably forged (RFC 5927).";
    TtlExceeded, "ttl_exceeded", "The TTL or hop limit ran out, of an ICMP error or of a fragment other than the first one of its datagram: never answered.";
    TunnelTooBig, "tunnel_too_big", "An ICMP \"too big\" about a packet that weir had wrapped: the way's MTU is kept, and the client hears of it at its next packet that is too big, for not enough of this one is quoted, or it need not send less.";
    TunnelError, "tunnel_error", "Another ICMP error about a packet that weir had wrapped, from the way to the real server.";
    IcmpUnsupported, "icmp_unsupported", "An ICMP message to a VIP or a local pool address other than an echo request.";
    UnsupportedProtocol, "unsupported_protocol", "To a VIP or a local pool address, but neither TCP, UDP nor ICMP, nor SCTP where a service has that.";
    NotForUs, "not_for_us", "The destination is no VIP, no address of a port or pool, and no connection's.";
    NoConnection, "no_connection", "Belongs to no connection: a TCP segment where `unknown_tcp = \"drop\"` or answers are turned off, a reset, an SCTP packet likewise or to a service of dr, tunnel or l3dsr, or a UDP datagram to a local pool address; an echo reply in fragments that no connection outwards has asked for; a fragment, other than the first one of its datagram, to a service.";
    NoService, "no_service", "To a VIP, but to none of its services, and answers are turned off.";
    NoRealServer, "no_real_server", "The service has no real server with a weight above 0 whose next hop answers, and `when_unavailable = \"drop\"` or answers are turned off.";
    RateLimited, "rate_limited", "An answer (RST, ABORT, ICMP, ARP, neighbour advertisement) was due, but the port's limit for answers of this kind was reached, and the sender's and the service's share of it used up. The limit is asked before other checks: such a packet may have a wrong checksum as well, or a source of weir's own.";
    NoRoute, "no_route", "No route leads to the real server or the client.";
    NeighbourFailed, "neighbour_failed", "The next hop answered neither ARP nor neighbour solicitations.";
    NeighbourQueueFull, "neighbour_queue_full", "Too many packets already wait for this next hop's MAC address.";
    Denied, "denied", "A client that `deny` of the service names began a connection, or sent a packet of none.";
    NotAllowed, "not_allowed", "The service has `allow`, and a client that it does not name began a connection, or sent a packet of none.";
    LimitConnections, "limit_connections", "The service has as many connections as its `limits` take, and none of those that it made last is half-open.";
    LimitNew, "limit_new", "More new connections in a second than `limits` of the service take.";
    LimitClientConnections, "limit_client_connections", "The client has as many connections of the service as its `limits` take of one.";
    LimitClientNew, "limit_client_new", "More new connections of the client in a second than `limits` of the service take of one.";
    LocalPortsExhausted, "local_ports_exhausted", "Towards every real server, or towards the remote address and port of a connection outwards, each local address and port of the pool is in use by a connection that is not given up for another.";
    LocalPortsUnfair, "local_ports_unfair", "Of the local addresses and ports of the pool four fifths are in use, towards the real server or, of `[[snat]]`, the remote address and port, and the client or inside host holds more than its share of them.";
    AmbiguousReply, "ambiguous_reply", "In nat mode, the same client port already talks to the same real server and port through another service, so that replies could not be told apart, and there is no other real server.";
    Hairpin, "hairpin", "In dr, the client is the real server that was chosen for it: the packet would go from a host to itself.";
    ConnectionTableFull, "connection_table_full", "No room for another connection, and none near at hand that can be given up for it: over, half-open, unproven, or UDP.";
    SynFlood, "syn_flood", "A SYN flood takes connections away sooner than a handshake takes: a SYN opens a connection when the client repeats it.";
    WrongPort, "wrong_port", "A real server's packet on a port that does not lead to the real server, with `reverse_path = \"strict\"`.";
    SctpFragment, "sctp_fragment", "A fragment of an SCTP packet that nat or fullnat would give other ports, or of an INIT or INIT ACK there: its checksum covers the whole packet.";
    ClientAddress, "client_address", "It was to tell the real server the client's address, by `client_address`, and cannot: a fragment in which the connection's data begin, or there is no buffer for the header.";
    TooBig, "too_big", "Larger than the out port's MTU, not to be fragmented, and a fragment other than the first one of its datagram: never answered.";
    ArpIgnored, "arp_ignored", "An ARP request for an address that is not weir's, or that the port does not answer for.";
    BadArp, "bad_arp", "An ARP packet that is not Ethernet/IPv4, that claims one of weir's own addresses, or whose sender's MAC address is zero, a group's or weir's own.";
    NdIgnored, "nd_ignored", "A neighbour solicitation for an address that is not weir's, or that the port does not answer for, or that another host may have; a router's message or a redirect.";
    BadNd, "bad_nd", "A message of IPv6 neighbour discovery with another hop limit than 255, a wrong checksum, code, length, option or address, or in a fragment; one that claims one of weir's own addresses, or whose sender's MAC address is zero, a group's or weir's own.";
    HostRateLimited, "host_rate_limited", "For the host itself, but more than `host_packets_per_second` came by the port, and the sender's share of them was used up.";
    HostQueueFull, "host_queue_full", "For the host itself, which takes packets more slowly than they come.";
    NoBuffer, "no_buffer", "The packet's mbuf had no room for an answer.";
    NoHeadroom, "no_headroom", "The packet's mbuf had no room at its front for a VLAN tag, a longer header or the headers of a tunnel.";
    RedirectFull, "redirect_full", "The packet belongs to a connection of another worker, and the ring to that worker was full.";
    TxFull, "tx_full", "The device's transmit queue was full.";
}

/// Why a packet was answered by weir itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyReason {
    Arp,
    /// A neighbour solicitation.
    Nd,
    IcmpEcho,
    TtlExceeded,
    NoService,
    NoRealServer,
    RealRemoved,
    /// The connection's real server is down or disabled.
    RealDown,
    TooBig,
    /// A TCP segment of no connection.
    NoConnection,
    /// The next hop does not answer.
    HostUnreachable,
    /// No route leads to the destination of a packet between hosts.
    NoRoute,
}

impl ReplyReason {
    pub const ALL: &'static [ReplyReason] = &[
        ReplyReason::Arp,
        ReplyReason::Nd,
        ReplyReason::IcmpEcho,
        ReplyReason::TtlExceeded,
        ReplyReason::NoService,
        ReplyReason::NoRealServer,
        ReplyReason::RealRemoved,
        ReplyReason::RealDown,
        ReplyReason::TooBig,
        ReplyReason::NoConnection,
        ReplyReason::HostUnreachable,
        ReplyReason::NoRoute,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ReplyReason::Arp => "arp",
            ReplyReason::Nd => "nd",
            ReplyReason::IcmpEcho => "icmp_echo",
            ReplyReason::TtlExceeded => "ttl_exceeded",
            ReplyReason::NoService => "no_service",
            ReplyReason::NoRealServer => "no_real_server",
            ReplyReason::RealRemoved => "real_removed",
            ReplyReason::RealDown => "real_down",
            ReplyReason::TooBig => "too_big",
            ReplyReason::NoConnection => "no_connection",
            ReplyReason::HostUnreachable => "host_unreachable",
            ReplyReason::NoRoute => "no_route",
        }
    }
}

/// Why a packet was given to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalReason {
    /// To an address of a port, and nothing that weir answers itself.
    ToPortAddress,
    /// An ARP packet that told weir of a neighbour.
    Arp,
    /// The same of IPv6 neighbour discovery.
    Nd,
    /// To a link-local multicast group (OSPF, VRRP).
    Multicast,
}

impl LocalReason {
    pub const fn name(self) -> &'static str {
        match self {
            LocalReason::ToPortAddress => "to_port_address",
            LocalReason::Arp => "arp",
            LocalReason::Nd => "nd",
            LocalReason::Multicast => "multicast",
        }
    }
}

/// What becomes of one received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten and sent on.
    Forward(PortId),
    /// Answered by weir itself out of this port.
    Reply(PortId, ReplyReason),
    /// Rewritten; waits for its next hop's MAC address on this port. Sent or dropped later.
    Queue(PortId),
    /// A fragment that waits for the first one of its datagram. Sent or dropped later.
    Await,
    /// For the host.
    Local(LocalReason),
    /// Another worker decides: never the last word on a packet.
    HandOver(WorkerId),
    Drop(DropReason),
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Forward(_) => "forward",
            Verdict::Reply(..) => "reply",
            Verdict::Queue(_) | Verdict::Await => "queue",
            Verdict::Local(_) => "local",
            Verdict::HandOver(_) => "hand_over",
            Verdict::Drop(_) => "drop",
        }
    }
}

impl Verdict {
    /// Why, in the words of `--explain`: a name of the closed lists, or what a packet that was sent on belongs to.
    pub const fn reason(self, context: &PacketContext) -> &'static str {
        match self {
            Verdict::Forward(_) if context.new_connection => "new connection",
            Verdict::Forward(_) if context.real.is_none() => "routed",
            Verdict::Forward(_) => "known connection",
            Verdict::Reply(_, reason) => reason.name(),
            Verdict::Queue(_) => "neighbour_unresolved",
            Verdict::Await => "first_fragment_missing",
            Verdict::Local(reason) => reason.name(),
            Verdict::HandOver(_) => "hand_over",
            Verdict::Drop(reason) => reason.name(),
        }
    }

    /// The port that it leaves by, or is to.
    pub const fn out_port(self) -> Option<PortId> {
        match self {
            Verdict::Forward(port) | Verdict::Reply(port, _) | Verdict::Queue(port) => Some(port),
            Verdict::Await | Verdict::Local(_) | Verdict::HandOver(_) | Verdict::Drop(_) => None,
        }
    }
}

/// What the director knew when it decided: for `--explain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketContext {
    pub service: Option<ServiceId>,
    pub real: Option<RealId>,
    /// The packet made its connection, or would have, had there been room for it.
    pub new_connection: bool,
    /// The connection's state after the packet, by IPVS's name in lower case.
    pub state: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_reasons_are_numbered_and_named_once() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }

    #[test]
    fn every_drop_reason_is_documented_in_its_own_words() {
        let docs = include_str!("../docs/drop-reasons.md");
        for reason in DropReason::ALL {
            let row = format!("| `{}` | {} |", reason.name(), reason.description());
            assert!(docs.contains(&row), "docs/drop-reasons.md lacks: {row}");
        }
        let rows = docs.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, DropReason::COUNT);
    }
}
