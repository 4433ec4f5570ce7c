"""What others send in a connection's name, from the wrong side, or in the way of another one."""

from case import Case, drop, forward, lan, reply, wan
from lab import A, B, CLIENT, NEAR, VIP, Host, client, reply_to, service, tcp, two_arm, udp

OTHER_VIP = "192.0.2.81"
# Sequence numbers: the client's begin at 1000, the real server's at 5000.
OPEN = [
    wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", B, new=True, state="syn_recv")),
    lan(reply_to(0, "SA", seq=5000, ack=1001), forward("wan", CLIENT, state="syn_recv")),
    wan(tcp(CLIENT, VIP, "A", seq=1001, ack=5001), forward("lan", B, new=False, state="established")),
]
DATA = [
    lan(reply_to(0, "PA", payload=b"x", seq=5001, ack=1001), forward("wan", CLIENT, state="established")),
    wan(tcp(CLIENT, VIP, "A", seq=1001, ack=5002), forward("lan", B, new=False, state="established")),
]


def wanted(sender):
    """A connection that its real server sends data on: the first steps of a case."""
    return [
        wan(tcp(sender, VIP, "S", seq=1000), forward("lan", A, new=True)),
        lan(reply_to(0, "SA", seq=5000, ack=1001), forward("wan", sender)),
        wan(tcp(sender, VIP, "A", seq=1001, ack=5001), forward("lan", A, state="established")),
        lan(reply_to(0, "PA", payload=b"x", seq=5001, ack=1001), forward("wan", sender)),
    ]


def lb(mode, **keys):
    return two_arm(service(mode, A, B), **keys)


