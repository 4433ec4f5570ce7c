//! Rewriting the frames of a burst, per forwarding mode and direction.

use crate::{MAC, frame, per_packet, request};
use divan::{Bencher, black_box};
use std::net::Ipv4Addr;
use weir::conn::Connection;
use weir::forward::rewrite::{Layout, pass, set_macs, translate};
use weir::forward::{MODES, Mode};
use weir::packet::BURST;
use weir::units::RealId;

const LAYOUT: Layout = Layout { ip: 14, l4: 34 };

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
    bencher.counter(per_packet()).bench_local(|| {
        for (frame, connection) in black_box(&mut burst) {
            if connection.translates() {
                translate(frame, LAYOUT, connection, reply);
            } else {
                pass(frame, LAYOUT);
            }
            set_macs(frame, MAC, MAC);
        }
    });
}
