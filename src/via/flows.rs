//! The checks that are under way: by what the host sends, and by what the real server answers.

use super::header::Ends;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long one may be silent: checks have an end of their own, and connections are closed by a reset.
const SILENCE: Duration = Duration::from_secs(60);
/// One that has been silent for so long may be over: another may have its ports, where there are no others.
const OVER: Duration = Duration::from_secs(2);
/// So many ports are tried for a flow.
const TRIES: u32 = 256;
/// The most of them. Beyond it the oldest is forgotten, which has ended long before.
const MOST: usize = 1 << 17;

/// A check's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// As the host sends.
    pub request: Ends,
    /// As the real server gets it.
    pub sent: Ends,
}

struct Entry {
    flow: Flow,
    seen: Instant,
    serial: u64,
}

#[derive(Default)]
pub(super) struct Flows {
    by_request: HashMap<Ends, Entry>,
    /// By what the real server answers: the host's.
    by_answer: HashMap<Ends, Ends>,
    /// In the order in which they are looked at.
    agenda: VecDeque<(Instant, Ends, u64)>,
    serial: u64,
    /// The port that was given last.
    last_port: u16,
}

impl Flows {
    /// `start`: ports are given from there on.
    pub(super) fn new(start: u16) -> Self {
        Flows {
            last_port: start,
            ..Flows::default()
        }
    }

    pub(super) fn by_request(&mut self, request: &Ends, now: Instant) -> Option<Flow> {
        let entry = self.by_request.get_mut(request)?;
        entry.seen = now;
        Some(entry.flow)
    }

    pub(super) fn by_answer(&mut self, answer: &Ends, now: Instant) -> Option<Flow> {
        let request = *self.by_answer.get(answer)?;
        self.by_request(&request, now)
    }

    /// Makes a flow, in the place of a former one: from one of `sources` and a port between `first` and `last` that no other has
    /// towards that destination; where there is none at hand, those of the oldest one that is silent. None if none is.
    pub(super) fn add(
        &mut self,
        request: Ends,
        sources: &[IpAddr],
        (first, last): (u16, u16),
        destination: (IpAddr, u16),
        now: Instant,
    ) -> Option<Flow> {
        self.remove(&request);
        let ports = u32::from(last - first) + 1;
        let sent = (0..ports.min(TRIES)).find_map(|_| {
            self.last_port = match self.last_port.wrapping_add(1) {
                next if (first..=last).contains(&next) => next,
                _ => first,
            };
            sources.iter().find_map(|source| {
                let sent = Ends {
                    source: (*source, self.last_port),
                    destination,
                    protocol: request.protocol,
                };
                (!self.by_answer.contains_key(&sent.reversed())).then_some(sent)
            })
        });
        let sent = match sent {
            Some(sent) => sent,
            None => self.take_over(request.protocol, sources, destination, now)?,
        };
        if self.by_request.len() >= MOST {
            self.forget_oldest();
        }
        self.serial += 1;
        let (flow, serial) = (Flow { request, sent }, self.serial);
        self.by_answer.insert(sent.reversed(), request);
        self.by_request.insert(
            request,
            Entry {
                flow,
                seen: now,
                serial,
            },
        );
        self.agenda.push_back((now + SILENCE, request, serial));
        Some(flow)
    }

    /// The ends of the oldest flow to a destination that has been silent for a while, which is over then.
    fn take_over(
        &mut self,
        protocol: u8,
        sources: &[IpAddr],
        destination: (IpAddr, u16),
        now: Instant,
    ) -> Option<Ends> {
        let found = self.agenda.iter().find_map(|(_, request, serial)| {
            let entry = self.by_request.get(request)?;
            let sent = entry.flow.sent;
            let fits = sent.protocol == protocol
                && sent.destination == destination
                && sources.contains(&sent.source.0);
            let is_silent = now.saturating_duration_since(entry.seen) >= OVER;
            (fits && is_silent && entry.serial == *serial).then_some((*request, sent))
        });
        let (request, sent) = found?;
        self.remove(&request);
        Some(sent)
    }

    fn remove(&mut self, request: &Ends) {
        if let Some(entry) = self.by_request.remove(request) {
            self.by_answer.remove(&entry.flow.sent.reversed());
        }
    }

    fn forget_oldest(&mut self) {
        while let Some((_, request, serial)) = self.agenda.pop_front() {
            if self
                .by_request
                .get(&request)
                .is_some_and(|it| it.serial == serial)
            {
                self.remove(&request);
                return;
            }
        }
    }

    /// Forgets those that have been silent.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some((due, request, serial)) = self.agenda.front().copied() {
            if due > now {
                return;
            }
            self.agenda.pop_front();
            let Some(entry) = self.by_request.get(&request) else {
                continue;
            };
            let due = entry.seen + SILENCE;
            if entry.serial != serial {
                // Another's, which has a place of its own.
            } else if due > now {
                self.agenda.push_back((due, request, serial));
            } else {
                self.remove(&request);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.by_request.len(), self.by_answer.len())
    }
}
