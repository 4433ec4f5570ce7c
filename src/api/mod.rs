//! The HTTP API: what `weir show` and Prometheus read, and what `weir reload` asks for.
//!
//! It has a thread of its own, and asks the control thread for what it needs, between its turns. So no answer is made in one
//! piece that may be long: rows are asked for a few at a time, and written as they come, one a line. What is sent is read
//! and checked beside both.

pub(crate) mod access;
mod answer;
mod capture;
mod edit;
mod events;
#[cfg(debug_assertions)]
mod inject;
pub(crate) mod listen;
mod lists;
mod openapi;
mod page;
mod paged;
mod receive;
pub(crate) mod reload;
mod routes;
mod scrape;
pub(crate) mod secrets;
pub(crate) mod serve;
mod service;
mod state;
mod status;
mod stream;
pub(crate) mod tls;
pub(crate) mod tokens;
mod users;
mod written;

use crate::control::{Control, NoAnswer};
use crate::log;
use access::{Door, MayRead, guard};
use answer::{Kind, as_problem, error, no_answer, problem};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use axum::{Extension, Router};
use futures_util::FutureExt;
use listen::SERVER;
use receive::receive;
use routes::routes;
use serde::Deserialize;
pub(crate) use state::Api;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use utoipa::IntoParams;

/// The API behind a door. `is_loopback`: a browser of this machine gets there.
pub(crate) fn router(api: Api, door: Door, is_loopback: bool) -> Router {
    // Each door has places of its own: readers at one take none from those at another.
    let api = Api {
        lists: Arc::default(),
        followers: Arc::new(Semaphore::new(events::FOLLOWERS)),
        ..api
    };
    let lanes = api.lanes.clone();
    // What no handler takes is refused without its body.
    let received = |handlers: MethodRouter<Api>| {
        handlers.route_layer(middleware::from_fn_with_state(lanes.clone(), receive))
    };
    let router = routes().into_iter().fold(Router::new(), |router, route| {
        router.route(route.path, received(route.handler))
    });
    let router = router.fallback(async || {
        error(
            StatusCode::NOT_FOUND,
            "there is nothing here; see /metrics, /health, /ready, /v1/services …, all in /v1/openapi.json",
        )
    });
    #[cfg(debug_assertions)]
    let router = router.route(
        "/v1/inject",
        received(axum::routing::post(inject::post_inject)),
    );
    let router = router
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::new(door), guard))
        .with_state(api)
        .layer(middleware::from_fn(catch_panic));
    let router = match is_loopback {
        true => router.layer(middleware::from_fn(check_host)),
        false => router,
    };
    router
        .layer(middleware::from_fn(as_weir))
        .layer(compression())
}

/// Compresses what is asked for with `Accept-Encoding: gzip`, as Prometheus asks: names and labels repeat, so that little is
/// left of a long list.
fn compression() -> CompressionLayer {
    CompressionLayer::new().quality(CompressionLevel::Fastest)
}

/// Says whose answer it is; and what the framework refuses (a query, a method, a body) is told as weir's own errors are.
async fn as_weir(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let mut answer = as_problem(next.run(request).await, &method).await;
    let is_unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
    let headers = answer.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    if is_unauthorized {
        // RFC 9110, section 11.6.1: what would help.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// A handler that panics ends its own request.
async fn catch_panic(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| no_answer(NoAnswer::Panicked))
}

async fn health(State(api): State<Api>) -> Response {
    probe(api.handle.ask(Control::illness).await)
}

/// Whether weir forwards; of a service that is named: whether it has a real server for new connections.
async fn ready(
    State(api): State<Api>,
    may_read: Option<Extension<MayRead>>,
    Query(which): Query<Whose>,
) -> Response {
    let may_read = may_read.is_some_and(|Extension(MayRead(may))| may);
    let asked = move |control: &Control| -> Result<Option<String>, String> {
        let ill = control.complaint().or(control.unready());
        match which.service {
            Some(service) if ill.is_none() => {
                let why = control.unserved(&service)?;
                // Real servers and what they answered are for readers of lists.
                let brief = || "the service has no available real server".to_owned();
                Ok(why.map(|why| if may_read { why } else { brief() }))
            }
            _ => Ok(ill),
        }
    };
    match api.handle.ask(asked).await {
        Ok(Err(why)) => problem(Kind::UnknownService, &why),
        Ok(Ok(found)) => probe(Ok(found)),
        Err(why) => probe(Err(why)),
    }
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
        Ok(Some(why)) => error(StatusCode::SERVICE_UNAVAILABLE, &why),
        Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
    }
}

/// A page of another site that has its name point to this machine (DNS rebinding) gets nothing: on a loopback address
/// requests are for an IP address or for localhost.
async fn check_host(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .map(|host| host.to_str().unwrap_or("?"));
    // What a page of another site asks for it cannot read, but it would cost the answer. A link that is followed is no such thing.
    if is_of_other_site(request.headers()) {
        error(StatusCode::FORBIDDEN, "a page of another site gets nothing")
    } else if host.is_none_or(is_local) {
        next.run(request).await
    } else {
        error(
            StatusCode::MISDIRECTED_REQUEST,
            "ask for an IP address or for localhost",
        )
    }
}

fn is_of_other_site(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    said("sec-fetch-site") == Some(b"cross-site") && said("sec-fetch-dest") != Some(b"document")
}

fn is_local(host: &str) -> bool {
    let is_ip = host.parse::<SocketAddr>().is_ok()
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    is_ip || host.split(':').next() == Some("localhost")
}

/// Of `/ready`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// Also whether this one has a real server for new connections: a name, or such as `tcp:192.0.2.80:80`.
    service: Option<String>,
}

/// Of an address that takes no query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

type Plain = Query<Nothing>;

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
