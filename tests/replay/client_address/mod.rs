//! Real servers that are told of clients: two ends of TCP with weir between them, on links that lose, repeat and reorder. Both
//! streams arrive whole, and with them what was to be told, whatever happens to whichever packet.

mod end;
mod frame;

use super::{T, parse};
use end::{End, Habits, Out};
use frame::{Ends, Segment};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::wire::proxy::Header;
use weir::wire::toa::Toa;

const MILLISECOND: u64 = 1_000_000;
/// A transfer ends within this, or never.
const PATIENCE: u64 = 3600 * 1000 * MILLISECOND;
const SYN: u8 = 2;
const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);

/// The families of the client and the real server.
#[derive(Clone, Copy, Debug)]
struct Families {
    client_v6: bool,
    real_v6: bool,
}

impl Families {
    fn client(self) -> IpAddr {
        match self.client_v6 {
            true => "2001:db8:51::9".parse().unwrap(),
            false => [198, 51, 100, 9].into(),
        }
    }

    fn vip(self) -> IpAddr {
        match self.client_v6 {
            true => "2001:db8:2::80".parse().unwrap(),
            false => [192, 0, 2, 80].into(),
        }
    }

    fn real(self) -> IpAddr {
        match self.real_v6 {
            true => "2001:db8:10::11".parse().unwrap(),
            false => [10, 0, 0, 11].into(),
        }
    }
}

fn config(families: Families, way: &str, lan_mtu: u16) -> String {
    let pool = if families.real_v6 { "six" } else { "four" };
    let client_address = match way {
        "" => String::new(),
        way => format!("client_address = \"{way}\"\n"),
    };
    format!(
        r#"
limits = {{ connections = 64, answers_per_second = 1000000 }}
[[port]]
name      = "wan"
device    = "net_null0"
addresses = ["198.51.100.1/24", "2001:db8:51::1/64"]
[[port]]
name      = "lan"
device    = "net_null1"
addresses = ["10.0.0.1/24", "2001:db8:10::1/64"]
mtu       = {lan_mtu}
[[neighbour]]
address = "{}"
mac     = "02:00:00:00:00:c1"
[[neighbour]]
address = "{}"
mac     = "02:00:00:00:01:11"
[[local_pool]]
name      = "four"
addresses = ["10.0.0.200"]
[[local_pool]]
name      = "six"
addresses = ["2001:db8:10::200"]
[[service]]
name       = "web"
address    = "{}"
port       = 80
protocol   = "tcp"
mode       = "fullnat"
local_pool = "{pool}"
scheduler  = "rr"
{client_address}real = [{{ address = "{}", port = 8080 }}]
"#,
        families.client(),
        families.real(),
        families.vip(),
        families.real()
    )
}

/// What the links do to packets, in thousandths.
#[derive(Clone, Copy, Debug)]
struct Links {
    lost: u32,
    repeated: u32,
    late: u32,
    seed: u64,
}

/// Numbers that look random, the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn happens(&mut self, thousandths: u32) -> bool {
        self.word() % 1000 < thousandths
    }
}

/// Where a frame arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Weir(PortId),
    Client,
    Real,
}

struct Sim {
    replay: Replay,
    links: Links,
    random: Random,
    now: u64,
    count: u64,
    events: BTreeMap<(u64, u64), (To, Vec<u8>)>,
    client: End,
    real: End,
    client_ends: Ends,
    /// Known once the first packet has come.
    real_ends: Option<Ends>,
    /// Of connections that late SYNs have made.
    others: Vec<Ends>,
    /// The client has heard of the real server.
    is_answered: bool,
    lan_mtu: u16,
    /// Bytes of what was told by options.
    options: Vec<Vec<u8>>,
}

impl Sim {
    fn new(
        families: Families,
        way: &str,
        workers: usize,
        links: Links,
        (client, real): (End, End),
        lan_mtu: u16,
    ) -> Sim {
        let config = parse(&config(families, way, lan_mtu));
        let ends = Ends {
            own: SocketAddr::new(families.client(), 40_000),
            other: SocketAddr::new(families.vip(), 80),
        };
        Sim {
            replay: Replay::new(&config, workers, 64, Time::from_nanos(T)).unwrap(),
            links,
            random: Random(links.seed | 1),
            now: 0,
            count: 0,
            events: BTreeMap::new(),
            client,
            real,
            client_ends: ends,
            real_ends: None,
            others: Vec::new(),
            is_answered: false,
            lan_mtu,
            options: vec![],
        }
    }

    fn plan(&mut self, to: To, frame: Vec<u8>) {
        if self.random.happens(self.links.lost) {
            return;
        }
        let copies = 1 + u64::from(self.random.happens(self.links.repeated));
        for _ in 0..copies {
            let late = match self.random.happens(self.links.late) {
                true => u64::from(self.random.word() % 30) * MILLISECOND,
                false => 0,
            };
            self.count += 1;
            assert!(self.count < 1_000_000, "{:?}\n{:?}", self.client, self.real);
            let at = self.now + MILLISECOND + late;
            self.events.insert((at, self.count), (to, frame.clone()));
        }
    }

