"""What weir answers itself, from which address, how often, and what it never answers."""

from case import Case, drop, ends, forward, lan, local, reply, wan
from lab import (A, B, CLIENT, INNER_GATEWAY, LAN, LAN_VIP, NEAR, POOL, VIP, WAN, WAN_VIP, Host, arp, ethernet, icmp, quoting, raw, reply_to, route, service,
                 tcp, two_arm, udp)

MODES = ("dr", "nat", "fullnat")
LB = two_arm(service("nat", A))
SUBNETS = two_arm(service("nat", A, vip=WAN_VIP), service("nat", A, vip=LAN_VIP, name="inner"), service("nat", A, vip=VIP, name="routed"))


def is_at(host, port, address):
    """The answer to `host`'s question for `address`."""
    mac = (WAN if port == "wan" else LAN).mac
    return reply("arp", port, eth_dst=host.mac, op=2, src=address, hwsrc=mac, dst=host.ip, hwdst=host.mac)


def echoed(sender, address, port="wan", **sent):
    from wire import Ipv4

    packet = icmp(sender, address, **sent)
    rest = Ipv4(ethernet(packet)).payload[4:8]
    return (wan if port == "wan" else lan)(packet, reply("icmp_echo", port, sender, src=address, icmp=(0, 0),
        rest=rest, payload=sent.get("payload", b"")))


def ttl_of_requests(mode, protocol):
    make = tcp if protocol == "tcp" else udp
    dead = lambda **more: wan(make(CLIENT, VIP, ttl=1, **more), reply("ttl_exceeded", "wan", CLIENT, src=VIP, icmp=(11, 0),
        rest=b"\0" * 4))  # noqa: E731
    return Case(f"{mode}_{protocol}_requests_with_ttl_1", two_arm(service(mode, A, protocol=protocol)), [
        dead(),
        wan(make(CLIENT, VIP, ttl=2), forward("lan", A, new=True, ttl=1)),
        dead(),
        dead(sport=40001),
        wan(make(CLIENT, VIP, ttl=255), forward("lan", A, new=False, ttl=254)),
    ])


def ttl_of_replies(mode):
    return Case(f"{mode}_replies_with_ttl_1", two_arm(service(mode, A)), [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        lan(reply_to(0, ttl=1), reply("ttl_exceeded", "lan", A, src=VIP, icmp=(11, 0))),
        lan(reply_to(0, ttl=2), forward("wan", CLIENT, ttl=1)),
    ])


def reset(flags, seq=0, ack=0, dport=81):
    return reply("no_service", "wan", CLIENT, src=VIP, sport=dport, dport=40000, flags=flags, seq=seq, ack=ack, payload=b"")


def resets():
    """RFC 9293 3.10.7.1: seq = SEG.ACK where there is one, else 0 and ack = SEG.SEQ + SEG.LEN."""
    steps = []
    for flags, data, seq in (("S", b"", 1000), ("S", b"fast open", 1000), ("S", b"", 0xFFFFFFFF), ("F", b"", 7), ("SF", b"abc", 0xFFFFFFFE),
                             ("", b"", 5), ("", b"12345", 5), ("P", b"odd", 0)):
        length = len(data) + ("S" in flags) + ("F" in flags)
        steps.append(wan(tcp(CLIENT, VIP, flags, dport=81, seq=seq, payload=data), reset("RA", 0, (seq + length) % 2**32)))
    for flags, data, ack in (("A", b"", 77), ("PA", b"data", 0xFFFFFFFF), ("SA", b"", 1), ("FA", b"", 0), ("FPUA", b"x", 0x80000000)):
        steps.append(wan(tcp(CLIENT, VIP, flags, dport=81, seq=9, ack=ack, payload=data), reset("R", ack, 0)))
    steps.append(wan(tcp(CLIENT, VIP, "S", dport=81, options=[("MSS", 1460), ("WScale", 7)]), reset("RA", 0, 1001)))
    steps.append(wan(raw(ethernet(tcp(CLIENT, VIP, "S", dport=81)) + b"\0" * 6), reset("RA", 0, 1001)))  # padding is no data
    return steps


