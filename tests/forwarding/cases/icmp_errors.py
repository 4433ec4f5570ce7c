"""ICMP errors about connections: to the one who sent the packet that they quote, as that one knows the connection (RFC 5508,
RFC 7915); and those that are not believed (RFC 5927)."""

import struct

import lab
import lab6
from case import Case, drop, forward, lan, reply, wan
from lab import Host
from lab46 import WAYS
from lab46 import reply_to as either_reply_to
from lab46 import ttl
from lab46 import two_arm as both
from quotes import EXCEEDED, KINDS, PARAMETER, PORT, TOO_BIG, UNREACHABLE, about, error
from scapy.layers.inet import IPOption_RR

# Routers on the way: of the clients' side, and of the real servers'.
OUTSIDE = {lab: Host("203.0.113.254", lab.GATEWAY.mac), lab6: Host("2001:db8:7::fe", lab6.GATEWAY.mac)}
INSIDE = {lab: lab.INNER_GATEWAY, lab6: lab6.INNER_GATEWAY}
NAMES = {lab: "v4", lab6: "v6"}
TRANSLATING = ("nat", "fullnat")
# A second word for each kind: an MTU, a pointer.
RESTS = {"too_big": {lab: 1400, lab6: 1400}, "parameter": {lab: 8 << 24, lab6: 7}}
EXTENSIONS = bytes.fromhex("2000 0000 000c 0101 0001 4101 0002 8102".replace(" ", ""))  # RFC 4950: an MPLS label stack


def rest_of(kind, family):
    return RESTS.get(kind, {}).get(family, 0)


def reply_to(step, family, flags="SA", payload=b"", **fields):
    return (lab6 if family is lab6 else lab).reply_to(step, flags, payload, **fields)


def conversation(near, far, protocol, answer, dr=False):
    """A connection as far as both sides have sent: steps 0 to 3."""
    if protocol == "udp":
        steps = [wan(near.udp(near.CLIENT, near.VIP, b"x" * 40), forward("lan", far.A, new=True))]
        steps += [] if dr else [lan(answer(0, payload=b"y" * 40), forward("wan", near.CLIENT, new=False))]
        return steps, (0, 1)
    steps = [wan(near.tcp(near.CLIENT, near.VIP, "S", seq=1000), forward("lan", far.A, new=True))]
    if not dr:
        steps += [lan(answer(0, "SA", seq=5000, ack=1001), forward("wan", near.CLIENT, new=False))]
    steps += [wan(near.tcp(near.CLIENT, near.VIP, "PA", seq=1001, ack=5001, payload=b"G" * 60), forward("lan", far.A))]
    if not dr:
        steps += [lan(answer(0, "PA", b"H" * 70, seq=5001, ack=1061), forward("wan", near.CLIENT))]
    return steps, (2, 3)


def every_kind(family, mode, protocol):
    """Each error, both ways, with 8 bytes quoted, with all, and with extensions."""
    answer = lambda step, *flags, **more: reply_to(step, family, *flags, **more)  # noqa: E731
    steps, (request, response) = conversation(family, family, protocol, answer)
    lb = family.two_arm(family.service(mode, family.A, protocol=protocol))
    for kind, codes in KINDS.items():
        rest = rest_of(kind, family)
        for more in ({"more": 8}, {"more": None}, {"more": 20, "extensions": EXTENSIONS}):
            if "extensions" in more and kind not in ("unreachable", "exceeded"):
                continue
            for sender in (INSIDE[family], family.A):
                steps.append(lan(about(request, codes, sender, rest=rest, **more), forward("wan", family.CLIENT, new=False, icmp=codes[family])))
            steps.append(wan(about(response, codes, OUTSIDE[family], rest=rest, **more), forward("lan", family.A, new=False, icmp=codes[family])))
    return Case(f"{NAMES[family]}_{mode}_{protocol}_every_kind_both_ways", lb, steps)


def across(way, protocol):
    near, far = way.near, way.far
    steps, (request, response) = conversation(near, far, protocol, either_reply_to)
    lb = both(way.service("A", protocol=protocol))
    for kind, codes in KINDS.items():
        for more in ({"more": 8}, {"more": None}, {"more": 20, "extensions": EXTENSIONS}):
            if "extensions" in more and kind not in ("unreachable", "exceeded"):
                continue
            steps.append(lan(about(request, codes, INSIDE[far], rest=rest_of(kind, far), **more), forward("wan", near.CLIENT, new=False)))
            steps.append(wan(about(response, codes, OUTSIDE[near], rest=rest_of(kind, near), **more), forward("lan", far.A, new=False)))
    return Case(f"{way.name}_{protocol}_every_kind_both_ways", lb, steps)


