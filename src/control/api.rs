//! The HTTP API: what `weir show` and Prometheus read, and what `weir reload` asks for.
//!
//! It has a thread of its own, and asks the control thread for what it needs, between its turns. So no answer is made in one
//! piece that may be long: rows are asked for a few at a time, and written as they come, one a line. What is sent is read
//! and checked beside both.

use super::access::{Door, Peer, guard};
use super::changes::Changes;
use super::edit;
use super::receive::{Lanes, receive};
use super::reload::{From, Refused, plan, reload};
use super::stream::{Array, stream};
use super::{Control, Handle, NoAnswer};
use crate::config::{self, Diagnostics, Severity};
use crate::exchange::ConnectionChunk;
use crate::log;
use crate::metrics::{self, Family, METRICS, Metric, Source};
use crate::units::ServiceId;
use crate::view;
use axum::body::{self, Bytes};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    pub handle: Handle,
    /// The `--config` of the start.
    pub file: Arc<Path>,
    pub context: config::Context<'static>,
    pub lanes: Arc<Lanes>,
}

impl Api {
    pub fn new(handle: Handle, file: &Path, context: config::Context<'static>) -> Self {
        Api {
            handle,
            file: file.into(),
            context,
            lanes: Arc::default(),
        }
    }
}

/// The header `server` of every answer, by which an answer is known for weir's.
pub(super) const SERVER: &str = "weir";

/// Services shown in one go.
const SLICE: usize = 128;

/// The API behind a door. `is_loopback`: a browser of this machine gets there.
pub fn router(api: Api, door: Door, is_loopback: bool) -> Router {
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
            get(async |State(api): State<Api>, _: Plain| {
                rows(api, |control| control.show_ports()).await
            }),
        )
        .route(
            "/v1/workers",
            get(async |State(api): State<Api>, _: Plain| {
                rows(api, |control| control.show_workers()).await
            }),
        )
        .route(
            "/v1/neighbours",
            get(async |State(api): State<Api>, _: Plain| {
                rows(api, |control| control.show_neighbours()).await
            }),
        )
        .route(
            "/v1/routes",
            get(async |State(api): State<Api>, _: Plain| {
                rows(api, |control| control.show_routes()).await
            }),
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
    let router = router.route("/v1/inject", post(super::inject::inject));
    let router = router
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(api.clone(), receive))
        .layer(middleware::from_fn_with_state(Arc::new(door), guard))
        .with_state(api)
        .layer(middleware::from_fn(catch_panic));
    let router = match is_loopback {
        true => router.layer(middleware::from_fn(check_host)),
        false => router,
    };
    router.layer(middleware::from_fn(as_weir))
}

/// Says whose answer it is; and what the framework refuses (a query, a method, a body) is told as weir's own errors are.
async fn as_weir(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let mut answer = next.run(request).await;
    let told = answer.headers().get(header::CONTENT_TYPE);
    let is_json = told.is_some_and(|told| told == "application/json");
    if answer.status().is_client_error() && !is_json {
        let status = answer.status();
        let said = body::to_bytes(answer.into_body(), 4096).await;
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        answer = match (status, said.trim()) {
            (StatusCode::METHOD_NOT_ALLOWED, _) => {
                error(status, &format!("this address does not take {method}"))
            }
            (_, "") => error(status, status.canonical_reason().unwrap_or("refused")),
            (_, said) => error(status, said),
        };
    }
    answer
        .headers_mut()
        .insert(header::SERVER, HeaderValue::from_static(SERVER));
    answer
}

/// A handler that panics ends its own request.
async fn catch_panic(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| no_answer(NoAnswer::Panicked))
}

