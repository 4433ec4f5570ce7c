//! What tells IPv4 from IPv6 here: headers, and what weir says in its own name. All else of the director is one source
//! for both, compiled once for each; and for [`Crossing`], connections whose sides are of different families.

use super::icmp_error::IcmpError;
use super::limit::Asker;
use super::parse::{Datagram, Flow, Parsed};
use super::{Core, Outcome, Shared, Turn};
use crate::config::HostPeer;
use crate::conn::{Address, Connection, Key};
use crate::forward::error::Places;
use crate::forward::rewrite::{Form, Layout};
use crate::neighbour::Hop;
use crate::packet::{Packet, Sink};
use crate::stats::{Gauge, ServiceStats};
use crate::tables::Port;
use crate::units::{PortId, WorkerId};
use crate::verdict::DropReason;
use crate::wire::Mac;
use std::fmt::Debug;
use std::net::IpAddr;

pub use super::crossing::Crossing;
pub use super::v4::V4;
pub use super::v6::V6;

/// What addresses a connection's packets have, and what is written about them.
pub trait Family: Copy + Debug + Default + Eq + Send + 'static {
    type Key: Key<Address = Self::Address>;
    type Address: Address;

    /// Bytes of an IP and a TCP header without options, of the family whose headers are longer.
    const HEADERS: u16;
    /// Which of a director's tables has its connections, see [`WorkerStats::told`](crate::stats::WorkerStats::told).
    const TABLE: usize;
    /// Whether requests are of one family and their replies of the other.
    const CROSSES: bool = false;

    /// Of the halves that wrap packets, one counts the even packets and one the odd ones.
    const IS_FIRST: bool = false;

    /// An address of the tables, if it is of this family.
    #[inline(always)]
    fn address(address: IpAddr) -> Option<Self::Address> {
        Self::Address::of(address)
    }

    /// How many connections of this family a service has on a worker.
    #[inline(always)]
    fn live(stats: &ServiceStats) -> &Gauge {
        &stats.live
    }

    /// Whether no router may forward packets of an address.
    fn stays_on_link(_address: Self::Address) -> bool {
        false
    }

    /// The length that a flow's packet is sent on with.
    #[inline(always)]
    fn length_sent(flow: &Flow<Self>) -> u16 {
        flow.length
    }

    /// Whether the usual packets of known connections come by the long way too, since there is no other.
    const HAS_ONE_WAY: bool = false;

    /// What is kept from one rewritten packet to the next.
    type Memory: Send;
    fn memory(worker: WorkerId, shared: &Shared) -> Self::Memory;

    /// See [`rewrite`](crate::forward::rewrite::rewrite). Returns false if the packet's buffer has no room for that.
    fn rewrite<P: Packet>(
        packet: &mut P,
        form: Form,
        connection: &Connection<Self::Key>,
        reply: bool,
        memory: &mut Self::Memory,
    ) -> bool;

    /// Takes one from the TTL or hop limit of a frame's packet, which is above 1.
    fn decrement_ttl(frame: &mut [u8]);
    /// See [`error::rewrite`](crate::forward::error::rewrite). `mtu`: of the port that the error goes out of.
    ///
    /// # Errors
    /// Why it cannot be sent on.
    fn rewrite_error<P: Packet>(
        packet: &mut P,
        places: Places,
        connection: &Connection<Self::Key>,
        reply: bool,
        mtu: u16,
        memory: &mut Self::Memory,
    ) -> Result<(), DropReason>;

    /// Whether the TCP, UDP or ICMP checksum of a frame's packet is right.
    fn is_l4_checksum_right(frame: &[u8]) -> bool;
    /// The sender and the service that the answer to a frame counts against.
    fn asker(frame: &[u8]) -> Asker;
    /// The host's peer whose routing protocol a frame from `port` is of, if it is one.
    fn host_peer(frame: &[u8], port: PortId, peers: &[HostPeer]) -> Option<Asker>;
    /// Whether a packet that is too big for its way on goes on in fragments: else its sender hears of it.
    fn may_be_cut(frame: &[u8], flow: &Flow<Self>) -> bool;

    /// Room for the largest answer.
    type Answer: Default + AsMut<[u8]>;
    /// Writes an ICMP error about a packet.
    fn write_error(
        frame: &mut [u8],
        offending: &[u8],
        mac: Mac,
        from: Self::Address,
        error: Error,
    ) -> Option<usize>;
    /// See [`tcp_reset`](crate::wire::build::tcp_reset) and [`sctp_refusal`](crate::wire::build::sctp_refusal).
    fn write_reset_for(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize>;
    /// Room for the frame of [`write_reset`](Self::write_reset).
    const RESET_LEN: usize;
    /// See [`reset`](crate::wire::build::reset).
    fn write_reset(
        frame: &mut [u8],
        macs: (Mac, Mac),
        from: (Self::Address, u16),
        to: (Self::Address, u16),
        sequence: u32,
    ) -> Option<usize>;
}

