//! `weir capture FILTER -w FILE`: live packets of both sides, as pcapng.

use super::live::{self, Look, Next, Taker};
use super::output;
use crate::io::pcapng::{Captured, Direction, Writer};
use crate::view::{CaptureBegin, CapturedView};
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write live packets to a pcapng file: as they come in, and as they leave, with the verdict as comment
///
/// Each port is an interface. A received packet and the frames that are sent for it have one number. It ends after --count
/// packets, --seconds or --size, or at Ctrl-C, with a summary on stderr.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Capture {
    /// The file; `-` is stdout
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: PathBuf,
    /// Ends after so many packets, with what is sent for them
    #[arg(long, short = 'c', value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Ends before the file is longer than so many MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    size: u64,
    /// Bytes of each frame that are kept; without this all of it
    #[arg(long, short = 's', value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,
    #[command(flatten)]
    look: Look,
}

const EXAMPLES: &str = "Examples:
  weir capture -w web.pcapng tcp port 80 and host 192.0.2.80
  weir capture -w - host 10.0.0.11 | tshark -r -
  weir capture -w drops.pcapng --seconds 600 --snaplen 128 udp port 53";

impl Capture {
    /// 0 if the capture ended as it should, whether or not there were packets; else 1.
    pub fn run(&self) -> ExitCode {
        let mut taker = Pcapng {
            file: &self.file,
            filter: self.look.filter(),
            most: self.size.saturating_mul(1 << 20),
            writer: None,
            ports: Vec::new(),
            snaplen: 0,
            packets: Packets::default(),
            is_full: false,
        };
        let done = self.look.run(self.count, self.snaplen, &mut taker);
        let done = done.and_then(|done| Ok(taker.end().map(|()| done)?));
        let (end, counts) = match done {
            Ok(done) => done,
            Err(super::client::Error::Io(why)) if taker.is_stdout() => return output::stop(&why),
            Err(super::client::Error::Io(why)) => {
                return super::fail(format_args!("{}: {why}", self.file.display()));
            }
            Err(why) => return super::fail(why),
        };
        live::summarise(end.as_ref(), &counts, taker.packets.count, "written");
        if taker.is_full {
            output::tell("ended by --size");
        }
        match end {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        }
    }
}

/// Counts packets, of which each may have several frames.
#[derive(Default)]
pub(super) struct Packets {
    pub count: u64,
    /// Those of the last frames: several workers' may be mixed.
    recent: std::collections::VecDeque<u64>,
}

impl Packets {
    /// Whether the frame is the first of a packet.
    pub(super) fn add(&mut self, packet: u64) -> bool {
        const RECENT: usize = 1024;
        if self.recent.contains(&packet) {
            return false;
        }
        self.recent.push_back(packet);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.count += 1;
        true
    }
}

struct Pcapng<'a> {
    file: &'a Path,
    filter: String,
    most: u64,
    writer: Option<Writer<Box<dyn Write>>>,
    ports: Vec<String>,
    snaplen: u32,
    packets: Packets,
    is_full: bool,
}

impl Pcapng<'_> {
    fn is_stdout(&self) -> bool {
        self.file == Path::new("-")
    }

    fn end(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Writer::flush)
    }
}

impl Taker for Pcapng<'_> {
    fn begin(&mut self, begin: CaptureBegin) -> io::Result<()> {
        let out: Box<dyn Write> = match self.is_stdout() {
            true => Box::new(output::out()),
            false => {
                // Clients' data: for who captures alone.
                let mut options = OpenOptions::new();
                let file = options.write(true).create(true).truncate(true).mode(0o600);
                let file = file.open(self.file)?;
                // One that was there may have been open to others.
                if file.metadata()?.is_file() {
                    file.set_permissions(Permissions::from_mode(0o600))?;
                }
                Box::new(io::BufWriter::new(file))
            }
        };
        let application = format!("weir {}", crate::VERSION);
        let comment = match &*self.filter {
            "" => "weir capture".to_owned(),
            filter => format!("weir capture {filter}"),
        };
        let mut writer = Writer::new(out, &application, &comment)?;
        for port in &begin.ports {
            writer.interface(port, begin.snaplen as u32)?;
        }
        self.snaplen = begin.snaplen as u32;
        self.ports = begin.ports;
        self.writer = Some(writer);
        Ok(())
    }

    fn frame(&mut self, view: CapturedView) -> io::Result<Next> {
        let Some(writer) = &mut self.writer else {
            return Ok(Next::Go);
        };
        let frame = live::bytes(&view.frame);
        let interface = self.ports.iter().position(|port| *port == view.port);
        let interface = match interface {
            Some(known) => known,
            // A reload has named a port anew.
            None => {
                writer.interface(&view.port, self.snaplen)?;
                self.ports.push(view.port.clone());
                self.ports.len() - 1
            }
        };
        let captured = Captured {
            interface: interface as u32,
            time: view.time_ns,
            frame: &frame,
            length: view.length,
            direction: match &*view.side {
                "sent" => Direction::Outbound,
                _ => Direction::Inbound,
            },
            id: view.packet,
            comment: &comment(&view),
        };
        if writer.bytes_with(&captured) > self.most {
            self.is_full = true;
            return Ok(Next::Enough);
        }
        writer.packet(&captured)?;
        self.packets.add(view.packet);
        Ok(Next::Go)
    }

    fn pause(&mut self) -> io::Result<()> {
        self.end()
    }
}

