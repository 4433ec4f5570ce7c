//! The HTTP API: what `weir show` and Prometheus read, and what `weir reload` asks for.
//!
//! It runs on the control thread, between its turns. So no answer is made in one piece that may be long: rows are
//! asked for a few at a time, and written as they come, one a line.

use super::changes::Changes;
use super::edit;
use super::listen::Listener;
use super::reload::{Refused, plan, reload};
use super::stream::{Array, stream};
use super::{Control, Handle, NoAnswer};
use crate::config::{self, Diagnostics, Severity};
use crate::exchange::ConnectionChunk;
use crate::log;
use crate::metrics::{self, METRICS, Source};
use crate::view;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    pub handle: Handle,
    /// The `--config` of the start.
    pub file: Arc<Path>,
    pub context: config::Context<'static>,
}

/// Services shown in one go.
const SLICE: usize = 128;

/// The API, for a listener.
pub fn router(api: Api, listener: &Listener) -> Router {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route(
            "/v1/services",
            get(services)
                .put(edit::put_services)
                .delete(edit::delete_service),
        )
        .route("/v1/reals", get(reals))
        .route("/v1/connections", get(connections))
        .route(
            "/v1/ports",
            get(async |State(api): State<Api>| rows(api, |control| control.show_ports()).await),
        )
        .route(
            "/v1/workers",
            get(async |State(api): State<Api>| rows(api, |control| control.show_workers()).await),
        )
        .route(
            "/v1/neighbours",
            get(async |State(api): State<Api>| {
                rows(api, |control| control.show_neighbours()).await
            }),
        )
        .route(
            "/v1/routes",
            get(async |State(api): State<Api>| rows(api, |control| control.show_routes()).await),
        )
        .route("/v1/reload", post(post_reload))
        .route("/v1/plan", post(post_plan))
        .route("/v1/weight", post(edit::weight))
        .route("/v1/drain", post(edit::drain))
        .route("/v1/enable", post(edit::enable))
        .fallback(async || {
            error(
                StatusCode::NOT_FOUND,
                "there is nothing here; see /metrics, /health, /ready, /v1/services …",
            )
        });
    #[cfg(debug_assertions)]
    let router = router.route("/v1/panic", post(super::inject::panic));
    let router = router
        .with_state(api)
        .layer(middleware::from_fn(catch_panic));
    match listener.is_loopback() {
        true => router.layer(middleware::from_fn(check_host)),
        false => router,
    }
}

/// A handler that panics ends its own request.
async fn catch_panic(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| no_answer(NoAnswer::Panicked))
}

/// The answer to a request that the control thread did not take, or did not end.
pub(super) fn no_answer(why: NoAnswer) -> Response {
    let status = match why {
        NoAnswer::Stopping | NoAnswer::Degraded => StatusCode::SERVICE_UNAVAILABLE,
        NoAnswer::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
    };
    error(status, &why.to_string())
}

/// A page of another site that has its name point to this machine (DNS rebinding) gets nothing: on a loopback address
/// requests are for an IP address or for localhost.
async fn check_host(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .map(|host| host.to_str().unwrap_or("?"));
    if host.is_none_or(is_local) {
        next.run(request).await
    } else {
        error(
            StatusCode::MISDIRECTED_REQUEST,
            "ask for an IP address or for localhost",
        )
    }
}

fn is_local(host: &str) -> bool {
    let is_ip = host.parse::<SocketAddr>().is_ok()
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    is_ip || host.split(':').next() == Some("localhost")
}

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    json_response(status, json!({ "error": message }))
}