def unavailable(mode, weights, *reals):
    lb = two_arm(service(mode, *reals, weights=weights), service(mode, *reals, protocol="udp", weights=weights, name="datagrams"))
    kind = "all_of_weight_0" if reals else "none_configured"
    return Case(f"{mode}_no_real_server_{kind}", lb, [
        wan(tcp(CLIENT, VIP), reply("no_real_server", "wan", CLIENT, src=VIP, sport=80, dport=40000, flags="RA", seq=0, ack=1001)),
        wan(udp(CLIENT, VIP), reply("no_real_server", "wan", CLIENT, src=VIP, icmp=(3, 3), rest=b"\0" * 4)),
    ])


def limited(name, make, reason):
    """A second's worth at once, then as many as the rate gives; others' answers do not count."""
    dead, fine = lambda after=0.0: wan(make(), drop("rate_limited"), after=after), lambda after=0.0: wan(make(), reply(reason),
        after=after)  # noqa: E731
    return Case(f"{name}_are_limited", two_arm(service("nat", A, vip=WAN_VIP), answers=4), [
        *(fine() for _ in range(4)), *(dead() for _ in range(3)),
        fine(0.25), dead(),
        fine(0.5), fine(), dead(),
        *(fine(60 if n == 0 else 0) for n in range(4)), dead(),
    ])


def tagged(packet, control=0):
    """The frame with an 802.1Q tag of VLAN 0 and this priority, and the eligibility bit."""
    if callable(packet):

        def make(results):
            return tagged(packet(results), control)

        make.needs = packet.needs
        return make
    frame = ethernet(packet, LAN.mac if packet.sender.mac == A.mac else WAN.mac)
    return raw(frame[:12] + b"\x81\0" + bytes([control, 0]) + frame[12:])


def cut(length):
    """A check that nothing follows a packet of `length` bytes in its frame."""
    return lambda frame: len(frame) == 14 + length


def trailers(mode):
    """What follows the packet in its frame goes, but for what fills a short one up."""
    lb = two_arm(service(mode, A), mtu=1400)
    long, short = tcp(CLIENT, VIP, "PA", payload=b"x" * 100), tcp(CLIENT, VIP, "A")
    behind = lambda packet, tail: raw(ethernet(packet) + tail)  # noqa: E731
    padded_by = lambda size: cut(40) if size > 6 else lambda frame: len(frame) in (54, 54 + size)  # noqa: E731
    steps = [wan(behind(tcp(CLIENT, VIP), b"t" * 1606), forward("lan", A, new=True, frame=cut(40)))]
    for size in (1, 4, 18, 19, 300, 1606, 1900):
        steps.append(wan(behind(long, b"t" * size), forward("lan", A, new=False, frame=cut(140))))
        steps.append(wan(behind(short, b"t" * size), forward("lan", A, new=False, frame=padded_by(size))))
    full = tcp(CLIENT, VIP, "PA", payload=b"x" * 1360)
    steps.append(wan(behind(full, b"fcs!"), forward("lan", A, new=False, frame=cut(1400))))
    return Case(f"{mode}_trailers_are_cut_off", lb, steps, says="as the kernel's ip_rcv_core; a frame beyond the out port's MTU is not sent")


