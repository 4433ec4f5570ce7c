"""Datagrams in fragments: RFC 791, RFC 8200 4.5, and what RFC 1858, 3128, 5722 and 6946 forbid; those that weir makes."""

import ipaddress
import random
import struct

import lab
import lab6
import lab46
from case import Case, drop, forward, lan, queue, reply, wan
from datagrams import fragment, fragments, framed, is_first, packet_of, parts_of, together
from lab46 import WAYS
from scapy.layers.inet import IPOption_NOP, IPOption_RR, IPOption_Security
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.packet import Raw
from wire import ip_of

FAMILIES = {"four": lab, "six": lab6}
MODES = ("dr", "nat", "fullnat")
WAITS = "first_fragment_missing"
ORDERS = {
    "in_order": lambda n: range(n),
    "reversed": lambda n: reversed(range(n)),
    "the_first_one_last": lambda n: [*range(1, n), 0],
    "the_last_one_first": lambda n: [n - 1, *range(n - 1)],
    "shuffled": lambda n: random.Random(n).sample(range(n), n),
}
OVERLAP, TINY, LONG = (drop(f"fragment_{name}") for name in ("overlap", "tiny", "too_long"))
FULL = drop("fragments_full")


def text(length, seed=1):
    return random.Random(seed).randbytes(length)


def steps(frames, side=wan, port="lan", began=False):
    """A step for each fragment: from the first one on they go on, others wait before."""
    made = []
    for frame in frames:
        began = began or is_first(frame)
        made.append(side(frame, forward(port) if began else queue(None)))
    return made


def out(results, port):
    """All frames that came out of a port."""
    return [frame for _, frame in results.out[port]]


def host_bytes(host):
    return ipaddress.ip_address(host.ip if hasattr(host, "ip") else host).packed


def goes_whole(*sent, port="lan", same_parts=True, to=None, src=None, dport=8080, ttl=63):
    """The check that these datagrams, and no others, come out whole and translated; each fragment as it came in."""

    def check(results):
        case = results.case
        before = {packet_of(one)[-90:]: one for one in sent}
        frames = [frame for frame in out(results, port) if ip_of(frame).piece]
        wholes = list(together(frames))
        assert len(wholes) == len(sent), f"{len(wholes)} datagrams came out, not {len(sent)}"
        for frame in frames:
            assert ip_of(frame).ttl == ttl and ip_of(frame).header_is_right(), "TTL, header checksum"
            assert frame[6:12] == bytes.fromhex(case.config.ports[port].replace(":", "")), "the out port's MAC address"
        for whole in wholes:
            one = before.pop(whole.packet[-90:])
            mode = next(iter(case.config.services.values())).mode
            came = ip_of(framed(packet_of(one), one.sender, lab.WAN.mac))
            size = 20 if came.protocol == 6 else 8
            assert whole.view.payload[size:] == came.payload[size:], "the data"
            assert whole.view.error == 0, f"checksum {whole.view.field:#06x} instead of {whole.view.right:#06x}"
            if mode == "dr":
                assert whole.view.payload == came.payload and (whole.src, whole.dst) == (came.src, came.dst)
                continue
            ports = struct.unpack_from("!HH", whole.view.payload)
            if port == "lan":
                assert whole.dst in [host_bytes(host) for host in to or (lab.A, lab6.A)] and ports[1] == dport, (whole.dst, ports)
                assert whole.src == came.src and ports[0] == 40000 if mode == "nat" else str(ipaddress.ip_address(whole.src)) in case.config.pool["addresses"]
            else:
                service = next(iter(case.config.services.values()))
                assert whole.src == host_bytes(service.vip) and ports == (service.port, 40000), (whole.src, ports)
        if same_parts:
            place = lambda part: (part.piece.id & 0xFFFF, part.piece.offset, part.piece.more, len(part.data))  # noqa: E731
            came = [ip_of(frame) for name, _, frame in results.frames if name != port]
            assert sorted(place(part) for part in came if part.piece) == sorted(place(ip_of(frame)) for frame in frames), "other fragments than came"

    return check


def udp(family, length, sport=40000, sender=None, seed=1, **fields):
    return family.udp(sender or family.CLIENT, family.VIP, text(length, seed), sport=sport, **fields)


def lb(family, mode, protocol="udp", **more):
    return family.two_arm(family.service(mode, family.A, protocol=protocol, real_port=None if mode == "dr" else 8080), **more)


def in_any_order(name, family, mode, order, length=8000):
    sent = udp(family, length)
    return Case(f"{name}_{mode}_{order}", lb(family, mode), steps(fragments(sent, order=ORDERS[order])), gathers=True, check=goes_whole(sent))


def large(name, family, mode, order):
    case = in_any_order(name, family, mode, order, 60_000)
    case.name += "_60000_bytes"
    return case


