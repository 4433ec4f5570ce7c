//! Every fragment ends with a verdict, the number that wait stays within its limit, and each waits for a bounded time.
//!
//! The body of the fuzz target `fragments`, which the tests run as well, over inputs of their own and `regressions/fragments`.

use std::sync::OnceLock;
use std::time::Duration;
use weir::config::{Config, Context, parse};
use weir::packet::BURST;
use weir::replay::{Received, Replay};
use weir::units::{PortId, Time};
use weir::wire::ipv4::{self, Ipv4};
use weir::wire::ipv6;

const START: Time = Time::from_nanos(1_700_000_000_000_000_000);
/// Longer than anything waits.
const LONG: Duration = Duration::from_secs(60);
const CONFIG: &str = concat!(
    "[limits]\nfragmented_datagrams = 16\nwaiting_fragments = 16\n",
    include_str!("fragments.toml")
);

fn config() -> &'static Config {
    static CONFIG_READ: OnceLock<Config> = OnceLock::new();
    CONFIG_READ.get_or_init(|| {
        let context = Context {
            cpus: None,
            devices: false,
        };
        let read = parse(CONFIG, "fragments.toml", &context);
        read.expect("a valid file").config
    })
}

/// Of six bytes: time since the last one in 100 ms, kind, offset in 8 bytes (two bytes), length, identification.
fn frame(about: &[u8; 6]) -> Vec<u8> {
    let [_, kind, high, low, length, id] = *about;
    let offset = u16::from_be_bytes([high & 0x1f, low]);
    let (is_six, more, is_tcp) = (kind & 1 != 0, kind & 2 != 0, kind & 4 != 0);
    // Some cover a whole packet, so that lengths near the limit are reached.
    let data = match kind & 8 {
        0 => usize::from(length),
        _ => usize::from(length) * 8,
    };
    let protocol = if is_tcp { 6 } else { 17 };
    let macs = [[2, b'w', b'e', b'i', b'r', 1], [2, 0, 0, 0, 0, 0xc1]].concat();
    let upper: Vec<u8> = (0..data).map(|n| [0x1b, 0x58, 0, 53][n % 4]).collect();
    if is_six {
        let repr = ipv6::Repr::new(
            "2001:db8:51::9".parse().unwrap(),
            "2001:db8:2::80".parse().unwrap(),
            44,
        );
        let place = offset << 3 | u16::from(more);
        let header = [&[protocol, 0][..], &place.to_be_bytes(), &[0, 0, 0, id]].concat();
        let mut packet = [&[0; ipv6::HEADER_LEN][..], &header, &upper].concat();
        repr.emit(&mut packet).unwrap();
        return [&macs[..], &[0x86, 0xdd], &packet].concat();
    }
    let repr = ipv4::Repr {
        identification: id.into(),
        ..ipv4::Repr::new([198, 51, 100, 9].into(), [192, 0, 2, 80].into(), protocol)
    };
    let mut packet = [&[0; ipv4::HEADER_LEN][..], &upper].concat();
    repr.emit(&mut packet).unwrap();
    let mut ip = Ipv4::new_checked(&mut packet).unwrap();
    ip.set_fragment(offset * 8, more);
    ip.fill_checksum();
    [&macs[..], &[8, 0], &packet].concat()
}

/// The input is the number of workers, and fragments. Those of the same time come in together.
pub fn run(input: &[u8]) {
    let Some((workers, rest)) = input.split_first() else {
        return;
    };
    let workers = 1 + usize::from(workers % 4);
    let replay = || Replay::new(config(), workers, 64, START).unwrap();
    let mut replays = [(replay(), BURST), (replay(), 1)];
    let mut time = START;
    let (fragments, _) = rest.as_chunks::<6>();
    let frames: Vec<_> = fragments.iter().map(frame).collect();
    let mut together: Vec<Received> = Vec::new();
    for (about, frame) in fragments.iter().zip(&frames) {
        if about[0] > 0 || together.len() == BURST {
            receive(&mut replays, &together);
            together.clear();
        }
        time = time + Duration::from_millis(u64::from(about[0]) * 100);
        together.push((PortId(0), time, frame));
    }
    receive(&mut replays, &together);
    // Anything: the clock moves on.
    receive(&mut replays, &[(PortId(0), time + LONG, &[0; 14])]);
    for (replay, _) in &replays {
        let waiting = replay
            .stats()
            .total(|worker| worker.waiting_fragments.get());
        assert_eq!(waiting, 0, "none waits for ever");
    }
}

fn receive(replays: &mut [(Replay, usize); 2], together: &[Received]) {
    let [bursts, singles] = replays.each_mut().map(|(replay, burst)| {
        let decisions = replay.receive_together(together, *burst);
        replay.check().expect("every packet is accounted for");
        let waiting = replay
            .stats()
            .total(|worker| worker.waiting_fragments.get());
        assert!(waiting <= 16 + 4, "{waiting} wait");
        (decisions, replay.take_frames().collect::<Vec<_>>())
    });
    assert_eq!(bursts, singles);
}
