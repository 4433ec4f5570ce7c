"""Which real server each new connection goes to, held against the kernel's algorithms, written down here once more.

The kernel adds each real server at the head of its list, so that it walks them from the last one configured to the first.
Nothing here is weir's code: `ip_vs_rr.c`, `ip_vs_wrr.c`, `ip_vs_lc.c`, `ip_vs_wlc.c`, `ip_vs_sh.c` and their siblings are its models.
`mh` differs from `ip_vs_mh.c` on purpose: what is written down here once more is `src/sched/mh.rs`. An IPv6 client is folded to
32 bits as in both: `addr->ip6[0] ^ addr->ip6[1] ^ addr->ip6[2] ^ addr->ip6[3]`.
"""

import dataclasses
import ipaddress
import itertools
import json
import math
import random

import lab
import lab6
from case import Case, forward, lan, reply, wan
from lab import CLIENT, LETTERS, VIP, A, B, C, Host, client, reply_to, service, tcp, two_arm, udp


@dataclasses.dataclass
class Dest:
    letter: str
    weight: int
    active: int = 0
    inactive: int = 0
    port: int = 8080
    host: Host = None

    @property
    def real(self):
        """As `weir replay` writes it."""
        return f"[{self.host.ip}]:{self.port}" if ":" in self.host.ip else f"{self.host.ip}:{self.port}"


class RoundRobin:
    def __init__(self, dests):
        self.dests, self.at = dests, -1

    def pick(self, _):
        for step in range(1, len(self.dests) + 1):
            place = (self.at + step) % len(self.dests)
            if self.dests[place].weight:
                self.at = place
                return self.dests[place]
        return None


class WeightedRoundRobin:
    """As `ipvsadm` builds the service: one real server after another, `dest_changed` after each."""

    def __init__(self, dests):
        self.dests, self.cw, self.at = dests, 0, -1
        for known in range(1, len(dests) + 1):
            weights = [dest.weight for dest in dests[-known:]]
            self.di = math.gcd(*weights) or 1
            self.mw = max(weights) - (self.di - 1) if max(weights) else 0
            if self.cw > self.mw or self.cw == 0:
                self.cw = self.mw
            elif self.di > 1:
                self.cw = self.cw // self.di * self.di + 1

    def pick(self, _):
        if self.mw == 0:
            return None
        while True:
            self.at += 1
            if self.at == len(self.dests):
                self.at, self.cw = -1, self.cw - self.di
                if self.cw <= 0:
                    self.cw = self.mw
            elif self.dests[self.at].weight >= self.cw:
                return self.dests[self.at]


class LeastConnection:
    weighted = False

    def __init__(self, dests):
        self.dests = dests

    def pick(self, _):
        best = None
        for dest in self.dests:
            if dest.weight:
                load = (dest.active << 8) + dest.inactive
                weight = dest.weight if self.weighted else 1
                if best is None or best[0] * weight > load * best[1]:
                    best = (load, weight, dest)
        return best and best[2]


class WeightedLeastConnection(LeastConnection):
    weighted = True


class ShortestExpectedDelay(LeastConnection):
    def pick(self, _):
        best = None
        for dest in self.dests:
            if dest.weight and (best is None or best[0] * dest.weight > (dest.active + 1) * best[1]):
                best = (dest.active + 1, dest.weight, dest)
        return best and best[2]


class NeverQueue(ShortestExpectedDelay):
    def pick(self, address):
        idle = [dest for dest in self.dests if dest.weight and not dest.active]
        return idle[0] if idle else super().pick(address)


class Failover(LeastConnection):
    def pick(self, _):
        return max((dest for dest in self.dests if dest.weight), key=lambda dest: dest.weight, default=None)


class Overflow(LeastConnection):
    def pick(self, _):
        with_room = (dest for dest in self.dests if dest.weight and dest.active <= dest.weight)
        return max(with_room, key=lambda dest: dest.weight, default=None)


