//! Whatever comes in on the wire ends in a verdict, every packet is accounted for, and a burst is its packets one by one.
//!
//! The body of the fuzz target `director`, which the tests run as well, over inputs of their own and `regressions/director`.

use std::sync::OnceLock;
use std::time::Duration;
use weir::config::{Config, Context, parse};
use weir::packet::BURST;
use weir::replay::{Received, Replay};
use weir::units::{PortId, Time};

const START: Time = Time::from_nanos(1_700_000_000_000_000_000);

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let context = Context {
            cpus: None,
            devices: false,
        };
        parse(include_str!("director.toml"), "director.toml", &context)
            .expect("a valid file")
            .config
    })
}

/// The input is the number of workers, and a list of frames: port, time since the last one in 40 ms, length, bytes. Frames
/// of the same time come in together.
pub fn run(input: &[u8]) {
    let Some((workers, mut rest)) = input.split_first() else {
        return;
    };
    let replay = || Replay::new(config(), 1 + usize::from(workers % 4), 64, START).unwrap();
    let mut replays = [(replay(), BURST), (replay(), 1)];
    let mut time = START;
    let mut together: Vec<Received> = Vec::new();
    while let [port, wait, length, tail @ ..] = rest {
        let (frame, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        if *wait > 0 || together.len() == BURST {
            receive(&mut replays, &together);
            together.clear();
        }
        time = time + Duration::from_millis(u64::from(*wait) * 40);
        together.push((PortId(port % 3), time, frame));
    }
    receive(&mut replays, &together);
}

fn receive(replays: &mut [(Replay, usize); 2], together: &[Received]) {
    let [bursts, singles] = replays.each_mut().map(|(replay, burst)| {
        let decisions = replay.receive_together(together, *burst);
        replay.check().expect("every packet is accounted for");
        (decisions, replay.take_frames().collect::<Vec<_>>())
    });
    assert_eq!(bursts, singles);
}
