//! Schedulers: which real server a new connection goes to.
//!
//! Each is a line of [`config::SchedulerConfig`], which the configuration and its errors read, and a file here; without an arm
//! in [`kind`] it does not compile. The common tests run over [`kinds`]. Whatever a choice needs beyond its arguments is
//! built once, by the control thread, when the service or one of its real servers changes.
//!
//! The rules are those of the kernel's `ip_vs_rr.c` and its siblings, its order included: the list of real servers
//! that they walk runs from the last of the configuration to its first, since the kernel adds at the head.

mod conhash;
mod dh;
mod draw;
mod fo;
mod lblc;
mod lblcr;
mod lc;
mod least;
mod mh;
mod named;
mod nq;
mod overload;
mod ovf;
mod p2c;
mod rendezvous;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

use crate::config;
use crate::service::Real;
use crate::stats::Stats;
use crate::units::{Millis, RealId};
pub use overload::is_overloaded;
use std::any::Any;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Chooses real servers for the new connections of one service.
pub trait Scheduler: Any + Send + Sync + std::fmt::Debug {
    /// The place in `reals` of the real server for a client; none if every one of them has weight 0 or is not usable.
    /// One that is not usable is passed over as one of weight 0 is, and its share goes to the others.
    fn pick(
        &self,
        reals: &[Real],
        client: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize>;

    /// The place that [`pick`](Self::pick) will probably choose after so many other choices, for a look ahead: it may be
    /// wrong, and commits to nothing.
    fn expect(&self, reals: &[Real], _: Client, cursor: &Cursor, ahead: usize) -> usize {
        let first = || cursor.first(reals.len() as u32) as usize;
        let next = cursor.last_place(reals).map_or_else(first, |last| last + 1) + ahead;
        if next < reals.len() {
            next
        } else {
            next % reals.len().max(1)
        }
    }
}

/// Whether a real server can take a connection now. It may cost a look at the routes, and is asked last.
pub type Usable<'a> = dyn Fn(&Real) -> bool + 'a;

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// In 32 bits: the words of an IPv6 address folded into one by exclusive or, as the kernel's `ip_vs_sh_hashkey` and
    /// `ip_vs_mh_hashkey` do.
    pub address: u32,
    pub port: u16,
    /// Now, for schedulers that forget: none of those that are stateless.
    pub now: Millis,
}

impl Client {
    #[inline(always)]
    pub fn new(address: impl Into<IpAddr>, port: u16) -> Self {
        Client {
            address: folded(address.into()),
            port,
            now: Millis(0),
        }
    }

    pub fn at(self, now: Millis) -> Self {
        Client { now, ..self }
    }
}

/// An address in 32 bits: the words of an IPv6 one by exclusive or.
#[inline(always)]
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let half = (bits >> 64) as u64 ^ bits as u64;
            (half >> 32) as u32 ^ half as u32
        }
    }
}

/// What one worker remembers of a service from one choice to the next. Each scheduler gives the cells its own
/// meaning; only that worker writes them.
#[derive(Debug, Default)]
pub struct Cursor {
    last: AtomicU32,
    /// Where the last one was in the list.
    place: AtomicU32,
    weight: AtomicU32,
    /// Which worker of how many.
    worker: u32,
    workers: u32,
    /// Where this service begins, on every worker.
    offset: u32,
    /// Of `lblcr`: the real servers among which it chooses, by id, one more; and when that changed.
    set: [AtomicU32; lblcr::MOST],
    set_changed: AtomicU32,
}

impl Cursor {
    /// `offset`: where the service begins, of whatever length its cycle is: with 0 at the head of the list, as the kernel
    /// does. Services that begin at different places do not all give their first connection to the same real server.
    pub fn new(worker: u32, workers: u32, offset: u32) -> Self {
        Cursor {
            worker,
            workers,
            offset,
            ..Cursor::default()
        }
    }

