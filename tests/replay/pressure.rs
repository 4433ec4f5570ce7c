//! Full does not mean down: connections that are served stay, and new ones get in at the cost of the least valuable.
//!
//! Each test holds one resource full, with one, two and four workers, in the simulated network of [`super::world`].

use super::world::attack::{Attack, Ends, Kind};
use super::world::client::{Client, Outcome, Wants};
use super::world::packet::TCP;
use super::world::report::{Asks, Report, Scenario};
use super::world::setup::{Service, Setup, tcp, udp, vip};
use super::world::{MILLISECOND, SECOND, World};
use std::net::Ipv4Addr;
use weir::units::RealId;

const WORKERS: [usize; 3] = [1, 2, 4];
const MODES: [&str; 3] = ["dr", "nat", "fullnat"];

fn small(connections: usize, services: &[Service]) -> Scenario {
    let mut setup = Setup::new(services);
    setup.connections = connections;
    Scenario::new(setup)
}

fn blind_ack(after_ms: u64) -> Kind {
    Kind::BlindAck {
        after: after_ms * MILLISECOND,
    }
}

/// Runs it with each number of workers, and holds that clients were served while something was given up for them.
fn holds(what: &str, scenario: &Scenario) -> Vec<Report> {
    let run = |workers| {
        let report = scenario.run(workers);
        let what = format!("{what}, {workers} workers");
        report.assert_good(&what);
        assert!(report.evicted > 0, "{what}: nothing was full: {report:?}");
        report
    };
    WORKERS.map(run).to_vec()
}

#[test]
fn without_pressure_nothing_is_repeated_or_late() {
    for (mode, service) in MODES
        .into_iter()
        .flat_map(|mode| [(mode, tcp(mode)), (mode, udp(mode))])
    {
        for workers in WORKERS {
            let report = small(1000, &[service]).run(workers);
            report.assert_good(mode);
            let late = (report.served_at_once, report.added_99_ms, report.evicted);
            assert_eq!(late, (report.clients, 0, 0), "{mode}: {report:?}");
        }
    }
}

#[test]
fn without_pressure_every_question_is_answered_at_once() {
    for asks in [Asks::Echo, Asks::Closed, Asks::Arp] {
        for workers in WORKERS {
            let mut scenario = small(1000, &[tcp("nat")]);
            (scenario.asks, scenario.setup.is_static) = (asks, false);
            let report = scenario.run(workers);
            report.assert_good(&format!("{asks:?}"));
            assert_eq!(
                report.served_at_once, report.clients,
                "{asks:?}: {report:?}"
            );
        }
    }
}

#[test]
fn a_table_of_10_000_under_100_000_syns_a_second_lets_clients_in_that_are_200_ms_away() {
    let mut scenario = small(10_000, &[tcp("nat")]).attack(Kind::Syn, 0, 100_000);
    scenario.clients = 300;
    let reports = holds("nat", &scenario);
    assert!(reports.iter().all(|report| report.added_99_ms <= 1000));
}

#[test]
fn a_table_full_of_half_open_connections_takes_new_ones() {
    for (mode, kind) in [
        ("nat", Kind::Syn),
        ("nat", blind_ack(1)),
        ("nat", blind_ack(50)),
        ("fullnat", blind_ack(1)),
        ("fullnat", blind_ack(50)),
        ("dr", Kind::Syn),
        ("dr", blind_ack(1)),
    ] {
        // Ten times what fills the table within the minute that a SYN lives.
        let scenario = small(1200, &[tcp(mode)]).attack(kind.clone(), 0, 200);
        let mut scenario = scenario.attack(Kind::Syn, 0, 50);
        scenario.fill = 8 * SECOND;
        holds(&format!("{mode}, {kind:?}"), &scenario);
    }
}

#[test]
fn a_table_full_of_udp_flows_takes_new_ones_of_udp_and_tcp() {
    for answers in [true, false] {
        for mode in ["dr", "nat"] {
            let mut scenario = small(1500, &[tcp(mode), udp(mode)]).attack(Kind::Udp, 1, 500);
            scenario.setup.behaviour.answers = answers;
            scenario.fill = 5 * SECOND;
            holds(&format!("tcp beside udp, {mode}"), &scenario);
            if answers {
                scenario.service = 1;
                scenario.known = 0;
                holds(&format!("udp, {mode}"), &scenario);
            }
        }
    }
}

