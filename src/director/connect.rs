//! Comes here: a client's first packet, with the real server that was chosen for it. Makes the connection: room for it, a
//! local pair, its entry.

use super::crossing::Beside;
use super::fair;
use super::family::Family;
use super::flow::{Way, count, direction};
use super::live::{Live, Rivals, Room};
use super::parse::Flow;
use super::sctp::{first_state, is_sctp};
use super::{Core, Turn, has_handshake, is_tcp};
use crate::config::ClientAddress;
use crate::conn::entry::NO_TEMPLATE;
use crate::conn::local_port::{Choice, Effort, Look, Pair, Pairs, choose, expected};
use crate::conn::state::next_tcp;
use crate::conn::{Address, ConnId, Connection, Key, Pool, State, Told, Worth};
use crate::connection_log::Cause;
use crate::packet::{Packet, Sink};
use crate::sched::is_overloaded;
use crate::service::Real;
use crate::tables::{Port, Service, Tables};
use crate::units::{Millis, WorkerId};
use crate::verdict::DropReason;
use std::net::IpAddr;
use std::sync::Arc;

/// Why there is no connection.
pub(super) enum Unmade {
    /// For this packet.
    Drop(DropReason),
    /// With this real server: another one may have what it takes.
    NotHere(DropReason),
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Makes the connection of a client's first packet.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn connect<S: Sink<Packet = P>>(
        &mut self,
        flow: &Flow<F>,
        service: &Service,
        real: Real,
        way: Way,
        template: Option<ConnId>,
        effort: &mut Effort,
        turn: &mut Turn<'_, S>,
    ) -> Result<ConnId, Unmade> {
        let (tables, now) = (turn.tables, turn.now);
        let key = &flow.key;
        let coarse = now.millis();
        let (tcp, has_handshake) = (is_tcp(flow), has_handshake(flow));
        let address = match F::address(real.address) {
            Some(address) => address,
            // Its packets go to it inside others of its own family.
            None if service.mode.wraps => F::Address::UNSPECIFIED,
            None => return Err(Unmade::NotHere(DropReason::NoRoute)),
        };
        // A real server in the client's own subnet would answer past weir.
        let hairpin = match &service.pool {
            None if service.mode.sees_replies => hairpin(tables.port(way.port), key.source()),
            _ => None,
        };
        let pool = service.pool.as_ref().or(hairpin);
        if pool.is_none() && key.source() == address {
            return Err(Unmade::Drop(DropReason::Hairpin));
        }
        let hash = self.live.table.hash(key);
        let syn = has_handshake.then_some(hash);
        let room = self.live.make_room(service.id, syn, coarse);
        self.reset_given_up(tables, turn.sink);
        match room {
            Room::Yes => {}
            Room::No => return Err(Unmade::Drop(DropReason::ConnectionTableFull)),
            Room::Later => return Err(Unmade::Drop(DropReason::SynFlood)),
        }
        let real_port = real.port_for(key.destination_port());
        let reply_key =
            |(local, port)| F::Key::new(address, real_port, local, port, key.protocol());
        let local = match pool {
            None => None,
            Some(pool) => {
                let pair =
                    self.local_pair(pool, service, &real, flow, reply_key, syn, effort, turn)?;
                self.reset_given_up(tables, turn.sink);
                self.reset_left(&reply_key(pair), tables, turn.sink);
                Some(pair)
            }
        };
        let translation = service.mode.translation(key, (address, real_port), local);
        let mut connection = Connection::new(*key, translation, real.id);
        connection.state = match tcp {
            true => next_tcp(State::None, direction(&connection, false), flow.flags),
            false if is_sctp(flow) => first_state::<F>(&connection, flow.flags),
            false => State::Udp,
        };
        if !has_handshake {
            connection.set_begun(coarse);
        }
        // Without replies a scheduled segment in mid-connection may end it as soon as it begins.
        if connection.state == State::None {
            connection.state = State::Handshaken;
        }
        connection.last_seen = coarse;
        if tcp && service.tcp_mss.is_some() {
            connection.set_clamped();
        }
        connection.route_generation = tables.route_generation;
        connection.set_hop(false, way.hop);
        connection.template = template.map_or(NO_TEMPLATE, |template| template.0);
        let is_active = connection.state.is_active();
        let reply = connection.is_two_way().then_some(connection.reply);
        let is_taken = match reply {
            // A pair was chosen for which no connection has this key.
            Some(reply) if local.is_some() => reply == *key,
            Some(reply) => reply == *key || !self.live.vacate(&reply, Rivals::Idle, tables, coarse),
            None => false,
        };
        if is_taken {
            return Err(Unmade::NotHere(DropReason::AmbiguousReply));
        }
        if service.pool.is_some() && service.persistence.is_none() && self.is_stray(flow) {
            connection.set_stray();
        }
        let told = match service.client_address {
            ClientAddress::None => Told::default(),
            tells => {
                let client: IpAddr = key.source().into();
                Told::of(tells, tcp, client.is_ipv6())
            }
        };
        if told != Told::default() && !self.live.keeps_told() {
            return Err(Unmade::Drop(DropReason::ConnectionTableFull));
        }
        let reply = reply.map(|reply| self.live.table.hash(&reply));
        let id = self.live.add(connection, hash, reply, service.id);
        let id = id.ok_or(Unmade::Drop(DropReason::ConnectionTableFull))?;
        if told != Told::default() {
            self.live.set_told(id, told);
        }
        if !has_handshake && !connection.is_two_way() {
            self.live.assure(&connection);
        }
        self.sweep.connection_made();
        if let Some(guard) = &service.guard {
            self.note_begun(guard, service.id, id, flow, now);
        }
        if hairpin.is_some() {
            self.live.counters.hairpins.add(1);
        }
        // Reserved before the real server was published.
        if let Some(stats) = self.live.counters.reals.get(real.id.index()) {
            // Also of a client that persistence binds to it, which is not asked for before.
            let has_thresholds = real.thresholds.is_some();
            if has_thresholds {
                is_overloaded(&real, &self.shared.stats);
            }
            let counters = &stats.counters;
            counters.connections.add(1);
            self.live.counters.connection_begun(real.id, is_active);
            count(counters, flow, false);
            if has_thresholds {
                is_overloaded(&real, &self.shared.stats);
            }
        }
        Ok(id)
    }

    /// A local pair towards a real server: a free one, or one that another connection is given up for.
    #[expect(clippy::too_many_arguments)]
    fn local_pair<S: Sink<Packet = P>>(
        &mut self,
        pool: &Pool,
        service: &Service,
        real: &Real,
        flow: &Flow<F>,
        reply_key: impl Fn(Pair<F::Address>) -> F::Key,
        syn: Option<u64>,
        effort: &mut Effort,
        turn: &Turn<'_, S>,
    ) -> Result<Pair<F::Address>, Unmade> {
        let (tables, now) = (turn.tables, turn.now.millis());
        // The counters' memory, which the table's borrower does not change.
        let counters = self.live.counters.clone();
        let exhausted = Unmade::NotHere(DropReason::LocalPortsExhausted);
        let Some(stats) = counters.reals.get(real.id.index()) else {
            return Err(exhausted);
        };
        let noted = counters.pairs.get(real.id.index());
        let noted = noted.filter(|_| service.pool.is_some());
        let used = counters.loads.get(real.id.index()).map_or(0, fair::used);
        if let Some(noted) = noted
            && fair::is_scarce(pool, self.shared.steering.workers(), used)
        {
            if noted.press() {
                counters.pressed.add(1);
            }
            if self.holds_too_much(pool, used, flow, &reply_key, tables, now) {
                return Err(Unmade::NotHere(DropReason::LocalPortsUnfair));
            }
        }
        let hint = self.live.take_hint(real.id);
        let mut pairs = Local {
            live: &mut self.live,
            shared: &self.shared.steering,
            worker: self.worker,
            reply_key: &reply_key,
            beside: &turn.beside,
            tables,
            now,
        };
        let hinted = hint
            .filter(|pair| pool.contains(*pair) && pairs.is_ours(*pair))
            .and_then(|pair| match pairs.look(pair) {
                Look::Free => Some(Choice::Free(pair)),
                Look::Held(held) if effort.takes_idle || held.worth != Worth::Idle => {
                    Some(Choice::Held(pair, held))
                }
                Look::Held(_) | Look::Kept => None,
            });
        let start = u64::from(real.id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let start = (self.shared.seed ^ start) as u32;
        let chosen = hinted.or_else(|| choose(pool, &stats.pairs, start, now, effort, &mut pairs));
        // Where the next connection to this real server will look: in this burst, most probably.
        pairs.fetch(expected(pool, &stats.pairs));
        match chosen {
            None => {
                if let Some(noted) = noted {
                    noted.exhausted.add(1);
                }
                Err(exhausted)
            }
            Some(Choice::Free(pair)) => {
                if let Some(noted) = noted {
                    noted.note(used.saturating_add(1));
                }
                Ok(pair)
            }
            Some(Choice::Held(pair, held)) => {
                // One pair in N is this worker's, and a flood is spread over all real servers.
                let all = u64::from(pool.size()) * service.choices().len() as u64;
                let places = all / self.shared.steering.workers() as u64;
                let places = u32::try_from(places).unwrap_or(u32::MAX);
                match self.live.give_up(held, places, syn, now) {
                    Room::Yes => Ok(pair),
                    _ => Err(Unmade::NotHere(DropReason::SynFlood)),
                }
            }
        }
    }

    /// Ends at their real servers the connections that were given up just now: their local pairs are free.
    pub(super) fn reset_given_up<S: Sink<Packet = P>>(&mut self, tables: &Tables, sink: &mut S) {
        while let Some(reply) = self.live.take_given_up() {
            self.reset_left(&reply, tables, sink);
        }
    }

    /// Ends at its real server what a local pair was used for until now, so that the next connection from it meets nothing
    /// of the old one: a reset with the sequence number that the real server takes next (RFC 9293 section 3.10.7.4;
    /// TIME-WAIT ends by it as well, so that RFC 6191 is not needed). `reply`: the key of its replies to the pair.
    pub(super) fn reset_left<S: Sink<Packet = P>>(
        &mut self,
        reply: &F::Key,
        tables: &Tables,
        sink: &mut S,
    ) {
        let Some(sequence) = self.live.take_left(reply) else {
            return;
        };
        let from = (reply.destination(), reply.destination_port());
        let to = (reply.source(), reply.source_port());
        self.send_reset(from, to, sequence, tables, sink);
    }
}

