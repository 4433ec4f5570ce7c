//! Finds the worker that owns a packet's connection when this worker has none for it.
//!
//! A connection lives on one worker. By which rule that is, the service's [`Placements`] say; without any it is the
//! worker that a NIC's receive-side scaling brings requests to, and replies of fullnat likewise, since their local port
//! was chosen for that. On a device that spreads packets in another way, for nat's replies, and where another rule holds,
//! the worker that receives a packet hands it over to the owner.
//!
//! Rules change with the configuration, and connections stay where they are. So the owner under the present rule passes a
//! request that it has no connection for on to the owners under the former ones. Each of them looks for the connection,
//! and notes for which real servers it has another one with the same replies; then the packet comes back to the first,
//! which takes a real server that is free. Where there is none, it sends the packet round once more, so that one of the
//! others may give way.

use super::crossing::Crossing;
use super::family::Family;
use super::flow::service_key;
use super::live::Rivals;
use super::parse::Flow;
use super::schedule::could_serve;
use super::{Core, Origin, Outcome};
use crate::conn::{Address, FlowKeyAny, Key};
use crate::net::protocol;
use crate::packet::{Errand, Packet, Sink, Taken};
use crate::service::{Real, ServiceKey};
use crate::steering::Steering;
use crate::tables::{Clients, Departed, Placement, Placements, Service, Tables};
use crate::units::{RealId, Time, WorkerId};
use crate::verdict::{DropReason, PacketContext, Verdict};
use arrayvec::ArrayVec;
use std::sync::atomic::Ordering::Relaxed;

/// Workers that are numbered by a [`WorkerId`].
const WORKERS: usize = 1 + u8::MAX as usize;

/// A client of a service.
#[derive(Clone, Copy)]
struct Client<A> {
    address: A,
    port: u16,
}

/// The owner of a client's connection by a rule.
fn owner<F: Family>(
    steering: &Steering,
    rule: Placement,
    service: ServiceKey<F::Address>,
    client: Client<F::Address>,
    prefix: Option<u8>,
) -> WorkerId {
    let masked = |prefix| client.address.masked(prefix);
    // Of the client alone: the same for every service.
    let any = F::Address::UNSPECIFIED;
    let flow_to = |ServiceKey { address, port, .. }| {
        let protocol = service.protocol.number();
        steering.owner(&F::Key::new(
            client.address,
            client.port,
            address,
            port,
            protocol,
        ))
    };
    match (rule, prefix) {
        (Placement::Rss, _) => flow_to(service),
        (Placement::RssOf(other), _) => flow_to(of_family::<F>(&other)),
        (Placement::Template(prefix), _) => {
            steering.owner_of_addresses(masked(prefix), service.address)
        }
        (Placement::Client, Some(prefix)) => steering.owner_of_addresses(masked(prefix), any),
        (Placement::Client, None) => flow_to(ServiceKey {
            address: any,
            ..service.every()
        }),
    }
}

/// A service of the tables, where a family's is meant.
fn of_family<F: Family>(service: &ServiceKey) -> ServiceKey<F::Address> {
    ServiceKey {
        protocol: service.protocol,
        address: F::address(service.address).unwrap_or(F::Address::UNSPECIFIED),
        port: service.port,
        last: service.last,
    }
}

/// By which rules the connections of a client's flow are where they are.
struct Rules<'t, F: Family> {
    of: Option<&'t Placements>,
    /// Of removed services that its packets were once to.
    others: [Option<&'t Placements>; 2],
    has_strays: bool,
    service: ServiceKey<F::Address>,
    client: Client<F::Address>,
    clients: &'t Clients,
}

impl<F: Family> Rules<'_, F> {
    /// The owner of new connections.
    fn owner(&self, steering: &Steering) -> WorkerId {
        let rule = self.of.map_or(Placement::Rss, |rules| rules.current);
        owner::<F>(
            steering,
            rule,
            self.service,
            self.client,
            self.clients.prefix,
        )
    }

    /// Whether older connections may be elsewhere.
    fn have_moved(&self) -> bool {
        self.others.iter().any(Option::is_some)
            || self.has_strays
            || self.of.is_some_and(|rules| {
                rules.anywhere
                    || !rules.former.is_empty()
                    || (rules.have(Placement::Client) && !self.clients.former.is_empty())
            })
    }
}

/// The key of the replies that a real server would send, of a service without local pool.
fn reply_key<F: Family>(flow: &Flow<F>, real: &Real) -> F::Key {
    let key = &flow.key;
    F::Key::new(
        F::address(real.address).unwrap_or(F::Address::UNSPECIFIED),
        real.port_for(key.destination_port()),
        key.source(),
        key.source_port(),
        key.protocol(),
    )
}

