//! A worker's live connections: the table, and what is counted along with it. Every entry comes and goes here.

use super::Shared;
use super::exhausted::{Exhausted, Remote};
use super::family::Family;
use super::flood::Flood;
use crate::admission::{self, Clients};
use crate::arch::NoMemory;
use crate::conn::entry::{NO_TEMPLATE, Worth};
use crate::conn::local_port::{Held, Pair};
use crate::conn::{Address, ConnId, Connection, Key, State, Table, Told};
use crate::connection_log::Cause;
use crate::exchange::Mailbox;
use crate::net::protocol;
use crate::record::TableMemory;
use crate::stats::WorkerStats;
use crate::tables::Tables;
use crate::units::{Millis, RealId, ServiceId, Time, WorkerId};
use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(super) struct Live<F: Family> {
    pub table: Table<Connection<F::Key>>,
    /// This worker's own.
    pub counters: Arc<CachePadded<WorkerStats>>,
    shared: Arc<Shared>,
    flood: Flood,
    hints: [Hint<F::Address>; HINTS],
    /// The same of `[[snat]]`.
    pub exhausted: Exhausted<F::Address>,
    left: Box<[Left<F::Key>; LEFT]>,
    /// Services that have connections here.
    services: usize,
    /// Where the next search for an entry to give up begins.
    victim: u32,
    /// Where the last one was found.
    fertile: u32,
    /// The keys of the replies of connections that were given up, and whose real servers have to be told.
    given_up: ArrayVec<F::Key, 3>,
    /// Those that services with limits per client have here; one for all of them.
    clients: Option<Arc<Clients>>,
    /// Where the connection log hears of connections.
    pub mailbox: Arc<Mailbox>,
    pub worker: WorkerId,
    /// The time, at most a millisecond ago.
    pub clock: Time,
}

/// A local pair that has become free, or can be taken over, of a real server whose pool was exhausted.
#[derive(Clone, Copy)]
struct Hint<A> {
    real: RealId,
    pair: Pair<A>,
}

const HINTS: usize = 64;

impl<A: Address> Hint<A> {
    const NONE: Self = Hint {
        real: RealId(u32::MAX),
        pair: (A::UNSPECIFIED, 0),
    };
}

/// What a real server may still hold of a fullnat connection that has ended: a later connection from the same local pair
/// must not meet it.
#[derive(Clone, Copy, Default)]
struct Left<K> {
    reply: K,
    /// The sequence number that the real server takes next.
    next: u32,
}

/// A datagram is answered within this time, or never.
pub(super) const ANSWER_MS: u32 = 3000;

/// As pairs have their turns far apart, only those of small pools are used again while they are remembered.
const LEFT: usize = 256;

/// Entries among which one is given up, when the table is full …
const CANDIDATES: u32 = 64;
/// … and the most that are looked at where those that are kept stand close together.
const MAX_CANDIDATES: u32 = 1024;

/// Whether there is room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    No,
    /// At the second attempt: see [`Flood`].
    Later,
}

/// Which connections give way to a new one that would have the same replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rivals {
    /// Those whose time is over, or that are over for both sides.
    Over,
    /// Also those whose real server is gone, and UDP flows that their real server has answered, or will not answer any more.
    Idle,
}

impl<F: Family> Live<F> {
    /// `kept`: memory for entries, and for what is told of their clients, that outlives the process.
    pub(super) fn new(
        capacity: usize,
        kept: Option<TableMemory<Connection<F::Key>>>,
        shared: Arc<Shared>,
        counters: Arc<CachePadded<WorkerStats>>,
        (worker, mailbox): (WorkerId, Arc<Mailbox>),
    ) -> Result<Self, NoMemory> {
        let table = match kept {
            None => Table::new(capacity, shared.seed)?,
            Some((entries, told)) => {
                counters.told[F::TABLE].set_place(told);
                Table::over(entries, shared.seed)?
            }
        };
        for beside in [&counters.told, &counters.begun, &counters.logged] {
            beside[F::TABLE].set_entries(table.capacity());
        }
        Ok(Live {
            table,
            counters,
            shared,
            flood: Flood::new()?,
            hints: [Hint::NONE; HINTS],
            exhausted: Exhausted::new(),
            left: Box::new([Left::default(); LEFT]),
            services: 0,
            victim: 0,
            fertile: 0,
            given_up: ArrayVec::new(),
            clients: None,
            mailbox,
            worker,
            clock: Time::default(),
        })
    }

