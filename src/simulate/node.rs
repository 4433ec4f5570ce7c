//! A node: a director on a clock of its own, which dies and comes back.

use super::packet::Packet;
use super::{Failed, SECOND, Setup};
use crate::config::Config;
use crate::net::Mac;
use crate::record::Place;
use crate::replay::{Frame, Replay, Unaccounted};
use crate::units::{PortId, Time};
use crate::verdict::DropReason;
use std::net::IpAddr;

/// When simulations begin, by the clocks of captures.
const START: u64 = 1_700_000_000 * SECOND;
/// What sends to the nodes.
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

/// Which life of which node has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) node: usize,
    pub(super) life: u32,
}

pub(super) struct Node {
    number: usize,
    config: Config,
    workers: usize,
    /// At most so many connections at a time.
    room: usize,
    /// None: it is dead.
    engine: Option<Replay>,
    /// How often it came back without its connections.
    life: u32,
    pub(super) is_silent: bool,
    /// Nanoseconds that its clock is ahead.
    skew: u64,
    place: Option<std::path::PathBuf>,
}

impl Node {
    pub(super) fn new(
        number: usize,
        config: Config,
        setup: &Setup,
        (workers, room, skew): (usize, usize, u64),
    ) -> Result<Self, Failed> {
        let keeps = config.connections_file.is_some();
        let mut node = Node {
            number,
            config,
            workers,
            room,
            engine: None,
            life: 0,
            is_silent: false,
            skew,
            place: keeps.then(|| setup.keep_in.join(format!("node-{number}"))),
        };
        if let Some(former) = &node.place {
            // What a simulation before has left there.
            let _ = std::fs::remove_file(former);
        }
        node.start(0)?;
        Ok(node)
    }

    pub(super) fn home(&self) -> Home {
        Home {
            node: self.number,
            life: self.life,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.engine.is_some()
    }

    fn time(&self, now: u64) -> Time {
        Time::from_nanos(START + self.skew + now)
    }

    /// Comes to life, with the connections that it has kept.
    pub(super) fn start(&mut self, now: u64) -> Result<(), Failed> {
        let time = self.time(now);
        let engine = match &self.place {
            None => Replay::new(&self.config, self.workers, self.room, time)?,
            Some(path) => {
                let place = Place::anywhere(path)?;
                Replay::keeping(&self.config, self.workers, self.room, time, place)?.0
            }
        };
        self.engine = Some(engine);
        Ok(())
    }

    /// What it has dropped in this life, by reason.
    pub(super) fn drops(&self) -> Vec<(&'static str, u64)> {
        let Some(engine) = &self.engine else {
            return Vec::new();
        };
        let dropped = |reason: &DropReason| {
            let count = (engine.stats()).total(|worker| worker.drops(*reason).get());
            (count > 0).then_some((reason.name(), count))
        };
        DropReason::ALL.iter().filter_map(dropped).collect()
    }

    /// Dies, as by `kill -9`.
    pub(super) fn die(&mut self) {
        self.engine = None;
        self.is_silent = false;
        if self.place.is_none() {
            self.life += 1;
        }
    }

    /// Takes another configuration, at once or at its next start.
    pub(super) fn change(
        &mut self,
        now: u64,
        change: impl FnOnce(&mut Config),
    ) -> Result<(), Failed> {
        change(&mut self.config);
        let time = self.time(now);
        if let Some(engine) = &mut self.engine {
            engine.reload(self.config.clone(), time)?;
        }
        Ok(())
    }

    /// Whether it would know where to send a packet to that address.
    pub(super) fn has_way(&self, address: IpAddr) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|engine| port_to(engine, address).is_some())
    }

    /// Receives a packet by the port that the way to `from` leads out of, and returns what it sends then. None: it does not
    /// hear.
    pub(super) fn receive(
        &mut self,
        packet: &Packet,
        from: IpAddr,
        now: u64,
    ) -> Option<Vec<Frame>> {
        let time = self.time(now);
        let engine = self.engine.as_mut().filter(|_| !self.is_silent)?;
        let port = port_to(engine, from)?;
        let config = engine.model().config();
        let to = config.port(port).mac.unwrap_or(Mac([2; 6]));
        let frame = packet.frame(to, ROUTER)?;
        engine.receive(port, &frame, time);
        Some(engine.take_frames().collect())
    }

    /// Lets happen what is due, and returns what it sends then.
    pub(super) fn tick(&mut self, now: u64) -> Vec<Frame> {
        let time = self.time(now);
        match &mut self.engine {
            Some(engine) if !self.is_silent => {
                engine.change(time, |_| ());
                engine.take_frames().collect()
            }
            _ => Vec::new(),
        }
    }

    /// See [`Replay::check`].
    pub(super) fn check(&self) -> Result<(), Unaccounted> {
        self.engine.as_ref().map_or(Ok(()), Replay::check)
    }
}

fn port_to(engine: &Replay, address: IpAddr) -> Option<PortId> {
    let tables = engine.model().tables();
    tables.routes.get(address).map(|route| route.port)
}
