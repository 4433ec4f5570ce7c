"""How weir finds next hops, what it does with packets until then, and which next hop it takes."""

from case import ANY, Case, drop, forward, lan, local, queue, reply, wan
from lab import (A, B, BROADCAST, CLIENT, FAR, GATEWAY, INNER_GATEWAY, LAN, LAN_VIP, NEAR, POOL, VIP, WAN, ARP, Ether, Host, arp, client,
                 reply_to, route, service, tcp, two_arm, udp)

MODES = ("dr", "nat", "fullnat")
WAITING = 16  # packets for one next hop
MOVED = Host(A.ip, "02:00:00:00:01:99")
OTHER_GATEWAY = Host(GATEWAY.ip, "02:00:00:00:02:fd")


def lb(mode="nat", *reals, known=(GATEWAY,), **more):
    return two_arm(service(mode, *(reals or (A,)), protocol="udp"), known=known, **more)


def asked(count):
    """`count` flows, one after another."""
    return [udp(CLIENT, VIP, sport=1000 + n) for n in range(count)]


def here(host, target=LAN, **fields):
    """The host's answer to weir's question."""
    return arp(host, target, op="is-at", target_mac=target.mac, **fields)


def resolved(mode):
    return Case(f"{mode}_waits_for_the_next_hop_and_goes_with_its_answer", lb(mode), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)),
        lan(here(A), local("arp")),
        wan(udp(CLIENT, VIP), forward("lan", A, new=False)),
    ], asks=[("lan", 0.001, A.ip)])


def questions(results):
    """The shape of every ARP request, RFC 826."""
    seen = [(port, Ether(frame)) for port, frames in results.out.items() for _, frame in frames if ARP in Ether(frame)]
    assert seen
    for port, packet in seen:
        host, question = (WAN if port == "wan" else LAN), packet[ARP]
        assert packet.dst == BROADCAST and packet.src == host.mac, packet
        assert (question.hwtype, question.ptype, question.hwlen, question.plen, question.op) == (1, 0x0800, 6, 4, 1), question
        assert (question.hwsrc, question.psrc, question.hwdst) == (host.mac, host.ip, "00:00:00:00:00:00"), question


def confirmation(results):
    """What is in use is confirmed by asking the neighbour itself first (RFC 1122 2.3.2.1)."""
    seen = [Ether(frame) for _, frame in results.out["lan"] if ARP in Ether(frame)]
    assert seen[0].dst == BROADCAST and seen[1].dst == A.mac and seen[1][ARP].pdst == A.ip, seen


def arps(results, port="lan"):
    return [Ether(frame) for _, frame in results.out[port] if ARP in Ether(frame)]


def asked_itself(results, number):
    """A question of weir's goes to the neighbour alone, in a frame that no other host takes."""
    asked = arps(results) or arps(results, "wan")
    question = [packet for packet in asked if packet[ARP].op == 1][number]
    assert question.dst == (A if question[ARP].pdst == A.ip else NEAR).mac, question


def defended(results):
    """RFC 5227 2.3: an announcement is a broadcast request with the address as sender's and as target."""
    for packet in arps(results):
        assert packet.dst == BROADCAST and packet[ARP].psrc == packet[ARP].pdst and packet[ARP].hwsrc == packet.src == LAN.mac, packet


ASKED = [("lan", 0.001, A.ip), ("lan", 1.001, A.ip), ("lan", 2.001, A.ip)]

# How another host can claim a real server's address, and what becomes of the packet.
CLAIMS = (
    ("gratuitous_request", arp(MOVED, MOVED), drop("arp_ignored")),
    ("gratuitous_reply", arp(MOVED, MOVED, op="is-at", to_mac=BROADCAST), local("arp")),
    ("reply", here(MOVED), local("arp")),
    ("question", arp(MOVED, LAN), reply("arp", "lan")),
)