def mtus(way):
    """The next hop's MTU, less or more by what the packet grows by on its way (RFC 7915 4.2, 5.2)."""
    near, far = way.near, way.far
    steps, (request, response) = conversation(near, far, "udp", either_reply_to)
    word = lambda value: struct.pack("!I", value)  # noqa: E731
    for told, then in ((1400, 1420), (1000, 1280), (1500, 1500), (0, 1280)) if far is lab else ((1400, 1380), (1280, 1260), (9000, 1500), (100, 1260)):
        steps.append(lan(about(request, TOO_BIG, INSIDE[far], rest=told), forward("wan", near.CLIENT, rest=word(then))))
    for told, then in ((1400, 1380), (1280, 1260)) if near is lab6 else ((1400, 1420), (1200, 1280)):
        steps.append(wan(about(response, TOO_BIG, OUTSIDE[near], rest=told), forward("lan", far.A, rest=word(then))))
    return Case(f"{way.name}_mtu_by_the_families_difference", both(way.service("A", protocol="udp")), steps)


def pointers(way):
    """RFC 7915 figures 3 and 6: the field that is wrong, where the other family has it."""
    near, far = way.near, way.far
    steps, (request, _) = conversation(near, far, "udp", either_reply_to)
    if far is lab:
        rows = ((0, 0), (1, 1), (2, 4), (3, 4), (4, None), (6, None), (8, 7), (9, 6), (10, None), (12, 8), (15, 8), (16, 24), (19, 24), (20, None))
        told, then = (lambda value: value << 24), (lambda value: struct.pack("!I", value))
    else:
        rows = ((0, 0), (1, 1), (2, None), (4, 2), (5, 2), (6, 9), (7, 8), (8, 12), (23, 12), (24, 16), (39, 16), (40, None))
        told, then = (lambda value: value), (lambda value: struct.pack("!I", value << 24))
    for pointer, other in rows:
        expect = drop("icmp_ignored") if other is None else forward("wan", near.CLIENT, rest=then(other))
        steps.append(lan(about(request, PARAMETER, INSIDE[far], rest=told(pointer)), expect))
    unknown = {lab: ((3, 14), (12, 1), (5, 0), (4, 0)), lab6: ((1, 5), (4, 2), (100, 0))}[far]
    steps += [lan(about(request, kind, INSIDE[far]), drop("icmp_ignored")) for kind in unknown]
    return Case(f"{way.name}_parameter_problems", both(way.service("A", protocol="udp")), steps)


def long_quotes(way):
    """Of a long packet only so much is quoted that every host takes the error."""
    near, far = way.near, way.far
    lb = both(way.service("A", protocol="udp"))
    return Case(f"{way.name}_as_much_as_fits", lb, [
        wan(near.udp(near.CLIENT, near.VIP, b"x" * 1300), forward("lan", far.A)),
        lan(about(0, PORT, far.A, more=500), forward("wan", near.CLIENT)),
        lan(about(0, PORT, far.A, more=1100), forward("wan", near.CLIENT)),
        lan(about(0, EXCEEDED, far.A, more=1100, extensions=EXTENSIONS), forward("wan", near.CLIENT)),
    ])


def quote(packet, more=8):
    """The beginning of a packet that weir never saw."""
    layer = bytes(packet.layer)
    return layer[: (40 if layer[0] >> 4 == 6 else 20) + more]


def dr(family, protocol):
    """What a real server has sent to the client itself: an error about it comes to the VIP, and goes to that real server."""
    make = {"tcp": lambda **more: family.tcp(Host(family.VIP, "02:00:00:00:09:09"), family.CLIENT, "A", sport=80, dport=40000, **more),
            "udp": lambda **more: family.udp(Host(family.VIP, "02:00:00:00:09:09"), family.CLIENT, sport=80, dport=40000)}[protocol]
    steps, _ = conversation(family, family, protocol, None, dr=True)
    lb = family.two_arm(family.service("dr", family.A, protocol=protocol, real_port=None))
    start, length = (8, 32) if family is lab6 else (12, 8)
    addresses = lambda packet: packet[start : start + length]  # noqa: E731
    untouched = lambda sent: {"frame": lambda frame: addresses(frame[14:]) == addresses(bytes(sent.layer))}  # noqa: E731
    for kind, codes in KINDS.items():
        sent = error(OUTSIDE[family], family.VIP, codes, quote(make(seq=5001) if protocol == "tcp" else make()), rest=rest_of(kind, family))
        steps.append(wan(sent, forward("lan", family.A, new=False, icmp=codes[family], **untouched(sent))))
    return Case(f"{NAMES[family]}_dr_{protocol}_to_the_real_server", lb, steps)


