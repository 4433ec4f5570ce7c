//! `/metrics`.

use super::lists::{SLICE, Which};
use super::state::Api;
use super::stream::{Reader, stream};
use crate::metrics::{Family, Format, IPVS, Labelled, METRICS, Metric, Source};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Scrape {
    /// Only the metrics of this service and its real servers: a name, or such as `tcp:192.0.2.80:80`.
    service: Option<String>,
    /// Whose names the metrics have: weir's, unless this says otherwise.
    #[param(inline)]
    names: Option<Names>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Names {
    Weir,
    /// Those of the collector `ipvs` of Prometheus's node_exporter.
    Ipvs,
}

pub(super) async fn scrape(
    State(api): State<Api>,
    reader: Reader,
    Query(wanted): Query<Scrape>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let format = Format::accepted(accept.filter_map(|value| value.to_str().ok()));
    let list = match wanted.names {
        Some(Names::Ipvs) => IPVS,
        Some(Names::Weir) | None => METRICS,
    };
    let only = match Which::of(wanted.service).service_ids(&api).await {
        Ok(only) => only,
        Err(refusal) => return *refusal,
    };
    let mut answer = stream(&reader, format.content_type(), async move |pieces| {
        let is_whole = only.is_none();
        let (daemon, all, per_real) = api
            .handle
            .ask(move |control| {
                (
                    control.show_daemon(),
                    control.services(only.as_deref()),
                    control.shows_reals(),
                )
            })
            .await?;
        let labelled = |service| Labelled::new(service, per_real);
        // Gathered once: all metrics are of the same moment, or nearly.
        let mut services = Vec::with_capacity(all.len());
        for slice in all.chunks(SLICE) {
            let slice = slice.to_vec();
            let slice = api.handle.ask(move |control| control.show_services(&slice));
            services.extend(slice.await?.into_iter().map(labelled));
        }
        let is_wanted = |metric: &&Metric| {
            (per_real || !metric.is_per_real())
                && (is_whole || !matches!(metric.source, Source::Daemon(_)))
        };
        for metric in list.iter().filter(is_wanted) {
            let mut family = Family::new(metric, format);
            match metric.source {
                Source::Daemon(collect) => collect(&daemon, &mut family.samples()),
                Source::Services(collect) => collect(&services, &mut family.samples()),
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
        pieces.write(format.end().to_owned()).await
    });
    let vary = HeaderValue::from_static("accept");
    answer.headers_mut().append(header::VARY, vary);
    answer
}