    /// Choices to leave out at the start, of a cycle of so many: from the service's own beginning, workers that take turns
    /// for themselves begin evenly spaced, so that what they do together follows the weights as well.
    fn first(&self, cycle: u32) -> u32 {
        let even = u64::from(self.worker) * u64::from(cycle);
        let even = even.checked_div(u64::from(self.workers)).unwrap_or(0);
        let first = (even + u64::from(self.offset)).checked_rem(u64::from(cycle));
        first.unwrap_or(0) as u32
    }

    /// The place in a list of so many that the service begins at, the same on every worker.
    fn beginning(&self, length: usize) -> usize {
        (self.offset as usize).checked_rem(length).unwrap_or(0)
    }

    /// The real server chosen last, if any was.
    fn last(&self) -> Option<RealId> {
        self.last.load(Relaxed).checked_sub(1).map(RealId)
    }

    /// Its place in the list, if it is still there.
    fn last_place(&self, reals: &[Real]) -> Option<usize> {
        let last = self.last()?;
        let place = self.place.load(Relaxed) as usize;
        if reals.get(place).is_some_and(|real| real.id == last) {
            return Some(place);
        }
        reals.iter().position(|real| real.id == last)
    }

    fn set_last(&self, reals: &[Real], place: usize) {
        self.last.store(reals[place].id.0 + 1, Relaxed);
        self.place.store(place as u32, Relaxed);
    }

    /// A number that the next one does not follow from, by anything that a client can see: xorshift (Marsaglia, 2003).
    fn random(&self) -> u32 {
        let next = xorshift(self.seed());
        self.weight.store(next, Relaxed);
        next
    }

    fn seed(&self) -> u32 {
        match self.weight.load(Relaxed) {
            0 => named::mix(u64::from(self.offset) << 32 | u64::from(self.worker)) as u32 | 1,
            state => state,
        }
    }
}

fn xorshift(mut state: u32) -> u32 {
    state ^= state << 13;
    state ^= state >> 17;
    state ^ state << 5
}

/// A scheduler that a configuration can name.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub description: &'static str,
    /// Any director with the same real servers chooses the same one for a client, connection or not.
    pub is_stateless: bool,
    pub new: fn(&[Real], &Setting) -> Box<dyn Scheduler>,
}

/// What a scheduler is made for, beside its real servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// The VIP, in 32 bits as a client's address is.
    destination: u32,
    /// Whether a client's port counts beside its address (`sh-port`, `mh-port`).
    by_port: bool,
    /// The scheduler of the same service before a change, of the same kind or another.
    former: Option<&'a dyn Scheduler>,
}

impl<'a> Setting<'a> {
    pub fn new(vip: IpAddr, by_port: bool, former: Option<&'a dyn Scheduler>) -> Self {
        Setting {
            destination: folded(vip),
            by_port,
            former,
        }
    }
}

/// What a configured scheduler is.
pub const fn kind(scheduler: config::SchedulerConfig) -> &'static Kind {
    match scheduler {
        config::SchedulerConfig::Rr => &rr::KIND,
        config::SchedulerConfig::Wrr => &wrr::KIND,
        config::SchedulerConfig::Lc => &lc::KIND,
        config::SchedulerConfig::Wlc => &wlc::KIND,
        config::SchedulerConfig::Sed => &sed::KIND,
        config::SchedulerConfig::Nq => &nq::KIND,
        config::SchedulerConfig::P2c => &p2c::KIND,
        config::SchedulerConfig::Twos => &twos::KIND,
        config::SchedulerConfig::Sh => &sh::KIND,
        config::SchedulerConfig::Mh => &mh::KIND,
        config::SchedulerConfig::Rendezvous => &rendezvous::KIND,
        config::SchedulerConfig::Conhash => &conhash::KIND,
        config::SchedulerConfig::Dh => &dh::KIND,
        config::SchedulerConfig::Fo => &fo::KIND,
        config::SchedulerConfig::Ovf => &ovf::KIND,
        config::SchedulerConfig::Lblc => &lblc::KIND,
        config::SchedulerConfig::Lblcr => &lblcr::KIND,
    }
}