def forged(mode):
    """A reset counts where its number is the one that the other side takes next, and is passed on in any case."""
    wrong = [0, 1000, 1002, 4999, 5001, 2**31, 2**32 - 1]
    yield Case(f"{mode}_a_clients_reset_with_another_number_ends_nothing", lb(mode), OPEN + [
        *(wan(tcp(CLIENT, VIP, flags, seq=seq), forward("lan", B, new=False, state="established")) for seq in wrong for flags in ("R", "RA")),
        wan(tcp(CLIENT, VIP, "S", seq=777), forward("lan", B, new=False, state="established")),
        *DATA,
        wan(tcp(CLIENT, VIP, "A", seq=1001, ack=5002), forward("lan", B, new=False, state="established"), after=890),
    ])
    yield Case(f"{mode}_a_clients_reset_with_the_right_number_ends_it", lb(mode), OPEN + [
        lan(reply_to(0, "A", seq=5001, ack=1500), forward("wan", CLIENT, state="established")),
        wan(tcp(CLIENT, VIP, "R", seq=1001), forward("lan", B, new=False, state="established")),
        wan(tcp(CLIENT, VIP, "R", seq=1500), forward("lan", B, new=False, state="close")),
        wan(tcp(CLIENT, VIP, "S", seq=9000), forward("lan", A, new=True, state="syn_recv")),
    ])
    yield Case(f"{mode}_a_real_servers_reset_has_to_have_the_right_number_too", lb(mode), OPEN + [
        *(lan(reply_to(0, "R", seq=seq), forward("wan", CLIENT, state="established")) for seq in (0, 5000, 5002, 1001)),
        lan(reply_to(0, "R", seq=5001), forward("wan", CLIENT, state="close")),
    ])
    yield Case(f"{mode}_a_fin_and_a_syn_leave_a_connection_where_it_is", lb(mode), OPEN + [
        wan(tcp(CLIENT, VIP, "FA", seq=99, ack=1), forward("lan", B, new=False, state="close_wait")),
        *(wan(tcp(CLIENT, VIP, "S", seq=seq), forward("lan", B, new=False, state="close_wait")) for seq in wrong),
        lan(reply_to(0, "PA", payload=b"x", seq=5001, ack=1001), forward("wan", CLIENT, state="close_wait")),
        wan(tcp(CLIENT, VIP, "A", seq=1001, ack=5002), forward("lan", B, new=False, state="close_wait")),
    ])
    yield Case(f"{mode}_a_new_attempt_that_the_real_server_takes_is_one", lb(mode), OPEN + [
        lan(reply_to(0, "FA", seq=5001, ack=1001), forward("wan", CLIENT, state="fin_wait")),
        wan(tcp(CLIENT, VIP, "S", seq=90000), forward("lan", B, new=False, state="fin_wait")),
        lan(reply_to(0, "SA", seq=70000, ack=90001), forward("wan", CLIENT, state="syn_recv")),
        wan(tcp(CLIENT, VIP, "A", seq=90001, ack=70001), forward("lan", B, new=False, state="established")),
        wan(tcp(CLIENT, VIP, "A", seq=90001, ack=70001), forward("lan", B, new=False, state="established"), after=890),
    ])
    yield Case(f"{mode}_without_an_answer_an_acknowledgement_opens_nothing_for_long", lb(mode), [
        wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", B, new=True, state="syn_recv")),
        wan(tcp(CLIENT, VIP, "A", seq=1001, ack=77), forward("lan", B, new=False, state="established")),
        wan(tcp(CLIENT, VIP, "A", seq=1001, ack=77), forward("lan", B, new=False, state="established"), after=59),
        wan(tcp(CLIENT, VIP, "A", seq=1001, ack=77), reply("no_connection"), after=61),
    ])
    yield Case(f"{mode}_a_full_table_gives_up_what_a_blind_acknowledgement_opened", two_arm(service(mode, A), connections=2), [
        wan(tcp(client(8), VIP, "S", seq=1000), forward("lan", A, new=True)),
        lan(reply_to(0, "SA", seq=5000, ack=1001), forward("wan", client(8))),
        wan(tcp(client(8), VIP, "A", seq=1001, ack=5001), forward("lan", A, state="established")),
        wan(tcp(client(9), VIP, "S", seq=1000), forward("lan", A, new=True)),
        lan(reply_to(3, "SA", seq=5000, ack=1001), forward("wan", client(9))),
        wan(tcp(client(9), VIP, "A", seq=1001, ack=666), forward("lan", A, state="established")),
        wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", A, new=True)),
        wan(tcp(client(8), VIP, "A", seq=1001, ack=5001), forward("lan", A, new=False, state="established")),
        wan(tcp(client(9), VIP, "A", seq=1001, ack=5001), reply("no_connection")),
    ], resets=int(mode == "fullnat"))
    yield Case(f"{mode}_a_full_table_gives_up_what_only_challenges_answered", two_arm(service(mode, A), connections=2), [
        *wanted(client(8)),
        # A real server in mid-handshake acknowledges a stray SYN: that completes nothing. Nor does a FIN.
        wan(tcp(client(9), VIP, "S", seq=1000), forward("lan", A, new=True)),
        lan(reply_to(4, "SA", seq=5000, ack=1001), forward("wan", client(9))),
        wan(tcp(client(9), VIP, "S", seq=2**31), forward("lan", A, new=False)),
        lan(reply_to(4, "A", seq=5001, ack=1001), forward("wan", client(9), state="established")),
        wan(tcp(client(9), VIP, "FA", seq=1001, ack=7), forward("lan", A, state="close_wait")),
        wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", A, new=True)),
        wan(tcp(client(8), VIP, "A", seq=1001, ack=5002), forward("lan", A, new=False, state="established")),
        wan(tcp(client(9), VIP, "A", seq=1001, ack=5001), reply("no_connection")),
    ], resets=int(mode == "fullnat"))
    yield Case(f"{mode}_a_fin_far_from_the_window_and_a_syn_with_another_flag_change_nothing", lb(mode), OPEN + [
        wan(tcp(CLIENT, VIP, "FA", seq=2**31, ack=1), forward("lan", B, new=False, state="established")),
        lan(reply_to(0, "FA", seq=5001, ack=1001), forward("wan", CLIENT, state="fin_wait")),
        wan(tcp(CLIENT, VIP, "FA", seq=2**31, ack=1), forward("lan", B, new=False, state="fin_wait")),
        *(wan(tcp(CLIENT, VIP, flags, seq=7), forward("lan", B, new=False, state="fin_wait")) for flags in ("SA", "SF", "SFA", "S")),
        wan(tcp(CLIENT, VIP, "FA", seq=1001, ack=5002), forward("lan", B, new=False, state="time_wait")),
        *(wan(tcp(CLIENT, VIP, flags, seq=7), forward("lan", B, new=False, state="time_wait")) for flags in ("SA", "SF")),
    ])
    reply_frame = dict(seq=5001, ack=1001, sport=8080, dport=40000)
    if mode == "nat":
        forgery = tcp(Host(B.ip, CLIENT.mac), CLIENT, "PA", **reply_frame)
        ending = tcp(Host(B.ip, CLIENT.mac), CLIENT, "RA", **reply_frame)
        yield Case("nat_replies_come_by_the_port_that_leads_to_the_real_server", two_arm(service(mode, B)), OPEN + [
            wan(forgery, drop("wrong_port")), wan(ending, drop("wrong_port")), *DATA,
        ])
        yield Case("nat_replies_come_by_any_port_where_the_network_is_asymmetric", two_arm(service(mode, B), extra='reverse_path = "loose"\n'), OPEN + [
            wan(forgery, forward("wan", CLIENT, new=False, state="established")),
        ])
        yield Case("nat_segments_of_no_connection_by_the_wrong_port", two_arm(service(mode, B)), [wan(forgery, drop("wrong_port"))])


