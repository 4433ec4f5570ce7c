//! What tells IPv4 from IPv6 here: headers, and what weir says in its own name. All else of the director is one source
//! for both, compiled once for each.

use super::limit::Asker;
use super::parse::{self, Flow, Parsed};
use super::{Core, Outcome, Turn, answer4};
use crate::config::HostPeer;
use crate::conn::{Address, Connection, FlowKey, Key};
use crate::forward::rewrite::{self, Layout};
use crate::neighbour::Hop;
use crate::packet::{Packet, Sink};
use crate::tables::Port;
use crate::wire::{Mac, build, icmp, ipv4};
use std::fmt::Debug;
use std::net::Ipv4Addr;

/// An address in the tables.
pub type Ip = Ipv4Addr;

/// A family of addresses, on the wire.
pub trait Family: Copy + Debug + Default + Eq + Send + 'static {
    type Key: Key<Address = Self::Address>;
    type Address: Address + From<Ip> + Into<Ip>;

    /// An address of the tables, if it is of this family.
    #[inline(always)]
    fn address(address: Ip) -> Option<Self::Address> {
        Some(address.into())
    }

    /// Of a packet without options.
    const USUAL: Layout;

    /// See [`parse::parse_usual`].
    fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow<Self>) -> bool;
    /// See [`parse::parse_any`].
    fn parse_any(frame: &[u8], port: &Port) -> Parsed<Self>;
    /// The length of the frame's IP packet, as its header says.
    fn length(frame: &[u8]) -> Option<u16>;
    /// Whether an address may not be a packet's source.
    fn is_bad_source(address: Self::Address) -> bool;

    /// See [`rewrite::rewrite_usual`].
    fn rewrite_usual(
        frame: &mut [u8],
        is_tcp: bool,
        connection: &Connection<Self::Key>,
        reply: bool,
        hop: Hop,
    );
    /// See [`rewrite::rewrite`].
    fn rewrite(frame: &mut [u8], layout: Layout, connection: &Connection<Self::Key>, reply: bool);

    /// A packet that is no TCP segment or UDP datagram.
    fn other<P: Packet, S: Sink<Packet = P>>(
        core: &mut Core<Self, P>,
        packet: P,
        parsed: &Parsed<Self>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome;

    /// Whether the TCP, UDP or ICMP checksum of a frame's packet is right.
    fn is_l4_checksum_right(frame: &[u8]) -> bool;
    /// The sender and the service that the answer to a frame counts against.
    fn asker(frame: &[u8]) -> Asker;
    /// The host's peer whose routing protocol a frame is of, if it is one.
    fn host_peer(frame: &[u8], peers: &[HostPeer]) -> Option<Asker>;
    /// Whether the sender wants to hear that the packet is too big.
    fn asks_for_too_big(frame: &[u8]) -> bool;

    /// See [`build::icmp_error`].
    fn write_error(
        frame: &mut [u8],
        offending: &[u8],
        mac: Mac,
        from: Self::Address,
        error: Error,
    ) -> Option<usize>;
    /// See [`build::tcp_reset`].
    fn write_reset_for(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize>;
    /// The length of the frame of [`write_reset`](Self::write_reset).
    const RESET_LEN: usize;
    /// See [`build::reset`].
    fn write_reset(
        frame: &mut [u8],
        macs: (Mac, Mac),
        from: (Self::Address, u16),
        to: (Self::Address, u16),
        sequence: u32,
    ) -> Option<usize>;
}

/// Why weir refuses a packet by an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    PortUnreachable,
    HostUnreachable,
    TtlExceeded,
    /// With the MTU of the next hop's link.
    TooBig(u16),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V4;

impl Family for V4 {
    type Key = FlowKey;
    type Address = Ipv4Addr;

    const USUAL: Layout = Layout::USUAL;

    #[inline(always)]
    fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow) -> bool {
        parse::parse_usual(frame, port, flow)
    }

    fn parse_any(frame: &[u8], port: &Port) -> Parsed {
        parse::parse_any(frame, port)
    }

    fn length(frame: &[u8]) -> Option<u16> {
        Some(ipv4::in_frame(frame)?.total_length())
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

    #[inline(always)]
    fn rewrite(frame: &mut [u8], layout: Layout, connection: &Connection, reply: bool) {
        rewrite::rewrite(frame, layout, connection, reply);
    }

    fn other<P: Packet, S: Sink<Packet = P>>(
        core: &mut Core<Self, P>,
        packet: P,
        parsed: &Parsed<Self>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        core.other4(packet, parsed, turn)
    }

    fn is_l4_checksum_right(frame: &[u8]) -> bool {
        ipv4::in_frame(frame).is_some_and(|ip| ip.is_l4_checksum_right())
    }

    fn asker(frame: &[u8]) -> Asker {
        answer4::asker(frame)
    }

    fn host_peer(frame: &[u8], peers: &[HostPeer]) -> Option<Asker> {
        answer4::host_peer(frame, peers)
    }

    fn asks_for_too_big(frame: &[u8]) -> bool {
        ipv4::in_frame(frame).is_some_and(|ip| ip.dont_fragment())
    }

    fn write_error(
        frame: &mut [u8],
        offending: &[u8],
        mac: Mac,
        from: Ipv4Addr,
        error: Error,
    ) -> Option<usize> {
        let (kind, code, rest) = match error {
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
        build::tcp_reset(frame, offending, mac)
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
