//! `/v1/events`: what has happened, as a list or as it happens.

use super::answer::{JSON, error};
use super::state::Api;
use super::stream::{Array, Reader, stream};
use crate::log::{self, Record};
use crate::view;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// Readers of one door that are told of events as they happen.
pub(super) const FOLLOWERS: usize = 16;
/// A reader that hears nothing else hears so often that it is still connected.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are taken out in one go.
const SLICE: usize = 256;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Those with larger numbers only.
    #[serde(default)]
    after: u64,
    /// The last ones: at most so many.
    limit: Option<usize>,
    /// Those of one kind only.
    kind: Option<String>,
    /// Whether the answer goes on as they happen, as for `Accept: text/event-stream`.
    #[serde(default)]
    follow: bool,
}

/// A list of rows, or server-sent events whose ids are the events' numbers: with `Last-Event-ID` a reader goes on where it was.
pub(super) async fn events(
    State(api): State<Api>,
    reader: Reader,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Response {
    if let Some(kind) = &which.kind
        && !log::kinds().any(|known| known == kind)
    {
        let all: Vec<_> = log::kinds().collect();
        let why = format!(
            "there are no events of kind {kind:?}, but: {}",
            all.join(", ")
        );
        return error(StatusCode::BAD_REQUEST, &why);
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let wants_events = text(header::ACCEPT).is_some_and(|it| it.contains("text/event-stream"));
    if which.follow || wants_events {
        let last = headers.get("last-event-id");
        let last = last.and_then(|id| id.to_str().ok()?.parse().ok());
        return follow(&api, which, last);
    }
    stream(&reader, JSON, async move |pieces| {
        let log = log::events();
        // Those that come while it is read belong to the next list.
        let (mut after, last) = (which.beginning(), log.last());
        let mut array = Array::new(pieces);
        while after < last {
            let slice = log.after(after, SLICE);
            let Some(end) = slice.last() else { break };
            after = end.n;
            let asked = slice.iter().filter(|it| it.n <= last && which.wants(it));
            array.add(asked.map(|it| show(it))).await?;
        }
        array.end().await
    })
}

impl Which {
    fn wants(&self, record: &Record) -> bool {
        self.kind.as_ref().is_none_or(|kind| record.kind == kind)
    }

    /// The number behind which the events begin that are asked for.
    fn beginning(&self) -> u64 {
        let log = log::events();
        // A number that weir has not come to is of before its restart: all are new then.
        let after = if self.after > log.last() {
            0
        } else {
            self.after
        };
        match self.limit {
            None => after,
            Some(most) => log.behind(after, most, |record| self.wants(record)),
        }
    }
}

fn follow(api: &Api, which: Which, last: Option<u64>) -> Response {
    let Ok(place) = api.followers.clone().try_acquire_owned() else {
        let why = "too many readers follow the events; ask again, or without `follow`";
        return error(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let which = Which {
        after: last.unwrap_or(which.after),
        ..which
    };
    let after = which.beginning();
    let from = (VecDeque::<Arc<Record>>::new(), after, which, place);
    let rows = unfold(from, |(mut ready, mut after, which, place)| async move {
        let log = log::events();
        while ready.is_empty() {
            log.beyond(after).await;
            for record in log.after(after, SLICE) {
                after = record.n;
                if which.wants(&record) {
                    ready.push_back(record);
                }
            }
        }
        let record = ready.pop_front()?;
        // Rows are plain data: they cannot fail.
        let text = serde_json::to_string(&show(&record)).unwrap_or_default();
        let event = Event::default().id(record.n.to_string()).data(text);
        Some((Ok::<_, Infallible>(event), (ready, after, which, place)))
    });
    let alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(rows).keep_alive(alive).into_response()
}

fn show(record: &Record) -> view::EventView {
    view::EventView {
        n: record.n,
        time: humantime::format_rfc3339_micros(record.time).to_string(),
        level: record.level.clone(),
        kind: record.kind.to_owned(),
        message: record.message.clone(),
        fields: record.fields.clone(),
    }
}
