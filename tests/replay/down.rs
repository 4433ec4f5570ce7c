//! What becomes of connections and clients when a real server is down, disabled, drained, and back: in every mode.

use super::frames::{ACK, SYN, query, tcp};
use super::{PORTS, T, parse};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use weir::model::Edit;
use weir::replay::{Decision, Replay};
use weir::service::{Health, ServiceKey};
use weir::units::{PortId, Time};
use weir::verdict::{ReplyReason, Verdict};

const WAN: PortId = PortId(0);
const WORKERS: [usize; 3] = [1, 2, 5];
const MODES: [&str; 4] = ["dr", "nat", "fullnat", "tunnel"];

struct Lab {
    replay: Replay,
    now: u64,
    mode: &'static str,
}

impl Lab {
    /// A service of TCP and one of UDP, with the real servers .11 and .12, and these keys.
    fn new(workers: usize, mode: &'static str, keys: &str) -> Self {
        Lab::with(workers, mode, keys, keys)
    }

    /// The same, with keys for that of UDP alone.
    fn udp(workers: usize, mode: &'static str, keys: &str) -> Self {
        Lab::with(workers, mode, "", keys)
    }

    fn with(workers: usize, mode: &'static str, of_tcp: &str, of_udp: &str) -> Self {
        let pool = match mode {
            "fullnat" => "local_pool = \"inside\"\n",
            _ => "",
        };
        let port = match mode {
            "dr" | "tunnel" => "",
            _ => "port = 8080\n",
        };
        let mut text =
            format!("{PORTS}\n[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\n");
        for last in [11, 12, 13] {
            text += &format!(
                "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
            );
        }
        for (protocol, service_port, keys) in [("tcp", 80, of_tcp), ("udp", 53, of_udp)] {
            text += &format!(
                "[[service]]\naddress = \"192.0.2.80\"\nport = {service_port}\nprotocol = \"{protocol}\"\n\
                 mode = \"{mode}\"\nscheduler = \"lc\"\n{pool}{keys}\n"
            );
            for last in [11, 12] {
                text += &format!("[[service.real]]\naddress = \"10.0.0.{last}\"\n{port}");
            }
        }
        Lab {
            replay: Replay::new(&parse(&text), workers, 1000, Time::from_nanos(T)).unwrap(),
            now: T,
            mode,
        }
    }

    fn key(&self, protocol: &str) -> (ServiceKey, u16) {
        let port = if protocol == "tcp" { 80 } else { 53 };
        let key = format!("{protocol}:192.0.2.80:{port}").parse().unwrap();
        let real = match self.mode {
            "dr" | "tunnel" => port,
            _ => 8080,
        };
        (key, real)
    }

    fn time(&mut self) -> Time {
        self.now += 1_000_000;
        Time::from_nanos(self.now)
    }

    /// Changes the same real server of both services.
    fn each(
        &mut self,
        last: u8,
        change: impl Fn(&mut weir::model::Model, &ServiceKey, SocketAddr),
    ) {
        let time = self.time();
        for protocol in ["tcp", "udp"] {
            let (key, port) = self.key(protocol);
            // The fallback server has the service's port.
            let port = if last == 13 { key.port } else { port };
            let real = SocketAddr::new(IpAddr::from([10, 0, 0, last]), port);
            self.replay.change(time, |model| change(model, &key, real));
        }
    }

    fn health(&mut self, last: u8, health: Health) {
        self.each(last, |model, key, real| {
            model.set_health(key, real, health, "said so").unwrap();
        });
    }

    fn edit(&mut self, last: u8, edit: Edit, length: Option<Duration>) {
        let until = length.map(|length| Time::from_nanos(self.now + 1_000_000) + length);
        self.each(last, |model, key, real| {
            model
                .edit(key, (real.ip(), real.port()), edit, until)
                .unwrap();
        });
    }

    fn receive(&mut self, frame: &[u8]) -> Decision {
        let time = self.time();
        let decision = self.replay.receive(WAN, frame, time);
        self.replay.check().unwrap();
        decision
    }