/// Several workers, each once, in the order of their adding.
struct Workers {
    list: ArrayVec<WorkerId, WORKERS>,
    has: [bool; WORKERS],
}

impl Workers {
    fn without(worker: WorkerId) -> Self {
        let mut has = [false; WORKERS];
        has[worker.index()] = true;
        Workers {
            list: ArrayVec::new(),
            has,
        }
    }

    fn add(&mut self, worker: WorkerId) {
        if !std::mem::replace(&mut self.has[worker.index()], true) {
            self.list.push(worker);
        }
    }

    /// The one after `worker`.
    fn after(&self, worker: WorkerId) -> Option<WorkerId> {
        let place = self.list.iter().position(|other| *other == worker)?;
        self.list.get(place + 1).copied()
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Whether it is alone, and everything its own.
    #[inline(always)]
    pub(super) fn is_alone(&self) -> bool {
        self.shared.steering.workers() == 1
    }

    /// The worker that is to decide on a client's packet without a connection here, and what it is asked to do; none: this
    /// one decides. A packet to an address or port that a removed
    /// service had is one too, as long as that service has connections left.
    #[inline]
    pub(super) fn request_elsewhere(
        &mut self,
        flow: &Flow<F>,
        service: Option<&Service>,
        errand: Errand,
        tables: &Tables,
        opens: bool,
        now: Time,
    ) -> Option<(WorkerId, Errand)> {
        if self.is_alone() || (service.is_none() && !tables.any_departed) {
            return None;
        }
        let rules = self.rules::<F>(&flow.key, service, tables)?;
        let own = rules.owner(&self.shared.steering);
        let here = own == self.worker;
        let mut taken = errand.taken();
        match (errand, here) {
            (Errand::Make(_) | Errand::Last(_) | Errand::Take | Errand::Gather, _) => return None,
            (Errand::Ask(_) | Errand::Clear(_), true) => return None,
            (Errand::Find, false) => return Some((own, Errand::Find)),
            (Errand::Find, true) if !rules.have_moved() => return None,
            (Errand::Find, true) | (Errand::Ask(_) | Errand::Clear(_), false) => {}
        }
        let others = self.others(&rules);
        if here {
            let first = others.list.first()?;
            return Some((*first, Errand::Ask(taken)));
        }
        let next = others.after(self.worker);
        let service = service.filter(|_| opens);
        if let Errand::Clear(_) = errand {
            let freed = service.and_then(|service| self.clear(flow, service, taken, tables, now));
            return Some(match next.filter(|_| freed.is_none()) {
                Some(next) => (next, Errand::Clear(taken)),
                None => (own, Errand::Last(freed)),
            });
        }
        if let Some(service) = service {
            self.note_taken(flow, service, &mut taken, tables, now);
        }
        Some(match next {
            Some(next) => (next, Errand::Ask(taken)),
            None => (own, Errand::Make(taken)),
        })
    }

    /// The worker that decides on the packets of a client to a service, as long as another has no connection of it.
    pub(super) fn request_owner(
        &self,
        key: &F::Key,
        service: Option<&Service>,
        tables: &Tables,
    ) -> WorkerId {
        let steering = &self.shared.steering;
        let rules = self.rules::<F>(key, service, tables);
        rules.map_or_else(|| steering.owner(key), |rules| rules.owner(steering))
    }

    /// Where an error goes next that quotes a client's packet, of whose connection nothing is known here: to the owner of new ones,
    /// and from there round those that may have older ones.
    pub(super) fn error_elsewhere(
        &self,
        key: &FlowKeyAny,
        service: Option<&Service>,
        errand: Errand,
        tables: &Tables,
    ) -> Option<(WorkerId, Errand)> {
        if self.is_alone() {
            return None;
        }
        let rules = self.rules::<Crossing>(key, service, tables)?;
        let own = rules.owner(&self.shared.steering);
        let next = match (errand, own == self.worker) {
            (Errand::Find, false) => return Some((own, Errand::Find)),
            (Errand::Find, true) if rules.have_moved() => self.others(&rules).list.first().copied(),
            (Errand::Ask(_), false) => self.others(&rules).after(self.worker),
            _ => None,
        };
        next.map(|worker| (worker, Errand::Ask(Taken::NONE)))
    }

    /// The first worker that is asked to let a connection give way to a new one of the flow.
    pub(super) fn first_to_clear(
        &self,
        flow: &Flow<F>,
        service: &Service,
        tables: &Tables,
    ) -> Option<WorkerId> {
        let rules = self.rules::<F>(&flow.key, Some(service), tables)?;
        self.others(&rules).list.first().copied()
    }

    /// Where the connections of a client's flow may be; none: nothing was ever configured there.
    #[inline(always)]
    fn rules<'t, G: Family>(
        &self,
        key: &G::Key,
        service: Option<&Service>,
        tables: &'t Tables,
    ) -> Option<Rules<'t, G>> {
        let port = service_key(key);
        let (every, ranges) = (port.every(), Departed::of(&port));
        let known = |key: &ServiceKey<G::Address>| tables.placements.get(key);
        let departed = |key: &ServiceKey<G::Address>| known(key).filter(|_| tables.any_departed);
        // Under which rules there are connections to this port: of its own service, of those of ranges and of that of every port.
        let (rules, others) = match service {
            None => match (departed(&port), departed(&ranges), departed(&every)) {
                (None, None, None) => return None,
                (None, None, rules) => (rules, [None; 2]),
                (None, rules, every) => (rules, [every, None]),
                (rules, ranges, every) => (rules, [ranges, every]),
            },
            Some(service) if service.key.has_several() => {
                let own = ServiceKey {
                    port: service.key.port,
                    last: service.key.last,
                    ..port
                };
                (known(&own), [departed(&port), departed(&ranges)])
            }
            Some(_) => (known(&port), [None; 2]),
        };
        Some(Rules {
            of: rules,
            others,
            // Where a pair of the local pool was free, not where the rule says.
            has_strays: service.is_some_and(|service| service.pool.is_some()) && self.has_strays(),
            service: port,
            client: Client {
                address: key.source(),
                port: key.source_port(),
            },
            clients: tables.clients.of(port.address.into()),
        })
    }

    /// The workers that may have connections of the flow, but for the owner of new ones.
    fn others<G: Family>(&self, rules: &Rules<G>) -> Workers {
        let steering = &self.shared.steering;
        let by = |rule, prefix| owner::<G>(steering, rule, rules.service, rules.client, prefix);
        let mut workers = Workers::without(rules.owner(steering));
        for placements in rules
            .of
            .into_iter()
            .chain(rules.others.into_iter().flatten())
        {
            for &rule in placements.former.iter().chain([&placements.current]) {
                workers.add(by(rule, rules.clients.prefix));
                if rule == Placement::Client {
                    for prefix in &*rules.clients.former {
                        workers.add(by(rule, *prefix));
                    }
                }
            }
            if placements.anywhere {
                self.all_workers().for_each(|worker| workers.add(worker));
            }
        }
        if rules.has_strays {
            self.all_workers().for_each(|worker| workers.add(worker));
        }
        workers
    }

    /// Notes the real servers whose replies a connection of this worker has, and that a new one of the flow cannot have.
    fn note_taken(
        &mut self,
        flow: &Flow<F>,
        service: &Service,
        taken: &mut Taken,
        tables: &Tables,
        now: Time,
    ) {
        if !service.mode.sees_replies || service.pool.is_some() || self.live.table.is_empty() {
            return;
        }
        for real in &service.reals {
            let reply = reply_key(flow, real);
            if !self.live.vacate(&reply, Rivals::Over, tables, now.millis()) {
                taken.add(real.id);
            }
        }
    }

    /// Lets one connection of this worker give way to a new one of the flow; the real server that is free then.
    fn clear(
        &mut self,
        flow: &Flow<F>,
        service: &Service,
        taken: Taken,
        tables: &Tables,
        now: Time,
    ) -> Option<RealId> {
        // Another would give way for nothing.
        let stats = &self.shared.clone().stats;
        let serves = |real: &&Real| could_serve::<F>(service, real, tables, stats);
        for real in service.reals.iter().filter(serves) {
            let reply = reply_key(flow, real);
            if taken.has(real.id)
                && self.live.has(&reply)
                && self.live.vacate(&reply, Rivals::Idle, tables, now.millis())
            {
                return Some(real.id);
            }
        }
        None
    }

    /// Whether some connections live where a pair of the local pool was free, not where their requests come to.
    fn has_strays(&self) -> bool {
        self.shared.strays.load(Relaxed) > 0
    }

    /// Whether a connection of the flow, if it is made here, lives on another worker than its requests come to.
    pub(super) fn is_stray(&self, flow: &Flow<F>) -> bool {
        self.shared.steering.owner(&flow.key) != self.worker
    }

    /// The next worker to be asked for a local pair, where those of this one are in use.
    pub(super) fn next_with_pairs(&self, flow: &Flow<F>, service: &Service) -> Option<WorkerId> {
        // What a template binds is where the template is.
        if self.is_alone() || service.persistence.is_some() {
            return None;
        }
        let own = self.shared.steering.owner(&flow.key);
        self.next_of(std::iter::once(own).chain(self.all_workers()))
    }

    /// The first worker that is asked for a local pair.
    pub(super) fn first_with_pairs(&self, flow: &Flow<F>, service: &Service) -> Option<WorkerId> {
        if self.is_alone() || service.persistence.is_some() {
            return None;
        }
        let own = self.shared.steering.owner(&flow.key);
        let mut all = std::iter::once(own).chain(self.all_workers());
        all.find(|worker| *worker != self.worker)
    }

    /// Where a packet to an address of a local pool is to be decided, if not here.
    pub(super) fn local_elsewhere(&self, flow: &Flow<F>) -> Option<WorkerId> {
        if self.is_alone() {
            return None;
        }
        let owner = self.shared.steering.owner(&flow.key);
        (self.origin == Origin::Device && owner != self.worker).then_some(owner)
    }

    /// Where the packet of a real server to any host is decided on, if not here: at the worker that has the client's
    /// connection to one of the nat services that the real server is of.
    pub(super) fn reply_elsewhere(&self, flow: &Flow<F>, tables: &Tables) -> Option<WorkerId> {
        if self.is_alone() {
            return None;
        }
        let key = &flow.key;
        let client = Client {
            address: key.destination(),
            port: key.destination_port(),
        };
        let mut real = ServiceKey {
            protocol: service_key(key).protocol,
            address: key.source(),
            port: key.source_port(),
            last: 0,
        };
        let exact = tables.natted.get(&real);
        real.port = 0;
        let replies = [exact, tables.natted.get(&real)];
        let replies = || replies.into_iter().flatten();
        let (steering, clients) = (
            &self.shared.steering,
            tables.clients.of(real.address.into()),
        );
        let by = |rule, service, prefix| {
            owner::<F>(steering, rule, of_family::<F>(service), client, prefix)
        };
        let rules = || replies().flat_map(|replies| replies.placements.iter());
        let owners = rules().map(|(rule, service)| by(*rule, service, clients.prefix));
        let by_client = rules().filter(|(rule, _)| *rule == Placement::Client);
        let former = by_client.flat_map(|(rule, service)| {
            let prefixes = clients.former.iter().rev();
            prefixes.map(move |prefix| by(*rule, service, *prefix))
        });
        let anywhere = replies().any(|replies| replies.anywhere);
        let anywhere = anywhere.then(|| self.all_workers()).into_iter().flatten();
        self.next_of(owners.chain(former).chain(anywhere))
    }

    /// Whether a packet to any host may be a reply of a nat service.
    pub(super) fn may_be_natted(&self, flow: &Flow<F>, tables: &Tables) -> bool {
        let key = &flow.key;
        if !matches!(
            key.protocol(),
            protocol::TCP | protocol::UDP | protocol::SCTP
        ) {
            return false;
        }
        let real = ServiceKey {
            protocol: service_key(key).protocol,
            address: key.source(),
            port: key.source_port(),
            last: 0,
        };
        let any = real.every();
        tables.natted.get(&real).is_some() || tables.natted.get(&any).is_some()
    }

    fn all_workers(&self) -> impl Iterator<Item = WorkerId> {
        (0..self.shared.steering.workers()).map(|n| WorkerId(n as u8))
    }

    /// Whether a new connection of the flow would be made here, as far as can be told at a glance.
    #[inline(always)]
    pub(super) fn is_probably_ours(&self, key: &F::Key) -> bool {
        self.is_alone() || self.shared.steering.owner(key) == self.worker
    }

    /// The next of several owners to be asked: a packet goes from one to the next, and ends with the last.
    fn next_of(&self, owners: impl IntoIterator<Item = WorkerId>) -> Option<WorkerId> {
        let mut asked = [false; WORKERS];
        let mut left = self.shared.steering.workers();
        // From a device it goes to the first; from another worker, to the one that comes after this.
        let mut is_next = self.origin == Origin::Device;
        for owner in owners {
            if std::mem::replace(&mut asked[owner.index()], true) {
                continue;
            }
            if owner == self.worker {
                match self.origin {
                    // The first of them is here, and has been asked.
                    Origin::Device => {}
                    Origin::Worker => is_next = true,
                }
            } else if is_next {
                return Some(owner);
            }
            left -= 1;
            // However many services a real server is of.
            if left == 0 {
                break;
            }
        }
        None
    }

    /// Gives a packet to a worker that owns it, or may.
    #[inline(never)]
    pub(super) fn hand_over<S: Sink<Packet = P>>(
        &self,
        mut packet: P,
        to: WorkerId,
        errand: Errand,
        sink: &mut S,
    ) -> Outcome {
        packet.set_errand(errand);
        let verdict = match sink.hand_over(to, packet) {
            true => Verdict::HandOver(to),
            false => Verdict::Drop(DropReason::RedirectFull),
        };
        (verdict, PacketContext::default())
    }
}
