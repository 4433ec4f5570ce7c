//! A reload changes what the new file changes, and no other connections.

use super::frames::{ACK, SYN, VIP, ends, query, tcp};
use super::{PORTS, SECOND, T, parse};
use weir::config::Config;
use weir::net::ipv4;
use weir::replay::{Decision, Replay};
use weir::units::{PortId, Time};
use weir::verdict::{ReplyReason, Verdict};

const WAN: PortId = PortId(0);

/// A `web` service (fullnat, tcp) and a `dns` service (nat, udp) with these real servers and weights.
fn config(web: &[(u8, u16)], dns: &[(u8, u16)]) -> Config {
    let reals = |reals: &[(u8, u16)]| {
        let real = |(last, weight): &(u8, u16)| {
            format!(
                "[[service.real]]\naddress = \"10.0.0.{last}\"\nport = 8080\nweight = {weight}\n"
            )
        };
        reals.iter().map(real).collect::<String>()
    };
    let mut text = format!(
        r#"{PORTS}
[[local_pool]]
name = "inside"
addresses = ["10.0.0.200"]
ports = "40000-40999"
"#,
    );
    for last in 11..20 {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    if !web.is_empty() {
        text += "[[service]]\nname = \"web\"\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\"\n\
                 mode = \"fullnat\"\nlocal_pool = \"inside\"\nscheduler = \"lc\"\n";
        text += &reals(web);
    }
    if !dns.is_empty() {
        text += "[[service]]\nname = \"dns\"\naddress = \"192.0.2.80\"\nport = 53\nprotocol = \"udp\"\n\
                 mode = \"nat\"\nscheduler = \"lc\"\n";
        text += &reals(dns);
    }
    parse(&text)
}

/// Nothing depends on how many workers share the packets.
const WORKERS: [usize; 4] = [1, 2, 4, 7];

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    fn new(workers: usize, config: &Config) -> Self {
        Lab {
            replay: Replay::new(config, workers, 10_000, Time::from_nanos(T)).unwrap(),
            now: T,
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
    }

    fn receive(&mut self, frame: &[u8]) -> Decision {
        self.now += 1_000_000;
        let decision = self.replay.receive(WAN, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        decision
    }

    fn reload(&mut self, config: Config) -> weir::model::Changes {
        self.replay
            .reload(config, Time::from_nanos(self.now))
            .unwrap()
    }

    /// The last number of the real server's address that a packet of the client was sent to.
    fn real(&mut self, frame: &[u8]) -> u8 {
        let decision = self.receive(frame);
        assert!(
            matches!(decision.verdict, Verdict::Forward(_)),
            "{decision:?}"
        );
        let sent = self.replay.take_frames().last().unwrap();
        sent.bytes()[33]
    }

    /// What becomes of the real server's answer to a packet of the client's.
    fn receive_back(&mut self, frame: &[u8]) -> Decision {
        self.receive(frame);
        let sent = self.replay.take_frames().last().unwrap();
        let reply = answer(sent.bytes());
        self.now += 1_000_000;
        self.replay
            .receive(PortId(1), &reply, Time::from_nanos(self.now))
    }

    fn connect(&mut self, client_port: u16) -> u8 {
        let real = self.real(&tcp(client_port, SYN));
        assert_eq!(self.real(&tcp(client_port, ACK)), real);
        real
    }
}

#[test]
fn established_connections_stay_where_they_are_whatever_else_changes() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &config(&[(11, 1), (12, 1), (13, 1)], &[(11, 1)]));
        let before: Vec<u8> = (0..6).map(|n| lab.connect(5000 + n)).collect();
        assert_eq!(before, [13, 12, 11, 13, 12, 11]);
        let changes = lab.reload(config(
            &[(15, 2), (13, 7), (11, 0), (12, 1), (16, 1)],
            &[(17, 1)],
        ));
        assert_eq!(
            (
                changes.reals_added,
                changes.reals_removed,
                changes.reals_reweighted
            ),
            (3, 1, 2)
        );
        let after: Vec<u8> = (0..6).map(|n| lab.real(&tcp(5000 + n, ACK))).collect();
        assert_eq!(after, before);
    }
}