    /// The last number of the address of the real server that a packet went to.
    fn real(&mut self, frame: &[u8]) -> u8 {
        let decision = self.receive(frame);
        assert!(
            matches!(decision.verdict, Verdict::Forward(_)),
            "{decision:?}"
        );
        let id = decision.context.real.unwrap();
        match self.replay.model().real(id).unwrap().1 {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => unreachable!(),
        }
    }

    /// Clients that have an established connection, and a flow, on .12.
    fn clients(&mut self) -> (u16, u16) {
        let is_at = |lab: &mut Lab, n: u16| {
            let real = lab.real(&tcp(5000 + n, SYN));
            assert_eq!(lab.real(&tcp(5000 + n, ACK)), real);
            assert_eq!(lab.real(&query(7000 + n)), real);
            real
        };
        let reals = [is_at(self, 0), is_at(self, 1)];
        match reals {
            [12, 11] => (5000, 7000),
            [11, 12] => (5001, 7001),
            _ => panic!("{reals:?}"),
        }
    }
}

fn every(keys: &str, test: impl Fn(&mut Lab, &str)) {
    for mode in MODES {
        for workers in WORKERS {
            test(
                &mut Lab::new(workers, mode, keys),
                &format!("{mode}, {workers} workers"),
            );
        }
    }
}

type End = fn(&mut Lab);
const ENDS: [(&str, End, End); 2] = [
    (
        "down",
        |lab| lab.health(12, Health::Down),
        |lab| lab.health(12, Health::Up),
    ),
    (
        "disabled",
        |lab| lab.edit(12, Edit::Disable, None),
        |lab| lab.edit(12, Edit::Enable, None),
    ),
];

#[test]
fn by_default_tcp_is_reset_at_the_next_packet_and_udp_moves() {
    for (what, end, begin) in ENDS {
        every("", |lab, case| {
            let (client, udp) = lab.clients();
            end(lab);
            for _ in 0..2 {
                let told = lab.receive(&tcp(client, ACK));
                let expected = Verdict::Reply(WAN, ReplyReason::RealDown);
                assert_eq!(told.verdict, expected, "{case}, {what}");
            }
            assert_eq!(lab.real(&query(udp)), 11, "{case}, {what}");
            assert_eq!(lab.real(&tcp(client, SYN)), 11, "{case}, {what}");
            for n in 0..6 {
                assert_eq!(lab.real(&tcp(6000 + n, SYN)), 11, "{case}, {what}");
            }
            begin(lab);
            let reals: Vec<_> = (0..20).map(|n| lab.real(&tcp(6100 + n, SYN))).collect();
            assert!(reals.contains(&12), "{case}, {what}: {reals:?}");
        });
    }
}

#[test]
fn with_keep_they_go_on_and_a_new_attempt_goes_elsewhere() {
    for (what, end, _) in ENDS {
        every("on_down = \"keep\"", |lab, case| {
            let (client, udp) = lab.clients();
            end(lab);
            assert_eq!(lab.real(&tcp(client, ACK)), 12, "{case}, {what}");
            assert_eq!(lab.real(&query(udp)), 12, "{case}, {what}");
            assert_eq!(lab.real(&tcp(6000, SYN)), 11, "{case}, {what}");
            assert_eq!(lab.real(&tcp(client, SYN)), 11, "{case}, {what}");
        });
    }
}

#[test]
fn with_reschedule_both_go_on_to_another_real_server() {
    for (what, end, begin) in ENDS {
        every("on_down = \"reschedule\"", |lab, case| {
            let (client, udp) = lab.clients();
            end(lab);
            assert_eq!(lab.real(&tcp(client, ACK)), 11, "{case}, {what}");
            assert_eq!(lab.real(&query(udp)), 11, "{case}, {what}");
            begin(lab);
            assert_eq!(lab.real(&tcp(client, ACK)), 11, "{case}, {what}: it stays");
        });
    }
}