    fn send(&mut self, out: Out, is_client: bool) {
        let (ends, to) = match is_client {
            true => (Some(self.client_ends), To::Weir(WAN)),
            false => (self.real_ends, To::Weir(LAN)),
        };
        let Some(ends) = ends else {
            return;
        };
        for segment in out {
            self.plan(to, frame::write(ends, !is_client, &segment));
        }
    }

    /// Lets one packet arrive, or one timer run out.
    fn step(&mut self) {
        let next = self.events.keys().next().map(|(at, _)| *at);
        let timer = [self.client.timer(), self.real.timer()];
        let timer = timer.into_iter().flatten().min();
        match (next, timer) {
            (Some(next), timer) if timer.is_none_or(|timer| next <= timer) => {
                self.now = self.now.max(next);
                if let Some((_, (to, frame))) = self.events.pop_first() {
                    self.arrive(to, &frame);
                }
            }
            (_, Some(timer)) => {
                self.now = self.now.max(timer);
                for is_client in [true, false] {
                    let end = if is_client {
                        &mut self.client
                    } else {
                        &mut self.real
                    };
                    if end.timer().is_some_and(|at| at <= self.now) {
                        let out = end.expire(self.now);
                        self.send(out, is_client);
                    }
                }
            }
            _ => panic!("nothing happens any more"),
        }
    }

    fn arrive(&mut self, to: To, frame: &[u8]) {
        match to {
            To::Weir(port) => {
                let time = Time::from_nanos(T + self.now);
                self.replay.receive(port, frame, time);
                assert_eq!(self.replay.check(), Ok(()));
                let sent: Vec<_> = self.replay.take_frames().collect();
                for frame in sent {
                    let to = if frame.port == WAN {
                        To::Client
                    } else {
                        To::Real
                    };
                    self.plan(to, frame.bytes().to_vec());
                }
            }
            To::Client => {
                let Some((_, segment)) = frame::read(frame) else {
                    return;
                };
                self.is_answered = true;
                let out = self.client.receive(&segment, self.now);
                self.send(out, true);
            }
            To::Real => {
                let Some((ends, segment)) = frame::read(frame) else {
                    return;
                };
                assert!(
                    frame.len() <= 14 + usize::from(self.lan_mtu),
                    "{}",
                    frame.len()
                );
                if self.real_ends.is_some_and(|known| known != ends) {
                    // A SYN that came late, to a connection that was over, made another one, of which the real server knows nothing.
                    assert!(
                        segment.flags & SYN != 0 || self.others.contains(&ends),
                        "one pair"
                    );
                    self.others.push(ends);
                    return;
                }
                self.real_ends = Some(ends);
                self.options.extend(segment.option(254).map(<[u8]>::to_vec));
                let out = self.real.receive(&segment, self.now);
                self.send(out, false);
            }
        }
    }

    /// Has both ends say all that they have.
    fn run(&mut self) {
        let out = self.client.open(self.now);
        self.send(out, true);
        while !(self.client.is_done() && self.real.is_done()) {
            assert!(self.now < PATIENCE, "{:?}\n{:?}", self.client, self.real);
            self.step();
        }
    }
}

fn families() -> impl Strategy<Value = Families> {
    any::<(bool, bool)>().prop_map(|(client_v6, real_v6)| Families { client_v6, real_v6 })
}

fn links() -> impl Strategy<Value = Links> {
    let share = || prop_oneof![Just(0u32), 0..300u32];
    (share(), share(), share(), any::<u64>()).prop_map(|(lost, repeated, late, seed)| Links {
        lost,
        repeated,
        late,
        seed,
    })
}

/// Any, and such that the first byte of data, or one of the next, is number 0.
fn first_number() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), Just(u32::MAX), u32::MAX - 3000..=u32::MAX]
}

