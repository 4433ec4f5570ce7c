//! `weir explain` from the outside: the same as `weir replay --explain` of the same packet, and what it refuses.

use super::frames::*;
use super::{CONFIG, Lab, Run, STATIC_REAL, T};
use serde_json::Value;
use std::process::Command;

fn explain(lab: &Lab, arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("explain")
        .args(arguments)
        .current_dir(lab.folder.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_packet_has_the_verdict_and_the_bytes_that_a_replay_gives_it() {
    let lab = Lab::new(&format!("{CONFIG}{STATIC_REAL}"));
    for frame in [
        tcp(5000, SYN),
        tcp(5000, ACK),
        query(7000),
        arp_question(),
        udp((REAL, 53), (CLIENT, 7000), b"me!"),
        vec![0xff; 60],
        tcp(5000, SYN)[..30].to_vec(),
    ] {
        lab.capture("wan.pcap", &vec![(T, frame.clone())]);
        lab.replay("--rx wan=wan.pcap --tx wan=a.pcap lan=b.pcap --explain why.jsonl");
        let mut replayed = lab.explained("why.jsonl").remove(0);
        let config = ["--config", "weir.toml", "--json", "--port", "wan"];
        let run = explain(&lab, &[&config[..], &[&hex(&frame)]].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let story: Value = serde_json::from_str(&run.stdout).unwrap();
        let mut told = story["decision"].clone();
        for decision in [&mut replayed, &mut told] {
            decision.as_object_mut().unwrap().remove("time");
        }
        assert_eq!(replayed, told);
        let sent: Vec<_> = ["a.pcap", "b.pcap"]
            .iter()
            .flat_map(|name| lab.frames(name))
            .map(|(_, frame)| Value::from(hex(&frame)))
            .collect();
        let told = story["sent"].as_array().unwrap().iter();
        assert_eq!(told.map(|it| it["frame"].clone()).collect::<Vec<_>>(), sent);
    }
}

#[test]
fn what_cannot_be_explained_is_refused_with_its_place() {
    let lab = Lab::new(CONFIG);
    let syn = "tcp 198.51.100.9:5000 > 192.0.2.80:80 SYN";
    lab.put("broken.toml", "[[port]]\nname = 5\n");
    for (arguments, lines) in [
        (
            &[syn][..],
            &["error: weir explain takes --config FILE, or --running"][..],
        ),
        (&["--config", "none.toml", syn], &["none.toml"]),
        (
            &["--config", "broken.toml", syn],
            &["broken.toml:2:8", "error: "],
        ),
        (
            &["--config", "weir.toml", "--port", "wam", syn],
            &[
                "error: --port wam: no [[port]] is named `wam`",
                "did you mean `wan`?",
            ],
        ),
        (
            &[
                "--config",
                "weir.toml",
                "tcp 198.51.100.9:5000 > 192.0.2.80 SYN",
                "udp x",
            ],
            &[
                "error: packet:25: `192.0.2.80` has no port",
                "^^^^^^^^^^",
                "help: write 192.0.2.80:80",
                "error: packet:5: `x` is no address with a port",
            ],
        ),
        (&["--config", "weir.toml"], &["<PACKET>"]),
    ] {
        let run = explain(&lab, arguments);
        assert_eq!(run.code, Some(1), "{arguments:?}");
        assert_eq!(run.stdout, "", "{arguments:?}");
        for line in lines {
            assert!(
                run.stderr.contains(line),
                "{line} is missing in {}",
                run.stderr
            );
        }
    }
    let run = explain(&lab, &["--config", "weir.toml", syn]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert!(
        run.stdout.starts_with(&format!("{syn}\n  1 packet ")),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout
            .contains("verdict      forward by lan: new connection"),
        "{}",
        run.stdout
    );
}
