"""Real servers of the other family than the VIP's: an IPv6 VIP in front of IPv4 real servers, and the reverse (RFC 7915)."""

import struct

import lab
import lab6
from case import ANY, Case, drop, forward, lan, queue, reply, wan
from lab import Host, Sent, arp, ethernet, raw
from lab46 import KNOWN, WAYS, fullnat, reply_to, tos, ttl, two_arm
from scapy.layers.inet import IPOption_LSRR, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.packet import Raw

FOUR_TO_SIX, SIX_TO_FOUR = WAYS
UNREACHABLE = {lab: (3, 3), lab6: (1, 4)}
EXCEEDED = {lab: (11, 0), lab6: (3, 0)}


def whole(way):
    """A conversation, from the first SYN to the last acknowledgement."""
    near, far = way.near, way.far
    steps = [
        wan(near.tcp(near.CLIENT, near.VIP, "S", seq=1000), forward("lan", far.A, new=True, seq=1000, **ttl(far, 63))),
        lan(reply_to(0, "SA", seq=5000, ack=1001), forward("wan", near.CLIENT, new=False, src=near.VIP, sport=80, dport=40000, **ttl(near, 63))),
        wan(near.tcp(near.CLIENT, near.VIP, "A", seq=1001, ack=5001), forward("lan", far.A, new=False, state="established")),
        wan(near.tcp(near.CLIENT, near.VIP, "PA", seq=1001, ack=5001, payload=b"GET / HTTP/1.0\r\n\r\n"), forward("lan", far.A, state="established")),
        lan(reply_to(0, "PA", b"HTTP/1.0 200 OK\r\n\r\nodd", seq=5001, ack=1019), forward("wan", near.CLIENT, state="established", payload=b"HTTP/1.0 200 OK\r\n\r\nodd")),
        lan(reply_to(0, "FA", seq=5023, ack=1019), forward("wan", near.CLIENT, flags="FA")),
        wan(near.tcp(near.CLIENT, near.VIP, "FA", seq=1019, ack=5024), forward("lan", far.A, flags="FA", state="time_wait")),
        lan(reply_to(0, "A", seq=5024, ack=1020), forward("wan", near.CLIENT, flags="A")),
    ]
    return Case(f"{way.name}_a_whole_conversation", two_arm(way.service("A")), steps)


def refused(way):
    """What weir says itself, it says in the family of the packet."""
    near, far = way.near, way.far
    lb = two_arm(way.service("A"), way.service("A", protocol="udp", name="dns"))
    return Case(f"{way.name}_answers_are_of_the_packets_family", lb, [
        wan(near.tcp(near.CLIENT, near.VIP, "A", seq=7, ack=9), reply("no_connection", flags="R", src=near.VIP, seq=9)),
        wan(near.tcp(near.CLIENT, near.VIP, dport=81), reply("no_service", flags="RA", src=near.VIP)),
        wan(near.udp(near.CLIENT, near.VIP, dport=81), reply("no_service", icmp=UNREACHABLE[near], src=near.VIP)),
        lan(far.tcp(far.A, far.POOL, "A", sport=8080, dport=5000, seq=7, ack=9), reply("no_connection", "lan", flags="R", src=far.POOL, seq=9)),
        wan(near.tcp(near.CLIENT, near.VIP, **ttl(near, 1)), reply("ttl_exceeded", icmp=EXCEEDED[near], src=near.VIP)),
        wan(near.udp(near.CLIENT, near.VIP), forward("lan", far.A, new=True)),
        wan(near.udp(near.CLIENT, near.VIP, **ttl(near, 1)), reply("ttl_exceeded", icmp=EXCEEDED[near], src=near.VIP)),
        lan(reply_to(5, payload=b"x", **{"six" if far is lab6 else "four": ttl(far, 1)}), reply("ttl_exceeded", "lan", icmp=EXCEEDED[far], src=far.POOL, dst=far.A.ip)),
    ])


def no_real_server(way):
    near = way.near
    lb = two_arm(way.service("A", weights=[0]), way.service("A", protocol="udp", name="dns", weights=[0]))
    return Case(f"{way.name}_no_real_server", lb, [
        wan(near.tcp(near.CLIENT, near.VIP), reply("no_real_server", flags="RA", src=near.VIP)),
        wan(near.udp(near.CLIENT, near.VIP), reply("no_real_server", icmp=UNREACHABLE[near], src=near.VIP)),
    ])