    /// Adds a connection of `service` whose keys are known to be no other's. None when the table is full.
    pub(super) fn add(
        &mut self,
        connection: Connection<F::Key>,
        hash: u64,
        reply: Option<u64>,
        service: ServiceId,
    ) -> Option<ConnId> {
        let id = self.table.add(connection, hash, reply)?;
        self.counters.connections.add(1);
        if let Some(stats) = self.counters.services.get(service.index()) {
            let live = F::live(stats);
            self.services += usize::from(live.get() == 0);
            live.inc();
        }
        if connection.is_stray() {
            self.shared.strays.fetch_add(1, Relaxed);
        }
        if let Some(records) = self.mailbox.records.get() {
            self.log_start(records, id, service);
        }
        Some(id)
    }

    /// Takes a live connection out of the table and the counts; the template that only it has used as well, unless one
    /// that the template bound was established.
    /// `cause`: where neither its state nor its real server tells a better one.
    pub(super) fn end(&mut self, id: ConnId, cause: Cause) {
        let connection = *self.table.get(id);
        self.table.remove(id);
        self.counters.connections.sub(1);
        let real = self.counters.reals.get(connection.real.index());
        let service = match connection.is_template() {
            true => Some(connection.template_service()),
            false => real.map(|real| real.standing.service()),
        };
        let stats = service.and_then(|service| self.counters.services.get(service.index()));
        if let Some(stats) = stats {
            let live = F::live(stats);
            live.dec();
            self.services -= usize::from(live.get() == 0);
            if connection.is_template() {
                stats.templates.dec();
            } else if stats.counts_clients.get() != 0 {
                self.tell_client(&connection, service);
            }
        }
        if connection.is_template() {
            return;
        }
        if let Some(records) = self.mailbox.records.get() {
            self.log_end(records, id, &connection, cause);
        }
        let told = match real.is_some_and(|real| real.standing.tells()) {
            true => self.told(id),
            false => Told::default(),
        };
        if told != Told::default() {
            self.set_told(id, Told::default());
        }
        if real.is_some_and(|real| real.standing.times()) {
            self.await_nothing(id, &connection);
        }
        if let Some(real) = real {
            if let Some(load) = self.counters.loads.get(connection.real.index()) {
                match connection.state.is_active() {
                    true => load.active.dec(),
                    false => load.inactive.dec(),
                }
            }
            if real.pairs.exhausted_at.get() != 0 {
                self.hint(&connection);
            }
        }
        if connection.has_local_pair()
            && connection.request.protocol() == protocol::TCP
            && let Some(next) = connection.acknowledged(true)
        {
            let (reply, next) = (connection.reply, told.to_real(next));
            let place = self.place_left(&reply);
            self.left[place] = Left { reply, next };
        }
        if connection.is_stray() {
            self.shared.strays.fetch_sub(1, Relaxed);
        }
        if connection.template != NO_TEMPLATE {
            self.release(ConnId(connection.template));
        }
    }

    /// A client has one connection fewer of a service that counts them.
    #[cold]
    fn tell_client(&self, connection: &Connection<F::Key>, service: Option<ServiceId>) {
        if let (Some(clients), Some(service)) = (&self.clients, service) {
            let client = admission::client(connection.request.source().into());
            clients.end(clients.key(service, client));
        }
    }

    /// The clients of a service are told of the ends of its connections from now on.
    pub(super) fn count_clients(&mut self, service: ServiceId, clients: &Arc<Clients>) {
        if let Some(stats) = self.counters.services.get(service.index()) {
            stats.counts_clients.set(1);
        }
        if self.clients.is_none() {
            self.clients = Some(clients.clone());
        }
    }

