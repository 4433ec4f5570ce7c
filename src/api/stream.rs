//! Answers that are written while they are read: none is made in one piece that may be long.

use super::access::Peer;
use super::answer::error;
use super::state::Api;
use crate::control::NoAnswer;
use crate::metrics::Format;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Frame;
use parking_lot::Mutex;
use serde::Serialize;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

/// A body that is written while it is read: pieces, and none at its end. Where that is missing the body was cut short.
struct Writing {
    pieces: mpsc::Receiver<Piece>,
    /// What compresses a body asks again after its end.
    has_ended: bool,
}

type Piece = Result<Option<Bytes>, NoAnswer>;

impl Writing {
    fn of(pieces: mpsc::Receiver<Piece>) -> Self {
        Writing {
            pieces,
            has_ended: false,
        }
    }
}

impl HttpBody for Writing {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        if self.has_ended {
            return task::Poll::Ready(None);
        }
        let piece = task::ready!(self.pieces.poll_recv(context));
        // An error to the reader, which cannot take half an answer for the whole.
        let piece = piece.unwrap_or(Err(NoAnswer::TooSlow));
        self.has_ended = !matches!(piece, Ok(Some(_)));
        task::Poll::Ready(piece.map(|piece| piece.map(Frame::data)).transpose())
    }
}

/// Where a body's pieces go.
pub(super) struct Pieces {
    sender: mpsc::Sender<Piece>,
    list: Arc<List>,
}

/// Why a body ends early.
pub(super) enum Cut {
    NoAnswer(NoAnswer),
    /// The reader is gone.
    HungUp,
}

impl From<NoAnswer> for Cut {
    fn from(why: NoAnswer) -> Self {
        Cut::NoAnswer(why)
    }
}

impl Pieces {
    pub(super) async fn write(&self, text: String) -> Result<(), Cut> {
        if text.is_empty() {
            return Ok(());
        }
        self.send(Ok(Some(text.into()))).await
    }

    async fn send(&self, piece: Piece) -> Result<(), Cut> {
        *self.list.waits_since.lock() = Some(Instant::now());
        let sent = self.sender.send(piece).await;
        *self.list.waits_since.lock() = None;
        sent.map_err(|_| Cut::HungUp)
    }
}

/// Lists that are read at once behind one door: each holds what was gathered for it.
const MOST: usize = 8;
/// Places that only root gets when all others are taken, and one for a scrape.
const ROOTS: usize = 4;
const SCRAPES: usize = 1;
/// How long a list may take to be read.
const LONGEST: Duration = Duration::from_secs(60);
/// One of which nothing was read for so long gives way to another.
const STALL: Duration = Duration::from_secs(3);

/// Which places a list may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Anyone,
    Scrape,
    Root,
}

impl Lane {
    const fn most(self) -> usize {
        match self {
            Lane::Anyone => MOST,
            Lane::Scrape => SCRAPES,
            Lane::Root => ROOTS,
        }
    }
}

/// The lists that are being read behind one door.
#[derive(Default)]
pub(super) struct Lists(Mutex<Vec<Arc<List>>>);

struct List {
    lane: Lane,
    /// Since when its reader is waited for; none while it is gathered.
    waits_since: Mutex<Option<Instant>>,
    gives_way: Notify,
}

/// A place among the lists, until it is dropped.
pub(super) struct Place {
    lists: Arc<Lists>,
    list: Arc<List>,
}

/// Who reads: taken from a request.
pub(super) struct Reader {
    lists: Arc<Lists>,
    is_root: bool,
}

impl FromRequestParts<Api> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Peer>();
        Ok(Reader {
            lists: api.lists.clone(),
            is_root: peer.is_some_and(Peer::is_root),
        })
    }
}

impl Reader {
    /// A place for a list, or the refusal.
    pub(super) fn place(&self, is_scrape: bool) -> Result<Place, Box<Response>> {
        self.enter(is_scrape).ok_or_else(|| {
            let why = "too many lists are being read; ask again";
            Box::new(error(StatusCode::SERVICE_UNAVAILABLE, why))
        })
    }