def dr_from_inside(family, protocol, more_keys):
    """About what weir has sent to a real server of dr, where weir is the router back: to the client, from the VIP."""
    steps, _ = conversation(family, family, protocol, None, dr=True)
    request = len(steps) - 1
    lb = family.two_arm(family.service("dr", family.A, protocol=protocol, real_port=None), **more_keys)
    for kind, codes in KINDS.items():
        for more in ({"more": 8}, {"more": None}):
            for sender in (INSIDE[family], family.A):
                steps.append(lan(about(request, codes, sender, rest=rest_of(kind, family), **more), forward("wan", family.CLIENT, src=family.VIP, icmp=codes[family])))
    steps.append(wan(about(request, PORT, OUTSIDE[family]), drop("wrong_port")))
    steps.append(lan(about(request, PORT, Host(family.VIP, family.A.mac)), drop("bad_source")))
    steps.append(lan(about(request, PORT, INSIDE[family], **ttl(family, 1)), drop("ttl_exceeded")))
    # A router does not look at it.
    damaged = forward("wan", family.CLIENT) if more_keys else drop("bad_l4_checksum")
    steps.append(lan(about(request, PORT, INSIDE[family], chksum=0x1234), damaged))
    make = getattr(family, protocol)
    steps.append(lan(error(INSIDE[family], family.CLIENT.ip, PORT, quote(make(family.CLIENT, family.VIP, sport=9))), drop("icmp_no_connection")))
    return Case(f"{NAMES[family]}_dr_{protocol}_from_inside{'_of_a_router' if more_keys else ''}", lb, steps)


def dr_from_inside_by_hash(family):
    """Without a connection, its real server is the one that the scheduler would choose."""
    lb = family.two_arm(family.service("dr", family.A, protocol="tcp", real_port=None, scheduler="mh"))
    from_client = family.tcp(family.CLIENT, family.VIP, "A", sport=45000)
    return Case(f"{NAMES[family]}_dr_mh_from_inside_without_a_connection", lb, [
        lan(error(INSIDE[family], family.CLIENT.ip, TOO_BIG, quote(from_client), rest=1400), forward("wan", family.CLIENT, src=family.VIP, rest=struct.pack("!I", 1400))),
    ])


def dr_by_hash(family):
    """Without a connection, where every weir of a cluster comes to the same real server."""
    servers = (family.A, family.B, family.C, family.D)
    lb = family.two_arm(family.service("dr", *servers, protocol="tcp", real_port=None, scheduler="mh"))
    steps = []
    for number in range(12):
        sport = 40000 + number
        steps.append(wan(family.tcp(family.CLIENT, family.VIP, "A", sport=sport), forward("lan")))
        from_vip = family.tcp(Host(family.VIP, "02:00:00:00:09:09"), family.CLIENT, "A", sport=80, dport=50000 + number)
        steps.append(wan(error(OUTSIDE[family], family.VIP, TOO_BIG, quote(from_vip), rest=1400), forward("lan")))
        steps.append(wan(family.tcp(family.CLIENT, family.VIP, "A", sport=50000 + number), forward("lan")))

    def same(results):
        for step in range(1, len(steps), 3):
            assert results.fields(step)["eth_dst"] == results.fields(step + 1)["eth_dst"], f"step {step} went to another real server"

    return Case(f"{NAMES[family]}_dr_mh_without_a_connection", lb, steps, check=same)