#[test]
fn new_connections_follow_the_new_file_at_once() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &config(&[(11, 1), (12, 1)], &[(11, 1)]));
        lab.connect(5000);
        lab.reload(config(&[(11, 0), (12, 1), (14, 1)], &[(11, 1)]));
        let reals: Vec<u8> = (0..4).map(|n| lab.connect(5100 + n)).collect();
        assert!(
            reals.iter().all(|real| matches!(real, 12 | 14)),
            "{reals:?}"
        );
        assert!(reals.contains(&12) && reals.contains(&14), "{reals:?}");
    }
}

#[test]
fn a_removed_real_servers_connections_end_tcp_by_reset_udp_elsewhere() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &config(&[(11, 1), (12, 1)], &[(11, 1), (12, 1)]));
        assert_eq!((lab.connect(5001), lab.connect(5000)), (12, 11));
        assert_eq!((lab.real(&query(7001)), lab.real(&query(7000))), (12, 11));
        lab.reload(config(&[(11, 1)], &[(11, 1)]));
        assert_eq!(lab.real(&tcp(5000, ACK)), 11);
        let reset = lab.receive(&tcp(5001, ACK));
        assert_eq!(reset.verdict, Verdict::Reply(WAN, ReplyReason::RealRemoved));
        let frame = lab.replay.take_frames().last().unwrap();
        assert_eq!(frame.bytes()[14 + 20 + 13], 4, "a RST to the client");
        let again = lab.receive(&tcp(5001, ACK));
        assert_eq!(
            again.verdict,
            Verdict::Reply(WAN, ReplyReason::RealRemoved),
            "the first one may be lost"
        );
        assert_eq!(lab.connect(5001), 11, "a new attempt from the same port");
        assert_eq!((lab.real(&query(7000)), lab.real(&query(7001))), (11, 11));
    }
}

#[test]
fn a_real_server_that_comes_back_has_its_connections_again() {
    for workers in WORKERS {
        let both = config(&[(11, 1), (12, 1)], &[]);
        let mut lab = Lab::new(workers, &both);
        assert_eq!((lab.connect(5001), lab.connect(5000)), (12, 11));
        lab.reload(config(&[(11, 1)], &[]));
        lab.wait(10);
        lab.reload(both);
        assert_eq!(lab.real(&tcp(5001, ACK)), 12);
    }
}

#[test]
fn a_service_that_goes_and_comes_keeps_no_ghosts() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &config(&[(11, 1)], &[(11, 1)]));
        lab.connect(5000);
        let changes = lab.reload(config(&[], &[(11, 1)]));
        assert_eq!(changes.services_removed, 1);
        let refused = lab.receive(&tcp(5000, ACK));
        assert_eq!(
            refused.verdict,
            Verdict::Reply(WAN, ReplyReason::RealRemoved)
        );
        let refused = lab.receive(&tcp(5001, SYN));
        assert_eq!(
            refused.verdict,
            Verdict::Reply(WAN, ReplyReason::NoService),
            "the VIP has another service"
        );
        lab.reload(config(&[(12, 1)], &[(11, 1)]));
        assert_eq!(lab.connect(5001), 12);
    }
}

