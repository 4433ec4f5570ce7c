//! What a change of the configuration consists of, and what cannot be changed.

use super::from_config::key;
use super::plan::Details;
use super::reach::names;
use crate::config::{self, Config};
use foldhash::{HashMap, HashSet};
use std::sync::Arc;

/// Characters of changes by name in a line of the log.
const MOST_NAMED: usize = 600;

/// What a change consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Changes {
    pub services_added: usize,
    pub services_removed: usize,
    pub services_changed: usize,
    pub reals_added: usize,
    pub reals_removed: usize,
    pub reals_reweighted: usize,
    pub other: Vec<&'static str>,
    /// The same by name, where it was asked for.
    #[serde(flatten)]
    pub details: Details,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// For a line of the log: the first changes by name, and all of them counted.
    pub fn short(&self) -> String {
        if self.details.details.is_empty() {
            return self.to_string();
        }
        let more = self.details.more_details;
        let lines = self.details.details.iter();
        let all = lines
            .map(ToString::to_string)
            .chain((0..more).map(|_| String::new()));
        let mut named: String = names(all);
        if let Some((end, _)) = named.char_indices().nth(MOST_NAMED) {
            named.truncate(end);
            named.push('…');
        }
        format!("{self}: {named}")
    }

    /// What makes `new` of `old`.
    pub fn between(old: &Config, new: &Config) -> Changes {
        let mut changes = Changes::default();
        for (before, after) in different(&old.services, &new.services, |_| false) {
            changes.count_service(before, after);
        }
        let others = [
            (new.reverse_path != old.reverse_path, "reverse_path"),
            (new.unknown_tcp != old.unknown_tcp, "unknown_tcp"),
            (new.state_file != old.state_file, "state_file"),
            (
                new.check_addresses != old.check_addresses,
                "check_addresses",
            ),
            (new.timeouts != old.timeouts, "[timeouts]"),
            (new.limits != old.limits, "[limits]"),
            (new.metrics != old.metrics, "[metrics]"),
            (new.connection_log != old.connection_log, "[connection_log]"),
            (new.ports != old.ports, "addresses of ports"),
            (new.pools != old.pools, "[[local_pool]]"),
            (new.snat != old.snat, "[[snat]]"),
            (new.real_pools != old.real_pools, "[[pool]]"),
            (new.neighbours != old.neighbours, "[[neighbour]]"),
            (new.routes != old.routes, "[[route]]"),
            (new.host_peers != old.host_peers, "[[host_peer]]"),
            (new.health != old.health, "[health.NAME]"),
        ];
        let others = others.into_iter().filter(|(differs, _)| *differs);
        changes.other = others.map(|(_, what)| what).collect();
        changes
    }

    /// Counts what became of a service.
    pub fn count_service(
        &mut self,
        before: Option<&config::ServiceConfig>,
        after: Option<&config::ServiceConfig>,
    ) {
        match (before, after) {
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) => {
                self.services_changed += 1;
                self.count_reals(&before.reals, &after.reals);
            }
            (Some(before), None) => {
                self.services_removed += 1;
                self.reals_removed += before.reals.len();
            }
            (None, Some(after)) => {
                self.services_added += 1;
                self.reals_added += after.reals.len();
            }
            (None, None) => {}
        }
    }

    /// Counts what another change consists of as well.
    pub fn add_counts(&mut self, other: &Changes) {
        self.services_added += other.services_added;
        self.services_removed += other.services_removed;
        self.services_changed += other.services_changed;
        self.reals_added += other.reals_added;
        self.reals_removed += other.reals_removed;
        self.reals_reweighted += other.reals_reweighted;
    }

    /// Counts what became of a service's real servers.
    fn count_reals(&mut self, before: &[config::RealConfig], after: &[config::RealConfig]) {
        let place = |real: &config::RealConfig| (real.address, real.port);
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

/// The former and the present version of every service that differs, or about which `also` says so: those that are gone,
/// then the others in their new order.
pub(super) fn different<'a>(
    old: &'a [Arc<config::ServiceConfig>],
    new: &'a [Arc<config::ServiceConfig>],
    also: impl Fn(&config::ServiceConfig) -> bool,
) -> Vec<(
    Option<&'a config::ServiceConfig>,
    Option<&'a config::ServiceConfig>,
)> {
    let differs = |before: &Arc<config::ServiceConfig>, after: &Arc<config::ServiceConfig>| {
        // Mostly one and the same: see `config::Known`.
        !Arc::ptr_eq(before, after) && before != after || also(after)
    };
    let is_same = |(before, after): &(&Arc<_>, &Arc<_>)| key(before) == key(after);
    let head = old.iter().zip(new).take_while(is_same).count();
    let (old_left, new_left) = (&old[head..], &new[head..]);
    let tail = old_left.iter().rev().zip(new_left.iter().rev());
    let tail = tail.take_while(is_same).count();
    let old_left = &old_left[..old_left.len() - tail];
    let new_left = &new_left[..new_left.len() - tail];
    let before: HashMap<_, _> = old_left.iter().map(|s| (key(s), s)).collect();
    let after: HashSet<_> = new_left.iter().map(|s| key(s)).collect();
    let gone = old_left.iter().filter(|s| !after.contains(&key(s)));
    let mut found: Vec<_> = gone.map(|service| (Some(&**service), None)).collect();
    let mut pair = |before: Option<&'a Arc<_>>, after: &'a Arc<_>| {
        if before.is_none_or(|before| differs(before, after)) {
            found.push((before.map(|service| &**service), Some(&**after)));
        }
    };
    let (head_of_new, rest) = new.split_at(head);
    old.iter()
        .zip(head_of_new)
        .for_each(|(before, after)| pair(Some(before), after));
    new_left
        .iter()
        .for_each(|after| pair(before.get(&key(after)).copied(), after));
    old[old.len() - tail..]
        .iter()
        .zip(&rest[rest.len() - tail..])
        .for_each(|(before, after)| pair(Some(before), after));
    found
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
        let Details {
            connections_reset: reset,
            connections_moved: moved,
            ..
        } = self.details;
        if reset + moved > 0 {
            write!(f, "; connections: {reset} reset, {moved} moved")?;
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

impl NeedsRestart {
    /// Checks that nothing differs between `old` and `new` that a running daemon cannot change.
    ///
    /// # Errors
    ///
    /// The first such difference.
    pub fn check(old: &Config, new: &Config) -> Result<(), NeedsRestart> {
        let refuse = |what: String| Err(NeedsRestart { what });
        if new.dpdk != old.dpdk {
            return refuse("[dpdk]".into());
        }
        if new.api != old.api {
            return refuse("[api]".into());
        }
        if new.connections_file != old.connections_file {
            return refuse("connections_file".into());
        }
        if new.limits.connections != old.limits.connections {
            return refuse("[limits] connections".into());
        }
        let of_fragments = |config: &Config| {
            let limits = &config.limits;
            (
                limits.fragmented_datagrams,
                limits.waiting_fragments,
                limits.waiting_fragment_bytes,
            )
        };
        if of_fragments(new) != of_fragments(old) {
            return refuse(
                "[limits] fragmented_datagrams, waiting_fragments or waiting_fragment_bytes".into(),
            );
        }
        let fixed = |port: &config::PortConfig| {
            (
                port.name.clone(),
                port.device.clone(),
                port.vlan,
                port.mac,
                port.mtu,
                port.queues,
                port.companion.clone(),
            )
        };
        if !new.ports.iter().map(fixed).eq(old.ports.iter().map(fixed)) {
            return refuse(
                "the list of [[port]]s, or the device, vlan, mac, mtu, queues or companion of one,"
                    .into(),
            );
        }
        Ok(())
    }
}
