"""IPv6: neighbour discovery in both directions, and what is IPv6's alone."""

import struct
from functools import reduce
from operator import truediv

from case import ANY, Case, drop, forward, lan, local, one_of, queue, reply, wan
from lab import Host, Sent, ethernet, raw
from lab6 import (A, ALL_NODES, ALL_NODES_MAC, B, CLIENT, FAR, GATEWAY, INNER_GATEWAY, LAN, LAN_LOCAL, LAN_VIP, NEAR, NEAR_LOCAL, NOBODY, POOL, VIP, WAN,
                  WAN_LOCAL, WAN_VIP, advertise, announce, ip6, mended, ping, probe, redirect, reply_to, router_advertisement,
                  router_solicitation, service, solicit, tcp, two_arm, udp)
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Jumbo, PadN
from scapy.layers.l2 import Ether
from scapy.packet import Raw

WAITING = 16
HEEDED = two_arm(service("nat", A, protocol="udp"), known=(A,), gateway=None, wan_keys="accept_ra = true\n")
MOVED = Host(A.ip, "02:00:00:00:01:99")
ROUTER, OTHER_ROUTER = Host("fe80::fe", GATEWAY.mac), Host("fe80::fd", "02:00:00:00:02:fd")
SERVICES = (service("nat", A), service("nat", A, vip=WAN_VIP, name="near"), service("fullnat", B, vip=LAN_VIP, name="inner"))
ALL = two_arm(*SERVICES)
EVERYTHING = dict(says="RFC 4861 7.1.1, 7.1.2")


def lb(mode="nat", *reals, known=(GATEWAY,), **more):
    return two_arm(service(mode, *(reals or (A,)), protocol="udp"), known=known, **more)


def told(host, to, mac, flags=None, **more):
    """An answer that an address is at weir's MAC address: a port's is a router's."""
    flags = flags or ("RSO" if host in {port.ip for port in (WAN, WAN_LOCAL, LAN, LAN_LOCAL)} else "SO")
    return dict(icmp=(136, 0), target=host, src=host, dst=to, nd=flags, option=f"02:01:{mac}", **more)


def here(host, to=LAN, **more):
    """The host's answer to weir's question."""
    return advertise(host, to, **more)


def questions(results, port="lan"):
    """weir's solicitations, as scapy reads them."""
    frames = [Ether(frame) for _, frame in results.out[port]]
    return [frame for frame in frames if frame.type == 0x86DD and frame.payload.nh == 58 and bytes(frame.payload.payload)[0] == 135]


def asked_itself(number, mac=A.mac):
    def check(results):
        question = questions(results)[number]
        assert question.dst == mac, question

    return check


def asked_from(port, source):
    def check(results):
        assert {frame.payload.src for frame in questions(results, port)} == {source}, questions(results, port)

    return check


def bent(sent, at, value, port_mac=WAN.mac):
    """The frame with other bytes at a place of its ICMPv6 message, its checksum right."""
    frame = ethernet(sent, port_mac)
    return raw(mended(frame[: 54 + at] + value + frame[54 + at + len(value) :]))


def longer(sent, options):
    """The message with these bytes in the place of its options."""
    frame = ethernet(sent)[: 54 + 24] + options
    return raw(mended(frame[:18] + struct.pack("!H", len(frame) - 54) + frame[20:]))


def behind(sent, extension):
    """The packet with an extension header before its message."""
    packet = sent.layer
    return Sent(sent.sender, ip6(packet.src, packet.dst, hlim=255) / extension / packet.payload, sent.to_mac)