def clients(family, count):
    if family is lab6:
        return [lab.Host(f"2001:db8:7::{n + 1:x}", family.GATEWAY.mac) for n in range(count)]
    return [family.client(n + 1) for n in range(count)]


def interleaved(name, family, mode, length=8000, count=100):
    """Many clients at once, each one's fragments reversed."""
    sent = [udp(family, length, sender=host, seed=n) for n, host in enumerate(clients(family, count))]
    each = [fragments(one, id=0x100 + n, order=ORDERS["reversed"]) for n, one in enumerate(sent)]
    frames = [frames[n] for n in range(len(each[0])) for frames in each]
    made = [wan(frame, forward("lan") if is_first(frame) else queue(None), after=1e-5) for frame in frames]
    return Case(f"{name}_{mode}_of_{count}_clients_at_once_{length}_bytes", lb(family, mode), made, gathers=True, check=goes_whole(*sent))


def replied(step, n, length, size=1448, order="in_order", **fields):
    """Fragment number `n` of the real server's answer to what weir sent at `step`."""

    def make(results):
        frame = results.forwarded(step)
        family = lab6 if frame[12:14] == b"\x86\xdd" else lab
        sent = family.reply_to(step, payload=text(length, 9), **fields)(results)
        return fragments(sent, size, port_mac=lab.LAN.mac, order=ORDERS[order])[n]

    make.needs = step
    return make


