//! Answers that are written while they are read: none is made in one piece that may be long.

use super::answer::error;
use crate::control::NoAnswer;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Frame;
use parking_lot::Mutex;
use serde::Serialize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

/// A body that is written while it is read: pieces, and none at its end. Where that is missing the body was cut short.
struct Writing(mpsc::Receiver<Piece>);

type Piece = Result<Option<Bytes>, NoAnswer>;

impl HttpBody for Writing {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        let piece = task::ready!(self.0.poll_recv(context));
        // An error to the reader: nobody takes half an answer for the whole.
        let piece = piece.unwrap_or(Err(NoAnswer::TooSlow));
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
        self.sender.send(piece).await.map_err(|_| Cut::HungUp)?;
        *self.list.moved.lock() = Instant::now();
        Ok(())
    }
}

/// Lists that are read at once, of all doors: each holds what was gathered for it.
const MOST: usize = 8;
static LISTS: Lists = Lists(Mutex::new(Vec::new()));
/// How long a list may take to be read.
const LONGEST: Duration = Duration::from_secs(60);
/// One of which nothing was read for so long gives way to another.
const STALL: Duration = Duration::from_secs(3);

/// The lists that are being read.
struct Lists(Mutex<Vec<Arc<List>>>);

struct List {
    /// When its reader last made room for a piece.
    moved: Mutex<Instant>,
    gives_way: Notify,
}

/// A place among the lists, until it is dropped.
struct Place {
    lists: &'static Lists,
    list: Arc<List>,
}

impl Lists {
    /// None: all places are taken by readers that read.
    fn enter(&'static self) -> Option<Place> {
        let mut lists = self.0.lock();
        let now = Instant::now();
        if lists.len() >= MOST {
            let moved = lists.iter().map(|list| *list.moved.lock());
            let (slowest, moved) = moved.enumerate().min_by_key(|(_, moved)| *moved)?;
            if now.duration_since(moved) < STALL {
                return None;
            }
            lists.swap_remove(slowest).gives_way.notify_one();
        }
        let list = Arc::new(List {
            moved: Mutex::new(now),
            gives_way: Notify::new(),
        });
        lists.push(list.clone());
        Some(Place { lists: self, list })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lists = self.lists.0.lock();
        lists.retain(|list| !Arc::ptr_eq(list, &self.list));
    }
}

/// Answers with what `work` writes; a 503 where too many do.
pub(super) fn stream<F>(content_type: &'static str, work: impl FnOnce(Arc<Pieces>) -> F) -> Response
where
    F: Future<Output = Result<(), Cut>> + Send + 'static,
{
    let Some(place) = LISTS.enter() else {
        let why = "too many lists are being read; ask again";
        return error(StatusCode::SERVICE_UNAVAILABLE, why);
    };
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
            // Nobody may be there any more.
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
        Body::new(Writing(receiver)),
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
        let mut text = String::new();
        for row in rows {
            text += if self.written == 0 { "[\n" } else { ",\n" };
            text += &serde_json::to_string(&row).unwrap_or_default();
            self.written += 1;
        }
        self.pieces.write(text).await
    }

    pub(super) async fn end(self) -> Result<(), Cut> {
        let end = if self.written == 0 { "[]\n" } else { "\n]\n" };
        self.pieces.write(end.to_owned()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_list_that_has_not_moved_for_longest_gives_way() {
        static LISTS: Lists = Lists(Mutex::new(Vec::new()));
        let second = Duration::from_secs(1);
        let mut places = Vec::new();
        for _ in 0..MOST {
            places.push(LISTS.enter().unwrap());
            tokio::time::advance(second / 100).await;
        }
        assert!(LISTS.enter().is_none(), "nobody is slow yet");
        tokio::time::advance(STALL).await;
        let is_there = |place: &Place| {
            LISTS
                .0
                .lock()
                .iter()
                .any(|list| Arc::ptr_eq(list, &place.list))
        };
        *places[0].list.moved.lock() = Instant::now();
        let ninth = LISTS.enter().unwrap();
        let there: Vec<_> = places.iter().map(is_there).collect();
        assert_eq!(there.iter().filter(|is| !**is).count(), 1);
        assert!(!there[1], "{there:?}");
        places[1].list.gives_way.notified().await;
        // The one that gave way takes no place with it.
        drop(places.remove(1));
        assert_eq!(LISTS.0.lock().len(), MOST);
        drop(ninth);
        assert_eq!(LISTS.0.lock().len(), MOST - 1);
        let _again = LISTS.enter().unwrap();
        assert_eq!(LISTS.0.lock().len(), MOST);
    }

    #[tokio::test]
    async fn a_body_without_its_end_is_an_error() {
        use http_body_util::BodyExt;
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Ok(Some("half".into()))).await.unwrap();
        drop(sender);
        let mut body = Writing(receiver);
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err(), NoAnswer::TooSlow);
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Ok(None)).await.unwrap();
        assert!(Writing(receiver).frame().await.is_none());
    }
}