def not_believed(family, mode):
    """RFC 5927 4.1: the quoted sequence number is near what the other side has acknowledged."""
    answer = lambda step, *flags, **more: reply_to(step, family, *flags, **more)  # noqa: E731
    steps, (request, response) = conversation(family, family, "tcp", answer)
    far_off = 1 << 23

    def bent(step, by, sender):
        made = about(step, TOO_BIG, sender, rest=1400)

        def make(results):
            sent = made(results)
            layer = bytearray(bytes(sent.layer))
            start = 40 if family is lab6 else 20
            at = start + 8 + start + 4
            number = struct.unpack_from("!I", layer, at)[0]
            struct.pack_into("!I", layer, at, (number + by) % 2**32)
            quoted = bytes(layer[start + 8 :])
            to = family.POOL if mode == "fullnat" and sender is INSIDE[family] else family.CLIENT.ip if sender is INSIDE[family] else family.VIP
            return error(sender, to, TOO_BIG, quoted, rest=1400)

        make.needs = step
        return make

    # What the real server has acknowledged is 1,061, and what the client has, 5,001.
    rows = ((far_off, True), (far_off + 1, False), (2**31, False), (-far_off, True), (-far_off - 1, False))
    for by, is_near in rows:
        expect = lambda port, near=is_near: forward(port) if near else drop("icmp_sequence")  # noqa: E731
        # The quoted request has 1,001, the quoted reply 5,001.
        steps.append(lan(bent(request, by + 60, INSIDE[family]), expect("wan")))
        steps.append(wan(bent(response, by, OUTSIDE[family]), expect("lan")))
    return Case(f"{NAMES[family]}_{mode}_sequence_numbers", family.two_arm(family.service(mode, family.A)), steps)


def refused(family, mode):
    """What is dropped, and why; none is ever answered."""
    answer = lambda step, *flags, **more: reply_to(step, family, *flags, **more)  # noqa: E731
    steps, (request, response) = conversation(family, family, "udp", answer)
    vip, client = Host(family.VIP, "02:00:00:00:09:09"), family.CLIENT
    outside = OUTSIDE[family]
    unknown = family.udp(vip, client, sport=80, dport=41000)
    other = family.udp(vip, client, sport=81, dport=40000)
    known = quote(family.udp(vip, client, b"y" * 40, sport=80, dport=40000), 8)
    steps += [
        wan(error(outside, family.VIP, PORT, quote(unknown)), drop("icmp_no_connection")),
        wan(error(outside, family.VIP, PORT, quote(other)), drop("icmp_no_connection")),
        # To another address than the quoted packet's source.
        wan(error(outside, family.WAN_VIP, PORT, known), drop("icmp_mismatch")),
        wan(error(outside, family.POOL, PORT, known), drop("icmp_mismatch")),
        wan(error(outside, family.VIP, PORT, known[:-1]), drop("icmp_bad_quote")),
        wan(error(outside, family.VIP, PORT, known[:19]), drop("icmp_bad_quote")),
        wan(error(outside, family.VIP, PORT, known, chksum=0x1234), drop("bad_l4_checksum")),
        wan(error(outside, family.VIP, PORT, known, **ttl(family, 1)), drop("ttl_exceeded")),
        wan(error(outside, family.VIP, PORT, known), forward("lan", family.A)),
        # From the side that the real server is not on.
        wan(about(request, PORT, outside), drop("wrong_port")),
        wan(error(Host(family.VIP, family.GATEWAY.mac), family.VIP, PORT, known), drop("bad_source")),
        # About an error, about an echo reply.
        wan(error(outside, family.VIP, PORT, error_quote(family, known)), drop("icmp_bad_quote")),
        # Closed ports of weir's own answers are no connection.
        wan(family.tcp(client, family.VIP, "A", dport=99), reply("no_service")),
        wan(error(outside, family.VIP, UNREACHABLE, quote(family.tcp(vip, client, "R", sport=99, dport=40000))), drop("icmp_no_connection")),
    ]
    if family is lab:
        steps += [
            wan(error(outside, family.VIP, (4, 0), known), drop("icmp_ignored")),
            wan(error(outside, family.VIP, (5, 1), known), drop("icmp_ignored")),
            wan(error(outside, family.VIP, PORT, later_fragment(known)), drop("icmp_bad_quote")),
            wan(error(outside, family.VIP, PORT, known, options=[IPOption_RR(routers=["0.0.0.0"])]), forward("lan", family.A)),
            # What routers of the inside have recorded is not for clients.
            lan(recorded(request), forward("wan", family.CLIENT, frame=lambda frame: b"\x0a\x00\x00" not in frame)),
        ]
    else:
        steps += [
            # RFC 8200 5: no link takes less.
            wan(error(outside, family.VIP, TOO_BIG, known, rest=500), forward("lan", family.A, rest=struct.pack("!I", 1280))),
            # RFC 4443 2.4 (a): of unknown types it is for the end to say.
            wan(error(outside, family.VIP, (100, 0), known), forward("lan", family.A, icmp=(100, 0))),
            wan(error(Host("fe80::20", family.GATEWAY.mac), family.VIP, PORT, known), drop("bad_source")),
        ]
    return Case(f"{NAMES[family]}_{mode}_refused", family.two_arm(family.service(mode, family.A, protocol="udp")), steps)