    /// A template was added.
    pub(super) fn note_template(&self, service: ServiceId) {
        if let Some(stats) = self.counters.services.get(service.index()) {
            stats.templates.inc();
        }
    }

    /// What can be given up of a connection that proves nothing, if it is one of this service.
    pub(super) fn unproven(&self, id: ConnId, service: ServiceId, now: Millis) -> Option<Held> {
        self.table.live(id.0)?;
        let held = self.held(id, now)?;
        let connection = self.table.get(id);
        // Without replies nothing tells it from one that serves a client.
        let may_serve = connection.state == State::Handshaken && !connection.is_two_way();
        let is_its = self.service_of(id) == Some(service);
        (is_its && held.worth != Worth::Idle && !may_serve).then_some(held)
    }

    /// What the real server of a connection is told of its client, and how far that has got.
    pub(super) fn told(&self, id: ConnId) -> Told {
        let bits = self.counters.told[F::TABLE].get(id.0);
        bits.map_or_else(Told::default, Told::from_bits)
    }

    pub(super) fn set_told(&self, id: ConnId, told: Told) {
        self.counters.told[F::TABLE].set(id.0, told.to_bits());
    }

    /// Whether there is the memory to keep it.
    pub(super) fn keeps_told(&self) -> bool {
        self.counters.told[F::TABLE].get(0).is_some()
    }

    /// One connection fewer holds a template.
    pub(super) fn release(&mut self, template: ConnId) {
        let entry = self.table.get_mut(template);
        let left = entry.controlled().saturating_sub(1);
        entry.set_controlled(left);
        if left == 0 && !entry.is_answered() {
            self.end(template, Cause::Timeout);
        }
    }

    /// Brings a connection into another state, and the counts with it.
    pub(super) fn enter(&mut self, id: ConnId, next: State) {
        let connection = self.table.get_mut(id);
        let before = std::mem::replace(&mut connection.state, next);
        if next == State::Established {
            connection.set_proved();
        }
        if before.is_handshake() {
            connection.forget_failure();
        }
        let connection = *connection;
        if let Some(real) = self.counters.reals.get(connection.real.index()) {
            let load = self.counters.loads.get(connection.real.index());
            match (load, before.is_active(), next.is_active()) {
                (Some(load), true, false) => {
                    load.active.dec();
                    load.inactive.inc();
                }
                (Some(load), false, true) => {
                    load.inactive.dec();
                    load.active.inc();
                }
                _ => {}
            }
            if next.is_over(true) && real.pairs.exhausted_at.get() != 0 {
                self.hint(&connection);
            }
        }
        if matches!(next, State::Established | State::SctpEstablished) {
            self.assure(&connection);
        }
    }

    /// The template of a connection that has proved itself outlives it (`ip_vs_control_assure_ct`).
    pub(super) fn assure(&mut self, connection: &Connection<F::Key>) {
        if connection.template != NO_TEMPLATE {
            self.table
                .get_mut(ConnId(connection.template))
                .set_answered();
        }
    }

    /// Whether a connection has this key.
    pub(super) fn has(&self, key: &F::Key) -> bool {
        self.table.find(self.table.hash(key), key).is_some()
    }

    /// Whether no live connection has this key of replies. One that gives way is ended.
    pub(super) fn vacate(
        &mut self,
        key: &F::Key,
        rivals: Rivals,
        tables: &Tables,
        now: Millis,
    ) -> bool {
        let Some(found) = self.table.find(self.table.hash(key), key) else {
            return true;
        };
        let other = self.table.get(found.id);
        let is_over =
            tables.timing.is_expired(other, now) || other.state.is_over(other.is_two_way());
        let gives_way = is_over
            || rivals == Rivals::Idle && {
                let real = self.counters.reals.get(other.real.index());
                real.is_none_or(|real| real.ends_connections())
                    || other.state == State::Udp
                        && (!other.awaits_datagram()
                            || now.since(other.last_seen) >= ANSWER_MS
                            // A late reply to a flow that was over went outwards, and nothing answers it.
                            || other.is_outward() && !other.is_answered())
            };
        if gives_way {
            self.end(found.id, Cause::Displaced);
        }
        gives_way
    }

