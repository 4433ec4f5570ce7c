//! What clients' connections say of real servers: taken in, published, and said.

use super::Model;
use super::services::{Outcome, Passed};
use crate::config::PassiveConfig;
use crate::log::{Reports, Said};
use crate::service::ServiceKey;
use crate::stats::Failure;
use crate::units::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// Real servers that are told apart in the log.
pub(super) const SUBJECTS: usize = 256;

/// Of a real server of a service, by its name.
pub(super) type Lines = Reports<(String, SocketAddr), Passed>;

impl Model {
    /// How many real servers are held now, and how often one was.
    pub fn holds(&self) -> (u64, u64) {
        self.services.holds()
    }

    /// The real servers that are held, of one service only if it is named: by which rule, and how long they have been.
    pub fn held(
        &self,
        only: Option<&ServiceKey>,
        now: Time,
    ) -> Vec<(ServiceKey, SocketAddr, PassiveConfig, Duration)> {
        let all = self.services.held(only, now).into_iter();
        all.map(|(key, (address, port), config, since)| {
            (key, SocketAddr::new(address, port), config, since)
        })
        .collect()
    }

    /// How many connections of watched real servers have failed, by the way.
    pub fn failures(&self) -> [(&'static str, u64); Failure::ALL.len()] {
        Failure::ALL.map(|kind| {
            let count = self.stats.total(|it| it.failures[kind as usize].get());
            (kind.name(), count)
        })
    }

    /// Takes in what workers have seen of clients' connections.
    pub(super) fn watch(&mut self, now: Time) {
        let all = self.services.watch(self.publisher.current(), now);
        if all.iter().any(|it| it.outcome != Outcome::Spared) {
            self.publish(|_| {});
        }
        for passed in all {
            let service = self.services.get(&passed.key);
            let name = service.map_or_else(String::new, |service| service.name.to_string());
            let subject = (name, SocketAddr::new(passed.at.0, passed.at.1));
            if let Some(said) = self.passed.note(subject.clone(), passed, now) {
                say(&subject, &said);
            }
        }
        let due = self.passed.tick(now);
        due.subjects
            .iter()
            .for_each(|(subject, said)| say(subject, said));
        if due.others > 0 {
            tracing::warn!(
                changes = due.others,
                "still more real servers were held, or came back: see weir show reals"
            );
        }
    }
}

fn say((service, real): &(String, SocketAddr), said: &Said<Passed>) {
    let (times, reason) = (said.count, &*said.last.reason);
    match said.last.outcome {
        Outcome::Held(hold) => {
            let hold = humantime::format_duration(hold);
            tracing::warn!(service, %real, times, "real server gets no new connections for {hold}: {reason}");
        }
        Outcome::Spared => {
            tracing::warn!(service, %real, times, "real server is the last available one, and goes on: {reason}");
        }
        Outcome::Back => {
            tracing::info!(service, %real, times, "real server gets new connections again: its time is over");
        }
        Outcome::Needed => {
            tracing::warn!(service, %real, times, "real server gets new connections again: no other one is available");
        }
    }
}
