//! What `weir capture` and `weir trace` have in common: a filter, bounds, and a daemon that tells packets until one of them is
//! reached or Ctrl-C is pressed.

use super::client::{self, At, Error};
use super::output::tell;
use crate::bpf;
use crate::view::{
    CaptureBegin, CaptureCounts, CaptureEnd, CaptureEnded, CaptureLine, CapturedView,
};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which packets, and how many of them.
#[derive(Debug, clap::Args)]
pub(super) struct Look {
    /// As of tcpdump (pcap-filter(7)), such as `tcp port 80 and host 192.0.2.80`; without one, every packet. A packet matches as it
    /// came in or as it leaves, without its VLAN tags
    #[arg(value_name = "FILTER", allow_hyphen_values = false)]
    filter: Vec<String>,
    /// So many seconds: the end at the latest
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// No more packets than so many in a second; the others are counted
    #[arg(long, value_name = "PACKETS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Percent of its time that each worker may spend on looking for packets; under more load, packets are passed over and counted
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    share: u8,
    #[command(flatten)]
    at: At,
}

/// Whether more is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Enough,
}

/// Who takes what is told.
pub(super) trait Taker {
    fn begin(&mut self, begin: CaptureBegin) -> io::Result<()>;
    fn frame(&mut self, frame: CapturedView) -> io::Result<Next>;
    /// All that was told so far may be shown.
    fn pause(&mut self) -> io::Result<()>;
}

/// No capture's number: before the daemon has told it.
const NONE: u64 = u64::MAX;

impl Look {
    pub(super) fn filter(&self) -> String {
        self.filter.join(" ")
    }

    /// Has the daemon tell packets. Returns how that ended; None where the daemon ended without saying so.
    ///
    /// # Errors
    /// Where the filter is none, or the daemon does not let it begin.
    pub(super) fn run(
        &self,
        count: Option<u64>,
        snaplen: Option<u32>,
        taker: &mut impl Taker,
    ) -> Result<(Option<CaptureEnd>, CaptureCounts), Error> {
        let filter = self.filter();
        let program = bpf::compile(&filter);
        let program = program.map_err(|why| Error::Refused(format!("filter {filter:?}: {why}")))?;
        bpf::Program::new(&program).map_err(|why| Error::Refused(why.to_string()))?;
        let asked = json!({
            "program": program,
            "filter": filter,
            "count": count,
            "seconds": self.seconds,
            "rate": self.rate,
            "snaplen": snaplen,
            "share": self.share,
        });
        let address = self.at.address()?;
        let id = Arc::new(AtomicU64::new(NONE));
        end_at_a_signal(address.clone(), id.clone())?;
        let (mut end, mut counts) = (None, CaptureCounts::default());
        let mut has_enough = false;
        let path = "/v1/capture";
        client::post_lines(&address, path, asked.to_string(), |line| {
            match serde_json::from_slice(line)? {
                CaptureLine::Begin(begin) => {
                    id.store(begin.id, Relaxed);
                    taker.begin(begin)?;
                }
                CaptureLine::Frame(frame) => {
                    if !has_enough && taker.frame(*frame)? == Next::Enough {
                        has_enough = true;
                        // Not on this thread, which waits for the answer already.
                        let (address, id) = (address.clone(), begin_id(&id));
                        std::thread::spawn(move || end_capture(&address, id));
                    }
                }
                CaptureLine::Counts(now) => counts = now,
                CaptureLine::End(told) => {
                    counts = told.counts;
                    end = Some(told);
                }
            }
            Ok(taker.pause()?)
        })?;
        Ok((end, counts))
    }
}

fn begin_id(id: &AtomicU64) -> Option<u64> {
    Some(id.load(Relaxed)).filter(|id| *id != NONE)
}

/// The first SIGINT or SIGTERM ends the capture, so that its end is told; the second one ends the command.
fn end_at_a_signal(address: client::Address, id: Arc<AtomicU64>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        let mut arrived = signals.forever();
        let first = arrived.next();
        let code = 128 + first.unwrap_or(SIGINT);
        // A weir that hangs does not answer: the next signal is waited for meanwhile.
        std::thread::spawn(move || {
            let has_begun = begin_id(&id);
            if has_begun.is_none() || !end_capture(&address, has_begun) {
                std::process::exit(code);
            }
        });
        if let Some(second) = arrived.next() {
            std::process::exit(128 + second);
        }
    });
    Ok(())
}

fn end_capture(address: &client::Address, id: Option<u64>) -> bool {
    let path = match id {
        Some(id) => format!("/v1/capture?id={id}"),
        None => return false,
    };
    let answer = client::delete(address, &path);
    answer.is_ok_and(|text| serde_json::from_slice::<CaptureEnded>(&text).is_ok())
}

/// The summary, as tcpdump ends with one. `written`: packets that were taken.
pub(super) fn summarise(
    end: Option<&CaptureEnd>,
    counts: &CaptureCounts,
    written: u64,
    what: &str,
) {
    let CaptureCounts {
        looked_at,
        passed_over,
        matched,
        lost,
        over_rate,
    } = *counts;
    let plural = |n: u64| if n == 1 { "packet" } else { "packets" };
    let mut lines = vec![format!(
        "{matched} {} matched of {looked_at} looked at, {written} {what}",
        plural(matched)
    )];
    if lost > 0 {
        lines.push(format!(
            "{lost} {} lost: they came faster than they were read (--snaplen or a narrower filter helps)",
            plural(lost)
        ));
    }
    if over_rate > 0 {
        lines.push(format!(
            "{over_rate} {} left out, above --rate",
            plural(over_rate)
        ));
    }
    if passed_over > 0 {
        lines.push(format!(
            "{passed_over} {} not looked at: the workers' --share for that was used up",
            plural(passed_over)
        ));
    }
    match end.map(|end| &*end.why) {
        None => lines.push("weir ended before the capture did".to_owned()),
        Some("seconds") => lines.push("ended by --seconds".to_owned()),
        Some(_) => {}
    }
    lines.into_iter().for_each(tell);
}

/// The bytes of a frame that is told in hex.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
