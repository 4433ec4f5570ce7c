//! Connections that outlive the process: takes those of the former one over, and keeps its own for the next.

use super::Failure;
use crate::config::Config;
use crate::director::{Restored, Room};
use crate::model::Model;
use crate::record::{Header, Keeping, Kept, Place, Unkept, Unread};
use crate::steering::{KEY_LEN, Steering, is_fair};
use crate::units::Time;
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Real servers that there is room for at least, for those that come while weir runs.
const NAMES: usize = 1 << 16;

/// The file that the configuration names, before anything else is started: what a former process has left there.
pub(super) struct Former {
    path: PathBuf,
    place: Place,
    kept: Option<Kept>,
    boot: [u8; 16],
}

impl Former {
    /// None: connections end with the process. What cannot be used of a former one is told, and left aside.
    ///
    /// # Errors
    /// If the file cannot be had for that.
    pub(super) fn of(config: &Config) -> Result<Option<Former>, Failure> {
        let Some(path) = &config.connections_file else {
            return Ok(None);
        };
        let place = Place::take(path).map_err(|why| unkept(path, why))?;
        let boot = boot();
        let found = match place.kept() {
            // Whatever it is, it is not weir's to overwrite.
            Err(Unread::Foreign) => return Err(unkept(path, Unkept::Foreign)),
            found => found,
        };
        let usable = found.and_then(|kept| {
            kept.map(|kept| kept.check_times(&boot, machine_clock()).map(|()| kept))
                .transpose()
        });
        let kept = usable.unwrap_or_else(|why| {
            let file = path.display();
            tracing::warn!(%file, "connections_file is not used: {why}; the connections from before the restart are forgotten");
            None
        });
        Ok(Some(Former {
            path: path.clone(),
            place,
            kept,
            boot,
        }))
    }

    /// Whether a former process has left a file.
    pub(super) fn is_there(&self) -> bool {
        self.place.has_former()
    }

    /// Removes what a former process has left: rather without its connections than not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn forget(&mut self, why: &str) -> Result<(), Failure> {
        let file = self.path.display();
        tracing::warn!(%file, "connections_file is not used: {why}; the connections from before the restart are forgotten");
        self.kept = None;
        self.place
            .forget()
            .map_err(|why| unkept(&self.path, why.into()))
    }

    /// By which packets were spread over workers: with the same key each comes to the worker that has its connection.
    pub(super) fn rss_key(&self) -> Option<[u8; KEY_LEN]> {
        let key = self.kept.as_ref()?.header().key;
        is_fair(&key).then_some(key)
    }

    /// Makes the file of this process. `now`: the dataplane's clock.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub(super) fn keep(
        mut self,
        config: &Config,
        model: &mut Model,
        steering: &Steering,
        room: Room,
        now: Time,
    ) -> Result<Keep, Failure> {
        let reals: usize = config.services.iter().map(|it| it.servers().count()).sum();
        let origin = machine_clock().saturating_sub(now.nanos());
        let header = Header {
            boot: self.boot,
            origin,
            alive: now.nanos(),
            key: *steering.key(),
            workers: steering.workers() as u32,
            names: NAMES.max(reals * 4) as u64,
            names_used: 0,
            sections: Vec::new(),
        };
        let rooms = vec![room.tables(); steering.workers()];
        if let Some(kept) = &mut self.kept {
            kept.resolve(|name| model.named(name));
        }
        if (self.place.lacks_room(header.names, &rooms))
            .map_err(|why| unkept(&self.path, why.into()))?
        {
            self.forget("its file system has no room for two")?;
        }
        let begun = Instant::now();
        let (keeping, mut names) =
            Keeping::new(self.place, header, &rooms).map_err(|why| unkept(&self.path, why))?;
        names.follow(machine_clock);
        model.set_names(names);
        Ok(Keep {
            path: self.path,
            keeping: Arc::new(keeping),
            kept: self.kept.map(Arc::new),
            origin,
            begun,
        })
    }
}

/// The file while the workers' tables are made in it.
pub(super) struct Keep {
    path: PathBuf,
    pub keeping: Arc<Keeping>,
    /// What the workers take over.
    pub kept: Option<Arc<Kept>>,
    /// See [`Header::origin`].
    pub origin: u64,
    begun: Instant,
}

impl Keep {
    /// Puts the finished file in place, for the next process to find.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(super) fn complete(self, restored: Restored) -> Result<(), Failure> {
        let completed = self.keeping.complete();
        completed.map_err(|why| unkept(&self.path, why))?;
        let Some(kept) = self.kept else {
            return Ok(());
        };
        let away = kept.away(machine_clock());
        tracing::info!(
            connections = restored.connections,
            templates = restored.templates,
            away_ms = away.as_millis(),
            took_ms = self.begun.elapsed().as_millis(),
            "connections from before the restart go on"
        );
        let Restored {
            connections: _,
            templates: _,
            torn,
            unknown,
            unplaced,
            full,
        } = restored;
        if torn + unknown + unplaced + full > 0 {
            tracing::warn!(
                unknown,
                unplaced,
                full,
                torn,
                "connections from before the restart end: see docs/restart.md"
            );
        }
        Ok(())
    }
}

fn unkept(path: &Path, why: Unkept) -> Failure {
    Failure::Unkept {
        path: path.to_owned(),
        why,
    }
}

/// Nanoseconds since the machine was started, those that it slept among them.
fn machine_clock() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The id of the machine's boot; zeros where the kernel does not say it.
fn boot() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let digits = text.unwrap_or_default().replace('-', "");
    let id = u128::from_str_radix(digits.trim(), 16);
    id.unwrap_or_default().to_be_bytes()
}
