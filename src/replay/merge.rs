//! Many captures as one sequence of packets.

use crate::io::pcap::Capture;
use crate::units::{PortId, Time};
use std::iter::Peekable;

/// A capture of what one port receives.
#[derive(Debug)]
pub struct Input {
    pub port: PortId,
    pub capture: Capture,
}

/// A received packet: its port, its timestamp and the frame.
pub type Received<'a> = (PortId, Time, &'a [u8]);

/// All packets in the order of their timestamps; at the same time, in the order of the inputs.
///
/// Each capture keeps its own order: a timestamp that goes back counts as the one before it.
pub fn merge(inputs: &[Input]) -> impl Iterator<Item = Received<'_>> {
    let mut heads: Vec<Peekable<_>> = inputs
        .iter()
        .map(|input| in_order(input).peekable())
        .collect();
    std::iter::from_fn(move || {
        let times = heads
            .iter_mut()
            .enumerate()
            .filter_map(|(n, head)| head.peek().map(|(_, time, _)| (*time, n)));
        let (_, next) = times.min()?;
        heads[next].next()
    })
}

fn in_order(input: &Input) -> impl Iterator<Item = Received<'_>> {
    input
        .capture
        .frames()
        .scan(Time::default(), |clock, (time, frame)| {
            *clock = time.max(*clock);
            Some((input.port, *clock, frame))
        })
}
