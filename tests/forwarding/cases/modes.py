"""What each forwarding mode does to a packet, in both directions."""

from case import Case, drop, forward, lan, reply, wan
from lab import (A, B, C, CLIENT, FAR, INSIDE, LAN_VIP, NEAR, POOL, VIP, WAN_VIP, Ether, client, ethernet, fixed, one_arm, raw, reply_to,
                 service, tcp, two_arm, udp)

OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]


def both_ways(mode, protocol):
    """A request, and the reply where it passes; odd lengths both ways, TOS, DF and TCP options kept."""
    lb = two_arm(service(mode, A, protocol=protocol))
    if protocol == "tcp":
        first = tcp(CLIENT, VIP, "S", options=OPTIONS, tos=0xB8)
        more, state = tcp(CLIENT, VIP, "PA", payload=b"GET / HTTP/1.1\r\n\r"), "syn_recv"
    else:
        first, more, state = udp(CLIENT, VIP, b"odd", tos=0xB8), udp(CLIENT, VIP, b"more than a word"), "udp"
    steps = [wan(first, forward("lan", A, new=True, state=state, service="web", tos=0xB8))]
    if mode != "dr":
        steps.append(lan(reply_to(0, "SA", b"" if protocol == "tcp" else b"answer!"), forward("wan", CLIENT, new=False, sport=80, dport=40000)))
    steps.append(wan(more, forward("lan", A, new=False)))
    if mode != "dr":
        steps.append(lan(reply_to(0, "PA", b"200 OK."), forward("wan", CLIENT, new=False, payload=b"200 OK.")))
    return Case(f"{mode}_{protocol}", lb, steps)


def lengths(mode, protocol):
    make = (lambda data: tcp(CLIENT, VIP, "PA", payload=data)) if protocol == "tcp" else (lambda data: udp(CLIENT, VIP, data))
    first = tcp(CLIENT, VIP) if protocol == "tcp" else udp(CLIENT, VIP)
    sizes = [0, 1, 2, 3, 5, 6, 17, 18, 19, 511, 1449, 1459, 1460]
    steps = [wan(first, forward("lan"))] + [wan(make(bytes(i % 251 for i in range(size))), forward("lan", new=False)) for size in sizes]
    return Case(f"{mode}_{protocol}_payloads_of_every_kind_of_length", two_arm(service(mode, A, protocol=protocol)), steps)


def with_ip_options(mode):
    """Ports and checksums are found behind 4 to 40 bytes of IP options (here: NOPs)."""
    steps = []
    for words in range(1, 11):
        frame = ethernet(udp(CLIENT, VIP, b"x" * words, sport=40000 + words))
        longer = frame[:14] + bytes([0x45 + words]) + frame[15:34] + b"\x01" * (4 * words) + frame[34:]
        length = len(longer) - 14
        steps.append(wan(fixed(longer[:16] + length.to_bytes(2, "big") + longer[18:]), forward("lan", A, new=True, ihl=5 + words)))
    return Case(f"{mode}_ip_options_stay", two_arm(service(mode, A, protocol="udp")), steps)


def ethernet_padding(mode):
    """Bytes behind the IP packet, zero or not, are no part of it: they may go, stay or become zero."""
    frame = ethernet(udp(CLIENT, VIP, b"hi"))
    pads = [b"\0" * (60 - len(frame)), b"\0", b"noise that a sender forgot", b"\xff" * 3]
    return Case(f"{mode}_ethernet_padding", two_arm(service(mode, A, protocol="udp")), [wan(raw(frame + pad), forward("lan", A)) for pad in pads])


def wrong_checksum(mode, protocol):
    """A wrong L4 checksum stays wrong by as much: the real server must see that the packet was damaged on its way."""
    make = (lambda **more: tcp(CLIENT, VIP, "PA", payload=b"damaged", **more)) if protocol == "tcp" else (lambda **more: udp(CLIENT, VIP, b"damaged", **more))
    opening = tcp(CLIENT, VIP) if protocol == "tcp" else udp(CLIENT, VIP)
    steps = [wan(opening, forward("lan"))]
    steps += [wan(make(chksum=value), forward("lan", A, new=False)) for value in (0x0001, 0x1234, 0x8000, 0xFFFE)]
    return Case(f"{mode}_{protocol}_wrong_checksum_stays_wrong", two_arm(service(mode, A, protocol=protocol)), steps)


