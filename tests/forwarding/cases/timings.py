"""How long connections live: `timeouts` and `on_idle` of a service, `tcp_half_closed`, and `one_packet`, which keeps none."""

import datagrams
import lab
import lab6
import lab46
from case import Case, drop, forward, lan, reply, wan
from lab import CLIENT, VIP, A, B, C, client, reply_to, service, tcp, two_arm, udp

SIX = lab6


def dns(**keys):
    return service("nat", A, B, protocol="udp", port=53, name="dns", **keys)


def to_dns(after=0.001, sport=4000):
    return udp(CLIENT, VIP, sport=sport, dport=53)


def held(sport=40000, dport=80):
    """A connection that its real server has answered, with data each way: the client has had 5006 bytes' numbers, it 1011."""
    def steps(base):
        return [
            wan(tcp(CLIENT, VIP, "S", sport=sport, dport=dport, seq=1000), forward("lan", new=True)),
            lan(reply_to(base, "SA", seq=5000, ack=1001), forward("wan", CLIENT)),
            wan(tcp(CLIENT, VIP, "A", sport=sport, dport=dport, seq=1001, ack=5001), forward("lan", state="established")),
            wan(tcp(CLIENT, VIP, "PA", sport=sport, dport=dport, seq=1001, ack=5001, payload=b"0123456789"), forward("lan")),
            lan(reply_to(base, "PA", seq=5001, ack=1011, payload=b"01234"), forward("wan", CLIENT)),
            wan(tcp(CLIENT, VIP, "A", sport=sport, dport=dport, seq=1011, ack=5006), forward("lan")),
        ]
    return steps


OPEN = held()(0)


def own_timeouts():
    yield Case("a_services_own_udp_timeout_is_its_own", two_arm(dns(timeouts="{ udp = 5 }"), service("nat", A, B, protocol="udp")), [
        wan(to_dns(), forward("lan", B, new=True)),
        wan(udp(CLIENT, VIP), forward("lan", B, new=True)),
        wan(to_dns(), forward("lan", B, new=False), after=4.9),
        # Too late for the one, not for the other.
        wan(to_dns(), forward("lan", A, new=True), after=5.1),
        wan(udp(CLIENT, VIP), forward("lan", B, new=False)),
        wan(udp(CLIENT, VIP), forward("lan", B, new=False), after=299),
        wan(udp(CLIENT, VIP), forward("lan", A, new=True), after=301),
    ])
    yield Case("a_services_own_udp_timeout_may_be_longer", two_arm(dns(timeouts="{ udp = \"20m\" }"), service("nat", A, B, protocol="udp")), [
        wan(to_dns(), forward("lan", B, new=True)),
        wan(udp(CLIENT, VIP), forward("lan", B, new=True)),
        wan(udp(CLIENT, VIP), forward("lan", A, new=True), after=301),
        wan(to_dns(), forward("lan", B, new=False), after=898),
        wan(to_dns(), forward("lan", A, new=True), after=1201),
    ])
    for mode in ("nat", "fullnat"):
        yield Case(f"{mode}_own_tcp_timeouts", two_arm(service(mode, A, timeouts="{ tcp_established = 30, tcp_close = 100 }")), OPEN + [
            wan(tcp(CLIENT, VIP, "A", seq=1011, ack=5006), forward("lan", A, new=False, state="established"), after=29),
            lan(reply_to(0, "PA", seq=5006, ack=1011, payload=b"x"), forward("wan", CLIENT), after=29),
            wan(tcp(CLIENT, VIP, "A", seq=1011, ack=5007), reply("no_connection"), after=30.5),
        ])
    yield Case("own_timeouts_in_ipv6", SIX.two_arm(SIX.service("nat", SIX.A, SIX.B, protocol="udp", timeouts="{ udp = 2 }")), [
        wan(SIX.udp(SIX.CLIENT, SIX.VIP), forward("lan", SIX.B, new=True)),
        wan(SIX.udp(SIX.CLIENT, SIX.VIP), forward("lan", SIX.B, new=False), after=1.9),
        wan(SIX.udp(SIX.CLIENT, SIX.VIP), forward("lan", SIX.A, new=True), after=2.1),
    ])
    yield Case("own_timeouts_of_wrapped_connections", two_arm(service("tunnel", A, B, protocol="udp", real_port=None, timeouts="{ udp = 2 }")), [
        wan(udp(CLIENT, VIP), forward("lan", new=True, real=f"{B.ip}:80")),
        wan(udp(CLIENT, VIP), forward("lan", new=False, real=f"{B.ip}:80"), after=1.9),
        wan(udp(CLIENT, VIP), forward("lan", new=True, real=f"{A.ip}:80"), after=2.1),
    ])


