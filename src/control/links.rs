//! Looks at the ports' links once a second.

use crate::io::dpdk::Port;
use crate::units::Time;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);

/// What became of each port's link.
#[derive(Debug, Default)]
pub struct Links {
    due: Time,
    ports: Vec<(String, State)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down,
    /// The device does not exist any more.
    Gone,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
            State::Gone => "gone",
        }
    }
}

impl Links {
    pub fn tick(&mut self, ports: &[Port], now: Time) {
        if now < self.due {
            return;
        }
        self.due = now + PERIOD;
        let state = |port: &Port| match (port.is_gone(), port.link().up) {
            (true, _) => State::Gone,
            (false, true) => State::Up,
            (false, false) => State::Down,
        };
        let states = ports
            .iter()
            .map(|port| (port.name().to_owned(), state(port)));
        self.note(states.collect());
    }

    fn note(&mut self, found: Vec<(String, State)>) {
        for (n, (port, state)) in found.iter().enumerate() {
            let before = self.ports.get(n).map_or(State::Up, |(_, before)| *before);
            match state {
                _ if *state == before => {}
                State::Up => {
                    tracing::info!(
                        port,
                        was = before.name(),
                        now = "up",
                        "the link is up again"
                    );
                }
                State::Down => {
                    tracing::warn!(port, was = before.name(), now = "down", "the link is down");
                }
                State::Gone => tracing::error!(
                    port,
                    was = before.name(),
                    "the device is gone: weir has to start again to make or find it anew"
                ),
            }
        }
        self.ports = found;
    }

    pub fn down(&self) -> Vec<&str> {
        self.with(State::Down)
    }

    pub fn gone(&self) -> Vec<&str> {
        self.with(State::Gone)
    }

    fn with(&self, wanted: State) -> Vec<&str> {
        let ports = self.ports.iter().filter(|(_, state)| *state == wanted);
        ports.map(|(port, _)| port.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_are_down_and_devices_that_are_gone_are_told_apart() {
        let mut links = Links::default();
        assert!(links.down().is_empty() && links.gone().is_empty());
        let found = |wan, lan| vec![("wan".to_owned(), wan), ("lan".to_owned(), lan)];
        links.note(found(State::Down, State::Up));
        assert_eq!((links.down(), links.gone()), (vec!["wan"], vec![]));
        links.note(found(State::Up, State::Gone));
        assert_eq!((links.down(), links.gone()), (vec![], vec!["lan"]));
    }
}
