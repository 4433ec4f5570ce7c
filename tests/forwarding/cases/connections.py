"""What a connection remembers: its state, how long it lives, what ends it, and how many there may be."""

from dataclasses import replace

from case import Case, drop, forward, lan, reply, wan
from lab import A, B, C, CLIENT, TCP, VIP, client, reply_to, service, tcp, two_arm, udp
from run import fields

SECONDS = {"syn_recv": 60, "established": 900, "fin_wait": 120, "time_wait": 120, "close": 10, "close_wait": 60, "syn_sent": 120}

# Segments of the client (c) and of the real server (s), and the state after each, as the kernel's table has it.
WALKS = {
    "client_closes_first": "c:S syn_recv, s:SA syn_recv, c:A established, c:PA established, s:PA established, c:FA close_wait, s:A close_wait, s:FA time_wait, c:A time_wait",
    "server_closes_first": "c:S syn_recv, s:SA syn_recv, c:A established, s:FA fin_wait, c:A fin_wait, c:FA time_wait, s:A time_wait",
    "client_resets": "c:S syn_recv, s:SA syn_recv, c:A established, c:R close, c:R close",
    "server_resets": "c:S syn_recv, s:SA syn_recv, c:A established, s:RA close",
    "refused": "c:S syn_recv, s:RA close",
    "never_answered": "c:S syn_recv, c:S syn_recv, c:S syn_recv",
    "client_gives_up": "c:S syn_recv, c:F time_wait",
    "data_with_the_last_ack": "c:S syn_recv, s:SA syn_recv, c:PA established",
    "early_server_data": "c:S syn_recv, s:SA syn_recv, s:PA established",
    "reset_wins_over_all_flags": "c:S syn_recv, s:SA syn_recv, c:A established, c:SFRA close",
    "syn_wins_over_fin": "c:S syn_recv, s:SA syn_recv, c:A established, c:SFA established",
    "no_flag_no_change": "c:S syn_recv, s:SA syn_recv, c: syn_recv, c:P syn_recv, c:A established, s: established",
    "server_half_closed": "c:S syn_recv, c:A established, s:FA fin_wait, c:PA fin_wait, c:R close",
    "client_half_closed": "c:S syn_recv, c:A established, c:FA close_wait, s:PA close_wait, s:RA close",
}
ONE_SIDED = {
    "open_and_close": "c:S syn_recv, c:A established, c:PA established, c:FA fin_wait, c:A fin_wait",
    "reset": "c:S syn_recv, c:A established, c:R close",
    "given_up": "c:S syn_recv, c:FA time_wait",
}


def walk(text, start=0, server=A, **first):
    """Steps of a walk, with the numbers that two hosts would send; `first`: of its first step."""
    steps = []
    first_of = {"c": 1000, "s": 5000}
    next_of = dict(first_of)
    for number, segment in enumerate(text.split(", ")):
        who, state = segment.split(" ")
        side, flags = who.split(":")
        seq = first_of[side] if "S" in flags and "R" not in flags else next_of[side]
        next_of[side] = max(next_of[side], seq + sum(flags.count(flag) for flag in "SF"))
        numbers = {"seq": seq, "ack": next_of["s" if side == "c" else "c"] if "A" in flags else 0}
        times = first if number == 0 else {}
        if side == "c":
            steps.append(wan(tcp(CLIENT, VIP, flags, **numbers), forward("lan", server, state=state, new=number == 0), **times))
        else:
            steps.append(lan(reply_to(start, flags, **numbers), forward("wan", CLIENT, state=state, new=False), **times))
    return steps


def walked(mode, name, text):
    return Case(f"{mode}_tcp_{name}", two_arm(service(mode, A)), walk(text))


TO_STATE = {
    "syn_recv": "c:S syn_recv",
    "established": "c:S syn_recv, s:SA syn_recv, c:A established",
    "fin_wait": "c:S syn_recv, s:SA syn_recv, c:A established, s:FA fin_wait",
    "close_wait": "c:S syn_recv, s:SA syn_recv, c:A established, c:FA close_wait",
    "time_wait": "c:S syn_recv, s:SA syn_recv, c:A established, c:FA close_wait, s:FA time_wait",
    "close": "c:S syn_recv, s:SA syn_recv, c:A established, c:R close",
}


