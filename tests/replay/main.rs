//! `weir replay` from the outside: captures and options in, captures, explanations, counts and errors out.

mod alike;
mod bursts;
mod captures;
mod client_address;
mod clients;
mod clock;
mod connection_log;
mod crossing;
mod days;
mod down;
mod engine;
mod even;
mod explain;
mod families;
mod first_byte;
mod fragments;
mod frames;
mod fuzz;
mod ipv6;
mod known;
mod limits;
mod neighbours;
mod outward;
mod passive;
mod pressure;
mod promises;
mod refused;
mod reload;
mod reload_keys;
mod restart;
mod rivals;
mod sctp;
mod segments;
mod simulate;
mod six;
mod tunnels;
mod what_if;
// The tests and the benchmark use a part of it each.
#[allow(dead_code)]
mod world;

use frames::*;
use pcap_file::pcap::PcapReader;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use weir::config::{self, Config, Context};

macro_rules! ports {
    () => {
        r#"
[[port]]
name      = "wan"
device    = "net_null0"
addresses = ["198.51.100.1/24"]

[[port]]
name      = "lan"
device    = "net_null1"
addresses = ["10.0.0.1/24"]
"#
    };
}

/// Two ports, for a configuration to begin with.
const PORTS: &str = ports!();

const CONFIG: &str = concat!(
    ports!(),
    r#"
[[neighbour]]
address = "198.51.100.9"
mac     = "02:00:00:00:00:c1"

[[local_pool]]
name      = "inside"
addresses = ["10.0.0.200"]
ports     = "40000-40999"

[[service]]
name       = "web"
address    = "192.0.2.80"
port       = 80
protocol   = "tcp"
mode       = "fullnat"
local_pool = "inside"
scheduler  = "rr"
  [[service.real]]
  address = "10.0.0.11"
  port    = 8080

[[service]]
name      = "any"
address   = "192.0.2.80"
port      = 0
protocol  = "udp"
mode      = "nat"
scheduler = "rr"
  [[service.real]]
  address = "10.0.0.11"
"#
);

/// Makes the real server known from the start.
const STATIC_REAL: &str = r#"
[[neighbour]]
address = "10.0.0.11"
mac     = "02:00:00:00:01:11"
"#;

/// Reads a configuration that is good.
fn parse(text: &str) -> Config {
    let context = Context {
        cpus: None,
        devices: false,
    };
    match config::parse(text, "weir.toml", &context) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

const SECOND: u64 = 1_000_000_000;
/// A time that fills 31 bits of seconds.
const T: u64 = 1_700_000_000 * SECOND;

/// A folder with a configuration and captures.
struct Lab {
    folder: tempfile::TempDir,
}

/// What a replay wrote.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Lab {
    fn new(config: &str) -> Self {
        let lab = Lab {
            folder: tempfile::tempdir().unwrap(),
        };
        lab.put("weir.toml", config);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// A capture in microseconds.
    fn capture(&self, name: &str, frames: &Timed) {
        self.put(name, pcap(frames, false, 1000, 1));
    }

    /// Runs in the folder. A `|` stands for a blank within an option.
    fn run(&self, options: &str) -> Run {
        let options = options.split_whitespace();
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["replay", "--config", "weir.toml"])
            .args(options.map(|option| option.replace('|', " ")))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs what must succeed; returns what was counted.
    fn replay(&self, options: &str) -> Value {
        let run = self.run(&format!("{options} --json"));
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }

    /// The frames of a capture that weir wrote, read by another library.
    fn frames(&self, name: &str) -> Timed {
        let mut reader = PcapReader::new(std::fs::File::open(self.path(name)).unwrap()).unwrap();
        let mut frames = Timed::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            frames.push((packet.timestamp.as_nanos() as u64, packet.data.into_owned()));
        }
        frames
    }

    fn times(&self, name: &str) -> Vec<u64> {
        self.frames(name)
            .into_iter()
            .map(|(time, _)| time)
            .collect()
    }

    fn explained(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn strings<'a>(lines: &'a [Value], key: &str) -> Vec<&'a str> {
    lines
        .iter()
        .map(|line| line[key].as_str().unwrap_or("-"))
        .collect()
}