def recorded(step):
    made = about(step, PORT, INSIDE[lab], options=[IPOption_RR(routers=["10.0.0.254", "10.0.0.11", "0.0.0.0"])])

    def make(results):
        return made(results)

    make.needs = step
    return make


def error_quote(family, known):
    """An ICMP error as a packet that is quoted, from the VIP."""
    sent = error(Host(family.VIP, "02:00:00:00:09:09"), family.CLIENT, PORT, known)
    return bytes(sent.layer)[: 48 if family is lab6 else 28]


def later_fragment(packet):
    return packet[:6] + b"\0\x10" + packet[8:]


def nothing_changes(family):
    """Errors end nothing and prolong nothing: whatever they say, the connection goes on; and it ends by its own silence."""
    answer = lambda step, *flags, **more: reply_to(step, family, *flags, **more)  # noqa: E731
    steps, (request, response) = conversation(family, family, "udp", answer)
    steps += [wan(about(response, PORT, family.CLIENT), forward("lan", family.A), at=100)]
    steps += [lan(answer(0, payload=b"z"), forward("wan", family.CLIENT, new=False), at=200)]
    steps += [wan(about(response, PORT, family.CLIENT), forward("lan", family.A), at=499)]
    steps += [wan(about(response, PORT, family.CLIENT), drop("icmp_no_connection"), at=501)]
    return Case(f"{NAMES[family]}_errors_change_nothing", family.two_arm(family.service("fullnat", family.A, protocol="udp")), steps)


def limited(family):
    """A flood of errors about one connection stays below the port's limit, and takes nothing from what weir says itself."""
    answer = lambda step, *flags, **more: reply_to(step, family, *flags, **more)  # noqa: E731
    steps, (request, response) = conversation(family, family, "udp", answer)
    steps += [wan(about(response, PORT, OUTSIDE[family]), forward("lan", family.A), at=1)]
    steps += [wan(about(response, PORT, OUTSIDE[family]), forward("lan", family.A) if number < 9 else None, after=0) for number in range(60)]
    steps += [wan(about(response, PORT, OUTSIDE[family]), drop("rate_limited"), after=0)]
    steps += [wan(family.udp(family.CLIENT, family.VIP, dport=99), reply("no_service"), after=0)]

    def few(results):
        passed = sum(line["verdict"] == "forward" for line in results.lines[2:])
        assert 10 <= passed <= 20, f"{passed} of 62 errors passed, of 10 a second"

    return Case(f"{NAMES[family]}_errors_are_limited", family.two_arm(family.service("fullnat", family.A, protocol="udp"), answers=10), steps, check=few)


def of_weirs_own(family):
    """What weir says itself of IPv6 as of IPv4."""
    return Case(f"{NAMES[family]}_a_packet_that_dies_here", family.two_arm(family.service("nat", family.A, protocol="udp")), [
        wan(family.udp(family.CLIENT, family.VIP, **ttl(family, 1)), reply("ttl_exceeded", icmp=EXCEEDED[family], src=family.VIP)),
    ])


FAMILIES = (lab, lab6)
CASES = [
    *(every_kind(family, mode, protocol) for family in FAMILIES for mode in TRANSLATING for protocol in ("tcp", "udp")),
    *(across(way, protocol) for way in WAYS for protocol in ("tcp", "udp")),
    *(mtus(way) for way in WAYS),
    *(pointers(way) for way in WAYS),
    *(long_quotes(way) for way in WAYS),
    *(dr(family, protocol) for family in FAMILIES for protocol in ("tcp", "udp")),
    *(dr_by_hash(family) for family in FAMILIES),
    *(dr_from_inside(family, protocol, keys) for family in FAMILIES for protocol in ("tcp", "udp") for keys in ({}, {"forward": ("wan", "lan")})),
    *(dr_from_inside_by_hash(family) for family in FAMILIES),
    *(not_believed(family, mode) for family in FAMILIES for mode in TRANSLATING),
    *(refused(family, mode) for family in FAMILIES for mode in TRANSLATING),
    *(nothing_changes(family) for family in FAMILIES),
    *(limited(family) for family in FAMILIES),
    *(of_weirs_own(family) for family in FAMILIES),
]
