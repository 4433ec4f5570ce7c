//! Holds each device's counters against weir's own: a device that takes packets and sends none, or receives some and hands
//! none over, is a black hole that nothing else shows.

use crate::io::dpdk::DeviceStats;
use crate::stats::{PortTotals, QueueTotals};
use std::collections::VecDeque;

/// Seconds over which counters are compared.
const WINDOW: usize = 5;
/// Fewer packets in that time prove nothing.
const FEW: u64 = 8;

/// The counters of a device at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The names of the ports on it.
    pub port: String,
    /// None while the link is down, and where the device does not count.
    pub device: Option<DeviceStats>,
    /// Those of its ports together.
    pub own: PortTotals,
}

/// What of a port does not work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stalled {
    pub transmit: bool,
    pub receive: bool,
}

#[derive(Debug, Default)]
pub(super) struct Stalls {
    devices: Vec<DeviceHistory>,
}

#[derive(Debug, Default)]
struct DeviceHistory {
    name: String,
    /// The last seconds with the link up, oldest first.
    past: VecDeque<(DeviceStats, PortTotals)>,
    stalled: Stalled,
}

impl Stalls {
    /// To be called once a second.
    pub(super) fn tick(&mut self, samples: impl Iterator<Item = Sample>) {
        for (n, sample) in samples.enumerate() {
            if n == self.devices.len() {
                self.devices.push(DeviceHistory {
                    name: sample.port.clone(),
                    ..DeviceHistory::default()
                });
            }
            self.devices[n].note(sample);
        }
    }

    pub(super) fn stalled(&self, device: usize) -> Stalled {
        self.devices
            .get(device)
            .map_or(Stalled::default(), |device| device.stalled)
    }

