//! How long real servers take to answer, as `p2c` goes by it: what is measured, and that one slow real server of five is not felt.

use super::frames::{
    ACK, CLIENT, CLIENT_MAC, End, SYN, VIP, ends, numbered, numbered_data, query, tcp, udp,
};
use super::{PORTS, T, parse, six};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;
use weir::config::Config;
use weir::packet::Packet;
use weir::replay::Replay;
use weir::stats::{BOUNDS_US, Durations, Histogram, Times};
use weir::units::{PortId, RealId, ServiceId, Time};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const MILLI: u64 = 1_000_000;
const FIN: u8 = 1;
const RST: u8 = 4;

/// Where a test is made.
#[derive(Clone, Copy, Debug)]
struct Place {
    mode: &'static str,
    is_six: bool,
    workers: usize,
    histograms: bool,
}

const PLACES: [Place; 4] = [
    Place {
        mode: "nat",
        is_six: false,
        workers: 1,
        histograms: false,
    },
    Place {
        mode: "nat",
        is_six: true,
        workers: 3,
        histograms: false,
    },
    Place {
        mode: "fullnat",
        is_six: false,
        workers: 4,
        histograms: false,
    },
    Place {
        mode: "fullnat",
        is_six: true,
        workers: 1,
        histograms: false,
    },
];

impl Place {
    /// Services of TCP and UDP with so many real servers, from 10.0.0.11 on.
    fn config(self, scheduler: &str, reals: u8) -> Config {
        let mut text = format!(
            "{PORTS}\n[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\n\
             [[neighbour]]\naddress = \"{CLIENT}\"\nmac = \"{CLIENT_MAC}\"\n"
        );
        for last in 11..11 + reals {
            text += &format!(
                "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:11\"\n"
            );
        }
        let mode = self.mode;
        let pool = match mode {
            "fullnat" => "local_pool = \"inside\"\n",
            _ => "",
        };
        for (protocol, port) in [("tcp", 80), ("udp", 53)] {
            text += &format!(
                "[[service]]\naddress = \"{VIP}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
                 mode = \"{mode}\"\nscheduler = \"{scheduler}\"\nhistograms = {}\n{pool}",
                self.histograms
            );
            for last in 11..11 + reals {
                text += &format!("[[service.real]]\naddress = \"10.0.0.{last}\"\n");
            }
        }
        let config = parse(&text);
        match self.is_six {
            true => six::config(&config, false),
            false => config,
        }
    }
}

struct Lab {
    place: Place,
    replay: Replay,
    now: u64,
}

/// A connection: the client's port, and both ends of its packets to the real server.
#[derive(Clone, Copy, Debug)]
struct Flow {
    client: u16,
    local: End,
    real: End,
}

impl Lab {
    fn new(place: Place, scheduler: &str, reals: u8) -> Self {
        let config = place.config(scheduler, reals);
        Lab {
            place,
            replay: Replay::new(&config, place.workers, 20_000, Time::from_nanos(T)).unwrap(),
            now: T,
        }
    }

    fn reload(&mut self, scheduler: &str) {
        let config = self.place.config(scheduler, 1);
        (self.replay.reload(config, Time::from_nanos(self.now))).unwrap();
    }

    /// Has weir receive a frame, or its twin. Returns what it sends on to the other side.
    fn receive(&mut self, port: PortId, frame: &[u8]) -> Option<Vec<u8>> {
        let twin = self.place.is_six.then(|| six::frame(frame).unwrap());
        let frame = twin.as_deref().unwrap_or(frame);
        self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        let is_six = self.place.is_six;
        let mut sent = self.replay.take_frames().filter(|frame| frame.port != port);
        let sent = sent.next()?;
        match is_six {
            true => six::back(sent.packet.data()),
            false => Some(sent.packet.data().to_vec()),
        }
    }

    /// A client's first packet.
    fn begin(&mut self, client: u16, is_tcp: bool) -> Flow {
        let first = match is_tcp {
            true => tcp(client, SYN),
            false => query(client),
        };
        let sent = self.receive(WAN, &first).unwrap();
        let (local, real, _) = ends(&sent).unwrap();
        Flow {
            client,
            local,
            real,
        }
    }

