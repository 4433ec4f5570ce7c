//! Comes here: an SCTP packet (RFC 9260), where a service has ever had that protocol. Its association is a connection as any other;
//! what it does to that, its first chunk says. No packet of it takes the fast way, whose packets so are not asked about SCTP.
//!
//! A flow's flags say of SCTP what they say of TCP: SYN opens (INIT; with ACK, INIT ACK), RST ends (ABORT), all else has ACK alone.
//!
//! Where replies are seen, an association has one path, as the addresses that both sides tell are hidden (`forward/rewrite.rs`). A
//! client's packet then changes a state only if it has the verification tag that the real server has chosen (section 8.5).

use super::family::{Family, Wire};
use super::flow::service_key;
use super::local::message_of;
use super::parse::{Datagram, Flow, Kind};
use super::{Core, Outcome, Turn};
use crate::conn::sctp::next_sctp;
use crate::conn::{Connection, Found, Key, State};
use crate::net::protocol;
use crate::packet::{Packet, Sink};
use crate::verdict::{DropReason, PacketContext, Verdict};
use crate::wire::ethernet;
use crate::wire::sctp::{Event, Sctp};
use crate::wire::tcp::Flags;

/// Whether a flow is of SCTP.
pub(super) fn is_sctp<F: Family>(flow: &Flow<F>) -> bool {
    flow.key.protocol() == protocol::SCTP
}

/// What a packet says as a TCP segment's flags would.
pub(super) fn flags<T: AsRef<[u8]>>(packet: &Sctp<T>) -> Flags {
    Flags(match packet.event() {
        Event::Init => Flags::SYN,
        Event::InitAck => Flags::SYN | Flags::ACK,
        Event::Abort => Flags::RST,
        _ => Flags::ACK,
    })
}

/// The state of a new connection that a packet with these flags has made.
pub(super) fn first_state<F: Family>(connection: &Connection<F::Key>, flags: Flags) -> State {
    let event = match flags {
        flags if flags.opens() => Event::Init,
        flags if flags.rst() => Event::Abort,
        _ => Event::Data,
    };
    let direction = super::flow::direction(connection, false);
    next_sctp(State::None, direction, event)
}

/// The flow of a whole packet, if it is one that a host takes.
pub fn flow_of<F: Wire>(frame: &[u8], datagram: &Datagram<F>) -> Option<Flow<F>> {
    let packet = Sctp::new_checked(message_of(frame, datagram)).ok()?;
    let ports = (packet.source_port(), packet.destination_port());
    let (source, destination) = (datagram.source, datagram.destination);
    Some(Flow {
        key: F::Key::new(source, ports.0, destination, ports.1, protocol::SCTP),
        layout: datagram.layout,
        flags: flags(&packet),
        ttl: F::ttl(frame),
        length: datagram.length,
        kind: Kind::Unusual,
    })
}

/// Whether a fragment of a connection cannot be translated: the checksum, which the ports are in, covers the whole packet, and the
/// addresses that an INIT or INIT ACK tells may be in any part of it.
pub(super) fn is_untranslatable<F: Family>(
    connection: &Connection<F::Key>,
    flow: &Flow<F>,
) -> bool {
    flow.kind.is_fragment()
        && is_sctp(flow)
        && (connection.changes_ports() || connection.translates() && flow.flags.syn())
}

impl<F: Wire, P: Packet> Core<F, P> {
    /// A whole packet, with its flow if it is one that a host takes.
    pub(super) fn sctp<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: Option<Flow<F>>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let Some(flow) = flow else {
            let malformed = Verdict::Drop(DropReason::BadL4Header);
            return (malformed, PacketContext::default());
        };
        let table = &self.live.table;
        match table.find(table.hash(&flow.key), &flow.key) {
            Some(found) => self.known_unusual(packet, &flow, found, turn),
            None => {
                let target = turn.tables.target(&service_key(&flow.key));
                self.unknown(packet, &flow, target, turn)
            }
        }
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Brings an association into the state that a packet leads to, and keeps the tags that later ones are held against.
    pub(super) fn step_sctp(&mut self, packet: &P, flow: &Flow<F>, found: Found) {
        let end = ethernet::HEADER_LEN + usize::from(flow.length);
        let bytes = packet.data().get(usize::from(flow.layout.l4)..end);
        let Some(Ok(header)) = bytes.map(Sctp::new_part) else {
            return;
        };
        let connection = self.live.table.get_mut(found.id);
        if connection.is_two_way() {
            if is_forged(connection, &header, found.reply) {
                return;
            }
            match found.reply {
                true => note_tags(connection, &header),
                // Of several INIT ACKs the one that the client has taken.
                false
                    if header.event() == Event::CookieEcho
                        && connection.state.is_half_open()
                        && connection.tag(true).is_none() =>
                {
                    connection.set_tag(true, header.tag());
                }
                false => {}
            }
        }
        let direction = super::flow::direction(connection, found.reply);
        let before = connection.state;
        let next = next_sctp(before, direction, header.event());
        if next != before {
            self.live.enter(found.id, next);
        }
    }
}

/// Keeps what a real server's packet tells: the tag that the client has chosen, which it has itself, and in the answer to an INIT
/// that of the real server. An established association that begins again (section 5.2) has others from its COOKIE ACK on: what the
/// real server's is then is not known, and the client's packets are believed.
fn note_tags<K: Key>(connection: &mut Connection<K>, header: &Sctp<&[u8]>) {
    let (event, tag) = (header.event(), header.tag());
    let is_beginning = connection.state.is_half_open();
    let own = header.initiate_tag().unwrap_or(0);
    match event {
        // It may answer an INIT that is not the client's.
        Event::Abort => return,
        Event::InitAck if !is_beginning => return,
        Event::InitAck => match (connection.tag(false), connection.tag(true)) {
            (None, _) => connection.set_tag(true, own),
            // Another one, to a repeated INIT: which of them the client takes, its COOKIE ECHO tells.
            (Some(_), Some(known)) if known != own => connection.set_tag(true, 0),
            (Some(_), _) => {}
        },
        Event::CookieAck if !is_beginning && connection.tag(false) != Some(tag) => {
            connection.set_tag(true, 0);
        }
        _ => {}
    }
    if !header.is_tag_reflected() {
        connection.set_tag(false, tag);
    }
}

/// Whether a packet has another tag than it must have, as far as that is known: any of the client's; of the real server's only an
/// ABORT, which answers whatever comes (section 8.4). An INIT has none, and before the real server's INIT ACK the client knows none to
/// abort with.
fn is_forged<K: Key>(connection: &Connection<K>, header: &Sctp<&[u8]>, reply: bool) -> bool {
    let (event, is_reflected) = (header.event(), header.is_tag_reflected());
    let is_told = connection.tag(true).is_some() || connection.tag(false).is_some();
    match (reply, event) {
        (true, Event::Abort) | (false, _) => {}
        (true, _) => return false,
    }
    if !reply && event == Event::Abort && connection.state.is_half_open() && !is_told {
        return true;
    }
    let expected = connection.tag(reply == is_reflected);
    event != Event::Init && expected.is_some_and(|tag| tag != header.tag())
}
