"""Every reason to drop a packet, and what is just not dropped."""

from case import Case, drop, ends, forward, lan, local, queue, reply, wan
from lab import (A, B, CLIENT, GATEWAY, LAN, NEAR, POOL, VIP, WAN, WAN_VIP, Ether, Host, Sent, arp, ethernet, fixed, icmp, ip, quoting, raw, reply_to,
                 service, tcp, two_arm, udp)
from scapy.packet import Raw

LB = two_arm(service("nat", A), service("nat", B, protocol="udp", port=53, name="dns"))
SYN, QUERY = ethernet(tcp(CLIENT, VIP)), ethernet(udp(CLIENT, VIP, dport=53))
FINE = wan(tcp(CLIENT, VIP), forward("lan", A))  # whatever came before, weir goes on


def patched(frame, at, value):
    """The frame with other bytes at a place; its IPv4 header checksum is right."""
    frame = frame[:at] + value + frame[at + len(value) :]
    return fixed(frame)


def total_length(frame, length):
    return patched(frame, 16, length.to_bytes(2, "big"))


def with_type(kind, to="02:00:00:00:00:01"):
    return bytes(Ether(src=CLIENT.mac, dst=to, type=kind)) + SYN[14:]


def dropped(name, reason, *packets, config=LB, says=""):
    return Case(name, config, [wan(packet, drop(reason)) for packet in packets] + [FINE], says=says)


def bad_checksums():
    right = int.from_bytes(SYN[24:26], "big")
    others = [(right + delta) % 0x10000 for delta in (1, -1, 0x100, 0x8000)] + [0, 0xFFFF]
    return [raw(SYN[:24] + value.to_bytes(2, "big") + SYN[26:]) for value in others]


def with_ihl(words):
    return fixed(SYN[:14] + bytes([0x40 + words]) + SYN[15:] + b"\0" * 40)


