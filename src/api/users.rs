//! The names of this machine's users, for the log.

use nix::unistd::{Uid, User};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a directory of users is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Users whose names are kept.
const MOST: usize = 256;

/// None: the user has no name, or its name is being looked up for another request.
static NAMES: Mutex<Option<HashMap<u32, Option<String>>>> = Mutex::new(None);

/// The name of a user, unless none is found in time: a directory on the network may never answer, and is asked for each
/// user once.
pub(super) async fn name(uid: u32) -> Option<String> {
    {
        let mut names = NAMES.lock();
        let names = names.get_or_insert_default();
        if let Some(known) = names.get(&uid) {
            return known.clone();
        }
        if names.len() >= MOST {
            names.clear();
        }
        names.insert(uid, None);
    }
    let found = spawn_blocking(move || {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let name = user.map(|user| user.name);
        NAMES
            .lock()
            .get_or_insert_default()
            .insert(uid, name.clone());
        name
    });
    timeout(PATIENCE, found).await.ok()?.ok()?
}
