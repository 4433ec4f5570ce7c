//! IPv6 on the wire.

use super::family::{Error, Family, Frame, Message, Wire};
use super::host_peer::{ToHost, is_host_peers};
use super::icmp_error::IcmpError;
use super::limit::Asker;
use super::outward::quoted_echo;
use super::parse::{self, Datagram, Flow, Parsed};
use super::{Core, Outcome, Shared, Turn, nd, parse6};
use crate::config::HostPeer;
use crate::conn::{Connection6, FlowKey6, Key};
use crate::forward::error::{self, Places};
use crate::forward::rewrite::{Form, Layout};
use crate::forward::rewrite6;
use crate::neighbour::Hop;
use crate::net::protocol;
use crate::packet::{Packet, Sink};
use crate::tables::Port;
use crate::units::{PortId, WorkerId};
use crate::verdict::{DropReason, PacketContext};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{Mac, build6, ethernet, extension, icmpv6, tcp};
use std::net::Ipv6Addr;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V6;

impl Family for V6 {
    const HEADERS: u16 = (ipv6::HEADER_LEN + tcp::HEADER_LEN) as u16;
    const TABLE: usize = 1;
    type Key = FlowKey6;
    type Address = Ipv6Addr;

    /// RFC 4291 section 2.5.6: no router forwards packets of link-local addresses.
    fn stays_on_link(address: Ipv6Addr) -> bool {
        address.is_unicast_link_local()
    }

    type Memory = ();
    fn memory(_worker: WorkerId, _shared: &Shared) {}

    #[inline(always)]
    fn rewrite<P: Packet>(
        packet: &mut P,
        form: Form,
        connection: &Connection6,
        reply: bool,
        (): &mut (),
    ) -> bool {
        rewrite6::rewrite(packet.data_mut(), form, connection, reply);
        true
    }

    fn decrement_ttl(frame: &mut [u8]) {
        rewrite6::pass(frame);
    }

    fn rewrite_error<P: Packet>(
        packet: &mut P,
        places: Places,
        connection: &Connection6,
        reply: bool,
        _mtu: u16,
        (): &mut (),
    ) -> Result<(), DropReason> {
        let done = error::rewrite_v6(packet.data_mut(), places, connection, reply);
        done.ok_or(DropReason::IcmpBadQuote)
    }

    fn is_l4_checksum_right(frame: &[u8]) -> bool {
        ipv6::in_frame(frame).is_some_and(|ip| {
            let upper = ip.upper_layer();
            upper.is_ok_and(|upper| ip.is_l4_checksum_right(&upper))
        })
    }

    fn asker(frame: &[u8]) -> Asker {
        if let Some((source, target)) = nd::solicitation_of(frame) {
            return Asker::of_host(source, target, 0);
        }
        match ipv6::in_frame(frame) {
            Some(ip) => Asker::of_prefix(ip.source(), ip.destination(), service(&ip)),
            None => Asker::of_host(Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, 0),
        }
    }

    fn host_peer(frame: &[u8], port: PortId, peers: &[HostPeer]) -> Option<Asker> {
        let ip = ipv6::in_frame(frame)?;
        let upper = ip.upper_layer().ok()?;
        let packet = ToHost {
            port,
            source: ip.source().into(),
            destination: ip.destination().into(),
            protocol: upper.protocol,
            ttl: ip.hop_limit(),
            is_fragment: upper.is_fragment(),
            ports: upper.ports(),
        };
        is_host_peers(&packet, peers)
            .then(|| Asker::of_host(ip.source(), ip.destination(), service(&ip)))
    }

    /// RFC 8200 section 4.5: no router fragments.
    fn may_be_cut(_frame: &[u8], _flow: &Flow<V6>) -> bool {
        false
    }

    type Answer = Frame<{ ethernet::HEADER_LEN + build6::ICMPV6_ERROR_MAX }>;

    fn write_error(
        frame: &mut [u8],
        offending: &[u8],
        mac: Mac,
        from: Ipv6Addr,
        error: Error,
    ) -> Option<usize> {
        // RFC 4443 section 3.1.
        const NO_ROUTE: u8 = 0;
        const ADDRESS_UNREACHABLE: u8 = 3;
        const PORT_UNREACHABLE: u8 = 4;
        let (kind, code, rest) = match error {
            Error::NoRoute => (icmpv6::DESTINATION_UNREACHABLE, NO_ROUTE, 0),
            Error::PortUnreachable => (icmpv6::DESTINATION_UNREACHABLE, PORT_UNREACHABLE, 0),
            Error::HostUnreachable => (icmpv6::DESTINATION_UNREACHABLE, ADDRESS_UNREACHABLE, 0),
            Error::TtlExceeded => (icmpv6::TIME_EXCEEDED, 0, 0),
            Error::TooBig(mtu) => (icmpv6::PACKET_TOO_BIG, 0, mtu.into()),
        };
        build6::icmpv6_error(frame, offending, mac, from, kind, code, rest)
    }

    fn write_reset_for(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
        let ip = ipv6::in_frame(offending)?;
        match ip.upper_layer().ok()?.protocol {
            protocol::SCTP => build6::sctp_refusal(frame, offending, mac),
            _ => build6::tcp_reset(frame, offending, mac),
        }
    }

    const RESET_LEN: usize = build6::RESET_LEN;

    fn write_reset(
        frame: &mut [u8],
        macs: (Mac, Mac),
        from: (Ipv6Addr, u16),
        to: (Ipv6Addr, u16),
        sequence: u32,
    ) -> Option<usize> {
        build6::reset(frame, macs, from, to, sequence)
    }
}