#[test]
fn captures_of_one_side_get_a_hint() {
    let lab = Lab::new(CONFIG);
    lab.capture(
        "wan.pcap",
        &vec![(T, tcp(5000, SYN)), (T + 20 * SECOND, tcp(5001, SYN))],
    );
    let run = lab.run("--rx wan=wan.pcap");
    assert_eq!(run.code, Some(0));
    let hints: Vec<_> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("hint: "))
        .collect();
    assert_eq!(hints.len(), 2, "{}", run.stderr);
    assert!(
        hints[0].contains("waited in vain for an answer to ARP")
            && hints[0].ends_with("of: 10.0.0.11 (lan)"),
        "{}",
        run.stderr
    );
    assert!(
        hints[1].contains("[[neighbour]] address = \"10.0.0.11\""),
        "{}",
        run.stderr
    );

    let lab = Lab::new(&format!("{CONFIG}{STATIC_REAL}"));
    lab.capture("wan.pcap", &vec![(T, tcp(5000, SYN))]);
    let run = lab.run("--rx wan=wan.pcap");
    assert!(!run.stderr.contains("hint"), "{}", run.stderr);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let lab = Lab::new(CONFIG);
    let mut wan: Timed = (0..200)
        .map(|n| {
            (
                T + n * 10_000_000,
                tcp(5000 + n as u16 % 50, if n < 50 { SYN } else { ACK }),
            )
        })
        .collect();
    wan.extend((0..40).map(|n| (T + 3 * SECOND + n, query(9000 + n as u16))));
    lab.capture("wan.pcap", &wan);
    lab.capture("lan.pcap", &vec![(T + SECOND, arp_answer())]);
    let written = |options: &str| {
        lab.replay(options);
        ["a.pcap", "b.pcap", "why.jsonl"].map(|name| std::fs::read(lab.path(name)).unwrap())
    };
    let once = written(
        "--rx wan=wan.pcap --rx lan=lan.pcap --tx wan=a.pcap --tx lan=b.pcap --explain why.jsonl",
    );
    let again = written(
        "--explain why.jsonl --tx lan=b.pcap wan=a.pcap --workers 1 --rx wan=wan.pcap --rx lan=lan.pcap",
    );
    assert!(once == again);
    assert!(
        once.iter().all(|file| file.len() > 500 || file.len() == 24),
        "there is something to compare"
    );
}

#[test]
fn explain_says_what_was_decided_key_by_key() {
    let lab = Lab::new(&format!("{CONFIG}{STATIC_REAL}"));
    lab.capture(
        "wan.pcap",
        &vec![
            (SECOND + 1000, tcp(5000, SYN)),
            (SECOND + 2000, tcp(5001, ACK)),
            (SECOND + 3000, udp((CLIENT, 7000), (VIP, 4500), b"?")),
        ],
    );
    lab.capture(
        "lan.pcap",
        &vec![(SECOND + 4000, udp((REAL, 4500), (CLIENT, 7000), b"!"))],
    );
    lab.replay("--rx wan=wan.pcap --rx lan=lan.pcap --explain why.jsonl");
    let why = std::fs::read_to_string(lab.path("why.jsonl")).unwrap();
    let expected = r#"
{"n": 0, "port": "wan", "time": 1.000001, "verdict": "forward", "reason": "new connection", "service": "web", "real": "10.0.0.11:8080", "mode": "fullnat", "out_port": "lan", "out_n": 0, "state": "syn_recv", "worker": 0}
{"n": 1, "port": "wan", "time": 1.000002, "verdict": "reply", "reason": "no_connection", "service": "web", "mode": "fullnat", "out_port": "wan", "out_n": 0, "worker": 0}
{"n": 2, "port": "wan", "time": 1.000003, "verdict": "forward", "reason": "new connection", "service": "any", "real": "10.0.0.11:4500", "mode": "nat", "out_port": "lan", "out_n": 1, "state": "udp", "worker": 0}
{"n": 3, "port": "lan", "time": 1.000004, "verdict": "forward", "reason": "known connection", "service": "any", "real": "10.0.0.11:4500", "mode": "nat", "out_port": "wan", "out_n": 1, "state": "udp", "worker": 0}
"#;
    assert_eq!(why, expected.trim_start());
    for line in lab.explained("why.jsonl") {
        assert!(line.is_object());
    }
}

