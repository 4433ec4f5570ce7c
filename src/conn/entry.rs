//! A connection entry: all that a packet of a known connection needs, in one cache line, or in two of IPv6.

mod memory;

pub use memory::Torn;

use super::key::{Address, FlowKey, Key};
use super::key_any::FlowKeyAny;
use super::key6::FlowKey6;
use super::state::{State, Timeouts};
use super::table::Entry;
use crate::units::{HopId, Millis, RealId, ServiceId};
use crate::wire::checksum::Delta;
use std::hint::select_unpredictable;

impl<K: Key> Entry for Connection<K> {
    type Key = K;

    const FREE: Self = Connection::FREE;

    #[inline(always)]
    fn hash(key: &K, seed: u64) -> u64 {
        key.hash_with(seed)
    }

    #[inline(always)]
    fn request(&self) -> &K {
        &self.request
    }

    #[inline(always)]
    fn reply(&self) -> &K {
        &self.reply
    }

    #[inline(always)]
    fn is_two_way(&self) -> bool {
        self.is_two_way()
    }

    #[inline(always)]
    fn is_live(&self) -> bool {
        self.state != State::None
    }

    fn link(&self) -> u32 {
        self.last_seen.0
    }

    fn set_link(&mut self, number: u32) {
        self.last_seen.0 = number;
    }
}

/// The place of a connection in its worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId(pub u32);

/// What happens to the addresses of a connection's packets: computed once, applied to every packet.
/// A request's source and destination become `source` and `destination`; a reply's are put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<A> {
    pub source: A,
    pub source_port: u16,
    pub destination: A,
    pub destination_port: u16,
    /// The packets get these addresses; otherwise only their next hop is found by them.
    pub is_applied: bool,
    /// Replies come through weir.
    pub sees_replies: bool,
    /// The packets are wrapped or marked besides, see [`Connection::is_wrapped`].
    pub is_wrapped: bool,
}

impl<A: Address> Translation<A> {
    /// The key of a request after the translation.
    pub fn key<K: Key<Address = A>>(&self, protocol: u8) -> K {
        K::new(
            self.source,
            self.source_port,
            self.destination,
            self.destination_port,
            protocol,
        )
    }
}

/// What is given up first where something is full; within one, what was silent for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Closed or reset: only the answer to a late segment is lost.
    Over,
    /// A handshake under way, a connection that nothing has proved yet, a flow that the real server does not answer: what
    /// a flood of made-up senders leaves behind.
    Unproven,
    /// UDP that may go on, or a client's bond to its real server that no connection uses: made anew by the next packet,
    /// with another real server perhaps.
    Idle,
}

/// More than a client has under way, in bytes.
const WINDOW: u32 = 1 << 24;

/// "No next hop is known": not an index of the neighbour table, which is smaller.
const NO_HOP: u16 = u16::MAX;

/// One connection. The request key and the reply key differ only where the forwarding mode sees replies.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Connection<K = FlowKey> {
    /// As the client sends.
    pub request: K,
    pub last_seen: Millis,
    /// Its service's, which is known by it.
    pub real: RealId,
    /// What was noted of its packets, see [`Connection::note_segment`], [`Connection::note_datagram`] and [`Connection::set_tag`]. Of templates: how
    /// many live connections it has, and its service.
    marks: [u32; 2],
    hops: [u16; 2],
    pub route_generation: u16,
    pub state: State,
    flags: u8,
    /// As the real server answers; of a mode that does not see replies, only the real server's address counts.
    pub reply: K,
    /// Of [`State::Template`] connections: the persistence timeout in milliseconds. Of others: their template.
    pub template: u32,
    /// What a request's translation, and one less of TTL, does to the header checksum; of no meaning in IPv6.
    ip_delta: Delta,
    /// What a request's translation does to the checksum of TCP or UDP, a reply's being its inverse.
    l4_delta: Delta,
}

/// An IPv6 connection: what a request is found and decided on by is its first cache line, what it becomes its second.
pub type Connection6 = Connection<FlowKey6>;

/// A connection whose client and real server are of different families.
pub type ConnectionAny = Connection<FlowKeyAny>;

const _: () = assert!(
    size_of::<Connection>() == 64
        && size_of::<Connection6>() == 128
        && std::mem::offset_of!(Connection6, reply) == 64,
    "a connection fills one cache line, an IPv6 one two, whose second begins with its replies' key"
);

