//! Real servers of the other family than the VIP's: as good as those of its own.

use super::alike::fare_alike;
use super::bursts::{self, Limits, Packet, bursts as many, flags, reply, request};
use super::frames::{ACK, SYN, VIP, numbered};
use super::{SECOND, T, six};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::sync::Arc;
use weir::config::{Config, ModeConfig};
use weir::replay::{Frame, Replay};
use weir::units::{PortId, Time};
use weir::verdict::{ReplyReason, Verdict};

const WAN: PortId = PortId(0);

/// The families of the clients and of the real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    Plain,
    FourToSix,
    SixToFour,
}

/// The services of the bursts, all of fullnat.
fn config(limits: &Limits, ways: Ways) -> Config {
    let mut plain = bursts::config(limits);
    for service in &mut plain.services {
        let pool = "inside".into();
        Arc::make_mut(service).mode = ModeConfig::Fullnat { pool };
    }
    match ways {
        Ways::Plain => plain,
        Ways::FourToSix => six::crossing(&plain, false),
        Ways::SixToFour => six::crossing(&plain, true),
    }
}

/// An IPv4 frame that comes in by a port, in the family of that side.
fn received(port: PortId, frame: &[u8], ways: Ways) -> Vec<u8> {
    let is_six = match ways {
        Ways::Plain => false,
        Ways::FourToSix => port != WAN,
        Ways::SixToFour => port == WAN,
    };
    match is_six {
        true => six::frame(frame).unwrap(),
        false => frame.to_vec(),
    }
}

/// A frame in IPv6, whatever its family: identification and DF are told by none.
fn in_six(frame: &[u8]) -> Vec<u8> {
    six::frame(frame).unwrap_or_else(|| frame.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Clients and real servers of two families fare as those of one: the same is decided, and sent in each side's family.
    #[test]
    fn two_families_fare_as_one(
        connections in select(vec![16, 40, 10_000]),
        ways in select(vec![Ways::FourToSix, Ways::SixToFour]),
        bursts in many(prop_oneof![
            6 => request(),
            3 => reply(),
            4 => (any::<Index>(), flags()).prop_map(|(which, flags)| Packet::Answer(which, flags)),
        ]),
    ) {
        let limits = Limits { connections, answers: 1_000_000, knows_all: true };
        let replay = |ways| Replay::new(&config(&limits, ways), 1, 10_000, Time::from_nanos(T)).unwrap();
        let (mut plain, mut across) = (replay(Ways::Plain), replay(ways));
        let twin = |port: PortId, frame: &[u8]| received(port, frame, ways);
        let alike = |expected: &Frame, given: &Frame| {
            prop_assert_eq!(in_six(expected.bytes()), in_six(given.bytes()));
            let is_six = given.bytes()[12..14] == [0x86, 0xdd];
            prop_assert_eq!(is_six, (ways == Ways::FourToSix) == (given.port != WAN));
            Ok(())
        };
        let count = |plain: &Replay, across: &Replay| {
            let beside = across.connections().count() + across.connections6().count();
            (plain.connections().count(), across.connections_across().count() + beside)
        };
        fare_alike(&bursts, (&mut plain, &mut across), twin, alike, count)?;
        prop_assert_eq!(across.connections().count() + across.connections6().count(), 0);
    }
}

const LIMITS: Limits = Limits {
    connections: 1000,
    answers: 1_000_000,
    knows_all: true,
};

/// The services of the bursts by IPv4 and fullnat, but for the named ones, whose real servers are of IPv6.
fn with_across(names: &[&str]) -> Config {
    let plain = config(&LIMITS, Ways::Plain);
    let mut config = config(&LIMITS, Ways::FourToSix);
    for (service, plain) in config.services.iter_mut().zip(plain.services) {
        if !names.contains(&plain.name.as_str()) {
            *service = plain;
        }
    }
    config
}

/// Receives a segment of a client's to the service `web`; what became of it, and whether it went on as IPv6.
fn receive(replay: &mut Replay, port: u16, flags: u8, now: u64) -> (Verdict, Option<bool>) {
    let client = ([198, 51, 100, 20].into(), port);
    let frame = numbered(client, (VIP, 80), flags, 1, 1);
    let decision = replay.receive(WAN, &frame, Time::from_nanos(now));
    replay.check().unwrap();
    let frames: Vec<_> = replay.take_frames().collect();
    let to_real = frames.iter().find(|frame| frame.port != WAN);
    (
        decision.verdict,
        to_real.map(|frame| frame.bytes()[12..14] == [0x86, 0xdd]),
    )
}

#[test]
fn a_service_that_gets_real_servers_of_the_other_family_is_another() {
    for workers in [1, 2, 4] {
        let (plain, across) = (with_across(&["mail"]), with_across(&["mail", "web"]));
        let mut replay = Replay::new(&plain, workers, 10_000, Time::from_nanos(T)).unwrap();
        let mut now = T;
        let lan = Verdict::Forward(PortId(1));
        let told = Verdict::Reply(WAN, ReplyReason::RealRemoved);
        for (config, before, after) in [(&across, false, true), (&plain, true, false)] {
            now += SECOND;
            let opened = receive(&mut replay, 5000, SYN, now);
            assert_eq!(opened, (lan, Some(before)), "{workers} workers");
            replay
                .reload(config.clone(), Time::from_nanos(now))
                .unwrap();
            now += SECOND;
            assert_eq!(receive(&mut replay, 5000, ACK, now), (told, None));
            assert_eq!(receive(&mut replay, 5001, SYN, now), (lan, Some(after)));
            // A new attempt from the same port is one of the present service, and in the half that it belongs to.
            assert_eq!(receive(&mut replay, 5000, SYN, now), (lan, Some(after)));
            let counts = (
                replay.connections().count(),
                replay.connections_across().count(),
            );
            assert_eq!(
                counts,
                if after { (0, 2) } else { (2, 0) },
                "{workers} workers"
            );
            now += 3600 * SECOND;
        }
    }
}

#[test]
fn the_first_service_between_families_takes_a_restart() {
    let mut replay = Replay::new(&with_across(&[]), 1, 1000, Time::from_nanos(T)).unwrap();
    let refused = replay.reload(with_across(&["web"]), Time::from_nanos(T));
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("real servers of the other family"), "{why}");
    assert_eq!(receive(&mut replay, 5000, SYN, T).1, Some(false));
    assert_eq!(replay.connections_across().count(), 0);
}
