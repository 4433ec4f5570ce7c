//! `POST /v1/inject?in=PLACE`: panics and delays on demand, for the tests. Only debug builds have this.

use super::answer::{changed, error, no_answer};
use super::state::Api;
use super::stream::{Reader, stream};
use crate::control::{Control, inject};
use crate::model::Changes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
pub(super) struct Where {
    r#in: String,
}

pub(super) async fn post_inject(
    State(api): State<Api>,
    reader: Reader,
    Query(place): Query<Where>,
) -> Response {
    let done = match &*place.r#in {
        "handler" => panic!("injected into a handler"),
        "body" => {
            return stream(&reader, "text/plain", async |pieces| {
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
            inject::fail_turns(1);
            return "ok\n".into_response();
        }
        "turns" => {
            inject::fail_turns(usize::MAX);
            return "ok\n".into_response();
        }
        "reading" => {
            inject::delay_reading();
            return "ok\n".into_response();
        }
        "stop" => {
            inject::delay_stopping();
            return "ok\n".into_response();
        }
        "companions" => {
            let asked = api.handle.ask(Control::fail_companions);
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
        Err(why) => no_answer(why),
    }
}