pub(super) fn json_response(status: StatusCode, value: impl Serialize) -> Response {
    // Rows are plain data: they cannot fail.
    let text = serde_json::to_string(&value).unwrap_or_default() + "\n";
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn health(State(api): State<Api>) -> Response {
    probe(api.handle.ask(Control::illness).await)
}

async fn ready(State(api): State<Api>) -> Response {
    probe(
        api.handle
            .ask(|control| control.complaint().or(control.unready()))
            .await,
    )
}

fn probe(answer: Result<Option<String>, NoAnswer>) -> Response {
    match answer {
        Ok(None) => match log::panics() {
            0 => (StatusCode::OK, "ok\n").into_response(),
            n => {
                let text = format!("ok; panics since the start: {n}, see the log\n");
                (StatusCode::OK, text).into_response()
            }
        },
        Ok(Some(why)) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Rows of which there are not many.
async fn rows<T: Serialize + Send + 'static>(api: Api, show: fn(&Control) -> Vec<T>) -> Response {
    stream("application/json", async move |pieces| {
        let mut array = Array::new(pieces);
        array.add(api.handle.ask(show).await?).await?;
        array.end().await
    })
}

async fn services(State(api): State<Api>) -> Response {
    each_service(api, |service, rows| rows.push(service))
}

async fn reals(State(api): State<Api>) -> Response {
    each_service(api, |service, rows| rows.extend(service.into_reals()))
}

/// The rows that `add` makes of every service.
fn each_service<T: Serialize + Send + 'static>(
    api: Api,
    add: fn(view::Service, &mut Vec<T>),
) -> Response {
    stream("application/json", async move |pieces| {
        let mut array = Array::new(pieces);
        let all = api.handle.ask(Control::services).await?;
        for slice in all.chunks(SLICE) {
            let slice = slice.to_vec();
            let mut rows = Vec::new();
            for service in api
                .handle
                .ask(move |control| control.show_services(&slice))
                .await?
            {
                add(service, &mut rows);
            }
            array.add(rows).await?;
        }
        array.end().await
    })
}

#[derive(Deserialize)]
struct Which {
    /// Only those of this service.
    service: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

async fn connections(State(api): State<Api>, Query(which): Query<Which>) -> Response {
    let mut only = None;
    if let Some(name) = which.service {
        let wanted = name.clone();
        only = match api
            .handle
            .ask(move |control| control.find_service(&wanted))
            .await
        {
            Ok(Some(id)) => Some(id),
            Ok(None) => {
                return error(
                    StatusCode::NOT_FOUND,
                    &format!("there is no service {name:?}"),
                );
            }
            Err(why) => return no_answer(why),
        };
    }
    stream("application/json", async move |pieces| {
        let mut array = Array::new(pieces);
        let mut left = which.limit.unwrap_or(usize::MAX);
        let mut chunk = Box::new(ConnectionChunk::new());
        for worker in 0.. {
            chunk.next = 0;
            while chunk.next != ConnectionChunk::END && left > 0 {
                let Some(copied) = api
                    .handle
                    .order(move |control| control.copy(worker, chunk))
                    .await?
                else {
                    return array.end().await;
                };
                let copied = copied.await.map_err(|_| NoAnswer::Stopping)?;
                let (shown, used) = api
                    .handle
                    .ask(move |control| (control.show_connections(worker, &copied, only), copied))
                    .await?;
                chunk = used;
                let count = shown.len().min(left);
                left -= count;
                array.add(shown.into_iter().take(count)).await?;
            }
            if left == 0 {
                break;
            }
        }
        array.end().await
    })
}

async fn scrape(State(api): State<Api>) -> Response {
    stream(metrics::CONTENT_TYPE, async move |pieces| {
        let (daemon, all) = api
            .handle
            .ask(|control| (control.show_daemon(), control.services()))
            .await?;
        // Gathered once: all metrics are of the same moment, or nearly.
        let mut services = Vec::with_capacity(all.len());
        for slice in all.chunks(SLICE) {
            let slice = slice.to_vec();
            services.extend(
                api.handle
                    .ask(move |control| control.show_services(&slice))
                    .await?,
            );
        }
        for metric in METRICS {
            let mut text = String::new();
            metric.header(&mut text);
            match metric.source {
                Source::Daemon(collect) => collect(&daemon, &mut metric.samples(&mut text)),
                Source::Service(collect) => {
                    for slice in services.chunks(SLICE) {
                        slice
                            .iter()
                            .for_each(|service| collect(service, &mut metric.samples(&mut text)));
                        pieces.write(std::mem::take(&mut text)).await?;
                        tokio::task::yield_now().await;
                    }
                }
            }
            pieces.write(text).await?;
        }
        Ok(())
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload {
    /// The file to apply; default: that of the start.
    file: Option<PathBuf>,
}

/// What a reload changed, in numbers and in words.
#[derive(Serialize)]
struct Reloaded {
    #[serde(flatten)]
    changes: Changes,
    summary: String,
}

/// Refuses a body of another type.
pub(super) fn is_of_type(headers: &HeaderMap, wanted: &str) -> Result<(), Box<Response>> {
    let told = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let told = told.map(|value| value.split(';').next().unwrap_or_default().trim());
    match told == Some(wanted) {
        true => Ok(()),
        false => Err(Box::new(error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &format!("content-type must be {wanted}"),
        ))),
    }
}

/// What a POST says: JSON, or nothing for the default. A page of another site can have a browser post here, but not as JSON
/// without asking first.
pub(super) fn posted<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, Box<Response>> {
    is_of_type(headers, "application/json")?;
    if body.is_empty() {
        return Ok(T::default());
    }
    let wrong = |why: serde_json::Error| error(StatusCode::BAD_REQUEST, &why.to_string());
    serde_json::from_slice(body).map_err(|why| Box::new(wrong(why)))
}

async fn post_reload(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let wanted: Reload = match posted(&headers, &body) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let file = wanted.file.unwrap_or_else(|| api.file.to_path_buf());
    changes_or_refusal(reload(&api.handle, file, api.context).await)
}

async fn post_plan(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let wanted: Reload = match posted(&headers, &body) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let file = wanted.file.unwrap_or_else(|| api.file.to_path_buf());
    changes_or_refusal(plan(&api.handle, file, api.context).await)
}

pub(super) fn changed(changes: Changes) -> Response {
    json_response(
        StatusCode::OK,
        Reloaded {
            summary: changes.to_string(),
            changes,
        },
    )
}

fn changes_or_refusal(changes: Result<Changes, Refused>) -> Response {
    match changes {
        Ok(changes) => changed(changes),
        Err(Refused::Invalid(diagnostics)) => {
            json_response(StatusCode::UNPROCESSABLE_ENTITY, invalid(&diagnostics))
        }
        Err(refused @ Refused::NeedsRestart(_)) => {
            error(StatusCode::CONFLICT, &refused.to_string())
        }
        Err(Refused::NoAnswer(why)) => no_answer(why),
    }
}

/// `text` is what `weir check` would print.
pub(super) fn invalid(diagnostics: &Diagnostics) -> serde_json::Value {
    let found: Vec<_> = diagnostics
        .iter()
        .map(|diagnostic| {
            json!({
                "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "file": diagnostic.file,
                "line": diagnostic.line,
                "column": diagnostic.column,
                "text": diagnostic.text,
                "message": diagnostic.message,
                "note": diagnostic.note,
                "help": diagnostic.help,
            })
        })
        .collect();
    json!({ "error": "the file is not valid", "diagnostics": found, "text": diagnostics.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_made_to_point_here_are_not_local() {
        for host in [
            "127.0.0.1:9900",
            "127.0.0.1",
            "[::1]:9900",
            "[::1]",
            "localhost",
            "localhost:9900",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9900",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "?",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
