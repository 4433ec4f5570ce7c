//! What is read by GET: rows for `weir show`.

use super::Plain;
use super::answer::{JSON, Kind, error, no_answer, problem};
use super::state::Api;
use super::stream::{Array, Reader, array, stream};
use crate::config::Protocol;
use crate::control::{Control, NoAnswer, OnlyConnections, show_check};
use crate::exchange::ConnectionChunk;
use crate::units::ServiceId;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use utoipa::IntoParams;

/// Services shown in one go.
pub(super) const SLICE: usize = 128;

/// An answer of so many bytes needs no place among the lists.
const SHORT: usize = 64 << 10;

pub(super) async fn ports(State(api): State<Api>, reader: Reader, _: Plain) -> Response {
    rows(api, reader, Control::show_ports).await
}

pub(super) async fn workers(State(api): State<Api>, reader: Reader, _: Plain) -> Response {
    rows(api, reader, Control::show_workers).await
}

pub(super) async fn drops(State(api): State<Api>, reader: Reader, _: Plain) -> Response {
    rows(api, reader, Control::show_drops).await
}

pub(super) async fn neighbours(State(api): State<Api>, reader: Reader, _: Plain) -> Response {
    rows(api, reader, Control::show_neighbours).await
}

pub(super) async fn routes(State(api): State<Api>, reader: Reader, _: Plain) -> Response {
    rows(api, reader, Control::show_routes).await
}

pub(super) async fn snat(State(api): State<Api>, reader: Reader, _: Plain) -> Response {
    rows(api, reader, Control::show_snat).await
}

/// A few clients of each service that counts them.
pub(super) async fn offenders(
    State(api): State<Api>,
    reader: Reader,
    Query(which): Query<Which>,
) -> Response {
    let only = match which.service_ids(&api).await {
        Ok(only) => only,
        Err(refusal) => return *refusal,
    };
    stream(&reader, JSON, async move |pieces| {
        let services = move |control: &Control| control.services(only.as_deref());
        let mut all = api.handle.ask(services).await?;
        all.retain(|service| service.guard.is_some());
        let mut rows = Vec::new();
        for slice in all.chunks(SLICE) {
            let slice = slice.to_vec();
            let found = api
                .handle
                .ask(move |control| control.show_offenders(&slice));
            rows.extend(found.await?);
        }
        rows.sort_by_key(|row| std::cmp::Reverse((row.refused, row.begun)));
        rows.truncate(which.limit.unwrap_or(usize::MAX));
        let mut array = Array::new(pieces);
        array.add(rows).await?;
        array.end().await
    })
}

/// Rows of which there are not many.
async fn rows<T: Serialize + Send + 'static>(
    api: Api,
    reader: Reader,
    show: fn(&Control) -> Vec<T>,
) -> Response {
    let rows = match api.handle.ask(show).await {
        Ok(rows) => rows,
        Err(why) => return no_answer(why),
    };
    let text = array(rows);
    if text.len() <= SHORT {
        return ([(header::CONTENT_TYPE, JSON)], text).into_response();
    }
    stream(&reader, JSON, async move |pieces| pieces.write(text).await)
}

/// Checks shown in one go.
const CHECKS: usize = 256;

