//! Before the first packet: takes over the connections of a former process, those that are this worker's.
//!
//! Every worker reads all of them, and inserts its own: none waits for another, and nothing is passed on. Whose one is may have
//! changed with the number of workers and the configuration: it goes where its packets will be looked for.

use super::family::Family;
use super::{Core, Director};
use crate::admission::client;
use crate::config::{ClientAddress, Protocol};
use crate::conn::entry::{NO_TEMPLATE, template_protocol};
use crate::conn::{Address, ConnId, Connection, Key, State, Told, Translation};
use crate::packet::Packet;
use crate::record::{Kept, Lost, Name, Record, Section};
use crate::service::ServiceKey;
use crate::tables::{Service, Tables};
use crate::units::{RealId, ServiceId, Time, WorkerId};
use foldhash::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What has become of a former process's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub connections: u64,
    /// Persistence templates.
    pub templates: u64,
    /// See [`Lost::Torn`].
    pub torn: u64,
    /// See [`Lost::Unknown`]; of another forwarding mode as well.
    pub unknown: u64,
    /// No worker would find both their requests and their replies, since there are more or fewer workers than before.
    pub unplaced: u64,
    /// There was no room for them.
    pub full: u64,
}

impl std::ops::AddAssign for Restored {
    fn add_assign(&mut self, other: Restored) {
        self.connections += other.connections;
        self.templates += other.templates;
        self.torn += other.torn;
        self.unknown += other.unknown;
        self.unplaced += other.unplaced;
        self.full += other.full;
    }
}

/// The worker that takes a connection over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    At {
        worker: WorkerId,
        /// Requests come to another worker, which asks for it.
        is_stray: bool,
    },
    Nowhere,
}

/// Whose a connection is under the present configuration.
enum Owner<'t> {
    Service(&'t Service),
    Rule(ServiceId),
}

/// A connection of another process, as its API tells of it.
#[derive(Clone, Debug)]
pub struct Assumed {
    /// It is one of a rule of `[[snat]]`.
    pub is_outward: bool,
    pub protocol: Protocol,
    /// Of a persistence template the masked address and port 0.
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub real: SocketAddr,
    /// What the real server sees in the place of the client, if that is another address or port.
    pub local: Option<SocketAddr>,
    pub state: State,
    /// Until it ends if it stays silent.
    pub left: Duration,
}

/// By the number of a former template's table and its own: where it is now.
type Templates = HashMap<(usize, u32), ConnId>;

impl<P: Packet> Director<P> {
    /// Takes this worker's connections over. `origin`: see [`Header::origin`](crate::record::Header::origin), of this process.
    pub fn restore(&mut self, kept: &Kept, origin: u64, tables: &Tables, now: Time) -> Restored {
        let mut restored = Restored::default();
        let later = kept.later(origin);
        self.v4
            .core
            .restore(kept, later, tables, now, &mut restored);
        if let Some(v6) = &mut self.v6 {
            v6.core.restore(kept, later, tables, now, &mut restored);
        }
        if let Some(crossing) = &mut self.crossing {
            crossing.restore(kept, later, tables, now, &mut restored);
        }
        restored
    }

