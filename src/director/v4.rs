//! IPv4 on the wire.

use super::arp::arp_of;
use super::family::{Error, Family, Frame, Message, Wire};
use super::host_peer::{ToHost, is_host_peers};
use super::icmp_error::IcmpError;
use super::limit::Asker;
use super::outward::quoted_echo;
use super::parse::{self, Datagram, Flow, Parsed};
use super::{Core, Outcome, Shared, Turn};
use crate::config::HostPeer;
use crate::conn::{Connection, FlowKey, Key};
use crate::forward::error::{self, Places};
use crate::forward::rewrite::{self, Form, Layout};
use crate::neighbour::Hop;
use crate::net::{IcmpErrorKind, protocol};
use crate::packet::{Packet, Sink};
use crate::tables::Port;
use crate::units::{PortId, WorkerId};
use crate::verdict::{DropReason, LocalReason, PacketContext};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::{Mac, build, ethernet, icmp, tcp};
use std::net::Ipv4Addr;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V4;

impl Family for V4 {
    const HEADERS: u16 = (ipv4::HEADER_LEN + tcp::HEADER_LEN) as u16;
    const TABLE: usize = 0;
    type Key = FlowKey;
    type Address = Ipv4Addr;

    const IS_FIRST: bool = true;

    type Memory = ();
    fn memory(_worker: WorkerId, _shared: &Shared) {}

    #[inline(always)]
    fn rewrite<P: Packet>(
        packet: &mut P,
        form: Form,
        connection: &Connection,
        reply: bool,
        (): &mut (),
    ) -> bool {
        rewrite::rewrite(packet.data_mut(), form, connection, reply);
        true
    }

    fn decrement_ttl(frame: &mut [u8]) {
        rewrite::pass(frame);
    }

    fn rewrite_error<P: Packet>(
        packet: &mut P,
        places: Places,
        connection: &Connection,
        reply: bool,
        _mtu: u16,
        (): &mut (),
    ) -> Result<(), DropReason> {
        let done = error::rewrite(packet.data_mut(), places, connection, reply);
        done.ok_or(DropReason::IcmpBadQuote)
    }

    fn is_l4_checksum_right(frame: &[u8]) -> bool {
        ipv4::in_frame(frame).is_some_and(|ip| ip.is_l4_checksum_right())
    }

    fn asker(frame: &[u8]) -> Asker {
        let unknown = Ipv4Addr::UNSPECIFIED;
        if let Some(ip) = ipv4::in_frame(frame) {
            Asker::of_prefix(ip.source(), ip.destination(), service(&ip))
        } else if let Some(repr) = arp_of(frame) {
            Asker::of_host(repr.sender_ip, repr.target_ip, 0)
        } else {
            Asker::of_host(unknown, unknown, 0)
        }
    }

    fn host_peer(frame: &[u8], port: PortId, peers: &[HostPeer]) -> Option<Asker> {
        let ip = ipv4::in_frame(frame)?;
        let packet = ToHost {
            port,
            source: ip.source().into(),
            destination: ip.destination().into(),
            protocol: ip.protocol(),
            ttl: ip.ttl(),
            is_fragment: ip.is_fragment(),
            ports: ip.ports(),
        };
        is_host_peers(&packet, peers)
            .then(|| Asker::of_host(ip.source(), ip.destination(), service(&ip)))
    }

    fn may_be_cut(frame: &[u8], _flow: &Flow) -> bool {
        ipv4::in_frame(frame).is_some_and(|ip| !ip.dont_fragment())
    }

    type Answer = Frame<{ ethernet::HEADER_LEN + build::ICMP_ERROR_MAX }>;

    fn write_error(
        frame: &mut [u8],
        offending: &[u8],
        mac: Mac,
        from: Ipv4Addr,
        error: Error,
    ) -> Option<usize> {
        let (kind, code, rest) = match error {
            Error::NoRoute => (icmp::DESTINATION_UNREACHABLE, icmp::NET_UNREACHABLE, 0),
            Error::PortUnreachable => (icmp::DESTINATION_UNREACHABLE, icmp::PORT_UNREACHABLE, 0),
            Error::HostUnreachable => (icmp::DESTINATION_UNREACHABLE, icmp::HOST_UNREACHABLE, 0),
            Error::TtlExceeded => (icmp::TIME_EXCEEDED, 0, 0),
            // RFC 1191 section 4.
            Error::TooBig(mtu) => (
                icmp::DESTINATION_UNREACHABLE,
                icmp::FRAGMENTATION_NEEDED,
                mtu.into(),
            ),
        };
        build::icmp_error(frame, offending, mac, from, kind, code, rest)
    }

    fn write_reset_for(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
        match ipv4::in_frame(offending)?.protocol() {
            protocol::SCTP => build::sctp_refusal(frame, offending, mac),
            _ => build::tcp_reset(frame, offending, mac),
        }
    }

    const RESET_LEN: usize = build::RESET_LEN;