#[test]
fn a_syn_that_meets_a_connection_of_a_drained_real_server_is_scheduled_afresh() {
    every("", |lab, case| {
        let (client, udp) = lab.clients();
        lab.edit(12, Edit::Drain, None);
        assert_eq!(lab.real(&tcp(client, ACK)), 12, "{case}: it lives on");
        assert_eq!(lab.real(&query(udp)), 12, "{case}");
        assert_eq!(lab.real(&tcp(client, SYN)), 11, "{case}: established");
        // Half-open.
        lab.edit(12, Edit::Enable, None);
        let half_open = (0..20)
            .find(|n| lab.real(&tcp(6000 + n, SYN)) == 12)
            .unwrap();
        lab.edit(12, Edit::Drain, None);
        assert_eq!(
            lab.real(&tcp(6000 + half_open, SYN)),
            11,
            "{case}: half-open"
        );
    });
}

#[test]
fn what_is_said_for_a_time_is_over_by_itself() {
    let is_open = |lab: &mut Lab, port: u16| {
        let mut reals = (0..8u16).map(|n| lab.real(&tcp(port + n, SYN)));
        reals.any(|real| real == 12)
    };
    for edit in [Edit::Drain, Edit::Disable, Edit::Weight(0)] {
        let mut lab = Lab::new(2, "nat", "");
        lab.edit(12, edit, Some(Duration::from_secs(60)));
        assert!(!is_open(&mut lab, 6000), "{edit:?}");
        lab.now += 59 * super::SECOND;
        assert!(!is_open(&mut lab, 6100), "{edit:?}");
        lab.now += super::SECOND;
        assert!(is_open(&mut lab, 6200), "{edit:?}");
    }
}

#[test]
fn a_real_server_that_comes_back_gets_its_weight_slowly() {
    for scheduler in ["wrr", "wlc", "mh"] {
        let mut lab = Lab::new(1, "nat", "slow_start = \"60s\"");
        let reload = |lab: &mut Lab| {
            let mut config = lab.replay.model().config().clone();
            for service in &mut config.services {
                let service = std::sync::Arc::make_mut(service);
                service.scheduler = *weir::config::SchedulerConfig::ALL
                    .iter()
                    .find(|it| it.name() == scheduler)
                    .unwrap();
            }
            let time = lab.time();
            lab.replay.reload(config, time).unwrap();
        };
        reload(&mut lab);
        let weights = |lab: &Lab| {
            let (key, _) = lab.key("tcp");
            let service = lab.replay.model().find(&key).unwrap().clone();
            let mut weights: Vec<_> = service
                .reals
                .iter()
                .map(|real| (real.address, real.weight))
                .collect();
            weights.sort_unstable();
            [weights[0].1, weights[1].1]
        };
        assert_eq!(weights(&lab), [1, 1], "not at the start");
        lab.health(12, Health::Down);
        assert_eq!(weights(&lab), [1, 0]);
        lab.health(12, Health::Up);
        let mut last = 0;
        let mut generation = lab.replay.model().tables().generation.0;
        for second in 0..60 {
            let [full, slow] = weights(&lab);
            let share = f64::from(slow) / f64::from(full);
            let expected = f64::from(second) / 60.0;
            assert!(slow > 0 && slow >= last, "{scheduler}, {second}");
            assert!(
                (share - expected).abs() < 0.11,
                "{scheduler}, {second}: {slow} of {full}"
            );
            last = slow;
            lab.now += super::SECOND;
            lab.receive(&query(9000));
            // A step of one service is one publication: 20 for each of both.
            let now = lab.replay.model().tables().generation.0;
            assert!(now - generation <= 2, "{scheduler}, {second}");
            generation = now;
        }
        lab.now += 4 * super::SECOND;
        lab.receive(&query(9000));
        assert_eq!(weights(&lab), [1, 1], "{scheduler}");
        // A reload in mid-start changes nothing of it.
        lab.health(12, Health::Down);
        lab.health(12, Health::Up);
        lab.now += 30 * super::SECOND;
        lab.receive(&query(9000));
        let before = weights(&lab);
        reload(&mut lab);
        assert_eq!(weights(&lab), before, "{scheduler}");
    }
}