def no_checksum(mode):
    lb = two_arm(service(mode, A, protocol="udp"))
    steps = [wan(udp(CLIENT, VIP, b"unsummed", chksum=0), forward("lan", A, chksum=0))]
    if mode != "dr":
        steps.append(lan(reply_to(0, payload=b"unsummed too", chksum=0), forward("wan", CLIENT, chksum=0)))
    return Case(f"{mode}_udp_checksum_0_stays_0", lb, steps)


def zero_sums():
    """Payloads chosen so that the rewritten datagram's checksum comes out as 0, which UDP sends as 0xffff (RFC 768)."""
    from wire import Ipv4

    sent = ethernet(udp(CLIENT, A, b"\0\0", dport=8080))
    tail = Ipv4(sent).right
    return [wan(udp(CLIENT, VIP, tail.to_bytes(2, "big")), forward("lan", A, chksum=0xFFFF))]


def tcp_zero_sum():
    from wire import Ipv4

    sent = ethernet(tcp(CLIENT, A, "S", payload=b"\0\0", dport=8080))
    tail = Ipv4(sent).right
    return [wan(tcp(CLIENT, VIP, "S", payload=tail.to_bytes(2, "big")), forward("lan", A, chksum=0))]


def zero_header_sums():
    """Every IP identification that brings the IPv4 header checksum near its wrap: 0x0000 and 0xffff are where RFC 1141 went wrong."""
    from wire import Ipv4

    base = Ipv4(ethernet(udp(CLIENT, VIP, b"", sport=41000, id=0, ttl=64)))
    start = int.from_bytes(base.header[10:12], "big")
    ids = sorted({(start + delta) % 0x10000 for delta in (-0x102, -0x101, -0x100, -0xFF, -2, -1, 0, 1, 2, 0xFE, 0xFF, 0x100, 0x101)})
    return [wan(udp(CLIENT, VIP, b"", sport=41000, id=number), forward("lan", A)) for number in ids]


def any_port(mode):
    """Port 0 takes every port that has no service of its own; the packet's port stays where the real server names none."""
    lb = two_arm(service(mode, A, port=0, name="all", real_port=None), service(mode, B, port=443, name="tls", real_port=None))
    steps = [
        wan(tcp(CLIENT, VIP, dport=80, sport=1001), forward("lan", A, service="all", dport=80)),
        wan(tcp(CLIENT, VIP, dport=443, sport=1002), forward("lan", B, service="tls", dport=443)),
        wan(tcp(CLIENT, VIP, dport=65535, sport=1003), forward("lan", A, service="all", dport=65535)),
    ]
    if mode != "dr":
        steps.append(lan(reply_to(2), forward("wan", CLIENT, sport=65535, dport=1003)))
    return Case(f"{mode}_any_port_service_and_the_exact_one_before_it", lb, steps)


def both_protocols(mode):
    """One service of TCP and UDP: a client's port is another one in each."""
    lb = two_arm(service(mode, A, protocol="tcp+udp", port=53))
    steps = [
        wan(tcp(CLIENT, VIP, dport=53), forward("lan", A, new=True, state="syn_recv", service="web")),
        wan(udp(CLIENT, VIP, b"odd", dport=53), forward("lan", A, new=True, state="udp", service="web")),
    ]
    if mode != "dr":
        steps += [lan(reply_to(n, *rest), forward("wan", CLIENT, new=False, sport=53)) for n, rest in ((1, (None, b"answer!")), (0, ("SA",)))]
    return Case(f"{mode}_both_protocols", lb, steps)


def through_gateways(mode):
    """The real server and the client each behind a router: frames go to the routers' MAC addresses."""
    lb = two_arm(service(mode, FAR))
    return Case(f"{mode}_real_server_behind_a_gateway", lb, [
        wan(tcp(CLIENT, VIP), forward("lan", FAR, real="10.9.0.5:8080")),
        lan(reply_to(0), forward("wan", CLIENT, src=VIP)),
    ])


def near_client(mode):
    lb = two_arm(service(mode, A, vip=WAN_VIP))
    return Case(f"{mode}_client_on_the_link", lb, [
        wan(tcp(NEAR, WAN_VIP), forward("lan", A)),
        lan(reply_to(0), forward("wan", NEAR, src=WAN_VIP)),
    ])


