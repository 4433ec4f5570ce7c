"""`tcp_mss`: the largest segment size that SYNs ask for, lowered on its way (RFC 9293 3.7.1)."""

import struct

import lab
import lab6
import tunnels
from case import Case, forward, lan, wan
from lab46 import WAYS
from lab46 import reply_to as either_reply_to
from lab46 import two_arm as both

NAMES = {lab: "v4", lab6: "v6"}
FAMILIES = (lab, lab6)


def mss(value, *before):
    return [*before, ("MSS", value)]


def reply_to(step, options):
    return lambda family: (lab6 if family is lab6 else lab).reply_to(step, "SA", options=options, seq=5000, ack=1001)


def clamped(family, mode):
    """Both SYNs where both pass; larger ones only; wherever the option stands; none is added."""
    rows = [(mss(1460), 1400), (mss(1401), 1400), (mss(1400), 1400), (mss(536), 536), (mss(65535, ("NOP", None)), 1400),
            (mss(9000, ("NOP", None), ("NOP", None), ("NOP", None)), 1400), ([("SAckOK", b""), ("MSS", 1460), ("WScale", 7)], 1400),
            ([("WScale", 7), ("MSS", 8960)], 1400), ([], None), ([("SAckOK", b"")], None)]
    steps = []
    for number, (options, then) in enumerate(rows):
        first = len(steps)
        sport = 40000 + number
        steps.append(wan(family.tcp(family.CLIENT, family.VIP, sport=sport, options=options, payload=b"odd" * (number % 2)), forward("lan", family.A, new=True, mss=then)))
        # Again, as when the answer is late.
        steps.append(wan(family.tcp(family.CLIENT, family.VIP, sport=sport, options=options), forward("lan", family.A, mss=then)))
        if mode != "dr":
            steps.append(lan(reply_to(first, options)(family), forward("wan", family.CLIENT, new=False, mss=then)))
        # What looks like the option in a segment that is no SYN means nothing.
        steps.append(wan(family.tcp(family.CLIENT, family.VIP, "A", sport=sport, seq=1001, ack=5001, options=mss(1460)), forward("lan", family.A)))
    real_port = {"real_port": None} if mode == "dr" else {}
    return Case(f"{NAMES[family]}_{mode}_clamped", family.two_arm(family.service(mode, family.A, tcp_mss=1400, **real_port)), steps)


def auto(family, mode, wan_mtu, lan_mtu):
    fits = min(wan_mtu, lan_mtu) - (60 if family is lab6 else 40)
    real_port = {"real_port": None} if mode == "dr" else {}
    steps = [wan(family.tcp(family.CLIENT, family.VIP, options=mss(9000)), forward("lan", family.A, new=True, mss=fits))]
    if mode != "dr":
        steps.append(lan(reply_to(0, mss(9000))(family), forward("wan", family.CLIENT, mss=fits)))
    steps.append(wan(family.tcp(family.CLIENT, family.VIP, sport=41000, options=mss(500)), forward("lan", family.A, mss=500)))
    lb = family.two_arm(family.service(mode, family.A, tcp_mss='"auto"', **real_port), wan_mtu=wan_mtu, mtu=lan_mtu)
    return Case(f"{NAMES[family]}_{mode}_auto_{wan_mtu}_{lan_mtu}", lb, steps)


def across(way, wan_mtu, lan_mtu):
    """The other family's header is longer by 20 bytes: in both SYNs, the size that IPv6 leaves."""
    near, far = way.near, way.far
    fits = min(wan_mtu, lan_mtu) - 60
    return Case(f"{way.name}_auto_{wan_mtu}_{lan_mtu}", both(way.service("A", tcp_mss='"auto"'), mtu=(wan_mtu, lan_mtu)), [
        wan(near.tcp(near.CLIENT, near.VIP, options=mss(1460)), forward("lan", far.A, new=True, mss=fits)),
        lan(either_reply_to(0, "SA", options=mss(1460), seq=5000, ack=1001), forward("wan", near.CLIENT, mss=fits)),
    ])


def of_its_own(family):
    """Of one service, and not of another."""
    services = [family.service("nat", family.A, tcp_mss=1300), family.service("nat", family.A, name="other", port=81, real_port=8081)]
    return Case(f"{NAMES[family]}_only_of_its_service", family.two_arm(*services), [
        wan(family.tcp(family.CLIENT, family.VIP, options=mss(1460)), forward("lan", mss=1300)),
        wan(family.tcp(family.CLIENT, family.VIP, dport=81, options=mss(1460)), forward("lan", mss=1460)),
    ])


def wrapped(near, far, keys, value, fits):
    """In a tunnel only the client's SYN passes: what the smaller MTU leaves behind the headers around it."""
    service = lab.service("tunnel", far.A, vip=near.VIP, real_port=None, tcp_mss=value, **keys)

    def inner(results):
        packet = tunnels.view(tunnels.inside(results.forwarded(0), tunnels.keys_of(service)))
        at = mss_at(packet.payload)
        assert struct.unpack_from("!H", packet.payload, at)[0] == fits, packet.payload[at : at + 2].hex()
        assert packet.error == 0, "the checksum"

    kind = keys.get("tunnel", '"ipip"').strip('"')
    return Case(f"{NAMES[near]}_in_{NAMES[far]}_{kind}_{str(value).strip(chr(34))}", both(service, mtu=(1500, 1400)), [
        wan(near.tcp(near.CLIENT, near.VIP, options=mss(8960)), forward("lan", new=True)),
    ], gathers=True, check=inner)


def mss_at(segment):
    """Of a segment whose first option it is."""
    assert segment[20:22] == b"\x02\x04", segment.hex()
    return 22


CASES = [
    *(wrapped(near, far, {"tunnel": f'"{kind}"'}, '"auto"', 1400 - before - (60 if near is lab6 else 40) - (40 if far is lab6 else 20))
      for near in FAMILIES for far in FAMILIES for kind, before in (("ipip", 0), ("gre", 4), ("gue", 8))),
    wrapped(lab, lab, {}, 1000, 1000),
    *(clamped(family, mode) for family in FAMILIES for mode in ("dr", "nat", "fullnat")),
    *(auto(family, mode, *mtus) for family in FAMILIES for mode in ("dr", "nat", "fullnat") for mtus in ((1500, 1500), (1400, 1500), (1500, 1400))),
    *(across(way, *mtus) for way in WAYS for mtus in ((1500, 1500), (1400, 1500), (1500, 1400))),
    *(of_its_own(family) for family in FAMILIES),
]