#[test]
fn counters_survive_a_change_and_do_not_pass_to_another_real_server() {
    for workers in WORKERS {
        let with = |reals: &[(u8, u16)]| config(reals, &[]);
        let mut lab = Lab::new(workers, &with(&[(11, 1), (12, 1)]));
        for n in 0..6 {
            lab.connect(5000 + n);
        }
        let totals = |lab: &Lab| -> Vec<u64> {
            let model = lab.replay.model();
            let service = model.services().next().unwrap();
            let reals = service
                .reals
                .iter()
                .rev()
                .map(|real| model.real_totals(real.id).connections);
            reals
                .chain([model.service_totals(service).connections])
                .collect()
        };
        assert_eq!(totals(&lab), [3, 3, 6]);
        lab.reload(with(&[(11, 5)]));
        assert_eq!(totals(&lab), [3, 6], "the service counts what it had");
        // Everything of 12 times out, and its place is used again.
        lab.wait(3_600);
        lab.receive(&tcp(6000, SYN));
        lab.wait(2);
        lab.receive(&tcp(6001, SYN));
        assert_eq!(totals(&lab), [5, 8]);
        lab.reload(with(&[(11, 5), (13, 1)]));
        assert_eq!(totals(&lab), [5, 0, 8]);
    }
}

#[test]
fn an_address_may_become_something_else_in_one_reload() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &config(&[(11, 1)], &[]));
        lab.connect(5000);
        let more = "\"198.51.100.1/24\", \"192.0.2.80/24\"";
        let moved = parse(&PORTS.replace("\"198.51.100.1/24\"", more));
        lab.reload(moved);
        let addresses = &lab.replay.model().tables().addresses;
        assert_eq!(addresses.get(&VIP), Some(&weir::tables::Owner::Port(WAN)));
        assert_eq!(lab.receive(&tcp(6000, SYN)).verdict.name(), "local");
    }
}

#[test]
fn what_needs_a_restart_changes_nothing() {
    for workers in WORKERS {
        let before = config(&[(11, 1)], &[]);
        let mut lab = Lab::new(workers, &before);
        let mut other = config(&[(12, 1)], &[]);
        other.ports[0].device = "net_tap7".into();
        let refused = lab
            .replay
            .reload(other, Time::from_nanos(lab.now))
            .unwrap_err();
        assert!(refused.to_string().contains("restart"), "{refused}");
        assert_eq!(lab.replay.model().config(), &before);
        assert_eq!(lab.connect(5000), 11);
    }
}

#[test]
fn a_reload_is_one_generation_however_much_it_changes() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &config(&[(11, 1)], &[(11, 1)]));
        let generation = lab.replay.model().tables().generation.0;
        lab.reload(config(&[(12, 2), (13, 1)], &[(14, 1), (15, 1)]));
        assert_eq!(lab.replay.model().tables().generation.0, generation + 1);
    }
}

#[test]
fn fullnat_connections_never_share_a_reply_key() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &config(&[(11, 1), (12, 1)], &[]));
        let mut keys = std::collections::HashSet::new();
        for n in 0..800 {
            lab.receive(&tcp(5000 + n, SYN));
            let frame = lab.replay.take_frames().last().unwrap();
            assert!(keys.insert(ends(frame.bytes()).unwrap()));
        }
    }
}

/// One nat service of 192.0.2.80, on this port, with these other keys.
fn nat(port: u16, more: &str) -> String {
    format!(
        "[[service]]\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"tcp\"\nmode = \"nat\"\nscheduler = \"rr\"\n{more}\n\
         [[service.real]]\naddress = \"10.0.0.11\"\n"
    )
}

/// What the receiver of a frame would send back.
fn answer(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for (one, other, length) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        answer[one..one + length].copy_from_slice(&frame[other..other + length]);
        answer[other..other + length].copy_from_slice(&frame[one..one + length]);
    }
    answer
}

