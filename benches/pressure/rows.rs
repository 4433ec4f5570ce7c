//! The scenarios of the figures: weir as it is configured by default, each resource under ten times the rate that
//! fills it, and a few that are worse.

use crate::world::attack::Kind;
use crate::world::report::{Asks, Scenario};
use crate::world::setup::{Service, Setup, tcp, udp};
use crate::world::{MILLISECOND, SECOND};

pub struct Row {
    resource: &'static str,
    pressure: &'static str,
    pub scenario: Scenario,
}

impl Row {
    /// As it begins in the table.
    pub fn text(&self) -> String {
        format!("{} | {}", self.resource, self.pressure)
    }
}

pub fn rows() -> Vec<Row> {
    let row = |resource, pressure, scenario| Row {
        resource,
        pressure,
        scenario,
    };
    let on = |services: &[Service], fill: u64| {
        let mut scenario = Scenario::new(Setup::new(services));
        (scenario.clients, scenario.within, scenario.fill) = (1000, 2 * SECOND, fill * SECOND);
        scenario.known = 100;
        scenario
    };
    let small = |mut scenario: Scenario, connections| {
        scenario.setup.connections = connections;
        scenario
    };
    let quick = |mut scenario: Scenario| {
        scenario.setup.behaviour.closes_first = true;
        scenario
    };
    let asks = |what: Asks| {
        let mut scenario = on(&[tcp("nat"), tcp("nat")], 1);
        (scenario.asks, scenario.clients) = (what, 200);
        scenario
    };
    // What a SYN leaves lives for a minute, a UDP flow for five.
    let (syns, flows) = (10 * (1 << 20) / 60, 10 * (1 << 20) / 300);
    let blind = |after: u64| Kind::BlindAck {
        after: after * MILLISECOND,
    };
    let sh = Service {
        scheduler: "sh",
        ..tcp("dr")
    };
    let persistent = Service {
        is_persistent: true,
        ..tcp("nat")
    };
    vec![
        row("connection table", "nothing", on(&[tcp("nat")], 1)),
        row(
            "connection table",
            "175,000 SYN/s",
            on(&[tcp("nat")], 7).attack(Kind::Syn, 0, syns),
        ),
        row(
            "connection table of 10,000",
            "100,000 SYN/s",
            small(on(&[tcp("nat")], 1), 10_000).attack(Kind::Syn, 0, 100_000),
        ),
        row(
            "connection table of 100,000",
            "17,000 SYN/s, with a blind ACK at once",
            small(on(&[tcp("nat")], 7), 100_000).attack(blind(0), 0, 17_000),
        ),
        row(
            "connection table of 100,000",
            "17,000 SYN/s, with a blind ACK after the answer",
            small(on(&[tcp("nat")], 7), 100_000).attack(blind(50), 0, 17_000),
        ),
        row(
            "persistence, table of 100,000",
            "17,000 SYN/s",
            small(on(&[persistent], 7), 100_000).attack(Kind::Syn, 0, 17_000),
        ),
        row(
            "local pairs, 2 × 64,512",
            "8,000 SYN/s",
            on(&[tcp("fullnat")], 18).attack(Kind::Syn, 0, 8_000),
        ),
        row(
            "local pairs, 2 × 64,512",
            "21,500 SYN/s",
            on(&[tcp("fullnat")], 7).attack(Kind::Syn, 0, 21_500),
        ),
        row(
            "local pairs, 2 × 1,000, in TIME_WAIT",
            "500 clients a second",
            {
                let mut scenario = quick(on(&[tcp("fullnat")], 1));
                scenario.setup.pairs = 1000;
                (scenario.clients, scenario.within) = (5000, 10 * SECOND);
                scenario
            },
        ),
        row(
            "a service's share, table of 100,000",
            "17,000 SYN/s for another service",
            small(on(&[tcp("nat"), tcp("nat")], 7), 100_000).attack(Kind::Syn, 1, 17_000),
        ),
        row(
            "a service's share, table of 10,000",
            "1,700 connections a second of another service, which stay",
            {
                let mut scenario = small(on(&[tcp("nat"), tcp("nat")], 8), 10_000);
                scenario.idle = Some((1, 1_700));
                scenario.clients = 500;
                scenario
            },
        ),
        row(
            "UDP",
            "35,000 flows/s, answered",
            on(&[udp("nat")], 32).attack(Kind::Udp, 0, flows),
        ),
        row(
            "UDP, TCP beside it",
            "35,000 flows/s, answered",
            on(&[tcp("nat"), udp("nat")], 32).attack(Kind::Udp, 1, flows),
        ),
        row("UDP, not answered", "35,000 flows/s", {
            let mut scenario = on(&[tcp("nat"), udp("nat")], 32).attack(Kind::Udp, 1, flows);
            scenario.setup.behaviour.answers = false;
            scenario
        }),
        row(
            "dr, table of 100,000",
            "17,000 SYN/s",
            small(on(&[tcp("dr")], 7), 100_000).attack(Kind::Syn, 0, 17_000),
        ),
        row(
            "dr, table of 100,000",
            "17,000 SYN/s, with a blind ACK at once",
            small(on(&[tcp("dr")], 7), 100_000).attack(blind(0), 0, 17_000),
        ),
        row(
            "dr by sh, table of 10,000",
            "100,000 SYN/s",
            small(on(&[sh], 1), 10_000).attack(Kind::Syn, 0, 100_000),
        ),
        row(
            "ARP answers on the WAN",
            "20,000 ARP requests/s on the LAN",
            asks(Asks::Arp).attack(Kind::Arp, 0, 20_000),
        ),
        row(
            "resets of another VIP",
            "20,000 SYN/s to a closed port",
            asks(Asks::Closed).attack(Kind::Closed, 1, 20_000),
        ),
        row(
            "echo replies of another VIP",
            "20,000 echo requests/s of made-up senders",
            asks(Asks::Echo).attack(Kind::Echo, 1, 20_000),
        ),
        row(
            "neighbour table, real servers learned",
            "20,000 ARP requests/s of strangers",
            {
                let mut scenario = on(&[tcp("nat")], 10).attack(Kind::Arp, 0, 20_000);
                scenario.setup.is_static = false;
                scenario
            },
        ),
    ]
}