/// Whether anything still runs that could say so, or not.
#[test]
fn a_real_server_that_nothing_checks_any_longer_is_not_down() {
    let mut lab = Lab::new(2, "nat", "health = { type = \"icmp\" }");
    lab.health(12, Health::Down);
    let reals: Vec<_> = (0..6).map(|n| lab.real(&tcp(6000 + n, SYN))).collect();
    assert!(!reals.contains(&12), "{reals:?}");
    let mut config = lab.replay.model().config().clone();
    for service in &mut config.services {
        std::sync::Arc::make_mut(service).health = None;
    }
    let time = lab.time();
    lab.replay.reload(config, time).unwrap();
    let reals: Vec<_> = (0..6).map(|n| lab.real(&tcp(6100 + n, SYN))).collect();
    assert!(reals.contains(&12), "{reals:?}");
}

#[test]
fn a_dead_link_gets_no_new_connection_and_a_retried_one_is_told() {
    every("", |lab, case| {
        let (client, _) = lab.clients();
        let set = |lab: &mut Lab, is_down| {
            let time = lab.time();
            let lan = PortId(1);
            lab.replay.change(time, |model| {
                let table = model.resolver.neighbours().table();
                table.set_link_down(lan, is_down);
            });
        };
        set(lab, true);
        for port in [6000, client] {
            let told = lab.receive(&tcp(port, SYN));
            let is_refused = matches!(told.verdict, Verdict::Reply(WAN, _));
            assert!(is_refused, "{case}, {port}: {told:?}");
        }
        set(lab, false);
        for port in [6000, client] {
            lab.real(&tcp(port, SYN));
        }
    });
}

#[test]
fn fallback_servers_keep_what_they_have_when_real_servers_are_back() {
    every("fallback = [\"10.0.0.13\"]", |lab, case| {
        let (client, flow) = lab.clients();
        lab.health(11, Health::Down);
        assert_eq!(lab.real(&tcp(client, ACK)), 12, "{case}");
        lab.health(12, Health::Down);
        let decision = lab.receive(&tcp(client, ACK));
        assert_eq!(decision.verdict, Verdict::Reply(WAN, ReplyReason::RealDown));
        assert_eq!(lab.real(&tcp(6000, SYN)), 13, "{case}");
        assert_eq!(lab.real(&tcp(6000, ACK)), 13, "{case}");
        assert_eq!(lab.real(&query(flow)), 13, "{case}");
        assert_eq!(lab.real(&query(8000)), 13, "{case}");
        lab.health(11, Health::Up);
        assert_eq!(lab.real(&tcp(6001, SYN)), 11, "{case}");
        assert_eq!(lab.real(&tcp(6000, ACK)), 13, "{case}");
        assert_eq!(lab.real(&query(8000)), 13, "{case}");
        assert_eq!(lab.real(&query(8001)), 11, "{case}");
        // As with real servers, an operator ends them.
        lab.edit(13, Edit::Drain, None);
        assert_eq!(lab.real(&tcp(6000, ACK)), 13, "{case}");
        lab.edit(13, Edit::Disable, None);
        let decision = lab.receive(&tcp(6000, ACK));
        assert_eq!(decision.verdict, Verdict::Reply(WAN, ReplyReason::RealDown));
        assert_eq!(lab.real(&query(8000)), 11, "{case}");
    });
}

#[test]
fn where_all_real_servers_are_used_connections_of_those_that_are_down_go_on() {
    every("when_below = \"all\"", |lab, case| {
        let (client, flow) = lab.clients();
        lab.edit(11, Edit::Disable, None);
        lab.health(12, Health::Down);
        // Nothing else may be used.
        assert_eq!(lab.real(&tcp(client, ACK)), 12, "{case}");
        assert_eq!(lab.real(&query(flow)), 12, "{case}");
        assert_eq!(lab.real(&tcp(6000, SYN)), 12, "{case}");
        assert_eq!(lab.real(&tcp(6000, ACK)), 12, "{case}");
        lab.edit(11, Edit::Enable, None);
        let decision = lab.receive(&tcp(6000, ACK));
        assert_eq!(decision.verdict, Verdict::Reply(WAN, ReplyReason::RealDown));
        assert_eq!(lab.real(&query(flow)), 11, "{case}");
        assert_eq!(lab.real(&tcp(6001, SYN)), 11, "{case}");
    });
}