pub(super) async fn health(
    State(api): State<Api>,
    reader: Reader,
    Query(which): Query<Which>,
) -> Response {
    let service = which.service;
    let asked = move |control: &Control| control.list_checks(service.as_deref());
    let (only, lister) = match api.handle.ask(asked).await {
        Ok(Ok(found)) => found,
        Ok(Err(why)) => return problem(Kind::UnknownService, &why),
        Err(why) => return no_answer(why),
    };
    stream(&reader, JSON, async move |pieces| {
        let mut array = Array::new(pieces);
        let mut left = which.limit.unwrap_or(usize::MAX);
        let each = match &only {
            None => vec![None],
            Some(services) => services.iter().copied().map(Some).collect(),
        };
        for only in each {
            let mut last = None;
            while let Some(lister) = &lister
                && left > 0
            {
                let rows = lister.rows(only, last, CHECKS.min(left)).await;
                let rows = rows.ok_or(NoAnswer::Stopping)?;
                let Some(row) = rows.last() else { break };
                last = Some(row.target);
                left -= rows.len();
                array.add(rows.into_iter().map(show_check)).await?;
            }
            let held = move |control: &Control| control.show_held(only.as_ref());
            let held = api.handle.ask(held).await?;
            let held = held.into_iter().take(left);
            left -= held.len();
            array.add(held).await?;
        }
        array.end().await
    })
}

pub(super) async fn connections(
    State(api): State<Api>,
    reader: Reader,
    Query(which): Query<WhichConnections>,
) -> Response {
    let protocol = match which.protocol.as_deref() {
        None => None,
        Some(name) => match Protocol::ALL.into_iter().find(|it| it.name() == name) {
            None => {
                let why = format!("there is no protocol {name:?}, but: tcp, udp, sctp");
                return error(StatusCode::BAD_REQUEST, &why);
            }
            known => known,
        },
    };
    let services = match Which::of(which.service).connected_ids(&api).await {
        Ok(services) => services,
        Err(refusal) => return *refusal,
    };
    let only = OnlyConnections {
        services,
        protocol,
        from: which.from,
        to: which.to,
    };
    stream(&reader, JSON, async move |pieces| {
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
                let only = only.clone();
                let (shown, used) = api
                    .handle
                    .ask(move |control| (control.show_connections(worker, &copied, &only), copied))
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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichConnections {
    /// Only those of this service: a name, or such as `tcp:192.0.2.80:80`; or of a rule, such as `snat:10.0.0.0/24`.
    service: Option<String>,
    /// Only those of `tcp`, `udp` or `sctp`.
    protocol: Option<String>,
    /// Only those with packets from this address and port, a client's or a real server's, and persistence templates of that client.
    #[param(value_type = Option<String>)]
    from: Option<SocketAddr>,
    /// Only those with packets to this address and port. With `from`: the one that such a packet belongs to.
    #[param(value_type = Option<String>)]
    to: Option<SocketAddr>,
    /// At most so many.
    limit: Option<usize>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only those of this service: a name, or such as `tcp:192.0.2.80:80`.
    service: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

impl Which {
    /// All that the service has.
    pub(super) const fn of(service: Option<String>) -> Self {
        Which {
            service,
            limit: None,
        }
    }

    /// The services of the name, if one is given.
    pub(super) async fn service_ids(
        &self,
        api: &Api,
    ) -> Result<Option<Arc<[ServiceId]>>, Box<Response>> {
        self.ids(api, Control::find_services).await
    }

    /// What has connections under the name: services, or a rule of `[[snat]]`.
    async fn connected_ids(&self, api: &Api) -> Result<Option<Arc<[ServiceId]>>, Box<Response>> {
        let find = |control: &Control, name: &str| match control.find_outward(name) {
            Some(rule) => vec![rule],
            None => control.find_services(name),
        };
        self.ids(api, find).await
    }

    async fn ids(
        &self,
        api: &Api,
        find: impl Fn(&Control, &str) -> Vec<ServiceId> + Send + 'static,
    ) -> Result<Option<Arc<[ServiceId]>>, Box<Response>> {
        let Some(name) = self.service.clone() else {
            return Ok(None);
        };
        let wanted = name.clone();
        let found = api.handle.ask(move |control| find(control, &wanted));
        Err(Box::new(match found.await {
            Ok(ids) if !ids.is_empty() => return Ok(Some(ids.into())),
            Ok(_) => problem(
                Kind::UnknownService,
                &format!("there is no service {name:?}"),
            ),
            Err(why) => no_answer(why),
        }))
    }
}
