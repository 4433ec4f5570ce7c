//! Least-connection kinds stay even while real servers come and go, connections end, and several workers share the packets.

use super::frames::{ACK, SYN, tcp};
use super::{PORTS, SECOND, T, parse};
use proptest::prelude::*;
use std::collections::BTreeMap;
use weir::config::Config;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::Verdict;

const RST: u8 = 4;

/// A service of these real servers, by the last number of their addresses, with their weights.
fn config(scheduler: &str, reals: &BTreeMap<u8, u16>) -> Config {
    let mut text = format!(
        "{PORTS}\n[[service]]\nname = \"web\"\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\"\n\
         mode = \"nat\"\nscheduler = \"{scheduler}\"\nslow_start = 0\n"
    );
    for (last, weight) in reals {
        text += &format!(
            "[[service.real]]\naddress = \"10.0.0.{last}\"\nport = 8080\nweight = {weight}\n"
        );
    }
    for last in 11..20 {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    parse(&text)
}

/// What each real server has, active and inactive.
type Held = BTreeMap<u8, (u64, u64)>;

/// The load of one real server, and its weight: the kind's rule, by `ip_vs_lc.c`, `ip_vs_wlc.c` and `ip_vs_sed.c`.
fn share(scheduler: &str, (active, inactive): (u64, u64), weight: u16) -> (u64, u64) {
    match scheduler {
        "lc" => (active * 256 + inactive, 1),
        "wlc" => (active * 256 + inactive, weight.into()),
        _ => (active + 1, weight.into()),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Connect,
    /// The client resets one of its connections.
    Reset(prop::sample::Index),
    /// A real server comes or goes.
    Toggle(u8),
    Weigh(u8, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Connect),
        4 => any::<prop::sample::Index>().prop_map(Step::Reset),
        1 => (11..17u8).prop_map(Step::Toggle),
        1 => (11..17u8, 1..5u16).prop_map(|(real, weight)| Step::Weigh(real, weight)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// No new connection goes to a real server while another has less to do for its weight, whichever worker decides.
    #[test]
    fn each_new_connection_goes_where_least_is_to_do(
        steps in prop::collection::vec(step(), 1..150),
        scheduler in prop::sample::select(vec!["lc", "wlc", "sed"]),
        workers in prop::sample::select(vec![1, 2, 4, 7]),
    ) {
        let mut reals = BTreeMap::from([(11, 1), (12, 2), (13, 1)]);
        let mut replay = Replay::new(&config(scheduler, &reals), workers, 1_000, Time::from_nanos(T)).unwrap();
        // A real server that is away keeps what it has: it is that again when it comes back.
        let (mut held, mut open) = (Held::new(), Vec::new());
        for (n, step) in (0u16..).zip(steps) {
            // All in less time than a reset connection is remembered.
            let now = Time::from_nanos(T + u64::from(n) * SECOND / 100);
            match step {
                Step::Connect => {
                    let decision = replay.receive(PortId(0), &tcp(2000 + n, SYN), now);
                    if reals.is_empty() {
                        prop_assert!(matches!(decision.verdict, Verdict::Reply(..)));
                        replay.take_frames().for_each(drop);
                        continue;
                    }
                    prop_assert!(matches!(decision.verdict, Verdict::Forward(_)), "{decision:?}");
                    let real = replay.take_frames().last().unwrap().bytes()[33];
                    replay.receive(PortId(0), &tcp(2000 + n, ACK), now);
                    let of = |real: &u8| {
                        let its = held.get(real).copied().unwrap_or_default();
                        share(scheduler, its, reals[real])
                    };
                    let (load, weight) = of(&real);
                    for other in reals.keys() {
                        let (others, its) = of(other);
                        prop_assert!(load * its <= others * weight, "{real} before {other}: {held:?} of {reals:?}");
                    }
                    held.entry(real).or_default().0 += 1;
                    open.push((2000 + n, real));
                }
                Step::Reset(which) => {
                    let of_those = |(_, real): &(u16, u8)| reals.contains_key(real);
                    let mut there: Vec<usize> = (0..open.len()).collect();
                    there.retain(|n| of_those(&open[*n]));
                    if there.is_empty() {
                        continue;
                    }
                    let (port, real) = open.remove(*which.get(&there));
                    replay.receive(PortId(0), &tcp(port, RST), now);
                    let (active, inactive) = held.entry(real).or_default();
                    (*active, *inactive) = (*active - 1, *inactive + 1);
                }
                Step::Toggle(real) => {
                    if reals.remove(&real).is_none() {
                        reals.insert(real, 1);
                    }
                    replay.reload(config(scheduler, &reals), now).unwrap();
                }
                Step::Weigh(real, weight) => {
                    if let Some(known) = reals.get_mut(&real) {
                        *known = weight;
                        replay.reload(config(scheduler, &reals), now).unwrap();
                    }
                }
            }
            replay.take_frames().for_each(drop);
            prop_assert_eq!(replay.check(), Ok(()));
        }
    }
}
