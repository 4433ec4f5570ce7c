use super::*;
use crate::resolver::testing::*;
use crate::wire::arp;
use std::net::Ipv4Addr;

impl Neighbours {
    /// How many strangers there are, and how many are counted.
    pub fn strangers(&self) -> (usize, usize) {
        let neighbours = self.slots.iter().flatten();
        let strangers = neighbours.filter(|neighbour| neighbour.is_stranger);
        (strangers.count(), self.strangers.iter().sum())
    }
}

/// 100 clients and 100 real servers, each in use every few seconds, and answering.
fn keep_in_use(lab: &mut Lab, hops: &mut Vec<Option<HopId>>) {
    let table = lab.model.resolver.neighbours().table().clone();
    for n in 0..200u8 {
        let address = lan(11 + n);
        lab.want(address);
        lab.arp(arp::REPLY, (address, mac(n)), lan(1));
        let hop = table.find(PortId(0), address);
        let link = table.link(hop.expect("it is known"));
        assert!(
            link.is_usable() && link.mac == mac(n),
            "{address}: {link:?}"
        );
        hops.push(hop);
    }
}

#[test]
fn sixty_thousand_strangers_displace_nobody() {
    let mut lab = Lab::new(&reals(69));
    let mut before = Vec::new();
    keep_in_use(&mut lab, &mut before);
    for n in 0..60_000u32 {
        if n % 6000 == 0 {
            lab.go_to(u64::from(n));
            let mut now = Vec::new();
            keep_in_use(&mut lab, &mut now);
            assert_eq!(now, before);
        }
        let stranger = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_1000 + n));
        lab.arp(arp::REQUEST, (stranger, mac(250)), lan(254));
    }
    assert!(lab.model.resolver.neighbours().used() <= MAX_STRANGERS + 210);
    // A minute later they make room for others.
    lab.go_to(130_000);
    let late = IpAddr::from([10, 1, 200, 1]);
    lab.arp(arp::REQUEST, (late, mac(3)), lan(254));
    assert!(lab.link(late).is_some());
    let mut now = Vec::new();
    keep_in_use(&mut lab, &mut now);
    assert_eq!(now, before);
}

#[test]
fn next_hops_that_do_not_exist_displace_nobody() {
    let mut lab = Lab::new(&reals(69));
    let mut before = Vec::new();
    keep_in_use(&mut lab, &mut before);
    // Packets to made-up addresses of the subnet: 12,000 a second for ten seconds.
    for millis in 0..10_000u32 {
        lab.go_to(u64::from(millis));
        for n in 0..12 {
            let address = 0x0a00_1000 + (millis * 12 + n) % 120_000;
            lab.want(IpAddr::V4(Ipv4Addr::from_bits(address)));
        }
        if millis % 1000 == 999 {
            let mut now = Vec::new();
            keep_in_use(&mut lab, &mut now);
            assert_eq!(now, before);
        }
        lab.said.clear();
    }
    // What the configuration needs gets a slot even so.
    lab.model.apply(parse(&reals(240)), at(lab.now)).unwrap();
    lab.want(lan(240));
    lab.arp(arp::REPLY, (lan(240), mac(1)), lan(1));
    assert!(lab.link(lan(240)).is_some_and(|link| link.is_usable()));
    lab.go_to(20_000);
    let states = lab.states();
    assert!(states.values().sum::<usize>() <= HIGH, "{states:?}");
}

#[test]
fn idle_neighbours_go_in_the_order_of_their_value() {
    let mut lab = Lab::new(&reals(1));
    let host = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_1000 + n as u32));
    let answer = |lab: &mut Lab, n: usize| {
        lab.want(host(n));
        lab.arp(arp::REPLY, (host(n), mac(1)), lan(1));
    };
    // The oldest first; the last ones are in use when room is wanted.
    let old = HIGH / 2;
    (0..old).for_each(|n| answer(&mut lab, n));
    lab.go_to(100_000);
    (old..HIGH - 10).for_each(|n| answer(&mut lab, n));
    lab.go_to(195_000);
    (HIGH - 10..HIGH + 100).for_each(|n| answer(&mut lab, n));
    lab.arp(arp::REQUEST, (lan(11), mac(1)), lan(1));
    lab.go_to(200_000);
    let kept =
        |range: std::ops::Range<usize>| range.filter(|&n| lab.link(host(n)).is_some()).count();
    assert_eq!(kept(HIGH - 10..HIGH + 100), 110, "in use");
    assert_eq!(
        kept(old..HIGH - 10),
        HIGH - 10 - old,
        "younger than what went"
    );
    let went = old - kept(0..old);
    assert!(went == HIGH + 1 - LOW, "{went}");
    let first = (0..old).position(|n| lab.link(host(n)).is_some());
    assert!(lab.link(lan(11)).is_some(), "a real server");
    assert_eq!(first, Some(went), "the first ones went");
}

#[test]
fn a_failed_neighbour_is_forgotten_a_minute_after_packets_wanted_it_last() {
    let mut lab = Lab::new(&reals(1));
    let (absent, real) = (lan(200), lan(11));
    let state = |lab: &Lab, address| lab.link(address).map(|link| link.state);
    lab.want(absent);
    lab.want(real);
    lab.go_to(30_000);
    lab.want(absent);
    lab.go_to(70_000);
    assert_eq!(state(&lab, absent), Some(LinkState::Failed));
    assert_eq!(state(&lab, real), Some(LinkState::Failed));
    for millis in (71_000..160_000).step_by(1000) {
        lab.go_to(millis);
    }
    assert_eq!(state(&lab, absent), None);
    assert_eq!(state(&lab, real), Some(LinkState::Failed), "it is needed");
}
