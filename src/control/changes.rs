//! What a change of the configuration consists of, and what cannot be changed.

use crate::config;
use std::collections::HashMap;

/// What a change consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changes {
    pub services_added: usize,
    pub services_removed: usize,
    pub services_changed: usize,
    pub reals_added: usize,
    pub reals_removed: usize,
    pub reals_reweighted: usize,
    pub other: Vec<&'static str>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Counts what became of a service's real servers.
    pub(super) fn count_reals(&mut self, before: &[config::Real], after: &[config::Real]) {
        let place = |real: &config::Real| (real.address, real.port);
        let weights: HashMap<_, _> = before
            .iter()
            .map(|real| (place(real), real.weight))
            .collect();
        let mut kept = 0;
        for real in after {
            match weights.get(&place(real)) {
                None => self.reals_added += 1,
                Some(weight) => {
                    kept += 1;
                    self.reals_reweighted += usize::from(*weight != real.weight);
                }
            }
        }
        self.reals_removed += before.len() - kept;
    }
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changed");
        }
        write!(
            f,
            "services: {} added, {} removed, {} changed; real servers: {} added, {} removed, {} reweighted",
            self.services_added,
            self.services_removed,
            self.services_changed,
            self.reals_added,
            self.reals_removed,
            self.reals_reweighted
        )?;
        for other in &self.other {
            write!(f, "; {other} changed")?;
        }
        Ok(())
    }
}

/// The service is not configured, or has no real server of this address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such service or real server")]
pub struct NoSuchReal;

/// What a running daemon cannot change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot change while weir runs: restart it to use the new file")]
pub struct NeedsRestart {
    pub what: String,
}