class SourceHash:
    """With `sh-fallback`: no client is refused while some real server has a weight."""

    def __init__(self, dests):
        self.port, self.table, place, dealt = 0, [], 0, 0
        for _ in range(256 if dests else 0):
            self.table.append(dests[place])
            dealt += 1
            if dealt >= dests[place].weight:
                place, dealt = (place + 1) % len(dests), 0

    def hash(self, address, offset=0):
        name = (as_number(address) + self.port) % 2**32
        return (offset + ((name * 0x61C88647) % 2**32 >> 24)) % 256

    def pick(self, address):
        first = self.hash(address)
        places = itertools.chain([first], (self.hash(address, (first + step) % 256) for step in range(256)))
        return next((self.table[place] for place in places if self.table[place].weight), None)


class DestinationHash(SourceHash):
    """A bucket each, in turn; what the kernel refuses goes on as with `sh-fallback`."""

    def __init__(self, dests):
        self.port, self.table = 0, [dests[place % len(dests)] for place in range(256)]

    def pick(self, _):
        return super().pick(VIP)


class MaglevHash:
    """The table of up to 40 real servers."""

    size, port = 4093, 0

    def __init__(self, dests):
        dests = sorted((dest for dest in dests if dest.weight), key=self.name)
        self.table, left = {}, [self.order(dest) for dest in dests]
        if not dests:
            return
        common = math.gcd(*(dest.weight for dest in dests))
        weights = [dest.weight // common for dest in dests]
        cost = 1
        while cost * len(dests) < sum(weights):
            cost *= 2
        saved = [max(cost - weight, 0) for weight in weights]
        while len(self.table) < self.size:
            for n, dest in enumerate(dests):
                saved[n] += weights[n]
                while saved[n] >= cost and len(self.table) < self.size:
                    saved[n] -= cost
                    self.table[next(slot for slot in left[n] if slot not in self.table)] = dest

    @staticmethod
    def mix(word):
        """SplitMix64's last step."""
        word = (word + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    @classmethod
    def hash(cls, word):
        """Its upper and its lower half."""
        return divmod(cls.mix(word), 2**32)

    @classmethod
    def name(cls, dest):
        """Address and port, in 64 bits."""
        bits = int(ipaddress.ip_address(dest.host.ip))
        if ":" not in dest.host.ip:
            return bits << 16 | dest.port
        high, low = divmod(bits, 2**64)
        return cls.mix(high ^ cls.mix(low)) ^ dest.port

    def order(self, dest):
        start, step = self.hash(self.name(dest))
        start, step = start * self.size >> 32, 1 + (step * (self.size - 1) >> 32)
        return ((start + turn * step) % self.size for turn in range(self.size))

    def pick(self, address):
        return self.table.get(self.hash(self.port << 32 | as_number(address))[0] * self.size >> 32)


def as_number(address):
    """An address in 32 bits: the four words of an IPv6 one are folded."""
    bits = ipaddress.ip_address(address).packed
    number = 0
    for start in range(0, len(bits), 4):
        number ^= int.from_bytes(bits[start : start + 4], "big")
    return number


KERNEL = {"rr": RoundRobin, "wrr": WeightedRoundRobin, "lc": LeastConnection, "wlc": WeightedLeastConnection, "sh": SourceHash, "mh": MaglevHash}
KERNEL |= {"sed": ShortestExpectedDelay, "nq": NeverQueue, "fo": Failover, "ovf": Overflow, "dh": DestinationHash}


class Play:
    """Steps of a case, and beside them what the kernel would do."""

    def __init__(self, scheduler, weights, mode="nat", protocol="tcp", is_six=False, flags=()):
        hosts = dict(zip("ABCD", (lab6.A, lab6.B, lab6.C, lab6.D))) if is_six else LETTERS
        real_port = 80 if mode == "dr" else 8080
        self.dests = [Dest(letter, weight, port=real_port, host=hosts[letter]) for letter, weight in zip(hosts, weights)]
        reals = [dest.host for dest in self.dests]
        two_arms, offered = (lab6.two_arm, lab6.service) if is_six else (two_arm, service)
        self.lb = two_arms(offered(mode, *reals, scheduler=scheduler, weights=weights, protocol=protocol, flags=json.dumps(flags)))
        self.kernel = KERNEL[scheduler](self.dests[::-1])
        packets, self.vip = (lab6, lab6.VIP) if is_six else (lab, VIP)
        self.make = packets.tcp if protocol == "tcp" else packets.udp
        self.mode, self.steps, self.open, self.next_port, self.inactive = mode, [], [], 2000, []
        self.scheduler, self.weights, self.by_port = scheduler, weights, f"{scheduler}-port" in flags

    def connect(self, count=1, sender=CLIENT, after=0.001):
        for number in range(count):
            self.next_port += 1
            if self.by_port:
                self.kernel.port = self.next_port
            dest = self.kernel.pick(sender.ip)
            sent = self.make(sender, self.vip, sport=self.next_port)
            if dest is None:
                expect = reply("no_real_server")
            else:
                dest.active += 1
                expect = forward("lan", dest.host, new=True, real=dest.real)
                self.open.append((dest, sender, self.next_port))
            self.steps.append(wan(sent, expect, after=after if number == 0 else 0.001))
        return self

    def reset(self, *which):
        """The client completes the handshake of its connections and resets them: CLOSE, which is inactive."""
        for dest, sender, sport in [self.open[n] for n in which]:
            self.steps.append(wan(tcp(sender, VIP, "A", sport=sport), forward("lan", LETTERS[dest.letter], new=False, state="established")))
            self.steps.append(wan(tcp(sender, VIP, "R", sport=sport), forward("lan", LETTERS[dest.letter], new=False, state="close")))
            dest.active, dest.inactive = dest.active - 1, dest.inactive + 1
            self.inactive.append(dest)
        self.open = [entry for n, entry in enumerate(self.open) if n not in which]
        return self

    def of(self, letter):
        return [n for n, (dest, *_) in enumerate(self.open) if dest.letter == letter]

    def forget(self):
        """CLOSE lasts 10 seconds."""
        for dest in self.inactive:
            dest.inactive -= 1
        self.inactive = []
        return self

    def case(self, name):
        return Case(f"{self.scheduler}_{'_'.join(map(str, self.weights))}_{name}", self.lb, self.steps)


def ports_of_a_client(scheduler, weights):
    """With `sh-port` or `mh-port` every port of a client is a client of its own."""
    return Play(scheduler, weights, flags=(f"{scheduler}-port", f"{scheduler}-fallback")).connect(40).case("ports_of_a_client")


def kept_open(scheduler, weights, count=None):
    return Play(scheduler, weights).connect(count or min(40, 2 * max(sum(weights), 6))).case("kept_open")


def opened_and_reset(scheduler, weights):
    """Some held, those of A reset, more opened; then one reset after each."""
    play = Play(scheduler, weights).connect(2 * len(weights))
    play.reset(*play.of("A")).connect(2 * len(weights))
    for _ in range(6):
        play.connect().reset(len(play.open) - 1)
    return play.case("opened_and_reset")


def each_reset_before_the_next(scheduler, weights):
    play = Play(scheduler, weights)
    for _ in range(4 * len(weights)):
        play.connect().reset(0)
    return play.case("each_reset_before_the_next")


def after_the_closed_ones_are_forgotten(scheduler, weights):
    play = Play(scheduler, weights).connect(6)
    play.reset(*range(5)).forget().connect(9, after=20)
    return play.case("closed_ones_forgotten")


def sources(scheduler, weights, mode="nat", protocol="tcp"):
    """Clients all over the address space; each twice, from another port: the same real server."""
    play = Play(scheduler, weights, mode, protocol)
    clients = [client(n) for n in range(1, 40)] + [Host(f"{n * 7 % 223 + 1}.{n * 31 % 256}.{n * 97 % 256}.{n * 13 % 254 + 1}", CLIENT.mac) for n in range(1, 60)]
    for sender in [sender for sender in clients if not sender.ip.startswith(("10.", "127.", "192.0.2.", "198.51.100."))]:
        play.connect(2, sender)
    return play.case(f"clients_all_over_{mode}_{protocol}")


def sources_in_ipv6(scheduler, weights, mode="nat", protocol="tcp"):
    """The same of IPv6 clients: of one subnet, of one prefix whose subnets differ, and from all over, each of whose words counts."""
    play, dice = Play(scheduler, weights, mode, protocol, is_six=True), random.Random(scheduler)
    numbers = [0x20010DB8_00070000_00000000_00000000 + n for n in range(1, 20)]
    numbers += [0x20010DB8_00070000_00000000_00000007 + (n << 64) for n in range(1, 20)]
    numbers += [0x26000000_00000000_00000000_00000000 | dice.getrandbits(120) for _ in range(60)]
    for number in numbers:
        play.connect(2, Host(str(ipaddress.IPv6Address(number)), lab6.CLIENT.mac))
    return play.case(f"ipv6_clients_all_over_{mode}_{protocol}")


def closes_by_fin():
    """What both sides closed is inactive, as what was reset: TIME_WAIT."""
    play = Play("lc", (1, 1, 1)).connect(3)  # C, B, A
    for number in (0, 1, 2):
        dest, sender, sport = play.open[number]
        play.steps += [wan(tcp(sender, VIP, "A", sport=sport)), wan(tcp(sender, VIP, "FA", sport=sport)), lan(reply_to(number, "FA"),
            forward("wan", state="time_wait"))]
        dest.active, dest.inactive = dest.active - 1, dest.inactive + 1
        if number == 0:
            play.connect(2)  # both to C, until its load is the others'
    return play.connect(6).case("closed_by_fin")


WEIGHTS = ((1, 1, 1), (3, 2, 1), (1, 2, 3), (2, 0, 1), (4, 2, 2), (6, 4), (5, 1, 1), (0, 0, 7), (3, 3), (1,), (1, 2, 3, 4), (0, 5, 0, 3))
CASES = [
    *(kept_open(scheduler, weights) for scheduler in ("rr", "wrr", "lc", "wlc") for weights in WEIGHTS),
    *(kept_open(scheduler, weights) for scheduler in ("sed", "nq", "fo", "ovf", "dh") for weights in WEIGHTS),
    *(kept_open(scheduler, (0, 0), 3) for scheduler in KERNEL),
    kept_open("wrr", (65535, 65535, 1), 12),
    kept_open("wlc", (65535, 1), 12),
    *(opened_and_reset(scheduler, weights) for scheduler in ("rr", "wrr", "lc", "wlc", "sed", "nq", "ovf") for weights in ((1, 1, 1), (3, 2, 1), (2, 0, 1))),
    *(each_reset_before_the_next(scheduler, weights) for scheduler in ("rr", "wrr", "lc", "wlc", "sed", "nq", "ovf") for weights in ((1, 1, 1), (2, 1))),
    *(after_the_closed_ones_are_forgotten(scheduler, (1, 2, 1)) for scheduler in ("lc", "wlc")),
    closes_by_fin(),
    *(sources(scheduler, weights) for scheduler in ("sh", "mh") for weights in ((1, 1, 1), (3, 2, 1), (1, 0, 1), (0, 5, 2, 0), (200, 100))),
    *(sources(scheduler, (1, 1, 1), mode) for scheduler in ("sh", "mh") for mode in ("dr", "fullnat")),
    *(sources(scheduler, (2, 1), "nat", "udp") for scheduler in ("sh", "mh")),
    *(ports_of_a_client(scheduler, weights) for scheduler in ("sh", "mh") for weights in ((1, 1, 1), (3, 2, 1), (1, 0, 1))),
    sources("mh", (65535, 1, 40000, 7)),
    *(sources_in_ipv6(scheduler, weights) for scheduler in ("sh", "mh") for weights in ((1, 1, 1), (3, 2, 1), (1, 0, 1))),
    *(sources_in_ipv6(scheduler, (2, 1), mode, "udp") for scheduler in ("sh", "mh") for mode in ("dr", "fullnat")),
    Case("schedulers_of_two_services_do_not_share_their_turns", two_arm(service("nat", A, B, C), service("nat", A, B, C, port=443, name="tls")), [
        wan(tcp(CLIENT, VIP, sport=2000 + n, dport=(80, 443)[n % 2]), forward("lan", (C, B, A)[n // 2 % 3], new=True)) for n in range(12)
    ]),
    Case("retransmitted_syns_take_no_turn", two_arm(service("nat", A, B)), [
        wan(tcp(CLIENT, VIP, sport=2000), forward("lan", B, new=True)), wan(tcp(CLIENT, VIP, sport=2000), forward("lan", B, new=False)),
        wan(tcp(CLIENT, VIP, sport=2001), forward("lan", A, new=True)),
    ]),
    Case("udp_of_one_flow_stays", two_arm(service("nat", A, B, C, protocol="udp")), [wan(udp(CLIENT, VIP), forward("lan", C)) for _ in range(6)]),
]