def lives(mode, state, seconds=None, extra=""):
    """Just before its timeout a connection is known in both directions, just after it in none."""
    own = "with_a_timeout_of_its_own" if seconds else "by_default"
    seconds = seconds or SECONDS[state]
    lb = two_arm(service(mode, A), extra=extra)
    known = [wan(tcp(CLIENT, VIP, ""), forward("lan", A, state=state, new=False), after=seconds - 0.5),
             lan(reply_to(0, ""), forward("wan", CLIENT, state=state, new=False), after=seconds - 0.5)]
    gone = [wan(tcp(CLIENT, VIP, ""), reply("no_connection"), after=seconds + 0.5), lan(reply_to(0, ""), reply("no_connection", "lan"))]
    return Case(f"{mode}_{state}_lives_its_time_{own}", lb, walk(TO_STATE[state]) + known + gone)


def reply_after_the_timeout(mode):
    return Case(f"{mode}_a_reply_after_the_timeout_is_no_reply", two_arm(service(mode, A)), [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        lan(reply_to(0), reply("no_connection", "lan"), after=60.5),
        wan(tcp(CLIENT, VIP), forward("lan", A, new=True, state="syn_recv")),
    ])


def udp_lives(mode, seconds=300, extra="", name="300_seconds"):
    lb = two_arm(service(mode, A, B, protocol="udp"), extra=extra)
    steps = [wan(udp(CLIENT, VIP), forward("lan", B, new=True, state="udp")), wan(udp(CLIENT, VIP), forward("lan", B, new=False),
        after=seconds - 0.5)]
    if mode != "dr":
        steps += [lan(reply_to(0), forward("wan", CLIENT, new=False), after=seconds - 0.5),
                  wan(udp(CLIENT, VIP), forward("lan", B, new=False), after=seconds - 0.5)]
    return Case(f"{mode}_udp_lives_{name}", lb, steps + [wan(udp(CLIENT, VIP), forward("lan", A, new=True, state="udp"), after=seconds + 0.5)])


def syn_again(mode, state):
    """What is over for both sides makes room for a SYN; what is not keeps its real server and, half-closed, its state."""
    lb = two_arm(service(mode, A, B))
    steps = walk(TO_STATE[state], server=B)
    if state in ("time_wait", "close"):
        after = forward("lan", A, new=True, state="syn_recv")
    else:
        after = forward("lan", B, new=False, state=state)
    return Case(f"{mode}_syn_in_{state}", lb, steps + [wan(tcp(CLIENT, VIP, seq=900000), after)])


def reused(mode):
    """The connection made anew lives on by itself: its replies pass, in its states."""
    lb = two_arm(service(mode, A, B))
    steps = walk(TO_STATE["time_wait"], server=B)
    number = len(steps)
    return Case(f"{mode}_a_reused_connection_works", lb, steps + [
        wan(tcp(CLIENT, VIP, seq=900000), forward("lan", A, new=True, state="syn_recv")),
        lan(reply_to(number), forward("wan", CLIENT, state="syn_recv")),
        wan(tcp(CLIENT, VIP, "A"), forward("lan", A, state="established")),
        wan(tcp(CLIENT, VIP, "PA"), forward("lan", A, new=False, state="established"), after=200),
    ])


# --- fullnat's local ports -----------------------------------------------------------------------------------------------


def unique(steps, pairs):
    """Each of `steps` has a local address and port of its own towards its real server; `pairs`: how many there may be."""

    def check(results):
        used = set()
        for step in steps:
            found = fields(results.sent(step))
            pair = (found["dst"], found["dport"], found["src"], found["sport"])
            assert pair not in used, f"step {step}: {pair} is another connection's"
            used.add(pair)
        assert len(used) <= pairs

    return check


def opened(count, expect, first=1000, sender=CLIENT, make=tcp, **more):
    return [wan(make(sender, VIP, sport=first + n, **more), expect) for n in range(count)]


SMALL = dict(pool_ports="2000-2003")


def established(steps, start=0):
    """Opens connections (`steps`, the first of which is number `start`), with the real server's answers and the clients'
    third segments."""
    answers = [lan(reply_to(start + n), forward("wan", state="syn_recv")) for n in range(len(steps))]
    thirds = [replace(step.packet, layer=acknowledging(step.packet.layer)) for step in steps]
    return steps + answers + [wan(third, forward("lan", new=False, state="established")) for third in thirds]


def acknowledging(layer):
    """The client's third segment: reply_to's sequence number is 1000."""
    layer = layer.copy()
    layer[TCP].flags, layer[TCP].seq, layer[TCP].ack = "A", 1001, 1001
    return layer


EXHAUSTED = [*established(opened(4, forward("lan", A, new=True))), *opened(3, drop("local_ports_exhausted"), first=2000)]


def full(count=4, **keys):
    return two_arm(service("nat", A, **keys), connections=count)


