//! Answers that are written while they are read: none is made in one piece that may be long.

use super::NoAnswer;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Frame;
use serde::Serialize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task;
use tokio::sync::mpsc;

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

/// Answers with what `work` writes.
pub(super) fn stream<F>(content_type: &'static str, work: impl FnOnce(Arc<Pieces>) -> F) -> Response
where
    F: Future<Output = Result<(), Cut>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(4);
    let pieces = Arc::new(Pieces(sender));
    let work = work(pieces.clone());
    tokio::spawn(async move {
        let done = AssertUnwindSafe(work).catch_unwind().await;
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
