"""What scripts/bench says of figures: each goal is met by a good figure, and missed by a bad one, whichever way it counts."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts" / "lib"))
from goals import FOOTPRINT, goals  # noqa: E402

CHANGES = ["a service added", "a real server added", "a service removed", "a weight"]

# Nanoseconds by (case, what), with which every goal is met.
GOOD = {
    **{("known", f"{mode} udp, {n} flows, 100 % forwarded"): 10 for mode in ("nat", "fullnat") for n in (1000, 100000, 1000000)},
    **{("both", f"{mode} udp, {n} flows, 100 % forwarded"): 10 for mode in ("nat", "fullnat") for n in (1000, 100000, 1000000)},
    **{
        ("ipv6", f"{mode} udp, {n} flows, over IPv{family}, 100 % forwarded"): 10
        for mode in ("dr", "nat", "fullnat")
        for n in (1000, 1000000)
        for family in (4, 6)
    },
    ("drops", "known, 100 % forwarded"): 10,
    ("drops", "to an address that weir does not have, 0 % forwarded"): 10,
    ("drops", "to a VIP's port without service, 0 % forwarded"): 10,
    ("drops", "ACK without connection, 0 % forwarded"): 10,
    ("large", "1000000 alive, 1000000 in use, 88 B each"): 10,
    ("large", "10000000 alive, 1000000 in use, 88 B each"): 10,
    ("services", "known, to the only service, 100 % forwarded"): 10,
    ("services", "known, to all of 5000 services, 100 % forwarded"): 10,
    ("routes", "dr to 1 of 10000 services, 1 route, 2 neighbours, 100 % forwarded"): 10,
    ("routes", "dr to 1 of 10000 services, 10000 routes, 10000 neighbours, 100 % forwarded"): 10,
    ("new", "dr udp, 100 % new, 10 alive"): 10,
    ("new", "fullnat udp, 100 % new, 10 alive"): 10,
    ("tcp", "fullnat, 10 connections of 8 packets, and expiry"): 10,
    ("flood", "known connections before the flood, 100 % forwarded"): 10,
    ("flood", "known connections, the table full, 100 % forwarded"): 10,
    ("gap", "nothing, for half a second"): 10,
    ("gap", "listing 10 connections"): 10,
    **{("publish", f"{change}, among {n} services"): 10 for change in CHANGES for n in (0, 1000, 20000, 100000)},
    ("publish", "a weight, mh with 10 real servers"): 10,
}
# With these slower, others look better.
BASES = [
    *(key for key in GOOD if key[0] == "known"),
    *(key for key in GOOD if key[0] == "ipv6" and "IPv4" in key[1]),
    ("drops", "known, 100 % forwarded"),
    ("large", "1000000 alive, 1000000 in use, 88 B each"),
    ("services", "known, to the only service, 100 % forwarded"),
    ("routes", "dr to 1 of 10000 services, 1 route, 2 neighbours, 100 % forwarded"),
    ("flood", "known connections before the flood, 100 % forwarded"),
    ("gap", "nothing, for half a second"),
]
SMALL = {key: [goal / 2] * 3 for key, goal in FOOTPRINT.items()}


def arm(load, program="weir fullnat", traffic="udp", to_5tswap=0.74, own=28, cycles=60, rounds=(1e7, 1e7, 1e7)):
    return {
        "load": load,
        "program": program,
        "traffic": traffic,
        "to_5tswap": to_5tswap,
        "own_cycles": own,
        "cycles": cycles,
        "rounds": rounds,
    }


FAST = [
    *(arm(load) for load in ("1", "1k", "100k", "1m")),
    *(arm(load, traffic=f"udp, polls of {load[-1]}") for load in ("1k-burst1", "1k-burst2", "1k-burst4")),
    *(arm(load, f"weir {mode}", f"udp, IPv{family}") for load in ("1k-ipv6", "1m-ipv6") for mode in ("dr", "fullnat") for family in (4, 6)),
    *(arm("1k-mixed", traffic=traffic) for traffic in ("udp + tcp", "udp", "tcp")),
]


def rows(nanos, forwarding=(), footprint=None, hz=2.6e9):
    return goals(forwarding, {key: [value] * 3 for key, value in nanos.items()}, hz, footprint or {})


def missed(*figures, **more):
    return [row["what"] for row in rows(*figures, **more) if row["met"] is False]


class Goals(unittest.TestCase):
    def test_good_figures_meet_every_goal_and_leave_none_unmeasured(self):
        self.assertEqual([row for row in rows(GOOD, FAST, SMALL) if row["met"] is not True], [])

    def test_what_was_not_measured_is_listed_and_neither_met_nor_missed(self):
        nothing = rows({})
        self.assertEqual({row["met"] for row in nothing}, {None})
        self.assertEqual({row["value"] for row in nothing}, {"not measured"})
        self.assertEqual({row["met"] for row in rows({}, hz=None)}, {None})
        said = {row["what"] for row in rows(GOOD, FAST, SMALL)}
        # Of each change every number of services, of the others by what they are.
        self.assertEqual(
            {row["what"] for row in nothing} - said, {"services: time / the only service's", "routes: time / one route's", "gap: longest gap over idle's"}
        )

    def test_each_figure_alone_says_what_it_can(self):
        for key in GOOD:
            rows({key: 10})

    def test_every_figure_that_gets_much_worse_misses_a_goal(self):
        for key in GOOD.keys() - set(BASES):
            self.assertTrue(missed(GOOD | {key: 1e10}), key)

    def test_a_baseline_that_gets_worse_misses_none(self):
        for key in BASES:
            self.assertEqual(missed(GOOD | {key: 1e4}), [], key)

    def test_a_change_that_takes_twice_as_long_among_many_misses_its_ratio(self):
        for change in CHANGES:
            slow = GOOD | {("publish", f"{change}, among 100000 services"): 20}
            self.assertEqual(missed(slow), [f"publishing {change}: among most / among none"])

    def test_a_flood_must_be_cheaper_than_traffic(self):
        for what in ("to an address that weir does not have", "to a VIP's port without service", "ACK without connection"):
            dear = GOOD | {("drops", f"{what}, 0 % forwarded"): 10.2}
            self.assertEqual(missed(dear), [f"dropped, {what}: time / a known packet's"])

    def test_forwarding_is_held_against_testpmd(self):
        self.assertEqual(missed({}, FAST), [])
        self.assertEqual(missed({}, [arm("1k", to_5tswap=0.72)]), ["fullnat udp, 1,000 flows, net_pcap: rate / 5tswap's"])
        self.assertEqual(missed({}, [arm("1k", own=30)]), ["fullnat udp, 1,000 flows, net_pcap: own cycles"])
        self.assertEqual(missed({}, [arm("1k", own=None)]), [])
        self.assertEqual(missed({}, [arm("1k-burst2", cycles=81)]), ["fullnat udp, polls of 2 packets, net_pcap: cycles"])

    def test_mixed_traffic_is_held_against_the_mean_cost_of_both(self):
        # Costs of 10 and 20 alone: their mean is 15.
        alone = [arm("1k-mixed", traffic="udp", rounds=[1 / 10] * 3), arm("1k-mixed", traffic="tcp", rounds=[1 / 20] * 3)]
        mixed = lambda cost: arm("1k-mixed", traffic="udp + tcp", rounds=[1 / cost] * 3)
        self.assertEqual(missed({}, [*alone, mixed(15.2)]), [])
        self.assertEqual(len(missed({}, [*alone, mixed(15.4)])), 1)
        self.assertEqual(missed({}, [*alone]), [])

    def test_ipv6_is_held_against_ipv4_in_the_same_rounds(self):
        four = [rate for rate in (1.0, 2.0, 4.0)]
        for slower, expected in ((1.34, []), (1.36, ["fullnat, 1,000,000 flows, net_pcap: IPv6's cycles / IPv4's"])):
            both = [arm("1m-ipv6", traffic=f"udp, IPv{family}", rounds=[rate / of for rate in four]) for family, of in ((4, 1), (6, slower))]
            self.assertEqual(missed({}, both), expected)
        slow = GOOD | {("ipv6", "nat udp, 1000 flows, over IPv6, 100 % forwarded"): 13.6}
        self.assertEqual(missed(slow), ["nat, 1,000 flows: IPv6's time / IPv4's"])

    def test_another_weir_in_the_same_rounds_has_no_goals(self):
        slow = dict(to_5tswap=0.1, own=500, cycles=500)
        self.assertEqual(missed({}, [*FAST, *(arm(one["load"], "old/weir fullnat", one["traffic"], **slow) for one in FAST)]), [])
        self.assertEqual({row["met"] for row in rows({}, [arm("1k", "weir-old fullnat")])}, {None})

    def test_each_footprint_has_a_limit(self):
        for key, goal in FOOTPRINT.items():
            self.assertEqual(len(missed({}, footprint=SMALL | {key: [goal * 1.01] * 3})), 1, key)


if __name__ == "__main__":
    unittest.main()
