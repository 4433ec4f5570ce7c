"""Real servers with `max_connections` and `min_connections`, held against the kernel's rule, written down here once more.

`ip_vs_bind_dest` and `ip_vs_unbind_dest` set and clear IP_VS_DEST_F_OVERLOAD as connections come and go; active and inactive ones
count alike. Every scheduler passes over what has the flag.
"""

import random

import lab6
from case import Case, forward, reply, wan
from cases.schedulers import Play
from lab import CLIENT, VIP, A, B, service, tcp, two_arm, udp


def limited(offered, host, most, least=None):
    """The service with thresholds of one of its real servers."""
    lines = f"max_connections = {most}\n" + (f"min_connections = {least}\n" if least is not None else "")
    offered.text = offered.text.replace(f'address = "{host.ip}"\n', f'address = "{host.ip}"\n{lines}', 1)
    return offered


class Limited(Play):
    """Thresholds by letter: (max, min); min 0: three quarters."""

    def __init__(self, scheduler, weights, thresholds, **more):
        super().__init__(scheduler, weights, **more)
        self.full, self.thresholds, self.chosen = set(), thresholds, ""
        for dest in self.dests:
            most, least = thresholds.get(dest.letter, (0, 0))
            lines = f"max_connections = {most}\n" + (f"min_connections = {least}\n" if least else "")
            at = f'address = "{dest.host.ip}"\nweight'
            assert at in self.lb.text
            self.lb.text = self.lb.text.replace(at, at.replace("weight", lines + "weight"), 1)

    def bound(self, dest):
        most, _ = self.thresholds.get(dest.letter, (0, 0))
        if most and dest.active + dest.inactive >= most:
            self.full.add(dest.letter)

    def unbound(self, dest):
        most, least = self.thresholds.get(dest.letter, (0, 0))
        total = dest.active + dest.inactive
        if total < least if least else total * 4 < most * 3:
            self.full.discard(dest.letter)

    def connect(self, count=1, sender=CLIENT, after=0.001):
        for number in range(count):
            weights, before = [dest.weight for dest in self.dests], [dest.active for dest in self.dests]
            for dest in self.dests:
                dest.weight *= dest.letter not in self.full
            kernel, refuses = self.kernel, type("", (), {"pick": lambda _: None})
            self.kernel = kernel if any(dest.weight for dest in self.dests) else refuses
            super().connect(1, sender, after if number == 0 else 0.001)
            self.chosen += next((dest.letter for dest, weight in zip(self.dests, before) if weight != dest.active), "-")
            self.kernel = kernel
            for dest, weight in zip(self.dests, weights):
                dest.weight = weight
                self.bound(dest)
        return self

    def forget(self):
        gone, self.inactive = self.inactive, []
        for dest in gone:
            dest.inactive -= 1
            self.unbound(dest)
        return self


def as_the_kernel_was_seen():
    """rr, -x 2 -y 1 on A: eight held; one of A's reset, four more; all of A's reset, four more; eleven seconds later six more."""
    play = Limited("rr", (1, 1), {"A": (2, 1)}).connect(8)
    play.reset(play.of("A")[0]).connect(4)
    play.reset(*play.of("A")).connect(4)
    play.forget().connect(6, after=11)
    assert play.chosen == "BABABBBB" + "BBBB" + "BBBB" + "ABABBB", play.chosen
    return play.case("thresholds_as_the_kernel_was_seen")


def churn(scheduler, weights, thresholds, seed):
    """Connections come, are reset, and are forgotten, in any order."""
    play, dice = Limited(scheduler, weights, thresholds), random.Random(seed)
    for _ in range(25):
        play.connect(dice.randrange(1, 6))
        if play.open and dice.random() < 0.7:
            play.reset(*dice.sample(range(len(play.open)), dice.randrange(1, len(play.open) + 1)))
        if dice.random() < 0.4:
            play.forget().connect(after=11)
    return play.case(f"thresholds_in_churn_{seed}")


def all_full(mode, protocol, is_six=False):
    play = Limited("rr", (1, 1, 1), {"A": (2, 0), "B": (1, 0), "C": (3, 2)}, mode=mode, protocol=protocol, is_six=is_six)
    return play.connect(9, lab6.CLIENT if is_six else CLIENT).case(f"thresholds_all_full_{mode}_{protocol}_{'v6' if is_six else 'v4'}")


THRESHOLDS = ({"A": (3, 2)}, {"A": (4, 0), "B": (2, 1)}, {"A": (1, 0), "B": (5, 5), "C": (3, 1)})
CASES = [
    as_the_kernel_was_seen(),
    *(churn(scheduler, (3, 2, 1), thresholds, seed) for scheduler in ("rr", "wrr", "lc", "wlc", "sed", "nq")
        for seed, thresholds in enumerate(THRESHOLDS)),
    *(all_full(mode, protocol, is_six) for mode in ("dr", "nat", "fullnat") for protocol in ("tcp", "udp") for is_six in (False, True)),
    Case("a_client_that_persistence_binds_goes_on_to_an_overloaded_real_server",
        two_arm(limited(service("nat", A, B, persistence="{ timeout = 300 }"), B, 1)), [
        wan(tcp(CLIENT, VIP, sport=2000), forward("lan", B, new=True)), wan(tcp(CLIENT, VIP, sport=2001), forward("lan", B, new=True)),
    ]),
    Case("with_a_threshold_of_0_there_is_none", two_arm(limited(service("nat", A, protocol="udp"), A, 0)), [
        wan(udp(CLIENT, VIP, sport=2000 + n), forward("lan", A, new=True)) for n in range(4)
    ]),
    Case("the_only_one_is_full", two_arm(limited(service("nat", A), A, 2)), [
        wan(tcp(CLIENT, VIP, sport=2000 + n), forward("lan", A, new=True) if n < 2 else reply("no_real_server")) for n in range(4)
    ]),
]