def replies(name, family, mode, order):
    count = -(-8008 // 1448)
    numbers = list(ORDERS[order](count))
    made = [wan(udp(family, 10), forward("lan"))]
    began = False
    for n in range(count):
        began = began or numbers[n] == 0
        made.append(lan(replied(0, n, 8000, order=order), forward("wan") if began else queue(None)))
    return Case(f"{name}_{mode}_replies_{order}", lb(family, mode), made, gathers=True, check=reply_is_whole(8000))


def reply_is_whole(length):
    def check(results):
        (whole,) = together([frame for frame in out(results, "wan") if ip_of(frame).piece])
        service = next(iter(results.case.config.services.values()))
        assert whole.view.error == 0 and whole.view.payload[8:] == text(length, 9)
        assert whole.src == host_bytes(service.vip) and struct.unpack_from("!HH", whole.view.payload) == (service.port, 40000)

    return check


def duplicates(name, family, mode):
    sent = udp(family, 4000)
    a, b, c = fragments(sent)
    made = [wan(c, queue(None)), wan(c, queue(None)), *(wan(each, forward("lan")) for each in (a, a, b, b, c, a))]

    def check(results):
        goes_whole(sent)(results)
        assert len(out(results, "lan")) == 8, "each duplicate goes on too"

    return Case(f"{name}_{mode}_duplicates_go_on", lb(family, mode), made, gathers=True, check=check)


def part(sent, offset, end, more, id=0x77):
    """Bytes of a datagram as a fragment, whatever others there are."""
    packet = packet_of(sent)
    start = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
    return framed(fragment(packet, offset, packet[start + offset : start + end].ljust(end - offset, b"\0"), more, id), sent.sender, lab.WAN.mac)


def overlaps(name, family):
    sent = udp(family, 4000)
    places = {
        "a_part_of_another": [(0, 1440, 1), (8, 16, 1), (1440, 2880, 1)],
        "the_same_place_and_more": [(0, 1440, 1), (0, 1448, 1), (1448, 2880, 1)],
        "the_end_of_another": [(0, 1440, 1), (1432, 2880, 1), (2880, 4008, 0)],
        "two_others": [(0, 1440, 1), (1440, 2880, 1), (8, 2872, 1), (2880, 4008, 0)],
        "beyond_the_end": [(0, 1440, 1), (2880, 4008, 0), (4008, 4016, 1), (1440, 2880, 1)],
        "another_end": [(0, 1440, 1), (2880, 4008, 0), (2880, 4000, 0), (1440, 2880, 1)],
    }
    for what, list_ in places.items():
        bad = len(list_) - 2
        made = [wan(part(sent, *place), forward("lan") if n < bad else OVERLAP) for n, place in enumerate(list_)]
        # Another datagram of the same client is none of it.
        made += [wan(part(sent, 0, 16, 1, id=0x78), forward("lan")), wan(part(sent, 16, 24, 0, id=0x78), forward("lan"))]
        yield Case(f"{name}_overlap_{what}", lb(family, "nat"), made, gathers=True, says="RFC 5722: all of the datagram, from then on")
    yield Case(f"{name}_overlap_among_those_that_wait", lb(family, "nat"), [
        wan(part(sent, 1440, 2880, 1), queue(None)), wan(part(sent, 2880, 4008, 0), queue(None)), wan(part(sent, 2872, 2888, 1), OVERLAP),
        wan(part(sent, 0, 1440, 1), OVERLAP),
    ], gathers=True, lost={"fragment_overlap": 2}, says="RFC 5722")


def tiny(name, family):
    sent = family.tcp(family.CLIENT, family.VIP, "S", payload=b"x" * 64, **({} if family is lab6 else {}))
    with_options = family.tcp(family.CLIENT, family.VIP, "S", payload=b"x" * 64) if family is lab6 else lab.tcp(lab.CLIENT, lab.VIP, "S", payload=b"x" * 64, options=[("MSS", 1460)] * 3)
    yield Case(f"{name}_tiny_first_fragments", lb(family, "fullnat", "tcp"), [
        wan(part(sent, 0, 8, 1, 1), TINY), wan(part(sent, 8, 84, 0, 1), TINY),
        wan(part(sent, 0, 16, 1, 2), TINY), wan(part(sent, 16, 84, 0, 2), TINY), wan(part(sent, 0, 24, 1, 2), TINY),
        wan(part(sent, 24, 84, 0, 3), queue(None)), wan(part(sent, 0, 16, 1, 3), TINY),
        *([wan(part(with_options, 0, 24, 1, 4), TINY), wan(part(with_options, 24, 96, 0, 4), TINY)] if family is lab else []),
    ], gathers=True, lost={"fragment_tiny": 1}, says="RFC 1858 3, RFC 7112 5")
    yield Case(f"{name}_tcp_at_offset_8", lb(family, "fullnat", "tcp"), [
        wan(part(sent, 0, 24, 1, 1), forward("lan")), wan(part(sent, 8, 84, 0, 1), TINY), wan(part(sent, 24, 84, 0, 1), TINY),
        wan(part(sent, 8, 84, 0, 2), TINY), wan(part(sent, 0, 24, 1, 2), TINY),
    ], gathers=True, says="RFC 3128 3")
    yield Case(f"{name}_the_shortest_first_fragment_of_udp", lb(family, "fullnat"), [
        wan(part(udp(family, 100), 0, 8, 1), forward("lan")), wan(part(udp(family, 100), 8, 108, 0), forward("lan")),
    ], gathers=True, check=goes_whole(udp(family, 100)))


def too_long(name, family):
    sent = udp(family, 8000)
    before = 0 if family is lab6 else 20
    last = (65535 - before) // 8 * 8
    return Case(f"{name}_beyond_65535_bytes", lb(family, "nat"), [
        wan(part(sent, 0, 1440, 1), forward("lan")),
        wan(part(sent, last, 65535 - before, 0), forward("lan")),
        wan(part(sent, 0, 1440, 1, 2), forward("lan")),
        wan(part(sent, last, 65536 - before, 0, 2), LONG), wan(part(sent, 1440, 2880, 1, 2), LONG),
        wan(part(sent, 65528, 65536, 1, 3), LONG),
        wan(part(sent, 1440, 2880, 1, 4), queue(None)), wan(part(sent, 65528, 66528, 0, 4), LONG), wan(part(sent, 0, 1440, 1, 4), LONG),
    ], gathers=True, lost={"fragment_too_long": 1}, says="the ping of death")


def timeouts(name, family):
    sent = udp(family, 4000)
    a, b, c = fragments(sent)
    keys = "" if family is lab6 else ""
    return Case(f"{name}_the_first_one_never_comes{keys}", lb(family, "nat"), [
        wan(c, queue(None)), wan(b, queue(None), after=1),
        wan(a, forward("lan"), after=8.9), wan(c, forward("lan")), wan(b, forward("lan")),
        wan(part(sent, 8, 16, 0, 2), queue(None)),
        wan(part(sent, 0, 8, 1, 2), forward("lan"), after=10.001),
        wan(part(sent, 8, 16, 0, 3), queue(None)),
        wan(udp(family, 10), forward("lan"), after=11),
    ], gathers=True, lost={"fragment_timeout": 2}, says="10 seconds; what came too late is alone")


def full(name, family):
    made = [wan(part(udp(family, 100), 8, 16, 1, n), queue(None) if n < 16 else FULL) for n in range(40)]
    made += [wan(part(udp(family, 100), 0, 8, 1, n), forward("lan")) for n in range(16)]
    made += [wan(part(udp(family, 100), 8, 16, 1, 50), queue(None)), wan(udp(family, 10, sport=41000), forward("lan"))]
    config = lb(family, "nat")
    config.text = config.text.replace("limits = { ", "limits = { waiting_fragments = 16, ")

    def check(results):
        assert len(out(results, "lan")) == 16 * 2 + 1, "each first one with the one that waited for it, and the whole one"

    return Case(f"{name}_more_wait_than_may", config, made, gathers=True, check=check)


def fair(name, family):
    """A sender that floods leaves others their part, and pays for it with what it sent first."""
    other = family.Host("2001:db8:51::9" if family is lab6 else "198.51.100.9", lab.GATEWAY.mac)
    sent = udp(family, 4000, sender=other)
    tail = [part(udp(family, 100), 8, 16, 1, n) for n in range(40)]
    config = lb(family, "nat")
    config.text = config.text.replace("limits = { ", "limits = { waiting_fragments = 16, ")
    return Case(f"{name}_a_flood_of_waiting_ones_leaves_others_their_part", config, [
        *(wan(frame, queue(None) if n < 16 else FULL) for n, frame in enumerate(tail)),
        *steps(fragments(sent, order=ORDERS["reversed"])),
        *(wan(part(udp(family, 100), 0, 8, 1, n), forward("lan")) for n in range(16)),
    ], gathers=True, lost={"fragments_full": 2}, check=lambda results: len(out(results, "lan")) == 3 + 16 + 14 or 1 / 0)


def many_wait(name, family):
    """At least 600 may."""
    made = [wan(part(udp(family, 100), 8, 108, 0, n), queue(None), after=1e-5) for n in range(600)]
    made += [wan(part(udp(family, 100), 0, 8, 1, n), forward("lan"), after=1e-5) for n in range(600)]
    return Case(f"{name}_600_wait", lb(family, "fullnat"), made, gathers=True, check=lambda results: len(out(results, "lan")) == 1200 or 1 / 0)


def ping(family, to, length=3000, is_request=True):
    """An echo request, or a reply."""
    if family is lab6:
        kind = ICMPv6EchoRequest if is_request else ICMPv6EchoReply
        return lab.Sent(family.CLIENT, lab6.ip6(family.CLIENT, to) / kind(id=7, seq=1, data=text(length)))
    return lab.icmp(family.CLIENT, to, type=8 if is_request else 0, payload=text(length))


def pings(name, family, order):
    """Each fragment of an echo request is answered by one of the reply; nothing is put together."""
    sent = [ping(family, to, length) for to in (family.VIP, family.WAN.ip) for length in (3000, 60_000)]
    steps = []
    for number, one in enumerate(sent):
        began = False
        for frame in fragments(one, id=0x100 + number, order=ORDERS[order]):
            began = began or is_first(frame)
            steps.append(wan(frame, reply("icmp_echo") if began else queue(None)))

    def check(results):
        wholes = list(together(out(results, "wan")))
        assert len(wholes) == len(sent), f"{len(wholes)} replies"
        for whole, one in zip(sorted(wholes, key=lambda whole: whole.id), sent):
            came = ip_of(framed(packet_of(one), one.sender, lab.WAN.mac))
            assert (whole.src, whole.dst) == (came.dst, came.src), "back to the sender"
            assert whole.view.error == 0, f"checksum {whole.view.field:#06x} instead of {whole.view.right:#06x}"
            assert whole.view.payload[:2] == (b"\x81\0" if family is lab6 else b"\0\0") and whole.view.payload[4:] == came.payload[4:]
            assert whole.view.ttl == 64

    return Case(f"{name}_pings_{order}", lb(family, "nat"), steps, gathers=True, check=check)


def no_pings(name, family):
    """What is no echo request gets no answer, nor its other fragments; a wrong checksum stays one."""
    wrong = fragments(ping(family, family.VIP), id=9)
    wrong[0] = wrong[0][:-1] + bytes([wrong[0][-1] ^ 1])

    def check(results):
        (whole,) = together([frame for frame in out(results, "wan") if ip_of(frame).piece.id == 9])
        assert whole.view.error != 0

    short = ping(family, family.VIP, 100)
    return Case(f"{name}_pings_that_are_none", lb(family, "nat"), [
        *(wan(frame, drop("fragment")) for frame in fragments(ping(family, family.VIP, is_request=False))),
        *(wan(frame, reply("icmp_echo")) for frame in wrong),
        wan(part(short, 0, 48, 1, 10), reply("icmp_echo")), wan(part(short, 40, 108, 0, 10), OVERLAP),
        *(wan(frame, drop("not_for_us")) for frame in fragments(ping(family, family.NEAR.ip))),
    ], gathers=True, check=check)


def pings_from_elsewhere():
    """What says that it is a part of a ping may come from anywhere, but spoils no datagram that comes from a real server."""
    own = [replied(0, n, 3000) for n in range(3)]

    def forged(results):
        packet = bytearray(own[1](results)[14:70])
        packet[4:6], packet[40], packet[42:44] = b"\0\x10", 58, b"\0\x09"
        return framed(bytes(packet), lab6.CLIENT, lab.WAN.mac)

    forged.needs = 0
    return Case("six_pings_from_elsewhere_spoil_nothing", lb(lab6, "fullnat"), [
        wan(udp(lab6, 10), forward("lan")), wan(forged, queue(None)), *(lan(each, forward("wan")) for each in own),
    ], gathers=True, check=reply_is_whole(3000))


def flood(name, family):
    """First fragments that are never completed, and whole datagrams among them."""
    made = [wan(part(udp(family, 100, sport=1024 + n % 50), 0, 8, 1, n), forward("lan"), after=1e-5) for n in range(6000)]
    for n in range(0, 6000, 500):
        made.insert(n, wan(udp(family, 10), forward("lan"), after=1e-5))
    sent = udp(family, 3000)
    return Case(f"{name}_first_fragments_that_are_never_completed", lb(family, "nat"), made + steps(fragments(sent, id=0x7777)), gathers=True)


def refused(name, family):
    away = {"sport": 40000, "dport": 81}
    sent = family.udp(family.CLIENT, family.VIP, text(3000), **away)
    first = family.tcp(family.CLIENT, family.VIP, "A", payload=text(2000))
    none = family.two_arm(family.service("nat", protocol="udp"), family.service("nat", family.A, name="tcp"))
    return Case(f"{name}_no_answer_of_a_host", none, [
        *(wan(frame, drop("no_service")) for frame in fragments(sent)),
        *(wan(frame, drop("no_connection")) for frame in fragments(first)),
        wan(fragments(udp(family, 3000), id=5)[0], drop("no_real_server")), wan(fragments(udp(family, 3000), id=5)[1], drop("no_connection")),
    ], gathers=True, says="the checksum covers all of the datagram, which is not put together")


def ttl(name, family):
    field = {"hlim": 1} if family is lab6 else {"ttl": 1}
    a, b, c = fragments(udp(family, 4000, **field))
    d, e, f = fragments(udp(family, 4000))
    return Case(f"{name}_the_ttl_of_fragments", lb(family, "fullnat"), [
        wan(a, reply("ttl_exceeded", src=family.VIP)), wan(b, drop("ttl_exceeded")),
        wan(framed(parts_of(packet_of(udp(family, 4000)), 1448, 7)[0], family.CLIENT, lab.WAN.mac), forward("lan")),
        wan(fragments(udp(family, 4000, **field), 1448, id=7)[1], drop("ttl_exceeded")),
        wan(fragments(udp(family, 4000), 1448, id=7)[2], forward("lan")),
    ], gathers=True, says="RFC 1812 4.3.2.7: no error about another fragment than the first")


def bad(name, family):
    sent = udp(family, 4000)
    return Case(f"{name}_impossible_fragments", lb(family, "nat"), [
        wan(part(sent, 0, 1439, 1), drop("bad_ip_header")), wan(part(sent, 1440, 1440, 1), drop("bad_ip_header")),
        wan(part(sent, 1440, 1440, 0), drop("bad_ip_header")), wan(part(sent, 8, 13, 1), drop("bad_ip_header")),
        wan(part(sent, 0, 16, 1), forward("lan")),
    ], gathers=True, says="RFC 8200 4.5")


def tcp(name, family, mode):
    """A handshake, and a segment in fragments."""
    sent = family.tcp(family.CLIENT, family.VIP, "PA", payload=text(3000), seq=1001, ack=1)
    return Case(f"{name}_{mode}_a_tcp_segment", lb(family, mode, "tcp"), [
        wan(family.tcp(family.CLIENT, family.VIP), forward("lan")),
        *([lan(family.reply_to(0), forward("wan"))] if mode != "dr" else []),
        wan(family.tcp(family.CLIENT, family.VIP, "A", seq=1001, ack=1), forward("lan")),
        *steps(fragments(sent, order=ORDERS["reversed"])),
    ], gathers=True, check=goes_whole(sent))


def crossing(way, order, length=8000, size=1400):
    sent = udp(way.near, length)
    config = lab46.two_arm(way.service("A", protocol="udp"))
    return Case(f"{way.name}_{order}", config, steps(fragments(sent, size, order=ORDERS[order])), gathers=True, check=goes_whole(sent), says="RFC 7915 4, 5.1.1")


def crossing_replies(way, order):
    count = -(-8008 // 1400)
    numbers, began = list(ORDERS[order](count)), False
    made = [wan(udp(way.near, 10), forward("lan"))]
    for n in range(count):
        began = began or numbers[n] == 0
        made.append(lan(replied(0, n, 8000, 1400, order), forward("wan") if began else queue(None)))
    return Case(f"{way.name}_replies_{order}", lab46.two_arm(way.service("A", protocol="udp")), made, gathers=True, check=reply_is_whole(8000))


def headers(expected, port="lan"):
    """The check of the fragments that come out, in order: their lengths, offsets, ids …"""

    def check(results):
        found = [ip_of(frame) for frame in out(results, port)]
        found = [(len(part.packet), part.piece and part.piece.offset, part.piece and part.piece.more, part.piece and part.piece.id) for part in found]
        assert found == expected, found

    return check


def both(*checks):
    def check(results):
        for each in checks:
            each(results)

    return check


FOUR_TO_SIX, SIX_TO_FOUR = WAYS
TO_SIX = lab46.two_arm(FOUR_TO_SIX.service("A", protocol="udp"))
TO_FOUR = lab46.two_arm(SIX_TO_FOUR.service("A", protocol="udp"))
RECORD = [IPOption_RR(length=7, pointer=4, routers=["0.0.0.0"]), IPOption_NOP(), IPOption_Security()]


def sized(family, length, **fields):
    """A datagram whose packet is so long."""
    options = -(-sum(len(bytes(option)) for option in fields.get("options", ())) // 4) * 4
    return udp(family, length - 8 - (40 if family is lab6 else 20 + options), **fields)


def narrow(mode, mtu=1000, known=None, **more):
    return lab.two_arm(lab.service(mode, lab.A, protocol="udp", real_port=None if mode == "dr" else 8080), mtu=mtu, **({"known": known} if known else {}), **more)


def cut_by_weir(mode):
    sent = sized(lab, 1500)
    expected = [(996, 0, True, 0x1234), (524, 976, False, 0x1234)]
    return Case(f"{mode}_is_cut_at_the_mtu", narrow(mode), [wan(sent, forward("lan"))], gathers=True, check=both(headers(expected), goes_whole(sent, same_parts=False)), says="RFC 791 3.2")


def extension(family, kind):
    packet = family.udp(family.CLIENT, family.VIP, text(2000), extensions=kind)
    return packet


def behind(sent, header, size=1200):
    """Fragments of an IPv6 packet of which `header` comes behind the fragment header: a part of what is cut."""
    packet = packet_of(sent)
    data = bytes(header)[1:]
    whole = packet[:6] + bytes([60]) + packet[7:40] + bytes([packet[6]]) + data + packet[40:]
    return [framed(each, sent.sender, lab.WAN.mac) for each in parts_of(whole, size)]


PAD = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])


def before(sent, size=1200):
    """Fragments of an IPv6 packet that have hop-by-hop options of their own before the fragment header."""
    header = bytes(IPv6ExtHdrHopByHop(nh=44, options=[PadN(optdata=b"\0" * 4)]))
    made = []
    for each in parts_of(packet_of(sent), size):
        length = struct.unpack_from("!H", each, 4)[0] + len(header)
        made.append(framed(each[:4] + struct.pack("!HB", length, 0) + each[7:40] + header + each[40:], sent.sender, lab.WAN.mac))
    return made


CASES = [
    *(in_any_order(name, family, mode, order) for name, family in FAMILIES.items() for mode in MODES for order in ORDERS),
    *(large(name, family, mode, order) for name, family in FAMILIES.items() for mode in MODES for order in ("in_order", "reversed")),
    *(interleaved(name, family, mode) for name, family in FAMILIES.items() for mode in MODES),
    interleaved("four", lab, "fullnat", 60_000), interleaved("six", lab6, "dr", 60_000),
    *(replies(name, family, mode, order) for name, family in FAMILIES.items() for mode in ("nat", "fullnat") for order in ("in_order", "reversed", "shuffled")),
    *(duplicates(name, family, mode) for name, family in FAMILIES.items() for mode in MODES),
    *(case for make in (overlaps, tiny) for name, family in FAMILIES.items() for case in make(name, family)),
    *(make(name, family) for make in (too_long, timeouts, full, fair, many_wait, flood, refused, ttl, bad) for name, family in FAMILIES.items()),
    *(pings(name, family, order) for name, family in FAMILIES.items() for order in ORDERS),
    *(no_pings(name, family) for name, family in FAMILIES.items()),
    pings_from_elsewhere(),
    *(tcp(name, family, mode) for name, family in FAMILIES.items() for mode in MODES),
    *(crossing(way, order) for way in WAYS for order in ORDERS),
    *(crossing_replies(way, order) for way in WAYS for order in ("in_order", "reversed")),
    *(cut_by_weir(mode) for mode in MODES),
    Case("a_fragment_is_cut_again", narrow("nat"), steps(fragments(udp(lab, 4000))), gathers=True, check=both(
        goes_whole(udp(lab, 4000), same_parts=False),
        headers([(996, 0, True, 0x77), (524, 976, True, 0x77), (996, 1480, True, 0x77), (524, 2456, True, 0x77), (996, 2960, True, 0x77), (92, 3936, False, 0x77)])), says="RFC 791 3.2"),
    Case("the_mtu_itself_is_not_too_long", narrow("fullnat"), [wan(sized(lab, 1000), forward("lan", length=1000)), wan(sized(lab, 1001), forward("lan"))], gathers=True,
         check=headers([(1000, None, None, None), (996, 0, True, 0x1234), (25, 976, False, 0x1234)])),
    Case("options_are_copied_where_they_say_so", narrow("nat"), [wan(sized(lab, 1500, options=RECORD), forward("lan"))], gathers=True, check=lambda results: copied(results), says="RFC 791 3.1"),
    Case("with_df_it_is_too_big", narrow("nat"), [
        wan(sized(lab, 1001, flags="DF"), reply("too_big", icmp=(3, 4), rest=struct.pack("!I", 1000), src=lab.VIP)),
        wan(part(udp(lab, 4000, flags="DF"), 0, 1480, 1), reply("too_big", icmp=(3, 4), src=lab.VIP)),
        wan(part(udp(lab, 4000, flags="DF"), 1480, 2960, 1), drop("too_big")),
    ], gathers=True, says="RFC 1191 4; RFC 1812 4.3.2.7"),
    Case("six_is_never_cut", lab46.two_arm(lab46.fullnat(lab6.VIP, lab6.A, protocol="udp"), mtu=(1500, 1300)), [
        wan(part(udp(lab6, 4000), 0, 1400, 1), reply("too_big", icmp=(2, 0), rest=struct.pack("!I", 1300), src=lab6.VIP)),
        wan(part(udp(lab6, 4000), 1400, 2800, 1), drop("too_big")),
        wan(part(udp(lab6, 4000), 2800, 4008, 0), forward("lan")),
    ], gathers=True, says="RFC 8200 4.5: by its sender alone"),
    Case("what_waits_for_a_neighbour_is_cut_then", narrow("nat", known=[lab.GATEWAY]), [
        wan(sized(lab, 1500), queue("lan")),
        lan(lab.arp(lab.A, lab.LAN, op="is-at", to_mac=lab.LAN.mac, target_mac=lab.LAN.mac)),
    ], asks=[("lan", 0.001, lab.A.ip)], gathers=True, check=lambda results: cut_later(results)),
    Case("four_to_six_whole_where_it_fits", TO_SIX, [
        wan(sized(lab, 1480), forward("lan", length=1500)), wan(sized(lab, 1481), forward("lan")), wan(sized(lab, 1500), forward("lan")),
    ], gathers=True, check=headers([(1500, None, None, None), (1280, 0, True, 0x1234), (277, 1232, False, 0x1234), (1280, 0, True, 0x1234), (296, 1232, False, 0x1234)]),
        says="RFC 7915 4: fragments of 1280 bytes, the identification in the low half"),
    Case("four_to_six_a_fragment_is_cut_again", TO_SIX, steps(fragments(udp(lab, 4000))), gathers=True, check=both(
        goes_whole(udp(lab, 4000), same_parts=False),
        headers([(1280, 0, True, 0x77), (296, 1232, True, 0x77), (1280, 1480, True, 0x77), (296, 2712, True, 0x77), (1096, 2960, False, 0x77)]))),
    Case("four_to_six_with_df_it_is_too_big", TO_SIX, [
        wan(sized(lab, 1481, flags="DF"), reply("too_big", icmp=(3, 4), rest=struct.pack("!I", 1480), src=lab.VIP)),
        wan(part(udp(lab, 4000, flags="DF"), 0, 1480, 1), reply("too_big", icmp=(3, 4), src=lab.VIP)),
    ], gathers=True),
    Case("six_to_four_fragments_lose_df", TO_FOUR, steps(fragments(udp(lab6, 4000), 1440, id=0xABCD4321)), gathers=True, check=both(
        goes_whole(udp(lab6, 4000)), headers([(1460, 0, True, 0x4321), (1460, 1440, True, 0x4321), (1148, 2880, False, 0x4321)]),
        lambda results: all(not ip_of(frame).packet[6] & 0x40 for frame in out(results, "lan")) or 1 / 0), says="RFC 7915 5.1.1"),
    Case("six_to_four_fragments_are_cut_at_the_mtu", lab46.two_arm(SIX_TO_FOUR.service("A", protocol="udp"), mtu=(1500, 1000), lan=(lab.LAN, None)),
         steps(fragments(udp(lab6, 2000), 1440)), gathers=True, check=both(goes_whole(udp(lab6, 2000), same_parts=False),
         headers([(996, 0, True, 0x77), (484, 976, True, 0x77), (588, 1440, False, 0x77)]))),
    Case("six_to_four_what_may_be_fragmented_is_cut", lab46.two_arm(SIX_TO_FOUR.service("A", protocol="udp"), mtu=(1500, 1000), lan=(lab.LAN, None)), [
        wan(sized(lab6, 1020), forward("lan", length=1000)), wan(sized(lab6, 1021), forward("lan")), wan(sized(lab6, 1280), forward("lan")),
        wan(sized(lab6, 1281), reply("too_big", icmp=(2, 0), rest=struct.pack("!I", 1280), src=lab6.VIP)),
    ], gathers=True, check=lambda results: [ip_of(frame).piece and ip_of(frame).piece.offset for frame in out(results, "lan")] == [None, 0, 976, 0, 976] or 1 / 0,
        says="RFC 7915 5.1: DF clear up to 1260 bytes; RFC 8200 5: no path is narrower than 1280"),
    Case("four_to_six_without_a_checksum", TO_SIX, [wan(frame, drop("no_udp_checksum")) for frame in fragments(udp(lab, 4000, chksum=0))], gathers=True, says="RFC 7915 4.5"),
    Case("six_without_a_checksum", lb(lab6, "nat"), [wan(frame, drop("no_udp_checksum")) for frame in fragments(udp(lab6, 4000, chksum=0))], gathers=True, says="RFC 8200 8.1"),
    Case("four_without_a_checksum_stays_so", lb(lab, "fullnat"), steps(fragments(udp(lab, 4000, chksum=0), order=ORDERS["reversed"])), gathers=True, check=lambda results: no_checksum(results)),
    Case("six_headers_behind_the_fragment_header", lb(lab6, "fullnat"), steps([behind(udp(lab6, 3000), PAD)[n] for n in (2, 1, 0)]), gathers=True,
         check=lambda results: whole_of(results, 3000), says="a part of what is cut: later fragments name them, not UDP"),
    Case("six_headers_before_the_fragment_header", lb(lab6, "fullnat"), steps([before(udp(lab6, 3000))[n] for n in (2, 1, 0)]), gathers=True, check=lambda results: whole_of(results, 3000)),
    Case("six_to_four_headers_behind_the_fragment_header", TO_FOUR, [wan(frame, drop("ipv6_extension")) for frame in behind(udp(lab6, 3000), PAD)], gathers=True, says="RFC 7915 5.1.1"),
    Case("six_headers_that_go_on_in_another_fragment", lb(lab6, "nat"), [
        wan(framed(parts_of(packet_of(lab6.udp(lab6.CLIENT, lab6.VIP, text(200), extensions=IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 60)]))), 32)[0], lab6.CLIENT, lab.WAN.mac), TINY),
    ], gathers=True, says="RFC 7112 5"),
    Case("an_identification_used_again", lb(lab, "nat"), steps(fragments(udp(lab, 3000))) + steps(fragments(udp(lab, 2000, sport=40001))), gathers=True),
    Case("to_other_hosts", lab.two_arm(lab.service("fullnat", lab.A, protocol="udp")), [wan(frame, drop("not_for_us")) for frame in fragments(lab.udp(lab.CLIENT, lab.NEAR, text(3000)))], gathers=True),
    Case("to_other_hosts_where_nat_has_replies", lb(lab, "nat"), [wan(frame, drop("not_for_us")) for frame in fragments(lab.udp(lab.CLIENT, lab.NEAR, text(3000)))], gathers=True),
    Case("of_other_protocols", lb(lab, "nat"), [wan(frame, drop("fragment")) for frame in fragments(lab.Sent(lab.CLIENT, lab.ip(lab.CLIENT, lab.VIP, proto=47) / Raw(text(3000))))], gathers=True),
]


def copied(results):
    a, b = (ip_of(frame) for frame in out(results, "lan"))
    options = a.header[20:]
    assert options[0] == 7 and 130 in options, options
    assert b.header[20] == 130 and len(b.header) == 20 + 12 and len(a.packet) <= 1000, b.header
    goes_whole(sized(lab, 1500, options=RECORD), same_parts=False)(results)


def cut_later(results):
    found = [ip_of(frame) for frame in out(results, "lan") if frame[12:14] == b"\x08\x00"]
    assert [(len(part.packet), part.piece.offset, part.piece.more) for part in found] == [(996, 0, True), (524, 976, False)], found
    assert all(frame[:6] == bytes.fromhex(lab.A.mac.replace(":", "")) for frame in out(results, "lan") if frame[12:14] == b"\x08\x00")


def no_checksum(results):
    (whole,) = together(out(results, "lan"))
    assert whole.view.field == 0 and whole.view.payload[8:] == text(4000)


def whole_of(results, length):
    (whole,) = together(out(results, "lan"))
    assert whole.view.payload[8:] == text(length) and whole.view.error == 0