CASES = [
    *(resolved(mode) for mode in MODES),
    Case("packets_that_wait_keep_their_order", lb(),
         [wan(packet, queue("lan", sent_with=5, to=A, sport=1000 + n)) for n, packet in enumerate(asked(5))] + [lan(here(A), local("arp"))],
         asks=[("lan", 0.001, A.ip)]),
    Case("packets_of_one_connection_wait_together", two_arm(service("nat", A), known=(GATEWAY,)), [
        wan(tcp(CLIENT, VIP), queue("lan", sent_with=3, flags="S")), wan(tcp(CLIENT, VIP), queue("lan", sent_with=3, flags="S")),
        wan(tcp(CLIENT, VIP, "A"), queue("lan", sent_with=3, flags="A")), lan(here(A), local("arp")),
        lan(reply_to(0), forward("wan", CLIENT)),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("each_next_hop_has_its_own_queue", lb("nat", A, B), [
        wan(udp(CLIENT, VIP, sport=1), queue("lan", sent_with=3, to=B)),
        wan(udp(CLIENT, VIP, sport=2), queue("lan", sent_with=2, to=A)),
        lan(here(A), local("arp")),
        lan(here(B), local("arp")),
        wan(udp(CLIENT, VIP, sport=3), forward("lan", B)),
    ], asks=[("lan", 0.001, B.ip), ("lan", 0.002, A.ip)]),
    Case("arp_requests_are_well_formed", lb(known=()), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1)), lan(here(A), local("arp")), lan(reply_to(0), queue("wan")),
    ], asks=[("lan", 0.001, A.ip), ("wan", 0.003, GATEWAY.ip)], check=questions),
    Case("the_way_back_waits_too", lb(known=(A,)), [
        wan(udp(CLIENT, VIP), forward("lan", A)),
        lan(reply_to(0), queue("wan", sent_with=2, to=CLIENT)),
        wan(here(GATEWAY, WAN), local("arp")),
        lan(reply_to(0), forward("wan", CLIENT)),
    ], asks=[("wan", 0.002, GATEWAY.ip)]),
    Case("questions_are_repeated_each_second", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=3, to=A)),
        wan(udp(CLIENT, VIP), queue("lan", sent_with=3, to=A), at=0.5),
        wan(udp(CLIENT, VIP), queue("lan", sent_with=3, to=A), at=2.5),
        lan(here(A), local("arp"), at=2.6),
        wan(udp(CLIENT, VIP), forward("lan", A), at=4.5),
    ], asks=[("lan", 0.001, A.ip), ("lan", 1.001, A.ip), ("lan", 2.001, A.ip)]),
    Case("nobody_answers", lb(), [
        wan(udp(CLIENT, VIP), queue("lan")), wan(udp(CLIENT, VIP), queue("lan"), at=2.9),
        wan(udp(CLIENT, VIP, sport=2), reply("no_real_server"), at=10),
    ], asks=[*ASKED, ("lan", 8.001, A.ip), ("lan", 10.0, A.ip)], lost={"neighbour_failed": 2},
         says="what waited is dropped and counted; it is asked for all the same, and a client that comes later is told at once"),
    Case("an_answer_after_the_failure_is_believed", lb(), [
        wan(udp(CLIENT, VIP), queue("lan")), lan(here(A), local("arp"), at=5), wan(udp(CLIENT, VIP), forward("lan", A)),
    ], asks=[("lan", 0.001, A.ip), ("lan", 1.001, A.ip), ("lan", 2.001, A.ip)], lost={"neighbour_failed": 1}),
    Case("a_failed_real_server_is_asked_for_until_it_answers", lb(), [
        wan(udp(CLIENT, VIP), queue("lan")), lan(udp(B, "192.0.2.81"), drop("not_for_us"), at=17), lan(here(A), local("arp"), at=18.002),
        wan(udp(CLIENT, VIP), forward("lan", A)),
    ], asks=[*ASKED, ("lan", 8.001, A.ip), ("lan", 13.001, A.ip), ("lan", 18.001, A.ip)], lost={"neighbour_failed": 1},
         says="every 5 s, so that it is used again within seconds"),
    Case("a_failed_real_server_that_speaks_is_asked_at_once", lb(), [
        wan(udp(CLIENT, VIP), queue("lan")), lan(arp(A, A), drop("arp_ignored"), at=5), lan(here(A), local("arp")),
        wan(udp(CLIENT, VIP), forward("lan", A)),
    ], asks=[*ASKED, ("lan", 5.0, A.ip)], lost={"neighbour_failed": 1}, check=lambda results: asked_itself(results, -1)),
    Case("a_failed_gateway_is_asked_for_until_it_answers", lb(known=(A,)), [
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(0), queue("wan")), wan(here(GATEWAY, WAN), local("arp"), at=8.5),
        lan(reply_to(0), forward("wan", CLIENT)),
    ], asks=[("wan", 0.002, GATEWAY.ip), ("wan", 1.002, GATEWAY.ip), ("wan", 2.002, GATEWAY.ip), ("wan", 8.002, GATEWAY.ip)], lost={"neighbour_failed": 1}),
    Case("a_failed_client_on_the_link_is_asked_for_when_packets_want_it", lb(known=(A,)), [
        wan(udp(NEAR, VIP), forward("lan", A)), lan(reply_to(0), queue("wan")), lan(reply_to(0), queue("wan", sent_with=3, to=NEAR), at=20),
        wan(here(NEAR, WAN), local("arp"), at=20.5),
    ], asks=[("wan", 0.002, NEAR.ip), ("wan", 1.002, NEAR.ip), ("wan", 2.002, NEAR.ip), ("wan", 20.0, NEAR.ip)], lost={"neighbour_failed": 1}),
    Case("a_failed_neighbour_holds_nobody_else_up", lb("nat", A, B, known=(GATEWAY, B)), [
        wan(udp(CLIENT, VIP, sport=1), forward("lan", B)), wan(udp(CLIENT, VIP, sport=2), queue("lan")),
        wan(udp(CLIENT, VIP, sport=3), forward("lan", B)), wan(udp(CLIENT, VIP, sport=1), forward("lan", B), at=20),
    ], asks=ANY, lost={"neighbour_failed": 1}),
    Case("the_queue_is_bounded", lb(), [wan(packet, queue("lan", sent_with=WAITING + 5, to=A)) for packet in asked(WAITING)]
         + [wan(packet, drop("neighbour_queue_full")) for packet in asked(WAITING + 5)[WAITING:]]
         + [lan(here(A), local("arp")), wan(udp(CLIENT, VIP), forward("lan", A))], asks=[("lan", 0.001, A.ip)]),
    Case("a_full_queue_is_one_next_hops", lb("nat", A, B), [wan(packet, queue("lan")) for packet in asked(2 * WAITING)]
         + [wan(packet, drop("neighbour_queue_full")) for packet in asked(2 * WAITING + 4)[2 * WAITING :]], asks=[("lan", 0.001, B.ip),
             ("lan", 0.002, A.ip)]),
    Case("what_waits_at_the_end_counts_as_queued", lb(), [wan(packet, queue("lan")) for packet in asked(3)], asks=[("lan", 0.001, A.ip)],
         check=lambda results: results.counts["queued"] == 3 or (_ for _ in ()).throw(AssertionError(results.counts))),
    *(Case(f"one_packet_does_not_move_a_neighbour_{name}", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("arp")),
        lan(claim, verdict), lan(here(A), local("arp")),
        wan(udp(CLIENT, VIP), forward("lan", A, new=False)), lan(claim, verdict), wan(udp(CLIENT, VIP), forward("lan", A, new=False), at=0.99),
    ], asks=[("lan", 0.001, A.ip), ("lan", 0.003, A.ip)], check=lambda results: asked_itself(results, 1))
        for name, claim, verdict in CLAIMS),
    *(Case(f"a_neighbour_that_is_silent_moves_to_who_claims_and_answers_{name}", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("arp")), lan(claim, verdict, at=5),
        wan(udp(CLIENT, VIP), forward("lan", A, new=False)), lan(here(MOVED), local("arp"), at=5.9), wan(udp(CLIENT, VIP), forward("lan", A, new=False)),
        lan(here(MOVED), local("arp"), at=6.001), wan(udp(CLIENT, VIP), forward("lan", MOVED, new=False)),
    ], asks=[("lan", 0.001, A.ip), ("lan", 5.0, A.ip), ("lan", 5.5, A.ip), ("lan", 6.0, A.ip)],
        says="a real server's address moves by failover: within a second or so") for name, claim, verdict in CLAIMS),
    Case("a_gateway_fails_over_to_another_host", lb(known=(A,)), [
        wan(udp(CLIENT, VIP), forward("lan", A)), lan(reply_to(0), queue("wan", sent_with=2, to=CLIENT)), wan(here(GATEWAY, WAN), local("arp")),
        wan(arp(OTHER_GATEWAY, OTHER_GATEWAY), drop("arp_ignored"), at=10), lan(reply_to(0), forward("wan", CLIENT)),
        wan(here(OTHER_GATEWAY, WAN), local("arp"), at=11.001), lan(reply_to(0), forward("wan", eth_dst=OTHER_GATEWAY.mac)),
    ], asks=[("wan", 0.002, GATEWAY.ip), ("wan", 10.0, GATEWAY.ip), ("wan", 10.5, GATEWAY.ip), ("wan", 11.0, GATEWAY.ip)], says="as VRRP's do"),
    Case("weirs_addresses_are_defended_once_in_ten_seconds", two_arm(service("fullnat", A, vip=LAN_VIP), known=(A,)), [
        lan(claim, drop("bad_arp"), at=at) for at in (1, 2, 10.9, 11, 12, 30)
        for claim in (arp(Host(LAN.ip, B.mac), LAN), arp(Host(LAN_VIP, B.mac), A, op="is-at"), arp(Host(POOL, B.mac), LAN))
    ], asks=[("lan", at, address) for at in (1, 11, 30) for address in (LAN.ip, LAN_VIP, POOL)], check=defended, says="RFC 5227 2.4 (c)"),
    Case("no_address_is_defended_where_weir_does_not_answer_for_it", lb(), [
        lan(arp(Host(WAN.ip, B.mac), WAN), drop("bad_arp")), lan(arp(Host(VIP, B.mac), VIP), drop("bad_arp")), wan(arp(Host(VIP, NEAR.mac), VIP), drop("bad_arp")),
    ], asks=[("wan", 0.003, VIP)]),
    Case("whoever_asks_weir_is_known", lb(), [lan(arp(A, LAN), reply("arp", "lan")), wan(udp(CLIENT, VIP), forward("lan", A))],
        asks=ANY, says="RFC 826"),
    Case("a_question_of_the_next_hop_releases_what_waits_for_it", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(arp(A, LAN), reply("arp", "lan")),
    ], asks=ANY, says="RFC 826"),
    Case("a_stranger_that_asks_for_the_vip_is_known", lb(known=(A,)), [
        wan(arp(NEAR, VIP), reply("arp", "wan")), wan(udp(NEAR, VIP), forward("lan", A)), lan(reply_to(1), forward("wan", NEAR)),
    ], asks=[("wan", 0.003, NEAR.ip)], check=lambda results: asked_itself(results, 0), says="and confirmed when packets go to it"),
    Case("others_questions_to_others_teach_nothing_new", lb(), [lan(arp(A, B), drop("arp_ignored")), wan(udp(CLIENT, VIP), queue("lan"))],
        asks=[("lan", 0.002, A.ip)]),
    Case("an_answer_out_of_another_port_is_not_believed", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=2, to=A)), wan(arp(MOVED, WAN, op="is-at", target_mac=WAN.mac), local("arp")), lan(here(A),
        local("arp")),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("an_answer_with_a_group_mac_address_is_not_believed", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=3, to=A)), lan(here(A, hwsrc=BROADCAST), [local("arp"), drop("bad_arp")]),
        lan(here(A, hwsrc="01:00:5e:00:00:01"), [local("arp"), drop("bad_arp")]), lan(here(A), local("arp")),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("another_hosts_answer_releases_nothing", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=2, to=A)), lan(here(B), local("arp")), lan(here(A), local("arp")),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("a_neighbour_in_use_is_confirmed_while_packets_pass", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("arp")),
        wan(udp(CLIENT, VIP), forward("lan", A), at=20), wan(udp(CLIENT, VIP), forward("lan", A), at=40), lan(here(A), local("arp"), at=40.5),
        wan(udp(CLIENT, VIP), forward("lan", A), at=60),
    ], asks=[("lan", 0.001, A.ip), ("lan", 40.0, A.ip)], check=confirmation),
    Case("a_neighbour_that_went_away_fails", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("arp")),
        wan(udp(CLIENT, VIP), forward("lan", A), at=40), wan(udp(CLIENT, VIP), forward("lan", A), at=42.5),
        wan(udp(CLIENT, VIP), reply("host_unreachable", icmp=(3, 1)), at=50),
    ], asks=[("lan", 0.001, A.ip), ("lan", 40.0, A.ip), ("lan", 41.0, A.ip), ("lan", 42.0, A.ip), ("lan", 48.0, A.ip), ("lan", 50.0, A.ip)]),
    Case("an_unused_neighbour_is_not_asked_for", lb(), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=A)), lan(here(A), local("arp")), wan(udp(CLIENT, "192.0.2.81"), drop("not_for_us"),
        at=200),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("static_neighbours_are_never_asked_for", lb(known=(GATEWAY, A)), [
        wan(udp(CLIENT, VIP), forward("lan", A)), wan(udp(CLIENT, VIP), forward("lan", A), at=250), lan(reply_to(0), forward("wan", CLIENT), at=251),
    ]),
    Case("static_neighbours_are_not_changed_by_arp", lb(known=(GATEWAY, A)), [
        lan(here(MOVED), local("arp")), wan(udp(CLIENT, VIP), forward("lan", A)), lan(arp(MOVED, MOVED), drop("arp_ignored")),
        lan(arp(MOVED, LAN), reply("arp", "lan")), wan(udp(CLIENT, VIP), forward("lan", A)),
    ]),
    Case("a_gateway_is_asked_for_not_the_host_behind_it", lb("nat", FAR), [
        wan(udp(CLIENT, VIP), queue("lan", sent_with=1, to=FAR)), lan(here(INNER_GATEWAY), local("arp")),
    ], asks=[("lan", 0.001, INNER_GATEWAY.ip)]),
    Case("hosts_behind_one_gateway_wait_in_one_queue", lb("nat", FAR, Host("10.9.7.7", INNER_GATEWAY.mac)), [
        wan(udp(CLIENT, VIP, sport=1), queue("lan", sent_with=2, eth_dst=INNER_GATEWAY.mac)),
        wan(udp(CLIENT, VIP, sport=2), queue("lan", sent_with=2, eth_dst=INNER_GATEWAY.mac)), lan(here(INNER_GATEWAY), local("arp")),
    ], asks=[("lan", 0.001, INNER_GATEWAY.ip)]),
    *(Case(f"the_longest_prefix_wins_towards_the_server_{name}", lb("nat", FAR, known=(GATEWAY, A, B, INNER_GATEWAY), extra=extra), [
        wan(udp(CLIENT, VIP), forward("lan", eth_dst=hop.mac, dst=FAR.ip)),
    ]) for name, extra, hop in (
        ("16", "", INNER_GATEWAY),
        ("24", route("10.9.0.0/24", A), A),
        ("32", route("10.9.0.0/24", A) + route("10.9.0.5/32", B), B),
        ("32_named_first", route("10.9.0.5/32", B) + route("10.9.0.0/24", A) + route("10.0.0.0/8", A), B),
        ("31", route("10.9.0.4/31", B) + route("10.9.0.6/31", A), B),
        ("not_the_neighbouring_prefix", route("10.9.0.6/31", A) + route("10.9.1.0/24", B), INNER_GATEWAY),
    )),
    Case("the_longest_prefix_wins_towards_the_client", lb(known=(GATEWAY, NEAR, A), extra=route("203.0.113.8/29", NEAR)), [
        wan(udp(client(7), VIP), forward("lan", A)), lan(reply_to(0), forward("wan", eth_dst=GATEWAY.mac)),
        wan(udp(client(8), VIP), forward("lan", A)), lan(reply_to(2), forward("wan", eth_dst=NEAR.mac)),
        wan(udp(client(15), VIP), forward("lan", A)), lan(reply_to(4), forward("wan", eth_dst=NEAR.mac)),
        wan(udp(client(16), VIP), forward("lan", A)), lan(reply_to(6), forward("wan", eth_dst=GATEWAY.mac)),
    ]),
    Case("the_ports_own_subnet_before_a_wider_route", lb(known=(GATEWAY, A, B), extra=route("10.0.0.0/8", GATEWAY)), [wan(udp(CLIENT, VIP),
        forward("lan", A))]),
    Case("replies_follow_the_route_not_the_way_that_the_request_came", lb(known=(GATEWAY, NEAR, A)), [
        wan(udp(Host(CLIENT.ip, NEAR.mac), VIP), forward("lan", A)), lan(reply_to(0), forward("wan", eth_dst=GATEWAY.mac)),
    ]),
]