#[test]
fn forged_clients_of_a_persistent_service_leave_room_for_others() {
    let persistent = Service {
        is_persistent: true,
        ..tcp("nat")
    };
    for kind in [Kind::Syn, blind_ack(1), blind_ack(50)] {
        let mut scenario = small(1200, &[persistent]).attack(kind.clone(), 0, 200);
        scenario.fill = 8 * SECOND;
        holds(&format!("{kind:?}"), &scenario);
    }
}

#[test]
fn connections_of_one_service_that_stay_do_not_take_the_whole_table() {
    let mut scenario = small(2000, &[tcp("nat"), tcp("nat")]);
    scenario.idle = Some((1, 400));
    scenario.fill = 6 * SECOND;
    for workers in WORKERS {
        let report = scenario.run(workers);
        report.assert_good("a share");
        assert_eq!(report.served_at_once, report.clients, "{report:?}");
        assert!(report.idle_refused > 400, "nothing was full: {report:?}");
    }
}

#[test]
fn stateless_schedulers_of_dr_forward_without_an_entry() {
    for (scheduler, is_stateless) in [("sh", true), ("mh", true), ("rr", false)] {
        let service = Service {
            scheduler,
            ..tcp("dr")
        };
        // Connections that have proved themselves, more than the table has room for.
        let mut scenario = small(40, &[service]);
        scenario.known = 80;
        for workers in WORKERS {
            let report = scenario.run(workers);
            match is_stateless {
                true => report.assert_good(scheduler),
                false => assert!(report.success() < 50.0, "nothing was full: {report:?}"),
            }
        }
    }
}

#[test]
fn local_pairs_in_half_open_connections_are_taken_over() {
    // Rates that leave a pair to its connection for two seconds, for four, and for less than a round trip.
    for (pairs, rate) in [(64, 60), (300, 150), (64, 1_400), (200, 3_000)] {
        for kind in [Kind::Syn, blind_ack(1), blind_ack(50)] {
            if rate > 2_000 && !matches!(kind, Kind::Syn) {
                continue;
            }
            let mut scenario = small(100_000, &[tcp("fullnat")]).attack(kind.clone(), 0, rate);
            scenario.setup.pairs = pairs;
            scenario.fill = 4 * SECOND;
            holds(&format!("{pairs} pairs, {rate}/s of {kind:?}"), &scenario);
        }
    }
}

#[test]
fn local_pairs_in_time_wait_are_taken_over_at_once_and_no_real_server_confuses_two_connections() {
    for closes_first in [true, false] {
        let mut scenario = small(10_000, &[tcp("fullnat")]);
        scenario.setup.pairs = 120;
        scenario.setup.behaviour.closes_first = closes_first;
        (scenario.clients, scenario.within) = (2000, 10 * SECOND);
        for report in holds("time_wait", &scenario) {
            let seen = report.seen;
            assert_eq!(report.served_at_once, report.clients, "{report:?}");
            assert_eq!(seen.time_wait_refused, 0, "{report:?}");
            assert_eq!(seen.syn_in_established, 0, "{report:?}");
            assert_eq!(
                seen.time_wait_reset + seen.time_wait_reused > 1000,
                closes_first,
                "{report:?}"
            );
        }
    }
}

#[test]
fn clients_far_away_keep_the_local_pairs_that_they_were_let_in_with() {
    let mut scenario = small(20_000, &[tcp("fullnat")]).attack(Kind::Syn, 0, 20_000);
    (scenario.setup.pairs, scenario.setup.reals) = (200, 1);
    scenario.setup.behaviour.closes_first = true;
    scenario.round_trip = 600 * MILLISECOND;
    (scenario.known, scenario.clients) = (0, 100);
    // What fills the pairs at once grows old at once.
    (scenario.fill, scenario.within) = (6 * SECOND, 4 * SECOND);
    for report in holds("600 ms away", &scenario) {
        // Of what was taken over while the real server's last acknowledgement was under way.
        assert_eq!(report.seen.time_wait_refused, 0, "{report:?}");
        assert!(report.seen.time_wait_reset > 80, "{report:?}");
    }
}