    /// The sequence number that the real server takes next from a local pair that a connection has left, once. `reply`: the
    /// key of its replies to the pair.
    pub(super) fn take_left(&mut self, reply: &F::Key) -> Option<u32> {
        let place = self.place_left(reply);
        let left = &mut self.left[place];
        (left.reply == *reply).then(|| std::mem::take(left).next)
    }

    fn place_left(&self, reply: &F::Key) -> usize {
        self.table.hash(reply) as usize % LEFT
    }

    /// What could be given up of an entry.
    pub(super) fn held(&self, id: ConnId, now: Millis) -> Option<Held> {
        let connection = self.table.get(id);
        Some(Held {
            id,
            worth: connection.worth()?,
            age: now.since(connection.last_seen),
        })
    }

    /// The local pair that has become available towards a real server whose pool was exhausted, once.
    pub(super) fn take_hint(&mut self, real: RealId) -> Option<Pair<F::Address>> {
        let hint = &mut self.hints[real.index() % HINTS];
        (hint.real == real).then(|| std::mem::replace(hint, Hint::NONE).pair)
    }

    #[cold]
    fn hint(&mut self, connection: &Connection<F::Key>) {
        let real = connection.real;
        let reply = &connection.reply;
        let pair = (reply.destination(), reply.destination_port());
        if connection.is_outward() {
            let remote = self.remote(real, reply);
            return self.exhausted.leave(remote, pair);
        }
        self.hints[real.index() % HINTS] = Hint { real, pair };
    }

    /// The remote end of a rule's connection. `reply`: the key of its replies.
    pub(super) fn remote(&self, rule: RealId, reply: &F::Key) -> Remote {
        let (address, port) = (reply.source(), reply.source_port());
        let key = F::Key::new(address, port, F::Address::UNSPECIFIED, 0, reply.protocol());
        Remote::new(rule, self.table.hash(&key))
    }

    /// A remote end for one inside host.
    pub(super) fn remote_of_host(&self, remote: Remote, host: F::Address) -> Remote {
        let key = F::Key::new(host, 0, F::Address::UNSPECIFIED, 0, 0);
        remote.of_host(self.table.hash(&key))
    }

    /// Makes room for an entry of `service`: a full table gives another one up for it. A service that would have more
    /// than its share of a table that is nearly full gives up one of its own. What inside hosts have opened beyond the share of
    /// their rule of `[[snat]]` gives way at a first attempt: they do not shut clients out. `syn`: the hash of the flow whose SYN
    /// asks.
    pub(super) fn make_room(&mut self, service: ServiceId, syn: Option<u64>, now: Millis) -> Room {
        let services = self.services_with(service);
        let exceeds = self.exceeds_its_share(service, 1, services);
        let own = exceeds.then_some(service);
        if own.is_none() && !self.table.is_full() {
            return Room::Yes;
        }
        let Some(held) = self.least(own, services, now) else {
            return Room::No;
        };
        let its = self.service_of(held.id);
        let is_surplus = own.is_none()
            && self.table.get(held.id).is_outward()
            && its.is_some_and(|its| self.exceeds_its_share(its, 0, services));
        let syn = syn.filter(|_| !is_surplus);
        self.give_up(held, self.table.capacity() as u32, syn, now)
    }

    /// Takes the key of the replies of a connection that was given up, and has left a local pair.
    pub(super) fn take_given_up(&mut self) -> Option<F::Key> {
        self.given_up.pop()
    }

