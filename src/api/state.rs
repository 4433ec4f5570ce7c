//! What every request of the API is answered from.

use super::events::FOLLOWERS;
use super::receive::Lanes;
use super::secrets::Secrets;
use super::stream::Lists;
use crate::config;
use crate::control::Handle;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What the API needs.
#[derive(Clone)]
pub(crate) struct Api {
    pub handle: Handle,
    /// The `--config` of the start.
    pub file: Arc<Path>,
    pub context: config::Context<'static>,
    pub lanes: Arc<Lanes>,
    pub secrets: Secrets,
    /// Of one door.
    pub(super) lists: Arc<Lists>,
    /// Of one door: places for readers of events as they happen.
    pub(super) followers: Arc<Semaphore>,
}

impl Api {
    pub(crate) fn new(
        handle: Handle,
        file: &Path,
        context: config::Context<'static>,
        secrets: Secrets,
    ) -> Self {
        Api {
            handle,
            file: file.into(),
            context,
            lanes: Arc::default(),
            secrets,
            lists: Arc::default(),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
        }
    }
}