def with_options(options, frame=SYN):
    """The frame with IP options."""
    longer = frame[:14] + bytes([0x45 + len(options) // 4]) + frame[15:34] + options + frame[34:]
    length = int.from_bytes(frame[16:18], "big") + len(options)
    return fixed(longer[:16] + length.to_bytes(2, "big") + longer[18:])


def fragments(packet):
    """The flags and offsets of a first one, one in the middle, the last, the shortest and longest offsets, and a first with DF."""
    return [raw(patched(ethernet(packet), 20, value.to_bytes(2, "big"))) for value in (0x2000, 0x20B9, 0x00B9, 0x0001, 0x1FFF, 0x6000)]


# Zero, broadcast, multicast, and the MAC addresses of weir's own ports.
NO_HOST = ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", LAN.mac, WAN.mac)


def own(address, mac=CLIENT.mac):
    return Host(address, mac)


def ipv4(protocol, sender=CLIENT, to=VIP, **fields):
    return Sent(sender, ip(sender, to, proto=protocol, **fields) / Raw(b"\0" * 24))


def bent_arp(**fields):
    return arp(NEAR, WAN, **fields)


def cut_arp(length):
    return ethernet(arp(NEAR, WAN))[: 14 + length]


NO_STATION = ("ffffffffffff", "01005e000005", "000000000000", "020000000001")
NO_ROUTE = two_arm(service("nat", A), default_route=False)
TWINS = [service("nat", A, port=80, name="one"), service("nat", A, port=81, name="two")]
SMALL = two_arm(service("nat", A, protocol="udp"), mtu=1400)

PEERS = '[[host_peer]]\naddress = "198.51.100.7"\n[[host_peer]]\naddress = "198.51.100.8"\nttl_security = 1\n'
PEER, SECURED = Host("198.51.100.7", CLIENT.mac), Host("198.51.100.8", CLIENT.mac)


def vrrp(sender=PEER, ttl=255):
    return raw(bytes.fromhex("01005e000012") + ethernet(ipv4(112, sender, "224.0.0.18", ttl=ttl))[6:])


def to_peers_budget(fits, *packets):
    """The packets, after the common budget was used up: whether they have another."""
    up = local("multicast") if packets[0] is VRRP else local("to_port_address")
    lb = two_arm(service("nat", A), to_host=2, companion="host0", extra=PEERS)
    flood = [wan(udp(CLIENT, WAN, dport=9), local("to_port_address"), after=0) for _ in range(2)]
    return flood + [wan(packet, up if fits else drop("host_rate_limited"), after=0) for packet in packets], lb


def host_peers():
    bfd = lambda port, **more: udp(PEER, WAN, sport=49152, dport=port, **more)  # noqa: E731
    rows = {
        "bfd": (True, bfd(3784, ttl=255), bfd(3785, ttl=255), bfd(4784, ttl=255), bfd(4784, ttl=60)),
        "bgp": (True, tcp(PEER, WAN, dport=179), tcp(PEER, WAN, "A", sport=179, dport=40000), tcp(SECURED, WAN, dport=179, ttl=255)),
        "vrrp": (True, VRRP),
        "bfd_from_beyond_the_link": (False, bfd(3784, ttl=254), bfd(3785)),
        "bgp_from_beyond_its_hops": (False, tcp(SECURED, WAN, dport=179, ttl=254)),
        "vrrp_from_beyond_the_link": (False, vrrp(ttl=254)),
        "other_ports": (False, tcp(PEER, WAN, dport=22), udp(PEER, WAN, dport=179, ttl=255), tcp(PEER, WAN, dport=3784, ttl=255)),
        "strangers": (False, udp(CLIENT, WAN, dport=3784, ttl=255), tcp(CLIENT, WAN, dport=179), vrrp(CLIENT)),
    }
    for name, (fits, *packets) in rows.items():
        steps, lb = to_peers_budget(fits, *packets)
        yield Case(f"host_peers_{name}", lb, steps)
    lb = two_arm(service("nat", A), to_host=2, to_host_peers=1, companion="host0", extra=PEERS)
    yield Case("host_peers_beyond_their_budget_have_that_of_all", lb,
               [wan(tcp(PEER, WAN, dport=179), expect, after=0) for expect in [local("to_port_address")] * 3 + [drop("host_rate_limited")]])


VRRP = vrrp()
HOST_PEERS = list(host_peers())

CASES = [
    Case("every_length_of_a_cut_syn_is_truncated", LB, [wan(raw(SYN[:length]), drop("truncated")) for length in range(len(SYN))] + [FINE]),
    Case("every_length_of_a_cut_datagram_is_truncated", LB, [wan(raw(QUERY[:length]), drop("truncated")) for length in range(len(QUERY))] + [FINE]),
    dropped("total_length_beyond_the_frame", "truncated", *(raw(total_length(SYN, length)) for length in (41, 60, 1500, 65535))),
    Case("cut_ip_options_end_in_a_verdict", LB, [wan(raw(with_ihl(6 + words)[:34 + 4 * words]), ends) for words in range(10)] + [FINE]),
    dropped("another_hosts_mac_address", "other_host", *(raw(bytes.fromhex("020000000099") + frame[6:]) for frame in (SYN, QUERY))),
    dropped("ipv4_in_a_broadcast_or_multicast_frame", "other_host",
            *(raw(bytes.fromhex(mac) + frame[6:]) for mac in ("ffffffffffff", "01005e000001") for frame in (SYN, QUERY)),
            says="RFC 1122 3.2.2 and 4.2.3.10: never answered, never a connection"),
    dropped("lldp_spanning_tree_and_others", "unknown_ethertype", raw(with_type(0x88CC, "01:80:c2:00:00:0e")),
        raw(with_type(0x0026, "01:80:c2:00:00:00")),
            raw(with_type(0x8847)), raw(with_type(0x9000)), raw(with_type(0xFFFF)), raw(with_type(0)), raw(SYN[:12] + b"\x88\xcc")),
    dropped("vlan_tags_on_an_untagged_port", "other_vlan", *(raw(SYN[:12] + tag + SYN[12:]) for tag in (b"\x81\0\0\x0a", b"\x81\0\xe0\x01", b"\x81\0\x01\0", b"\x88\xa8\0\x0a", b"\x88\xa8\0\0", b"\x81\0\x0f\xff", b"\x81\0\0\0\x81\0\0\x0a", b"\x81\0\0\0\x81\0\0\0"))),
    Case("a_source_mac_address_that_no_station_has_makes_no_connection_and_gets_no_answer", LB, [
        *(wan(raw(SYN[:6] + bytes.fromhex(mac) + frame[12:]), drop("bad_source_mac")) for mac in NO_STATION
          for frame in (SYN, QUERY, ethernet(icmp(CLIENT, VIP)), ethernet(tcp(CLIENT, VIP, dport=81)), ethernet(udp(CLIENT, VIP, dport=81)),
                        ethernet(tcp(CLIENT, VIP, ttl=1)), ethernet(tcp(CLIENT, WAN, dport=22)), with_options(b"\x01" * 4))),
        *(wan(raw(b"\xff" * 6 + bytes.fromhex(mac) + ethernet(arp(NEAR, WAN))[12:]), drop("bad_source_mac")) for mac in NO_STATION),
        wan(tcp(CLIENT, VIP), forward("lan", A, new=True)),
        *(wan(raw(SYN[:6] + bytes.fromhex(mac) + ethernet(tcp(CLIENT, VIP, "A", ttl=1))[12:]), drop("bad_source_mac")) for mac in NO_STATION),
        lan(raw(bytes.fromhex("020000000002" "020000000002") + SYN[12:]), drop("bad_source_mac")),
    ], says="an answer to it would go to the whole link, or come back"),
    dropped("ipv6", "ipv6", raw(with_type(0x86DD)), raw(with_type(0x86DD, "33:33:00:00:00:01")), raw(SYN[:12] + b"\x86\xdd")),
    dropped("impossible_ip_versions", "bad_ip_header", *(raw(patched(SYN, 14, bytes([version << 4 | 5]))) for version in (0, 3, 5, 6, 15))),
    dropped("impossible_ip_header_lengths", "bad_ip_header", *(raw(fixed(patched(SYN, 14, bytes([0x40 | words])))) for words in (0, 1, 4)),
        raw(with_ihl(15))),
    dropped("total_length_within_the_header", "bad_ip_header", *(raw(total_length(SYN, length)) for length in (0, 1, 19))),
    dropped("source_routes", "source_route", *(raw(with_options(options)) for options in (
        bytes([131, 3, 4, 0]), bytes([137, 3, 4, 1]), bytes([131, 7, 4, 10, 0, 0, 11, 0]), bytes([137, 11, 4, 10, 0, 0, 11, 10, 0, 0, 12, 1]),
        bytes([1, 131, 3, 4]), bytes([148, 4, 0, 0, 131, 3, 4, 0]), bytes([7, 7, 4, 0, 0, 0, 0, 137, 3, 4, 0, 0]))),
        says="RFC 7126 4.3, 4.4: a sender that chooses the way gets past filters"),
    dropped("source_routes_of_everything_else", "source_route", *(raw(with_options(bytes([131, 3, 4, 0]), frame)) for frame in (
        QUERY, ethernet(icmp(CLIENT, VIP)), ethernet(icmp(CLIENT, WAN)), ethernet(tcp(CLIENT, WAN, dport=22)), ethernet(ipv4(89, to=WAN.ip))))),
    dropped("ip_options_that_contradict_their_lengths", "bad_ip_header", *(raw(with_options(options)) for options in (
        bytes([131, 0, 0, 0]), bytes([148, 1, 0, 0]), bytes([148, 5, 0, 0]), bytes([1, 1, 1, 7]), bytes([68, 255, 0, 0]), bytes([131, 3, 4, 148])))),
    Case("other_ip_options_are_passed", LB, [wan(raw(with_options(options)), forward("lan", A)) for options in (
        bytes([148, 4, 0, 0]), bytes([1, 1, 1, 1]), bytes([0, 131, 3, 4]), bytes([7, 3, 4, 0]), bytes([148, 4, 131, 3]))]),
    dropped("bad_ip_checksum", "bad_ip_checksum", *bad_checksums()),
    dropped("a_damaged_byte_of_the_ip_header", {"bad_ip_checksum", "bad_ip_header", "truncated"},
            *(raw(SYN[:at] + bytes([SYN[at] ^ 0x10]) + SYN[at + 1 :]) for at in range(14, 34))),
    dropped("source_addresses_that_no_host_has", "bad_source",
            *(make(own(address), VIP) for address in ("127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255")
              for make in (tcp, udp, icmp))),
    dropped("weirs_own_source_addresses", "bad_source",
            *(make(own(address), VIP) for address in (VIP, WAN.ip, LAN.ip, POOL) for make in (tcp, udp, icmp))),
    dropped("weirs_own_source_addresses_to_a_port", "bad_source", *(make(own(address),
        WAN) for address in (VIP, LAN.ip, POOL) for make in (tcp, udp, icmp))),
    dropped("a_subnets_broadcast_address_as_source", "bad_source",
            *(make(own(address), VIP) for address in ("198.51.100.255", "10.0.0.255") for make in (tcp, udp, icmp)),
            says="a broadcast address is no host's; an answer to it would go to the whole link (RFC 1122 3.2.2)"),
    dropped("first_fragments_of_icmp", "fragment", *(fragments(icmp(CLIENT, VIP, type=kind, payload=b"x" * 24))[0] for kind in (0, 9, 13, 42))),
    Case("df_and_the_reserved_flag_make_no_fragment", LB, [
        wan(raw(patched(SYN, 20, b"\x40\0")), forward("lan", A)),
        wan(raw(patched(SYN, 20, b"\x80\0")), forward("lan", A)),
    ]),
    dropped("bad_l4_checksum", "bad_l4_checksum", tcp(CLIENT, VIP, dport=81, chksum=1), tcp(CLIENT, VIP, "A", dport=81, payload=b"odd", chksum=0),
            udp(CLIENT, VIP, dport=81, chksum=1), tcp(CLIENT, VIP, ttl=1, chksum=1), udp(CLIENT, VIP, dport=53, ttl=1, chksum=0xFFFE),
            icmp(CLIENT, VIP, chksum=0x1234), icmp(CLIENT, WAN, payload=b"odd", chksum=0), icmp(CLIENT, POOL, chksum=1),
            says="of a damaged packet nothing is known for sure, not even its sender"),
    dropped("total_length_within_the_tcp_header", "bad_l4_header", *(raw(total_length(SYN, length)) for length in range(20, 40))),
    dropped("total_length_within_the_udp_header", "bad_l4_header", *(raw(total_length(QUERY, length)) for length in range(20, 28))),
    dropped("impossible_tcp_data_offsets", "bad_l4_header", *(raw(SYN[:46] + bytes([words << 4]) + SYN[47:]) for words in (0, 1, 4, 6, 15))),
    dropped("impossible_udp_lengths", "bad_l4_header", *(raw(QUERY[:38] + length.to_bytes(2, "big") + QUERY[40:]) for length in (0, 1, 7, 17, 65535))),
    dropped("icmp_cut_short_though_the_frame_is_padded", "bad_l4_header",
            *(raw(total_length(ethernet(icmp(CLIENT, VIP)), 20 + length) + b"\0" * 30) for length in range(8)),
            says="padding is no part of the packet"),
    dropped("icmp_errors_about_packets_of_another", "icmp_mismatch",
            *(icmp(CLIENT, VIP, type=kind, code=code, payload=bytes(tcp(A, CLIENT, sport=80, dport=40000).layer)[:28])
              for kind, code in ((3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0)))),
    dropped("icmp_advice", "icmp_ignored", *(icmp(CLIENT, VIP, type=kind, code=code, payload=bytes(tcp(Host(VIP, WAN.mac), CLIENT, sport=80).layer)[:28])
                                             for kind, code in ((4, 0), (5, 0), (5, 1), (5, 3)))),
    Case("icmp_errors_about_a_known_connection", LB, [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        wan(quoting(tcp(Host(VIP, WAN.mac), CLIENT, sport=80, dport=40000)), forward("lan", A, new=False)),
        lan(quoting(tcp(CLIENT, A, dport=8080), sender=A, to=CLIENT), forward("wan", CLIENT, new=False)),
        wan(tcp(CLIENT, VIP, "A"), forward("lan", A, new=False)),
    ]),
    dropped("icmp_other_than_echo_requests_to_a_vip", "icmp_unsupported", *(icmp(CLIENT, VIP, type=kind) for kind in (0, 9, 10, 13, 14, 15, 17, 42, 255))),
    dropped("other_protocols_to_a_vip", "unsupported_protocol", *(ipv4(number) for number in (0, 2, 4, 41, 47, 50, 51, 89, 112, 132, 136, 255))),
    dropped("destinations_that_nobody_has", "not_for_us", *(make(CLIENT, to) for to in ("192.0.2.81", "198.51.100.9", "10.0.0.201", "255.255.255.255", "224.0.0.18", "127.0.0.1", "0.0.0.0")
                                                           for make in (tcp, udp, icmp)), ipv4(47, to="192.0.2.81")),
    dropped("real_servers_are_not_reached_past_the_services", "not_for_us", tcp(CLIENT, A, dport=8080), udp(CLIENT, A, dport=8080), icmp(CLIENT, A)),
    Case("other_traffic_to_a_port_address_is_the_hosts", LB, [
        wan(tcp(CLIENT, WAN, dport=22), local("to_port_address")),
        wan(tcp(CLIENT, WAN, "A", dport=22), local("to_port_address")),
        wan(udp(CLIENT, WAN, dport=53), local("to_port_address")),
        wan(ipv4(89, to=WAN.ip), local("to_port_address")),
        lan(tcp(A, LAN, dport=179), local("to_port_address")),
        wan(icmp(CLIENT, WAN, type=13), local("to_port_address")),
    ]),
    Case("what_ends_without_a_companion_is_not_limited", two_arm(service("nat", A), to_host=2), [
        wan(tcp(CLIENT, WAN, dport=22), local("to_port_address")),
    ] * 4),
    Case("the_host_gets_so_many_packets_a_second", two_arm(service("nat", A), to_host=2, companion="host0"), [
        wan(tcp(CLIENT, WAN, dport=22), local("to_port_address")),
        wan(udp(CLIENT, WAN, dport=53), local("to_port_address")),
        wan(tcp(CLIENT, WAN, dport=22), drop("host_rate_limited")),
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        wan(tcp(CLIENT, WAN, dport=22), local("to_port_address"), after=0.6),
        wan(tcp(CLIENT, WAN, dport=22), drop("host_rate_limited")),
    ]),
    Case("the_host_behind_a_companion_gets_all_but_arp_requests_and_pings", two_arm(service("nat", A), companion="host0"), [
        *(wan(fragment, local("to_port_address")) for fragment in fragments(udp(CLIENT, WAN, b"x" * 24, dport=53))),
        wan(icmp(CLIENT, WAN, type=3, code=3, payload=b"x" * 28), local("to_port_address")),
        wan(icmp(CLIENT, WAN, type=0), local("to_port_address")),
        wan(ipv4(112, to=WAN.ip), local("to_port_address")),
        wan(raw(b"\x01\x00\x5e\x00\x00\x05" + ethernet(ipv4(89, to="224.0.0.5"))[6:]), local("multicast")),
        wan(raw(b"\x01\x00\x5e\x00\x01\x05" + ethernet(ipv4(89, to="224.0.1.5"))[6:]), drop("other_host")),
        lan(raw(b"\x01\x00\x5e\x00\x00\x05" + ethernet(ipv4(89, to="224.0.0.5"), LAN.mac)[6:]), drop("other_host")),
        wan(icmp(CLIENT, WAN), reply("icmp_echo")),
        wan(icmp(CLIENT, VIP, type=0), drop("icmp_unsupported")),
    ]),
    *HOST_PEERS,
    Case("tcp_without_a_connection", two_arm(service("nat", A), service("fullnat", A, port=81, name="full")), [
        *(wan(tcp(CLIENT, VIP, flags, dport=port), drop("no_connection")) for port in (80, 81) for flags in ("R", "RA")),
        lan(tcp(A, CLIENT, "R", sport=8080, dport=40000), drop("no_connection")),
        # Not a nat real server's port; not its port of weir's.
        lan(tcp(A, CLIENT, "A", sport=8081, dport=40000), drop("no_connection")),
        wan(tcp(A, CLIENT, "A", sport=8080, dport=40000), drop("wrong_port")),
    ]),
    Case("tcp_without_a_connection_is_answered", two_arm(service("nat", A), service("fullnat", A, port=81, name="full")), [
        *(wan(tcp(CLIENT, VIP, flags, dport=port), reply("no_connection")) for port in (80, 81) for flags in ("A", "PA", "FA", "F", "SA", "")),
        *(lan(tcp(A, CLIENT, flags, sport=8080, dport=40000), reply("no_connection", "lan")) for flags in ("A", "SA", "FA")),
        *(lan(tcp(A, POOL, flags, sport=8080, dport=5000), reply("no_connection", "lan")) for flags in ("A", "SA", "FA")),
    ]),
    Case("tcp_without_a_connection_silenced_for_all", two_arm(service("nat", A), service("fullnat", A, port=81, name="full"), extra='unknown_tcp = "drop"\n'), [
        *(wan(tcp(CLIENT, VIP, "A", dport=port), drop("no_connection")) for port in (80, 81)),
        lan(tcp(A, CLIENT, "A", sport=8080, dport=40000), drop("no_connection")),
        lan(tcp(A, POOL, "A", sport=8080, dport=5000), drop("no_connection")),
    ]),
    Case("tcp_without_a_connection_silenced_for_one_service", two_arm(service("nat", A, unknown_tcp='"drop"'), service("nat", B, port=81, name="other")), [
        wan(tcp(CLIENT, VIP, "A"), drop("no_connection")),
        wan(tcp(CLIENT, VIP, "A", dport=81), reply("no_connection")),
        lan(tcp(A, CLIENT, "A", sport=8080, dport=40000), drop("no_connection")),
        lan(tcp(B, CLIENT, "A", sport=8080, dport=40000), reply("no_connection", "lan")),
    ]),
    Case("tcp_without_a_connection_answered_for_one_service", two_arm(service("nat", A, unknown_tcp='"reset"'), service("nat", B, port=81, name="other"), extra='unknown_tcp = "drop"\n'), [
        wan(tcp(CLIENT, VIP, "A"), reply("no_connection")),
        wan(tcp(CLIENT, VIP, "A", dport=81), drop("no_connection")),
    ]),
    Case("a_pool_address_without_a_connection", two_arm(service("fullnat", A)), [
        *(lan(tcp(A, POOL, flags, sport=8080, dport=5000), drop("no_connection")) for flags in ("R", "S")),
        lan(udp(A, POOL, sport=8080, dport=5000), drop("no_connection")),
        wan(tcp(CLIENT, POOL, dport=80), drop("no_connection")),
    ]),
    Case("no_service_with_answers_turned_off", two_arm(service("nat", A), answers=0), [
        wan(tcp(CLIENT, VIP, dport=81), drop("no_service")),
        wan(udp(CLIENT, VIP, dport=81), drop("no_service")),
        FINE,
    ]),
    Case("when_unavailable_drop_is_silent", two_arm(service("nat", A, weights=[0], when_unavailable='"drop"'),
                                                    service("nat", protocol="udp", when_unavailable='"drop"', name="none")), [
        wan(tcp(CLIENT, VIP), drop("no_real_server")),
        wan(udp(CLIENT, VIP), drop("no_real_server")),
    ]),
    Case("no_route_back_to_the_client", NO_ROUTE, [wan(tcp(CLIENT, VIP), forward("lan", A)), lan(reply_to(0), drop("no_route")),
                                                   wan(tcp(NEAR, VIP), forward("lan", A)), lan(reply_to(2), forward("wan", NEAR))]),
    Case("the_same_client_port_to_one_server_by_two_services", two_arm(*TWINS), [
        wan(tcp(CLIENT, VIP, dport=80), forward("lan", A, service="one")),
        wan(tcp(CLIENT, VIP, dport=81), drop("ambiguous_reply")),
        wan(tcp(CLIENT, VIP, dport=81, sport=40001), forward("lan", A, service="two")),
        lan(reply_to(0), forward("wan", CLIENT, sport=80)),
        lan(reply_to(2), forward("wan", CLIENT, sport=81)),
    ]),
    Case("larger_than_the_out_ports_mtu", SMALL, [
        wan(udp(CLIENT, VIP, b"x" * (1400 - 28)), forward("lan", A)),
        wan(udp(CLIENT, VIP, b"x" * (1401 - 28), flags="DF"), reply("too_big", "wan", CLIENT, src=VIP, icmp=(3, 4), rest=b"\0\0\x05\x78")),
        wan(udp(CLIENT, VIP, b"x" * (1400 - 28), flags="DF"), forward("lan", A)),
    ]),
    Case("arp_for_others_addresses", two_arm(service("nat", A, vip=WAN_VIP)), [
        *(wan(arp(NEAR, target), drop("arp_ignored")) for target in ("198.51.100.9", "10.0.0.1", POOL, "203.0.113.1", NEAR.ip)),
        *(lan(arp(A, target), drop("arp_ignored")) for target in (B, WAN.ip, WAN_VIP, A.ip)),
    ]),
    Case("bad_arp", two_arm(service("nat", A, vip=WAN_VIP)), [
        *(wan(raw(cut_arp(length)), drop("bad_arp")) for length in range(28)),
        *(wan(bent_arp(**fields), drop("bad_arp")) for fields in ({"hwtype": 6}, {"ptype": 0x86DD}, {"hwlen": 8}, {"plen": 16}, {"op": 0}, {"op": 3}, {"op": 9})),
        *(wan(arp(own(address, NEAR.mac), "198.51.100.9"), drop("bad_arp")) for address in (WAN.ip, WAN_VIP)),
        *(wan(arp(own(address, NEAR.mac), WAN, op="is-at"), drop("bad_arp")) for address in (WAN.ip, WAN_VIP)),
        *(wan(arp(own(address, NEAR.mac), address), drop("bad_arp")) for address in (WAN.ip, WAN_VIP)),
        lan(arp(own(POOL, A.mac), LAN), drop("bad_arp")),
    ], asks=[("wan", 0.036, WAN.ip), ("wan", 0.037, WAN_VIP), ("lan", 0.042, POOL)],
         says="RFC 826; RFC 5227 2.4: no other host has weir's addresses, and each is defended once"),
    Case("arp_of_no_hosts_mac_address", two_arm(service("nat", A, vip=WAN_VIP), known=(GATEWAY,)), [
        *(lan(arp(A, LAN, op=op, hwsrc=mac), drop("bad_arp")) for op in ("who-has", "is-at") for mac in NO_HOST),
        *(lan(arp(A, A, op=op, hwsrc=mac), drop("bad_arp")) for op in ("who-has", "is-at") for mac in NO_HOST),
        wan(tcp(CLIENT, WAN_VIP), queue("lan")),
    ], asks=[("lan", 0.021, A.ip)], says="and the neighbour is not learned from it"),
]
