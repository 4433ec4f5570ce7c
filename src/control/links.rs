//! Watches the ports' links: every 50 ms for the workers, which send nothing by a dead one, and once a second for the log.

use crate::io::dpdk::Device;
use crate::units::Time;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);
/// A dead link takes its real servers out within 100 ms.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a link may take to come up after the start: copper negotiates for two to four seconds.
const GRACE: Duration = Duration::from_secs(8);

/// What became of each port's link.
#[derive(Debug)]
pub(super) struct Links {
    due: Time,
    /// When the links are glanced at next.
    glance_due: Time,
    /// Which links have been up since the start.
    have_been_up: Vec<bool>,
    /// Until then a link that was never up is not reported.
    patience: Time,
    ports: Vec<(String, State)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Not up yet since the start.
    Starting,
    Down,
    /// The kernel's interface behind the device does not exist any more.
    Gone,
    /// The device was pulled out of the PCI bus.
    Unplugged,
}

/// Ports, by their numbers, whose link is another than a second ago.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub came_up: Vec<usize>,
    pub unplugged: Vec<usize>,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Starting => "starting",
            State::Down => "down",
            State::Gone => "gone",
            State::Unplugged => "unplugged",
        }
    }
}

/// What a port was before.
fn name(state: Option<State>) -> &'static str {
    state.unwrap_or(State::Starting).name()
}

impl Links {
    pub(super) fn new(now: Time) -> Self {
        Links {
            due: now,
            glance_due: now,
            have_been_up: Vec::new(),
            patience: now + GRACE,
            ports: Vec::new(),
        }
    }

