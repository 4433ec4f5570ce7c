//! Answers that are written while they are read: none is made in one piece that may be long.

use super::NoAnswer;
use super::api::error;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Frame;
use serde::Serialize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// A body that is written while it is read.
struct Writing(mpsc::Receiver<Result<Bytes, NoAnswer>>);

impl HttpBody for Writing {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Where a body's pieces go.
pub(super) struct Pieces(mpsc::Sender<Result<Bytes, NoAnswer>>);

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
        self.0.send(Ok(text.into())).await.map_err(|_| Cut::HungUp)
    }
}

/// Lists that are read at once, of all doors: each holds what was gathered for it.
const MOST: usize = 8;
static LISTS: Semaphore = Semaphore::const_new(MOST);
/// How long a list may take to be read.
const LONGEST: Duration = Duration::from_secs(60);

/// Answers with what `work` writes; a 503 where too many do.
pub(super) fn stream<F>(content_type: &'static str, work: impl FnOnce(Arc<Pieces>) -> F) -> Response
where
    F: Future<Output = Result<(), Cut>> + Send + 'static,
{
    let Ok(turn) = LISTS.try_acquire() else {
        let why = "too many lists are being read; ask again";
        return error(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let (sender, receiver) = mpsc::channel(4);
    let pieces = Arc::new(Pieces(sender));
    let work = work(pieces.clone());
    tokio::spawn(async move {
        let _turn = turn;
        let work = AssertUnwindSafe(work).catch_unwind();
        // Its end is missing then, which is an error to the reader.
        let Ok(done) = timeout(LONGEST, work).await else {
            let _ = pieces.0.try_send(Err(NoAnswer::TooSlow));
            return;
        };
        if let Err(Cut::NoAnswer(why)) = done.unwrap_or(Err(NoAnswer::Panicked.into())) {
            // An error here, not an end: nobody takes half an answer for the whole.
            let _ = pieces.0.send(Err(why)).await;
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