const TRANSLATES: u8 = 1;
const TWO_WAY: u8 = 2;
/// The real server has answered. Of a template: one of its connections was established (`IP_VS_CTPL_S_ASSURED`).
const ANSWERED: u8 = 4;
/// It lives on another worker than its requests come to.
const STRAY: u8 = 8;
/// The client has sent a SYN while one side had closed. Before a connection can close, that it has failed.
const SYN_AGAIN: u8 = 16;
const FAILED: u8 = SYN_AGAIN;
/// It was established in earnest.
const PROVED: u8 = 32;
const WRAPPED: u8 = 64;

/// Its SYNs' largest segment size may be lowered.
const CLAMPED: u8 = 128;

/// What stands for a protocol in a template's key, and for that the protocol: no flow has it.
pub fn template_protocol(protocol: u8) -> u8 {
    protocol ^ 0x80
}

/// [`Connection::template`] of a connection that has none.
pub const NO_TEMPLATE: u32 = u32::MAX;

impl<K: Key> Connection<K> {
    pub const FREE: Self = Connection {
        request: K::NONE,
        reply: K::NONE,
        last_seen: Millis(0),
        real: RealId(0),
        marks: [0; 2],
        template: NO_TEMPLATE,
        hops: [NO_HOP; 2],
        route_generation: 0,
        state: State::None,
        flags: 0,
        ip_delta: Delta::ZERO,
        l4_delta: Delta::ZERO,
    };

    /// A new connection of the client's packet with key `request`.
    pub fn new(request: K, translation: Translation<K::Address>, real: RealId) -> Self {
        let translated: K = translation.key(request.protocol());
        let flags = if translation.sees_replies { TWO_WAY } else { 0 }
            | if translation.is_applied {
                TRANSLATES
            } else {
                0
            }
            | if translation.is_wrapped { WRAPPED } else { 0 };
        let sources = request.source().replaced(translation.source, Delta::ZERO);
        let ip_delta = (request.destination()).replaced(translation.destination, sources);
        let l4_delta = ip_delta
            .replace_u16(request.source_port(), translation.source_port)
            .replace_u16(request.destination_port(), translation.destination_port);
        Connection {
            request,
            reply: translated.reversed(),
            real,
            flags,
            ip_delta: ip_delta.and(Delta::TTL),
            l4_delta,
            ..Connection::FREE
        }
    }

    #[inline(always)]
    pub fn is_two_way(&self) -> bool {
        self.flags & TWO_WAY != 0
    }

    #[inline(always)]
    pub fn translates(&self) -> bool {
        self.flags & TRANSLATES != 0
    }

    /// Whether its packets are wrapped or marked, as its real server's entry of [`Tables::tunnels`](crate::tables::Tables) says.
    /// Its requests' next hop is where that of replies is in others, which it has none of: so it is none of those whose packets
    /// simply go on, and they need not be asked.
    #[inline(always)]
    pub fn is_wrapped(&self) -> bool {
        self.flags & WRAPPED != 0
    }

    /// Whether its requests have an address and port of a local pool in the place of the client's.
    pub fn has_local_pair(&self) -> bool {
        self.is_two_way()
            && (self.request.source(), self.request.source_port())
                != (self.reply.destination(), self.reply.destination_port())
    }

    /// Whether it is one of `[[snat]]`: its packets keep their destination, and have an address and port of a local pool in the
    /// place of their source.
    pub fn is_outward(&self) -> bool {
        self.has_local_pair()
            && self.translates()
            && (self.request.destination(), self.request.destination_port())
                == (self.reply.source(), self.reply.source_port())
    }

    /// Whether the real server has sent anything. Of a template, whether a connection that it bound was established.
    #[inline]
    pub fn is_answered(&self) -> bool {
        self.flags & ANSWERED != 0
    }

    pub fn set_answered(&mut self) {
        self.flags |= ANSWERED;
    }

    /// Whether it lives on another worker than its requests come to.
    #[inline]
    pub fn is_stray(&self) -> bool {
        self.flags & STRAY != 0
    }

    pub fn set_stray(&mut self) {
        self.flags |= STRAY;
    }

    /// Whether its service says how large the segments are that its SYNs may ask for.
    pub fn is_clamped(&self) -> bool {
        self.flags & CLAMPED != 0
    }

    pub fn set_clamped(&mut self) {
        self.flags |= CLAMPED;
    }

    /// It is established in earnest.
    pub fn set_proved(&mut self) {
        self.flags |= PROVED;
    }