def datagrams(way):
    near, far = way.near, way.far
    steps = [wan(near.udp(near.CLIENT, near.VIP, payload), forward("lan", far.A, new=number == 0, payload=payload, **ttl(far, 63)))
             for number, payload in enumerate((b"question", b"", b"odd", b"x" * 1200))]
    steps += [lan(reply_to(0, payload=payload), forward("wan", near.CLIENT, src=near.VIP, sport=80, payload=payload)) for payload in (b"answer", b"", b"odd", b"y" * 1200)]
    return Case(f"{way.name}_datagrams", two_arm(way.service("A", protocol="udp")), steps)


def classes(way):
    near, far = way.near, way.far
    steps = [wan(near.udp(near.CLIENT, near.VIP, **tos(near, value)), forward("lan", far.A, tos=value)) for value in (0, 1, 0xB8, 0xFF)]
    steps += [lan(reply_to(0, payload=b"x", **{"six" if far is lab6 else "four": tos(far, value)}), forward("wan", near.CLIENT, tos=value)) for value in (3, 0x28, 0xFF)]
    return Case(f"{way.name}_the_traffic_class_is_kept", two_arm(way.service("A", protocol="udp")), steps)


def wrong_sums(way):
    """What came damaged goes on as damaged; 0xffff stands for 0 where the sum comes out so."""
    near, far = way.near, way.far
    steps = [wan(near.udp(near.CLIENT, near.VIP, payload, chksum=value), forward("lan", far.A)) for value in (1, 0xABCD, 0xFFFF) for payload in (b"odd", b"even")]
    steps += [wan(near.udp(near.CLIENT, near.VIP, struct.pack("!H", word)), forward("lan", far.A)) for word in range(0, 0x10000, 0x333)]
    return Case(f"{way.name}_udp_checksums", two_arm(way.service("A", protocol="udp")), steps)


def unresolved(way):
    """The translated packet waits for its next hop's MAC address."""
    near, far = way.near, way.far
    known = tuple(host for host in KNOWN if host != far.A)
    answer = lab6.advertise(lab6.A, lab6.LAN) if far is lab6 else arp(lab.A, lab.LAN, "is-at", to_mac=lab.LAN.mac, target_mac=lab.LAN.mac)
    return Case(f"{way.name}_a_packet_waits_for_its_next_hop", two_arm(way.service("A"), known=known), [
        wan(near.tcp(near.CLIENT, near.VIP), queue("lan", sent_with=1, to=far.A)),
        lan(answer),
        lan(reply_to(0), forward("wan", near.CLIENT)),
    ], asks=ANY)


def gateways(way):
    near, far = way.near, way.far
    return Case(f"{way.name}_a_real_server_behind_a_gateway", two_arm(way.service("FAR")), [
        wan(near.tcp(near.CLIENT, near.VIP), forward("lan", far.FAR)),
        lan(reply_to(0), forward("wan", near.CLIENT, src=near.VIP)),
    ])


def ports(way):
    """Services of every port, real servers with a port of their own and without."""
    near, far = way.near, way.far
    lb = two_arm(way.service("A", port=0, name="all", real_port=None), way.service("B", port=443, name="tls", real_port=8443))
    return Case(f"{way.name}_any_port_service", lb, [
        wan(near.tcp(near.CLIENT, near.VIP, dport=8000), forward("lan", far.A, service="all", dport=8000)),
        wan(near.tcp(near.CLIENT, near.VIP, dport=443), forward("lan", far.B, service="tls", dport=8443)),
        lan(reply_to(0), forward("wan", near.CLIENT, sport=8000)),
        lan(reply_to(1), forward("wan", near.CLIENT, sport=443)),
    ])


def persistent(way):
    """Clients of one prefix, of the VIP's family, are bound to one real server."""
    near, far = way.near, way.far
    prefix = "{ timeout = \"60s\", prefix_v4 = 24, prefix_v6 = 64 }"
    lb = two_arm(way.service("A", "B", persistence=prefix))
    is_six = near is lab6
    clients = [Host(f"2001:db8:7::{n}" if is_six else f"203.0.113.{n}", near.GATEWAY.mac) for n in range(7, 13)]

    def check(results):
        went = {results.fields(number)["dst"] for number in range(len(clients))}
        assert len(went) == 1, went

    steps = [wan(near.tcp(client, near.VIP), forward("lan", new=True)) for client in clients]
    return Case(f"{way.name}_persistence", lb, steps, check=check)