QUESTION, PROBE = solicit(NEAR, WAN), probe(Host(WAN_VIP, NEAR.mac))
BAD = {
    "hop_limits": [*(solicit(NEAR, WAN, hlim=hlim) for hlim in (0, 1, 64, 254)), probe(Host(WAN_VIP, NEAR.mac), hlim=254), here(NEAR, WAN, hlim=254)],
    "checksums": [raw(ethernet(QUESTION)[:56] + value + ethernet(QUESTION)[58:]) for value in (b"\0\0", b"\xff\xff", b"\x12\x34")],
    "codes": [bent(QUESTION, 1, b"\x01"), bent(here(NEAR, WAN), 1, b"\xff")],
    "targets": [bent(QUESTION, 8, bytes.fromhex("ff020000000000000000000000000001")), bent(QUESTION, 8, bytes.fromhex("ff0e" + "00" * 13 + "01")),
                bent(here(NEAR, WAN), 8, bytes.fromhex("ff02000000000000000000000000ffff"))],
    "lengths": [raw(mended(ethernet(QUESTION)[:18] + struct.pack("!H", length) + ethernet(QUESTION)[20 : 54 + length])) for length in (8, 16, 23)],
    "options": [longer(QUESTION, options) for options in (
        bytes(8), b"\x01\0" + bytes(6), b"\x01\x02" + bytes(6), b"\x01", b"\x01\x01\x02\0\0\0\x02", b"\x0e\x01" + bytes(6) + b"\x01\0" + bytes(6))],
    "mac_addresses": [solicit(NEAR, WAN, mac=mac) for mac in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", WAN.mac, LAN.mac)]
    + [here(NEAR, WAN, mac=mac) for mac in ("00:00:00:00:00:00", "01:00:5e:00:00:01", LAN.mac)],
    "probes": [solicit(NEAR, WAN, source=NOBODY), solicit(NEAR, WAN, to=ALL_NODES, mac=None, source=NOBODY)],
    "headers_before_it": [behind(QUESTION, IPv6ExtHdrFragment(m=0, offset=0, id=7)), behind(QUESTION, IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]))],
    "answers_to_all_nodes": [advertise(NEAR, ALL_NODES, solicited=True)],
    "claims": [solicit(Host(address, NEAR.mac), GATEWAY) for address in (WAN.ip, WAN_LOCAL.ip, WAN_VIP, LAN.ip, POOL)]
    + [announce(Host(address, NEAR.mac)) for address in (WAN.ip, WAN_LOCAL.ip, WAN_VIP)],
}

ASKED = [("lan", 0.001, A.ip), ("lan", 1.001, A.ip), ("lan", 2.001, A.ip)]
CLAIMS = (
    ("announcement", announce(MOVED), local("nd")),
    ("announcement_that_overrides_nothing", announce(MOVED, override=False), local("nd")),
    ("answer", here(MOVED), local("nd")),
    ("question", solicit(MOVED, LAN), reply("nd", "lan")),
)


def chain(count):
    """So many headers of 8 bytes."""
    headers = [IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) for _ in range(count)]
    return reduce(truediv, headers)


def datagrams(count):
    return [udp(CLIENT, VIP, sport=1000 + n) for n in range(count)]


def limited(results):
    answers = sum(line["verdict"] == "reply" for line in results.lines)
    assert 8 <= answers <= 8 * 1.625 + 1, answers