def half_closed():
    for where, lb in (("everywhere", two_arm(service("nat", A), extra="timeouts.tcp_half_closed = 600\n")),
                      ("of_a_service", two_arm(service("nat", A, timeouts="{ tcp_half_closed = 600 }")))):
        yield Case(f"half_closed_connections_live_as_long_as_they_may_{where}", lb, OPEN + [
            wan(tcp(CLIENT, VIP, "FA", seq=1011, ack=5006), forward("lan", A, state="close_wait")),
            lan(reply_to(0, "PA", seq=5006, ack=1012, payload=b"late"), forward("wan", CLIENT, state="close_wait"), after=599),
            wan(tcp(CLIENT, VIP, "A", seq=1012, ack=5010), forward("lan", A, new=False, state="close_wait"), after=599),
            wan(tcp(CLIENT, VIP, "A", seq=1012, ack=5010), reply("no_connection"), after=601),
        ])
    yield Case("half_closed_by_the_real_server", two_arm(service("nat", A, timeouts="{ tcp_half_closed = 600 }")), OPEN + [
        lan(reply_to(0, "FA", seq=5006, ack=1011), forward("wan", CLIENT, state="fin_wait")),
        wan(tcp(CLIENT, VIP, "PA", seq=1011, ack=5007, payload=b"more"), forward("lan", A, state="fin_wait"), after=599),
    ])


def told(expected):
    """The resets of weir's own accord, in any order: (sequence number, destination, port, MAC address)."""

    def check(results):
        from run import fields

        found = [fields(frame) for frame in results.resets]
        found = sorted((each["seq"], each["dst"], each["dport"], each["eth_dst"]) for each in found)
        assert found == sorted(expected), found

    return check


def on_idle():
    later = wan(tcp(client(9), VIP, "S", sport=999), forward("lan", new=True), after=901)
    for mode in ("nat", "fullnat"):
        # From the first local port that a pool gives in a replay, or the client's own.
        def ends(results, mode=mode):
            from run import fields

            sent = fields(results.forwarded(0))
            told([(5006, CLIENT.ip, 40000, lab.GATEWAY.mac), (1011, A.ip, 8080, A.mac)])(results)
            to_real = next(fields(frame) for frame in results.resets if fields(frame)["dst"] == A.ip)
            to_client = next(fields(frame) for frame in results.resets if fields(frame)["dst"] == CLIENT.ip)
            assert (to_real["src"], to_real["sport"]) == (sent["src"], sent["sport"]), to_real
            assert (to_client["src"], to_client["sport"]) == (VIP, 80), to_client

        lb = two_arm(service(mode, A, on_idle='"reset"'))
        yield Case(f"{mode}_an_idle_connection_ends_at_both_ends", lb, OPEN + [later], resets=2, check=ends)
        yield Case(f"{mode}_a_late_packet_finds_it_ended_and_told", lb, OPEN + [
            wan(tcp(CLIENT, VIP, "A", seq=1011, ack=5006), reply("no_connection"), after=900.5),
        ], resets=2)
        yield Case(f"{mode}_by_default_it_ends_silently", two_arm(service(mode, A)), OPEN + [later])
        yield Case(f"{mode}_what_was_never_established_ends_silently", lb, [
            wan(tcp(CLIENT, VIP, "S", seq=1000), forward("lan", new=True)), later,
        ])
        yield Case(f"{mode}_what_was_closed_ends_silently", lb, OPEN + [
            wan(tcp(CLIENT, VIP, "R", seq=1011), forward("lan", state="close")), later,
        ])
    yield Case("own_timeout_and_resets", two_arm(service("nat", A, on_idle='"reset"', timeouts="{ tcp_established = 10 }")), OPEN + [
        wan(tcp(client(9), VIP, "S", sport=999), forward("lan", new=True), after=12),
    ], resets=2, check=told([(5006, CLIENT.ip, 40000, lab.GATEWAY.mac), (1011, A.ip, 8080, A.mac)]))
    yield Case("an_idle_ipv6_connection_ends_at_both_ends", SIX.two_arm(SIX.service("fullnat", SIX.A, on_idle='"reset"')), [
        wan(SIX.tcp(SIX.CLIENT, SIX.VIP, "S", seq=1000), forward("lan", new=True)),
        lan(SIX.reply_to(0, "SA", seq=5000, ack=1001), forward("wan", SIX.CLIENT)),
        wan(SIX.tcp(SIX.CLIENT, SIX.VIP, "A", seq=1001, ack=5001), forward("lan", state="established")),
        lan(SIX.reply_to(0, "A", seq=5001, ack=1001), forward("wan", SIX.CLIENT)),
        wan(SIX.tcp(SIX.CLIENT, SIX.VIP, "S", sport=999), forward("lan", new=True), after=901),
    ], resets=2, check=told([(5001, SIX.CLIENT.ip, 40000, SIX.GATEWAY.mac), (1001, SIX.A.ip, 8080, SIX.A.mac)]))
    few = 20
    yield Case("resets_of_idle_connections_are_limited_and_come_later", two_arm(service("nat", A, on_idle='"reset"'), answers=4), [
        *(step for n in range(few) for step in (
            wan(tcp(client(n + 1), VIP, "S", seq=1000), forward("lan", new=True)),
            lan(reply_to(4 * n, "SA", seq=5000, ack=1001), forward("wan")),
            wan(tcp(client(n + 1), VIP, "A", seq=1001, ack=5001), forward("lan", state="established")),
            lan(reply_to(4 * n, "A", seq=5001, ack=1001), forward("wan")),
        )),
        *(wan(udp(CLIENT, VIP, dport=9), after=901 if n == 0 else 0.5) for n in range(10)),
    ], resets=2 * few)


