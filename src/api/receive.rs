//! Receives what is sent, before anything works on it: so much of it, of so many, in so much time.
//!
//! A small body waits in memory, and keeps nothing from anyone else while it comes. A large one has a place as long as its
//! bytes flow. Root has places of its own, which others cannot fill. The order
//! of changes is one for all: root's wait for those before it, as long as these are checked.

use super::access::Peer;
use super::answer::{error, no_answer};
use super::serve::Receipt;
use crate::config;
use crate::control::NoAnswer;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

const RELOAD: &str = "/v1/reload";
const PLAN: &str = "/v1/plan";

/// The most that a request may send: all files of a configuration, as JSON, or one file.
const MOST_TEXTS: usize = 128 << 20;
const MOST: usize = config::MAX_BYTES;
/// How long the rest of a refused body is taken.
const LINGER: Duration = Duration::from_secs(2);
/// A body of so many bytes needs no place.
const SMALL: usize = 64 << 10;
/// How long a body may take, and how long nothing of it may come.
const SENDING: Duration = Duration::from_secs(60);
const STALL: Duration = Duration::from_secs(5);
/// What has to come of a large body in that time, or it gives its place up.
const PACE: usize = 64 << 10;

/// Who is received and worked for at once.
struct Work {
    /// Large bodies that come in, or wait for their work: each may have [`MOST_TEXTS`].
    large: Semaphore,
    /// Of these, one is worked on at a time: the parser takes far more memory than its text.
    parsing: Semaphore,
    /// Small ones that are worked on.
    small: Semaphore,
}

impl Default for Work {
    fn default() -> Self {
        Work {
            large: Semaphore::new(4),
            parsing: Semaphore::new(1),
            small: Semaphore::new(4),
        }
    }
}

/// Changes wait for each other, and plans for no change: each have places of their own.
#[derive(Default)]
struct Lane {
    changes: Work,
    plans: Work,
}

impl Lane {
    fn of(&self, path: &str) -> &Work {
        match path {
            PLAN => &self.plans,
            _ => &self.changes,
        }
    }
}

#[derive(Default)]
pub(crate) struct Lanes {
    root: Lane,
    others: Lane,
}

impl Lanes {
    fn of(&self, peer: Option<&Peer>) -> &Lane {
        match peer.is_some_and(Peer::is_root) {
            true => &self.root,
            false => &self.others,
        }
    }
}

/// Why a body is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotTaken {
    #[error("the body was cut off")]
    CutOff,
    #[error("the body has more than {} MiB", .0 >> 20)]
    TooLong(usize),
    #[error("nothing came of the body for {} s", STALL.as_secs())]
    Stalled,
    #[error("less than {} KiB came of the body in {} s", PACE >> 10, STALL.as_secs())]
    TooSlow,
    #[error("the body did not come within {} s", SENDING.as_secs())]
    TooLate,
    #[error("too many large requests come at once; ask again")]
    NoPlace,
}

