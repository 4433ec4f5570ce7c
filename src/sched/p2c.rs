//! `p2c`: of two real servers that are drawn at random by their weights, the one with the lower cost. That is the active connections
//! that it would have with the new one (of UDP, the flows that it has not answered), times how long it takes to answer, divided by
//! its weight. It asks two or three, however many there are (Mitzenmacher, “The Power of Two Choices in Randomized Load Balancing”, 2001; the cost is that of Finagle's and linkerd's
//! `peak EWMA`, with a mean in the place of the peak).
//!
//! How long a real server takes is [`FirstByte`](crate::stats::FirstByte), where weir sees replies. Connections alone keep a slow one
//! from having a queue; but idle as it then is for much of the time, it would get a request whenever the other one of the
//! two has any. Until both have a time, and where there is none, connections alone count.

use super::draw::Weights;
use super::{Client, Cursor, Kind, Scheduler, Usable, sed, xorshift};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "p2c",
    description: "of two at random the one with fewer active connections for its weight, times how long it takes to answer",
    is_stateless: false,
    new: |reals, _| Box::new(PowerOfTwo(Weights::of(reals))),
};

/// One choice in so many goes by connections alone, so that a real server that was slow is measured again.
const EXPLORES: u32 = 128;

/// Where one of the two takes more than so many times as long as the other there is no choice left: a third is drawn.
const FAR: u64 = 4;

#[derive(Debug)]
struct PowerOfTwo(Weights);

/// What a real server is compared by.
#[derive(Clone, Copy)]
struct Cost {
    place: usize,
    /// Nanoseconds to the first byte of an answer, if they are known.
    nanos: Option<u64>,
    /// Active connections and UDP flows without an answer, with the new one.
    load: u64,
    weight: u64,
}

impl Cost {
    fn is_less_than(&self, other: &Cost) -> bool {
        // At most 2^34 times 2^33 times 2^16.
        let cost = |it: &Cost, nanos: u64, weight: u64| {
            u128::from(it.load) * u128::from(weight) * u128::from(nanos)
        };
        let (own, others) = self.nanos.zip(other.nanos).unwrap_or((1, 1));
        cost(self, own, other.weight) < cost(other, others, self.weight)
    }

    fn without_time(self) -> Cost {
        Cost {
            nanos: None,
            ..self
        }
    }
}