#[test]
fn connections_go_on_when_other_workers_would_own_them_from_now_on() {
    let neighbours = r#"
[[neighbour]]
address = "10.0.0.11"
mac = "02:00:00:00:01:11"
[[neighbour]]
address = "198.51.100.9"
mac = "02:00:00:00:02:07"
"#;
    let (plain, every) = (nat(80, ""), nat(0, ""));
    let bound = nat(80, "persistence = { timeout = 300 }");
    let masked = nat(80, "persistence = { timeout = 300, prefix_v4 = 16 }");
    let both = every.clone() + &plain;
    let changes = [
        ("persistence added", &plain, &bound),
        ("persistence removed", &bound, &plain),
        ("another mask", &bound, &masked),
        (
            "a service of one port beside that of every port",
            &every,
            &both,
        ),
    ];
    for workers in WORKERS {
        for (what, before, after) in changes {
            let config = |services: &str| parse(&format!("{PORTS}{neighbours}{services}"));
            let mut lab = Lab::new(workers, &config(before));
            let clients = 5000..5024;
            for client in clients.clone() {
                lab.connect(client);
            }
            lab.reload(config(after));
            for client in clients {
                assert_eq!(lab.real(&tcp(client, ACK)), 11, "{what}, {workers} workers");
                let sent = lab.receive_back(&tcp(client, ACK));
                assert!(
                    matches!(sent.verdict, Verdict::Forward(WAN)),
                    "the reply: {what}, {workers} workers: {sent:?}"
                );
            }
        }
    }
}

/// A `web` service (tcp, port 80) and a `dns` service (udp, port 53) of this mode, each with two real servers, and with
/// these other keys.
fn pair(mode: &str, more: &str) -> String {
    let mut text = format!(
        "{PORTS}\n[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\nports = \"40000-40999\"\n"
    );
    for last in 11..13 {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    let pool = match mode {
        "fullnat" => "local_pool = \"inside\"\n",
        _ => "",
    };
    for (name, protocol, port) in [("web", "tcp", 80), ("dns", "udp", 53)] {
        text += &format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"{protocol}\"\n\
             mode = \"{mode}\"\nscheduler = \"rr\"\n{pool}{more}\n\
             [[service.real]]\naddress = \"10.0.0.11\"\n[[service.real]]\naddress = \"10.0.0.12\"\n"
        );
    }
    text
}

