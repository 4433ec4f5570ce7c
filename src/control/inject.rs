//! Panics and delays on demand, for the tests: `POST /v1/inject?in=PLACE`. Only debug builds have this.

use super::api::{Api, changed, error};
use super::changes::Changes;
use super::stream::stream;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Turns that are to panic.
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// Whether the next change that is read takes its time until it is applied, and whether the next stop does.
static READING: AtomicBool = AtomicBool::new(false);
static STOPPING: AtomicBool = AtomicBool::new(false);
const READING_TAKES: Duration = Duration::from_secs(3);
const STOPPING_TAKES: Duration = Duration::from_secs(60);

pub(super) fn read() {
    if READING.swap(false, Relaxed) {
        std::thread::sleep(READING_TAKES);
    }
}

pub(super) fn stop() {
    if STOPPING.load(Relaxed) {
        std::thread::sleep(STOPPING_TAKES);
    }
}

pub(super) fn turn() {
    let left = TURNS.load(Relaxed);
    if left > 0 {
        TURNS.store(left - 1, Relaxed);
        panic!("injected into a turn");
    }
}

#[derive(Deserialize)]
pub(super) struct Where {
    r#in: String,
}

pub(super) async fn inject(State(api): State<Api>, Query(place): Query<Where>) -> Response {
    let done = match &*place.r#in {
        "handler" => panic!("injected into a handler"),
        "body" => {
            return stream("text/plain", async |pieces| {
                pieces.write("half".to_owned()).await?;
                // Until it is on its way.
                tokio::time::sleep(Duration::from_millis(100)).await;
                panic!("injected into a body")
            });
        }
        "task" => {
            tokio::spawn(async { panic!("injected into a task") });
            return "ok\n".into_response();
        }
        "turn" => {
            TURNS.store(1, Relaxed);
            return "ok\n".into_response();
        }
        "turns" => {
            TURNS.store(usize::MAX, Relaxed);
            return "ok\n".into_response();
        }
        "reading" => {
            READING.store(true, Relaxed);
            return "ok\n".into_response();
        }
        "stop" => {
            STOPPING.store(true, Relaxed);
            return "ok\n".into_response();
        }
        "companions" => {
            let asked = api.handle.ask(|control| match &control.host {
                Some(host) => host.carrier.panic(),
                None => panic!("there are no companions"),
            });
            asked.await.map(|()| Changes::default())
        }
        "question" => {
            let asked = api.handle.ask(|_| panic!("injected into a question"));
            asked.await.map(|()| Changes::default())
        }
        "change" => {
            let changing = api.handle.changing().await;
            let changed = changing.change(|_| panic!("injected into a change"));
            changed.await.map(|()| Changes::default())
        }
        _ => return error(StatusCode::BAD_REQUEST, "there is no such place"),
    };
    match done {
        Ok(changes) => changed(changes),
        Err(why) => super::api::no_answer(why),
    }
}