CASES = [
    # --- answers
    Case("every_address_of_weirs_own_is_answered_for_where_it_is_found", ALL, [
        *(wan(solicit(NEAR, address), reply("nd", "wan", eth_dst=NEAR.mac, **told(address, NEAR.ip, WAN.mac))) for address in (WAN.ip, WAN_LOCAL.ip, WAN_VIP)),
        *(lan(solicit(A, address), reply("nd", "lan", eth_dst=A.mac, **told(address, A.ip, LAN.mac))) for address in (LAN.ip, LAN_LOCAL.ip, LAN_VIP, POOL)),
        wan(solicit(NEAR_LOCAL, WAN_VIP), reply("nd", "wan", **told(WAN_VIP, NEAR_LOCAL.ip, WAN.mac))),
        wan(solicit(NEAR, WAN, to=WAN), reply("nd", "wan", **told(WAN.ip, NEAR.ip, WAN.mac))),
        wan(solicit(NEAR, WAN, to=WAN, mac=None), reply("nd", "wan", eth_dst=NEAR.mac, **told(WAN.ip, NEAR.ip, WAN.mac))),
    ], asks=ANY),
    Case("the_address_of_the_message_counts_not_that_of_its_frame", ALL, [
        wan(solicit(NEAR, WAN, mac="02:00:00:00:02:77"), reply("nd", "wan", eth_dst="02:00:00:00:02:77")),
    ], asks=ANY, says="as of ARP: VRRP, proxies"),
    Case("others_and_addresses_of_another_link_are_not_answered_for", ALL, [
        *(wan(solicit(NEAR, address), drop("nd_ignored")) for address in (GATEWAY, NEAR, VIP, "2001:db8:51::99", LAN, LAN_VIP, POOL, LAN_LOCAL, "fe80::99", A)),
        *(lan(solicit(A, address), drop("nd_ignored")) for address in (WAN, VIP, WAN_VIP, WAN_LOCAL)),
    ]),
    Case("an_address_of_no_subnet_is_answered_for_where_announce_says_so", two_arm(*SERVICES, lan_keys='announce = ["2001:db8:2::/64"]\n'), [
        wan(solicit(NEAR, VIP), drop("nd_ignored")), lan(solicit(A, VIP), reply("nd", "lan", eth_dst=A.mac, **told(VIP, A.ip, LAN.mac))),
    ], asks=ANY),
    Case("who_wants_an_address_of_weirs_is_told_and_so_are_all_nodes", ALL, [
        *(wan(probe(Host(address, NEAR.mac)), reply("nd", "wan", eth_dst=ALL_NODES_MAC, **told(address, ALL_NODES, WAN.mac, flags)))
          for address, flags in ((WAN.ip, "RO"), (WAN_LOCAL.ip, "RO"), (WAN_VIP, "O"))),
        *(wan(probe(Host(address, NEAR.mac)), drop("nd_ignored")) for address in ("2001:db8:51::99", "fe80::20", LAN_VIP, VIP)),
    ], says="RFC 4862 5.4.3, RFC 4861 7.2.4"),
    *(Case(f"bad_{name}_are_refused", ALL, [*(wan(packet, drop("bad_nd")) for packet in packets), wan(tcp(CLIENT, VIP), forward("lan", A))],
           asks=ANY if name == "claims" else (), **EVERYTHING) for name, packets in BAD.items()),
    Case("a_message_in_fragments_is_a_fragment", ALL, [wan(behind(solicit(NEAR, WAN, to=WAN), IPv6ExtHdrFragment(m=1, offset=0, id=7)), drop("fragment"))], says="RFC 6980 5"),
    Case("reserved_bits_and_unknown_options_are_passed_over", ALL, [
        wan(bent(QUESTION, 4, b"\xff\xff\xff\xff"), reply("nd", "wan")),
        wan(longer(QUESTION, b"\x0e\x01" + bytes(6) + b"\x01\x01" + bytes.fromhex("020000000220") + b"\xfd\x02" + bytes(14)), reply("nd", "wan", eth_dst=NEAR.mac)),
    ], asks=ANY, says="RFC 4861 4.3, 4.6: a nonce (RFC 3971), others' experiments"),
    Case("a_flood_of_questions_has_a_limit", two_arm(service("nat", A), answers=8), [
        wan(solicit(NEAR, WAN), one_of(reply("nd", "wan"), drop("rate_limited")), after=0) for _ in range(60)
    ], asks=ANY, check=limited),
    Case("weirs_addresses_are_defended_once_in_ten_seconds", two_arm(*SERVICES), [
        lan(claim, drop("bad_nd"), at=at) for at in (1, 2, 10.9, 11, 12, 30)
        for claim in (announce(Host(LAN.ip, B.mac)), solicit(Host(LAN_VIP, B.mac), A), here(Host(POOL, B.mac)), announce(Host(LAN_LOCAL.ip, B.mac)))
    ], asks=[("lan", at, address) for at in (1, 11, 30) for address in (LAN.ip, LAN_VIP, POOL, LAN_LOCAL.ip)]),
    Case("routers_and_redirects_are_not_heeded", lb(known=(GATEWAY, A)), [
        wan(router_advertisement(ROUTER), drop("nd_ignored")), wan(router_solicitation(NEAR_LOCAL), drop("nd_ignored")), wan(redirect(ROUTER, WAN), drop("nd_ignored")),
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(3), forward("wan", eth_dst=GATEWAY.mac)),
    ]),
    Case("what_routers_say_is_the_hosts", two_arm(service("nat", A), companion="host0"), [
        wan(router_advertisement(ROUTER), local("nd")), wan(router_solicitation(NEAR_LOCAL), local("nd")), wan(here(NEAR, WAN), local("nd")),
        wan(solicit(NEAR, WAN), reply("nd", "wan")), wan(udp(CLIENT, WAN, dport=9), local("to_port_address")),
        wan(Sent(NEAR_LOCAL, ip6(NEAR_LOCAL, "ff02::5", nh=89, hlim=1) / Raw(b"\0" * 24), "33:33:00:00:00:05"), local("multicast")),
    ], asks=ANY),
    Case("pings_of_weirs_own_addresses_are_answered", ALL, [
        *(wan(ping(CLIENT, address), reply("icmp_echo", "wan", icmp=(129, 0), src=address, dst=CLIENT.ip)) for address in (WAN.ip, VIP, WAN_VIP, POOL, LAN.ip)),
        wan(ping(NEAR_LOCAL, WAN_LOCAL), reply("icmp_echo", "wan", src=WAN_LOCAL.ip, dst=NEAR_LOCAL.ip, eth_dst=NEAR.mac)),
        *(wan(ping(CLIENT, address), drop("not_for_us")) for address in ("2001:db8:51::99", A.ip)),
        wan(ping(NEAR_LOCAL, LAN_LOCAL), drop("not_for_us")),
        wan(Sent(NEAR, ping(NEAR, ALL_NODES).layer, ALL_NODES_MAC), drop("not_for_us")),
    ]),
    Case("what_is_for_a_ports_link_local_address_is_the_hosts", ALL, [
        wan(udp(NEAR_LOCAL, WAN_LOCAL, dport=9), local("to_port_address")), wan(tcp(NEAR_LOCAL, WAN_LOCAL, dport=179), local("to_port_address")),
        wan(udp(NEAR_LOCAL, LAN_LOCAL, dport=9), drop("not_for_us")), wan(udp(NEAR_LOCAL, WAN_VIP), drop("bad_source")),
        lan(udp(Host("fe80::11", A.mac), LAN_LOCAL, dport=9), local("to_port_address")),
    ]),
    # --- questions
    *(Case(f"{mode}_waits_for_the_next_hop_and_goes_with_its_answer", lb(mode), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("nd")), wan(udp(CLIENT, VIP), forward("lan", A, new=False)),
    ], asks=[("lan", 0.001, A.ip)], check=asked_from("lan", LAN.ip)) for mode in ("dr", "nat", "fullnat")),
    Case("packets_that_wait_keep_their_order", lb(), [
        *(wan(packet, queue("lan", sent_with=5, to=A, sport=1000 + n)) for n, packet in enumerate(datagrams(5))), lan(here(A), local("nd")),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("the_queue_is_bounded", lb(), [
        *(wan(packet, queue("lan", sent_with=WAITING + 5, to=A)) for packet in datagrams(WAITING)),
        *(wan(packet, drop("neighbour_queue_full")) for packet in datagrams(WAITING + 5)[WAITING:]),
        lan(here(A), local("nd")), wan(udp(CLIENT, VIP), forward("lan", A)),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("the_way_back_waits_too", lb(known=(A,)), [
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(0), queue("wan", sent_with=2, to=CLIENT)), wan(here(GATEWAY, WAN), local("nd")),
        lan(reply_to(0), forward("wan", CLIENT)),
    ], asks=[("wan", 0.002, GATEWAY.ip)]),
    Case("a_link_local_gateway_is_asked_for_from_the_ports_own_address", lb(known=(A,), gateway=f"{ROUTER.ip}%wan"), [
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(0), queue("wan", sent_with=2, to=CLIENT)), wan(here(ROUTER, WAN_LOCAL), local("nd")),
        lan(reply_to(0), forward("wan", CLIENT)),
    ], asks=[("wan", 0.002, ROUTER.ip)], check=asked_from("wan", WAN_LOCAL.ip)),
    Case("a_link_local_gateway_may_be_given", lb(known=(A, Host(f"{ROUTER.ip}%wan", ROUTER.mac)), gateway=f"{ROUTER.ip}%wan"), [
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(0), forward("wan", CLIENT)), wan(announce(Host(ROUTER.ip, NEAR.mac)), local("nd")),
        lan(reply_to(0), forward("wan", CLIENT)),
    ]),
    Case("nobody_answers", lb(), [
        wan(udp(CLIENT, VIP), queue("lan")), wan(udp(CLIENT, VIP), queue("lan"), at=2.9),
        wan(udp(CLIENT, VIP, sport=2), reply("no_real_server", icmp=(1, 3)), at=10),
    ], asks=[*ASKED, ("lan", 8.001, A.ip), ("lan", 10.0, A.ip)], lost={"neighbour_failed": 2}),
    Case("a_failed_real_server_is_asked_for_until_it_answers", lb(), [
        wan(udp(CLIENT, VIP), queue("lan")), lan(here(A), local("nd"), at=13.002), wan(udp(CLIENT, VIP), forward("lan", A)),
    ], asks=[*ASKED, ("lan", 8.001, A.ip), ("lan", 13.001, A.ip)], lost={"neighbour_failed": 1}),
    Case("a_neighbour_in_use_is_confirmed_while_packets_pass", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("nd")),
        wan(udp(CLIENT, VIP), forward("lan", A), at=20), wan(udp(CLIENT, VIP), forward("lan", A), at=40), lan(here(A), local("nd"), at=40.5),
        wan(udp(CLIENT, VIP), forward("lan", A), at=60),
    ], asks=[("lan", 0.001, A.ip), ("lan", 40.0, A.ip)], check=asked_itself(1)),
    Case("an_answer_without_its_mac_address_confirms_the_known_one", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=2, to=A)), lan(here(A, mac=None), local("nd")), lan(here(A), local("nd")),
        wan(udp(CLIENT, VIP), forward("lan", A), at=40), lan(here(A, mac=None), local("nd"), at=40.5), wan(udp(CLIENT, VIP), forward("lan", A), at=60),
    ], asks=[("lan", 0.001, A.ip), ("lan", 40.0, A.ip)], says="RFC 4861 4.4"),
    Case("a_neighbour_that_went_away_fails", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("nd")), wan(udp(CLIENT, VIP), forward("lan", A), at=40),
        wan(udp(CLIENT, VIP), reply("host_unreachable", icmp=(1, 3)), at=50),
    ], asks=[("lan", 0.001, A.ip), ("lan", 40.0, A.ip), ("lan", 41.0, A.ip), ("lan", 42.0, A.ip), ("lan", 48.0, A.ip), ("lan", 50.0, A.ip)]),
    *(Case(f"one_packet_does_not_move_a_neighbour_{name}", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("nd")), lan(claim, verdict), lan(here(A), local("nd")),
        wan(udp(CLIENT, VIP), forward("lan", A, new=False)), lan(claim, verdict), wan(udp(CLIENT, VIP), forward("lan", A, new=False), at=0.99),
    ], asks=[("lan", 0.001, A.ip), ("lan", 0.003, A.ip)], check=asked_itself(1)) for name, claim, verdict in CLAIMS),
    *(Case(f"a_neighbour_that_is_silent_moves_to_who_claims_and_answers_{name}", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("nd")), lan(claim, verdict, at=5),
        wan(udp(CLIENT, VIP), forward("lan", A, new=False)), lan(here(MOVED), local("nd"), at=5.9), wan(udp(CLIENT, VIP), forward("lan", A, new=False)),
        lan(here(MOVED), local("nd"), at=6.001), wan(udp(CLIENT, VIP), forward("lan", MOVED, new=False)),
    ], asks=[("lan", 0.001, A.ip), ("lan", 5.0, A.ip), ("lan", 5.5, A.ip), ("lan", 6.0, A.ip)]) for name, claim, verdict in CLAIMS),
    Case("whoever_asks_weir_is_known", lb(), [lan(solicit(A, LAN), reply("nd", "lan")), wan(udp(CLIENT, VIP), forward("lan", A))], asks=ANY),
    Case("a_question_of_the_next_hop_releases_what_waits_for_it", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(solicit(A, LAN), reply("nd", "lan")),
    ], asks=ANY),
    Case("who_is_about_to_take_an_address_is_not_known_yet", lb(), [
        lan(probe(A), drop("nd_ignored")), lan(probe(Host(LAN.ip, A.mac)), reply("nd", "lan")), wan(udp(CLIENT, VIP), queue("lan")),
    ], asks=[("lan", 0.003, A.ip)]),
    Case("others_questions_and_announcements_teach_nothing_new", lb(), [
        lan(solicit(A, B), drop("nd_ignored")), lan(announce(A), local("nd")), wan(udp(CLIENT, VIP), queue("lan")),
    ], asks=[("lan", 0.003, A.ip)]),
    Case("another_hosts_answer_releases_nothing", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=3, to=A)), lan(here(B), local("nd")), wan(here(Host(A.ip, NEAR.mac), WAN), local("nd")), lan(here(A), local("nd")),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("static_neighbours_are_neither_asked_for_nor_changed", lb(known=(GATEWAY, A)), [
        lan(here(MOVED), local("nd")), lan(announce(MOVED), local("nd")), lan(solicit(MOVED, LAN), reply("nd", "lan")),
        wan(udp(CLIENT, VIP), forward("lan", A)), wan(udp(CLIENT, VIP), forward("lan", A), at=250), lan(reply_to(3), forward("wan", CLIENT)),
    ]),
    Case("a_gateway_is_asked_for_not_the_host_behind_it", lb("nat", FAR), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=FAR)), lan(here(INNER_GATEWAY), local("nd")),
    ], asks=[("lan", 0.001, INNER_GATEWAY.ip)]),
    # --- routers
    Case("a_router_that_advertises_itself_has_the_default_route", HEEDED, [
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(0), drop("no_route")), wan(router_advertisement(ROUTER), local("nd")),
        lan(reply_to(0), queue("wan", sent_with=4, eth_dst=ROUTER.mac)), wan(here(ROUTER, WAN_LOCAL), local("nd")), lan(reply_to(0), forward("wan", eth_dst=ROUTER.mac)),
        wan(router_advertisement(ROUTER, lifetime=0), local("nd"), at=3), lan(reply_to(0), drop("no_route")),
    ], asks=[("wan", 0.004, ROUTER.ip)], check=asked_from("wan", WAN_LOCAL.ip), says="RFC 4861 6.3.4"),
    Case("a_default_router_is_one_for_its_lifetime", HEEDED, [
        wan(router_advertisement(ROUTER, lifetime=5), local("nd"), at=1), wan(here(ROUTER, WAN_LOCAL), local("nd")), wan(udp(CLIENT, VIP), forward("lan", A)),
        lan(reply_to(2), forward("wan", eth_dst=ROUTER.mac), at=5.9), lan(reply_to(2), drop("no_route"), at=6.1),
    ]),
    Case("another_router_takes_over_from_one_that_is_silent", HEEDED, [
        wan(router_advertisement(ROUTER), local("nd")), wan(router_advertisement(OTHER_ROUTER), local("nd")), wan(udp(CLIENT, VIP), forward("lan", A)),
        lan(reply_to(2), queue("wan")), lan(reply_to(2), queue("wan", sent_with=5, eth_dst=OTHER_ROUTER.mac), at=5), wan(here(OTHER_ROUTER, WAN_LOCAL), local("nd")),
        lan(reply_to(2), forward("wan", eth_dst=OTHER_ROUTER.mac)),
    ], asks=ANY, lost={"neighbour_failed": 1}),
    Case("bad_router_advertisements_are_refused", HEEDED, [
        wan(router_advertisement(ROUTER, hlim=64), drop("bad_nd")), wan(router_advertisement(GATEWAY), drop("bad_nd")),
        wan(bent(router_advertisement(ROUTER), 1, b"\x01"), drop("bad_nd")), wan(bent(router_advertisement(ROUTER), 16, b"\x01\0"), drop("bad_nd")),
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(4), drop("no_route")),
    ]),
    Case("a_default_route_of_the_file_comes_before_a_routers", two_arm(service("nat", A, protocol="udp"), wan_keys="accept_ra = true\n"), [
        wan(router_advertisement(ROUTER), local("nd")), wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(1), forward("wan", eth_dst=GATEWAY.mac)),
    ]),
    Case("only_ports_that_are_to_heed_routers_do", HEEDED, [
        lan(router_advertisement(ROUTER), drop("nd_ignored")), wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(1), drop("no_route")),
    ]),
    # --- what is IPv6's alone
    *(Case(f"{mode}_there_and_back", two_arm(service(mode, A), known=(GATEWAY, A)), [
        wan(tcp(CLIENT, VIP, hlim=7), forward("lan", A, new=True, hlim=6)),
        *([lan(reply_to(0), forward("wan", CLIENT, hlim=63))] if mode != "dr" else []),
        wan(tcp(CLIENT, VIP, dport=81), reply("no_service", flags="RA", src=VIP)), wan(udp(CLIENT, VIP, dport=81), reply("no_service", icmp=(1, 4))),
        wan(tcp(CLIENT, VIP, hlim=1), reply("ttl_exceeded", icmp=(3, 0), src=VIP)),
    ]) for mode in ("dr", "nat", "fullnat")),
    Case("extension_headers_before_a_datagram", lb(known=(GATEWAY, A)), [
        wan(udp(CLIENT, VIP, extensions=extension), forward("lan", A)) for extension in (
            IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]), IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]), IPv6ExtHdrFragment(m=0, offset=0, id=9),
            IPv6ExtHdrRouting(type=4, segleft=0), IPv6ExtHdrRouting(type=0, segleft=0))
    ]),
    Case("as_many_extension_headers_as_are_taken", lb(known=(GATEWAY, A)), [
        wan(udp(CLIENT, VIP, extensions=chain(8)), forward("lan", A)),
        wan(udp(CLIENT, VIP, extensions=IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(252))])), forward("lan", A)),
        wan(udp(CLIENT, VIP, extensions=chain(7) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(196))])), forward("lan", A)),
        wan(udp(CLIENT, VIP, extensions=chain(9)), drop("ipv6_extension")),
        wan(udp(CLIENT, VIP, extensions=IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(252)), PadN(optdata=bytes(6))])), drop("ipv6_extension")),
    ], says="8 of them, 256 bytes in all"),
    Case("unknown_extension_headers", two_arm(service("nat", A), known=(GATEWAY, A), companion="host0"), [
        *(wan(Sent(CLIENT, ip6(CLIENT, address, nh=kind) / Raw(bytes([17, 0, 1, 4, 0, 0, 0, 0]) + bytes(16))), drop("ipv6_extension"))
          for kind in (51, 135, 139, 140, 253, 254) for address in (VIP, POOL)),
        wan(Sent(CLIENT, ip6(CLIENT, VIP, nh=60) / Raw(bytes([253, 0, 1, 4, 0, 0, 0, 0]) + bytes(16))), drop("ipv6_extension")),
        *(wan(Sent(CLIENT, ip6(CLIENT, VIP, nh=kind) / Raw(bytes(16))), drop("unsupported_protocol")) for kind in (4, 41, 47, 50, 59, 89, 112, 132, 200)),
        wan(Sent(CLIENT, ip6(CLIENT, "2001:db8:2::81", nh=51) / Raw(bytes(16))), drop("not_for_us")),
        wan(Sent(CLIENT, ip6(CLIENT, WAN, nh=51) / Raw(bytes(16))), local("to_port_address")),
    ], says="IANA's IPv6 Extension Header Types; a port's are the host's to read"),
    Case("too_many_extension_headers", lb(known=(GATEWAY, A)), [
        wan(Sent(CLIENT, ip6(CLIENT, VIP, nh=60) / Raw(bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 8 + bytes([17, 0, 1, 4, 0, 0, 0, 0]) + bytes(UDP(sport=9, dport=80, chksum=1)))),
            drop("ipv6_extension")),
        wan(Sent(CLIENT, ip6(CLIENT, VIP, nh=60) / Raw(bytes([17, 9, 1, 4, 0, 0, 0, 0]))), drop("ipv6_extension")),
    ]),
    Case("routing_headers_with_segments_left", lb(known=(GATEWAY, A)), [
        wan(udp(CLIENT, VIP, extensions=IPv6ExtHdrRouting(type=kind, segleft=left)), drop("routing_header")) for kind, left in ((0, 1), (0, 255), (4, 1))
    ], says="RFC 5095; RFC 8200 4.4"),
    Case("jumbograms", lb(known=(GATEWAY, A)), [
        wan(Sent(CLIENT, ip6(CLIENT, VIP, plen=0, nh=0) / Raw(bytes([17, 0, 0xC2, 4, 0, 1, 0, 0]) + bytes(UDP(sport=9, dport=80, chksum=1)))), drop("jumbogram")),
        wan(udp(CLIENT, VIP, extensions=IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70000)])), drop("jumbogram")),
    ], says="RFC 2675"),
    Case("a_udp_checksum_of_zero", lb(known=(GATEWAY, A)), [wan(udp(CLIENT, VIP, chksum=0), drop("no_udp_checksum"))], says="RFC 8200 8.1"),
    Case("bad_source_addresses", lb(known=(GATEWAY, A)), [
        wan(udp(Host(address, GATEWAY.mac), VIP), drop("bad_source")) for address in ("::", "::1", "ff02::1", "::ffff:10.0.0.1", VIP, WAN.ip, POOL, "fe80::7")
    ]),
    Case("ipv4_beside_it", two_arm(service("nat", A), v4=("198.51.100.1/24", None)), [
        wan(raw(bytes(Ether(src=NEAR.mac, dst="ff:ff:ff:ff:ff:ff", type=0x0806)) + bytes.fromhex("0001080006040001020000000220c6336414000000000000c6336401")),
            reply("arp", "wan")),
        wan(solicit(NEAR, WAN), reply("nd", "wan")),
    ], asks=ANY),
]
