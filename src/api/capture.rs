//! `/v1/capture`: packets as they come in and as they leave, while they do.
//!
//! They are clients' data: who may change weir may ask for them, and no one else. The reader's request is the capture's life:
//! it ends when its connection does.

use super::answer::{Kind, error, json_response, no_answer, posted, problem};
use super::state::Api;
use crate::bpf::{Instruction, Program};
use crate::capture::{BoxedCopy, BoxedWatch, Session, Wanted};
use crate::control::{Begun, Ground, NoAnswer, NoCapture};
use crate::view::{
    CaptureBegin, CaptureCounts, CaptureEnd, CaptureEnded, CaptureLine, CapturedView,
};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use utoipa::{IntoParams, ToSchema};

/// An object a line (JSON Lines).
pub(super) const LINES: &str = "application/jsonl";

/// What a capture has unless it is asked for otherwise, and the most that it may have.
const SECONDS: u32 = 60;
const MOST_SECONDS: u32 = 86_400;
const RATE: u32 = 10_000;
const MOST_RATE: u32 = 1_000_000;
const SHARE: u8 = 5;
/// The longest text of a filter that is kept, in bytes.
const MOST_FILTER: usize = 4096;

/// Between two looks for packets, between two lines of counts, and how long workers may take to end.
const PAUSE: Duration = Duration::from_millis(20);
const REPORT: Duration = Duration::from_secs(1);
const ENDING: Duration = Duration::from_secs(1);
/// So much later than its own end a capture is ended whose reader takes nothing.
const GRACE: Duration = Duration::from_secs(2);
/// Copies that are read in one go.
const SLICE: usize = 256;

/// Of `/v1/capture`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CaptureWanted)]
pub(super) struct Asked {
    /// The filter as classic BPF for Ethernet: `[code, jt, jf, k]` each, as `tcpdump -ddd` prints them; without it every packet
    /// matches.
    #[schema(value_type = Option<Vec<Vec<u32>>>)]
    program: Option<Vec<Instruction>>,
    /// The filter's text, for people.
    filter: Option<String>,
    /// Ends the capture after so many packets.
    count: Option<u64>,
    /// Ends it after so many seconds: 60.
    seconds: Option<u32>,
    /// Packets that are told in a second: 10000.
    rate: Option<u32>,
    /// Bytes of a frame that are told: all.
    snaplen: Option<usize>,
    /// Percent of its time that a worker may spend on looking for packets: 5.
    share: Option<u8>,
}

impl Asked {
    /// What is wanted, and for how long.
    fn wanted(self, longest: usize) -> Result<(Wanted, Duration), String> {
        let within = |name: &str, value: u32, most: u32| match (1..=most).contains(&value) {
            true => Ok(value),
            false => Err(format!("`{name}` is {value}: write 1 to {most}")),
        };
        let program = match &self.program {
            Some(instructions) => Program::new(instructions),
            // BPF_RET: all of it.
            None => Program::new(&[Instruction(0x06, 0, 0, u32::MAX)]),
        };
        let filter = self.filter.unwrap_or_default();
        if filter.len() > MOST_FILTER {
            return Err(format!("`filter` has more than {MOST_FILTER} bytes"));
        }
        let snaplen = self.snaplen.unwrap_or(longest).clamp(1, longest);
        if self.snaplen == Some(0) || self.count == Some(0) {
            return Err("`snaplen` and `count` are at least 1".to_owned());
        }
        let share = within("share", self.share.unwrap_or(SHARE).into(), 100)?;
        let seconds = within("seconds", self.seconds.unwrap_or(SECONDS), MOST_SECONDS)?;
        let wanted = Wanted {
            program: program.map_err(|why| why.to_string())?,
            filter,
            snaplen,
            count: self.count,
            rate: within("rate", self.rate.unwrap_or(RATE), MOST_RATE)?,
            share: share as u8,
        };
        Ok((wanted, Duration::from_secs(seconds.into())))
    }
}