impl NotTaken {
    fn status(&self) -> StatusCode {
        match self {
            NotTaken::CutOff => StatusCode::BAD_REQUEST,
            NotTaken::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            NotTaken::Stalled | NotTaken::TooSlow | NotTaken::TooLate => {
                StatusCode::REQUEST_TIMEOUT
            }
            NotTaken::NoPlace => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Work {
    /// A whole body, and the place of a large one.
    async fn take(
        &self,
        mut body: Body,
        most: usize,
    ) -> Result<(Bytes, Option<SemaphorePermit<'_>>), NotTaken> {
        // As Content-Length tells.
        if body.size_hint().lower() > most as u64 {
            linger(body);
            return Err(NotTaken::TooLong(most));
        }
        let mut bytes = Vec::new();
        let mut place = None;
        let mut end = Instant::now() + SENDING;
        // Of a large body: when the present span ends, and how many bytes have to be there then.
        let mut span = (end, 0);
        loop {
            let piece = timeout_at(end.min(Instant::now() + STALL), body.frame()).await;
            let Ok(piece) = piece else {
                return Err(match Instant::now() < end {
                    true => NotTaken::Stalled,
                    false => NotTaken::TooLate,
                });
            };
            let Some(piece) = piece else {
                return Ok((bytes.into(), place));
            };
            let piece = piece.map_err(|_| NotTaken::CutOff)?.into_data();
            let piece = piece.unwrap_or_default();
            let length = bytes.len() + piece.len();
            if length > most {
                linger(body);
                return Err(NotTaken::TooLong(most));
            }
            if place.is_none() && length > SMALL {
                // No more is read of it meanwhile.
                let free = timeout(SENDING, self.large.acquire()).await;
                place = Some(
                    free.map_err(|_| NotTaken::NoPlace)?
                        .map_err(|_| NotTaken::NoPlace)?,
                );
                let now = Instant::now();
                (end, span) = (now + SENDING, (now + STALL, length + PACE));
            }
            bytes.extend_from_slice(&piece);
            if Instant::now() >= end {
                return Err(NotTaken::TooLate);
            }
            if Instant::now() >= span.0 {
                if length < span.1 {
                    return Err(NotTaken::TooSlow);
                }
                span = (Instant::now() + STALL, length + PACE);
            }
        }
    }
}

/// Takes what is on its way for a while, and forgets it: a connection that is closed before has the other end lose the answer.
fn linger(mut body: Body) {
    tokio::spawn(timeout(LINGER, async move {
        while let Some(Ok(_)) = body.frame().await {}
    }));
}

pub(super) async fn receive(
    State(lanes): State<Arc<Lanes>>,
    request: Request,
    next: Next,
) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let lane = lanes.of(parts.extensions.get()).of(parts.uri.path());
    let is_configuration = matches!(parts.uri.path(), RELOAD | PLAN);
    let most = if is_configuration { MOST_TEXTS } else { MOST };
    let (body, place) = match lane.take(body, most).await {
        Ok(taken) => taken,
        Err(why) => return error(why.status(), &why.to_string()),
    };
    if let Some(receipt) = parts.extensions.get::<Arc<Receipt>>() {
        receipt.received();
    }
    let work = match place {
        Some(_) => &lane.parsing,
        None => &lane.small,
    };
    let Ok(_turn) = work.acquire().await else {
        return no_answer(NoAnswer::Stopping);
    };
    next.run(Request::from_parts(parts, Body::from(body))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, Stream, StreamExt};
    use hyper::body::{Frame, SizeHint};
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task;

    /// Pieces of so many bytes, one after each pause; then nothing for ever, or the end.
    fn pieces(
        count: usize,
        bytes: usize,
        pause: Duration,
        ends: bool,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let some = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from(vec![b'x'; bytes]))
        });
        let rest = match ends {
            true => stream::empty().left_stream(),
            false => stream::pending().right_stream(),
        };
        some.chain(rest)
    }

    /// What becomes of it, and after how many seconds.
    async fn taken(
        lane: &Work,
        body: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
    ) -> (Result<usize, NotTaken>, u64) {
        let began = Instant::now();
        let taken = lane.take(Body::from_stream(body), MOST).await;
        let taken = taken.map(|(bytes, _)| bytes.len());
        (taken, began.elapsed().as_secs())
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_that_stalls_or_trickles_is_ended() {
        run(async {
            let lane = Work::default();
            for (count, bytes, pause, ends, becomes) in [
                (0, 0, SECOND, true, (Ok(0), 0)),
                (3, 10, SECOND, true, (Ok(30), 3)),
                (0, 0, SECOND, false, (Err(NotTaken::Stalled), 5)),
                (3, 10, SECOND, false, (Err(NotTaken::Stalled), 8)),
                (1000, 1, SECOND * 4, true, (Err(NotTaken::TooLate), 60)),
                (1, SMALL + 1, SECOND, false, (Err(NotTaken::Stalled), 6)),
                (1000, 10_000, SECOND, true, (Err(NotTaken::TooSlow), 12)),
                (200, 100_000, SECOND, true, (Err(NotTaken::TooLate), 61)),
                (40, 100_000, SECOND, true, (Ok(4_000_000), 40)),
                (
                    300,
                    1 << 16,
                    SECOND / 9,
                    true,
                    (Err(NotTaken::TooLong(MOST)), 28),
                ),
            ] {
                let body = pieces(count, bytes, pause, ends);
                let case = format!("{count} of {bytes} bytes every {pause:?}, ends: {ends}");
                assert_eq!(taken(&lane, body).await, becomes, "{case}");
                assert_eq!(lane.large.available_permits(), 4, "{case}");
            }
        });
    }

    #[test]
    fn large_bodies_on_their_way_keep_out_large_ones_only_and_only_while_they_flow() {
        run(async {
            let lane = Arc::new(Work::default());
            for _ in 0..4 {
                let lane = lane.clone();
                tokio::spawn(async move {
                    let _ = taken(&lane, pieces(1, SMALL + 1, Duration::ZERO, false)).await;
                });
            }
            tokio::time::sleep(SECOND).await;
            assert_eq!(lane.large.available_permits(), 0);
            let small = pieces(1, SMALL, Duration::ZERO, true);
            assert_eq!(taken(&lane, small).await, (Ok(SMALL), 0));
            let large = pieces(2, SMALL, Duration::ZERO, true);
            assert_eq!(taken(&lane, large).await, (Ok(2 * SMALL), 4));
        });
    }

    #[test]
    fn plans_and_changes_have_places_of_their_own() {
        let lane = Lane::default();
        for path in [RELOAD, "/v1/weight", "/v1/services"] {
            assert!(std::ptr::eq(lane.of(path), &lane.changes), "{path}");
        }
        assert!(std::ptr::eq(lane.of(PLAN), &lane.plans));
    }

    #[test]
    fn a_length_beyond_the_most_is_refused_before_anything_comes() {
        /// Says how long it is, and never comes.
        struct Announced(u64);
        impl HttpBody for Announced {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut task::Context<'_>,
            ) -> task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                task::Poll::Pending
            }

            fn size_hint(&self) -> SizeHint {
                SizeHint::with_exact(self.0)
            }
        }
        run(async {
            let lane = Work::default();
            for (length, becomes) in [
                (MOST, NotTaken::Stalled),
                (MOST + 1, NotTaken::TooLong(MOST)),
            ] {
                let body = Body::new(Announced(length as u64));
                let taken = lane.take(body, MOST).await.map(|_| ());
                assert_eq!(taken, Err(becomes), "{length}");
            }
        });
    }

    #[test]
    fn root_has_places_of_its_own() {
        let lanes = Lanes::default();
        let process = |uid| Peer::Process { uid, pid: None };
        let root = lanes.of(Some(&process(0)));
        let others = [
            None,
            Some(process(1)),
            Some(Peer::Tcp(([127, 0, 0, 1], 1).into())),
        ];
        for other in others {
            assert!(!std::ptr::eq(lanes.of(other.as_ref()), root), "{other:?}");
        }
    }
}