    /// Whether the client has sent a SYN while one side had closed.
    pub fn is_opened_again(&self) -> bool {
        self.flags & SYN_AGAIN != 0
    }

    pub fn set_opened_again(&mut self, again: bool) {
        self.flags = self.flags & !SYN_AGAIN | if again { SYN_AGAIN } else { 0 };
    }

    /// Notes that it has failed. Returns whether that is new, and can be: a TCP connection whose replies are seen fails in its
    /// handshake only.
    pub fn set_failed(&mut self) -> bool {
        let can = !self.is_two_way() || self.state == State::Udp || self.state.is_handshake();
        let is_new = can && self.flags & FAILED == 0;
        if is_new {
            self.flags |= FAILED;
        }
        is_new
    }

    /// Its handshake is over: whether it failed before is no longer known.
    pub fn forget_failure(&mut self) {
        self.flags &= !FAILED;
    }

    /// Keeps when a UDP flow began.
    pub fn set_begun(&mut self, now: Millis) {
        self.marks[0] = now.0;
    }

    /// Whether its real server owes an answer for so many milliseconds: to a SYN, or to all datagrams of a flow.
    pub fn is_unanswered(&self, for_ms: u32, now: Millis) -> bool {
        let since = match self.state {
            State::SynRecv | State::SctpInit1 | State::SctpInit => self.last_seen,
            State::Udp => Millis(self.marks[0]),
            _ => return false,
        };
        self.is_two_way() && !self.is_answered() && now.since(since) >= for_ms
    }

    /// Keeps what a TCP segment acknowledges, as on the wire, first byte lowest: a later reset is held against it.
    #[inline(always)]
    pub fn note_segment(&mut self, reply: bool, acknowledged: u32) {
        self.marks[usize::from(reply)] = acknowledged;
    }

    /// Keeps which way a UDP datagram went.
    #[inline(always)]
    pub fn note_datagram(&mut self, reply: bool) {
        self.marks[1] = u32::from(reply);
    }

    /// What a side has acknowledged last, which is the next sequence number that it takes; none before it has
    /// acknowledged anything. Of TCP connections.
    pub fn acknowledged(&self, by_real: bool) -> Option<u32> {
        Some(u32::from_be(self.marks[usize::from(by_real)])).filter(|ack| *ack != 0)
    }

    /// As if that side had acknowledged it.
    pub fn set_acknowledged(&mut self, by_real: bool, ack: u32) {
        self.marks[usize::from(by_real)] = ack.to_be();
    }

    /// The verification tag of SCTP packets to the real server, or to the client, as far as it is known.
    pub fn tag(&self, to_real: bool) -> Option<u32> {
        self.acknowledged(to_real)
    }

    pub fn set_tag(&mut self, to_real: bool, tag: u32) {
        self.set_acknowledged(to_real, tag);
    }

    /// Whether it puts other ports into its packets.
    pub fn changes_ports(&self) -> bool {
        self.translates() && self.request.wire_ports() != self.reply.reversed().wire_ports()
    }

    /// Whether a reset ends the connection: its sequence number must be the one that the other side takes next (RFC 5961
    /// section 3.2), as far as that is known. Before the client has acknowledged anything, a real server's is a refusal.
    pub fn believes_reset(&self, reply: bool, sequence: u32) -> bool {
        let expected = self.acknowledged(!reply);
        self.state.is_handshake() && reply || expected.is_none_or(|expected| expected == sequence)
    }

    /// Whether a client's FIN is believed: its sequence number is near what the real server takes next, as far as that is
    /// known, so that no stranger closes a connection.
    pub fn believes_fin(&self, sequence: u32) -> bool {
        let near = |expected: u32| {
            let ahead = sequence.wrapping_sub(expected) as i32;
            ahead.unsigned_abs() < WINDOW
        };
        self.acknowledged(true).is_none_or(near)
    }

    /// Whether a UDP flow's last datagram was the client's. No other reply of it can be under way if it was not.
    pub fn awaits_datagram(&self) -> bool {
        self.marks[1] == 0
    }

    /// Of a template: how many live connections it has.
    #[inline]
    pub fn controlled(&self) -> u32 {
        self.marks[0]
    }

    pub fn set_controlled(&mut self, controlled: u32) {
        self.marks[0] = controlled;
    }

    /// Of a template: its service. A connection's is known by its real server.
    pub fn template_service(&self) -> ServiceId {
        ServiceId(self.marks[1])
    }

