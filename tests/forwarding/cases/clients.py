"""`allow` and `deny`: whose new connections a service takes."""

import lab
import lab6
from case import Case, drop, forward, reply, wan
from datagrams import fragments
from lab46 import WAYS
from lab46 import two_arm as both

FAMILIES = {"v4": lab, "v6": lab6}
MODES = ("dr", "nat", "fullnat", "tunnel")
DENIED, NOT_ALLOWED = drop("denied"), drop("not_allowed")


def client(family, number):
    return lab.client(number) if family is lab else lab6.Host(f"2001:db8:7::{number:x}", lab6.GATEWAY.mac)


def prefix(family, first, length):
    """A prefix that the clients from `first` on are in, so many bits from its end."""
    return f"203.0.113.{first}/{32 - length}" if family is lab else f"2001:db8:7::{first:x}/{128 - length}"


def listed(*prefixes):
    return "[" + ", ".join(f'"{each}"' for each in prefixes) + "]"


def lists(family):
    """16 to 31 are allowed but for 20 to 23, and 99, which is named alone."""
    other = lab6 if family is lab else lab
    allow = listed(prefix(family, 16, 4), prefix(family, 21, 0), client(family, 99).ip, prefix(other, 0, 8))
    return {"allow": allow, "deny": listed(prefix(other, 0, 4), prefix(family, 20, 2))}


def fate(number):
    """What becomes of a client's packet; 21 is in `deny` although `allow` names it alone."""
    if 20 <= number <= 23:
        return DENIED
    return None if 16 <= number <= 31 or number == 99 else NOT_ALLOWED


# At both edges of every prefix.
NUMBERS = (15, 16, 19, 20, 21, 23, 24, 31, 32, 98, 99)


def service(family, mode, **keys):
    real_port = {"real_port": None} if mode in ("dr", "tunnel") else {}
    return family.service(mode, family.A, **real_port, **lists(family), **keys)


def new(family, mode, protocol):
    """Each client's first packet, a packet of no connection, and those of its connection."""
    steps = []
    for number in NUMBERS:
        host, refused = client(family, number), fate(number)
        if protocol == "udp":
            steps += [wan(family.udp(host, family.VIP), refused or forward("lan", new=first)) for first in (True, False)]
            continue
        steps.append(wan(family.tcp(host, family.VIP, "A", seq=5), refused or reply("no_connection")))
        steps.append(wan(family.tcp(host, family.VIP), refused or forward("lan", new=True)))
        steps.append(wan(family.tcp(host, family.VIP, "A", seq=1001, ack=1), refused or forward("lan", new=False)))
    return Case(f"{name(family)}_{mode}_{protocol}", family.two_arm(service(family, mode, protocol=protocol)), steps, gathers=mode == "tunnel")


def name(family):
    return "v6" if family is lab6 else "v4"


def stateless(family, mode):
    """With a hash each packet without an entry begins a connection, and is asked."""
    bad, good = client(family, 98), client(family, 99)
    return Case(f"{name(family)}_{mode}_hash", family.two_arm(service(family, mode, scheduler="sh")), [
        wan(family.tcp(bad, family.VIP, "A", seq=9, ack=9), NOT_ALLOWED),
        wan(family.tcp(good, family.VIP, "A", seq=9, ack=9), forward("lan", new=True)),
        wan(family.tcp(good, family.VIP, "A", seq=10, ack=9), forward("lan", new=False)),
    ], gathers=mode == "tunnel")


def across(way):
    near, far = way.near, way.far
    bad, good = client(near, 98), client(near, 99)
    return Case(f"{way.name}", both(way.service("A", **lists(near))), [
        wan(near.tcp(bad, near.VIP), NOT_ALLOWED),
        wan(near.tcp(good, near.VIP), forward("lan", far.A, new=True)),
        wan(near.tcp(good, near.VIP, "A", seq=1001, ack=1), forward("lan", far.A, new=False)),
    ])


def in_fragments(family):
    """The first fragment tells the ports; those behind it have the same fate."""
    bad, good = client(family, 98), client(family, 99)
    payload = bytes(range(250)) * 12
    steps = [wan(each, NOT_ALLOWED) for each in fragments(family.udp(bad, family.VIP, payload), port_mac=family.WAN.mac)]
    steps += [wan(each, forward("lan")) for each in fragments(family.udp(good, family.VIP, payload), id=0x78, port_mac=family.WAN.mac)]
    return Case(f"{name(family)}_fragments", family.two_arm(service(family, "nat", protocol="udp")), steps, gathers=True)


def others(family):
    """Another service of the VIP takes the client, and so does ping; persistence does not bind who is refused."""
    bad, good = client(family, 98), client(family, 99)
    open_one = family.service("nat", family.B, name="open", port=81, real_port=8081)
    steps = [
        wan(family.tcp(bad, family.VIP), NOT_ALLOWED),
        wan(family.tcp(bad, family.VIP, dport=81), forward("lan", family.B, new=True)),
        wan(family.tcp(good, family.VIP), forward("lan", family.A, new=True)),
    ]
    if family is lab:
        steps.append(wan(lab.icmp(bad, family.VIP), reply("icmp_echo")))
    kept = service(family, "nat", persistence="{ timeout = 300, prefix_v4 = 24, prefix_v6 = 64 }")
    return Case(f"{name(family)}_others", family.two_arm(kept, open_one), steps)


CASES = [
    *(new(family, mode, protocol) for family in FAMILIES.values() for mode in MODES for protocol in ("tcp", "udp")),
    *(stateless(family, mode) for family in FAMILIES.values() for mode in ("dr", "tunnel")),
    *(across(way) for way in WAYS),
    *(in_fragments(family) for family in FAMILIES.values()),
    *(others(family) for family in FAMILIES.values()),
]
