//! Rewriting the frames of a burst, per forwarding mode and direction: what the director does to a packet of a known
//! connection.

use crate::{MAC, frame, per_packet, request};
use divan::{Bencher, black_box};
use std::net::Ipv4Addr;
use weir::conn::Connection;
use weir::forward::rewrite::rewrite_usual;
use weir::forward::{MODES, Mode};
use weir::neighbour::{Hop, Link, LinkState, NeighbourTable};
use weir::packet::BURST;
use weir::units::{HopId, PortId, RealId};

fn burst(mode: &Mode) -> Vec<(Vec<u8>, Connection)> {
    let one = |n| {
        let local = mode
            .uses_pool
            .then_some((Ipv4Addr::new(10, 0, 0, 200), 1024 + n as u16));
        let translation = mode.translation(&request(n), (Ipv4Addr::new(10, 0, 0, 11), 5353), local);
        (
            frame(n),
            Connection::new(request(n), translation, RealId(0)),
        )
    };
    (0..BURST).map(one).collect()
}

#[divan::bench(args = MODES.iter().map(|mode| mode.name))]
fn request_burst(bencher: Bencher, name: &str) {
    rewrite(bencher, name, false);
}

#[divan::bench(args = MODES.iter().filter(|mode| mode.sees_replies).map(|mode| mode.name))]
fn reply_burst(bencher: Bencher, name: &str) {
    rewrite(bencher, name, true);
}

fn rewrite(bencher: Bencher, name: &str, reply: bool) {
    let mode = weir::forward::mode(name).expect("a mode");
    let mut burst = burst(mode);
    let hop = black_box(hop());
    bencher.counter(per_packet()).bench_local(|| {
        for (frame, connection) in black_box(&mut burst) {
            rewrite_usual(frame, false, connection, reply, hop);
        }
    });
}

fn hop() -> Hop {
    let table = NeighbourTable::new([(MAC, 1500)]);
    let link = Link {
        mac: MAC,
        port: PortId(0),
        state: LinkState::Reachable,
    };
    table.insert(HopId(0), Ipv4Addr::new(10, 0, 0, 11).into(), link);
    table.hop(HopId(0)).expect("it was just made known")
}
