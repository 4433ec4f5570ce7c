//! A changed file becomes the running configuration, or nothing changes.

use super::changes::{Changes, NeedsRestart};
use super::{Handle, NoAnswer};
use crate::config::{self, Diagnostics, Loaded};
use std::path::PathBuf;

/// Why a file was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Invalid(Diagnostics),
    #[error(transparent)]
    NeedsRestart(#[from] NeedsRestart),
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

async fn load(file: PathBuf, context: config::Context<'static>) -> Result<Loaded, Refused> {
    let loaded = tokio::task::spawn_blocking(move || config::load(&file, &context)).await;
    // It can only have panicked.
    loaded
        .map_err(|_| NoAnswer::Panicked)?
        .map_err(Refused::Invalid)
}

/// What [`reload`] would change.
pub async fn plan(
    handle: &Handle,
    file: PathBuf,
    context: config::Context<'static>,
) -> Result<Changes, Refused> {
    let loaded = load(file, context).await?;
    let changes = handle.ask(move |control| control.plan(&loaded.config));
    Ok(changes.await??)
}

/// Reads and checks `file` beside the control thread's work, and applies it in one of its turns.
pub async fn reload(
    handle: &Handle,
    file: PathBuf,
    context: config::Context<'static>,
) -> Result<Changes, Refused> {
    let name = file.display().to_string();
    let loaded = load(file, context).await?;
    let changes = handle.change(move |control| {
        let now = control.now();
        control.edits.warnings(&loaded.warnings, now);
        let changes = control.apply(loaded.config)?;
        control.edits.reloaded(&name, &changes, now);
        Ok::<_, NeedsRestart>(changes)
    });
    Ok(changes.await??)
}
