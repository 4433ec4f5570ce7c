"""Which servers get new connections while a service has too few real servers."""

import json

from case import ANY, Case, forward, lan, local, queue, reply, wan
from lab import A, B, C, CLIENT, GATEWAY, LAN, VIP, arp, client, reply_to, service, tcp, two_arm, udp

MODES = ("dr", "nat", "fullnat")


def sorry(mode, *hosts):
    """The value of `fallback`, in the service's own mode."""
    return json.dumps([f"{host.ip}:{80 if mode == 'dr' else 9090}" for host in hosts])


def whole(mode, protocol):
    """A connection of a fallback server's, both ways, translated as a real server's is."""
    lb = two_arm(service(mode, A, protocol=protocol, weights=[0], fallback=sorry(mode, B)))
    make = tcp if protocol == "tcp" else udp
    port = 80 if mode == "dr" else 9090
    first = forward("lan", B, new=True, real=f"{B.ip}:{port}", dport=port)
    steps = [wan(make(CLIENT, VIP), first)]
    if mode != "dr":
        steps.append(lan(reply_to(0), forward("wan", CLIENT, new=False, sport=80, dport=40000)))
    more = tcp(CLIENT, VIP, "PA", payload=b"GET /") if protocol == "tcp" else udp(CLIENT, VIP, b"again")
    steps.append(wan(more, forward("lan", B, new=False, dport=port)))
    return Case(f"{mode}_{protocol}_of_a_fallback_server", lb, steps)


def spread(mode):
    lb = two_arm(service(mode, A, weights=[0], fallback=sorry(mode, B, C)))
    return Case(f"{mode}_fallback_servers_take_turns", lb, [
        wan(tcp(client(n), VIP), forward("lan", host, new=True)) for n, host in enumerate((C, B, C, B), 1)
    ], says="as real servers do: from the last of the list")


def silent(mode):
    """A real server that does not answer ARP is not available, health checks or not."""
    lb = two_arm(service(mode, A, protocol="udp", fallback=sorry(mode, B)), known=(GATEWAY, B))
    return Case(f"{mode}_fallback_while_the_real_server_does_not_answer_and_back", lb, [
        wan(udp(CLIENT, VIP), queue("lan")),
        wan(udp(client(8), VIP), forward("lan", B, new=True), at=5),
        lan(arp(A, LAN, op="is-at", target_mac=LAN.mac), local("arp"), at=6),
        wan(udp(client(9), VIP), forward("lan", A, new=True), at=6.1),
        wan(udp(client(8), VIP), forward("lan", B, new=False)),
        wan(udp(CLIENT, VIP, sport=2), forward("lan", A, new=True)),
    ], asks=ANY, lost={"neighbour_failed": 1}, says="a connection of the fallback server's stays there until it ends")


def template(mode):
    """What persistence binds to a fallback server is bound to a real server once one is available."""
    keys = {"persistence": "{ timeout = 300, through_drain = true }", "fallback": sorry(mode, B)}
    lb = two_arm(service(mode, A, protocol="udp", **keys), known=(GATEWAY, B))
    return Case(f"{mode}_a_client_bound_to_a_fallback_server_comes_back", lb, [
        wan(udp(client(8), VIP), queue("lan")),
        wan(udp(CLIENT, VIP), forward("lan", B, new=True), at=5),
        wan(udp(CLIENT, VIP, sport=2), forward("lan", B, new=True)),
        lan(arp(A, LAN, op="is-at", target_mac=LAN.mac), local("arp"), at=6),
        wan(udp(CLIENT, VIP, sport=3), forward("lan", A, new=True), at=6.1),
        wan(udp(CLIENT, VIP, sport=2), forward("lan", B, new=False)),
    ], asks=ANY, lost={"neighbour_failed": 1})


CASES = [
    *(whole(mode, protocol) for mode in MODES for protocol in ("tcp", "udp")),
    *(spread(mode) for mode in MODES),
    *(silent(mode) for mode in MODES),
    *(template(mode) for mode in MODES),
    Case("below_its_minimum_a_service_refuses", two_arm(
        service("nat", A, B, min_healthy=2, when_below='"refuse"', weights=[1, 0])), [
        wan(tcp(CLIENT, VIP), reply("no_real_server", flags="RA", src=VIP)),
        wan(udp(CLIENT, VIP), reply("no_service")),
    ], says="min_healthy counts what has a weight; a number stands as it is"),
    Case("a_fallback_server_gets_nothing_while_a_real_server_does", two_arm(
        service("nat", A, B, weights=[1, 0], fallback=sorry("nat", C))), [
        wan(tcp(client(n), VIP), forward("lan", A, new=True)) for n in range(1, 5)
    ]),
    Case("where_no_server_is_left_clients_hear_why", two_arm(
        service("nat", A, protocol="udp", weights=[0], fallback=sorry("nat", B)), known=(GATEWAY,)), [
        wan(udp(CLIENT, VIP), queue("lan")),
        wan(udp(client(8), VIP), reply("no_real_server", icmp=(3, 1)), at=5),
    ], asks=ANY, lost={"neighbour_failed": 1}),
]