    fn write_reset(
        frame: &mut [u8],
        macs: (Mac, Mac),
        from: (Ipv4Addr, u16),
        to: (Ipv4Addr, u16),
        sequence: u32,
    ) -> Option<usize> {
        build::reset(frame, macs, from, to, sequence)
    }
}

impl Wire for V4 {
    const USUAL: Layout = Layout::USUAL;
    const IS_V6: bool = false;

    #[inline(always)]
    fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow) -> bool {
        parse::parse_usual(frame, port, flow)
    }

    fn is_foreign(frame: &[u8]) -> bool {
        parse::is_ipv6(frame)
    }

    fn parse_any(frame: &[u8], port: &Port) -> Parsed {
        parse::parse_any(frame, port)
    }

    fn length(frame: &[u8]) -> Option<u16> {
        Some(ipv4::in_frame(frame)?.total_length())
    }

    fn ttl(frame: &[u8]) -> u8 {
        ipv4::in_frame(frame).map_or(0, |ip| ip.ttl())
    }

    fn is_bad_source(address: Ipv4Addr) -> bool {
        parse::is_bad_source(address)
    }

    #[inline(always)]
    fn rewrite_usual(
        frame: &mut [u8],
        is_tcp: bool,
        connection: &Connection,
        reply: bool,
        hop: Hop,
    ) {
        rewrite::rewrite_usual(frame, is_tcp, connection, reply, hop);
    }

    fn other<P: Packet, S: Sink<Packet = P>>(
        core: &mut Core<Self, P>,
        packet: P,
        parsed: &Parsed<Self>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        match parsed {
            Parsed::Arp => core.arp(packet, turn),
            Parsed::Multicast => {
                let port = packet.port();
                let verdict = core.deliver(packet, port, LocalReason::Multicast, turn);
                (verdict, PacketContext::default())
            }
            Parsed::Ip(datagram) => core.datagram(packet, datagram, turn),
            Parsed::Fragment(fragment) => core.fragment(packet, fragment, turn),
            Parsed::Bad(_) | Parsed::Flow(_) | Parsed::Mend => {
                unreachable!("they have a way of their own")
            }
        }
    }

    const ICMP: u8 = protocol::ICMP;
    const ECHO_REQUEST: u8 = icmp::ECHO_REQUEST;
    const ECHO_REPLY: u8 = icmp::ECHO_REPLY;

    fn message(bytes: &[u8]) -> Message {
        match icmp::Icmp::new_checked(bytes) {
            Err(_) => Message::Malformed,
            Ok(message) if message.is_error() => Message::Error,
            Ok(message) if message.is_echo_request() => Message::EchoRequest,
            Ok(_) => Message::Other,
        }
    }

    fn icmp_error(frame: &[u8], datagram: &Datagram<Self>) -> Result<IcmpError<Self>, DropReason> {
        let ip = ipv4::in_frame(frame).ok_or(DropReason::BadIpHeader)?;
        let message = icmp::Icmp::new_checked(ip.payload());
        let message = message.map_err(|_| DropReason::BadL4Header)?;
        if !message.is_checksum_right() {
            return Err(DropReason::BadL4Checksum);
        }
        let kind = message
            .error()
            .filter(|kind| *kind != IcmpErrorKind::Advice);
        let kind = kind.ok_or(DropReason::IcmpIgnored)?;
        let quote = message.quote().ok_or(DropReason::IcmpBadQuote)?.packet;
        let quoted = Ipv4::new_quoted(quote).map_err(|_| DropReason::IcmpBadQuote)?;
        // RFC 792: the header and 8 bytes at least.
        let (source, destination) = (quoted.source(), quoted.destination());
        let key = match quoted.quoted_ports() {
            Some(ports) => FlowKey::new(source, ports.0, destination, ports.1, quoted.protocol()),
            None if quoted.protocol() == protocol::ICMP && quoted.fragment_offset() == 0 => {
                let echo = quoted_echo::<V4>((source, destination), quoted.payload());
                echo.ok_or(DropReason::IcmpBadQuote)?
            }
            None => return Err(DropReason::IcmpBadQuote),
        };
        if source != ip.destination() {
            return Err(DropReason::IcmpMismatch);
        }
        let places = Places::new(datagram.layout, datagram.length, quoted.header_len());
        let l4 = quoted.payload();
        Ok(IcmpError::new(
            (kind, message.is_absence()),
            key,
            l4,
            ip.ttl(),
            datagram,
            places,
        ))
    }

    fn write_echo_reply(frame: &mut [u8], mac: Mac) -> Option<usize> {
        build::echo_reply_in_place(frame, mac)
    }

    fn write_echo_reply_fragment(frame: &mut [u8], mac: Mac, message: Option<usize>) -> Option<()> {
        build::echo_reply_fragment_in_place(frame, mac, message)
    }
}

/// What tells the services of one address apart: the protocol, and the port where there is one.
fn service(ip: &Ipv4<&[u8]>) -> u32 {
    let port = ip.ports().map_or(0, |(_, to)| to);
    u32::from(ip.protocol()) << 16 | u32::from(port)
}
