//! What to do about a verdict: one sentence for each reason, beside what the reason means.

use crate::units::PortId;
use crate::verdict::{DropReason, LocalReason, PacketContext, ReplyReason, Verdict};

/// A verdict in words.
pub(crate) struct Words {
    /// `forward by lan: known connection, now in state established`
    pub says: String,
    pub meaning: Option<&'static str>,
    pub advice: Option<&'static str>,
}

/// What became of a packet, what that means, and what an operator does about it. `name`: a port's.
pub(crate) fn words<'a>(
    verdict: Verdict,
    context: &PacketContext,
    name: impl Fn(PortId) -> &'a str,
) -> Words {
    let why = verdict.reason(context);
    let (says, meaning, advice) = match verdict {
        Verdict::Forward(port) => {
            let state = context
                .state
                .map_or(String::new(), |state| format!(", now in state {state}"));
            let says = format!("forward by {}: {why}{state}", name(port));
            (says, None, None)
        }
        Verdict::Reply(port, reason) => {
            let (meaning, advice) = of_reply(reason);
            let says = format!("reply by {}: {why}", name(port));
            (says, Some(meaning), advice)
        }
        Verdict::Queue(port) => (
            format!(
                "queue: its next hop's MAC address on {} is not known",
                name(port)
            ),
            Some("It is sent once the next hop has answered, else dropped as neighbour_failed."),
            None,
        ),
        Verdict::Await => (
            format!("queue: {why}"),
            Some("A fragment that waits for the first one of its datagram, which has the ports."),
            None,
        ),
        Verdict::Local(reason) => (format!("local: {why}"), Some(of_local(reason)), None),
        Verdict::HandOver(_) => (why.to_owned(), None, None),
        Verdict::Drop(reason) => (
            format!("drop: {why}"),
            Some(reason.description()),
            Some(of_drop(reason)),
        ),
    };
    Words {
        says,
        meaning,
        advice,
    }
}

/// What an operator does about packets that are dropped for a reason.
pub(crate) fn of_drop(reason: DropReason) -> &'static str {
    use DropReason::*;
    match reason {
        Truncated | BadIpHeader | BadIpChecksum | BadL4Header | Jumbogram => {
            "Look at the sender, and at what is between it and weir: such a packet is damaged, cut short or made by a tool."
        }
        OtherHost => {
            "Send it to the port's MAC address: compare `mac` of the [[port]] with the frame's destination, and look for a switch that floods."
        }
        UnknownEthertype => {
            "Nothing, unless the port should speak that protocol: weir forwards IP alone."
        }
        OtherVlan => {
            "Give the device a [[port]] with this `vlan`, or take the VLAN off the switch's port."
        }
        BadSourceMac => "Look for a loop between weir's ports, or for a host that forges frames.",
        Ipv6 => "Give a port an IPv6 address, if weir is to serve IPv6.",
        SourceRoute | RoutingHeader => "Nothing: a sender may not choose the way of its packets.",
        Ipv6Extension => "Let the sender leave out these extension headers.",
        BadSource => {
            "Look for a host that has one of weir's own addresses, or for packets that come back to weir in a loop."
        }
        Fragment | FragmentTiny | FragmentTooLong | FragmentOverlap => {
            "Let the sender use path MTU discovery, so that it sends no such fragments."
        }
        FragmentTimeout | FragmentsFull => {
            "Raise `fragment_timeout` or [limits] `fragments` if these are real clients' datagrams."
        }
        NoUdpChecksum => "Let the sender write UDP checksums, which IPv6 requires.",
        BadL4Checksum => "Look at checksum offloading where the packet was made or captured.",
        IcmpIgnored | IcmpUnsupported => "Nothing: weir needs none of these messages.",
        IcmpBadQuote | IcmpMismatch | IcmpSequence => {
            "Nothing: an error that does not fit its packet is most probably forged."
        }
        IcmpNoConnection | TunnelError | TunnelTooBig => {
            "Nothing by itself: the error is late, or the way to the real server has a smaller MTU."
        }
        TtlExceeded => "Look for a routing loop.",
        UnsupportedProtocol => "Nothing: services are of TCP, UDP and SCTP.",
        NotForUs => {
            "Give the VIP a [[service]]; or `forward = true` on both ports if weir is to route between hosts; or take the route that brings it here off the router."
        }
        NoConnection => {
            "Begin with the SYN: in mid-connection only a service of dr or tunnel with sh, mh or dh takes a segment. `unknown_tcp = \"reset\"` tells clients at once."
        }
        NoService => {
            "Add a [[service]] of this protocol and port, or let the client use one that there is."
        }
        NoRealServer => {
            "Look at `weir show reals`: enable a drained one, mend one that is down, or give one a weight."
        }
        RateLimited => "Nothing: weir answers so many a second and no more.",
        NoRoute => "Add a [[route]] to that address, or an address in its subnet to a [[port]].",
        NeighbourFailed | NeighbourQueueFull => {
            "See that the next hop is up and in the port's subnet and VLAN: `weir show neighbours`."
        }
        Denied => "Take the client's prefix out of the service's `deny`, if it is welcome.",
        NotAllowed => "Put the client's prefix into the service's `allow`, if it is welcome.",
        LimitConnections => {
            "Raise `limits.connections` of the service, if its real servers bear more."
        }
        LimitNew => "Raise `limits.new_per_second` of the service, if its real servers bear more.",
        LimitClientConnections => {
            "Raise `limits.per_client_connections`, if many users share the address."
        }
        LimitClientNew => {
            "Raise `limits.per_client_new_per_second`, if many users share the address."
        }
        LocalPortsExhausted | LocalPortsUnfair => {
            "Give the [[local_pool]] more addresses or ports: `weir show pools`."
        }
        AmbiguousReply => {
            "Use fullnat, or give the real server another port for one of the two services."
        }
        Hairpin => "Use nat or fullnat for clients that are real servers themselves.",
        ConnectionTableFull => "Raise [limits] `connections`.",
        SynFlood => "Nothing: a client that repeats its SYN gets in.",
        WrongPort => {
            "Let replies come back by the port that leads to the real server, or set `reverse_path = \"loose\"`."
        }
        SctpFragment => {
            "Let the hosts keep to the path's MTU, or give the real servers the service's port, with nat."
        }
        ClientAddress => {
            "Let clients not fragment their first segment, or turn `client_address` off."
        }
        TooBig => "Lower the MTU or the MSS (`tcp_mss`), or let the sender use path MTU discovery.",
        ArpIgnored | NdIgnored => {
            "Nothing, unless weir should have the address: then it is a VIP, a pool address or a port's, in a subnet or in `announce` of this port."
        }
        BadArp | BadNd => {
            "Look for a host with one of weir's addresses, or for one that forges neighbours."
        }
        HostRateLimited | HostQueueFull => {
            "Raise `host_packets_per_second`, or list the router as a [[host_peer]]."
        }
        NoBuffer | NoHeadroom => "Raise [dpdk] `mbufs`.",
        RedirectFull | TxFull => "Give weir more workers, or a faster link.",
    }
}