impl Wire for V6 {
    const USUAL: Layout = Layout::USUAL_V6;
    const IS_V6: bool = true;

    #[inline(always)]
    fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow<V6>) -> bool {
        parse6::parse_usual(frame, port, flow)
    }

    fn is_foreign(frame: &[u8]) -> bool {
        !parse::is_ipv6(frame)
    }

    fn parse_any(frame: &[u8], port: &Port) -> Parsed<V6> {
        parse6::parse_any(frame, port)
    }

    fn length(frame: &[u8]) -> Option<u16> {
        parse6::length(frame)
    }

    fn ttl(frame: &[u8]) -> u8 {
        ipv6::in_frame(frame).map_or(0, |ip| ip.hop_limit())
    }

    fn is_bad_source(address: Ipv6Addr) -> bool {
        parse6::is_bad_source(address)
    }

    #[inline(always)]
    fn rewrite_usual(
        frame: &mut [u8],
        is_tcp: bool,
        connection: &Connection6,
        reply: bool,
        hop: Hop,
    ) {
        rewrite6::rewrite_usual(frame, is_tcp, connection, reply, hop);
    }

    fn other<P: Packet, S: Sink<Packet = P>>(
        core: &mut Core<Self, P>,
        packet: P,
        parsed: &Parsed<Self>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let datagram = match parsed {
            Parsed::Ip(datagram) => datagram,
            Parsed::Fragment(fragment) if !fragment.destination.is_multicast() => {
                return core.fragment(packet, fragment, turn);
            }
            Parsed::Fragment(_) => return (core.of_group(packet, turn), PacketContext::default()),
            _ => unreachable!("all else has a way of its own, or is none of IPv6"),
        };
        if datagram.protocol == protocol::ICMPV6
            && nd::is_discovery(packet.data(), datagram.layout.l4)
        {
            return (core.discovery(packet, turn), PacketContext::default());
        }
        if !datagram.destination.is_multicast() {
            return core.datagram(packet, datagram, turn);
        }
        (core.of_group(packet, turn), PacketContext::default())
    }

    fn not_served(protocol: u8) -> DropReason {
        match extension::is_unread_extension(protocol) {
            true => DropReason::Ipv6Extension,
            false => DropReason::UnsupportedProtocol,
        }
    }

    const ICMP: u8 = protocol::ICMPV6;
    const ECHO_REQUEST: u8 = icmpv6::ECHO_REQUEST;
    const ECHO_REPLY: u8 = icmpv6::ECHO_REPLY;

    fn message(bytes: &[u8]) -> Message {
        match icmpv6::Icmpv6::new_checked(bytes) {
            Err(_) => Message::Malformed,
            Ok(message) if message.is_error() => Message::Error,
            Ok(message) if message.is_echo_request() => Message::EchoRequest,
            Ok(_) => Message::Other,
        }
    }

    fn icmp_error(frame: &[u8], datagram: &Datagram<Self>) -> Result<IcmpError<Self>, DropReason> {
        let ip = ipv6::in_frame(frame).ok_or(DropReason::BadIpHeader)?;
        let upper = ip.upper_layer().map_err(|_| DropReason::BadIpHeader)?;
        let message = icmpv6::Icmpv6::new_checked(upper.payload);
        let message = message.map_err(|_| DropReason::BadL4Header)?;
        if !ip.is_l4_checksum_right(&upper) {
            return Err(DropReason::BadL4Checksum);
        }
        let kind = message.error().ok_or(DropReason::IcmpIgnored)?;
        let quote = message.quote().ok_or(DropReason::IcmpBadQuote)?.packet;
        let quoted = Ipv6::new_quoted(quote).map_err(|_| DropReason::IcmpBadQuote)?;
        let inner = quoted.upper_layer().map_err(|_| DropReason::IcmpBadQuote)?;
        let (source, destination) = (quoted.source(), quoted.destination());
        let is_later = inner.fragment.is_some_and(|fragment| fragment.offset > 0);
        let key = match inner.quoted_ports() {
            Some(ports) => FlowKey6::new(source, ports.0, destination, ports.1, inner.protocol),
            None if inner.protocol == protocol::ICMPV6 && !is_later => {
                let echo = quoted_echo::<V6>((source, destination), inner.payload);
                echo.ok_or(DropReason::IcmpBadQuote)?
            }
            None => return Err(DropReason::IcmpBadQuote),
        };
        if source != ip.destination() {
            return Err(DropReason::IcmpMismatch);
        }
        let headers = ipv6::HEADER_LEN + inner.extensions;
        let places = Places::new(datagram.layout, datagram.length, headers);
        let (l4, ttl) = (inner.payload, ip.hop_limit());
        Ok(IcmpError::new(
            (kind, message.is_absence()),
            key,
            l4,
            ttl,
            datagram,
            places,
        ))
    }

    fn write_echo_reply(frame: &mut [u8], mac: Mac) -> Option<usize> {
        build6::echo_reply_in_place(frame, mac)
    }

    fn write_echo_reply_fragment(frame: &mut [u8], mac: Mac, message: Option<usize>) -> Option<()> {
        build6::echo_reply_fragment_in_place(frame, mac, message)
    }
}

/// What tells the services of one address apart: the protocol, and the port where there is one.
fn service(ip: &Ipv6<&[u8]>) -> u32 {
    let Ok(upper) = ip.upper_layer() else {
        return 0;
    };
    let port = upper.ports().map_or(0, |(_, to)| to);
    u32::from(upper.protocol) << 16 | u32::from(port)
}