/// The answer to a request that the control thread did not take, or did not end.
pub(super) fn no_answer(why: NoAnswer) -> Response {
    let status = match why {
        NoAnswer::Stopping | NoAnswer::TooSlow | NoAnswer::Degraded => {
            StatusCode::SERVICE_UNAVAILABLE
        }
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

async fn services(State(api): State<Api>, Query(which): Query<Which>) -> Response {
    each_service(api, which, |service, rows| rows.push(service)).await
}

async fn reals(State(api): State<Api>, Query(which): Query<Which>) -> Response {
    each_service(api, which, |service, rows| {
        rows.extend(service.into_reals())
    })
    .await
}

/// The rows that `add` makes of every service that is wanted.
async fn each_service<T: Serialize + Send + 'static>(
    api: Api,
    which: Which,
    add: fn(view::Service, &mut Vec<T>),
) -> Response {
    let only = match which.service_id(&api).await {
        Ok(only) => only,
        Err(refusal) => return *refusal,
    };
    stream("application/json", async move |pieces| {
        let mut array = Array::new(pieces);
        let mut left = which.limit.unwrap_or(usize::MAX);
        let mut all = api.handle.ask(Control::services).await?;
        all.retain(|service| only.is_none_or(|only| service.id == only));
        for slice in all.chunks(SLICE) {
            if left == 0 {
                break;
            }
            let slice = slice.to_vec();
            let mut rows = Vec::new();
            for service in api
                .handle
                .ask(move |control| control.show_services(&slice))
                .await?
            {
                add(service, &mut rows);
            }
            rows.truncate(left);
            left -= rows.len();
            array.add(rows).await?;
        }
        array.end().await
    })
}

/// Of an address that takes no query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

type Plain = Query<Nothing>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only those of this service.
    service: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

impl Which {
    /// The service that is named, if one is.
    async fn service_id(&self, api: &Api) -> Result<Option<ServiceId>, Box<Response>> {
        let Some(name) = self.service.clone() else {
            return Ok(None);
        };
        let find = |name: &str| {
            let wanted = name.to_owned();
            api.handle.ask(move |control| control.find_service(&wanted))
        };
        let (status, why) = match find(&name).await {
            Ok(Some(id)) => return Ok(Some(id)),
            Ok(None) => (
                StatusCode::NOT_FOUND,
                format!("there is no service {name:?}"),
            ),
            Err(stopping) => (StatusCode::SERVICE_UNAVAILABLE, stopping.to_string()),
        };
        Err(Box::new(error(status, &why)))
    }
}

async fn connections(State(api): State<Api>, Query(which): Query<Which>) -> Response {
    let only = match which.service_id(&api).await {
        Ok(only) => only,
        Err(refusal) => return *refusal,
    };
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
        let (daemon, all, per_real) = api
            .handle
            .ask(|control| {
                let config = control.model.config();
                (
                    control.show_daemon(),
                    control.services(),
                    config.metrics.per_real,
                )
            })
            .await?;
        let labelled = |service| metrics::Labelled::new(service, per_real);
        // Gathered once: all metrics are of the same moment, or nearly.
        let mut services = Vec::with_capacity(all.len());
        for slice in all.chunks(SLICE) {
            let slice = slice.to_vec();
            let slice = api.handle.ask(move |control| control.show_services(&slice));
            services.extend(slice.await?.into_iter().map(labelled));
        }
        let wanted = |metric: &&Metric| per_real || !metric.is_per_real();
        for metric in METRICS.iter().filter(wanted) {
            let mut family = Family::new(metric);
            match metric.source {
                Source::Daemon(collect) => collect(&daemon, &mut family.samples()),
                Source::Service(collect) => {
                    for slice in services.chunks(SLICE) {
                        slice
                            .iter()
                            .for_each(|service| collect(service, &mut family.samples()));
                        pieces.write(family.take_text()).await?;
                        tokio::task::yield_now().await;
                    }
                }
            }
            pieces.write(family.take_text()).await?;
        }
        Ok(())
    })
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

async fn post_reload(
    State(api): State<Api>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match configuration(&api, &headers, body) {
        Ok(from) => changes_or_refusal(reload(&api.handle, from, api.context).await, peer),
        Err(refusal) => *refusal,
    }
}

async fn post_plan(
    State(api): State<Api>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match configuration(&api, &headers, body) {
        Ok(from) => changes_or_refusal(plan(&api.handle, from, api.context).await, peer),
        Err(refusal) => *refusal,
    }
}

/// Where the configuration of a request comes from: the file of the start, or what is sent.
fn configuration(api: &Api, headers: &HeaderMap, body: Bytes) -> Result<From, Box<Response>> {
    is_of_type(headers, "application/json")?;
    let file = api.file.clone();
    Ok(match body.is_empty() {
        true => From::File(file),
        false => From::Sent { body, file },
    })
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

fn changes_or_refusal(
    changes: Result<Changes, Refused>,
    peer: Option<Extension<Peer>>,
) -> Response {
    match changes {
        Ok(changes) => changed(changes),
        Err(Refused::Invalid(diagnostics)) => {
            json_response(StatusCode::UNPROCESSABLE_ENTITY, invalid(&diagnostics))
        }
        // Of the daemon's own file no line is shown to who may not read it.
        Err(Refused::InvalidFile(diagnostics)) => {
            let shown = match peer {
                Some(Extension(peer)) if peer.may_see_files() => diagnostics,
                _ => diagnostics.without_lines(),
            };
            json_response(StatusCode::UNPROCESSABLE_ENTITY, invalid(&shown))
        }
        Err(refused @ Refused::Malformed(_)) => {
            error(StatusCode::BAD_REQUEST, &refused.to_string())
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
    json!({
        "error": "the file is not valid",
        "diagnostics": found,
        "more": diagnostics.more(),
        "text": diagnostics.to_string(),
    })
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