    /// What the translation and one less of TTL do to the header checksum of a request or reply, and what the
    /// translation does to the checksum of TCP or UDP.
    #[inline(always)]
    pub fn deltas(&self, reply: bool) -> (Delta, Delta) {
        let replies_ip = self.ip_delta.inverse().and(Delta::TTL_TWICE);
        (
            select_unpredictable(reply, replies_ip, self.ip_delta),
            select_unpredictable(reply, self.l4_delta.inverse(), self.l4_delta),
        )
    }

    /// The addresses and ports that a request or reply is to have: what the other side sends to, answering it.
    #[inline(always)]
    pub fn translated(&self, reply: bool) -> K {
        // Requests and replies come in any order: a branch would be guessed wrong every other time.
        select_unpredictable(reply, self.request, self.reply).reversed()
    }

    /// The remembered next hop of requests or replies; of none, and of a [wrapped](Self::is_wrapped) one's requests, a number
    /// that is no neighbour's.
    #[inline(always)]
    pub fn any_hop(&self, reply: bool) -> HopId {
        HopId(self.hops[usize::from(reply)])
    }

    /// As [`any_hop`](Self::any_hop), of a wrapped connection's requests.
    #[inline(always)]
    pub fn any_wrapped_hop(&self) -> HopId {
        self.any_hop(true)
    }

    /// The remembered next hop of requests or replies.
    #[inline(always)]
    pub fn hop(&self, reply: bool) -> Option<HopId> {
        Some(self.any_hop(reply || self.is_wrapped())).filter(|hop| hop.0 != NO_HOP)
    }

    pub fn set_hop(&mut self, reply: bool, hop: Option<HopId>) {
        self.hops[usize::from(reply || self.is_wrapped())] = hop.map_or(NO_HOP, |hop| hop.0);
    }

    /// Takes over the next hops that a copy of this connection has found.
    pub fn remember_hops(&mut self, from: &Self) {
        self.hops = from.hops;
        self.route_generation = from.route_generation;
    }

    pub fn is_template(&self) -> bool {
        self.state == State::Template
    }

    /// Forgets the next hops, found by an older routing table than this one.
    pub fn forget_hops(&mut self, route_generation: u16) {
        self.hops = [NO_HOP; 2];
        self.route_generation = route_generation;
    }

    /// Where packets in this direction go to, after the translation.
    pub fn destination(&self, reply: bool) -> K::Address {
        if reply {
            self.request.source()
        } else {
            self.reply.source()
        }
    }

    /// A template that binds all connections of a client with `key` to a real server.
    pub fn template(key: K, timeout_ms: u32, service: ServiceId, real: RealId) -> Self {
        Connection {
            request: key,
            reply: key,
            template: timeout_ms,
            state: State::Template,
            marks: [0, service.0],
            real,
            ..Connection::FREE
        }
    }

    /// How long it may be silent.
    #[inline(always)]
    pub fn timeout(&self, timeouts: &Timeouts) -> u32 {
        if self.state == State::Template {
            self.template
        } else {
            timeouts.of(self.state)
        }
    }

    /// Whether a connection that is no template has been silent for too long.
    #[inline(always)]
    pub fn is_silent(&self, timeouts: &Timeouts, now: Millis) -> bool {
        now.since(self.last_seen) >= timeouts.of(self.state)
    }

    /// Whether it has been silent for too long. A template lives on with its connections.
    #[inline(always)]
    pub fn is_expired(&self, timeouts: &Timeouts, now: Millis) -> bool {
        now.since(self.last_seen) >= self.timeout(timeouts)
            && (self.state != State::Template || self.controlled() == 0)
    }

    /// How much is lost if it is given up for another; none: never.
    pub fn worth(&self) -> Option<Worth> {
        match self.state {
            State::Template if self.controlled() > 0 => None,
            State::Template => Some(Worth::Idle),
            State::Udp | State::Icmp if self.is_two_way() && !self.is_answered() => {
                Some(Worth::Unproven)
            }
            State::Udp | State::Icmp => Some(Worth::Idle),
            state if state.is_over(self.is_two_way()) => Some(Worth::Over),
            state if state.is_half_open() => Some(Worth::Unproven),
            // Anyone can forge a FIN: it leaves the proof of a handshake as it was.
            state if state.is_half_closed() && self.flags & PROVED == 0 => Some(Worth::Unproven),
            _ => None,
        }
    }

    /// The client, as (address, port).
    pub fn client(&self) -> (K::Address, u16) {
        (self.request.source(), self.request.source_port())
    }
}