def one_packet():
    lb = two_arm(service("nat", A, B, C, protocol="udp", one_packet="true"))
    yield Case("one_packet_every_datagram_is_scheduled_afresh", lb, [
        *(wan(udp(CLIENT, VIP), forward("lan", host, new=True)) for host in (C, B, A, C, B, A)),
    ])
    yield Case("one_packet_nat_replies_come_from_the_vip", lb, [
        wan(udp(CLIENT, VIP), forward("lan", C, new=True)), lan(reply_to(0, payload=b"answer"), forward("wan", CLIENT, src=VIP, sport=80)),
        wan(udp(CLIENT, VIP), forward("lan", B, new=True)), lan(reply_to(2, payload=b"answer"), forward("wan", CLIENT, src=VIP, sport=80)),
        # The first one's, once more and much later.
        lan(reply_to(0, payload=b"late"), forward("wan", CLIENT, src=VIP, sport=80), after=4000),
        # From another port of the real server, and from a host that is none.
        lan(udp(C, CLIENT, sport=99, dport=40000), drop("not_for_us")), lan(udp(lab.D, CLIENT, sport=8080, dport=40000), drop("not_for_us")),
        wan(udp(lab.Host(C.ip, lab.GATEWAY.mac), CLIENT, sport=8080, dport=40000), drop("wrong_port")),
    ])
    for mode in ("dr", "tunnel"):
        lb = two_arm(service(mode, A, B, protocol="udp", real_port=None, one_packet="true"))
        yield Case(f"one_packet_{mode}", lb, [
            *(wan(udp(CLIENT, VIP), forward("lan", new=True, real=f"{host.ip}:80")) for host in (B, A, B, A))])
    six = SIX.two_arm(SIX.service("nat", SIX.A, SIX.B, protocol="udp", one_packet="true"))
    yield Case("one_packet_in_ipv6", six, [
        wan(SIX.udp(SIX.CLIENT, SIX.VIP), forward("lan", SIX.B, new=True)),
        lan(SIX.reply_to(0, payload=b"answer"), forward("wan", SIX.CLIENT, src=SIX.VIP, sport=80)),
        wan(SIX.udp(SIX.CLIENT, SIX.VIP), forward("lan", SIX.A, new=True)),
    ])
    yield Case("one_packet_of_every_port", two_arm(service("nat", A, B, protocol="udp", port=0, real_port=None, one_packet="true")), [
        wan(udp(CLIENT, VIP, dport=53), forward("lan", B, new=True, dport=53)),
        lan(reply_to(0, payload=b"answer"), forward("wan", CLIENT, src=VIP, sport=53)),
        wan(udp(CLIENT, VIP, dport=54), forward("lan", A, new=True, dport=54)),
    ])
    two = (service("nat", A, protocol="udp", one_packet="true"), service("nat", A, protocol="udp", port=81, name="other", one_packet="true"))
    yield Case("one_packet_a_reply_that_two_services_may_have_asked_for", two_arm(*two), [
        wan(udp(CLIENT, VIP), forward("lan", A, new=True)), lan(reply_to(0, payload=b"answer"), drop("ambiguous_reply")),
    ])
    yield Case("one_packet_without_a_real_server", two_arm(service("nat", A, protocol="udp", weights=(0,), one_packet="true")), [
        wan(udp(CLIENT, VIP), reply("no_real_server")),
    ])
    lb = two_arm(service("nat", A, B, C, protocol="udp", one_packet="true"))
    yield Case("one_packet_a_datagram_in_fragments_stays_together", lb, [
        *(wan(piece, forward("lan", C)) for piece in pieces(b"a" * 4000, 0x70)),
        wan(udp(CLIENT, VIP), forward("lan", B, new=True)),
        *(wan(piece, forward("lan", A)) for piece in pieces(b"b" * 4000, 0x71)),
        wan(udp(CLIENT, VIP), forward("lan", C, new=True)),
    ])


def pieces(payload, id):
    return datagrams.fragments(udp(CLIENT, VIP, payload), 1448, id)


CASES = [*own_timeouts(), *half_closed(), *on_idle(), *one_packet()]