fn habits() -> impl Strategy<Value = Habits> {
    (
        (
            first_number(),
            any::<u64>(),
            200u16..1461,
            300u16..20_000,
            0u8..4,
        ),
        (
            0usize..11,
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        ),
    )
        .prop_map(
            |((first, seed, mss, window, shift), (padding, is_whole, urges, keeps, in_syn))| {
                Habits {
                    first,
                    seed,
                    mss,
                    window,
                    shift,
                    padding,
                    sends_whole: is_whole,
                    urges,
                    keeps_alive: keeps,
                    data_in_syn: in_syn,
                }
            },
        )
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..length).map(|_| random.word() as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The real server's stream begins with the header, as the specification has it, and goes on with the client's; the client
    /// has the real server's.
    #[test]
    fn a_header_goes_before_the_stream(
        families in families(),
        workers in prop::sample::select(vec![1usize, 4]),
        links in links(),
        habits in (habits(), habits()),
        lengths in (prop_oneof![Just(0usize), 0..200usize, 0..4_000usize], 0..4_000usize),
        lan_mtu in 1500u16..1600,
    ) {
        let streams = (bytes(1, lengths.0), bytes(2, lengths.1));
        let client = End::new(true, habits.0, streams.0.clone());
        let real = End::new(false, habits.1, streams.1.clone());
        let mut sim = Sim::new(families, "proxy-v2", workers, links, (client, real), lan_mtu);
        sim.run();
        let header = Header::new(sim.client_ends.own, sim.client_ends.other, true);
        let expected = [header.as_bytes(), &streams.0].concat();
        prop_assert!(sim.real.taken() == expected, "the real server's stream");
        prop_assert!(sim.client.taken() == streams.1, "the client's stream");
    }

    /// Options tell the client's address and none other's, and change no stream.
    #[test]
    fn an_option_goes_with_the_stream(
        families in families(),
        workers in prop::sample::select(vec![1usize, 4]),
        links in links(),
        habits in (habits(), habits()),
        lengths in (0..2_000usize, 0..2_000usize),
        forges: bool,
    ) {
        let streams = (bytes(1, lengths.0), bytes(2, lengths.1));
        let mut client = End::new(true, habits.0, streams.0.clone());
        if forges {
            client.forge(Toa::new(([192, 0, 2, 66], 66).into()).as_bytes());
        }
        let real = End::new(false, habits.1, streams.1.clone());
        let mut sim = Sim::new(families, "toa", workers, links, (client, real), 1500);
        sim.run();
        prop_assert!(sim.real.taken() == streams.0, "the real server's stream");
        prop_assert!(sim.client.taken() == streams.1, "the client's stream");
        let expected = Toa::new(sim.client_ends.own);
        prop_assert!(sim.options.iter().all(|option| option == expected.as_bytes()));
        // However full of padding the headers are, and of what was forged: that makes room. Blocks of SACK, of which there are some
        // once something is lost or late, do not.
        if links.lost + links.late == 0 {
            prop_assert!(!sim.options.is_empty());
            prop_assert_eq!(sim.replay.stats().total(|worker| worker.untold.get()), 0);
        }
    }

    /// A client that gives up tells the real server so, whatever of the header has arrived by then.
    #[test]
    fn a_reset_ends_both_sides(
        families in families(),
        links in links(),
        habits in (habits(), habits()),
        after in 0usize..3000,
    ) {
        let mut client = End::new(true, habits.0, bytes(1, 5000));
        client.abort_after(after);
        let mut real = End::new(false, habits.1, bytes(2, 2000));
        real.keep_asking();
        let mut sim = Sim::new(families, "proxy-v2", 1, links, (client, real), 1500);
        let out = sim.client.open(sim.now);
        sim.send(out, true);
        while !sim.real.is_reset() {
            prop_assert!(sim.now < PATIENCE, "{:?}", sim.real);
            sim.step();
        }
    }

    /// Connections go on as they have begun, whatever a reload makes of their service; later ones go as it says then.
    #[test]
    fn a_reload_leaves_streams_whole(
        families in families(),
        links in links(),
        habits in (habits(), habits()),
        ways in prop::sample::select(vec![("", "proxy-v2"), ("proxy-v2", ""), ("proxy-v2", "toa"), ("toa", "proxy-v2")]),
        after in 0usize..60,
    ) {
        let streams = (bytes(1, 3000), bytes(2, 3000));
        let client = End::new(true, habits.0, streams.0.clone());
        let real = End::new(false, habits.1, streams.1.clone());
        let mut sim = Sim::new(families, ways.0, 1, links, (client, real), 1500);
        let out = sim.client.open(sim.now);
        sim.send(out, true);
        let mut steps = 0;
        // The connection is there: until its real server answers, it goes by what its service is then.
        while (steps < after || !sim.is_answered)
            && !(sim.client.is_done() && sim.real.is_done())
        {
            sim.step();
            steps += 1;
        }
        let next = parse(&config(families, ways.1, 1500));
        sim.replay.reload(next, Time::from_nanos(T + sim.now)).unwrap();
        while !(sim.client.is_done() && sim.real.is_done()) {
            prop_assert!(sim.now < PATIENCE, "{:?}\n{:?}", sim.client, sim.real);
            sim.step();
        }
        let header = Header::new(sim.client_ends.own, sim.client_ends.other, true);
        let before: &[u8] = if ways.0 == "proxy-v2" { header.as_bytes() } else { &[] };
        prop_assert!(sim.real.taken() == [before, &streams.0].concat(), "the real server's stream");
        prop_assert!(sim.client.taken() == streams.1, "the client's stream");
    }
}

/// A segment as one side writes it.
impl Segment {
    fn option(&self, kind: u8) -> Option<&[u8]> {
        let mut at = 0;
        while at < self.options.len() && self.options[at] != 0 {
            let length = match self.options[at] {
                1 => 1,
                _ => usize::from(*self.options.get(at + 1)?),
            };
            if self.options[at] == kind {
                return self.options.get(at..at + length);
            }
            at += length.max(1);
        }
        None
    }
}
