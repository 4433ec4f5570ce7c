//! Datagrams in fragments.

use super::cases::{Figure, config, flow};
use super::setup::bursts;
use super::traffic::frame;
use super::{Bench, Traffic};
use crate::packet::BURST;
use crate::units::PortId;
use crate::wire::ipv4::Ipv4;
use std::time::Duration;

const FLOWS: usize = 1_000;
/// The identifications that a flow uses, one after the other: the table has forgotten the first one when the last is used.
const IDS: usize = 64;
/// What passes between two bursts, at two million packets a second.
const STEP: Duration = Duration::from_micros(32);

/// The first or the last of two fragments of a datagram, of so many bytes each.
fn fragment(flow_number: usize, id: usize, is_first: bool) -> (PortId, Vec<u8>) {
    const DATA: u16 = 1480;
    let flow = flow(flow_number);
    let mut frame = frame(&flow, None, 34 + usize::from(DATA));
    if let Ok(mut ip) = Ipv4::new_checked(&mut frame[14..]) {
        // Flows may have the same addresses.
        ip.set_identification((id * FLOWS + flow_number) as u16);
        ip.set_fragment(if is_first { 0 } else { DATA }, is_first);
        ip.fill_checksum();
    }
    (flow.port, frame)
}

/// For each identification and flow, these of the two fragments.
fn datagrams(parts: &'static [bool]) -> Traffic {
    let numbers = (0..IDS).flat_map(|id| (0..FLOWS).map(move |flow| (id, flow)));
    let frames =
        numbers.flat_map(|(id, flow)| parts.iter().map(move |first| fragment(flow, id, *first)));
    Traffic::of_frames(frames)
}

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    let mut say = |what: String, nanos| {
        report(Figure {
            case: "fragments",
            what,
            nanos,
            per: "packet",
        });
    };
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
        let mut traffic = datagrams(parts);
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
