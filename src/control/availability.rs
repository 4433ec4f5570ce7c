//! Services that have too few real servers, or have enough again: said, and told to the host, which has routes to the VIPs of
//! those that are served.

use super::Control;
use crate::config::{Announce, WhenBelow};
use crate::log::{Reports, Said};
use crate::model::{Turn, names};
use crate::service::{Availability, ServiceKey, Serving};
use crate::tables::Service;
use crate::units::Time;
use crate::view;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Services that are told apart in the log.
const SUBJECTS: usize = 256;

/// Before and after, and the real servers that get nothing.
type Found = (Availability, Availability, String);

pub(super) struct Availabilities {
    reports: Reports<String, Found>,
}

impl Default for Availabilities {
    fn default() -> Self {
        Availabilities {
            reports: Reports::new(SUBJECTS),
        }
    }
}

impl Control {
    /// Says what has become of services, and tells the host which VIPs are served. Returns whether anything has.
    pub(super) fn follow_availability(&mut self, now: Time) -> bool {
        let turns = self.model.take_turns();
        if self.host.is_some() && turns.keys().any(|key| self.is_announced(key)) {
            self.announce_vips();
        }
        for (key, turn) in &turns {
            self.report_turn(key, turn, now);
        }
        let due = self.availabilities.reports.tick(now);
        let lines = due.subjects.iter();
        lines.for_each(|(subject, said)| say(subject, said));
        if due.others > 0 {
            tracing::warn!(
                changes = due.others,
                "still more services came below their minimum, or back"
            );
        }
        !turns.is_empty()
    }

    fn is_announced(&self, key: &ServiceKey) -> bool {
        let service = self.model.configured(key);
        service.is_some_and(|it| it.announce == Announce::WhileHealthy)
    }

    /// Tells the host which VIPs it is to have routes to: those of which any service that asks for it is served.
    pub(super) fn announce_vips(&mut self) {
        let Some(host) = &self.host else { return };
        let config = self.model.config();
        // A change among many services pays for none of them unless they are announced.
        let services: &[_] = match self.model.any_announced() {
            true => &config.services,
            false => &[],
        };
        let asking = services.iter();
        let asking = asking.filter(|it| it.announce == Announce::WhileHealthy);
        let served = asking.filter(|it| {
            let availability = self.model.availability(&crate::model::key(it));
            availability.is_some_and(|it| it.is_served())
        });
        let vips: BTreeSet<IpAddr> = served.map(|it| it.address).collect();
        host.kernel.announce(config, &vips);
    }

    fn report_turn(&mut self, key: &ServiceKey, turn: &Turn, now: Time) {
        let Turn { before, after } = *turn;
        let what = |it: &Availability| (it.is_below, it.serving, has_nothing(it));
        if what(&before) == what(&after) {
            return;
        }
        let Some(service) = self.model.find(key) else {
            return;
        };
        // Services of both protocols that have one name are told apart.
        let name = match self.model.find_services(&service.name).len() {
            0 | 1 => service.name.to_string(),
            _ => format!("{} ({})", service.name, key.protocol.name()),
        };
        let lost = self.unavailable(service);
        let found = (before, after, lost);
        if let Some(said) = self.availabilities.reports.note(name.clone(), found, now) {
            say(&name, &said);
        }
    }

    /// The real servers of a service that are not available, each with the reason.
    pub(super) fn unavailable(&self, service: &Service) -> String {
        let reals = service.reals[..service.own_reals].iter().rev();
        let lost = reals.filter_map(|real| {
            let why = self.why_unavailable(&service.key, real)?;
            Some(format!(
                "{} ({why})",
                SocketAddr::new(real.address, real.port)
            ))
        });
        names(lost)
    }

    /// What a service is as a whole.
    pub(super) fn show_availability(&self, service: &Service) -> view::AvailabilityView {
        let config = self.model.configured(&service.key);
        let found = self.model.availability(&service.key).unwrap_or_default();
        view::AvailabilityView {
            serving: found.name().to_owned(),
            below_minimum: found.is_below,
            available_reals: found.available,
            needed_reals: found.needed,
            when_below: config
                .map_or(WhenBelow::Refuse, |it| it.availability.when_below)
                .name()
                .to_owned(),
            announced: config
                .filter(|it| it.announce == Announce::WhileHealthy)
                .map(|it| {
                    let host = self.host.as_ref();
                    host.is_some_and(|host| host.kernel.is_announced(it.address))
                }),
        }
    }
}

/// Whether new connections go to fallback servers, and none can be used.
fn has_nothing(of: &Availability) -> bool {
    of.serving == Serving::Fallback && of.fallback == 0
}

fn say(service: &str, said: &Said<Found>) {
    let (_, after, unavailable) = &said.last;
    let Availability {
        available, needed, ..
    } = *after;
    let times = said.count;
    let what = match after.serving {
        Serving::Available if after.is_below => "new connections are refused",
        Serving::Available => {
            tracing::info!(service, available, needed, times, "service is served again");
            return;
        }
        Serving::All => "all its real servers are used",
        Serving::Fallback if has_nothing(after) => {
            "new connections are refused, as no fallback server can be used"
        }
        Serving::Fallback => "its fallback servers are used",
        Serving::Refused => "new connections are refused",
    };
    tracing::warn!(
        service,
        available,
        needed,
        unavailable,
        times,
        "service is below its minimum: {what}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::logged;

    #[test]
    fn a_service_is_named_with_what_becomes_of_it_and_whom_it_lacks() {
        let of = |serving, available| Availability {
            serving,
            available,
            needed: 2,
            fallback: 1,
            is_below: available < 2,
        };
        let enough = of(Serving::Available, 2);
        let refused = "below its minimum: new connections are refused";
        for (serving, available, level, message) in [
            (Serving::Available, 2, "INFO", "service is served again"),
            (Serving::Available, 0, "WARN", refused),
            (Serving::Refused, 1, "WARN", refused),
            (
                Serving::All,
                1,
                "WARN",
                "below its minimum: all its real servers are used",
            ),
            (
                Serving::Fallback,
                1,
                "WARN",
                "below its minimum: its fallback servers are used",
            ),
        ] {
            let after = of(serving, available);
            let lost = "10.0.0.11:80 (down)".to_owned();
            let found = (enough, after, lost);
            let lines = logged(|| {
                say(
                    "web",
                    &Said {
                        first: found.clone(),
                        last: found.clone(),
                        count: 1,
                    },
                );
            });
            let [line] = &lines[..] else {
                panic!("{lines:#?}")
            };
            let count = format!("available={available}");
            for part in [level, message, "service=\"web\"", &count, "needed=2"] {
                assert!(line.contains(part), "{line}: {part}");
            }
            assert_eq!(
                line.contains("10.0.0.11:80 (down)"),
                available < 2,
                "{line}"
            );
        }
    }
}