/// Begins a capture, and tells it line by line.
pub(super) async fn post_capture(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked: Asked = match posted(&headers, &body) {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    match begin(&api, asked).await {
        Ok(running) => {
            let told = unfold(running, |mut running| async move {
                let lines = running.next().await?;
                Some((Ok::<_, NoAnswer>(lines), running))
            });
            // What compresses it asks once more after its end.
            let told = Body::from_stream(told.fuse());
            ([(header::CONTENT_TYPE, LINES)], told).into_response()
        }
        Err(refusal) => *refusal,
    }
}

async fn begin(api: &Api, asked: Asked) -> Result<Running, Box<Response>> {
    let failed = |why| Box::new(no_answer(why));
    let ground = api.handle.ask(|control| control.capture_ground());
    let Ground {
        workers,
        longest,
        ports,
    } = ground.await.map_err(failed)?;
    let wanted = asked.wanted(longest);
    let bad = |why: String| Box::new(error(StatusCode::BAD_REQUEST, &why));
    let (wanted, length) = wanted.map_err(bad)?;
    let snaplen = wanted.snaplen;
    // Takes some milliseconds for its memory.
    let made = spawn_blocking(move || Session::new(wanted, workers)).await;
    let (session, watches) = made.map_err(|_| failed(NoAnswer::Panicked))?;
    // From here on it ends with this, whatever becomes of the request.
    let life = Life(session);
    let begun = order(api, &life.0, watches, length + GRACE)
        .await
        .map_err(failed)?;
    let Begun { id, epoch } = begun.map_err(|why| {
        Box::new(match why {
            NoCapture::Runs(_) => problem(Kind::CaptureRuns, &why.to_string()),
            NoCapture::Busy => error(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
        })
    })?;
    tracing::info!(filter = life.0.filter(), "packets are captured");
    let now = Instant::now();
    Ok(Running {
        api: api.clone(),
        life,
        epoch,
        begin: Some(CaptureBegin { id, snaplen, ports }),
        end: now + length,
        refilled: now,
        reported: now,
        why: None,
        has_ended: false,
    })
}

async fn order(
    api: &Api,
    session: &Arc<Session>,
    watches: Vec<BoxedWatch>,
    length: Duration,
) -> Result<Result<Begun, NoCapture>, NoAnswer> {
    let session = session.clone();
    let order = api
        .handle
        .order(move |control| control.begin_capture(&session, watches, length));
    order.await
}

/// Ends its capture when it is dropped.
struct Life(Arc<Session>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A capture that is being told.
struct Running {
    api: Api,
    life: Life,
    epoch: u64,
    begin: Option<CaptureBegin>,
    end: Instant,
    refilled: Instant,
    reported: Instant,
    /// Why it ended, and since when the workers are waited for.
    why: Option<(&'static str, Instant)>,
    has_ended: bool,
}

impl Running {
    /// The next lines; none behind the last.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(begin) = self.begin.take() {
            return Some(text(&[CaptureLine::Begin(begin)]));
        }
        while !self.has_ended {
            let session = self.life.0.clone();
            let now = Instant::now();
            session.refill(now - self.refilled);
            self.refilled = now;
            self.look_for_end(now);
            // Before what is there is read: nothing comes behind it.
            let is_last = self
                .why
                .is_some_and(|(_, since)| session.is_left() || now - since >= ENDING);
            let copies = session.read(SLICE);
            if !copies.is_empty() {
                return Some(self.tell(copies).await);
            }
            let counts = counts(&session);
            if is_last {
                self.has_ended = true;
                let why = self.why.map_or("ended", |(why, _)| why).to_owned();
                return Some(text(&[CaptureLine::End(CaptureEnd { why, counts })]));
            }
            if now - self.reported >= REPORT {
                self.reported = now;
                return Some(text(&[CaptureLine::Counts(counts)]));
            }
            sleep(PAUSE).await;
        }
        None
    }

    fn look_for_end(&mut self, now: Instant) {
        let session = &self.life.0;
        let why = if session.is_complete() {
            "count"
        } else if now >= self.end {
            "seconds"
        } else if session.is_over() {
            "ended"
        } else {
            return;
        };
        session.end();
        self.why.get_or_insert((why, now));
    }

    async fn tell(&mut self, copies: Vec<BoxedCopy>) -> Bytes {
        let epoch = self.epoch;
        let shown = self.api.handle.ask(move |control| {
            let rows = control.show_captured(&copies, epoch);
            (copies, rows)
        });
        let Ok((copies, rows)) = shown.await else {
            // weir stops, or says in its log why not.
            self.life.0.end();
            return Bytes::new();
        };
        let with_frame = |(copy, row): (&BoxedCopy, CapturedView)| {
            let frame = hex(copy.frame());
            CaptureLine::Frame(Box::new(CapturedView { frame, ..row }))
        };
        let lines: Vec<_> = copies.iter().zip(rows).map(with_frame).collect();
        copies
            .into_iter()
            .for_each(|copy| self.life.0.give_back(copy));
        text(&lines)
    }
}

fn counts(session: &Session) -> CaptureCounts {
    let counts = session.counts();
    CaptureCounts {
        looked_at: counts.looked_at,
        passed_over: counts.passed_over,
        matched: counts.matched,
        lost: counts.lost,
        over_rate: counts.over_rate,
    }
}

fn text(lines: &[CaptureLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // Rows are plain data, and memory takes all of it: it cannot fail.
        let _ = serde_json::to_writer(&mut text, line);
        text.push(b'\n');
    }
    text.into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .map(|digit| char::from(DIGITS[usize::from(digit)]));
    digits.collect()
}

/// Of a request to end one.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The one of this number, as its first line says it; without it the one that runs.
    id: Option<u64>,
}

/// Ends the capture that runs.
pub(super) async fn delete_capture(State(api): State<Api>, Query(which): Query<Which>) -> Response {
    let order = api
        .handle
        .order(move |control| control.end_capture(which.id));
    match order.await {
        Ok(ended) => json_response(CaptureEnded { ended }),
        Err(why) => no_answer(why),
    }
}