    /// Whether each of the devices' links is dead; none when it is not time yet. One that has not come up since the start is
    /// given some time.
    pub(super) fn glance<'a>(
        &mut self,
        devices: impl Iterator<Item = &'a Device>,
        now: Time,
    ) -> Option<Vec<bool>> {
        if now < self.glance_due {
            return None;
        }
        self.glance_due = now + GLANCE;
        let up = devices.map(|it| !it.is_unplugged() && !it.is_gone() && it.link().up);
        Some(self.dead(&up.collect::<Vec<_>>(), now))
    }

    fn dead(&mut self, up: &[bool], now: Time) -> Vec<bool> {
        self.have_been_up.resize(up.len(), false);
        let links = up.iter().zip(&mut self.have_been_up);
        let dead = links.map(|(is_up, has_been_up)| {
            *has_been_up |= is_up;
            !is_up && (*has_been_up || now >= self.patience)
        });
        dead.collect()
    }

    /// `ports`: the names, and the devices, which several may be on. None when it is not time yet.
    pub(super) fn tick<'a>(
        &mut self,
        ports: impl Iterator<Item = (&'a str, &'a Device)>,
        now: Time,
    ) -> Option<Changes> {
        if now < self.due {
            return None;
        }
        self.due = now + PERIOD;
        let state = |port: &Device| {
            if port.is_unplugged() {
                State::Unplugged
            } else if port.is_gone() {
                State::Gone
            } else if port.link().up {
                State::Up
            } else {
                State::Down
            }
        };
        let states = ports.map(|(name, device)| (name.to_owned(), state(device)));
        Some(self.note(states.collect(), now))
    }

    fn note(&mut self, mut found: Vec<(String, State)>, now: Time) -> Changes {
        let mut changes = Changes::default();
        for (n, (port, state)) in found.iter_mut().enumerate() {
            let before = self.ports.get(n).map(|(_, before)| *before);
            if *state == State::Down
                && matches!(before, None | Some(State::Starting))
                && now < self.patience
            {
                *state = State::Starting;
            }
            match (before, *state) {
                (Some(before), state) if state == before => {}
                // Nothing comes back under its old name: DPDK has given it up.
                (Some(State::Unplugged), _) => *state = State::Unplugged,
                (None, State::Up) | (_, State::Starting) => {}
                (before, State::Up) => {
                    match before {
                        Some(State::Starting) => tracing::info!(port, "the link is up"),
                        _ => tracing::info!(
                            port,
                            was = name(before),
                            now = "up",
                            "the link is up again"
                        ),
                    }
                    changes.came_up.push(n);
                }
                (before, State::Down) => {
                    tracing::warn!(port, was = name(before), now = "down", "the link is down")
                }
                (before, State::Gone) => tracing::error!(
                    port,
                    was = name(before),
                    "the device is gone: weir has to start again to make or find it anew"
                ),
                (_, State::Unplugged) => {
                    tracing::error!(
                        port,
                        "the device is unplugged: the port is given up, the others go on; weir has to start again to use \
                         another one"
                    );
                    changes.unplugged.push(n);
                }
            }
        }
        self.ports = found;
        changes
    }

    /// Whether packets can be expected to pass.
    pub(super) fn is_up(&self, port: usize) -> bool {
        self.ports
            .get(port)
            .is_some_and(|(_, state)| *state == State::Up)
    }

    pub(super) fn down(&self) -> Vec<&str> {
        self.with(|state| matches!(state, State::Down | State::Starting))
    }

    pub(super) fn gone(&self) -> Vec<&str> {
        self.with(|state| state == State::Gone)
    }

    pub(super) fn unplugged(&self) -> Vec<&str> {
        self.with(|state| state == State::Unplugged)
    }

    fn with(&self, wanted: impl Fn(State) -> bool) -> Vec<&str> {
        let ports = self.ports.iter().filter(|(_, state)| wanted(*state));
        ports.map(|(port, _)| port.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn links_that_are_down_and_devices_that_are_gone_are_told_apart() {
        let mut links = Links::new(at(0));
        assert!(links.down().is_empty() && links.gone().is_empty());
        let found = |wan, lan| vec![("wan".to_owned(), wan), ("lan".to_owned(), lan)];
        links.note(found(State::Down, State::Up), at(20));
        assert_eq!((links.down(), links.gone()), (vec!["wan"], vec![]));
        links.note(found(State::Up, State::Gone), at(21));
        assert_eq!((links.down(), links.gone()), (vec![], vec!["lan"]));
    }

    #[test]
    fn a_link_is_dead_once_it_was_up_or_its_time_is_over() {
        let mut links = Links::new(at(0));
        let steps = [
            (0, [false, true], [false, false]),
            (3, [false, false], [false, true]),
            (4, [true, true], [false, false]),
            (5, [false, true], [true, false]),
        ];
        for (time, up, dead) in steps {
            assert_eq!(links.dead(&up, at(time)), dead, "{time}");
        }
        assert_eq!(Links::new(at(0)).dead(&[false], at(8)), [true]);
    }

    #[test]
    fn a_link_comes_up_in_its_time_and_an_unplugged_device_never_again() {
        use State::{Down, Starting, Unplugged, Up};
        let mut links = Links::new(at(0));
        /// When, what is found, what it counts as; whether it came up or was unplugged just then.
        type Step = (u64, State, State, bool, bool);
        let steps: [Step; 9] = [
            (0, Down, Starting, false, false),
            (3, Down, Starting, false, false),
            (4, Up, Up, true, false),
            (5, Up, Up, false, false),
            (6, Down, Down, false, false),
            (9, Down, Down, false, false),
            (10, Up, Up, true, false),
            (11, Unplugged, Unplugged, false, true),
            (12, Down, Unplugged, false, false),
        ];
        for (time, found, state, came_up, unplugged) in steps {
            let changes = links.note(vec![("wan".to_owned(), found)], at(time));
            assert_eq!(links.ports[0].1, state, "{time}");
            assert_eq!(changes.came_up.len(), usize::from(came_up), "{time}");
            assert_eq!(changes.unplugged.len(), usize::from(unplugged), "{time}");
        }
        let mut links = Links::new(at(0));
        links.note(vec![("wan".to_owned(), Down)], at(0));
        assert_eq!(links.down(), ["wan"], "not ready before its link is up");
        links.note(vec![("wan".to_owned(), Down)], at(8));
        assert_eq!(links.ports[0].1, Down, "patience ends");
    }
}
