//! `/v1/weight`, `/v1/drain`, `/v1/disable`, `/v1/enable`: one real server, now. PUT and DELETE of `/v1/services`: single services.

use super::answer::{
    Kind, changed, error, invalid, is_of_type, json_response, no_answer, posted, problem,
};
use super::state::Api;
use crate::config;
use crate::control::{Missing, NoAnswer};
use crate::model::Edit;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

/// The longest name that is looked for, in bytes.
pub(super) const MOST_NAME: usize = 4096;

/// Of `/v1/weight`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RealWeight)]
pub(super) struct Weight {
    /// A name, or such as `tcp:192.0.2.80:80`.
    #[schema(required, nullable = false)]
    service: Option<String>,
    /// `10.0.0.11:8080`
    #[schema(required, nullable = false, value_type = String)]
    real: Option<SocketAddr>,
    /// The new weight.
    #[schema(required, nullable = false)]
    weight: Option<u16>,
    /// For how long: `30m`, or seconds; then it ends by itself. For ever without.
    #[serde(rename = "for")]
    length: Option<Length>,
}

/// Of `/v1/drain` and `/v1/disable`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RealDrain)]
pub(super) struct Drain {
    /// A name, or such as `tcp:192.0.2.80:80`.
    #[schema(required, nullable = false)]
    service: Option<String>,
    /// `10.0.0.11:8080`
    #[schema(required, nullable = false, value_type = String)]
    real: Option<SocketAddr>,
    /// For how long: `30m`, or seconds; then it ends by itself. For ever without.
    #[serde(rename = "for")]
    length: Option<Length>,
}

/// Of `/v1/enable`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RealEnable)]
pub(super) struct Enable {
    /// A name, or such as `tcp:192.0.2.80:80`.
    #[schema(required, nullable = false)]
    service: Option<String>,
    /// `10.0.0.11:8080`
    #[schema(required, nullable = false, value_type = String)]
    real: Option<SocketAddr>,
}

/// A time span.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum Length {
    Seconds(u64),
    Text(String),
}

/// The longest that a change of a real server may be for.
const MOST_LENGTH: Duration = Duration::from_secs(366 * 86_400);

impl Length {
    fn span(&self) -> Result<Duration, String> {
        let span = match self {
            Length::Seconds(seconds) => Duration::from_secs(*seconds),
            Length::Text(text) => humantime::parse_duration(text)
                .map_err(|_| format!("`for`: {text:?} is no time span: write such as 30m"))?,
        };
        match (Duration::from_secs(1)..=MOST_LENGTH).contains(&span) {
            true => Ok(span),
            false => Err("`for` is out of range: write 1s to 366d".to_owned()),
        }
    }
}

pub(super) async fn weight(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let Weight {
        service,
        real,
        weight,
        length,
    } = match posted(&headers, &body) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    match weight {
        Some(weight) => edit(&api, (service, real), Edit::Weight(weight), length).await,
        None => error(StatusCode::BAD_REQUEST, "`weight` is missing"),
    }
}

pub(super) async fn drain(state: State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    take_out(state, &headers, &body, Edit::Drain).await
}

pub(super) async fn disable(state: State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    take_out(state, &headers, &body, Edit::Disable).await
}

async fn take_out(
    State(api): State<Api>,
    headers: &HeaderMap,
    body: &Bytes,
    what: Edit,
) -> Response {
    match posted::<Drain>(headers, body) {
        Ok(wanted) => edit(&api, (wanted.service, wanted.real), what, wanted.length).await,
        Err(refusal) => *refusal,
    }
}

pub(super) async fn enable(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    match posted::<Enable>(&headers, &body) {
        Ok(wanted) => edit(&api, (wanted.service, wanted.real), Edit::Enable, None).await,
        Err(refusal) => *refusal,
    }
}

async fn edit(
    api: &Api,
    which: (Option<String>, Option<SocketAddr>),
    what: Edit,
    length: Option<Length>,
) -> Response {
    let (Some(service), Some(real)) = which else {
        return error(StatusCode::BAD_REQUEST, "`service` and `real` are missing");
    };
    if service.len() > MOST_NAME {
        return error(StatusCode::BAD_REQUEST, "the service's name is too long");
    }
    let length = match length.map(|length| length.span()).transpose() {
        Ok(length) => length,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    let changing = api.handle.changing().await;
    let done = changing.change(move |control| control.edit_real(&service, real, what, length));
    match done.await {
        Ok(Ok(edited)) => json_response(edited),
        Ok(Err(why @ Missing::Service(_))) => problem(Kind::UnknownService, &why.to_string()),
        Ok(Err(why @ Missing::Real(..))) => problem(Kind::UnknownReal, &why.to_string()),
        Err(why) => no_answer(why),
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// What diagnostics call the body.
    name: Option<String>,
}

/// TOML of `[[service]]` tables, as in the file.
pub(super) async fn put_services(
    State(api): State<Api>,
    Query(named): Query<Named>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = is_of_type(&headers, "application/toml") {
        return *refusal;
    }
    let Ok(text) = String::from_utf8(body.into()) else {
        return error(StatusCode::BAD_REQUEST, "the body is not UTF-8");
    };
    let name = named.name.unwrap_or_else(|| "services".to_owned());
    if name.len() > MOST_NAME {
        return error(StatusCode::BAD_REQUEST, "the name is too long");
    }
    // Nothing changes what the services are checked against until they are set.
    let changing = api.handle.changing().await;
    let around = match api.handle.ask(|control| control.surroundings()).await {
        Ok(around) => around,
        Err(why) => return no_answer(why),
    };
    let checked = spawn_blocking(move || {
        let checked = config::services(&text, &name, &around);
        #[cfg(debug_assertions)]
        crate::control::inject::read();
        checked
    });
    let (services, warnings) = match checked.await {
        Ok(Ok(checked)) => checked,
        Ok(Err(wrong)) => return invalid(&wrong),
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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichService {
    /// A name, or such as `tcp:192.0.2.80:80`.
    #[param(required)]
    pub(super) service: Option<String>,
}

pub(super) async fn delete_service(
    State(api): State<Api>,
    Query(which): Query<WhichService>,
) -> Response {
    let Some(service) = which.service else {
        return error(StatusCode::BAD_REQUEST, "`?service=` is missing");
    };
    if service.len() > MOST_NAME {
        return error(StatusCode::BAD_REQUEST, "the service's name is too long");
    }
    let name = service.clone();
    let changing = api.handle.changing().await;
    let done = changing.change(move |control| control.unset_service(&name));
    match done.await {
        Ok(Some(changes)) => changed(changes),
        Ok(None) => problem(
            Kind::UnknownService,
            &format!("there is no service {service:?}"),
        ),
        Err(why) => no_answer(why),
    }
}