#[test]
fn nanoseconds_are_written_only_where_nanoseconds_were_read() {
    let lab = Lab::new(CONFIG);
    let question = vec![(T + 1_234_567, arp_question())];
    lab.put("nano.pcap", pcap(&question, false, 1, 1));
    lab.put("micro.pcap", pcap(&question, true, 1000, 1));
    lab.replay("--rx wan=micro.pcap --tx wan=out.pcap --explain why.jsonl");
    assert_eq!(
        std::fs::read(lab.path("out.pcap")).unwrap()[..4],
        0xa1b2_c3d4u32.to_le_bytes()
    );
    assert_eq!(lab.times("out.pcap"), [T + 1_234_000]);
    lab.replay("--rx wan=nano.pcap --rx wan=micro.pcap --tx wan=out.pcap --explain why.jsonl");
    assert_eq!(
        std::fs::read(lab.path("out.pcap")).unwrap()[..4],
        0xa1b2_3c4du32.to_le_bytes()
    );
    assert_eq!(lab.times("out.pcap"), [T + 1_234_000, T + 1_234_567]);
    let why = std::fs::read_to_string(lab.path("why.jsonl")).unwrap();
    assert!(why.contains(r#""time": 1700000000.001234567,"#), "{why}");
}

#[test]
fn only_a_port_with_a_mac_leaves_other_hosts_frames_alone() {
    let lab = Lab::new(&format!("{CONFIG}{STATIC_REAL}"));
    let mut elsewhere = tcp(5000, SYN);
    elsewhere[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    lab.capture(
        "wan.pcap",
        &vec![(T, elsewhere), (T + 1000, tcp(5001, SYN))],
    );
    assert_eq!(lab.replay("--rx wan=wan.pcap")["transmitted"], 2);
    let mac = format!("mac = \"{WEIR_WAN}\"\naddresses = [\"198.51.100.1/24\"]");
    let strict = CONFIG.replace("addresses = [\"198.51.100.1/24\"]", &mac);
    lab.put("weir.toml", format!("{strict}{STATIC_REAL}"));
    let counts = lab.replay("--rx wan=wan.pcap");
    assert_eq!(counts["transmitted"], 1);
    assert_eq!(counts["dropped"], serde_json::json!({"other_host": 1}));
}

#[test]
fn a_capture_without_packets_gives_captures_without_packets() {
    let lab = Lab::new(CONFIG);
    lab.capture("wan.pcap", &vec![]);
    assert_eq!(
        lab.replay("--rx wan=wan.pcap --tx lan=out.pcap --explain why.jsonl")["received"],
        0
    );
    assert_eq!(lab.times("out.pcap"), [0; 0]);
    assert_eq!(lab.explained("why.jsonl").len(), 0);
}

#[test]
fn whatever_is_wrong_is_said_at_once_and_nothing_is_written() {
    let lab = Lab::new(CONFIG);
    let question = vec![(T, arp_question())];
    lab.capture("wan.pcap", &question);
    lab.put("sll.pcap", pcap(&question, false, 1000, 113));
    lab.put(
        "cut.pcap",
        &pcap(&vec![question[0].clone(); 2], false, 1000, 1)[..120],
    );
    lab.put("text.pcap", "hello");
    lab.put("more.toml", "# included\n");
    lab.put("weir.toml", format!("include = [\"more.toml\"]\n{CONFIG}"));
    lab.put("here.pcap", "");
    std::fs::create_dir(lab.path("folder")).unwrap();
    std::os::unix::fs::symlink("weir.toml", lab.path("soft.toml")).unwrap();
    std::os::unix::fs::symlink("folder/../out.pcap", lab.path("dangling")).unwrap();
    std::fs::hard_link(lab.path("wan.pcap"), lab.path("hard.pcap")).unwrap();
    std::fs::hard_link(lab.path("here.pcap"), lab.path("folder/here.pcap")).unwrap();
    let before = std::fs::read(lab.path("wan.pcap")).unwrap();
    let cases = [
        (
            "--rx wen=wan.pcap",
            "error: --rx wen=wan.pcap: no [[port]] is named `wen`; did you mean `wan`? (there is `wan`, `lan`)\n",
        ),
        ("--rx wan", "error: --rx wan: expected PORT=FILE\n"),
        (
            "--rx wan=none.pcap",
            "error: none.pcap: cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            "--rx wan=sll.pcap wan=text.pcap",
            "error: sll.pcap: has link type 113 (LINUX_SLL), not Ethernet: capture on one Ethernet interface (tcpdump -i eth0), not on `any`\n\
             error: text.pcap: is neither a pcap nor a pcapng file\n",
        ),
        (
            "--rx wan=cut.pcap",
            "error: cut.pcap: is cut short at byte 82, in the record after packet 1: `tcpdump -r FILE -w NEW` keeps what is whole\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=out.pcap --tx lam=x.pcap",
            "error: --tx lam=x.pcap: no [[port]] is named `lam`; did you mean `lan`? (there is `wan`, `lan`)\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=out.pcap --tx lan=x.pcap",
            "error: --tx lan=x.pcap: port `lan` has one already\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=./wan.pcap --explain wan.pcap",
            "error: --explain wan.pcap: this is an --rx capture, which would be overwritten\n\
             error: --tx lan=./wan.pcap: this is an --rx capture, which would be overwritten\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=out.pcap --tx wan=out.pcap",
            "error: --tx wan=out.pcap: the file is named twice\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=weir.toml --explain more.toml",
            "error: --explain more.toml: this is a file of the configuration, which would be overwritten\n\
             error: --tx lan=weir.toml: this is a file of the configuration, which would be overwritten\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=soft.toml wan=hard.pcap",
            "error: --tx lan=soft.toml: this is a file of the configuration, which would be overwritten\n\
             error: --tx wan=hard.pcap: this is an --rx capture, which would be overwritten\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=out.pcap --tx wan=folder/../out.pcap",
            "error: --tx wan=folder/../out.pcap: the file is named twice\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=out.pcap --explain dangling",
            "error: --tx lan=out.pcap: the file is named twice\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=here.pcap --explain folder/here.pcap",
            "error: --tx lan=here.pcap: the file is named twice\n",
        ),
        (
            "--rx wan=wan.pcap --tx lan=none/out.pcap",
            "error: none/out.pcap: cannot be written: No such file or directory (os error 2)\n",
        ),
    ];
    for (options, stderr) in cases {
        let run = lab.run(options);
        assert_eq!(
            (run.code, run.stdout.as_str(), run.stderr.as_str()),
            (Some(1), "", stderr),
            "{options}"
        );
        assert!(!lab.path("out.pcap").exists(), "{options}");
        assert_eq!(std::fs::read(lab.path("wan.pcap")).unwrap(), before);
        let text = std::fs::read_to_string(lab.path("weir.toml")).unwrap();
        assert!(text.ends_with(CONFIG), "{options}");
    }
    lab.put("weir.toml", "[[port]]\nname = \"wan\"\n");
    let run = lab.run("--rx wan=wan.pcap");
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.starts_with("error: weir.toml:1:"),
        "{}",
        run.stderr
    );
}