/// Whether a scheduler goes by how long real servers take to answer, where weir sees that.
pub const fn goes_by_time(scheduler: config::SchedulerConfig) -> bool {
    matches!(scheduler, config::SchedulerConfig::P2c)
}

/// Every scheduler.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    config::SchedulerConfig::ALL
        .iter()
        .map(|scheduler| kind(*scheduler))
}

/// Whether a real server may be chosen, but for its way.
fn has_weight(real: &Real) -> bool {
    real.weight > 0
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::net::Ipv4Addr;

    use crate::units::WorkerId;
    use std::fmt::Write;

    /// A service with real servers A, B, C …, listed newest first, of which every connection stays open unless a test closes it.
    pub(crate) struct Lab {
        pub reals: Vec<Real>,
        pub stats: Stats,
        cursor: Cursor,
        kind: &'static Kind,
        setting: Setting<'static>,
        scheduler: Box<dyn Scheduler>,
    }

    impl Lab {
        pub(crate) fn new(kind: &'static str, weights: &[u16]) -> Self {
            Self::set(kind, weights, Setting::default())
        }

        /// With `sh-port` or `mh-port`.
        pub(crate) fn by_port(kind: &'static str, weights: &[u16]) -> Self {
            let by_port = Setting {
                by_port: true,
                ..Setting::default()
            };
            Self::set(kind, weights, by_port)
        }

        pub(crate) fn of_vip(kind: &'static str, weights: &[u16], destination: u32) -> Self {
            let of_vip = Setting {
                destination,
                ..Setting::default()
            };
            Self::set(kind, weights, of_vip)
        }

        fn set(kind: &'static str, weights: &[u16], setting: Setting<'static>) -> Self {
            let kind = kinds().find(|it| it.name == kind).unwrap();
            let stats = Stats::new(1).unwrap();
            let scheduler = (kind.new)(&[], &setting);
            let mut lab = Lab {
                reals: vec![],
                stats,
                cursor: Cursor::default(),
                kind,
                setting,
                scheduler,
            };
            for (n, &weight) in weights.iter().enumerate() {
                let id = RealId(n as u32);
                lab.stats.ensure(id);
                lab.reals.insert(
                    0,
                    Real {
                        id,
                        address: IpAddr::from([10, 0, 2, 1 + n as u8]),
                        port: 8080,
                        weight,
                        nominal: weight,
                        is_available: true,
                        keeps_clients: true,
                        thresholds: None,
                    },
                );
            }
            lab.changed();
            lab
        }

        /// As the control thread does after every change.
        pub(crate) fn changed(&mut self) {
            let setting = Setting {
                former: Some(&*self.scheduler),
                ..self.setting
            };
            self.scheduler = (self.kind.new)(&self.reals, &setting);
        }

        pub(crate) fn cursor(&self) -> &Cursor {
            &self.cursor
        }

        pub(crate) fn pick(&self, client: Client) -> Option<Real> {
            self.pick_usable(client, &|_| true)
        }

        pub(crate) fn pick_usable(&self, client: Client, usable: &Usable) -> Option<Real> {
            let cursor = &self.cursor;
            let place = self
                .scheduler
                .pick(&self.reals, client, cursor, &self.stats, usable)?;
            Some(self.reals[place])
        }

        pub(crate) fn connect(&self, address: u32) -> char {
            self.connect_usable(address, &|_| true)
        }

        pub(crate) fn connect_from(&self, address: u32, port: u16) -> char {
            letter(self.open(client(address, port)))
        }

        pub(crate) fn connect_usable(&self, address: u32, usable: &Usable) -> char {
            letter(self.open_usable(client(address, 30_000), usable))
        }

        pub(crate) fn open(&self, client: Client) -> Option<Real> {
            self.open_usable(client, &|_| true)
        }

        fn open_usable(&self, client: Client, usable: &Usable) -> Option<Real> {
            let real = self.pick_usable(client, usable)?;
            self.counted(real.id.index(), |load| load.active.inc());
            Some(real)
        }

        /// Connections of a real server end: they are inactive.
        pub(crate) fn end(&self, real: usize, count: u32) {
            for _ in 0..count {
                self.counted(real, |load| {
                    load.active.dec();
                    load.inactive.inc();
                });
            }
        }

        fn counted(&self, real: usize, count: impl Fn(&crate::stats::Load)) {
            let loads = &self.stats.worker(WorkerId(0)).loads;
            count(loads.get(real).unwrap());
        }

        /// The real servers of `count` new connections.
        pub(crate) fn sequence(&self, count: u32) -> String {
            (0..count).fold(String::new(), |mut sequence, n| {
                write!(sequence, "{}", self.connect(0x0a00_0102 + n)).unwrap();
                sequence
            })
        }
    }

    fn client(address: u32, port: u16) -> Client {
        Client {
            address,
            port,
            ..Client::default()
        }
    }

    fn letter(real: Option<Real>) -> char {
        real.map_or('-', |real| (b'A' + real.id.0 as u8) as char)
    }

    /// Those that give a whole service to one real server for as long as they can.
    const TO_ONE: [&str; 5] = ["dh", "fo", "ovf", "lblc", "lblcr"];

    #[test]
    fn a_scheduler_is_what_the_configuration_calls_it() {
        for scheduler in config::SchedulerConfig::ALL {
            assert_eq!(kind(*scheduler).name, scheduler.name());
        }
    }

    #[test]
    fn without_a_weight_above_0_no_scheduler_chooses_or_hangs() {
        for kind in kinds() {
            assert_eq!(Lab::new(kind.name, &[]).sequence(3), "---", "{}", kind.name);
            assert_eq!(
                Lab::new(kind.name, &[0, 0, 0]).sequence(3),
                "---",
                "{}",
                kind.name
            );
        }
    }

    #[test]
    fn weight_0_gets_no_new_connections() {
        for kind in kinds() {
            let sequence = Lab::new(kind.name, &[1, 0, 2]).sequence(300);
            assert!(!sequence.contains('B'), "{}", kind.name);
            assert!(
                !sequence.contains('-') || kind.name == "ovf",
                "{}",
                kind.name
            );
        }
    }

    #[test]
    fn what_is_not_usable_is_passed_over_and_its_share_goes_to_the_others() {
        for kind in kinds() {
            for weights in [
                [1, 1, 1, 1],
                [2, 7, 1, 3],
                [65_535, 1, 40_000, 9],
                [1, 0, 2, 1],
            ] {
                for down in 0..16u32 {
                    let lab = Lab::new(kind.name, &weights);
                    let is_up = |n: usize| down >> n & 1 == 0;
                    let usable = |real: &Real| is_up(real.id.index());
                    let can = |n: &usize| weights[*n] > 0 && is_up(*n);
                    let expected: Vec<_> = (0..4).filter(can).collect();
                    let mut chosen = [0; 4];
                    for n in 0..400u32 {
                        let client = 0x0a00_0102 + n.wrapping_mul(0x9e37_79b1) % (1 << 24);
                        match lab.connect_usable(client, &usable) {
                            '-' if kind.name == "ovf" => {}
                            '-' => assert!(expected.is_empty(), "{}", kind.name),
                            real => chosen[usize::from(real as u8 - b'A')] += 1,
                        }
                    }
                    for (n, &count) in chosen.iter().enumerate() {
                        assert!(count == 0 || expected.contains(&n), "{}: {n}", kind.name);
                        // With equal weights, none takes the whole of the missing share; `sh` falls as the kernel's, and a
                        // point of `conhash`'s ring leaves its clients to the next one.
                        let spreads =
                            !["sh", "conhash"].contains(&kind.name) && !TO_ONE.contains(&kind.name);
                        if weights == [1; 4] && expected.contains(&n) && spreads {
                            let fair = 400 / expected.len();
                            assert!(
                                count > fair / 2 && count < fair * 3 / 2 + 1,
                                "{}, {down:b} down: {chosen:?}",
                                kind.name
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn workers_that_take_turns_for_themselves_follow_the_weights_together() {
        let client = Client::new(Ipv4Addr::LOCALHOST, 1);
        for (kind, weights) in [("rr", [1, 1, 1, 1]), ("wrr", [5, 3, 2, 2])] {
            let lab = Lab::new(kind, &weights);
            let cycle: u16 = weights.iter().sum();
            for workers in 1..=7 {
                let cursors: Vec<_> = (0..workers).map(|n| Cursor::new(n, workers, 0)).collect();
                let mut connections = [0u32; 4];
                for each in 1..=2 * u32::from(cycle) {
                    for cursor in &cursors {
                        let place = lab
                            .scheduler
                            .pick(&lab.reals, client, cursor, &lab.stats, &|_| true)
                            .unwrap();
                        connections[lab.reals[place].id.index()] += 1;
                    }
                    for (connections, weight) in connections.iter().zip(weights) {
                        let share =
                            f64::from(each * workers * u32::from(weight)) / f64::from(cycle);
                        let off = f64::from(*connections) - share;
                        // Were they to begin at the same one, it would be off by as many as there are workers.
                        assert!(
                            off.abs() <= 2.0,
                            "{kind}, {workers} workers, {each} connections each: {off}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn services_begin_at_different_real_servers_in_proportion() {
        let client = Client::new(Ipv4Addr::LOCALHOST, 1);
        for (kind, weights, expected) in [
            ("rr", [1, 1, 1, 1], [3, 3, 3, 3]),
            ("wrr", [3, 1, 1, 1], [6, 2, 2, 2]),
            ("lc", [1, 1, 1, 1], [3, 3, 3, 3]),
            ("wlc", [1, 1, 1, 1], [3, 3, 3, 3]),
            // In the list, A is behind B.
            ("rr", [1, 0, 1, 1], [6, 0, 3, 3]),
        ] {
            let lab = Lab::new(kind, &weights);
            let mut first = [0; 4];
            for offset in 0..12 {
                let cursor = Cursor::new(0, 1, offset);
                let expect = lab.scheduler.expect(&lab.reals, client, &cursor, 0);
                let place = lab
                    .scheduler
                    .pick(&lab.reals, client, &cursor, &lab.stats, &|_| true)
                    .unwrap();
                first[lab.reals[place].id.index()] += 1;
                if kind == "rr" && !weights.contains(&0) {
                    assert_eq!(expect, place, "the look ahead begins there, too");
                }
            }
            assert_eq!(first, expected, "{kind} {weights:?}");
        }
    }

    #[test]
    fn weights_that_are_edited_all_the_time_do_not_start_the_turns_anew() {
        for kind in ["rr", "wrr"] {
            let mut lab = Lab::new(kind, &[2, 2, 2, 2]);
            let mut chosen = [0; 4];
            for n in 0..400 {
                lab.reals[1].weight = 2 + n % 2;
                lab.changed();
                chosen[usize::from(lab.connect(u32::from(n)) as u8 - b'A')] += 1;
            }
            assert!(chosen.iter().all(|&count| count > 60), "{kind}: {chosen:?}");
        }
    }

    #[test]
    fn removing_or_adding_real_servers_in_mid_sequence_is_survived() {
        for kind in kinds() {
            let mut lab = Lab::new(kind.name, &[3, 2, 1, 5]);
            lab.sequence(5);
            let removed = lab.reals.remove(2);
            lab.changed();
            assert!(!lab.sequence(200).contains('B'), "{}", kind.name);
            lab.reals.insert(0, removed);
            lab.changed();
            let sequence = lab.sequence(400);
            assert!(
                sequence.contains('B') || TO_ONE.contains(&kind.name),
                "{}",
                kind.name
            );
            assert!(
                !sequence.contains('-') || kind.name == "ovf",
                "{}",
                kind.name
            );
        }
    }
}