def one_sided():
    """Without replies anyone may end a connection; its client keeps its real server."""
    opened = [
        wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", B, new=True, state="syn_recv")),
        wan(tcp(CLIENT, VIP, "A", seq=1001), forward("lan", B, new=False, state="established")),
        wan(tcp(CLIENT, VIP, "PA", seq=1001), forward("lan", B, new=False, state="established")),
    ]
    for name, flags, state in (("reset", "R", "close"), ("fin", "FA", "fin_wait")):
        yield Case(f"dr_a_{name}_and_a_syn_leave_a_client_with_its_real_server", lb("dr"), opened + [
            wan(tcp(CLIENT, VIP, flags, seq=9), forward("lan", B, new=False, state=state)),
            wan(tcp(CLIENT, VIP, "S", seq=99), forward("lan", B, new=True, state="syn_recv")),
            wan(tcp(CLIENT, VIP, "A", seq=1001), forward("lan", B, new=False, state="established")),
        ])
    yield Case("dr_a_full_table_gives_up_what_only_shook_hands", two_arm(service("dr", A), connections=2), [
        *(wan(tcp(client(n), VIP, flags), forward("lan", A)) for n in (8, 9) for flags in ("S", "A")),
        wan(tcp(client(8), VIP, "PA"), forward("lan", A)),
        wan(tcp(CLIENT, VIP, "S"), forward("lan", A, new=True)),
        wan(tcp(client(8), VIP, "A"), forward("lan", A, new=False)),
        wan(tcp(client(9), VIP, "A"), reply("no_connection")),
    ])


def shared(protocol):
    """Two services over one real server, and a client that uses one port for both: each reply has the name of its own."""
    make = tcp if protocol == "tcp" else udp
    services = service("nat", A, protocol=protocol), service("nat", A, vip=OTHER_VIP, protocol=protocol, name="other")
    both = service("nat", A, protocol=protocol), service("nat", B, A, vip=OTHER_VIP, protocol=protocol, name="other")
    yield Case(f"nat_{protocol}_two_services_of_one_real_server_and_one_client_port", two_arm(*services), [
        wan(make(CLIENT, VIP), forward("lan", A, new=True, service="web")),
        wan(make(CLIENT, OTHER_VIP), drop("ambiguous_reply")),
        lan(reply_to(0), forward("wan", CLIENT, src=VIP)),
    ])
    yield Case(f"nat_{protocol}_another_real_server_is_taken_where_replies_would_be_confused", two_arm(*both), [
        wan(make(CLIENT, VIP), forward("lan", A, new=True)),
        wan(make(CLIENT, OTHER_VIP), forward("lan", B, new=True, service="other")),
        lan(reply_to(0), forward("wan", CLIENT, src=VIP)),
        lan(reply_to(1), forward("wan", CLIENT, src=OTHER_VIP)),
    ])