def on_one_leg(mode):
    """Clients, weir and real servers in one subnet: packets leave by the port they came in by."""
    lb = one_arm(service(mode, A, vip=LAN_VIP))
    steps = [lan(tcp(INSIDE, LAN_VIP), forward("lan", A, new=True))]
    if mode != "dr":
        steps.append(lan(reply_to(0), forward("lan", INSIDE, new=False, src=LAN_VIP)))
    return Case(f"{mode}_one_arm", lb, steps)


MODES, PROTOCOLS = ("dr", "nat", "fullnat"), ("tcp", "udp")
CASES = [
    *(make(mode, protocol) for make in (both_ways, lengths, wrong_checksum) for mode in MODES for protocol in PROTOCOLS),
    *(make(mode) for make in (with_ip_options, ethernet_padding, no_checksum, any_port, both_protocols, on_one_leg) for mode in MODES),
    *(make(mode) for make in (through_gateways, near_client) for mode in ("nat", "fullnat")),
    Case("nat_udp_checksum_of_0_is_sent_as_ffff", two_arm(service("nat", A, protocol="udp")), zero_sums()),
    Case("nat_tcp_checksum_of_0_is_sent_as_0", two_arm(service("nat", A)), tcp_zero_sum()),
    *(Case(f"{mode}_ipv4_checksum_near_its_wrap", two_arm(service(mode, A, protocol="udp")), zero_header_sums()) for mode in MODES),
    Case("fullnat_hides_the_client", two_arm(service("fullnat", A)), [wan(tcp(CLIENT, VIP), forward("lan", A, src=POOL, dport=8080))]),
    Case("nat_shows_the_client", two_arm(service("nat", A)), [wan(tcp(CLIENT, VIP), forward("lan", A, src=CLIENT.ip, sport=40000, dport=8080))]),
    Case("dr_shows_the_vip", two_arm(service("dr", A)), [wan(tcp(CLIENT, VIP), forward("lan", A, src=CLIENT.ip, dst=VIP, dport=80))]),
    Case("the_real_server_port_defaults_to_the_services", two_arm(service("nat", A, port=8443, real_port=None)),
         [wan(tcp(CLIENT, VIP, dport=8443), forward("lan", A, real="10.0.0.11:8443", dport=8443))]),
    Case("any_port_to_one_port_of_the_real_server", two_arm(service("nat", A, port=0, real_port=8080)), [
        wan(tcp(CLIENT, VIP, dport=81), forward("lan", A, dport=8080)),
        lan(reply_to(0), forward("wan", CLIENT, sport=81)),
    ]),
    Case("one_address_two_protocols", two_arm(service("nat", A, name="web"), service("nat", B, protocol="udp", name="quic")), [
        wan(tcp(CLIENT, VIP), forward("lan", A, service="web")),
        wan(udp(CLIENT, VIP), forward("lan", B, service="quic")),
    ]),
    Case("a_connection_stays_with_its_real_server", two_arm(service("nat", A, B, C)),
         [wan(tcp(CLIENT, VIP), forward("lan", C))] + [wan(tcp(CLIENT, VIP, "A"), forward("lan", C, new=False)) for _ in range(5)]),
    Case("each_client_has_its_replies", two_arm(service("fullnat", A)), [
        *(wan(tcp(client(n), VIP, sport=1000 + n), forward("lan", A, new=True)) for n in range(10, 20)),
        *(lan(reply_to(n - 10), forward("wan", client(n), dport=1000 + n)) for n in range(10, 20)),
    ]),
    Case("nat_reply_from_another_port_of_the_real_server_is_no_reply", two_arm(service("nat", A)), [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        lan(tcp(A, CLIENT, "SA", sport=9999, dport=40000), drop("no_connection")),
    ]),
    Case("fullnat_reply_from_another_host_is_no_reply", two_arm(service("fullnat", A)), [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        lan(tcp(B, POOL, "SA", sport=8080, dport=1024), reply("no_connection", "lan")),
    ]),
    Case("dr_replies_do_not_pass_weir", two_arm(service("dr", A)), [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        lan(tcp(A, CLIENT, "SA", sport=80, dport=40000), drop("no_connection")),
    ]),
    Case("ports_without_a_mac_take_every_frame", two_arm(service("nat", A), macs=False), [
        wan(raw(bytes(Ether(src=CLIENT.mac, dst="02:aa:aa:aa:aa:aa") / tcp(CLIENT, VIP).layer)), forward("lan", A)),
    ]),
]