#[test]
fn clients_that_are_bound_to_a_drained_real_server_come_to_it_whatever_else_is_used() {
    let keys = "persistence = { timeout = 300, through_drain = true }\nfallback = [\"10.0.0.13\"]";
    every(keys, |lab, case| {
        let bound = lab.real(&tcp(6000, SYN));
        let other = 23 - bound;
        lab.health(other, Health::Down);
        lab.edit(bound, Edit::Drain, None);
        assert_eq!(lab.real(&tcp(6001, SYN)), bound, "{case}: drained");
        lab.edit(bound, Edit::Enable, None);
        lab.health(bound, Health::Down);
        assert_eq!(lab.real(&tcp(6002, SYN)), 13, "{case}: both are down");
        // A fallback server binds no client for longer than it is used.
        lab.health(other, Health::Up);
        assert_eq!(lab.real(&tcp(6003, SYN)), other, "{case}");
    });
}

#[test]
fn a_udp_flow_leaves_a_drained_real_server_after_a_silence() {
    for (keys, after) in [
        ("", Some(5)),
        ("on_drain = \"20s\"", Some(20)),
        ("on_drain = \"keep\"", None),
    ] {
        for mode in MODES {
            for workers in WORKERS {
                let mut lab = Lab::udp(workers, mode, keys);
                let case = format!("{mode}, {workers} workers, {keys}");
                let udp = (0..9)
                    .map(|n| 7000 + n)
                    .find(|n| lab.real(&query(*n)) == 12)
                    .unwrap();
                lab.edit(12, Edit::Drain, None);
                let silence = after.unwrap_or(250);
                for _ in 0..3 {
                    lab.now += silence * super::SECOND - super::SECOND / 2;
                    assert_eq!(lab.real(&query(udp)), 12, "{case}: it is not silent");
                }
                lab.now += silence * super::SECOND;
                let expected = if after.is_some() { 11 } else { 12 };
                assert_eq!(lab.real(&query(udp)), expected, "{case}");
                lab.edit(12, Edit::Enable, None);
                assert_eq!(lab.real(&query(udp)), expected, "{case}: it stays");
                // Without another one it goes on.
                if expected == 11 {
                    lab.edit(12, Edit::Drain, None);
                    lab.edit(11, Edit::Drain, None);
                    lab.now += 2 * silence * super::SECOND;
                    assert_eq!(lab.real(&query(udp)), 11, "{case}: there is no other one");
                }
            }
        }
    }
}

#[test]
fn a_udp_flow_stays_where_it_is_when_its_service_uses_others_meanwhile() {
    for mode in MODES {
        for workers in WORKERS {
            let keys = "min_healthy = 2\nfallback = [\"10.0.0.13\"]";
            let mut lab = Lab::udp(workers, mode, keys);
            let case = format!("{mode}, {workers} workers");
            let mut flows = (0..9).map(|n| 7000 + n);
            let udp = flows.find(|n| lab.real(&query(*n)) == 11).unwrap();
            lab.health(12, Health::Down);
            assert_eq!(lab.real(&query(8000)), 13, "{case}");
            lab.now += 7 * super::SECOND;
            assert_eq!(lab.real(&query(udp)), 11, "{case}: it is available");
            lab.health(12, Health::Up);
            lab.now += 7 * super::SECOND;
            assert_eq!(lab.real(&query(8000)), 13, "{case}");
            // Drained itself, a real server is left while fallback servers are used, too.
            lab.health(12, Health::Down);
            lab.edit(11, Edit::Drain, None);
            lab.now += 7 * super::SECOND;
            assert_eq!(lab.real(&query(udp)), 13, "{case}: it is drained");
        }
    }
}

#[test]
fn a_bound_udp_client_stays_through_a_drain_if_it_may() {
    for (through, expected) in [(true, 12), (false, 11)] {
        let keys = format!("persistence = {{ timeout = 300, through_drain = {through} }}");
        let mut lab = Lab::udp(2, "nat", &keys);
        let real = lab.real(&query(7000));
        lab.edit(real, Edit::Drain, None);
        lab.now += 6 * super::SECOND;
        let other = 23 - real;
        let expected = if expected == 12 { real } else { other };
        assert_eq!(lab.real(&query(7000)), expected, "{through}");
    }
}