def fair():
    """Limits are each port's, and shared by sender and by service: a limit of 1,000 a second leaves each of them at least one."""
    inner = Host("10.0.0.77", "02:00:00:00:02:77")
    flood = lambda make, count, expect: [wan(make(n), expect(n), after=0) for n in range(count)]  # noqa: E731
    until = lambda limit, answer: lambda n: answer if n < limit else drop("rate_limited")  # noqa: E731
    others = [Host(f"203.0.{n}.9", CLIENT.mac) for n in (7, 8, 9)]
    one = lambda n: tcp(CLIENT, VIP, sport=1000 + n, dport=81)  # noqa: E731
    everyone = lambda n: tcp(Host(f"100.{64 + n // 250}.{n % 250}.9", CLIENT.mac), VIP, dport=81)  # noqa: E731
    ports = lambda n: tcp(Host(f"100.{64 + n // 250}.{n % 250}.9", CLIENT.mac), VIP, dport=1000 + n)  # noqa: E731
    vips = [f"192.0.2.{n}" for n in range(81, 89)]
    scanned = two_arm(service("nat", A), *(service("nat", A, vip=vip, name=vip) for vip in vips))

    def nearly_all_are_answered(results):
        answered = sum(line["verdict"] == "reply" for line in results.lines[-len(vips) :])
        assert answered >= len(vips) - 2, f"{answered} of {len(vips)}: more than chance puts into one share"

    yield Case("a_flood_of_arp_on_one_port_leaves_the_other_alone", SUBNETS, [
        *(lan(arp(inner, LAN), reply("arp", "lan") if n < 1000 else drop("rate_limited"), after=0) for n in range(1100)),
        *(wan(arp(NEAR, WAN), is_at(NEAR, "wan", WAN.ip), after=0.001 if n == 0 else 0) for n in range(200)),
        *(echoed(CLIENT, VIP) for _ in range(200)),
        lan(arp(A, LAN), is_at(A, "lan", LAN.ip)),
    ])
    yield Case("one_prefix_does_not_use_up_the_resets_of_others", LB, [
        *flood(one, 1100, until(1000, reply("no_service"))),
        *(wan(tcp(other, VIP, dport=81), reply("no_service"), after=0) for other in others),
        wan(one(0), drop("rate_limited"), after=0),
    ])
    for name, make in (("one_service", everyone), ("every_port_of_a_vip", ports)):
        yield Case(f"a_forged_flood_for_{name}_leaves_other_vips_their_resets", scanned, [
            *flood(make, 2500, lambda n: reply("no_service") if n < 1000 else ends),
            *(wan(tcp(others[0], vip, dport=81), after=0) for vip in vips),
        ], check=nearly_all_are_answered)


BAD_MACS = ("ffffffffffff", "01005e000001")

