//! A changed file becomes the running configuration, or nothing changes.

use super::access::Peer;
use super::answer::{
    JSON, Kind, changed, error, invalid, is_of_type, json_response, no_answer, object, posted,
    problem,
};
use super::state::Api;
use crate::arch::give_back_memory;
use crate::config::{self, Diagnostics, Known, Loaded, Text};
use crate::control::{Control, Handle, NoAnswer, NoWayBack};
use crate::model::{Changes, NeedsRestart};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// Why a file was not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The texts that were sent.
    #[error("{0}")]
    Invalid(Diagnostics),
    /// The file of the start.
    #[error("{0}")]
    InvalidFile(Diagnostics),
    #[error("{0}")]
    Malformed(String),
    /// A file that `[api]` names.
    #[error("{0}")]
    Secrets(String),
    #[error(transparent)]
    NeedsRestart(#[from] NeedsRestart),
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

/// Where a configuration comes from.
pub(crate) enum From {
    /// What weir was started with.
    File(Arc<Path>),
    /// JSON that was sent, see [`Sent`]; without files it means `file`.
    Sent { body: Bytes, file: Arc<Path> },
}

/// What a client sends: it has read the files with its own rights.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Configuration)]
pub(super) struct Sent {
    /// The main file, and behind it those that it includes, in their order. Without them: the file of weir's start.
    #[serde(default, deserialize_with = "config::some_texts")]
    files: Option<Vec<Text>>,
}

impl From {
    /// What it is called in the log.
    fn load(self, context: &config::Context, known: &Known) -> Result<(String, Loaded), Refused> {
        let file = match self {
            From::File(file) => file,
            From::Sent { body, file } => {
                let sent: Sent = object(&body).map_err(|why| {
                    Refused::Malformed(format!(
                        "{why}; send {{\"files\": [{{\"name\": …, \"text\": …}}]}}, or nothing"
                    ))
                })?;
                drop(body);
                if let Some(files) = sent.files {
                    if let Some(why) = config::refuse_texts(&files) {
                        return Err(Refused::Malformed(why));
                    }
                    let name = files[0].name.clone();
                    let loaded =
                        config::check_texts(files, context, known).map_err(Refused::Invalid)?;
                    return Ok((name, loaded));
                }
                file
            }
        };
        let loaded = config::load_after(&file, context, known).map_err(Refused::InvalidFile)?;
        Ok((file.display().to_string(), loaded))
    }
}

/// Reads and checks beside every other work.
async fn load(
    handle: &Handle,
    from: From,
    context: config::Context<'static>,
) -> Result<(String, Loaded), Refused> {
    let known = handle.ask(|control| control.known()).await?;
    let loaded = tokio::task::spawn_blocking(move || {
        let loaded = from.load(&context, &known);
        #[cfg(debug_assertions)]
        crate::control::inject::read();
        loaded
    });
    let loaded = loaded.await;
    // It can only have panicked.
    loaded.map_err(|_| NoAnswer::Panicked)?
}

/// What [`reload`] would change.
pub(crate) async fn plan(
    handle: &Handle,
    from: From,
    context: config::Context<'static>,
) -> Result<Changes, Refused> {
    let planned = async {
        let (_, loaded) = load(handle, from, context).await?;
        let changes = handle.ask(move |control| control.plan(&loaded.config));
        Ok(changes.await??)
    };
    giving_back_memory(planned).await
}

/// Applies a configuration in one of the control thread's turns. No other change comes between the reading and the applying.
/// `confirm`: how long it stays unless it is confirmed. Tokens and certificates are read again as well.
pub(crate) async fn reload(
    api: &Api,
    from: From,
    confirm: Option<Duration>,
) -> Result<Changes, Refused> {
    let changing = api.handle.changing().await;
    let applied = async {
        let (name, loaded) = load(&api.handle, from, api.context).await?;
        let secrets = api.secrets.clone();
        let found = tokio::task::spawn_blocking(move || secrets.read()).await;
        let found = found.map_err(|_| NoAnswer::Panicked)?;
        let found = found.map_err(Refused::Secrets)?;
        let changes = changing.change(move |control| control.reload(&name, loaded, confirm));
        let changes = changes.await??;
        api.secrets.use_from_now(found);
        Ok(changes)
    };
    giving_back_memory(applied).await
}

/// What a reading of the configuration comes to. What it leaves behind goes back to the kernel: most of all where a large
/// file is refused, which was read as a whole.
async fn giving_back_memory(
    reading: impl Future<Output = Result<Changes, Refused>>,
) -> Result<Changes, Refused> {
    let changes = reading.await;
    let _ = tokio::task::spawn_blocking(give_back_memory).await;
    changes
}

/// How long a reload may wait for its confirmation, in seconds.
const CONFIRM: std::ops::RangeInclusive<u64> = 1..=24 * 60 * 60;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirm {
    /// The reload is taken back after so many seconds, unless it is confirmed.
    confirm_s: Option<u64>,
}

pub(super) async fn post_reload(
    State(api): State<Api>,
    peer: Option<Extension<Peer>>,
    Query(Confirm { confirm_s }): Query<Confirm>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if confirm_s.is_some_and(|seconds| !CONFIRM.contains(&seconds)) {
        let (least, most) = (CONFIRM.start(), CONFIRM.end());
        let why = format!("`confirm_s` is {least} to {most} seconds");
        return error(StatusCode::BAD_REQUEST, &why);
    }
    let confirm = confirm_s.map(Duration::from_secs);
    match configuration(&api, &headers, body) {
        Ok(from) => changes_or_refusal(reload(&api, from, confirm).await, peer),
        Err(refusal) => *refusal,
    }
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// In the words of a reload.
#[derive(Serialize, ToSchema)]
pub(super) struct Confirmed {
    summary: &'static str,
    text: &'static str,
    is_changed: bool,
}

/// Keeps a reload that waits for that.
pub(super) async fn post_confirm(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = posted::<Nothing>(&headers, &body) {
        return *refusal;
    }
    match api.handle.changing().await.change(Control::confirm).await {
        Ok(Ok(())) => json_response(Confirmed {
            summary: "confirmed",
            text: "",
            is_changed: false,
        }),
        Ok(Err(why)) => problem(Kind::NothingToConfirm, &why.to_string()),
        Err(why) => no_answer(why),
    }
}

/// Goes back to the configuration before.
pub(super) async fn post_rollback(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = posted::<Nothing>(&headers, &body) {
        return *refusal;
    }
    let changing = api.handle.changing().await;
    let answer = match changing.change(Control::roll_back).await {
        Ok(Ok((_, changes))) => changed(changes),
        Ok(Err(why @ NoWayBack::NoGeneration(_))) => {
            problem(Kind::NothingToRollBack, &why.to_string())
        }
        Ok(Err(why @ NoWayBack::NeedsRestart(_))) => problem(Kind::NeedsRestart, &why.to_string()),
        Err(why) => no_answer(why),
    };
    let _ = tokio::task::spawn_blocking(give_back_memory).await;
    answer
}

pub(super) async fn post_plan(
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
    is_of_type(headers, JSON)?;
    let file = api.file.clone();
    Ok(match body.is_empty() {
        true => From::File(file),
        false => From::Sent { body, file },
    })
}

fn changes_or_refusal(
    changes: Result<Changes, Refused>,
    peer: Option<Extension<Peer>>,
) -> Response {
    match changes {
        Ok(changes) => changed(changes),
        Err(Refused::Invalid(diagnostics)) => invalid(&diagnostics),
        // Of the daemon's own file no line is shown to who may not read it.
        Err(Refused::InvalidFile(diagnostics)) => {
            let shown = match peer {
                Some(Extension(peer)) if peer.may_see_files() => diagnostics,
                _ => diagnostics.without_lines(),
            };
            invalid(&shown)
        }
        Err(refused @ Refused::Malformed(_)) => {
            error(StatusCode::BAD_REQUEST, &refused.to_string())
        }
        Err(refused @ Refused::Secrets(_)) => problem(Kind::UnusableFile, &refused.to_string()),
        Err(refused @ Refused::NeedsRestart(_)) => {
            problem(Kind::NeedsRestart, &refused.to_string())
        }
        Err(Refused::NoAnswer(why)) => no_answer(why),
    }
}
