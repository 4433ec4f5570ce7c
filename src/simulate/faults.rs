//! What faults do to the nodes, the router and the configuration, and how that ends.

use super::plan::{Fault, Kind, What};
use super::report::Excuse;
use super::world::{Event, World};
use super::{Failed, MILLISECOND};
use crate::config::{RealConfig, ServiceConfig};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// Between the changes of two nodes' configurations.
const APART: u64 = 50 * MILLISECOND;

impl World<'_> {
    /// Whether what a fault names is there.
    pub(super) fn find(&self, number: usize, fault: &Fault) -> Result<(), Failed> {
        let unknown = |what: String| {
            let number = number + 1;
            Err(Failed::Unknown { number, what })
        };
        match &fault.what {
            What::Kill { node, .. } | What::Silence { node, .. } | What::Drain { node, .. } => {
                match *node < self.nodes.len() {
                    true => Ok(()),
                    false => unknown(format!("node {node}")),
                }
            }
            What::Remove { service, real, .. } | What::Weight { service, real, .. } => {
                let mut named =
                    (self.setup.config.services.iter()).filter(|it| it.name == *service);
                let is_it = |it: &Arc<ServiceConfig>| it.reals.iter().any(|it| is_real(it, *real));
                match named.any(is_it) {
                    true => Ok(()),
                    false => unknown(format!("real server {real} of a service {service:?}")),
                }
            }
        }
    }

    pub(super) fn fault(&mut self, number: usize) {
        let (now, detection) = (self.now, self.plan.detection * MILLISECOND);
        let what = &self.plan.faults[number].what;
        let is_last = |node: usize| {
            let members = self.router.members();
            members.len() == 1 && members.contains(&node)
        };
        let away = match *what {
            What::Kill { node, away } | What::Silence { node, away } => {
                let is_there = self.nodes[node].is_alive() && !self.nodes[node].is_silent;
                if !is_there || is_last(node) && self.nodes.len() > 1 {
                    return;
                }
                match what.kind() {
                    Kind::Kill => {
                        self.count_drops(node);
                        self.nodes[node].die();
                    }
                    _ => self.nodes[node].is_silent = true,
                }
                self.plan(now + detection, Event::Leaves(node));
                away
            }
            What::Drain { node, away } => {
                if !self.router.members().contains(&node) || is_last(node) {
                    return;
                }
                self.router.remove(node);
                away
            }
            What::Remove { away, .. } => {
                self.change_all(number, false);
                away
            }
            What::Weight { .. } => {
                self.change_all(number, false);
                self.note_fault(number);
                return;
            }
        };
        self.note_fault(number);
        self.plan(now + away * MILLISECOND, Event::Over(number));
    }

    pub(super) fn note_fault(&mut self, number: usize) {
        self.latest = Some(number);
        let kind = self.plan.faults[number].what.kind();
        self.report.by_fault.entry(kind).or_default().faults += 1;
    }

    pub(super) fn over(&mut self, number: usize) -> Result<(), Failed> {
        match self.plan.faults[number].what {
            What::Kill { node, .. } => {
                self.nodes[node].start(self.now)?;
                self.latest = Some(number);
                self.plan(self.now, Event::Joins(node));
            }
            What::Silence { node, .. } => {
                self.nodes[node].is_silent = false;
                self.latest = Some(number);
                self.plan(self.now, Event::Joins(node));
            }
            What::Drain { node, .. } => {
                self.latest = Some(number);
                self.plan(self.now, Event::Joins(node));
            }
            What::Remove { .. } => self.change_all(number, true),
            What::Weight { .. } => {}
        }
        Ok(())
    }

    /// Each node gets its change at a time of its own.
    pub(super) fn change_all(&mut self, fault: usize, back: bool) {
        for node in 0..self.nodes.len() {
            let at = self.now + self.random.below(APART);
            self.plan(at, Event::Changes { node, fault, back });
        }
    }

    pub(super) fn change(&mut self, node: usize, fault: usize, back: bool) -> Result<(), Failed> {
        let what = &self.plan.faults[fault].what;
        let (name, real) = match what {
            What::Remove { service, real, .. } | What::Weight { service, real, .. } => {
                (service, *real)
            }
            _ => return Ok(()),
        };
        let original = &self.setup.config.services;
        let mut removes = false;
        self.nodes[node].change(self.now, |config| {
            for service in config.services.iter_mut().filter(|it| it.name == *name) {
                let service = Arc::make_mut(service);
                match *what {
                    What::Weight { weight, .. } => {
                        let mut reals = service.reals.iter_mut();
                        if let Some(it) = reals.find(|it| is_real(it, real)) {
                            it.weight = weight;
                        }
                    }
                    _ if back => {
                        let is_same = |it: &&Arc<ServiceConfig>| {
                            it.name == service.name && it.protocol == service.protocol
                        };
                        let original = original.iter().find(is_same);
                        let reals = original.into_iter().flat_map(|it| &it.reals);
                        let former = std::mem::take(&mut service.reals);
                        let kept = |it: &RealConfig| {
                            let is_it = |kept: &&RealConfig| {
                                (kept.address, kept.port) == (it.address, it.port)
                            };
                            let kept = former.iter().find(is_it);
                            kept.or(is_real(it, real).then_some(it)).cloned()
                        };
                        service.reals = reals.filter_map(kept).collect();
                    }
                    _ => {
                        let serves = |it: &RealConfig| it.weight > 0 && !is_real(it, real);
                        // The last one stays.
                        if service.reals.iter().any(serves) {
                            service.reals.retain(|it| !is_real(it, real));
                            removes = true;
                        }
                    }
                }
            }
        })?;
        let mut changed = Vec::new();
        for (number, service) in self.services.iter_mut().enumerate() {
            if service.config.name == *name {
                service.changes += 1;
                changed.push(number);
            }
        }
        if !removes {
            return Ok(());
        }
        self.latest = Some(fault);
        let alive = self.by_client.values().copied().collect::<BTreeSet<_>>();
        for number in alive {
            let life = &self.lives[number as usize];
            if changed.contains(&life.service) && life.real.is_none_or(|chosen| chosen == real.ip())
            {
                self.touch(number, Excuse::RealRemoved);
            }
        }
        Ok(())
    }
}

fn is_real(config: &RealConfig, real: SocketAddr) -> bool {
    SocketAddr::new(config.address, config.port) == real
}