CASES = [
    *(walked(mode, name, text) for mode in ("nat", "fullnat") for name, text in WALKS.items()),
    *(walked("dr", name, text) for name, text in ONE_SIDED.items()),
    *(lives(mode, state) for mode in ("nat", "fullnat") for state in TO_STATE),
    lives("nat", "syn_recv", 5, "[timeouts]\ntcp_syn_recv = 5\n"),
    lives("nat", "established", 3600, '[timeouts]\ntcp_established = "1h"\n'),
    lives("fullnat", "fin_wait", 7, "[timeouts]\ntcp_fin_wait = 7\n"),
    lives("nat", "close_wait", 20, "[timeouts]\ntcp_close_wait = 20\n"),
    lives("nat", "time_wait", 2, "[timeouts]\ntcp_time_wait = 2\n"),
    lives("fullnat", "close", 1, "[timeouts]\ntcp_close = 1\n"),
    *(reply_after_the_timeout(mode) for mode in ("nat", "fullnat")),
    *(udp_lives(mode) for mode in ("dr", "nat", "fullnat")),
    udp_lives("nat", 5, "[timeouts]\nudp = 5\n", "as_long_as_configured"),
    udp_lives("fullnat", 90, '[timeouts]\nudp = "1m 30s"\n', "a_time_in_words"),
    *(syn_again(mode, state) for mode in ("nat", "fullnat") for state in TO_STATE),
    *(reused(mode) for mode in ("nat", "fullnat")),
    Case("nat_a_syn_of_the_real_server_opens_nothing", two_arm(service("nat", A)), [lan(tcp(A, CLIENT, "S", sport=8080, dport=40000),
        drop({"not_for_us", "no_connection"}))]),
    Case("a_syn_with_ack_opens_nothing", two_arm(service("nat", A)), [wan(tcp(CLIENT, VIP, "SA"), reply("no_connection"))]),
    *(Case(f"{mode}_a_segment_after_the_end_is_not_scheduled", two_arm(service(mode, A)),
           walk(TO_STATE["close"]) + [wan(tcp(CLIENT, VIP, "A"), reply("no_connection"), after=11)]) for mode in ("nat", "fullnat")),
    *(Case(f"dr_{scheduler}_schedules_segments_in_mid_connection", two_arm(service("dr", A, B, C, scheduler=scheduler)), [
        wan(tcp(CLIENT, VIP, "A", sport=1), forward("lan", new=True, state="established")),
        wan(tcp(CLIENT, VIP, "PA", sport=1), forward("lan", new=False)),
        wan(tcp(CLIENT, VIP, "FA", sport=2), forward("lan", new=True)),
        wan(tcp(CLIENT, VIP, "S", sport=3), forward("lan", new=True, state="syn_recv")),
    ], check=lambda results: len({fields(results.sent(n))["eth_dst"] for n in range(4)}) == 1 or (_ for _ in ()).throw(AssertionError("one client, several real servers")),
       says="any director of a cluster comes to the same real server") for scheduler in ("sh", "mh")),
    *(Case(f"nat_{scheduler}_does_not", two_arm(service("nat", A, B, scheduler=scheduler)), [wan(tcp(CLIENT, VIP, "A"), reply("no_connection"))])
      for scheduler in ("sh", "mh")),
    Case("fullnat_local_ports_are_unique", two_arm(service("fullnat", A)), opened(200, forward("lan", A, new=True)), check=unique(range(200), 200)),
    Case("fullnat_local_ports_are_unique_across_services", two_arm(service("fullnat", A), service("fullnat", A, port=81, name="other"),
        pool_ports="2000-2019"), [
        wan(tcp(CLIENT, VIP, sport=1000 + n, dport=80 + n % 2), forward("lan", A, new=True)) for n in range(20)
    ], check=unique(range(20), 20)),
    Case("fullnat_every_pair_of_a_small_pool_is_used_then_none_is_left", two_arm(service("fullnat", A), **SMALL), EXHAUSTED, check=unique(range(4),
        4)),
    Case("fullnat_every_pair_of_several_addresses", two_arm(service("fullnat", A), pool="10.0.0.200-10.0.0.202", **SMALL),
         established(opened(12, forward("lan", A, new=True))) + opened(1, drop("local_ports_exhausted"), first=3000), check=unique(range(12), 12)),
    Case("fullnat_ports_are_counted_for_each_real_server", two_arm(service("fullnat", A, B), **SMALL),
         established(opened(8, forward("lan", new=True))) + opened(2, drop("local_ports_exhausted"), first=3000), check=unique(range(8), 8)),
    Case("fullnat_ports_of_tcp_and_udp_are_apart", two_arm(service("fullnat", A), service("fullnat", A, protocol="udp", name="datagrams"), **SMALL),
         established(opened(4, forward("lan", A))) + opened(4, forward("lan", A), make=udp) + opened(1, drop("local_ports_exhausted"), first=3000)),
    Case("fullnat_known_connections_live_on_in_an_exhausted_pool", two_arm(service("fullnat", A), **SMALL), EXHAUSTED + [
        wan(tcp(CLIENT, VIP, "A", sport=1000), forward("lan", A, new=False)), lan(reply_to(3), forward("wan", CLIENT, dport=1003)),
    ]),
    Case("fullnat_ports_of_ended_connections_are_free_again", two_arm(service("fullnat", A), **SMALL), EXHAUSTED + [
        wan(tcp(CLIENT, VIP, "R", sport=1001), forward("lan", A, state="close")),
        *established(opened(1, forward("lan", A, new=True), first=3000), start=16),
        wan(tcp(CLIENT, VIP, sport=3001), drop("local_ports_exhausted"), after=9),
        wan(tcp(CLIENT, VIP, "R", sport=1002), forward("lan", A, state="close")),
        wan(tcp(CLIENT, VIP, sport=3001), forward("lan", A, new=True), after=11),
    ]),
    Case("fullnat_a_reused_port_leads_to_its_new_client", two_arm(service("fullnat", A), pool_ports="2000-2000"), [
        *established([wan(tcp(CLIENT, VIP), forward("lan", A, sport=2000))]),
        wan(tcp(client(9), VIP), drop("local_ports_exhausted")),
        wan(tcp(client(9), VIP), forward("lan", A, new=True, sport=2000), after=901),
        lan(reply_to(4), forward("wan", client(9))),
        wan(tcp(CLIENT, VIP, "A"), reply("no_connection")),
    ]),
    Case("connection_table_full", full(), established(opened(4, forward("lan", A, new=True))) + opened(3, drop("connection_table_full"), first=2000)
         + opened(4, forward("lan", A, new=False), flags="A") + [lan(reply_to(2), forward("wan", CLIENT, dport=1002))]),
    Case("one_connection", full(1), established([wan(tcp(CLIENT, VIP), forward("lan", A))]) + [wan(tcp(client(9), VIP), drop("connection_table_full"))]),
    Case("a_full_table_has_room_after_the_timeouts", full(), established(opened(4, forward("lan", A, new=True))) + [
        wan(tcp(client(9), VIP), drop("connection_table_full"), after=890),
        wan(tcp(client(9), VIP), forward("lan", A, new=True), after=15),
    ]),
    Case("a_full_table_gives_the_oldest_half_open_connection_up", full(),
         [replace(step, after=0.002) for step in opened(4, forward("lan", A, new=True))]  # so that one is the oldest
         + [lan(reply_to(0), forward("wan")), wan(tcp(CLIENT, VIP, "A", sport=1000, ack=1001), forward("lan", A, state="established"))]
         + opened(2, forward("lan", A, new=True), first=2000)
         + [wan(tcp(CLIENT, VIP, "A", sport=1000), forward("lan", A, new=False)),
            wan(tcp(CLIENT, VIP, "A", sport=1001), reply("no_connection")), wan(tcp(CLIENT, VIP, "A", sport=1002), reply("no_connection")),
            wan(tcp(CLIENT, VIP, "A", sport=1003), forward("lan", A, state="established"))]),
    Case("a_full_table_still_reuses_its_own", full(1), walk(TO_STATE["time_wait"]) + [wan(tcp(CLIENT, VIP),
        forward("lan", A, new=True, state="syn_recv"))]),
    Case("a_full_table_still_refuses_and_answers", full(1), [wan(tcp(CLIENT, VIP), forward("lan", A)), wan(tcp(CLIENT, VIP, dport=81),
        reply("no_service"))]),
    Case("weight_0_has_no_new_connections", two_arm(service("nat", A, B, weights=[1, 0])), opened(6, forward("lan", A, new=True))),
    Case("clients_are_told_apart_by_address_and_port", two_arm(service("nat", A, B)), [
        wan(tcp(CLIENT, VIP, sport=1), forward("lan", B, new=True)), wan(tcp(CLIENT, VIP, sport=2), forward("lan", A, new=True)),
        wan(tcp(client(8), VIP, sport=1), forward("lan", B, new=True)), wan(tcp(CLIENT, VIP, "A", sport=1), forward("lan", B, new=False)),
    ]),
    Case("tcp_and_udp_of_the_same_ports_are_apart", two_arm(service("nat", A), service("nat", A, protocol="udp", name="datagrams")), [
        wan(tcp(CLIENT, VIP), forward("lan", A, new=True, state="syn_recv")), wan(udp(CLIENT, VIP), forward("lan", A, new=True, state="udp")),
        lan(reply_to(0), forward("wan", CLIENT, proto=6)), lan(reply_to(1), forward("wan", CLIENT, proto=17)),
    ]),
]
