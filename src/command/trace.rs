//! `weir trace FILTER --count N`: live packets step by step, in the words of `weir explain`.

use super::explain::write_steps;
use super::live::{self, Look, Next, Taker};
use super::output;
use crate::explain::{Kind, Live, Passing, live as steps_of};
use crate::view::{CaptureBegin, CapturedView};
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// Say of live packets what became of them, step by step, as `weir explain` does of one that is asked about
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Trace {
    /// Ends after so many packets
    #[arg(long, short = 'c', value_name = "PACKETS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// One JSON object a packet
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: Look,
}

const EXAMPLES: &str = "Examples:
  weir trace tcp port 80 and host 192.0.2.80
  weir trace --count 1 --seconds 600 host 203.0.113.5 and 'tcp[tcpflags] & tcp-rst != 0'
  weir trace --json --count 1000 net 203.0.113.0/24 | jq -r .decision.reason | sort | uniq -c";

impl Trace {
    /// 0 if it ended as it should, whether or not there were packets; else 1.
    pub fn run(&self) -> ExitCode {
        let mut taker = Teller {
            out: output::out(),
            is_json: self.json,
            waiting: HashMap::new(),
            told: 0,
        };
        let (end, counts) = match self.look.run(Some(self.count), None, &mut taker) {
            Ok(done) => done,
            Err(super::client::Error::Io(why)) => return output::stop(&why),
            Err(why) => return super::fail(why),
        };
        live::summarise(end.as_ref(), &counts, taker.told, "told");
        match end {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        }
    }
}

/// Tells each packet when all of its frames are there.
struct Teller<W> {
    out: W,
    is_json: bool,
    /// By their numbers, packets of which frames are to come.
    waiting: HashMap<u64, Vec<CapturedView>>,
    told: u64,
}

impl<W: Write> Taker for Teller<W> {
    fn begin(&mut self, _: CaptureBegin) -> io::Result<()> {
        Ok(())
    }

    fn frame(&mut self, frame: CapturedView) -> io::Result<Next> {
        let number = frame.packet;
        let frames = self.waiting.entry(number).or_default();
        frames.push(frame);
        let first = &frames[0];
        if frames.len() > usize::from(first.sent_frames) {
            let frames = self.waiting.remove(&number).unwrap_or_default();
            self.tell(&frames)?;
        }
        Ok(Next::Go)
    }