/// A family of addresses, on the wire.
pub trait Wire: Family {
    /// Of a packet without options.
    const USUAL: Layout;
    const IS_V6: bool;

    /// See [`parse_usual`](super::parse::parse_usual).
    fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow<Self>) -> bool;
    /// Whether a frame's packet is of the other family.
    fn is_foreign(frame: &[u8]) -> bool;
    /// See [`parse_any`](super::parse::parse_any).
    fn parse_any(frame: &[u8], port: &Port) -> Parsed<Self>;
    /// The length of the frame's IP packet, as its header says.
    fn length(frame: &[u8]) -> Option<u16>;
    /// The TTL or hop limit of a frame's packet, which is there.
    fn ttl(frame: &[u8]) -> u8;
    /// Whether an address may not be a packet's source.
    fn is_bad_source(address: Self::Address) -> bool;

    /// See [`rewrite_usual`](crate::forward::rewrite::rewrite_usual).
    fn rewrite_usual(
        frame: &mut [u8],
        is_tcp: bool,
        connection: &Connection<Self::Key>,
        reply: bool,
        hop: Hop,
    );

    /// A packet that is neither bad nor a flow's.
    fn other<P: Packet, S: Sink<Packet = P>>(
        core: &mut Core<Self, P>,
        packet: P,
        parsed: &Parsed<Self>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome;

    /// The reason to drop a packet to a VIP or pool address by a protocol that no service has.
    fn not_served(_protocol: u8) -> DropReason {
        DropReason::UnsupportedProtocol
    }

    /// The protocol number of ICMP.
    const ICMP: u8;
    /// The type of an echo request.
    const ECHO_REQUEST: u8;
    /// The type of its reply.
    const ECHO_REPLY: u8;
    fn message(bytes: &[u8]) -> Message;
    /// What an ICMP error says, of such a message with the length of its header.
    ///
    /// # Errors
    /// Why it says nothing of a connection.
    fn icmp_error(frame: &[u8], datagram: &Datagram<Self>) -> Result<IcmpError<Self>, DropReason>;
    /// Turns an echo request with a right checksum into its reply.
    fn write_echo_reply(frame: &mut [u8], mac: Mac) -> Option<usize>;
    /// Turns a fragment of an echo request into that of its reply. `message`: where the ICMP header is, in the first one.
    fn write_echo_reply_fragment(frame: &mut [u8], mac: Mac, message: Option<usize>) -> Option<()>;
}

/// Bytes to write a frame into.
pub struct Frame<const LEN: usize>([u8; LEN]);

impl<const LEN: usize> Default for Frame<LEN> {
    #[inline(always)]
    fn default() -> Self {
        Frame([0; LEN])
    }
}

impl<const LEN: usize> AsMut<[u8]> for Frame<LEN> {
    #[inline(always)]
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What an ICMP message is, as far as weir cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Malformed,
    Error,
    EchoRequest,
    Other,
}

/// Why weir refuses a packet by an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    NoRoute,
    PortUnreachable,
    HostUnreachable,
    TtlExceeded,
    /// With the MTU of the next hop's link.
    TooBig(u16),
}
