//! What becomes of a service's servers, each by its name.

use super::{Detail, Details, Kind, Model, key, place};
use crate::config::{RealConfig, ServiceConfig};
use crate::service::{Admin, Role, ServiceKey};
use std::collections::BTreeMap;

impl Model {
    /// What becomes of the real servers and the fallback servers; one that goes from the one to the other stays.
    pub(super) fn plan_reals(
        &self,
        before: &ServiceConfig,
        after: &ServiceConfig,
        plan: &mut Details,
    ) {
        let mut old: BTreeMap<_, _> = roles(before)
            .map(|(it, role)| (place(it), (it, role)))
            .collect();
        for (server, role) in roles(after) {
            match old.remove(&place(server)) {
                None => plan.push(Detail {
                    new: (role == Role::Real).then(|| format!("weight {}", server.weight)),
                    ..Detail::of_server(Kind::Added, after, server, role)
                }),
                Some((_, former)) if former != role => plan.push(Detail {
                    key: Some("role"),
                    old: Some(former.name().to_owned()),
                    new: Some(role.name().to_owned()),
                    note: self.meets(&key(after), server),
                    ..Detail::of_server(Kind::Changed, after, server, role)
                }),
                Some((former, _)) => self.plan_server(former, (after, server, role), plan),
            }
        }
        for (server, role) in roles(before).filter(|(it, _)| old.contains_key(&place(it))) {
            let its = key(before);
            let is_edited = self.told(&its, server).is_some();
            let note = is_edited.then(|| "what `weir` was told of it is forgotten".to_owned());
            let detail = Detail {
                note,
                ..Detail::of_server(Kind::Removed, before, server, role)
            };
            plan.push(detail.with_ended(before.protocol, self.live(&its, server)));
        }
    }

    /// The keys that differ of a server that stays.
    fn plan_server(
        &self,
        former: &RealConfig,
        (service, server, role): (&ServiceConfig, &RealConfig, Role),
        plan: &mut Details,
    ) {
        let of = Detail::of_server(Kind::Changed, service, server, role);
        if former.weight != server.weight {
            plan.push(Detail {
                key: Some("weight"),
                old: Some(former.weight.to_string()),
                new: Some(server.weight.to_string()),
                note: self.meets(&key(service), server),
                ..of.clone()
            });
        }
        let numbers = |real: &RealConfig| {
            let thresholds = real.thresholds;
            let max = thresholds.map(|it| it.max.to_string());
            let min = thresholds.filter(|it| it.min > 0);
            (max, min.map(|it| it.min.to_string()))
        };
        let (old, new) = (numbers(former), numbers(server));
        plan.key(&of, "max_connections", old.0, new.0);
        plan.key(&of, "min_connections", old.1, new.1);
        let id = |real: &RealConfig| real.server_id.as_ref().map(|id| id.to_string());
        plan.key(&of, "server_id", id(former), id(server));
    }

    /// What an operator has said of a real server: its admin state and weight.
    fn told(&self, service: &ServiceKey, real: &RealConfig) -> Option<(Admin, Option<u16>)> {
        let id = self.services.id(service, (real.address, real.port))?;
        let state = self.state(id).filter(|state| state.is_edited())?;
        Some((state.admin, state.weight))
    }

    /// What keeps a real server's weight in the file from counting.
    fn meets(&self, service: &ServiceKey, real: &RealConfig) -> Option<String> {
        let (admin, weight) = self.told(service, real)?;
        let mut all = Vec::new();
        if let Some(weight) = weight {
            all.push(format!("runtime weight {weight}"));
        }
        if admin != Admin::Enabled {
            all.push(admin.name().to_owned());
        }
        Some(format!("{} until `weir enable`", all.join(", ")))
    }

    /// Live connections of a real server.
    pub(super) fn live(&self, service: &ServiceKey, real: &RealConfig) -> u32 {
        let id = self.services.id(service, (real.address, real.port));
        let (active, inactive) = id.map_or((0, 0), |id| self.stats.load(id));
        active + inactive
    }
}

/// The servers of a service, with what they are to it.
fn roles(service: &ServiceConfig) -> impl Iterator<Item = (&RealConfig, Role)> {
    let reals = service.reals.iter().map(|it| (it, Role::Real));
    let fallback = service.fallback.iter();
    reals.chain(fallback.map(|it| (it, Role::Fallback)))
}
