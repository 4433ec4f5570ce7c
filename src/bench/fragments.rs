//! Datagrams in fragments.

use super::cases::{Figure, config, flow};
use super::setup::{Setup, bursts};
use super::traffic::{Flow, frame};
use super::{Bench, Traffic};
use crate::net::protocol;
use crate::packet::BURST;
use crate::units::PortId;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6;
use std::time::Duration;

const FLOWS: usize = 1_000;
/// The identifications that a flow uses, one after the other: the table has forgotten the first one when the last is used.
const IDS: usize = 64;
/// What passes between two bursts, at two million packets a second.
const STEP: Duration = Duration::from_micros(32);

/// The first or the last of two fragments of a datagram, of so many bytes each.
fn fragment(flow: Flow, number: usize, is_first: bool) -> (PortId, Vec<u8>) {
    // In a tunnel over IPv6 it fits as well.
    const DATA: u16 = 1400;
    if flow.is_six {
        return (flow.port, fragment_v6(&flow, number, is_first, DATA));
    }
    let mut frame = frame(&flow, None, 34 + usize::from(DATA));
    if let Ok(mut ip) = Ipv4::new_checked(&mut frame[14..]) {
        // Flows may have the same addresses.
        ip.set_identification(number as u16);
        ip.set_fragment(if is_first { 0 } else { DATA }, is_first);
        ip.fill_checksum();
    }
    (flow.port, frame)
}

/// The same, with a fragment header between the IPv6 header and the data.
fn fragment_v6(flow: &Flow, number: usize, is_first: bool, data: u16) -> Vec<u8> {
    const HEADERS: usize = 14 + ipv6::HEADER_LEN;
    let whole = frame(flow, None, 34 + usize::from(data));
    let place = match is_first {
        true => 1,
        false => data,
    };
    let mut fragment = whole[..HEADERS].to_vec();
    fragment.extend([protocol::UDP, 0]);
    fragment.extend(place.to_be_bytes());
    fragment.extend((number as u32).to_be_bytes());
    fragment.extend(&whole[HEADERS..]);
    fragment[18..20].copy_from_slice(&(data + 8).to_be_bytes());
    fragment[20] = protocol::FRAGMENT;
    fragment
}

/// For each identification and flow, these of the two fragments.
fn datagrams(setup: Setup, parts: &'static [bool]) -> Traffic {
    let numbers = (0..IDS).flat_map(|id| (0..FLOWS).map(move |flow| (id, flow)));
    let frames = numbers.flat_map(|(id, flow)| {
        let number = id * FLOWS + flow;
        (parts.iter()).map(move |first| fragment(setup.flow(flow, 1), number, *first))
    });
    Traffic::of_frames(frames)
}

/// A datagram in two fragments, through each mode in each family.
fn pairs(quick: bool, say: &mut dyn FnMut(String, f64)) {
    for is_six in [false, true] {
        for (mode, keys) in [
            ("dr", ""),
            ("nat", ""),
            ("fullnat", ""),
            ("tunnel", ""),
            ("l3dsr", "dscp = 5\n"),
        ] {
            let setup = Setup {
                is_six,
                keys,
                ..Setup::new(mode, "udp")
            };
            let mut bench = Bench::new(&setup.config(), 2 * FLOWS);
            let mut traffic = datagrams(setup, &[true, false]);
            bench.run(&mut traffic, 2 * FLOWS * IDS / BURST, STEP);
            let cost = bench.run(&mut traffic, bursts(FLOWS, quick), STEP);
            let family = if is_six { " over IPv6" } else { "" };
            let forwarded = cost.forwarded * 100.0;
            let what =
                format!("{mode} udp{family}, a pair of fragments, {forwarded:.0} % forwarded");
            say(what, cost.nanos * 2.0);
        }
    }
}

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    let mut say_per = |per: &'static str, what: String, nanos| {
        report(Figure {
            case: "fragments",
            what,
            nanos,
            per,
        });
    };
    pairs(quick, &mut |what, nanos| say_per("pair", what, nanos));
    let mut say = |what, nanos| say_per("packet", what, nanos);
    let kinds: [(&str, &[bool]); 4] = [
        ("first and last", &[true, false]),
        ("last and first", &[false, true]),
        ("first ones that are never completed", &[true]),
        ("last ones whose first one never comes", &[false]),
    ];
    for (what, parts) in kinds {
        let mut bench = Bench::new(&config("fullnat", "udp", 0), 2 * FLOWS);
        let mut known = Traffic::new((0..FLOWS).map(flow), None, 64);
        bench.run(&mut known, FLOWS.div_ceil(BURST), STEP);
        let before = bench.run(&mut known, bursts(FLOWS, quick), STEP).nanos;
        let mut traffic = datagrams(Setup::new("fullnat", "udp"), parts);
        bench.run(&mut traffic, FLOWS * IDS / BURST, STEP);
        let cost = bench.run(&mut traffic, bursts(FLOWS, quick), STEP);
        let what = match parts.contains(&true) {
            true => format!("{what}, {:.0} % forwarded", cost.forwarded * 100.0),
            // Dropped, all but those that wait.
            false => what.to_owned(),
        };
        say(format!("fullnat udp, {what}"), cost.nanos);
        // What the table is full of now costs whole packets nothing.
        let after = bench.run(&mut known, bursts(FLOWS, quick), Duration::ZERO);
        say(
            format!("whole packets before: {before:.1}, after these"),
            after.nanos,
        );
    }
}
