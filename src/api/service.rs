//! One service in part: PATCH of `/v1/services` changes some of its keys, PUT, PATCH and DELETE of `/v1/reals` a real server of it.
//! Until the next reload, as PUT and DELETE of `/v1/services`.

use super::access::Peer;
use super::answer::{
    JSON, Kind, changed, error, invalid, is_of_type, no_answer, object, posted, problem,
};
use super::edit::{MOST_NAME, WhichService};
use super::state::Api;
use crate::config::{self, RealKeys, ServiceChange, Unchanged};
use crate::control::NoAnswer;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

/// Changes keys of a service: a JSON merge patch (RFC 7396).
pub(super) async fn patch_service(
    State(api): State<Api>,
    Query(which): Query<WhichService>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = is_of_type(&headers, JSON) {
        return *refusal;
    }
    let keys: Map<String, Value> = match object(&body) {
        Ok(keys) => keys,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why.to_string()),
    };
    let Some(service) = which.service else {
        return error(StatusCode::BAD_REQUEST, "`?service=` is missing");
    };
    change(&api, peer, service, ServiceChange::Set(keys)).await
}

/// Of PUT and PATCH of `/v1/reals`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RealPut)]
pub(super) struct Put {
    /// A name, or such as `tcp:192.0.2.80:80`.
    #[schema(required, nullable = false)]
    service: Option<String>,
    /// `10.0.0.11:8080`
    #[schema(required, nullable = false, value_type = String)]
    real: Option<SocketAddr>,
    /// As in the file; without it the one that it has, or 1.
    weight: Option<u16>,
    /// As in the file, 0 for none; without it the one that it has, or none.
    max_connections: Option<u32>,
    /// As in the file; without it the one that it has, or 0.
    min_connections: Option<u32>,
}

pub(super) async fn put_real(
    state: State<Api>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change_real(state, peer, &headers, &body, ServiceChange::PutReal).await
}

/// Changes numbers of a real server that there is.
pub(super) async fn patch_real(
    state: State<Api>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change_real(state, peer, &headers, &body, ServiceChange::SetReal).await
}

async fn change_real(
    State(api): State<Api>,
    peer: Option<Extension<Peer>>,
    headers: &HeaderMap,
    body: &Bytes,
    how: fn(SocketAddr, RealKeys) -> ServiceChange,
) -> Response {
    let wanted: Put = match posted(headers, body) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let (Some(service), Some(real)) = (wanted.service, wanted.real) else {
        return error(StatusCode::BAD_REQUEST, "`service` and `real` are missing");
    };
    let keys = RealKeys {
        weight: wanted.weight,
        max_connections: wanted.max_connections,
        min_connections: wanted.min_connections,
    };
    change(&api, peer, service, how(real, keys)).await
}

/// Of DELETE of `/v1/reals`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichReal {
    /// A name, or such as `tcp:192.0.2.80:80`.
    #[param(required)]
    service: Option<String>,
    /// `10.0.0.11:8080`
    #[param(required, value_type = String)]
    real: Option<SocketAddr>,
}

pub(super) async fn delete_real(
    State(api): State<Api>,
    Query(which): Query<WhichReal>,
    peer: Option<Extension<Peer>>,
) -> Response {
    let (Some(service), Some(real)) = (which.service, which.real) else {
        return error(
            StatusCode::BAD_REQUEST,
            "`?service=` and `&real=` are missing",
        );
    };
    change(&api, peer, service, ServiceChange::RemoveReal(real)).await
}

/// Changes a service in part. No other change comes between the reading and the applying.
async fn change(
    api: &Api,
    peer: Option<Extension<Peer>>,
    name: String,
    change: ServiceChange,
) -> Response {
    if name.len() > MOST_NAME {
        return error(StatusCode::BAD_REQUEST, "the service's name is too long");
    }
    let changing = api.handle.changing().await;
    let asked = name.clone();
    let found = api.handle.ask(move |control| {
        let services = control.service_configs(&asked);
        (services, control.surroundings())
    });
    let (services, around) = match found.await {
        Ok(found) if !found.0.is_empty() => found,
        Ok(_) => {
            let why = format!("there is no service {name:?}");
            return problem(Kind::UnknownService, &why);
        }
        Err(why) => return no_answer(why),
    };
    let checked = spawn_blocking(move || config::changed(&services, &change, &around));
    let (services, warnings) = match checked.await {
        Ok(Ok(checked)) => checked,
        // The text is the service's in force, whose secrets are not for all who may change it.
        Ok(Err(Unchanged::Invalid(wrong))) => {
            return match peer {
                Some(Extension(peer)) if peer.may_see_files() => invalid(&wrong),
                _ => invalid(&wrong.without_lines()),
            };
        }
        Ok(Err(why @ Unchanged::NoReal(_))) => {
            return problem(Kind::UnknownReal, &why.to_string());
        }
        Ok(Err(why @ Unchanged::Refused(_))) => {
            return error(StatusCode::BAD_REQUEST, &why.to_string());
        }
        // It can only have panicked.
        Err(_) => return no_answer(NoAnswer::Panicked),
    };
    let done = changing.change(move |control| control.set_services(services, &warnings));
    match done.await {
        Ok(Ok(changes)) => changed(changes),
        Ok(Err(why)) => problem(Kind::ConflictingServices, &why.to_string()),
        Err(why) => no_answer(why),
    }
}

/// Which file weir was started with.
#[derive(serde::Serialize, ToSchema)]
pub(super) struct Source {
    /// Its path on the machine where weir runs.
    file: String,
}

pub(super) async fn source(State(api): State<Api>, _: super::Plain) -> Response {
    super::answer::json_response(Source {
        file: api.file.display().to_string(),
    })
}