    /// Ends a connection for another one, in one of `places` that are all in use. `syn`: the hash of the flow whose SYN asks
    /// for it.
    #[cold]
    pub(super) fn give_up(
        &mut self,
        held: Held,
        places: u32,
        syn: Option<u64>,
        now: Millis,
    ) -> Room {
        let connection = *self.table.get(held.id);
        if let Some(hash) = syn
            && connection.state.is_half_open()
            && !self.flood.admits(hash, held.age, places, now)
        {
            return Room::Later;
        }
        self.end(held.id, Cause::Evicted);
        self.counters.evicted.add(1);
        if connection.has_local_pair() {
            // There is room for a template's, a connection's and a pair's, and they are taken before the next.
            let _ = self.given_up.try_push(connection.reply);
        }
        Room::Yes
    }

    /// Of the next few entries the one that is given up first: of that service if one is named, else of a service that has
    /// more than its share. No connection established in earnest is given up; where many of them stand together,
    /// the search goes on where it last found something.
    #[cold]
    fn least(&mut self, own: Option<ServiceId>, services: usize, now: Millis) -> Option<Held> {
        let least = self.least_from_here(own, services, now).or_else(|| {
            self.victim = self.fertile;
            self.least_from_here(own, services, now)
        });
        if let Some(least) = least {
            self.fertile = least.id.0;
        }
        least
    }

    fn least_from_here(
        &mut self,
        own: Option<ServiceId>,
        services: usize,
        now: Millis,
    ) -> Option<Held> {
        let size = self.table.high_water();
        let mut least: Option<(bool, Held)> = None;
        let has_a_choice = own.is_none() && services > 1;
        for looked in 0..MAX_CANDIDATES.min(size) {
            if looked >= CANDIDATES && least.is_some() {
                break;
            }
            if self.victim >= size {
                self.victim = 0;
            }
            let id = ConnId(self.victim);
            self.victim += 1;
            if self.table.live(id.0).is_none()
                || own.is_some_and(|own| self.service_of(id) != Some(own))
            {
                continue;
            }
            let Some(held) = self.held(id, now) else {
                continue;
            };
            let is_within_its_share = has_a_choice
                && held.worth != Worth::Over
                && !(self.service_of(id))
                    .is_some_and(|its| self.exceeds_its_share(its, 0, services));
            let goes_before = |(within, least): (bool, Held)| match is_within_its_share == within {
                true => held.goes_before(&least),
                false => within,
            };
            if least.is_none_or(goes_before) {
                least = Some((is_within_its_share, held));
            }
        }
        least.map(|(_, held)| held)
    }

    fn service_of(&self, id: ConnId) -> Option<ServiceId> {
        let connection = self.table.get(id);
        if connection.is_template() {
            return Some(connection.template_service());
        }
        let real = self.counters.reals.get(connection.real.index())?;
        Some(real.standing.service())
    }

    /// Whether the table is nine tenths full, and a service that has so many entries more than now has more than an even
    /// share of it, among so many services.
    fn exceeds_its_share(&self, service: ServiceId, more: usize, services: usize) -> bool {
        let capacity = self.table.capacity();
        self.table.len() * 10 >= capacity * 9
            && services > 1
            && (self.live_of(service) + more) * services > capacity
    }

    /// How many services have connections here, as if this one had one already.
    fn services_with(&self, service: ServiceId) -> usize {
        self.services + usize::from(self.live_of(service) == 0)
    }

    fn live_of(&self, service: ServiceId) -> usize {
        let stats = self.counters.services.get(service.index());
        stats.map_or(0, |stats| F::live(stats).get() as usize)
    }

    /// Ends every connection: a clock that has leapt by more than any timeout leaves none alive.
    #[cold]
    pub(super) fn end_all(&mut self) {
        // Templates last: what they bound refers to them.
        for templates_too in [false, true] {
            for id in (0..self.table.high_water()).map(ConnId) {
                let is_due = |entry: &Connection<F::Key>| templates_too || !entry.is_template();
                if self.table.live(id.0).is_some_and(is_due) {
                    self.end(id, Cause::Clock);
                }
            }
        }
    }
}