CASES = [
    *(case for mode in ("nat", "fullnat") for case in forged(mode)),
    *one_sided(),
    *(case for protocol in ("tcp", "udp") for case in shared(protocol)),
    Case("nat_udp_a_flow_that_was_answered_gives_way", two_arm(service("nat", A, protocol="udp"), service("nat", A, vip=OTHER_VIP, protocol="udp", name="other")), [
        wan(udp(CLIENT, VIP, sport=123), forward("lan", A, new=True)),
        lan(reply_to(0), forward("wan", CLIENT, src=VIP)),
        wan(udp(CLIENT, OTHER_VIP, sport=123), forward("lan", A, new=True, service="other")),
        lan(reply_to(2), forward("wan", CLIENT, src=OTHER_VIP)),
        wan(udp(CLIENT, VIP, sport=123), forward("lan", A, new=True, service="web")),
        wan(udp(CLIENT, OTHER_VIP, sport=123), drop("ambiguous_reply")),
        lan(reply_to(4), forward("wan", CLIENT, src=VIP)),
    ]),
    Case("nat_tcp_a_connection_that_is_over_gives_way", two_arm(service("nat", A), service("nat", A, vip=OTHER_VIP, name="other")), [
        wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", A, new=True)),
        lan(reply_to(0, "SA", seq=5000, ack=1001), forward("wan", CLIENT)),
        wan(tcp(CLIENT, VIP, "FA", seq=1001, ack=5001), forward("lan", A)),
        lan(reply_to(0, "FA", seq=5001, ack=1002), forward("wan", CLIENT, state="time_wait")),
        wan(tcp(CLIENT, OTHER_VIP, "S", seq=9000), forward("lan", A, new=True, service="other")),
        lan(reply_to(4, "SA", seq=7000, ack=9001), forward("wan", CLIENT, src=OTHER_VIP)),
        wan(tcp(CLIENT, VIP, "A", seq=1002, ack=5002), reply("no_connection")),
    ]),
    Case("dr_no_packet_goes_from_a_host_to_itself", two_arm(service("dr", A)), [lan(tcp(A, VIP), drop("hairpin")), lan(udp(A, VIP), reply("no_service", "lan"))]),
    Case("fullnat_a_real_server_is_a_client_of_its_own_service", two_arm(service("fullnat", A)), [
        lan(tcp(A, VIP), forward("lan", A, new=True)), lan(reply_to(0), forward("lan", A)),
    ]),
    Case("fullnat_a_local_pair_is_taken_over_after_a_reset_to_the_real_server", two_arm(service("fullnat", A), pool_ports="2000-2000"), [
        wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", A, sport=2000)),
        lan(reply_to(0, "SA", seq=5000, ack=1001), forward("wan", CLIENT)),
        wan(tcp(CLIENT, VIP, "A", seq=1001, ack=5001), forward("lan", A, state="established")),
        wan(tcp(NEAR, VIP, "S", seq=1), drop("local_ports_exhausted")),
        lan(reply_to(0, "FA", seq=5001, ack=1001), forward("wan", CLIENT)),
        wan(tcp(CLIENT, VIP, "FA", seq=1001, ack=5002), forward("lan", A, state="time_wait")),
        lan(reply_to(0, "A", seq=5002, ack=1002), forward("wan", CLIENT, state="time_wait")),
        wan(tcp(NEAR, VIP, "S", seq=1), forward("lan", A, new=True, sport=2000)),
        lan(reply_to(7, "SA", seq=8000, ack=2), forward("wan", NEAR)),
    ], resets=1, check=lambda results: resets(results, 1002)),
    Case("fullnat_the_pair_of_a_clients_own_last_connection_too", two_arm(service("fullnat", A), pool_ports="2000-2000"), [
        wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", A, sport=2000)),
        lan(reply_to(0, "SA", seq=5000, ack=1001), forward("wan", CLIENT)),
        wan(tcp(CLIENT, VIP, "A", seq=1001, ack=5001), forward("lan", A, state="established")),
        wan(tcp(CLIENT, VIP, "R", seq=1001), forward("lan", A, state="close")),
        wan(tcp(CLIENT, VIP, "S", seq=77), forward("lan", A, new=True, sport=2000)),
    ], resets=1, check=lambda results: resets(results, 1001)),
    Case("fullnat_the_oldest_half_open_connection_gives_its_pair_up", two_arm(service("fullnat", A), pool_ports="2000-2001"), [
        wan(tcp(client(1), VIP), forward("lan", A)), wan(tcp(client(2), VIP), forward("lan", A)), wan(tcp(client(3), VIP), forward("lan", A)),
        lan(reply_to(1), forward("wan", client(2))), lan(reply_to(2), forward("wan", client(3))),
        wan(tcp(client(1), VIP, "A"), reply("no_connection")),
    ]),
    Case("a_syn_flood_lets_in_who_comes_again", two_arm(service("nat", A), connections=40), [
        *(wan(tcp(client(n % 200 + 1), VIP, sport=3000 + n), forward("lan", A, new=True)) for n in range(40)),
        *(wan(tcp(client(n), VIP), drop("syn_flood")) for n in range(1, 6)),
        wan(tcp(client(1), VIP), forward("lan", A, new=True), after=0.9),
        wan(tcp(client(9), VIP), drop("syn_flood")),
        wan(tcp(client(9), VIP), forward("lan", A, new=True), after=4),
    ]),
    Case("fullnat_the_oldest_datagram_flow_gives_its_pair_up", two_arm(service("fullnat", A, protocol="udp"), pool_ports="2000-2001"), [
        wan(udp(client(1), VIP), forward("lan", A)), lan(reply_to(0), forward("wan", client(1))), wan(udp(client(2), VIP), forward("lan", A)),
        # One that nothing answers goes before one that was answered.
        wan(udp(client(3), VIP), forward("lan", A)), lan(reply_to(0), forward("wan", client(1))), lan(reply_to(3), forward("wan", client(3))),
        wan(udp(client(4), VIP), forward("lan", A)), lan(reply_to(3), forward("wan", client(3))), lan(reply_to(6), forward("wan", client(4))),
    ]),
    *(Case(f"dr_{scheduler}_goes_on_without_an_entry_where_there_is_no_room", two_arm(service("dr", A, B, scheduler=scheduler), connections=1), [
        wan(tcp(CLIENT, VIP, "S"), forward("lan", new=True)), wan(tcp(CLIENT, VIP, "A"), forward("lan", new=False)), wan(tcp(CLIENT, VIP, "PA"), forward("lan", new=False)),
        *(wan(tcp(CLIENT, VIP, flags, sport=2), forward("lan", new=True)) for flags in ("S", "A", "PA", "FA")),
        wan(tcp(CLIENT, VIP, "A"), forward("lan", new=False)),
    ], check=lambda results: {results.fields(n)["eth_dst"] for n in range(8)} == {results.fields(0)["eth_dst"]} or one_server())
      for scheduler in ("sh", "mh")),
    Case("persistence_templates_of_half_open_connections_end_with_them", two_arm(service("nat", A, persistence="{ timeout = 300 }"), service("nat", B, port=81, name="other"), connections=2), [
        wan(tcp(client(1), VIP), forward("lan", A, new=True)),
        wan(tcp(client(2), VIP, dport=81), forward("lan", B, new=True)),
        wan(tcp(client(3), VIP, dport=81), forward("lan", B, new=True), after=61),
        wan(tcp(client(4), VIP, dport=81), forward("lan", B, new=True)),
    ]),
]


def resets(results, sequence):
    from run import fields

    found = [fields(frame) for frame in results.resets]
    assert [(each["seq"], each["dst"], each["dport"], each["eth_dst"]) for each in found] == [(sequence, A.ip, 8080, A.mac)], found


def one_server():
    raise AssertionError("one client, several real servers")
