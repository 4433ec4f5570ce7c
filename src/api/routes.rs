//! Every route of the API, with what the OpenAPI document says of it.

use super::access::STATUS;
use super::answer::{Kind, Reloaded};
use super::openapi::{Route, delete, get, openapi, patch, post, put};
use super::scrape::{Scrape, scrape};
use super::{
    Whose, capture, edit, events, health, lists, page, paged, ready, reload, service, status,
    written,
};
use crate::metrics::Format;
use crate::view;

const TEXT: &str = "text/plain; charset=utf-8";

const TOML: &str = "application/toml";

/// What a configuration may be refused for.
const REFUSED: [Kind; 2] = [Kind::InvalidConfiguration, Kind::NeedsRestart];
/// What a reload may be refused for.
const NOT_RELOADED: [Kind; 3] = [
    Kind::InvalidConfiguration,
    Kind::UnusableFile,
    Kind::NeedsRestart,
];
/// What a change of a real server may be refused for.
const MISSING: [Kind; 2] = [Kind::UnknownService, Kind::UnknownReal];

/// What a change of a service in part may be refused for.
const CHANGES: [Kind; 3] = [
    Kind::InvalidConfiguration,
    Kind::UnknownService,
    Kind::ConflictingServices,
];
const CHANGES_OF_REAL: [Kind; 4] = [
    Kind::InvalidConfiguration,
    Kind::UnknownService,
    Kind::UnknownReal,
    Kind::ConflictingServices,
];

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/", "The status page", page::page).text(page::HTML),
        get(
            "/metrics",
            "Metrics in Prometheus's text format, or in OpenMetrics' where that is preferred",
            scrape,
        )
        .query::<Scrape>()
        .text(Format::Prometheus.content_type())
        .text(Format::OpenMetrics.content_type())
        .refuses(&[Kind::UnknownService]),
        get(
            "/health",
            "Whether weir is well; 503 says why it is not",
            health,
        )
        .text(TEXT),
        get(
            "/ready",
            "Whether weir forwards; 503 says why it does not",
            ready,
        )
        .query::<Whose>()
        .text(TEXT)
        .refuses(&[Kind::UnknownService]),
        get("/v1/openapi.json", "This document", openapi).answers_object(),
        get(STATUS, "weir as a whole", status::status).answers::<view::StatusView>(),
        get(
            "/v1/drops",
            "The reasons for which packets are dropped, with what they mean",
            lists::drops,
        )
        .rows::<view::DropView>(),
        get(
            "/v1/services",
            "The services with their real servers",
            paged::services,
        )
        .query::<paged::WhichServices>()
        .rows_or::<view::ServiceView, view::BriefServiceView, view::ServiceSummaryView>()
        .refuses(&[Kind::UnknownService]),
        put(
            "/v1/services",
            "Adds services, or replaces them: [[service]] tables as in the file",
            edit::put_services,
        )
        .query::<edit::Named>()
        .takes_text(TOML)
        .answers::<Reloaded>()
        .refuses(&[Kind::InvalidConfiguration, Kind::ConflictingServices]),
        delete(
            "/v1/services",
            "Takes one service away",
            edit::delete_service,
        )
        .query::<edit::WhichService>()
        .answers::<Reloaded>()
        .refuses(&[Kind::UnknownService]),
        patch(
            "/v1/services",
            "Changes keys of a service: a JSON merge patch (RFC 7396) of its table in the file",
            service::patch_service,
        )
        .query::<edit::WhichService>()
        .takes_object()
        .answers::<Reloaded>()
        .refuses(&CHANGES),
        put(
            "/v1/reals",
            "Adds a real server to a service, or gives it another weight or other thresholds, as the file would",
            service::put_real,
        )
        .takes::<service::Put>()
        .answers::<Reloaded>()
        .refuses(&CHANGES),
        patch(
            "/v1/reals",
            "Gives a real server another weight or other thresholds, as the file would",
            service::patch_real,
        )
        .takes::<service::Put>()
        .answers::<Reloaded>()
        .refuses(&CHANGES_OF_REAL),
        delete(
            "/v1/reals",
            "Takes a real server away from its service",
            service::delete_real,
        )
        .query::<service::WhichReal>()
        .answers::<Reloaded>()
        .refuses(&CHANGES_OF_REAL),
        get(
            "/v1/reals",
            "The real servers of all services",
            paged::reals,
        )
        .query::<paged::WhichRows>()
        .rows::<view::RealView>()
        .refuses(&[Kind::UnknownService]),
        get("/v1/connections", "The connections", lists::connections)
            .query::<lists::WhichConnections>()
            .rows::<view::ConnectionView>()
            .refuses(&[Kind::UnknownService]),
        get("/v1/health", "The health checks", lists::health)
            .query::<lists::Which>()
            .rows::<view::HealthView>()
            .refuses(&[Kind::UnknownService]),
        get(
            "/v1/config",
            "The configuration in force; for root and the daemon's user, by a unix socket",
            written::config,
        )
        .text(TOML),
        get(
            "/v1/source",
            "The configuration file that weir was started with",
            service::source,
        )
        .answers::<service::Source>(),
        get(
            "/v1/events",
            "What has happened, or happens",
            events::events,
        )
        .query::<events::Which>()
        .rows::<view::EventView>()
        .text("text/event-stream"),
        get(
            "/v1/ports",
            "The ports, with their devices' counters",
            lists::ports,
        )
        .rows::<view::PortView>(),
        get(
            "/v1/workers",
            "The workers, with what became of every packet",
            lists::workers,
        )
        .rows::<view::WorkerView>(),
        get(
            "/v1/pools",
            "The local pairs of services with a local pool, by real server and worker",
            paged::pools,
        )
        .query::<paged::WhichRows>()
        .rows::<view::PoolView>()
        .refuses(&[Kind::UnknownService]),
        get(
            "/v1/snat",
            "The rules of [[snat]], with their connections",
            lists::snat,
        )
        .rows::<view::SnatView>(),
        get(
            "/v1/offenders",
            "Clients that services with `allow`, `deny` or `limits` refused, or that began connections, most often of late",
            lists::offenders,
        )
        .query::<lists::Which>()
        .rows::<view::OffenderView>()
        .refuses(&[Kind::UnknownService]),
        get(
            "/v1/neighbours",
            "Next hops and their MAC addresses",
            lists::neighbours,
        )
        .rows::<view::NeighbourView>(),
        get(
            "/v1/routes",
            "Connected and configured routes",
            lists::routes,
        )
        .rows::<view::RouteView>(),
        post(
            "/v1/plan",
            "What a configuration would change",
            reload::post_plan,
        )
        .may_take::<reload::Sent>()
        .answers::<Reloaded>()
        .refuses(&REFUSED),
        post("/v1/reload", "Applies a configuration", reload::post_reload)
            .query::<reload::Confirm>()
            .may_take::<reload::Sent>()
            .answers::<Reloaded>()
            .refuses(&NOT_RELOADED),
        post(
            "/v1/confirm",
            "Keeps a reload that waits for that",
            reload::post_confirm,
        )
        .may_take::<reload::Nothing>()
        .answers::<reload::Confirmed>()
        .refuses(&[Kind::NothingToConfirm]),
        post(
            "/v1/rollback",
            "Goes back to the configuration before",
            reload::post_rollback,
        )
        .may_take::<reload::Nothing>()
        .answers::<Reloaded>()
        .refuses(&[Kind::NothingToRollBack, Kind::NeedsRestart]),
        post(
            "/v1/capture",
            "Packets as they come in and as they leave, with what was decided, while they do: a JSON object a line",
            capture::post_capture,
        )
        .may_take::<capture::Asked>()
        .text(capture::LINES)
        .refuses(&[Kind::CaptureRuns]),
        delete(
            "/v1/capture",
            "Ends the capture that runs",
            capture::delete_capture,
        )
        .query::<capture::Which>()
        .answers::<view::CaptureEnded>(),
        post(
            "/v1/weight",
            "Gives a real server another weight",
            edit::weight,
        )
        .takes::<edit::Weight>()
        .answers::<view::EditedView>()
        .refuses(&MISSING),
        post(
            "/v1/drain",
            "A real server gets no new connections",
            edit::drain,
        )
        .takes::<edit::Drain>()
        .answers::<view::EditedView>()
        .refuses(&MISSING),
        post(
            "/v1/disable",
            "A real server is treated as one that is down",
            edit::disable,
        )
        .takes::<edit::Drain>()
        .answers::<view::EditedView>()
        .refuses(&MISSING),
        post(
            "/v1/enable",
            "Ends drain, disable and a weight of an operator's",
            edit::enable,
        )
        .takes::<edit::Enable>()
        .answers::<view::EditedView>()
        .refuses(&MISSING),
    ]
}