/// What a packet that weir answers itself was, and what to do about it; nothing where it is as it should be.
pub(crate) fn of_reply(reason: ReplyReason) -> (&'static str, Option<&'static str>) {
    match reason {
        ReplyReason::Arp => ("An ARP request for an address that weir has.", None),
        ReplyReason::Nd => (
            "A neighbour solicitation for an address that weir has.",
            None,
        ),
        ReplyReason::IcmpEcho => ("An echo request to an address that weir has.", None),
        ReplyReason::TtlExceeded => (
            "The TTL or hop limit runs out here: the sender gets ICMP time exceeded.",
            Some("Nothing for traceroute; else look for a routing loop."),
        ),
        ReplyReason::NoService => (
            "To a VIP, but to none of its services: TCP gets a reset, UDP port unreachable.",
            Some(of_drop(DropReason::NoService)),
        ),
        ReplyReason::NoRealServer => (
            "The service has no real server for a new connection: the client is refused at once.",
            Some(of_drop(DropReason::NoRealServer)),
        ),
        ReplyReason::RealRemoved => (
            "The connection's real server was removed: the client gets a reset.",
            Some("Nothing: its next connection goes to another one."),
        ),
        ReplyReason::RealDown => (
            "The connection's real server is down or disabled: the client gets a reset.",
            Some("Set `on_down = \"keep\"` on the service if its connections are to live on."),
        ),
        ReplyReason::TooBig => (
            "Longer than the way to the real server takes, and not to be fragmented: the sender gets ICMP packet too big.",
            Some("Nothing if the sender heeds that; else set `tcp_mss = \"auto\"` on the service."),
        ),
        ReplyReason::NoConnection => (
            "A TCP segment of no connection: its sender gets a reset.",
            Some(
                "Begin with the SYN. `unknown_tcp = \"drop\"` makes it silent; dr and tunnel with sh, mh or dh take such segments.",
            ),
        ),
        ReplyReason::HostUnreachable => (
            "The next hop does not answer: the sender gets ICMP host unreachable.",
            Some(of_drop(DropReason::NeighbourFailed)),
        ),
        ReplyReason::NoRoute => (
            "No route leads there: the sender gets ICMP net unreachable.",
            Some(of_drop(DropReason::NoRoute)),
        ),
    }
}

/// What a packet is that goes to the host.
pub(crate) fn of_local(reason: LocalReason) -> &'static str {
    match reason {
        LocalReason::ToPortAddress => {
            "To an address of the port itself: the host has it, through the port's companion."
        }
        LocalReason::Arp => "An ARP packet, which tells weir of a neighbour, and the host too.",
        LocalReason::Nd => {
            "Neighbour discovery, which tells weir of a neighbour, and the host too."
        }
        LocalReason::Multicast => {
            "To a link-local multicast group: for the host's routing daemons."
        }
    }
}
