"""Services of several ports: ranges, every port, and which of them a packet is to; persistence across their ports."""

import lab
import lab6
from case import Case, forward, lan, reply, wan
from datagrams import fragments
from lab import Host
from lab46 import WAYS
from lab46 import reply_to as either_reply_to
from lab46 import two_arm as both
from quotes import PORT, about

NAMES = {lab: "four", lab6: "six"}
MODES = ("dr", "nat", "fullnat")
RANGE = "8000-8099"


def answer_of(family):
    return lab6.reply_to if family is lab6 else lab.reply_to


def precedence(family, mode):
    """The exact port comes first, then the range, then every port; the packet's port stays."""
    of = lambda real, port, name: family.service(mode, real, port=port, name=name, real_port=None)  # noqa: E731
    lb = family.two_arm(of(family.A, 0, "all"), of(family.B, RANGE, "range"), of(family.C, 8050, "one"), of(family.D, "8100-8101", "next"))
    meant = [(7999, "A", "all"), (8000, "B", "range"), (8049, "B", "range"), (8050, "C", "one"), (8051, "B", "range"), (8099, "B", "range"),
             (8100, "D", "next"), (8101, "D", "next"), (8102, "A", "all"), (65535, "A", "all"), (1, "A", "all")]
    steps = [wan(family.tcp(family.CLIENT, family.VIP, dport=port, sport=2000 + n), forward("lan", getattr(family, real), new=True, service=name, dport=port))
             for n, (port, real, name) in enumerate(meant)]
    if mode != "dr":
        steps += [lan(answer_of(family)(n), forward("wan", family.CLIENT, sport=port, dport=2000 + n)) for n, (port, *_) in enumerate(meant)]
    steps += [wan(family.tcp(family.CLIENT, family.VIP, "PA", dport=port, sport=2000 + n, seq=1001, ack=5001, payload=b"x"), forward("lan", getattr(family, real), new=False, dport=port))
              for n, (port, real, _) in enumerate(meant)]
    return Case(f"{NAMES[family]}_{mode}_the_exact_port_then_the_range_then_every_port", lb, steps)


def beyond(family, mode):
    """Ports on both sides of a range are none of the service's."""
    lb = family.two_arm(family.service(mode, family.A, port=RANGE, real_port=None))
    steps = [wan(family.tcp(family.CLIENT, family.VIP, dport=port), reply("no_service")) for port in (7999, 8100)]
    steps += [wan(family.tcp(family.CLIENT, family.VIP, dport=port), forward("lan", family.A, new=True)) for port in (8000, 8099)]
    return Case(f"{NAMES[family]}_{mode}_ports_beyond_the_range", lb, steps)


def one_port(way):
    """A real server's own port takes the packets of all ports; each reply comes from the port that the client asked."""
    near, far = way.near, way.far
    lb = both(way.service("A", port=RANGE, real_port=80))
    return Case(f"{way.name}_the_range_to_one_port", lb, [
        *(wan(near.tcp(near.CLIENT, near.VIP, dport=port, sport=2000 + port), forward("lan", far.A, new=True, dport=80)) for port in (8000, 8042, 8099)),
        *(lan(either_reply_to(n), forward("wan", near.CLIENT, sport=port)) for n, port in enumerate((8000, 8042, 8099))),
    ])


def nat_one_port(family):
    """With nat the client's port has to tell the connections to one port apart."""
    lb = family.two_arm(family.service("nat", family.A, port=RANGE, real_port=80))
    return Case(f"{NAMES[family]}_nat_the_range_to_one_port", lb, [
        *(wan(family.tcp(family.CLIENT, family.VIP, dport=port, sport=2000 + port), forward("lan", family.A, new=True, dport=80)) for port in (8000, 8042, 8099)),
        *(lan(answer_of(family)(n), forward("wan", family.CLIENT, sport=port)) for n, port in enumerate((8000, 8042, 8099))),
    ])