#[test]
fn a_local_pair_whose_entry_was_given_up_is_free_at_its_real_server_too() {
    // The table is full long before the pairs are, and gives up connections in TIME_WAIT.
    let mut scenario = small(600, &[tcp("fullnat")]);
    (scenario.setup.pairs, scenario.setup.behaviour.closes_first) = (600, true);
    (scenario.clients, scenario.within) = (4000, 20 * SECOND);
    for report in holds("a full table", &scenario) {
        assert_eq!(report.served_at_once, report.clients, "{report:?}");
        assert_eq!(report.seen.time_wait_refused, 0, "{report:?}");
        assert!(report.seen.time_wait_reset > 1000, "{report:?}");
    }
}

#[test]
fn datagrams_of_one_service_do_not_take_the_places_of_anothers_handshakes() {
    let mut scenario = small(1000, &[tcp("nat"), udp("nat")]).attack(Kind::Udp, 1, 10_000);
    scenario.round_trip = 600 * MILLISECOND;
    (scenario.clients, scenario.within) = (200, 4 * SECOND);
    scenario.setup.behaviour.closes_first = true;
    scenario.known = 0;
    for report in holds("udp and handshakes", &scenario) {
        assert_eq!(report.served_at_once, report.clients, "{report:?}");
    }
}

#[test]
fn floods_of_two_services_do_not_take_their_places_from_each_other_in_turn() {
    let scenario = small(1000, &[tcp("nat"), udp("nat")]);
    let mut scenario = scenario
        .attack(Kind::Udp, 1, 5_000)
        .attack(Kind::Syn, 0, 5_000);
    scenario.fill = 6 * SECOND;
    scenario.clients = 100;
    holds("two floods", &scenario);
}

#[test]
fn every_one_of_eight_local_pairs_is_found() {
    for workers in WORKERS {
        let mut scenario = small(1000, &[tcp("fullnat")]);
        (scenario.setup.pairs, scenario.setup.reals) = (8, 1);
        (scenario.known, scenario.clients) = (8, 20);
        let report = scenario.run(workers);
        assert_eq!(report.known_lost, 0, "{workers} workers: {report:?}");
        assert_eq!(report.known_answered, report.known_asked, "{report:?}");
        assert_eq!(report.seen.accepted, 8, "there were more: {report:?}");
    }
}

/// Live connections of one client, swept with forged segments that have any number.
fn swept(mode: &'static str, workers: usize, first: Ends) -> World {
    let mut setup = Setup::new(&[tcp(mode)]);
    (setup.connections, setup.reals) = (1000, 3);
    let mut world = World::new(&setup, workers);
    let client = Ipv4Addr::new(60, 1, 2, 3);
    let ports = 5000..5020;
    for (n, port) in ports.clone().enumerate() {
        let mut live = Client::new(n, (client, port), vip(0), TCP, 20 * MILLISECOND);
        live.wants = Wants::Kept {
            every: 100 * MILLISECOND,
        };
        world.add_client(n as u64 * MILLISECOND, live);
    }
    let kind = Kind::Sweep {
        client,
        ports,
        first,
    };
    world.add_attack(Attack::new(kind, vip(0), 10_000, SECOND, 4 * SECOND));
    world.run_until(5 * SECOND);
    world
}

#[test]
fn live_connections_survive_a_sweep_of_forged_resets_fins_and_syns() {
    for mode in MODES {
        for workers in WORKERS {
            for first in [Ends::Rst, Ends::Fin] {
                let world = swept(mode, workers, first);
                let what = format!("{mode}, {workers} workers, {first:?}");
                for client in &world.clients {
                    assert_eq!(client.outcome, Outcome::Served, "{what}: {client:?}");
                    assert!(!client.moved, "{what}: {client:?}");
                    assert!(client.answered >= 35, "{what}: {client:?}");
                }
                assert_eq!(world.seen().confused, 0, "{what}");
                assert!(
                    world.seen().syn_in_established > 1000,
                    "{what}: no SYN came"
                );
                if mode != "dr" && first == Ends::Rst {
                    let stats = world.replay.stats();
                    let reals = (0..16).map(RealId);
                    let active: u32 = reals.map(|real| stats.load(real).0).sum();
                    assert_eq!(active, 20, "{what}: all are established");
                }
            }
        }
    }
}