    /// Which ports lose packets, if some do.
    pub(super) fn complaint(&self) -> Option<String> {
        let of = |what: &str, stalls: fn(&Stalled) -> bool| {
            let ports = self.devices.iter().filter(|port| stalls(&port.stalled));
            let names: Vec<_> = ports.map(|port| port.name.as_str()).collect();
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        };
        let sent = of("devices do not send what they take", |stalled| {
            stalled.transmit
        });
        let received = of("devices do not hand over what they receive", |stalled| {
            stalled.receive
        });
        let all: Vec<_> = sent.into_iter().chain(received).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl DeviceHistory {
    fn note(&mut self, sample: Sample) {
        let Some(device) = sample.device else {
            self.past.clear();
            self.stalled = Stalled::default();
            return;
        };
        self.past.push_back((device, sample.own));
        if self.past.len() <= WINDOW {
            return;
        }
        let (first, last) = (&self.past[0], &self.past[WINDOW]);
        let transmit = transmit_stalls(first, &self.past[WINDOW - 1], last);
        let receive = receive_stalls(first, last);
        self.past.pop_front();
        let before = self.stalled;
        if let Some(transmit) = transmit {
            self.stalled.transmit = transmit;
        }
        if let Some(receive) = receive {
            self.stalled.receive = receive;
        }
        let port = &self.name;
        match (before.transmit, self.stalled.transmit) {
            (false, true) => tracing::error!(
                port,
                "the device takes packets and does not send them: see weir show ports, and docs/nics.md for what its driver \
                 needs"
            ),
            (true, false) => tracing::info!(port, "the device sends packets again"),
            _ => {}
        }
        match (before.receive, self.stalled.receive) {
            (false, true) => tracing::error!(
                port,
                "the device receives packets and hands none over: see weir show ports, and docs/nics.md for what its driver \
                 needs"
            ),
            (true, false) => tracing::info!(port, "the device hands packets over again"),
            _ => {}
        }
    }
}

type Counters = (DeviceStats, PortTotals);

/// Whether a queue takes nothing more, or a quarter or more of what the device took has not left it; none if too little was
/// sent to tell. Some devices count a second late: what they took is counted until a second before the last.
fn transmit_stalls(first: &Counters, before_last: &Counters, last: &Counters) -> Option<bool> {
    let since = |then: &Counters, counter: fn(&QueueTotals) -> u64| -> Vec<u64> {
        let queues = then.1.tx.iter().zip(&first.1.tx);
        queues
            .map(|(then, first)| counter(then).saturating_sub(counter(first)))
            .collect()
    };
    let refused = since(last, |queue| queue.refused);
    let taken = since(last, |queue| queue.taken);
    if taken
        .iter()
        .zip(&refused)
        .any(|(taken, refused)| *taken == 0 && *refused >= FEW)
    {
        return Some(true);
    }
    let taken: u64 = since(before_last, |queue| queue.taken).iter().sum();
    let failed = last.0.tx_errors.saturating_sub(first.0.tx_errors);
    let sent = last.0.tx_packets.saturating_sub(first.0.tx_packets) + failed;
    (taken >= FEW).then(|| sent < taken - taken / 4)
}

/// Whether all of what the device received was lost; none if too little came to tell.
fn receive_stalls(first: &Counters, last: &Counters) -> Option<bool> {
    let since =
        |counter: fn(&DeviceStats) -> u64| counter(&last.0).saturating_sub(counter(&first.0));
    let lost = since(|stats| stats.rx_missed) + since(|stats| stats.rx_no_mbuf);
    let came = since(|stats| stats.rx_packets) + lost;
    let polled = last.1.rx_packets.saturating_sub(first.1.rx_packets);
    (came >= FEW || polled >= FEW).then_some(polled == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens in each second: taken and refused of one queue, sent by the device; received by it, missed by it, polled.
    type Second = [u64; 6];

    fn run(seconds: &[(Second, bool)]) -> Vec<Stalled> {
        let (mut guard, mut sum) = (Stalls::default(), [0; 6]);
        let mut found = Vec::new();
        for (second, up) in seconds {
            for (sum, more) in sum.iter_mut().zip(second) {
                *sum += more;
            }
            let [taken, refused, sent, received, missed, rx_packets] = sum;
            let sample = Sample {
                port: "wan".to_owned(),
                device: up.then_some(DeviceStats {
                    tx_packets: sent,
                    rx_packets: received,
                    rx_missed: missed,
                    ..DeviceStats::default()
                }),
                own: PortTotals {
                    rx_packets,
                    tx: vec![
                        QueueTotals {
                            taken: 0,
                            refused: 0,
                        },
                        QueueTotals { taken, refused },
                    ],
                },
            };
            guard.tick(std::iter::once(sample));
            found.push(guard.stalled(0));
            assert_eq!(
                guard.complaint().is_some(),
                found.last() != Some(&Stalled::default())
            );
        }
        found
    }

    #[test]
    fn a_black_hole_is_told_from_a_quiet_link() {
        const FINE: Stalled = Stalled {
            transmit: false,
            receive: false,
        };
        const SENDS_NOT: Stalled = Stalled {
            transmit: true,
            receive: false,
        };
        const GIVES_NOT: Stalled = Stalled {
            transmit: false,
            receive: true,
        };
        let cases: [(&str, Second, Stalled); 12] = [
            ("quiet", [0; 6], FINE),
            ("busy", [1000, 0, 1000, 1000, 0, 1000], FINE),
            ("overloaded", [1000, 500, 1000, 1000, 5000, 1000], FINE),
            (
                "a second queue that loses",
                [1000, 0, 500, 1000, 0, 1000],
                SENDS_NOT,
            ),
            ("nothing leaves", [10, 0, 0, 10, 0, 10], SENDS_NOT),
            ("too little to tell", [1, 0, 0, 1, 0, 1], FINE),
            ("a full queue", [0, 10, 0, 10, 0, 10], SENDS_NOT),
            ("an odd counter", [1000, 0, 1010, 1000, 0, 1000], FINE),
            ("a few lost", [1000, 0, 990, 1000, 10, 990], FINE),
            ("received, not handed over", [0, 0, 0, 10, 0, 0], GIVES_NOT),
            ("all missed", [0, 0, 0, 0, 10, 0], GIVES_NOT),
            (
                "a device that counts nothing received",
                [0, 0, 0, 0, 0, 10],
                FINE,
            ),
        ];
        for (name, second, expected) in cases {
            let found = run(&[(second, true); 10]);
            assert_eq!(found[9], expected, "{name}");
            assert_eq!(
                found[WINDOW - 1],
                FINE,
                "{name}: not before the window is full"
            );
            let down = run(&[(second, false); 10]);
            assert_eq!(down[9], FINE, "{name}: the link is down");
        }
    }

    #[test]
    fn a_device_that_counts_late_is_no_black_hole_and_one_that_recovers_is_none_any_more() {
        let mut late = vec![([100, 0, 0, 0, 0, 0], true)];
        late.extend([([100, 0, 100, 0, 0, 0], true); 10]);
        assert!(run(&late).iter().all(|stalled| !stalled.transmit));
        let mut recovers = vec![([100, 0, 0, 0, 0, 0], true); 8];
        recovers.extend([([100, 0, 100, 0, 0, 0], true); 8]);
        let found = run(&recovers);
        assert!(found[7].transmit && !found[15].transmit);
        // Silence proves nothing.
        let mut silent = vec![([100, 0, 0, 0, 0, 0], true); 8];
        silent.extend([([0; 6], true); 8]);
        assert!(run(&silent)[15].transmit);
    }

    #[test]
    fn one_full_queue_among_others_is_enough() {
        let counters = |busy: u64, refused: u64| -> Counters {
            let device = DeviceStats {
                tx_packets: busy,
                ..DeviceStats::default()
            };
            let (taken, full) = (busy, refused);
            let tx = vec![
                QueueTotals { taken, refused: 0 },
                QueueTotals {
                    taken: 512,
                    refused: full,
                },
            ];
            (device, PortTotals { rx_packets: 0, tx })
        };
        let stalls = |refused| {
            let (first, last) = (counters(1000, 0), counters(9000, refused));
            transmit_stalls(&first, &last, &last)
        };
        assert_eq!(stalls(FEW), Some(true));
        assert_eq!(stalls(FEW - 1), Some(false));
    }
}
