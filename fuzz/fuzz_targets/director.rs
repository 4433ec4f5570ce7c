//! Whatever comes in on the wire ends in a verdict, and every packet is accounted for.
//!
//! The input is the number of workers, and a list of frames: port, milliseconds since the last one, length, bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use std::time::Duration;
use weir::config::{Config, Context, parse};
use weir::replay::Replay;
use weir::sched;
use weir::units::{PortId, Time};

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let context = Context { schedulers: &sched::NAMES, cpus: None, devices: false };
        parse(include_str!("../director.toml"), "director.toml", &context).expect("a valid file").config
    })
}

fuzz_target!(|input: &[u8]| {
    let mut time = Time::from_nanos(1_700_000_000_000_000_000);
    let Some((workers, mut rest)) = input.split_first() else {
        return;
    };
    let mut replay = Replay::new(config(), 1 + usize::from(workers % 4), 64, time).unwrap();
    while let [port, wait, length, tail @ ..] = rest {
        let (frame, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        time = time + Duration::from_millis(u64::from(*wait) * 40);
        replay.receive(PortId(port % 2), frame, time);
        replay.check().expect("every packet is accounted for");
        replay.take_frames().for_each(drop);
    }
});