    fn pause(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Teller<W> {
    fn tell(&mut self, frames: &[CapturedView]) -> io::Result<()> {
        let Some(first) = frames.first() else {
            return Ok(());
        };
        let time = UNIX_EPOCH + Duration::from_nanos(first.time_ns);
        let time = humantime::format_rfc3339_micros(time);
        let packet = gather(frames);
        let (ends, steps) = steps_of(&packet);
        if self.is_json {
            let frame = |view: &CapturedView| json!({"port": view.port, "frame": view.frame});
            let (sent, received): (Vec<_>, Vec<_>) =
                frames.iter().partition(|view| view.side == "sent");
            let line = json!({
                "n": first.packet,
                "time": time.to_string(),
                "worker": first.worker,
                "packet": ends,
                "decision": first.decision,
                "steps": steps,
                "received": received.first().map(|view| frame(view)),
                "sent": sent.into_iter().map(frame).collect::<Vec<_>>(),
            });
            writeln!(self.out, "{line}")?;
        } else {
            if self.told > 0 {
                writeln!(self.out)?;
            }
            write_steps(
                &mut self.out,
                &format!("{} {time} {ends}", first.packet),
                &steps,
            )?;
        }
        self.told += 1;
        Ok(())
    }
}

/// The frames of one packet.
fn gather(frames: &[CapturedView]) -> Live {
    let passing = |view: &CapturedView| Passing {
        port: view.port.clone(),
        frame: live::bytes(&view.frame),
        kind: match view.kind.as_deref() {
            Some("answered") => Kind::Answer,
            Some("originated") => Kind::Own,
            _ => Kind::Packet,
        },
    };
    let (sent, received): (Vec<_>, Vec<_>) = frames.iter().partition(|view| view.side == "sent");
    let first = frames.first().cloned().unwrap_or_default();
    let decision = first.decision.unwrap_or_default();
    Live {
        received: received.first().map(|view| passing(view)),
        sent: sent.into_iter().map(passing).collect(),
        worker: first.worker,
        is_taken_over: first.side == "taken_over",
        service: decision.service,
        real: decision.real,
        mode: decision.mode,
        reason: Some(decision.reason).filter(|reason| !reason.is_empty()),
        state: decision.state,
        says: Some(decision.says).filter(|says| !says.is_empty()),
        meaning: decision.meaning,
        advice: decision.advice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Asked, frame};
    use crate::net::Mac;
    use crate::view::CapturedDecision;

    fn hex(words: &str) -> String {
        let Asked::Words(words) = words.parse::<Asked>().unwrap() else {
            panic!("{words}")
        };
        let bytes = frame(&words, Mac([2, 0, 0, 0, 0, 1]));
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn view(packet: u64, side: &str, port: &str, words: &str) -> CapturedView {
        CapturedView {
            packet,
            side: side.to_owned(),
            port: port.to_owned(),
            frame: hex(words),
            ..CapturedView::default()
        }
    }

    fn told(frames: Vec<CapturedView>, is_json: bool) -> String {
        let mut teller = Teller {
            out: Vec::new(),
            is_json,
            waiting: HashMap::new(),
            told: 0,
        };
        frames
            .into_iter()
            .for_each(|frame| assert_eq!(teller.frame(frame).unwrap(), Next::Go));
        assert!(teller.waiting.is_empty());
        String::from_utf8(teller.out).unwrap()
    }

    /// Two packets whose frames come mixed: one of fullnat, one that is dropped, and a frame that is sent for none.
    fn frames() -> Vec<CapturedView> {
        let forward = CapturedDecision {
            verdict: "forward".to_owned(),
            reason: "new connection".to_owned(),
            says: "forward by lan: new connection, now in state syn_recv".to_owned(),
            service: Some("web".to_owned()),
            real: Some("10.0.0.11:8080".to_owned()),
            mode: Some("fullnat".to_owned()),
            state: Some("syn_recv".to_owned()),
            ..CapturedDecision::default()
        };
        let drop = CapturedDecision {
            verdict: "drop".to_owned(),
            reason: "not_for_us".to_owned(),
            says: "drop: not_for_us".to_owned(),
            meaning: Some("The destination is no VIP.".to_owned()),
            advice: Some("Look at the route.".to_owned()),
            ..CapturedDecision::default()
        };
        let client = "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN";
        let inside = "tcp 10.0.0.200:4321 > 10.0.0.11:8080 SYN";
        let kind = |kind: &str| Some(kind.to_owned());
        vec![
            CapturedView {
                decision: Some(forward.clone()),
                sent_frames: 1,
                ..view(0, "received", "wan", client)
            },
            CapturedView {
                decision: Some(drop),
                worker: 1,
                ..view(1, "taken_over", "wan", "udp 203.0.113.5:9 > 192.0.2.99:53")
            },
            CapturedView {
                decision: Some(forward),
                kind: kind("forwarded"),
                for_packet: true,
                ..view(0, "sent", "lan", inside)
            },
            CapturedView {
                kind: kind("originated"),
                ..view(2, "sent", "lan", "icmp 10.0.0.1 > 10.0.0.11")
            },
        ]
    }

    #[test]
    fn each_packet_is_told_with_what_was_sent_for_it() {
        let text = told(frames(), false);
        let packets: Vec<_> = text.split("\n\n").collect();
        assert_eq!(packets.len(), 3, "{text}");
        let has = |packet: &str, parts: &[&str]| {
            for part in parts {
                assert!(packet.contains(part), "{part:?} is not in\n{packet}");
            }
        };
        has(
            packets[0],
            &[
                "1 1970",
                "drop: not_for_us",
                "what to do: Look",
                "worker 1 has it from another one",
            ],
        );
        has(
            packets[1],
            &[
                "203.0.113.5:1234 > 192.0.2.80:80 becomes 10.0.0.200:4321 > 10.0.0.11:8080",
                "it came in by wan",
                "real server 10.0.0.11:8080",
                "the packet begins one, now in state syn_recv",
                "out by lan, to 02:00:00:00:00:01",
                "verdict",
            ],
        );
        has(packets[2], &["weir's own, or the host's"]);
        assert!(!packets[2].contains("verdict"));
    }

    #[test]
    fn json_has_the_same_a_packet_a_line() {
        let text = told(frames(), true);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let by = |n: u64| lines.iter().find(|line| line["n"] == n).unwrap();
        assert_eq!(by(0)["decision"]["real"], "10.0.0.11:8080");
        assert_eq!(by(0)["sent"][0]["port"], "lan");
        assert_eq!(by(0)["received"]["port"], "wan");
        assert_eq!(by(1)["decision"]["reason"], "not_for_us");
        assert!(by(2)["received"].is_null() && by(2)["decision"].is_null());
        let verdict = by(1)["steps"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(verdict["step"], "verdict");
    }
}
