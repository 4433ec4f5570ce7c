//! The control thread: what the workers' world looks like, how it changes, and who may ask about it.
//!
//! [`Control`] belongs to one thread; so nothing here is locked. Code that wants to know or
//! change something hands it a [`Job`] by a [`Handle`]: a closure that gets the control to itself for a moment, and
//! must not take longer than that.

mod announce;
mod availability;
mod capture;
mod checks;
mod connection_log;
mod connections;
mod copies;
mod detect;
mod edits;
mod generations;
mod groups;
mod guard;
#[cfg(debug_assertions)]
pub mod inject;
mod links;
mod pools;
mod reals;
mod show;
mod stalls;
pub(crate) mod state_file;
mod status;
mod unplug;
mod watch;

use crate::config::{self, Config, Diagnostics, Known, Loaded};
use crate::exchange::{ConnectionChunk, Event, Mailbox};
use crate::host::{Carrier, Kernel};
use crate::io::dpdk::{Clock, Device, MbufPool};
use crate::model::{Changes, Conflict, Model, NeedsRestart};
use crate::neighbour::LinkState;
use crate::stats::Stats;
use crate::units::{PortId, Time};
use crate::verdict::DropReason;
use announce::Announcer;
use availability::Availabilities;
use capture::Captures;
pub use capture::{Begun, Ground, NoCapture};
use checks::Healths;
pub use checks::show_check;
use connection_log::Logging;
pub use connections::OnlyConnections;
use copies::Copies;
use edits::Edits;
use generations::{Generations, Past};
pub use generations::{NoGeneration, NoWayBack};
pub(crate) use guard::ASKED_BY;
use guard::Panics;
pub use guard::{Handle, Job, NoAnswer};
use links::Links;
use pools::PoolWatch;
use stalls::Stalls;
use state_file::StateFile;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use unplug::Unplugged;
use watch::Watch;

/// The most events taken from one worker in one turn: as many as its queue holds.
const EVENTS: usize = 1024;

/// Everything that the control thread owns.
pub struct Control {
    model: Model,
    stats: Arc<Stats>,
    workers: Vec<WorkerHandle>,
    /// By their numbers.
    devices: Vec<Device>,
    /// For each device, why it does not bring packets to the workers that own them, if it does not.
    unsteered: Vec<Option<String>>,
    pools: Vec<MbufPool>,
    clock: Clock,
    announcer: Announcer,
    watch: Watch,
    pool_watch: PoolWatch,
    started: SystemTime,
    host: Option<Host>,
    links: Links,
    panics: Panics,
    edits: Edits,
    state_file: StateFile,
    stalls: Stalls,
    unplugged: Unplugged,
    healths: Healths,
    availabilities: Availabilities,
    captures: Captures,
    /// The services of the file by their texts.
    known: Arc<Known>,
    generations: Generations<Past>,
    logging: Logging,
}

/// The companion interfaces.
pub struct Host {
    pub carrier: Carrier,
    pub kernel: Kernel,
}

impl Host {
    /// That a panic has left the host without a way through weir, if one has.
    fn illness(&self) -> Option<String> {
        let has_panicked = self.carrier.stats.panicked.get() > 0;
        has_panicked.then(|| {
            "the companions' thread panicked, see the log: forwarding goes on, the host has no way through weir until weir is \
             restarted"
                .to_owned()
        })
    }

    /// Which companion interfaces are gone, if some are.
    fn complaint(&self) -> Option<String> {
        let gone = self.gone();
        (!gone.is_empty()).then(|| format!("companion interfaces are gone: {}", gone.join(", ")))
    }

    /// The interfaces that were removed from outside: weir makes them when it starts only.
    fn gone(&self) -> Vec<&str> {
        let is_gone = |port: usize| self.carrier.stats.gone[port].get() > 0;
        let interfaces = self.kernel.interfaces().iter();
        let gone = interfaces.filter(|interface| is_gone(interface.port));
        gone.map(|interface| interface.name.as_str()).collect()
    }
}

/// The control thread's end of a worker.
pub struct WorkerHandle {
    pub mailbox: Arc<Mailbox>,
    copies: Copies,
    cpu: usize,
    /// The receive queues that it polls.
    queues: Vec<(PortId, usize)>,
    /// How many connections it has room for.
    capacity: usize,
}

impl WorkerHandle {
    pub fn new(cpu: usize, queues: Vec<(PortId, usize)>, capacity: usize) -> Self {
        WorkerHandle {
            mailbox: Arc::default(),
            copies: Copies::default(),
            cpu,
            queues,
            capacity,
        }
    }
}