    /// None: all its places are taken by readers that read.
    fn enter(&self, is_scrape: bool) -> Option<Place> {
        let lanes = [
            (Lane::Anyone, true),
            (Lane::Scrape, is_scrape),
            (Lane::Root, self.is_root),
        ];
        let lanes = lanes.into_iter().filter(|(_, may)| *may);
        let lanes = || lanes.clone().map(|(lane, _)| lane);
        let mut lists = self.lists.0.lock();
        let free = lanes()
            .find(|lane| lists.iter().filter(|list| list.lane == *lane).count() < lane.most());
        let lane = free.or_else(|| {
            let waits = lists
                .iter()
                .map(|list| (list.lane, *list.waits_since.lock()));
            let slowest = waits
                .enumerate()
                .filter(|(_, (lane, _))| lanes().any(|may| may == *lane))
                .filter_map(|(n, (lane, since))| Some((since?, n, lane)))
                .filter(|(since, ..)| since.elapsed() >= STALL)
                .min_by_key(|(since, ..)| *since);
            slowest.map(|(_, n, lane)| {
                lists.swap_remove(n).gives_way.notify_one();
                lane
            })
        })?;
        let list = Arc::new(List {
            lane,
            waits_since: Mutex::default(),
            gives_way: Notify::new(),
        });
        lists.push(list.clone());
        Some(Place {
            lists: self.lists.clone(),
            list,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lists = self.lists.0.lock();
        lists.retain(|list| !Arc::ptr_eq(list, &self.list));
    }
}

/// Answers with what `work` writes; a 503 where too many do.
pub(super) fn stream<F>(
    reader: &Reader,
    content_type: &'static str,
    work: impl FnOnce(Arc<Pieces>) -> F,
) -> Response
where
    F: Future<Output = Result<(), Cut>> + Send + 'static,
{
    let is_scrape = Format::ALL
        .iter()
        .any(|format| format.content_type() == content_type);
    match reader.place(is_scrape) {
        Ok(place) => stream_at(place, content_type, work),
        Err(refusal) => *refusal,
    }
}

/// Answers with what `work` writes, in a place that was found before.
pub(super) fn stream_at<F>(
    place: Place,
    content_type: &'static str,
    work: impl FnOnce(Arc<Pieces>) -> F,
) -> Response
where
    F: Future<Output = Result<(), Cut>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(4);
    let list = place.list.clone();
    let pieces = Arc::new(Pieces { sender, list });
    let work = work(pieces.clone());
    tokio::spawn(async move {
        let work = async {
            let done = AssertUnwindSafe(work).catch_unwind().await;
            let end = match done.unwrap_or(Err(NoAnswer::Panicked.into())) {
                Ok(()) => Ok(None),
                Err(Cut::NoAnswer(why)) => Err(why),
                Err(Cut::HungUp) => return,
            };
            // The client may have hung up.
            let _ = pieces.send(end).await;
        };
        // Cut short, its end is missing.
        tokio::select! {
            _ = timeout(LONGEST, work) => {}
            () = place.list.gives_way.notified() => {}
        }
    });
    (
        [(header::CONTENT_TYPE, content_type)],
        Body::new(Writing::of(receiver)),
    )
        .into_response()
}

/// A JSON array, one element a line.
pub(super) struct Array {
    pieces: Arc<Pieces>,
    written: usize,
}

impl Array {
    pub(super) fn new(pieces: Arc<Pieces>) -> Self {
        Array { pieces, written: 0 }
    }

    pub(super) async fn add<T: Serialize>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
    ) -> Result<(), Cut> {
        let text = lines(rows, &mut self.written);
        self.pieces.write(text).await
    }

    pub(super) async fn end(self) -> Result<(), Cut> {
        self.pieces.write(end(self.written).to_owned()).await
    }
}

