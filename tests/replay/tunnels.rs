//! A reload that changes how packets get to real servers: no packet of an older connection is mangled.

use super::frames::{ACK, SYN, tcp};
use super::{PORTS, SECOND, T, parse};
use weir::config::Config;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::Verdict;

fn config(mode: &str) -> Config {
    let mut text =
        format!("{PORTS}\n[[neighbour]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:01:11\"\n");
    if !mode.is_empty() {
        text += &format!(
            "[[service]]\nname = \"web\"\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\"\n\
             scheduler = \"rr\"\n{mode}\n[[service.real]]\naddress = \"10.0.0.11\"\n"
        );
    }
    parse(&text)
}

/// How a client's packet went on: what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// As it came.
    Bare,
    /// With this protocol number outside.
    Inside(u8),
    /// To the real server, with this TOS.
    Marked(u8),
}

const REAL: &[u8] = &[10, 0, 0, 11];
const VIP: &[u8] = &[192, 0, 2, 80];

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    fn send(&mut self, frame: &[u8]) -> Option<Sent> {
        self.now += 1_000_000;
        let decision = self
            .replay
            .receive(PortId(0), frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        if !matches!(decision.verdict, Verdict::Forward(_)) {
            return None;
        }
        let sent = self.replay.take_frames().last().unwrap();
        let bytes = sent.bytes();
        let (number, destination) = (bytes[23], &bytes[30..34]);
        assert_eq!(bytes[..6], [2, 0, 0, 0, 1, 0x11]);
        Some(match number {
            4 | 17 | 47 => {
                let before = match number {
                    4 => 20,
                    17 => 28,
                    _ => 24,
                };
                assert_eq!(destination, REAL);
                let inner = &bytes[14 + before..];
                assert_eq!((&inner[16..20], inner[8]), (VIP, frame[22] - 1));
                assert_eq!(inner[20..], frame[34..]);
                Sent::Inside(number)
            }
            6 if destination == VIP => {
                assert_eq!(bytes[15], 0);
                Sent::Bare
            }
            6 => {
                assert_eq!(destination, REAL);
                Sent::Marked(bytes[15])
            }
            _ => panic!("protocol {number}"),
        })
    }
}

#[test]
fn connections_go_on_whatever_becomes_of_the_tunnel() {
    let ipip = "mode = \"tunnel\"";
    let gre = "mode = \"tunnel\"\ntunnel = \"gre\"";
    let gue = "mode = \"tunnel\"\ntunnel = \"gue\"";
    let (l3dsr, other) = ("mode = \"l3dsr\"\ndscp = 9", "mode = \"l3dsr\"\ndscp = 10");
    let dr = "mode = \"dr\"";
    use Sent::{Bare, Inside, Marked};
    // Configurations in turn: how an older connection's packet goes on, and a new one's.
    let steps = [
        (ipip, None, Inside(4)),
        (gre, Some(Inside(47)), Inside(47)),
        (gue, Some(Inside(17)), Inside(17)),
        // What was wrapped stays so, as it was last.
        (dr, Some(Inside(17)), Bare),
        (l3dsr, Some(Marked(36)), Marked(36)),
        (other, Some(Marked(40)), Marked(40)),
        (dr, Some(Marked(40)), Bare),
        (ipip, Some(Inside(4)), Inside(4)),
    ];
    for workers in [1, 4] {
        let mut lab = Lab {
            replay: Replay::new(&config(dr), workers, 1000, Time::from_nanos(T)).unwrap(),
            now: T,
        };
        // One that began bare stays bare.
        assert_eq!(lab.send(&tcp(4000, SYN)), Some(Bare));
        assert_eq!(lab.send(&tcp(4000, ACK)), Some(Bare));
        for (n, (mode, older, new)) in steps.into_iter().enumerate() {
            lab.now += SECOND;
            let time = Time::from_nanos(lab.now);
            lab.replay.reload(config(mode), time).unwrap();
            let port = 5000 + n as u16;
            if older.is_some() {
                for _ in 0..2 {
                    assert_eq!(lab.send(&tcp(5000, ACK)), older, "{mode}");
                }
            }
            assert_eq!(lab.send(&tcp(4000, ACK)), Some(Bare), "{mode}");
            assert_eq!(lab.send(&tcp(port, SYN)), Some(new), "{mode}");
            for _ in 0..2 {
                assert_eq!(lab.send(&tcp(port, ACK)), Some(new), "{mode}");
            }
        }
        // Removed, its connections end; added again, they have their real server and its tunnel.
        lab.replay
            .reload(config(""), Time::from_nanos(lab.now))
            .unwrap();
        assert_eq!(lab.send(&tcp(5000, ACK)), None);
        lab.replay
            .reload(config(gre), Time::from_nanos(lab.now))
            .unwrap();
        assert_eq!(lab.send(&tcp(6000, SYN)), Some(Inside(47)));
        assert_eq!(lab.send(&tcp(6000, ACK)), Some(Inside(47)));
    }
}