    fn client(&mut self, flow: Flow, flags: u8, sequence: u32, data: &[u8]) {
        let from = (CLIENT, flow.client);
        let frame = numbered_data(from, (VIP, 80), flags, (sequence, 501), data);
        self.receive(WAN, &frame);
    }

    fn real(&mut self, flow: Flow, flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) {
        let numbers = (sequence, acknowledged);
        let frame = numbered_data(flow.real, flow.local, flags, numbers, data);
        self.receive(LAN, &frame);
    }

    fn does(&mut self, flow: Flow, event: Event) {
        match event {
            Event::Answer => {
                let frame = numbered(flow.real, flow.local, SYN | ACK, 500, 2);
                self.receive(LAN, &frame);
                self.client(flow, ACK, 2, b"");
            }
            Event::Ask => self.client(flow, ACK, 2, b"ask"),
            Event::AskAll => self.client(flow, ACK | FIN, 2, b"ask"),
            Event::Take => self.real(flow, ACK, 501, 5, b""),
            Event::Reply => self.real(flow, ACK, 501, 5, b"reply"),
            Event::Greet => self.real(flow, ACK, 501, 2, b"hello"),
            Event::Finish => self.client(flow, ACK | FIN, 5, b""),
            Event::Reset => self.client(flow, RST, 5, b""),
            Event::Refuse => self.real(flow, ACK | RST, 501, 5, b""),
            Event::Hang => self.real(flow, ACK | FIN, 501, 5, b""),
            Event::Datagram => {
                self.receive(WAN, &query(flow.client));
            }
            Event::Reply1 => {
                let frame = udp(flow.real, flow.local, b"me");
                self.receive(LAN, &frame);
            }
            Event::Nothing => self.replay.change(Time::from_nanos(self.now), |_| ()),
        }
    }

    /// Whether each connection knows the next hop of its requests, and that of its replies.
    fn hops(&self) -> Vec<(bool, bool)> {
        let four = self
            .replay
            .connections()
            .map(|(_, it)| (it.hop(false), it.hop(true)));
        let six = self
            .replay
            .connections6()
            .map(|(_, it)| (it.hop(false), it.hop(true)));
        let all = four.chain(six);
        all.map(|(request, reply)| (request.is_some(), reply.is_some()))
            .collect()
    }

    fn mean(&self) -> Option<Duration> {
        let stats = self.replay.stats();
        let means = (0..2).filter_map(|id| stats.mean_first_byte(RealId(id)));
        means.last()
    }

    /// How many durations are in the histograms, and how long they are together: of the services, and of their real servers.
    fn measured(&self, of: fn(&Times) -> &Durations) -> [(u64, Duration); 2] {
        let stats = self.replay.stats();
        let sum = |all: [Histogram; 2]| {
            let count = all.iter().flat_map(|it| it.buckets).sum();
            (count, all.iter().map(|it| it.sum).sum())
        };
        [
            sum([0, 1].map(|id| stats.service_times(ServiceId(id), of))),
            sum([0, 1].map(|id| stats.real_times(RealId(id), of))),
        ]
    }