def dual(pool):
    """One pool, one real server, a VIP of each family: no local pair is used twice, and each reply finds its client."""
    real = lab6.A if pool == 6 else lab.A
    lb = two_arm(fullnat(lab.VIP, real, name="four"), fullnat(lab6.VIP, real, name="six"), ports="5000-5063")
    steps = []
    for number in range(24):
        near = (lab, lab6)[number % 2]
        steps.append(wan(near.tcp(near.CLIENT, near.VIP, sport=1000 + number), forward("lan", real, new=True)))
    for number in range(24):
        near = (lab, lab6)[number % 2]
        steps.append(lan(reply_to(number), forward("wan", near.CLIENT, src=near.VIP, dport=1000 + number)))

    def check(results):
        pairs = {results.fields(number)["sport"] for number in range(24)}
        assert len(pairs) == 24, sorted(pairs)

    return Case(f"a_pool_for_vips_of_both_families_ipv{pool}", lb, steps, check=check)


def exhausted(first):
    """A pool's only pair is used by one family's connection: the other's has none."""
    lb = two_arm(fullnat(lab.VIP, lab.A, name="four"), fullnat(lab6.VIP, lab.A, name="six"), ports="5000-5000")
    near, other = (lab, lab6) if first == 4 else (lab6, lab)
    return Case(f"the_only_pair_is_ipv{first}s", lb, [
        wan(near.tcp(near.CLIENT, near.VIP), forward("lan", lab.A, new=True, sport=5000)),
        lan(reply_to(0), forward("wan", near.CLIENT)),
        wan(other.tcp(other.CLIENT, other.VIP), drop("local_ports_exhausted")),
        lan(reply_to(0, "A"), forward("wan", near.CLIENT)),
    ])


def sized(family, length, **fields):
    """A client's datagram whose packet is so long."""
    return family.udp(family.CLIENT, family.VIP, b"x" * (length - 8 - (40 if family is lab6 else 20)), **fields)


def mtu(value):
    return struct.pack("!I", value)


TO_SIX = two_arm(FOUR_TO_SIX.service("A", protocol="udp"))
TO_FOUR = two_arm(SIX_TO_FOUR.service("A", protocol="udp"))
BIG4, BIG6 = (3, 4), (2, 0)
RECORD = [IPOption_RR(length=7, pointer=4, routers=["0.0.0.0"]), IPOption_NOP()]


def padded(sent):
    """As Ethernet brings the shortest packets."""
    return raw(ethernet(sent).ljust(60, b"\0"))