def same(*groups):
    """The steps of each group go to one real server; the last group has others than those before, being another service's."""

    def check(results):
        went = [{results.fields(number)["eth_dst"] for number in group} for group in groups]
        assert all(len(each) == 1 for each in went), went
        assert len(went) == 1 or went[-1].isdisjoint(set().union(*went[:-1])), went

    return check


def persistent(family, mode, port, other):
    """What binds a client's prefix is one template for all ports, and another one than that of the service beside it."""
    keys = {"persistence": "{ timeout = 300, prefix_v4 = 24, prefix_v6 = 64 }"}
    lb = family.two_arm(family.service(mode, family.A, family.B, port=port, real_port=None, **keys),
                        family.service(mode, family.C, family.D, port=other, name="other", real_port=None, **keys))
    near = [Host(f"2001:db8:7::{n}" if family is lab6 else f"203.0.113.{n}", family.GATEWAY.mac) for n in (7, 8, 9)]
    far = Host("2001:db8:8::7" if family is lab6 else "203.0.112.7", family.GATEWAY.mac)
    many = (8000, 8001, 8050, 8099)
    senders = [(near[n % 3], many[n]) for n in range(4)] + [(far, many[n]) for n in range(4)]
    steps = [wan(family.tcp(sender, family.VIP, dport=each, sport=3000 + n), forward("lan", new=True, service="web", dport=each), after=1) for n, (sender, each) in enumerate(senders)]
    alone = other if isinstance(other, int) else 7000
    steps += [wan(family.tcp(near[n], family.VIP, dport=alone, sport=4000 + n), forward("lan", new=True, service="other"), after=1) for n in range(3)]
    what = "every_port" if port == 0 else "a_range" + "_beside_every_port" * (other == 0)
    return Case(f"{NAMES[family]}_{mode}_persistence_across_{what}", lb, steps, check=same(range(4), range(4, 8), range(8, 11)))


def hashed(family):
    """dr with a hash scheduler schedules segments of no connection, to any port of the range."""
    lb = family.two_arm(family.service("dr", family.A, family.B, port=RANGE, scheduler="sh", real_port=None))
    steps = [wan(family.tcp(family.CLIENT, family.VIP, "A", dport=port, sport=2000 + port), forward("lan", new=True)) for port in (8000, 8055, 8099)]
    return Case(f"{NAMES[family]}_dr_a_hash_without_a_first_packet", lb, steps, check=same(range(3)))


def in_fragments(family, mode):
    """The first fragment has the ports; the others follow it."""
    lb = family.two_arm(family.service(mode, family.A, protocol="udp", port=RANGE, real_port=None))
    whole = family.udp(family.CLIENT, family.VIP, bytes(range(200)) * 8, dport=8042)
    parts = fragments(whole, 600)
    return Case(f"{NAMES[family]}_{mode}_fragments", lb, [wan(part, forward("lan", family.A, new=n == 0)) for n, part in enumerate(parts)])


def errors(family, mode):
    """An ICMP error of a real server about a connection to one port goes to the client, as of that port."""
    lb = family.two_arm(family.service(mode, family.A, protocol="udp", port=RANGE, real_port=None))
    steps = [wan(family.udp(family.CLIENT, family.VIP, b"x" * 40, dport=8042), forward("lan", family.A, new=True)),
             lan(about(0, PORT, family.A), forward("wan", family.CLIENT))]
    return Case(f"{NAMES[family]}_{mode}_an_error", lb, steps)


CASES = [
    *(make(family, mode) for make in (precedence, beyond) for family in (lab, lab6) for mode in MODES),
    *(one_port(way) for way in WAYS),
    *(nat_one_port(family) for family in (lab, lab6)),
    *(persistent(family, mode, port, other) for family in (lab, lab6) for mode in MODES for port, other in ((RANGE, 7000), (0, 7000))),
    persistent(lab, "nat", RANGE, 0),
    *(hashed(family) for family in (lab, lab6)),
    *(in_fragments(family, mode) for family in (lab, lab6) for mode in MODES),
    *(errors(family, mode) for family in (lab, lab6) for mode in ("nat", "fullnat")),
]