    fn waiting(&self) -> u32 {
        (0..2)
            .map(|id| self.replay.stats().waiting(RealId(id)))
            .sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The real server's SYN-ACK, and the client's ACK.
    Answer,
    /// The first byte of a request.
    Ask,
    /// The whole request: the client has no more.
    AskAll,
    /// The real server acknowledges it.
    Take,
    Reply,
    /// The real server speaks first.
    Greet,
    /// The client has no more to ask.
    Finish,
    Reset,
    /// The real server's reset.
    Refuse,
    /// The real server closes without an answer.
    Hang,
    /// Another datagram.
    Datagram,
    /// A datagram of the real server's.
    Reply1,
    Nothing,
}

/// What happens at which millisecond, the mean then in milliseconds, and which next hops are known.
type Row = (&'static [(u64, Event)], Option<u64>, Option<(bool, bool)>);

#[test]
fn it_is_the_time_from_the_first_byte_of_the_request_to_the_first_of_the_reply() {
    use Event::*;
    const KNOWN: Option<(bool, bool)> = Some((true, true));
    // What happens when, in milliseconds; the mean then; which next hops are known: where one is not, packets are looked at.
    let of_tcp: &[Row] = &[
        (&[], None, Some((false, false))),
        (&[(1, Answer)], None, Some((false, false))),
        (&[(1, Answer), (5, Ask)], None, Some((true, false))),
        (
            &[(1, Answer), (5, Ask), (9, Take)],
            None,
            Some((true, false)),
        ),
        (
            &[(1, Answer), (5, Ask), (9, Take), (35, Reply)],
            Some(30),
            KNOWN,
        ),
        // Only the first one.
        (
            &[(1, Answer), (5, Ask), (35, Reply), (99, Ask), (999, Reply)],
            Some(30),
            KNOWN,
        ),
        // The request comes in several segments.
        (
            &[(1, Answer), (5, Ask), (7, Ask), (35, Reply)],
            Some(30),
            KNOWN,
        ),
        (
            &[(1, Answer), (5, Ask), (7, Finish), (35, Reply)],
            Some(30),
            KNOWN,
        ),
        (&[(1, Answer), (5, AskAll), (35, Reply)], Some(30), KNOWN),
        (
            &[(1, Answer), (2, Greet), (5, Ask), (35, Reply)],
            None,
            KNOWN,
        ),
        // A side that gives up tells how long it took at least; without an answer nothing is quick.
        (&[(1, Answer), (5, Ask), (65, Reset)], Some(60), None),
        (&[(1, Answer), (5, Ask), (6, Refuse)], None, None),
        (&[(1, Answer), (5, Ask), (6, Hang)], None, None),
        (
            &[(1, Answer), (5, Ask), (9, Take), (10_500, Take)],
            Some(10_000),
            KNOWN,
        ),
        (
            &[
                (1, Answer),
                (5, Ask),
                (9, Take),
                (6_000, Nothing),
                (12_000, Nothing),
                (13_000, Nothing),
            ],
            Some(10_000),
            None,
        ),
    ];
    let of_udp: &[Row] = &[
        (&[], None, Some((true, false))),
        (&[(5, Datagram)], None, Some((true, false))),
        (&[(5, Datagram), (40, Reply1)], Some(40), KNOWN),
        (
            &[(40, Reply1), (60, Datagram), (90, Reply1)],
            Some(40),
            KNOWN,
        ),
    ];
    let ways = [("p2c", false), ("p2c", true), ("rr", true)];
    for (place, (scheduler, histograms)) in PLACES.iter().flat_map(|it| ways.map(|way| (it, way))) {
        let place = Place {
            histograms,
            ..*place
        };
        for (is_tcp, cases) in [(true, of_tcp), (false, of_udp)] {
            for (events, mean, hops) in cases {
                let mut lab = Lab::new(place, scheduler, 1);
                let flow = lab.begin(5000, is_tcp);
                for (after, event) in *events {
                    lab.now = T + after * MILLI;
                    lab.does(flow, *event);
                }
                let what = format!("{place:?}, {events:?}");
                assert_eq!(lab.mean(), mean.map(Duration::from_millis), "{what}");
                if let Some(hops) = hops {
                    assert_eq!(lab.hops(), [*hops], "{what}");
                }
                let waits = !is_tcp && mean.is_none();
                assert_eq!(lab.waiting(), u32::from(waits), "{what}");
                // An answer that is not there is in no histogram.
                let is_there = |wanted: &[Event]| {
                    let mut those = events.iter().filter(|(_, it)| wanted.contains(it));
                    those.next().filter(|_| histograms).map(|(after, _)| *after)
                };
                let expected = |took: Option<u64>| {
                    let took = took.map(Duration::from_millis);
                    [(u64::from(took.is_some()), took.unwrap_or_default()); 2]
                };
                let connect = expected(is_there(&[Answer]));
                assert_eq!(lab.measured(|it| &it.connect), connect, "{what}");
                let reply = expected(mean.filter(|_| is_there(&[Reply, Reply1]).is_some()));
                assert_eq!(lab.measured(|it| &it.first_byte), reply, "{what}");
            }
        }
    }
}

#[test]
fn a_datagram_without_an_answer_is_waited_for_ten_seconds_at_most() {
    for place in PLACES {
        let mut lab = Lab::new(place, "p2c", 1);
        let flow = lab.begin(5000, false);
        for (after, waiting, mean) in [(9, 1, None), (12, 0, Some(10)), (13, 0, Some(10))] {
            lab.now = T + after * 1000 * MILLI;
            lab.does(flow, Event::Nothing);
            lab.does(flow, Event::Nothing);
            let found = (lab.waiting(), lab.mean());
            let mean = mean.map(Duration::from_secs);
            assert_eq!(found, (waiting, mean), "{place:?}, {after} s");
        }
        // One that ends before is waited for no longer, either.
        lab.begin(5001, false);
        assert_eq!(lab.waiting(), 1, "{place:?}");
        lab.replay
            .change(Time::from_nanos(lab.now + 3_600_000 * MILLI), |_| ());
        lab.replay
            .change(Time::from_nanos(lab.now + 3_601_000 * MILLI), |_| ());
        assert_eq!((lab.waiting(), lab.hops()), (0, vec![]), "{place:?}");
    }
}

#[test]
fn a_reload_leaves_connections_what_they_began_as() {
    for place in PLACES {
        let mut lab = Lab::new(place, "p2c", 1);
        let flow = lab.begin(5000, true);
        lab.does(flow, Event::Answer);
        lab.does(flow, Event::Ask);
        lab.reload("rr");
        let other = lab.begin(5001, true);
        lab.does(other, Event::Answer);
        lab.does(other, Event::Ask);
        lab.reload("p2c");
        lab.now += 20 * MILLI;
        lab.does(other, Event::Reply);
        assert_eq!(lab.mean(), None, "{place:?}: it began with rr");
        lab.does(flow, Event::Reply);
        assert_eq!(lab.mean(), Some(Duration::from_millis(20)), "{place:?}");
        lab.does(flow, Event::Ask);
        lab.does(other, Event::Ask);
        assert_eq!(lab.hops(), [(true, true); 2], "{place:?}");
    }
}

#[test]
fn histograms_have_what_their_real_server_took_on_whichever_worker() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for (place, is_tcp) in PLACES.iter().flat_map(|it| [(it, true), (it, false)]) {
        let place = Place {
            histograms: true,
            ..*place
        };
        let mut lab = Lab::new(place, "rr", 3);
        // Of TCP's real servers, UDP's, and both services.
        let mut expected = vec![[Histogram::default(), Histogram::default()]; 8];
        let mut note = |places: [usize; 2], which: usize, nanos: u64| {
            let took = Duration::from_nanos(nanos);
            let bucket = BOUNDS_US
                .iter()
                .position(|most| took <= Duration::from_micros(*most));
            for place in places {
                let histogram = &mut expected[place][which];
                histogram.buckets[bucket.unwrap_or(BOUNDS_US.len())] += 1;
                histogram.sum += took;
            }
        };
        for n in 0..150 {
            lab.now += MILLI;
            let flow = lab.begin(5000 + n, is_tcp);
            let real = usize::from(flow.real.0.octets()[3] - 11);
            let places = if is_tcp { [real, 6] } else { [3 + real, 7] };
            // As often near a bound as anywhere.
            let mut wait = || {
                let bound = 1000 * BOUNDS_US[random(11) as usize];
                bound - 2 + random(5) + random(2) * random(bound)
            };
            let (connect, reply) = (wait(), wait());
            if is_tcp {
                lab.now += connect;
                lab.does(flow, Event::Answer);
                lab.does(flow, Event::Ask);
                note(places, 0, connect);
            }
            lab.now += reply;
            lab.does(flow, if is_tcp { Event::Reply } else { Event::Reply1 });
            note(places, 1, reply);
        }
        let stats = lab.replay.stats();
        let all = |of: fn(&Times) -> &Durations| {
            let reals = (0..6).map(|id| stats.real_times(RealId(id), of));
            let services = (0..2).map(|id| stats.service_times(ServiceId(id), of));
            reals.chain(services).collect::<Vec<_>>()
        };
        let (connect, reply) = (all(|it| &it.connect), all(|it| &it.first_byte));
        let both = connect.into_iter().zip(reply);
        let mut found: Vec<_> = both.map(|(connect, reply)| [connect, reply]).collect();
        // Which real server of a service has which id is of no matter.
        for all in [&mut found, &mut expected] {
            all[..3].sort_by_key(|[_, reply]| reply.sum);
            all[3..6].sort_by_key(|[_, reply]| reply.sum);
        }
        assert_eq!(found, expected, "{place:?}");
    }
}

#[test]
fn a_reload_turns_histograms_on_and_off() {
    for place in PLACES {
        let mut lab = Lab::new(place, "rr", 1);
        let connected = |lab: &Lab| lab.measured(|it| &it.connect)[1].0;
        let mut flows = vec![];
        // Connections that begin without histograms are in none, also if they are answered with them. Counts go on where they were.
        for (n, (histograms, expected)) in [(false, 0), (true, 0), (true, 1), (false, 2), (true, 2)]
            .into_iter()
            .enumerate()
        {
            lab.place.histograms = histograms;
            lab.reload("rr");
            if let Some(flow) = flows.last() {
                lab.does(*flow, Event::Answer);
            }
            assert_eq!(connected(&lab), expected, "{place:?}, {n}");
            flows.push(lab.begin(5000 + n as u16, true));
        }
        // Another service that gets its ids begins anew.
        lab.place.histograms = false;
        let without = Place {
            mode: "nat",
            ..lab.place
        }
        .config("rr", 0);
        (lab.replay.reload(without, Time::from_nanos(lab.now))).unwrap();
        for seconds in [200, 400, 4_000, 8_000] {
            lab.replay
                .change(Time::from_nanos(lab.now + seconds * 1_000 * MILLI), |_| ());
        }
        lab.now += 9_000_000 * MILLI;
        lab.place.histograms = true;
        lab.reload("rr");
        assert_eq!(connected(&lab), 0, "{place:?}");
        let flow = lab.begin(7000, true);
        lab.does(flow, Event::Answer);
        assert_eq!(connected(&lab), 1, "{place:?}");
    }
}

/// How long the slowest hundredth of requests took at least, in milliseconds, and how many each real server got.
fn slowest(place: Place, is_tcp: bool, scheduler: &str, works: &[u64]) -> (f64, BTreeMap<u8, u32>) {
    const REQUESTS: u32 = 2_500;
    let mut lab = Lab::new(place, scheduler, works.len() as u8);
    let mut seed = 0x2545_f491u32;
    let mut chance = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        f64::from(seed) / f64::from(u32::MAX)
    };
    let (mut ends, mut free) = (BinaryHeap::new(), vec![T; works.len()]);
    let (mut took, mut got, mut clock) = (vec![], BTreeMap::new(), 0.0);
    for n in 0..REQUESTS {
        // Four real servers of 10 ms are at work half of the time.
        clock -= chance().ln() * 5.0 * MILLI as f64;
        let now = T + clock as u64;
        while let Some(&Reverse((end, client, local, real))) = ends.peek()
            && end <= now
        {
            ends.pop();
            lab.now = end;
            let flow = Flow {
                client,
                local,
                real,
            };
            match is_tcp {
                true => [Event::Reply, Event::Reset].map(|event| lab.does(flow, event)),
                false => [Event::Reply1, Event::Nothing].map(|event| lab.does(flow, event)),
            };
        }
        lab.now = now;
        let flow = lab.begin(2_000 + n as u16, is_tcp);
        if is_tcp {
            lab.does(flow, Event::Answer);
            lab.does(flow, Event::Ask);
        }
        let last = flow.real.0.octets()[3];
        let number = usize::from(last - 11);
        let work = -chance().ln() * (works[number] * MILLI) as f64;
        free[number] = free[number].max(now) + work as u64;
        ends.push(Reverse((free[number], flow.client, flow.local, flow.real)));
        if n >= REQUESTS / 10 {
            took.push(free[number] - now);
            *got.entry(last).or_insert(0) += 1;
        }
    }
    took.sort_unstable();
    (took[took.len() * 99 / 100] as f64 / MILLI as f64, got)
}

#[test]
fn one_slow_real_server_of_five_is_not_felt() {
    for (place, is_tcp) in [(PLACES[0], true), (PLACES[1], false), (PLACES[2], true)] {
        let (four, _) = slowest(place, is_tcp, "p2c", &[10; 4]);
        let (five, got) = slowest(place, is_tcp, "p2c", &[10, 10, 10, 10, 100]);
        let (turns, _) = slowest(place, is_tcp, "rr", &[10, 10, 10, 10, 100]);
        let what = format!("{place:?}: {four} ms, {five} ms, by turns {turns} ms; {got:?}");
        println!("{what}");
        assert!(five <= 1.3 * four && turns > 5.0 * four, "{what}");
    }
}