impl Scheduler for PowerOfTwo {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let pair = self.0.two(reals, cursor, usable)?;
        let cost = |place: usize| {
            let delay = sed::delay(&reals[place], stats);
            Cost {
                place,
                nanos: stats.first_byte(cursor.worker, reals[place].id),
                load: delay.load + u64::from(stats.waiting(reals[place].id)),
                weight: delay.weight,
            }
        };
        let lower = |one: Cost, other: Cost| match other.is_less_than(&one) {
            true => other,
            false => one,
        };
        let [one, other] = pair.map(cost);
        let Some((first, second)) = one.nanos.zip(other.nanos) else {
            return Some(lower(one, other).place);
        };
        if cursor.random().is_multiple_of(EXPLORES) {
            return Some(lower(one.without_time(), other.without_time()).place);
        }
        let chosen = lower(one, other);
        let third = match first.max(second) > first.min(second) * FAR {
            true => self.0.another(reals, cursor, usable, pair),
            false => None,
        };
        Some(
            third
                .map_or(chosen, |third| lower(chosen, cost(third)))
                .place,
        )
    }

    fn expect(&self, _: &[Real], _: Client, cursor: &Cursor, _: usize) -> usize {
        self.0.place(xorshift(cursor.seed())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Setting, kinds};
    use super::*;
    use crate::sched::testing::Lab;
    use crate::units::{Millis, WorkerId};
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::time::Duration;

    /// Clients that come by chance, whatever becomes of those before (an open loop), to real servers that work on so many requests
    /// at a time. Times are in microseconds.
    #[derive(Clone, Copy, Debug)]
    struct Farm {
        /// How long a real server works on a request, in the mean: of each.
        work: &'static [f64],
        /// Whether one request takes as long as another.
        is_even: bool,
        at_a_time: usize,
        /// The share of what four real servers of 10 ms can do.
        load: f64,
        workers: u32,
    }

    #[derive(Debug)]
    struct Result {
        /// What 99 % of the requests took at most.
        p99: u64,
        /// How many each real server got, in the second half.
        requests: Vec<usize>,
    }

    const QUICK: f64 = 10_000.0;
    const FOUR: &[f64] = &[QUICK; 4];
    const AND_A_SLOW_ONE: &[f64] = &[QUICK, QUICK, QUICK, QUICK, 10.0 * QUICK];

    impl Farm {
        fn run(self, kind: &str) -> Result {
            let kind = kinds().find(|it| it.name == kind).unwrap();
            let letters = Lab::new("rr", &[1; 8][..self.work.len()]);
            let reals = letters.reals;
            let stats = Stats::new(self.workers as usize).unwrap();
            for real in &reals {
                stats.ensure(real.id);
                stats.ensure_first_byte(real.id);
            }
            let scheduler = (kind.new)(&reals, &Setting::default());
            let cursors: Vec<_> = (0..self.workers)
                .map(|n| Cursor::new(n, self.workers, 0))
                .collect();
            let mut seed = 0x2545_f491;
            let mut chance = || {
                seed = xorshift(seed);
                f64::from(seed) / f64::from(u32::MAX)
            };
            let apart = QUICK / (4.0 * self.at_a_time as f64 * self.load);
            let mut free = vec![BinaryHeap::from(vec![Reverse(0u64); self.at_a_time]); reals.len()];
            let (mut running, mut took, mut clock) = (BinaryHeap::new(), vec![], 0.0);
            let mut requests = vec![0; reals.len()];
            const REQUESTS: u32 = 20_000;
            for n in 0..REQUESTS {
                clock -= chance().ln() * apart;
                let now = clock as u64;
                while let Some(&(Reverse(end), begun, real, worker)) = running.peek()
                    && end <= now
                {
                    running.pop();
                    let counted = stats.worker(WorkerId(worker));
                    counted.loads.get(real).unwrap().active.dec();
                    let took = Duration::from_micros(end - begun);
                    counted
                        .first_bytes
                        .get(real)
                        .unwrap()
                        .answered(took, Millis((end / 1000) as u32));
                }
                let worker = (chance() * 0.999 * f64::from(self.workers)) as u8;
                let cursor = &cursors[usize::from(worker)];
                let client = Client::default();
                let place = scheduler
                    .pick(&reals, client, cursor, &stats, &|_| true)
                    .unwrap();
                let real = reals[place].id.index();
                stats
                    .worker(WorkerId(worker))
                    .loads
                    .get(real)
                    .unwrap()
                    .active
                    .inc();
                let work = match self.is_even {
                    true => self.work[real],
                    false => -chance().ln() * self.work[real],
                };
                let Reverse(free_at) = free[real].pop().unwrap();
                let end = free_at.max(now) + work as u64;
                free[real].push(Reverse(end));
                running.push((Reverse(end), now, real, worker));
                if n >= REQUESTS / 10 {
                    took.push(end - now);
                }
                if n >= REQUESTS / 2 {
                    requests[real] += 1;
                }
            }
            took.sort_unstable();
            Result {
                p99: took[took.len() * 99 / 100],
                requests,
            }
        }
    }

    #[test]
    fn one_slow_real_server_of_five_is_not_felt() {
        for is_even in [true, false] {
            for at_a_time in [1, 8] {
                for load in [0.5, 0.8] {
                    for workers in [1, 4] {
                        let of = |work| Farm {
                            work,
                            is_even,
                            at_a_time,
                            load,
                            workers,
                        };
                        let (four, five) = (of(FOUR).run("p2c"), of(AND_A_SLOW_ONE).run("p2c"));
                        let turns = of(AND_A_SLOW_ONE).run("rr");
                        let ratio = |it: &Result| it.p99 as f64 / four.p99 as f64;
                        println!(
                            "{:?}: {:.2}, by turns {:.0}; {:?}",
                            of(FOUR),
                            ratio(&five),
                            ratio(&turns),
                            five.requests
                        );
                        assert!(ratio(&five) <= 1.3, "{:?}: {five:?}, {four:?}", of(FOUR));
                        assert!(ratio(&turns) > 5.0, "{:?}: {turns:?}, {four:?}", of(FOUR));
                    }
                }
            }
        }
    }

    /// What of 10,000 choices, in the order of A, B, …, each real server gets whose mean is as many milliseconds, with no connection
    /// on any.
    fn chosen(millis: &[Option<u64>]) -> Vec<usize> {
        let lab = Lab::new("p2c", &[1; 8][..millis.len()]);
        let first_bytes = &lab.stats.worker(WorkerId(0)).first_bytes;
        for (real, millis) in millis.iter().enumerate() {
            let cells = first_bytes.ensure(real).unwrap();
            if let Some(millis) = millis {
                cells.answered(Duration::from_millis(*millis), Millis(0));
            }
        }
        let mut chosen = vec![0; millis.len()];
        for _ in 0..10_000 {
            chosen[lab.pick(Client::default()).unwrap().id.index()] += 1;
        }
        chosen
    }

    #[test]
    fn among_idle_ones_the_quickest_of_those_drawn_is_chosen_but_for_a_few() {
        for (millis, expected) in [
            ([Some(10), Some(10), Some(10), Some(10)], [2500; 4]),
            // The second of two equal ones gives way: no time makes no difference.
            ([None; 4], [2500; 4]),
            (
                [Some(10), Some(20), Some(30), Some(39)],
                [5000, 3300, 1700, 0],
            ),
            // Against one that has no time, times do not count.
            ([Some(10), Some(30), None, None], [3300, 1700, 2500, 2500]),
        ] {
            let chosen = chosen(&millis);
            for (count, expected) in chosen.iter().zip(expected) {
                assert!(count.abs_diff(expected) < 300, "{millis:?}: {chosen:?}");
            }
        }
    }

    #[test]
    fn a_slow_one_is_asked_again_now_and_then_and_the_others_share_alike() {
        let chosen = chosen(&[Some(10), Some(10), Some(10), Some(100)]);
        // Half of all pairs have it, and half of those by connections alone choose it.
        assert!((10..40).contains(&chosen[3]), "{chosen:?}");
        assert!(
            chosen[..3].iter().all(|count| count.abs_diff(3330) < 300),
            "{chosen:?}"
        );
    }

    #[test]
    fn weights_connections_and_times_make_up_the_cost() {
        let cost = |nanos, load, weight| Cost {
            place: 0,
            nanos,
            load,
            weight,
        };
        for (less, more) in [
            (cost(Some(10), 3, 1), cost(Some(31), 1, 1)),
            (cost(Some(29), 1, 1), cost(Some(10), 3, 1)),
            (cost(Some(29), 2, 2), cost(Some(10), 3, 1)),
            (cost(None, 1, 1), cost(Some(1), 2, 1)),
            (cost(Some(9), 2, 3), cost(None, 1, 1)),
            (
                cost(Some(10_000_000_000), 1 << 32, 65_535),
                cost(Some(10_000_000_000), (1 << 32) + 1, 65_535),
            ),
        ] {
            assert!(less.is_less_than(&more) && !more.is_less_than(&less));
        }
    }
}