#[test]
fn persistence_that_comes_or_goes_moves_no_flow_and_every_client_of_a_removed_service_is_told() {
    let persistence =
        |prefix: u8| format!("persistence = {{ timeout = 300, prefix_v4 = {prefix} }}");
    let changes = [
        (String::new(), persistence(32)),
        (persistence(32), String::new()),
        (persistence(32), persistence(24)),
    ];
    for workers in WORKERS {
        for mode in ["nat", "fullnat", "dr"] {
            for (before, after) in &changes {
                let what = format!("{mode}, {workers} workers, {before:?} to {after:?}");
                let mut lab = Lab::new(workers, &parse(&pair(mode, before)));
                let clients = 5000..5016;
                // By the MAC address: dr leaves the others.
                let real = |lab: &mut Lab, frame: &[u8]| {
                    let decision = lab.receive(frame);
                    assert!(
                        matches!(decision.verdict, Verdict::Forward(_)),
                        "{what}: {decision:?}"
                    );
                    let sent = lab.replay.take_frames().last().unwrap();
                    (sent.bytes()[5], decision.context.new_connection)
                };
                let mut reals = Vec::new();
                for client in clients.clone() {
                    let (web, _) = real(&mut lab, &tcp(client, SYN));
                    real(&mut lab, &tcp(client, ACK));
                    reals.push((web, real(&mut lab, &query(client)).0));
                }
                lab.reload(parse(&pair(mode, after)));
                for (client, (web, dns)) in clients.clone().zip(reals) {
                    assert_eq!(real(&mut lab, &tcp(client, ACK)), (web, false), "{what}");
                    assert_eq!(real(&mut lab, &query(client)), (dns, false), "{what}");
                }
                lab.reload(parse(PORTS));
                for client in clients {
                    let told = lab.receive(&tcp(client, ACK));
                    let reason = ReplyReason::RealRemoved;
                    assert_eq!(told.verdict, Verdict::Reply(WAN, reason), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_service_that_comes_back_is_the_one_that_its_connections_name() {
    for workers in WORKERS {
        let both = config(&[(11, 1)], &[(11, 1)]);
        let mut lab = Lab::new(workers, &both);
        lab.connect(5000);
        let named = |lab: &mut Lab, frame: &[u8]| {
            let decision = lab.receive(frame);
            let model = lab.replay.model();
            let id = decision.context.service.unwrap();
            assert_eq!(model.service_of(decision.context.real.unwrap()), Some(id));
            (id, model.service_name(id).unwrap().to_string())
        };
        let (id, name) = named(&mut lab, &tcp(5000, ACK));
        assert_eq!(name, "web");
        lab.reload(config(&[], &[(11, 1)]));
        assert_eq!(named(&mut lab, &tcp(5000, ACK)), (id, "web".into()), "gone");
        lab.reload(both.clone());
        let again = named(&mut lab, &tcp(5001, SYN));
        assert_eq!(again, (id, "web".into()), "back");

        // Its id is another's only when nothing of it is left.
        lab.reload(config(&[], &[(11, 1)]));
        lab.wait(4_000);
        for _ in 0..3 {
            lab.receive(&query(7000));
            lab.wait(2);
        }
        let model = lab.replay.model();
        assert_eq!(model.service_name(id), None);
        lab.reload(both);
        assert_eq!(named(&mut lab, &tcp(5002, SYN)), again);
    }
}

/// The last number of the address of the real server that the client's SYN goes to.
fn opens(lab: &mut Lab, client_port: u16) -> u8 {
    let decision = lab.receive(&tcp(client_port, SYN));
    assert!(
        matches!(decision.verdict, Verdict::Forward(_)),
        "{decision:?}"
    );
    let real = decision.context.real.unwrap();
    ipv4(lab.replay.model().real(real).unwrap().1).octets()[3]
}

#[test]
fn a_syn_that_meets_a_connection_of_a_drained_or_removed_real_server_is_scheduled_afresh() {
    for workers in WORKERS {
        // Half-open, and established as far as the client tells.
        for established in [false, true] {
            let mut lab = Lab::new(workers, &config(&[(11, 1)], &[]));
            assert_eq!(opens(&mut lab, 5000), 11);
            if established {
                assert_eq!(lab.real(&tcp(5000, ACK)), 11);
            }
            lab.reload(config(&[(11, 0), (12, 1)], &[]));
            if established {
                assert_eq!(lab.real(&tcp(5000, ACK)), 11, "it lives on");
            }
            assert_eq!(opens(&mut lab, 5000), 12);
            assert_eq!(lab.real(&tcp(5000, ACK)), 12);
            lab.reload(config(&[(11, 1)], &[]));
            assert_eq!(opens(&mut lab, 5000), 11);
        }
    }
}

#[test]
fn a_drained_real_server_gets_no_new_connection_of_a_persistent_client_unless_it_may() {
    for workers in WORKERS {
        for mode in ["nat", "dr"] {
            for through_drain in [false, true] {
                let with = |weight: u16| {
                    parse(&format!(
                        "{PORTS}{}",
                        persistent(mode, through_drain, weight)
                    ))
                };
                let mut lab = Lab::new(workers, &with(1));
                let first = opens(&mut lab, 5000);
                // The other one has the lower weight, so that the first choice is the same with any number of workers.
                assert_eq!(first, 11);
                assert_eq!(opens(&mut lab, 5001), 11);
                lab.reload(with(0));
                let expected = if through_drain { 11 } else { 12 };
                assert_eq!(opens(&mut lab, 5002), expected);
                lab.reload(with(1));
                assert_eq!(opens(&mut lab, 5003), expected, "bound anew, and for good");
            }
        }
    }
}

/// A persistent service whose first real server has this weight, or a hundred times it.
fn persistent(mode: &str, through_drain: bool, weight: u16) -> String {
    let mut text = format!(
        "[[service]]\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\"\nmode = \"{mode}\"\nscheduler = \"wlc\"\n\
         persistence = {{ timeout = 300, through_drain = {through_drain} }}\n"
    );
    for (last, weight) in [(12, 1), (11, weight * 100)] {
        text += &format!(
            "[[service.real]]\naddress = \"10.0.0.{last}\"\nport = 80\nweight = {weight}\n"
        );
    }
    for last in [11, 12] {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    text
}
