//! `allow` and `deny`: connections that are there live on, whatever a reload makes of the lists.

use super::frames::{ACK, SYN, query, tcp};
use super::{PORTS, STATIC_REAL, T, parse};
use weir::config::Config;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, Verdict};

/// Services of TCP and UDP with these lists; the client is 198.51.100.9.
fn config(lists: &str) -> Config {
    let service = |protocol: &str, port: u16| {
        format!(
            "[[service]]\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"nat\"\n{lists}\n\
             [[service.real]]\naddress = \"10.0.0.11\"\n"
        )
    };
    parse(&[PORTS, STATIC_REAL, &service("tcp", 80), &service("udp", 53)].concat())
}

#[test]
fn a_reload_asks_new_connections_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let file = format!("\"file:{}\"", path.display());
    std::fs::write(&path, "198.51.100.8/31 # the client\n").unwrap();
    let denied = Some(DropReason::Denied);
    let not_allowed = Some(DropReason::NotAllowed);
    let cases = [
        ("allow = [\"203.0.113.0/24\"]".to_owned(), not_allowed),
        ("allow = [\"198.51.100.9\"]".to_owned(), None),
        (
            "deny = [\"198.51.100.9\"]\nallow = [\"198.51.100.9\"]".to_owned(),
            denied,
        ),
        (format!("allow = [{file}]"), None),
        (format!("deny = [\"203.0.113.0/24\", {file}]"), denied),
        (String::new(), None),
    ];
    for workers in [1, 3] {
        let mut replay = Replay::new(&config(""), workers, 1000, Time::from_nanos(T)).unwrap();
        let mut now = T;
        let mut receive = |replay: &mut Replay, frame: &[u8]| {
            now += 1_000_000;
            let decision = replay.receive(PortId(0), frame, Time::from_nanos(now));
            replay.check().unwrap();
            match decision.verdict {
                Verdict::Forward(_) => None,
                Verdict::Drop(reason) => Some(reason),
                other => panic!("{other:?}"),
            }
        };
        let old = [tcp(5000, SYN), tcp(5000, ACK), query(5000)];
        assert!(
            old.iter()
                .all(|frame| receive(&mut replay, frame).is_none())
        );
        for (port, (lists, expected)) in (6000..).zip(&cases) {
            replay.reload(config(lists), Time::from_nanos(T)).unwrap();
            assert_eq!(receive(&mut replay, &tcp(port, SYN)), *expected, "{lists}");
            assert_eq!(receive(&mut replay, &query(port)), *expected, "{lists}");
            // It may open another connection by the entry of the old one, which goes on all the same.
            assert_eq!(receive(&mut replay, &tcp(5000, SYN)), *expected, "{lists}");
            assert_eq!(receive(&mut replay, &tcp(5000, ACK)), None, "{lists}");
            assert_eq!(receive(&mut replay, &query(5000)), None, "{lists}");
        }
    }
}
