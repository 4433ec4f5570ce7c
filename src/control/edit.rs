//! `/v1/weight`, `/v1/drain`, `/v1/enable`: one real server, now.

use super::api::{Api, error, json_response, posted};
use super::model::Edit;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddrV4;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// A name, or such as `tcp:192.0.2.80:80`.
    service: Option<String>,
    /// `10.0.0.11:8080`
    real: Option<SocketAddrV4>,
    weight: Option<u16>,
}

pub(super) async fn weight(state: State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    edit(state, &headers, &body, |weight| weight.map(Edit::Weight)).await
}

pub(super) async fn drain(state: State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    edit(state, &headers, &body, |_| Some(Edit::Drain)).await
}

pub(super) async fn enable(state: State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    edit(state, &headers, &body, |_| Some(Edit::Enable)).await
}

async fn edit(
    State(api): State<Api>,
    headers: &HeaderMap,
    body: &Bytes,
    what: impl FnOnce(Option<u16>) -> Option<Edit>,
) -> Response {
    let wanted: Wanted = match posted(headers, body) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let (Some(service), Some(real)) = (wanted.service, wanted.real) else {
        return error(StatusCode::BAD_REQUEST, "`service` and `real` are missing");
    };
    let Some(what) = what(wanted.weight) else {
        return error(StatusCode::BAD_REQUEST, "`weight` is missing");
    };
    let name = service.clone();
    let done = api.handle.ask(move |control| {
        let service = control.find_service(&name);
        let service = service.and_then(|id| control.model.service(id));
        let key = service
            .ok_or_else(|| format!("there is no service {name:?}"))?
            .key;
        let missing = |_| format!("the service {name:?} has no real server {real}");
        control
            .model
            .edit(&key, (*real.ip(), real.port()), what)
            .map_err(missing)
    });
    match done.await {
        Ok(Ok((before, after))) => {
            tracing::info!(service, %real, before, after, "weight");
            json_response(
                StatusCode::OK,
                json!({ "service": service, "real": real, "before": before, "after": after }),
            )
        }
        Ok(Err(why)) => error(StatusCode::NOT_FOUND, &why),
        Err(stopping) => error(StatusCode::SERVICE_UNAVAILABLE, &stopping.to_string()),
    }
}