/// What is said of a frame, on one line.
fn comment(view: &CapturedView) -> String {
    let mut parts = Vec::new();
    let n = view.packet;
    let decision = view.decision.as_ref();
    parts.push(match (&*view.side, view.kind.as_deref(), view.for_packet) {
        ("sent", Some("forwarded"), true) => format!("packet {n}, sent by {}", view.port),
        ("sent", Some("answered"), true) => format!("answer to packet {n}, sent by {}", view.port),
        ("sent", _, true) => format!("weir's own, sent for packet {n} by {}", view.port),
        ("sent", Some("originated"), false) => {
            format!(
                "packet {n}, weir's own or the host's, sent by {}",
                view.port
            )
        }
        ("sent", ..) => format!("packet {n}, sent by {} after it had waited", view.port),
        _ => {
            let says = decision.map_or("", |decision| &decision.says);
            format!("packet {n}, {says}")
        }
    });
    if let Some(decision) = decision {
        if view.side != "sent" {
            parts.extend(decision.meaning.clone());
        }
        let real = decision.real.as_ref();
        let named = [
            decision.service.as_ref().map(|it| format!("service {it}")),
            real.map(|it| format!("real server {it}")),
            decision.mode.clone(),
        ];
        let named: Vec<_> = named.into_iter().flatten().collect();
        if !named.is_empty() {
            parts.push(named.join(", "));
        }
    }
    parts.push(match &*view.side {
        "taken_over" => format!("worker {}, handed over by another one", view.worker),
        _ => format!("worker {}", view.worker),
    });
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::CapturedDecision;

    fn view(side: &str, kind: Option<&str>, for_packet: bool) -> CapturedView {
        CapturedView {
            packet: 12,
            side: side.to_owned(),
            port: "lan".to_owned(),
            worker: 1,
            kind: kind.map(str::to_owned),
            for_packet,
            decision: Some(CapturedDecision {
                says: "forward by lan: known connection, now in state established".to_owned(),
                service: Some("web".to_owned()),
                real: Some("10.0.0.11:8080".to_owned()),
                mode: Some("fullnat".to_owned()),
                ..CapturedDecision::default()
            }),
            ..CapturedView::default()
        }
    }

    #[test]
    fn comments_say_what_became_of_the_packet_and_whose_the_frame_is() {
        let service = "service web, real server 10.0.0.11:8080, fullnat";
        let says = "packet 12, forward by lan: known connection, now in state established";
        for (side, kind, for_packet, expected) in [
            (
                "received",
                None,
                false,
                format!("{says}; {service}; worker 1"),
            ),
            (
                "taken_over",
                None,
                false,
                format!("{says}; {service}; worker 1, handed over by another one"),
            ),
            (
                "sent",
                Some("forwarded"),
                true,
                format!("packet 12, sent by lan; {service}; worker 1"),
            ),
            (
                "sent",
                Some("answered"),
                true,
                format!("answer to packet 12, sent by lan; {service}; worker 1"),
            ),
            (
                "sent",
                Some("originated"),
                true,
                format!("weir's own, sent for packet 12 by lan; {service}; worker 1"),
            ),
        ] {
            assert_eq!(comment(&view(side, kind, for_packet)), expected);
        }
        let alone = |kind| {
            let view = view("sent", Some(kind), false);
            comment(&CapturedView {
                decision: None,
                ..view
            })
        };
        assert_eq!(
            alone("forwarded"),
            "packet 12, sent by lan after it had waited; worker 1"
        );
        assert_eq!(
            alone("originated"),
            "packet 12, weir's own or the host's, sent by lan; worker 1"
        );
    }

    #[test]
    fn a_packet_counts_once_however_many_frames_it_has() {
        let mut packets = Packets::default();
        let first: Vec<_> = [0, 0, 1, 2, 1, 2, 2, 3].map(|n| packets.add(n)).into();
        assert_eq!(first, [true, false, true, true, false, false, false, true]);
        assert_eq!(packets.count, 4);
    }

    #[test]
    fn hex_is_read() {
        assert_eq!(live::bytes("00ff0a"), [0, 255, 10]);
        assert!(live::bytes("").is_empty());
    }
}