/// What an edit names, and weir does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("there is no service {0:?}")]
    Service(String),
    #[error("the service {0:?} has no real server {1}")]
    Real(String, SocketAddr),
}

/// What a turn of the control thread found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A listing waits for a worker's answer, which comes within microseconds.
    Urgent,
    /// Something happened, and more may follow.
    Busy,
    Idle,
    /// It panicked; the next one may do the same.
    Failed,
}

impl Control {
    pub fn new(
        mut model: Model,
        workers: Vec<WorkerHandle>,
        devices: Vec<Device>,
        unsteered: Vec<Option<String>>,
        pools: Vec<MbufPool>,
        clock: Clock,
    ) -> Self {
        let now = clock.now();
        model.confirm_all();
        let mut announcer = Announcer::default();
        announcer.update(model.config(), model.tables(), now);
        if let Some(silent) = announcer.detection.take_silent(now) {
            model.set_silent(silent);
        }
        let mut control = Control {
            stats: model.stats().clone(),
            watch: Watch::new(workers.len(), now),
            pool_watch: PoolWatch::default(),
            model,
            workers,
            devices,
            unsteered,
            pools,
            clock,
            announcer,
            started: SystemTime::now(),
            host: None,
            links: Links::new(now),
            panics: Panics::new(now),
            edits: Edits::default(),
            state_file: StateFile::default(),
            stalls: Stalls::default(),
            unplugged: Unplugged::default(),
            healths: Healths::default(),
            availabilities: Availabilities::default(),
            captures: Captures::default(),
            known: Arc::default(),
            generations: Generations::new(""),
            logging: Logging::default(),
        };
        control.state_file.start(&control.model);
        control.hear_groups();
        control
    }

    /// The services of the file that was read last, for the next one.
    pub fn known(&self) -> Arc<Known> {
        self.known.clone()
    }

    /// `file`: where the configuration of the start is from; `known`: its services by their texts.
    pub fn set_origin(&mut self, file: &str, known: Known) {
        self.generations = Generations::new(file);
        self.known = Arc::new(known);
    }

    pub fn set_host(&mut self, host: Option<Host>) {
        self.host = host;
        self.announce_vips();
    }

    /// Has the host announce no VIPs any longer: first of all that a stop does.
    pub async fn withdraw(&mut self) {
        if let Some(host) = &mut self.host {
            host.kernel.withdraw().await;
        }
    }