CASES = [
    Case("arp_for_what_is_weirs_on_the_link", SUBNETS, [
        wan(arp(NEAR, WAN), is_at(NEAR, "wan", WAN.ip)),
        wan(arp(NEAR, WAN_VIP), is_at(NEAR, "wan", WAN_VIP)),
        lan(arp(A, LAN), is_at(A, "lan", LAN.ip)),
        lan(arp(A, LAN_VIP), is_at(A, "lan", LAN_VIP)),
        lan(arp(A, POOL), is_at(A, "lan", POOL)),
    ]),
    Case("arp_for_a_vip_outside_all_subnets_is_answered_where_its_route_leads", SUBNETS, [
        wan(arp(NEAR, VIP), is_at(NEAR, "wan", VIP)), lan(arp(A, VIP), drop("arp_ignored")),
        wan(arp(NEAR, LAN_VIP), drop("arp_ignored")), lan(arp(A, WAN_VIP), drop("arp_ignored")),
    ]),
    Case("arp_for_a_vip_outside_all_subnets_follows_the_longest_prefix", two_arm(service("nat", A), extra=route("192.0.2.0/24", INNER_GATEWAY)), [
        wan(arp(NEAR, VIP), drop("arp_ignored")), lan(arp(A, VIP), is_at(A, "lan", VIP)),
    ]),
    Case("arp_for_a_vip_to_which_no_route_leads_is_ignored", two_arm(service("nat", A), default_route=False), [
        wan(arp(NEAR, VIP), drop("arp_ignored")), lan(arp(A, VIP), drop("arp_ignored")),
    ]),
    Case("arp_for_a_vip_is_answered_where_announce_says_so", two_arm(service("nat", A), announce=((), ["192.0.2.0/24"])), [
        wan(arp(NEAR, VIP), drop("arp_ignored")), lan(arp(A, VIP), is_at(A, "lan", VIP)),
    ]),
    Case("announce_holds_for_several_ports_and_beside_their_subnets",
         two_arm(service("nat", A, vip=WAN_VIP), pool="10.77.0.200-10.77.0.203", announce=(["10.77.0.200/31"], ["198.51.100.80/32", "10.77.0.200/31"])), [
        wan(arp(NEAR, WAN_VIP), is_at(NEAR, "wan", WAN_VIP)), lan(arp(A, WAN_VIP), is_at(A, "lan", WAN_VIP)),
        *(wan(arp(NEAR, f"10.77.0.{n}"), is_at(NEAR, "wan", f"10.77.0.{n}")) for n in (200, 201, 202, 203)),
        *(lan(arp(A, f"10.77.0.{n}"), is_at(A, "lan", f"10.77.0.{n}")) for n in (200, 201)),
        *(lan(arp(A, f"10.77.0.{n}"), drop("arp_ignored")) for n in (202, 203)),
        wan(arp(NEAR, LAN), drop("arp_ignored")),
    ], says="pool addresses as VIPs; a port's own address is found on that port alone"),
    Case("every_address_of_a_pool_answers_arp", two_arm(service("fullnat", A), pool="10.0.0.200-10.0.0.203"), [
        *(lan(arp(A, f"10.0.0.{n}"), is_at(A, "lan", f"10.0.0.{n}")) for n in range(200, 204)),
        lan(arp(A, "10.0.0.199"), drop("arp_ignored")), lan(arp(A, "10.0.0.204"), drop("arp_ignored")),
    ]),
    Case("an_address_probe_is_answered", SUBNETS,
         [wan(arp(Host("0.0.0.0", NEAR.mac), WAN_VIP), reply("arp", "wan", eth_dst=NEAR.mac, op=2, src=WAN_VIP, hwsrc=WAN.mac))],
         says="RFC 5227 2.1.1: the host that probes learns that the address is taken"),
    Case("a_unicast_arp_request_is_answered", SUBNETS, [wan(arp(NEAR, WAN, to_mac=WAN.mac), is_at(NEAR, "wan", WAN.ip))],
         says="RFC 1122 2.3.2.1: how others confirm that weir is still there"),
    Case("padded_arp_requests_are_answered", SUBNETS, [wan(raw(ethernet(arp(NEAR, WAN)) + pad),
        is_at(NEAR, "wan", WAN.ip)) for pad in (b"\0" * 18, b"noise", b"\xff" * 18)]),
    Case("arp_replies_are_not_answered", SUBNETS, [wan(arp(NEAR, WAN, op="is-at", target_mac=WAN.mac), local("arp"))]),
    Case("ping_of_vips_and_ports", SUBNETS, [
        *(echoed(CLIENT, VIP, payload=bytes(range(size % 256)) * (1 if size < 256 else 5),
        id=size, seq=0xFFFF) for size in (0, 1, 2, 3, 55, 56, 57, 255)),
        echoed(CLIENT, VIP, payload=b"\xff" * 1472),
        echoed(CLIENT, VIP, payload=b"\0" * 1471),
        echoed(CLIENT, WAN.ip, payload=b"odd"), echoed(NEAR, WAN_VIP, payload=b"even"),
        echoed(A, LAN.ip, "lan", payload=b"from inside"), echoed(A, LAN_VIP, "lan"),
    ]),
    Case("pings_with_checksums_near_the_wrap", LB, [
        echoed(CLIENT, VIP, payload=tail.to_bytes(2, "big"), id=0, seq=0)
        for tail in (0x0000, 0xF7FF, 0xF7FE, 0xF800, 0xFFFF, 0x0800, 0xF6FF, 0x07FF)
    ], says="the type goes from 8 to 0: the checksum grows by 0x0800, and wraps"),
    Case("a_padded_ping_loses_its_padding_or_zeroes_it", LB,
         [wan(raw(ethernet(icmp(CLIENT, VIP, payload=b"hi")) + pad),
             reply("icmp_echo", "wan", CLIENT, payload=b"hi")) for pad in (b"\0" * 16, b"secrets of some host")]),
    Case("a_damaged_ping_is_not_made_good", LB, [
        wan(icmp(CLIENT, VIP, payload=b"damaged", chksum=0x1234), drop("bad_l4_checksum")),
    ], says="RFC 1122 3.2.2.6: the echo reply must not hide what happened on the way"),
    Case("ping_of_every_address_of_a_pool", two_arm(service("fullnat", A), pool="10.0.0.200-10.0.0.203"), [
        *(echoed(A, f"10.0.0.{n}", "lan", payload=b"pool") for n in range(200, 204)), echoed(CLIENT, "10.0.0.200"),
        lan(icmp(A, "10.0.0.204"), drop("not_for_us")), lan(icmp(A, "10.0.0.200", type=13), drop("icmp_unsupported")),
    ]),
    Case("a_udp_checksum_of_0_is_right", LB, [wan(udp(CLIENT, VIP, dport=81, chksum=0), reply("no_service"))]),
    Case("priority_tags_are_no_tags", two_arm(service("nat", A, vip=WAN_VIP), service("nat", A, name="routed")), [
        wan(tagged(tcp(CLIENT, VIP)), forward("lan", A, new=True, type=0x0800)),
        wan(tagged(tcp(CLIENT, VIP, "A"), 0xE0), forward("lan", A, new=False, type=0x0800)),
        wan(tcp(CLIENT, VIP, "A"), forward("lan", A, new=False)),
        lan(tagged(reply_to(0), 0x20), forward("wan", CLIENT, type=0x0800)),
        wan(tagged(icmp(CLIENT, VIP, payload=b"hi"), 0x10), reply("icmp_echo", "wan", CLIENT, type=0x0800, payload=b"hi")),
        wan(tagged(tcp(CLIENT, VIP, dport=81)), reply("no_service", "wan", CLIENT, flags="RA", type=0x0800)),
        wan(tagged(arp(NEAR, WAN_VIP), 0xF0), is_at(NEAR, "wan", WAN_VIP)),
        wan(tagged(tcp(CLIENT, WAN, dport=22)), local("to_port_address")),
    ], says="IEEE 802.1Q 6.8.2: VLAN 0 says nothing but a priority; frames out of an untagged port are untagged"),
    *(trailers(mode) for mode in MODES),
    *fair(),
    Case("ping_of_nobody_is_not_answered", LB, [wan(icmp(CLIENT, "192.0.2.81"), drop("not_for_us")), wan(icmp(CLIENT, A), drop("not_for_us"))]),
    *(ttl_of_requests(mode, protocol) for mode in MODES for protocol in ("tcp", "udp")),
    *(ttl_of_replies(mode) for mode in ("nat", "fullnat")),
    Case("ttl_0_is_not_forwarded", LB, [wan(tcp(CLIENT, VIP, ttl=0), [reply("ttl_exceeded"), drop("bad_ip_header")])]),
    Case("a_ttl_exceeded_quotes_at_most_576_bytes", two_arm(service("nat", A, protocol="udp")), [
        wan(udp(CLIENT, VIP, b"x" * size, ttl=1), reply("ttl_exceeded", "wan", CLIENT, payload=lambda quote, size=size: len(quote) == min(28 + size, 548)))
        for size in (0, 1, 519, 520, 521, 1472)
    ]),
    Case("no_service_tcp_reset", two_arm(service("nat", A)), resets()),
    Case("no_service_udp_port_unreachable", LB, [
        wan(udp(CLIENT, VIP, b"x" * size, dport=53), reply("no_service", "wan", CLIENT, src=VIP, icmp=(3, 3),
        rest=b"\0" * 4)) for size in (0, 1, 7, 8, 1472)
    ]),
    Case("no_service_of_this_protocol", LB, [wan(udp(CLIENT, VIP, dport=80), reply("no_service", "wan", CLIENT, src=VIP, icmp=(3, 3)))]),
    Case("answers_go_back_through_the_gateway_they_came_from", LB, [wan(tcp(Host("203.0.113.9", "02:00:00:00:02:77"), VIP, dport=81),
        reply("no_service", "wan", eth_dst="02:00:00:00:02:77"))]),
    *(unavailable(mode, weights, *reals) for mode in MODES for weights, reals in (([0, 0], (A, B)), (None, ()))),
    Case("weight_0_among_others_is_passed_over", two_arm(service("nat", A, B, weights=[0, 1])), [wan(tcp(CLIENT, VIP, sport=n),
        forward("lan", B)) for n in range(1, 4)]),
    limited("resets", lambda: tcp(CLIENT, WAN_VIP, dport=81), "no_service"),
    limited("port_unreachables", lambda: udp(CLIENT, WAN_VIP, dport=81), "no_service"),
    limited("time_exceededs", lambda: tcp(CLIENT, WAN_VIP, ttl=1), "ttl_exceeded"),
    limited("pings", lambda: icmp(CLIENT, WAN_VIP), "icmp_echo"),
    limited("arp_answers", lambda: arp(NEAR, WAN_VIP), "arp"),
    Case("kinds_of_answers_do_not_use_up_each_other", two_arm(service("nat", A), answers=1), [
        wan(tcp(CLIENT, VIP, dport=81), reply("no_service"), after=0), wan(udp(CLIENT, VIP, dport=81), reply("no_service"), after=0),
        wan(icmp(CLIENT, VIP), reply("icmp_echo"), after=0), wan(arp(NEAR, WAN), reply("arp"), after=0),
        wan(tcp(CLIENT, VIP, dport=81), drop("rate_limited"), after=0), wan(udp(CLIENT, VIP, dport=81), drop("rate_limited"), after=0),
        wan(icmp(CLIENT, VIP), drop("rate_limited"), after=0), wan(arp(NEAR, WAN), drop("rate_limited"), after=0),
    ]),
    Case("a_thousand_answers_a_second_by_default", LB, [
        *(wan(tcp(CLIENT, VIP, dport=81), reply("no_service"), after=0) for _ in range(1000)),
        wan(tcp(CLIENT, VIP, dport=81), drop("rate_limited"), after=0),
    ]),
    Case("forwarding_is_not_limited", two_arm(service("nat", A), answers=1),
         [wan(tcp(CLIENT, VIP, sport=1000 + n), forward("lan", A), after=0) for n in range(20)]),
    Case("no_reset_to_a_reset", LB, [wan(tcp(CLIENT, VIP, flags, dport=81), drop("no_service")) for flags in ("R", "RA", "RS", "RFPUA")]),
    Case("resets_that_nobody_answers_do_not_use_up_the_limit", two_arm(service("nat", A), answers=1), [
        *(wan(tcp(CLIENT, VIP, "R", dport=81), drop("no_service"), after=0) for _ in range(3)), wan(tcp(CLIENT, VIP, dport=81),
        reply("no_service"), after=0),
    ], says="rate_limited is for answers that were due"),
    Case("no_answer_to_icmp_errors_and_echo_replies", LB, [
        wan(quoting(tcp(Host(VIP, WAN.mac), CLIENT, dport=81)), drop("icmp_no_connection")),
        wan(icmp(CLIENT, VIP, type=11, payload=bytes(tcp(A, CLIENT).layer)[:28], ttl=1), drop("icmp_mismatch")),
        wan(icmp(CLIENT, VIP, type=0), drop("icmp_unsupported")),
    ]),
    Case("no_answer_to_frames_for_all", two_arm(service("nat", A, vip=WAN_VIP)), [
        wan(raw(bytes.fromhex(mac) + ethernet(packet)[6:]), drop("other_host"))
        for mac in BAD_MACS for packet in (tcp(CLIENT, WAN_VIP, dport=81), udp(CLIENT, WAN_VIP, dport=81), icmp(CLIENT, WAN_VIP),
            tcp(CLIENT, WAN_VIP, ttl=1))
    ], says="RFC 1122 3.2.2"),
    Case("no_answer_to_broadcast_addresses", LB, [wan(icmp(CLIENT, to),
        drop({"not_for_us", "other_host"})) for to in ("198.51.100.255", "255.255.255.255", "224.0.0.1")]),
    Case("no_answer_to_senders_that_are_nobody", LB, [
        wan(packet, drop("bad_source")) for address in ("0.0.0.0", "255.255.255.255", "224.0.0.5", "127.0.0.1", VIP)
        for packet in (udp(Host(address, CLIENT.mac), VIP, dport=81), icmp(Host(address, CLIENT.mac), VIP), tcp(Host(address, CLIENT.mac),
            VIP, ttl=1))
    ]),
    Case("no_answer_to_fragments", LB, [wan(udp(CLIENT, VIP, b"x" * 24, dport=81, flags="MF"), drop("no_service")),
        wan(udp(CLIENT, VIP, b"x" * 24, ttl=1, frag=4), drop("ttl_exceeded"))]),
]