CASES = [
    *(make(way) for make in (whole, refused, no_real_server, datagrams, classes, wrong_sums, unresolved, gateways, ports, persistent) for way in WAYS),
    dual(4), dual(6), exhausted(4), exhausted(6),
    Case("a_datagram_without_checksum_gets_one", TO_SIX, [
        wan(lab.udp(lab.CLIENT, lab.VIP, payload, chksum=0), forward("lan", lab6.A, chksum=lambda value: value != 0)) for payload in (b"", b"odd", b"question")
    ], says="RFC 7915 4.5"),
    Case("a_reply_without_checksum_gets_one", TO_FOUR, [
        wan(lab6.udp(lab6.CLIENT, lab6.VIP), forward("lan", lab.A)),
        *(lan(reply_to(0, payload=payload, chksum=0), forward("wan", lab6.CLIENT, chksum=lambda value: value != 0)) for payload in (b"", b"odd", b"answer")),
    ], says="RFC 7915 4.5"),
    Case("ipv4_options_are_left_out", TO_SIX, [
        wan(lab.udp(lab.CLIENT, lab.VIP, options=RECORD), forward("lan", lab6.A, length=40 + 8 + 8)),
        wan(lab.udp(lab.CLIENT, lab.VIP, options=[IPOption_NOP()] * 40), forward("lan", lab6.A, new=False, length=40 + 8 + 8)),
        wan(lab.udp(lab.CLIENT, lab.VIP, options=[IPOption_LSRR(routers=["10.0.0.11"])]), drop("source_route")),
    ], says="RFC 7915 4.1"),
    Case("ipv4_options_of_replies_are_left_out", TO_FOUR, [
        wan(lab6.udp(lab6.CLIENT, lab6.VIP), forward("lan", lab.A)),
        lan(reply_to(0, payload=b"answer", options=RECORD), forward("wan", lab6.CLIENT, length=40 + 8 + 6)),
    ], says="RFC 7915 4.1"),
    Case("extension_headers_are_left_out", TO_FOUR, [
        *(wan(lab6.udp(lab6.CLIENT, lab6.VIP, extensions=extension), forward("lan", lab.A, length=20 + 8 + 8)) for extension in (
            IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]), IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]), IPv6ExtHdrRouting(type=4, segleft=0), IPv6ExtHdrRouting(type=0, segleft=0),
            IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]))),
        wan(lab6.udp(lab6.CLIENT, lab6.VIP, extensions=IPv6ExtHdrRouting(type=4, segleft=1)), drop("routing_header")),
    ], says="RFC 7915 5.1"),
    Case("an_atomic_fragment_keeps_its_identification", TO_FOUR, [
        wan(lab6.udp(lab6.CLIENT, lab6.VIP, extensions=IPv6ExtHdrFragment(m=0, offset=0, id=0xABCD1234)), forward("lan", lab.A, id=0x1234, df=False)),
        wan(lab6.udp(lab6.CLIENT, lab6.VIP, b"x" * 1300, extensions=IPv6ExtHdrFragment(m=0, offset=0, id=0xFFFF0000)), forward("lan", lab.A, id=0, df=False)),
    ], says="RFC 7915 5.1.1"),
    Case("the_padding_of_short_frames_goes", two_arm(FOUR_TO_SIX.service("A"), SIX_TO_FOUR.service("A", name="six")), [
        wan(padded(lab.tcp(lab.CLIENT, lab.VIP)), forward("lan", lab6.A, length=60)),
        wan(lab6.tcp(lab6.CLIENT, lab6.VIP), forward("lan", lab.A, length=40)),
    ]),
    Case("six_to_four_may_be_fragmented_up_to_1260", TO_FOUR, [
        wan(sized(lab6, length), forward("lan", lab.A, length=length - 20, df=df)) for length, df in ((1280, False), (1281, True), (1500, True), (48, False))
    ], says="RFC 7915 5.1"),
    Case("four_to_six_too_big", TO_SIX, [
        wan(sized(lab, 1480, flags="DF"), forward("lan", lab6.A, length=1500)),
        wan(sized(lab, 1481, flags="DF"), reply("too_big", icmp=BIG4, rest=mtu(1480), src=lab.VIP)),
        wan(sized(lab, 1500, flags="DF"), reply("too_big", icmp=BIG4, rest=mtu(1480), src=lab.VIP)),
        wan(sized(lab, 1480, flags="DF", options=[IPOption_NOP()] * 20), forward("lan", lab6.A, length=1500)),
    ], says="RFC 7915 4: the 20 bytes more of an IPv6 header"),
    Case("six_to_four_too_big", two_arm(SIX_TO_FOUR.service("A", protocol="udp"), mtu=(1500, 1300)), [
        wan(sized(lab6, 1320), forward("lan", lab.A, length=1300)),
        wan(sized(lab6, 1321), reply("too_big", icmp=BIG6, rest=mtu(1320), src=lab6.VIP)),
    ]),
    Case("a_reply_too_big", TO_FOUR, [
        wan(lab6.udp(lab6.CLIENT, lab6.VIP), forward("lan", lab.A)),
        lan(reply_to(0, payload=b"x" * 1452), forward("wan", lab6.CLIENT, length=1500)),
        lan(reply_to(0, payload=b"x" * 1453, four={"flags": "DF"}), reply("too_big", "lan", icmp=BIG4, rest=mtu(1480), src=lab.POOL, dst=lab.A.ip)),
    ]),
    Case("plain_services_beside_it", two_arm(FOUR_TO_SIX.service("A"), SIX_TO_FOUR.service("A", name="six"), fullnat(lab.VIP, lab.B, name="plain4", port=81),
                                             fullnat(lab6.VIP, lab6.B, name="plain6", port=81)), [
        step for near, far in ((lab, lab6), (lab6, lab)) for step in (
            wan(near.tcp(near.CLIENT, near.VIP), forward("lan", far.A)), wan(near.tcp(near.CLIENT, near.VIP, dport=81), forward("lan", near.B)))
    ] + [lan(reply_to(number), forward("wan", lab.CLIENT if number < 2 else lab6.CLIENT)) for number in range(4)]),
    Case("a_mapped_address_is_no_way_in", TO_FOUR, [
        wan(lab6.udp(Host("::ffff:203.0.113.7", lab6.GATEWAY.mac), lab6.VIP), drop("bad_source")),
        wan(Sent(lab6.CLIENT, lab6.ip6(lab6.CLIENT, "::ffff:192.0.2.80", nh=17) / Raw(bytes.fromhex("9c400050000812345678"))), drop("not_for_us")),
    ]),
]