    /// Writes what has to outlive the process.
    pub fn stop(&mut self) {
        self.state_file.stop(&self.model, self.clock.now());
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// What the workers noticed, what is due, what they are to do.
    fn take_turn(&mut self) -> Turn {
        #[cfg(debug_assertions)]
        inject::turn();
        let now = self.now();
        let mut events = 0;
        for worker in &self.workers {
            for _ in 0..EVENTS {
                let Some(event) = worker.mailbox.events.pop() else {
                    break;
                };
                match event {
                    Event::Query { port, longest } => self.announcer.queried(port, longest, now),
                    event => self.model.event(event, now),
                }
                events += 1;
            }
        }
        let heard = self.hear_checks(now);
        self.model.tick(now);
        let turned = self.follow_availability(now);
        if self.model.take_rerouted() {
            let (config, tables) = (self.model.config(), self.model.tables());
            self.announcer.update(config, tables, now);
        }
        self.detect_duplicates();
        let mut orders = self.model.resolver.take_orders();
        let links = &self.links;
        let is_up = |port: PortId| links.is_up(port.index());
        let busy =
            heard || turned || events > 0 || !orders.is_empty() || self.announcer.is_busy(is_up);
        if let Some(first) = self.workers.first() {
            for order in orders.drain(..) {
                // A full queue loses a question, as the network might: it is asked again.
                let _ = first.mailbox.orders.push(order);
            }
            let tables = self.model.tables();
            self.announcer.tick(&first.mailbox, tables, is_up, now);
        }
        self.keep_silent();
        self.tell_ways();
        for worker in &mut self.workers {
            worker.copies.tick(&worker.mailbox);
        }
        let model = &self.model;
        let subjects = |reason| match reason {
            DropReason::NeighbourFailed => Some(model.next_hops(LinkState::Failed)),
            // With several it is not known which.
            DropReason::LocalPortsExhausted => match &model.config().pools[..] {
                [pool] => Some(format!("local pool {}", pool.name)),
                _ => None,
            },
            DropReason::NeighbourQueueFull => Some(model.next_hops(LinkState::Incomplete)),
            _ => None,
        };
        self.watch.tick(&self.stats, subjects, now);
        self.pool_watch.tick(&self.model, &self.stats, now);
        self.take_back(now);
        self.edits.tick(now);
        self.captures.tick(now);
        self.state_file.tick(&self.model, now);
        self.look_at_ports(now);
        if self.workers.iter().any(|worker| worker.copies.is_busy()) {
            Turn::Urgent
        } else if busy {
            Turn::Busy
        } else {
            Turn::Idle
        }
    }

    /// Has the devices of ports that speak IPv6 show weir what neighbours ask by multicast.
    fn hear_groups(&self) {
        for (n, config) in self.model.config().ports.iter().enumerate() {
            let addresses = &self.model.tables().port(PortId(n as u8)).addresses;
            if addresses.iter().any(|net| net.addr().is_ipv6())
                && let Err(error) = self.device(config).hear_groups()
            {
                let port = &config.name;
                tracing::warn!(port, %error, "neighbours may not find the port's IPv6 addresses");
            }
        }
    }

    /// Takes in what other hosts said of addresses that weir keeps silent of.
    fn detect_duplicates(&mut self) {
        let now = self.now();
        for (place, mac) in self.model.resolver.take_contested() {
            let port = &self.model.tables().port(place.0).name;
            self.announcer.detection.contest(place, mac, port, now);
        }
    }

    /// Tells the workers of which addresses they are to keep silent.
    fn keep_silent(&mut self) {
        if let Some(silent) = self.announcer.detection.take_silent(self.now()) {
            self.model.set_silent(silent);
        }
    }

    /// Whether links are dead many times a second, the rest once.
    fn look_at_ports(&mut self, now: Time) {
        let ports = &self.model.config().ports;
        let devices = ports.iter().map(|port| &self.devices[port.on.index()]);
        if let Some(dead) = self.links.glance(devices, now) {
            let table = self.model.resolver.neighbours().table();
            for (n, is_dead) in dead.into_iter().enumerate() {
                table.set_link_down(PortId(n as u8), is_dead);
            }
        }
        let links = ports.iter().map(|port| {
            let device = &self.devices[port.on.index()];
            (port.name.as_str(), device)
        });
        let Some(changes) = self.links.tick(links, now) else {
            self.unplugged.tick(&self.devices, &self.stats);
            return;
        };
        for port in changes.came_up {
            self.announcer.repeat(PortId(port as u8), now);
        }
        let unplugged: BTreeSet<usize> = changes
            .unplugged
            .into_iter()
            .map(|port| ports[port].on.index())
            .collect();
        for n in unplugged {
            self.unplugged.give_up(n, &self.devices[n], &self.stats);
        }
        let on_devices = self.model.config().devices();
        let samples = self.devices.iter().zip(&on_devices).map(|(device, on)| {
            let names: Vec<_> = on.iter().map(|port| &*ports[port.index()].name).collect();
            let is_up = on.iter().any(|port| self.links.is_up(port.index()));
            stalls::Sample {
                port: names.join(", "),
                device: device.stats().filter(|_| is_up),
                own: self.stats.ports(on.iter().map(|port| port.index())),
            }
        });
        self.stalls.tick(samples);
    }

    /// The device that a port is on.
    fn device(&self, port: &config::PortConfig) -> &Device {
        &self.devices[port.on.index()]
    }

    /// Makes what was loaded from `file` the running configuration; for this long, if it has to be confirmed.
    ///
    /// # Errors
    ///
    /// If something differs that cannot change while weir runs; then nothing changes.
    pub fn reload(
        &mut self,
        file: &str,
        loaded: Loaded,
        confirm: Option<Duration>,
    ) -> Result<Changes, NeedsRestart> {
        let now = self.now();
        self.edits.warnings(&loaded.warnings, now);
        let before = Past {
            config: self.model.config().clone(),
            said: self.model.said(),
        };
        let changes = self.apply(loaded.config, loaded.known)?;
        // One that changes nothing confirms nothing: a timer may have sent it.
        if confirm.is_some() || !changes.is_empty() {
            self.generations.follow(file, before, confirm, now);
        }
        self.edits.reloaded(file, &changes.short(), now);
        if let Some(given) = confirm {
            self.edits.awaits(file, given, now);
        }
        Ok(changes)
    }

    /// Goes to another configuration.
    fn apply(&mut self, config: Config, known: Known) -> Result<Changes, NeedsRestart> {
        let now = self.now();
        let details = self.model.plan(&config);
        let state_file = self.model.config().state_file.clone();
        let changes = self.model.apply(config, now)?;
        let changes = Changes { details, ..changes };
        self.known = Arc::new(known);
        self.state_file.follow(state_file.as_ref(), &self.model);
        let (config, tables) = (self.model.config(), self.model.tables());
        self.announcer.update(config, tables, now);
        self.follow_connection_log();
        self.keep_silent();
        self.hear_groups();
        self.configure_checks();
        self.lead_checks();
        self.announce_vips();
        Ok(changes)
    }

    /// Adds services, or puts them in the place of their former versions, until the next [`reload`](Self::reload).
    ///
    /// # Errors
    ///
    /// If one cannot be beside the others; then nothing changes.
    pub fn set_services(
        &mut self,
        services: Vec<Arc<config::ServiceConfig>>,
        warnings: &Diagnostics,
    ) -> Result<Changes, Conflict> {
        let now = self.now();
        self.edits.warnings(warnings, now);
        let vips: Vec<_> = services.iter().map(|service| service.address).collect();
        let names: Vec<_> = services
            .iter()
            .map(|service| service.name.clone())
            .collect();
        let checked = services.clone();
        let changes = self.model.set_services(services)?;
        self.put_checks(checked);
        self.announce_vips();
        for vip in vips {
            self.announcer.add(self.model.tables(), vip, now);
        }
        self.keep_silent();
        self.edits.set(&names, &changes, now);
        Ok(changes)
    }

    /// Takes a service away until the next [`reload`](Self::reload); none if there is none.
    pub fn unset_service(&mut self, name: &str) -> Option<Changes> {
        let keys = self.model.find_services(name);
        let vip = keys.first()?.address;
        let mut changes = Changes::default();
        for key in keys {
            changes.add_counts(&self.model.unset_service(&key)?);
            self.remove_checks(key);
        }
        self.announce_vips();
        if self.model.tables().addresses.get(&vip).is_none() {
            self.announcer.remove(self.model.tables(), vip);
        }
        self.edits.removed(name, &changes, self.now());
        Some(changes)
    }

    /// The configured services of a name, or that of such as `tcp:192.0.2.80:80`.
    pub(crate) fn service_configs(&self, name: &str) -> Vec<Arc<config::ServiceConfig>> {
        let keys = self.model.find_services(name).into_iter();
        let meant = keys.filter_map(|key| self.model.configured(&key));
        meant.cloned().collect()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        self.model.config()
    }

    /// The configuration that new services are checked against.
    pub fn surroundings(&self) -> Config {
        self.model.surroundings()
    }

    /// What [`reload`](Self::reload) would change.
    pub fn plan(&self, config: &Config) -> Result<Changes, NeedsRestart> {
        self.model.check_change(config)?;
        Ok(Changes {
            details: self.model.plan(config),
            ..Changes::between(self.model.config(), config)
        })
    }

    /// Has a worker copy a part of its connection table.
    pub fn copy(
        &mut self,
        worker: usize,
        chunk: Box<ConnectionChunk>,
    ) -> Option<oneshot::Receiver<Box<ConnectionChunk>>> {
        Some(self.workers.get_mut(worker)?.copies.copy(chunk))
    }

    /// Why weir must be started anew, if it must.
    pub fn complaint(&self) -> Option<String> {
        let now = self.now();
        // First: a control thread that is stuck does not watch the workers.
        if let Some(stuck) = self.panics.stuck(now) {
            return Some(stuck);
        }
        let hung = self.watch.hung(now);
        if !hung.is_empty() {
            return Some(format!("workers hang: {hung:?}"));
        }
        let gone = self.links.gone();
        if !gone.is_empty() {
            return Some(format!("devices are gone: {}", gone.join(", ")));
        }
        self.host.as_ref().and_then(Host::complaint)
    }

    /// Why the daemon is not healthy, if it is not. What a panic left behind is no reason to end forwarding: an operator
    /// chooses when to restart weir.
    pub fn illness(&self) -> Option<String> {
        let host = self.host.as_ref().and_then(Host::illness);
        let checks = self.healths.illness();
        self.complaint()
            .or(host)
            .or(checks)
            .or(self.panics.illness())
    }

    /// Why the daemon does not forward yet, if it does not.
    pub fn unready(&self) -> Option<String> {
        let idle: Vec<_> = self
            .stats
            .workers()
            .enumerate()
            .filter(|(_, worker)| worker.loops.get() == 0)
            .collect();
        if !idle.is_empty() {
            return Some(format!("{} workers have not started", idle.len()));
        }
        if let Some(host) = self.host.as_ref().and_then(Host::illness) {
            return Some(host);
        }
        let unplugged = self.links.unplugged();
        if !unplugged.is_empty() {
            return Some(format!("devices are unplugged: {}", unplugged.join(", ")));
        }
        let down = self.links.down();
        if !down.is_empty() {
            return Some(format!("links are down: {}", down.join(", ")));
        }
        self.stalls.complaint()
    }
}
