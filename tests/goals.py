"""What scripts/bench says of figures: each goal is met by a good figure, and missed by a bad one, whichever way it counts."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts" / "lib"))
from goals import goals  # noqa: E402

CHANGES = ["a service added", "a real server added", "a service removed", "a weight"]

# Nanoseconds by (case, what), with which every goal is met.
GOOD = {
    **{("known", f"{mode} udp, {n} flows, 100 % forwarded"): 10 for mode in ("nat", "fullnat") for n in (1000, 100000, 1000000)},
    **{("both", f"{mode} udp, {n} flows, 100 % forwarded"): 10 for mode in ("nat", "fullnat") for n in (1000, 100000, 1000000)},
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
    ("reload", "start to ready"): 10,
    ("reload", "reload"): 10,
    ("gap", "nothing, for half a second"): 10,
    ("gap", "listing 10 connections"): 10,
    **{("publish", f"{change}, among {n} services"): 10 for change in CHANGES for n in (0, 1000, 20000, 100000)},
    ("publish", "a weight, mh with 10 real servers"): 10,
}
# With these slower, others look better.
BASES = [
    *(key for key in GOOD if key[0] == "known"),
    ("large", "1000000 alive, 1000000 in use, 88 B each"),
    ("services", "known, to the only service, 100 % forwarded"),
    ("routes", "dr to 1 of 10000 services, 1 route, 2 neighbours, 100 % forwarded"),
    ("flood", "known connections before the flood, 100 % forwarded"),
    ("gap", "nothing, for half a second"),
]


def missed(nanos, forwarding=()):
    rows = goals(forwarding, {key: [value] * 3 for key, value in nanos.items()}, 2.6e9)
    return [row["what"] for row in rows if not row["met"]]


class Goals(unittest.TestCase):
    def test_good_figures_meet_every_goal(self):
        self.assertEqual(missed(GOOD), [])

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

    def test_forwarding_is_held_against_testpmd(self):
        arm = lambda ratio, own: {"program": "weir fullnat", "flows": 1000, "length": 64, "to_5tswap": ratio, "own_cycles": own}
        self.assertEqual(missed({}, [arm(0.74, 28)]), [])
        self.assertEqual(missed({}, [arm(0.72, 28)]), ["fullnat udp, 1,000 flows, net_pcap: rate / 5tswap's"])
        self.assertEqual(missed({}, [arm(0.74, 30)]), ["fullnat udp, 1,000 flows, net_pcap: own cycles"])
        self.assertEqual(missed({}, [arm(0.74, None)]), [])


if __name__ == "__main__":
    unittest.main()