    /// Has a connection as another process has it, but for what that does not tell: which bytes were acknowledged. False: the tables
    /// have no such service or real server, or there is no room.
    pub fn assume(&mut self, assumed: &Assumed, tables: &Tables, now: Time) -> bool {
        let (v6, crossing) = (&mut self.v6, &mut self.crossing);
        let made = (self.v4.core.assume(assumed, tables, now))
            .or_else(|| v6.as_mut()?.core.assume(assumed, tables, now))
            .or_else(|| crossing.as_mut()?.assume(assumed, tables, now));
        made.is_some()
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    fn restore(
        &mut self,
        kept: &Kept,
        later: u32,
        tables: &Tables,
        now: Time,
        restored: &mut Restored,
    ) {
        let mut templates = Templates::default();
        self.sweep.begin_at(now);
        // What templates bind refers to them.
        for templates_now in [true, false] {
            for (n, section) in kept.sections(F::TABLE).enumerate() {
                kept.records(section, |number, record| match record {
                    Ok(record) if record.connection.is_template() != templates_now => {}
                    Ok(record) => {
                        let place = (n, number);
                        self.take_over(
                            &record,
                            (kept, section, place),
                            later,
                            &mut templates,
                            tables,
                            now,
                            restored,
                        );
                    }
                    // Of these it is not known whose they are: the first worker counts them.
                    Err(why) if !templates_now && self.worker == WorkerId(0) => match why {
                        Lost::Torn => restored.torn += 1,
                        Lost::Unknown => restored.unknown += 1,
                    },
                    Err(_) => {}
                });
            }
        }
    }

    #[expect(clippy::too_many_arguments)]
    fn take_over(
        &mut self,
        record: &Record<F::Key>,
        (kept, section, place): (&Kept, &Section, (usize, u32)),
        later: u32,
        templates: &mut Templates,
        tables: &Tables,
        now: Time,
        restored: &mut Restored,
    ) {
        let Some(owner) = owner::<F>(record, tables) else {
            restored.unknown += u64::from(self.worker == WorkerId(0));
            return;
        };
        let is_stray = match self.home(record, &owner, kept, section, tables) {
            Home::At { worker, is_stray } if worker == self.worker => is_stray,
            Home::At { .. } => return,
            Home::Nowhere => {
                restored.unplaced += u64::from(self.worker == WorkerId(0));
                return;
            }
        };
        let service = match owner {
            Owner::Service(service) => service.id,
            Owner::Rule(service) => service,
        };
        let former = &record.connection;
        let mut connection = former.renewed(record.real, service, later, now.millis());
        connection.route_generation = tables.route_generation;
        if is_stray {
            connection.set_stray();
        }
        let template = templates.get(&(place.0, former.template)).copied();
        let template = template.filter(|_| !former.is_template() && former.template != NO_TEMPLATE);
        connection.template = match template {
            Some(template) => template.0,
            None => connection.template,
        };
        let Some(id) = self.insert(connection, service) else {
            restored.full += 1;
            return;
        };
        if former.is_template() {
            self.live.note_template(service);
            templates.insert(place, id);
            restored.templates += 1;
            return;
        }
        if let Some(template) = template {
            let template = self.live.table.get_mut(template);
            template.set_controlled(template.controlled() + 1);
        }
        if record.told != Told::default() {
            self.live.set_told(id, record.told);
        }
        (self.live.counters).connection_begun(record.real, connection.state.is_active());
        if let Owner::Service(service) = owner {
            self.count_client(&connection, service, id, now);
        }
        restored.connections += 1;
    }

    fn assume(&mut self, assumed: &Assumed, tables: &Tables, now: Time) -> Option<()> {
        let end = |end: SocketAddr| Some((F::address(end.ip())?, end.port()));
        let (client, vip) = (end(assumed.client)?, end(assumed.vip)?);
        let is_template = assumed.state == State::Template;
        let protocol = match is_template {
            true => template_protocol(assumed.protocol.number()),
            false => assumed.protocol.number(),
        };
        let request = F::Key::new(client.0, client.1, vip.0, vip.1, protocol);
        let local = assumed.local.and_then(end);
        let (service, mut connection) = if assumed.is_outward {
            let rule = tables.snat.of(assumed.client.ip())?;
            let (source, source_port) = local?;
            let translation = Translation {
                source,
                source_port,
                destination: vip.0,
                destination_port: vip.1,
                is_applied: true,
                sees_replies: true,
                is_wrapped: false,
            };
            let connection = Connection::new(request, translation, rule.real);
            (rule.service, connection)
        } else {
            let service = tables.service(&ServiceKey {
                protocol: assumed.protocol,
                address: vip.0,
                port: vip.1,
                last: 0,
            })?;
            if service.crosses() != F::CROSSES {
                return None;
            }
            let (real, address) = real_of::<F>(service, assumed.real)?;
            let connection = if is_template {
                let timeout = service.persistence?.timeout.as_millis();
                let timeout = u32::try_from(timeout).unwrap_or(u32::MAX);
                Connection::template(request, timeout, service.id, real)
            } else {
                let to = (address, assumed.real.port());
                let translation = service.mode.translation(&request, to, local);
                Connection::new(request, translation, real)
            };
            (service.id, connection)
        };
        connection.state = assumed.state;
        connection.route_generation = tables.route_generation;
        let timeout = tables.timing.timeout(&connection);
        let left = u32::try_from(assumed.left.as_millis()).unwrap_or(u32::MAX);
        let silent = timeout.saturating_sub(left);
        connection.last_seen = now.millis();
        connection.last_seen.0 = connection.last_seen.0.wrapping_sub(silent);
        let (real, is_active) = (connection.real, connection.state.is_active());
        self.insert(connection, service)?;
        match is_template {
            true => self.live.note_template(service),
            false => self.live.counters.connection_begun(real, is_active),
        }
        Some(())
    }

    /// Adds an entry, if there is room for it and no other has its keys.
    fn insert(&mut self, connection: Connection<F::Key>, service: ServiceId) -> Option<ConnId> {
        let (request, reply) = (&connection.request, &connection.reply);
        let has_rival = self.live.has(request)
            || connection.is_two_way() && (reply == request || self.live.has(reply));
        if has_rival {
            return None;
        }
        let hash = self.live.table.hash(request);
        let reply = connection.is_two_way().then(|| self.live.table.hash(reply));
        self.live.add(connection, hash, reply, service)
    }

    /// What the limits of its service count.
    fn count_client(
        &mut self,
        connection: &Connection<F::Key>,
        service: &Service,
        id: ConnId,
        now: Time,
    ) {
        let Some(guard) = &service.guard else {
            return;
        };
        let who = client(connection.request.source().into());
        if let Some(clients) = guard.had(service.id, who, now) {
            self.live.count_clients(service.id, clients);
        }
        let recent = &guard.tally.share(self.worker).recent;
        if let Some(recent) = recent.get()
            && connection.state.is_half_open()
        {
            recent.put(id.0);
        }
    }

    fn home(
        &self,
        record: &Record<F::Key>,
        owner: &Owner<'_>,
        kept: &Kept,
        section: &Section,
        tables: &Tables,
    ) -> Home {
        let steering = &self.shared.steering;
        let at = |worker| Home::At {
            worker,
            is_stray: false,
        };
        if self.is_alone() {
            return at(self.worker);
        }
        let connection = &record.connection;
        let (request, reply) = (&connection.request, &connection.reply);
        let service = match owner {
            Owner::Service(service) => Some(*service),
            Owner::Rule(_) => None,
        };
        if connection.is_template() {
            // As a packet of the client to the service's own port would be.
            let protocol = template_protocol(request.protocol());
            let (source, vip) = (request.source(), request.destination());
            let key = F::Key::new(source, 0, vip, request.destination_port(), protocol);
            return at(self.request_owner(&key, service, tables));
        }
        // Where weir's own addresses are looked for.
        let of_replies = steering.owner(reply);
        if connection.is_outward() {
            let of_requests = match connection.state {
                State::Icmp => steering.owner_of_addresses(request.source(), request.destination()),
                _ => steering.owner(request),
            };
            let header = kept.header();
            let is_as_before = header.workers as usize == steering.workers()
                && header.key == *steering.key()
                && section.worker == u32::from(of_replies.0);
            return match is_as_before || of_requests == of_replies {
                true => at(of_replies),
                false => Home::Nowhere,
            };
        }
        let of_requests = self.request_owner(request, service, tables);
        if !connection.has_local_pair() {
            return at(of_requests);
        }
        // Only of services with a pool other workers are asked.
        let may_be_stray = service.is_some_and(|service| service.pool.is_some());
        match of_requests == of_replies {
            true => at(of_replies),
            false if may_be_stray => Home::At {
                worker: of_replies,
                is_stray: true,
            },
            false => Home::Nowhere,
        }
    }
}

/// The real server of a service that a connection has, with its address in the keys of this family.
fn real_of<F: Family>(service: &Service, at: SocketAddr) -> Option<(RealId, F::Address)> {
    let reals = || service.servers().map(|(real, _)| real);
    let reals = || reals().filter(|real| real.address == at.ip());
    let real = reals().find(|real| real.port == at.port());
    // Of every port, or of a mode that leaves the client's.
    let real = real.or_else(|| reals().find(|real| real.port == 0 || !service.mode.translates))?;
    let address = match F::address(real.address) {
        Some(address) => address,
        None if service.mode.wraps => F::Address::UNSPECIFIED,
        None => return None,
    };
    Some((real.id, address))
}

/// Whose a connection is now; none: it would not go on as it did.
fn owner<'t, F: Family>(record: &Record<F::Key>, tables: &'t Tables) -> Option<Owner<'t>> {
    let connection = &record.connection;
    let key = match &record.name {
        Name::Rule(from) => {
            let rule = tables.snat.rules().iter().find(|rule| rule.from == *from)?;
            return Some(Owner::Rule(rule.service));
        }
        Name::Server { service, .. } => service,
    };
    let service = &**tables.services.get(key)?;
    // Connections of the other kind have a table of their own.
    if service.crosses() != F::CROSSES {
        return None;
    }
    let goes_on = match connection.is_template() {
        true => service.persistence.is_some(),
        false => {
            let mode = service.mode;
            let is_told = record.told != Told::default();
            (
                connection.translates(),
                connection.is_two_way(),
                connection.is_wrapped(),
            ) == (mode.translates, mode.sees_replies, mode.wraps)
                // Without a pool it is one in the client's own subnet.
                && (!mode.uses_pool || connection.has_local_pair())
                // Its real server counts other bytes than its client.
                && (!is_told || service.client_address != ClientAddress::None)
        }
    };
    goes_on.then_some(Owner::Service(service))
}