/// The local pairs for a client in a subnet of the port that leads to its real server; none for all others.
fn hairpin<A: Address>(port: &Port, client: A) -> Option<&Arc<Pool>> {
    let client = client.into();
    match port.is_on_link(client) {
        true => port.hairpin.of(client).as_ref(),
        false => None,
    }
}

/// A worker's view of the local pairs towards one real server.
pub(super) struct Local<'a, F: Family, K, P> {
    pub live: &'a mut Live<F>,
    pub shared: &'a crate::steering::Steering,
    pub worker: WorkerId,
    pub reply_key: &'a K,
    pub beside: &'a Beside<'a, P>,
    pub tables: &'a Tables,
    pub now: Millis,
}

impl<F: Family, K: Fn(Pair<F::Address>) -> F::Key, P> Pairs<F::Address> for Local<'_, F, K, P> {
    fn is_ours(&self, pair: Pair<F::Address>) -> bool {
        self.shared.owner(&(self.reply_key)(pair)) == self.worker
    }

    fn fetch(&self, pair: Pair<F::Address>) {
        let table = &self.live.table;
        table.prefetch_bucket(table.hash(&(self.reply_key)(pair)));
    }

    fn guess(&self, pair: Pair<F::Address>) {
        let table = &self.live.table;
        table.guess(table.hash(&(self.reply_key)(pair)));
    }

    fn look(&mut self, pair: Pair<F::Address>) -> Look {
        let key = (self.reply_key)(pair);
        let table = &self.live.table;
        let Some(found) = table.find(table.hash(&key), &key) else {
            return match self.beside.has_reply(&key) {
                true => Look::Kept,
                false => Look::Free,
            };
        };
        let timing = &self.tables.timing;
        if timing.is_expired(table.get(found.id), self.now) {
            self.live.end(found.id, Cause::Timeout);
            return Look::Free;
        }
        match self.live.held(found.id, self.now) {
            Some(held) => Look::Held(held),
            None => Look::Kept,
        }
    }
}