fn lines<T: Serialize>(rows: impl IntoIterator<Item = T>, written: &mut usize) -> String {
    let mut text = Vec::new();
    for row in rows {
        text.extend_from_slice(if *written == 0 { b"[\n" } else { b",\n" });
        // Rows are plain data, and memory takes all of it: it cannot fail.
        let _ = serde_json::to_writer(&mut text, &row);
        *written += 1;
    }
    String::from_utf8(text).unwrap_or_default()
}

fn end(written: usize) -> &'static str {
    if written == 0 { "[]\n" } else { "\n]\n" }
}

/// A whole array, as [`Array`] writes it.
pub(super) fn array<T: Serialize>(rows: impl IntoIterator<Item = T>) -> String {
    let mut written = 0;
    lines(rows, &mut written) + end(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers() -> (Arc<Lists>, impl Fn(bool, bool) -> Option<Place>) {
        let lists = Arc::<Lists>::default();
        let those = lists.clone();
        let enter = move |is_root, is_scrape| {
            let lists = those.clone();
            Reader { lists, is_root }.enter(is_scrape)
        };
        (lists, enter)
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_whose_reader_is_waited_for_longest_gives_way() {
        let second = Duration::from_secs(1);
        let (lists, enter) = readers();
        let enter = || enter(false, false);
        let waits = |place: &Place| *place.list.waits_since.lock() = Some(Instant::now());
        let mut places = Vec::new();
        for _ in 0..MOST {
            let place = enter().unwrap();
            waits(&place);
            places.push(place);
            tokio::time::advance(second / 100).await;
        }
        assert!(enter().is_none(), "no reader is slow yet");
        tokio::time::advance(STALL).await;
        let is_there = |place: &Place| {
            let lists = place.lists.0.lock();
            lists.iter().any(|list| Arc::ptr_eq(list, &place.list))
        };
        waits(&places[0]);
        // Nothing is there for its reader yet.
        *places[1].list.waits_since.lock() = None;
        let ninth = enter().unwrap();
        let there: Vec<_> = places.iter().map(is_there).collect();
        assert_eq!(there.iter().filter(|is| !**is).count(), 1);
        assert!(!there[2], "{there:?}");
        places[2].list.gives_way.notified().await;
        // The one that gave way takes no place with it.
        drop(places.remove(2));
        assert_eq!(lists.0.lock().len(), MOST);
        drop(ninth);
        assert_eq!(lists.0.lock().len(), MOST - 1);
        let _again = enter().unwrap();
        assert_eq!(lists.0.lock().len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn root_and_scrapes_have_places_that_nobody_else_gets() {
        let (_, enter) = readers();
        let anyone: Vec<_> = (0..MOST).map(|_| enter(false, false).unwrap()).collect();
        assert!(enter(false, false).is_none());
        let scrape = enter(false, true).unwrap();
        assert!(enter(false, true).is_none());
        let roots: Vec<_> = (0..ROOTS).map(|_| enter(true, false).unwrap()).collect();
        assert!(enter(true, false).is_none() && enter(true, true).is_none());
        // Root's unread lists take places from root alone.
        *roots[0].list.waits_since.lock() = Some(Instant::now());
        tokio::time::advance(STALL).await;
        assert!(enter(false, false).is_none() && enter(false, true).is_none());
        let root = enter(true, false).unwrap();
        drop((scrape, roots, root));
        let _scrape = enter(false, true).unwrap();
        assert!(enter(false, false).is_none());
        drop(anyone);
        assert!(enter(false, false).is_some());
    }

    #[tokio::test]
    async fn a_body_without_its_end_is_an_error() {
        use http_body_util::BodyExt;
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Ok(Some("half".into()))).await.unwrap();
        drop(sender);
        let mut body = Writing::of(receiver);
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err(), NoAnswer::TooSlow);
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Ok(None)).await.unwrap();
        let mut body = Writing::of(receiver);
        assert!(body.frame().await.is_none());
        assert!(body.frame().await.is_none(), "the end is the end");
    }
}
