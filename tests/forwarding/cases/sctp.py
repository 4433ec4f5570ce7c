"""`protocol = "sctp"` (RFC 9260): associations in every mode and family, what is refused, and what is not believed."""

import re

import lab
import lab6
from case import Case, drop, forward, lan, one_of, queue, reply, wan
from datagrams import fragments
from lab import Host, Sent
from quotes import PORT, TOO_BIG, UNREACHABLE, about
from scapy.layers.sctp import (SCTP, SCTPChunkAbort, SCTPChunkCookieAck, SCTPChunkCookieEcho, SCTPChunkData, SCTPChunkError, SCTPChunkHeartbeatReq,
                               SCTPChunkInit, SCTPChunkInitAck, SCTPChunkParamIPv4Addr, SCTPChunkParamIPv6Addr, SCTPChunkParamStateCookie,
                               SCTPChunkParamSupportedAddrTypes, SCTPChunkSACK, SCTPChunkShutdown, SCTPChunkShutdownAck, SCTPChunkShutdownComplete)
from wire import ip_of

FAMILIES = {"v4": lab, "v6": lab6}
TWO_WAY, ONE_WAY = ("nat", "fullnat"), ("dr", "tunnel", "l3dsr")
MODES = TWO_WAY + ONE_WAY
OUTSIDE = {lab: Host("203.0.113.254", lab.GATEWAY.mac), lab6: Host("2001:db8:7::fe", lab6.GATEWAY.mac)}
INSIDE = {lab: Host("10.0.0.253", lab.INNER_GATEWAY.mac), lab6: Host("2001:db8:10::fd", lab6.INNER_GATEWAY.mac)}
# The tags that the client and the real server choose: what packets to them have.
OURS, THEIRS = 0xC0FFEE01, 0x5E4E4E02
ABORT, ABORT_REFLECTED, COMPLETE_REFLECTED = (6, 0), (6, 1), (14, 1)


def addresses(family, *hosts):
    make = SCTPChunkParamIPv6Addr if family is lab6 else SCTPChunkParamIPv4Addr
    return [make(addr=lab.address(host)) for host in hosts]


def begins(kind, tag, *params):
    return kind(init_tag=tag, a_rwnd=106496, n_out_streams=10, n_in_streams=65535, init_tsn=7, params=list(params))


def init(*params, tag=OURS):
    return begins(SCTPChunkInit, tag, *params, SCTPChunkParamSupportedAddrTypes())


def init_ack(*params, tag=THEIRS):
    return begins(SCTPChunkInitAck, tag, *params, SCTPChunkParamStateCookie(cookie=b"a cookie of the real server"))


def data(text=b"a message"):
    return SCTPChunkData(tsn=7, stream_id=1, stream_seq=0, proto_id=0, beginning=1, ending=1, data=text)


COOKIE_ECHO, COOKIE_ACK = SCTPChunkCookieEcho(cookie=b"a cookie of the real server"), SCTPChunkCookieAck()
SACK = SCTPChunkSACK(cumul_tsn_ack=7, a_rwnd=106496)
HEARTBEAT = SCTPChunkHeartbeatReq()


def packet(family, sender, to, chunk, tag, sport=40000, dport=80, chksum=None, **fields):
    header = lab6.ip6(sender, to, nh=132, **fields) if family is lab6 else lab.ip(sender, to, proto=132, **fields)
    return Sent(sender, header / SCTP(sport=sport, dport=dport, tag=tag, chksum=chksum) / chunk)


def asks(family, chunk, tag=THEIRS, sender=None, to=None, **more):
    return packet(family, sender or family.CLIENT, to or family.VIP, chunk, tag, **more)


def answers(family, step, chunk, tag=OURS, **more):
    """What the real server sends back for the packet that weir forwarded to it at `step`."""

    def make(results):
        came = ip_of(results.forwarded(step))
        found = results.fields(step)
        sender = Host(found["dst"], found["eth_dst"])
        return packet(family, sender, found["src"], chunk, tag, **{"sport": found["dport"], "dport": found["sport"], **more})

    make.needs = step
    return make


def service(family, mode, *reals, **more):
    real_port = more.pop("real_port", 8080) if mode in TWO_WAY else more.pop("real_port", None)
    keys = {"l3dsr": {"dscp": 9}, "tunnel": {"tunnel": '"gre"'}}.get(mode, {})
    return family.service(mode, *reals, protocol="sctp", real_port=real_port, **keys, **more)


def network(family, mode, *reals, **more):
    return family.two_arm(service(family, mode, *(reals or (family.A,)), **more))


def only(family, host):
    """Whether an INIT or INIT ACK tells no address but this one."""
    packed = __import__("ipaddress").ip_address(lab.address(host)).packed

    def check(payload):
        at, told = 20, []
        while at + 4 <= len(payload):
            kind, length = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 4], "big")
            told += [payload[at + 4 : at + length]] * (kind in (5, 6))
            at += (length + 3) & ~3
        return told in ([], [packed])

    return check


def beginning(family, mode, *reals):
    """The four packets of the handshake; what comes after them is at step 4."""
    others = addresses(family, OUTSIDE[family], family.NEAR)
    inner = addresses(family, family.A, INSIDE[family])
    seen = {"payload": only(family, family.POOL if mode == "fullnat" else family.CLIENT)}
    return [
        wan(asks(family, init(*others), 0), forward("lan", family.A, new=True, state="init1", service="web", **seen)),
        lan(answers(family, 0, init_ack(*inner)), forward("wan", family.CLIENT, new=False, state="cookie_sent", sport=80, payload=only(family, family.VIP))),
        wan(asks(family, COOKIE_ECHO), forward("lan", family.A, new=False, state="cookie_replied")),
        lan(answers(family, 0, COOKIE_ACK), forward("wan", family.CLIENT, new=False, state="established", sport=80, dport=40000)),
    ]


def both_ways(name, mode, real_port):
    family = FAMILIES[name]
    lb = network(family, mode, real_port=real_port)
    steps = beginning(family, mode)
    for length in (0, 1, 2, 3, 100, 1401):
        steps.append(wan(asks(family, data(bytes(length) or b"x")), forward("lan", family.A, new=False, state="established")))
        steps.append(lan(answers(family, 0, SACK / data(bytes(length) or b"x")), forward("wan", family.CLIENT, new=False, state="established")))
    steps += [
        wan(asks(family, HEARTBEAT), forward("lan", state="established")),
        lan(answers(family, 0, SCTPChunkShutdown(cumul_tsn_ack=7)), forward("wan", state="shutdown_sent")),
        wan(asks(family, SCTPChunkShutdownAck()), forward("lan", state="closed")),
        lan(answers(family, 0, SCTPChunkShutdownComplete()), forward("wan", state="closed")),
        # The client's next association: of its own, with the same ports.
        wan(asks(family, init(), 0), forward("lan", new=True, state="init1")),
    ]
    return Case(f"{name}_{mode}_port_{real_port}_both_ways", lb, steps)


def shut_by_the_client(name, mode):
    family = FAMILIES[name]
    steps = beginning(family, mode) + [
        wan(asks(family, SCTPChunkShutdown(cumul_tsn_ack=7)), forward("lan", state="shutdown_received")),
        lan(answers(family, 0, SCTPChunkShutdownAck()), forward("wan", state="shutdown_ack_sent")),
        wan(asks(family, SCTPChunkShutdownComplete()), forward("lan", state="closed")),
    ]
    return Case(f"{name}_{mode}_shut_by_the_client", network(family, mode), steps)


def one_way(name, mode):
    """Replies go straight to the client, and so do the addresses that both sides tell."""
    family = FAMILIES[name]
    told = init(*addresses(family, OUTSIDE[family], family.NEAR))
    steps = [
        wan(asks(family, told, 0), forward("lan", family.A, new=True, state="init1")),
        wan(asks(family, told, 0), forward("lan", family.A, new=False, state="init")),
        wan(asks(family, COOKIE_ECHO / data()), forward("lan", new=False, state="cookie_replied")),
        wan(asks(family, SACK), forward("lan", new=False, state="established")),
        wan(asks(family, data(b"z" * 1300)), forward("lan", new=False, state="established")),
        wan(asks(family, SCTPChunkShutdown(cumul_tsn_ack=7)), forward("lan", new=False, state="shutdown_received")),
        wan(asks(family, SCTPChunkShutdownComplete()), forward("lan", new=False, state="closed")),
    ]
    return Case(f"{name}_{mode}_one_way", network(family, mode), steps)


def ports(name, mode):
    """One port, a range and every port, beside a service of TCP and UDP in the same place."""
    family = FAMILIES[name]
    lb = family.two_arm(
        service(family, mode, family.A, name="one"),
        service(family, mode, family.B, name="range", port="3000-3999", real_port=None),
        service(family, mode, family.C, name="every", port=0, real_port=None),
        family.service(mode, family.D, name="other", protocol="tcp+udp", real_port=8080),
    )
    own = mode in TWO_WAY
    steps = [
        wan(asks(family, init(), 0), forward("lan", family.A, service="one", dport=8080)),
        wan(asks(family, init(), 0, dport=3500), forward("lan", family.B, service="range", dport=3500)),
        wan(asks(family, init(), 0, dport=5000), forward("lan", family.C, service="every", dport=5000)),
        wan(family.tcp(family.CLIENT, family.VIP), forward("lan", family.D, service="other", state="syn_recv")),
        wan(family.udp(family.CLIENT, family.VIP), forward("lan", family.D, service="other", state="udp")),
    ]
    assert own
    steps += [lan(answers(family, n, init_ack()), forward("wan", family.CLIENT, sport=port)) for n, port in ((0, 80), (1, 3500), (2, 5000))]
    return Case(f"{name}_{mode}_ports", lb, steps)


def schedulers(name, mode, scheduler):
    """Every scheduler gives an association's packets to one real server."""
    family = FAMILIES[name]
    lb = network(family, mode, family.A, family.B, family.C, scheduler=scheduler)
    steps = []
    for sport in range(41000, 41006):
        steps.append(wan(asks(family, init(), 0, sport=sport), forward("lan", new=True)))
        steps.append(wan(asks(family, init(), 0, sport=sport), forward("lan", new=False)))

    def check(results):
        for first in range(0, len(steps), 2):
            real = [results.lines[step]["real"] for step in (first, first + 1)]
            assert real[0] == real[1], f"step {first + 1} went to {real[1]}, not to {real[0]}"

    return Case(f"{name}_{mode}_{scheduler}", lb, steps, check=check)


def persistent(name, mode):
    """A client's associations go to one real server; no packet takes the template for a connection, whatever its ports are."""
    family = FAMILIES[name]
    lb = network(family, mode, family.A, family.B, family.C, persistence="{ timeout = 300 }")
    steps = [wan(asks(family, init(), 0, sport=sport), forward("lan", new=True)) for sport in (41000, 41001, 0, 41002)]

    def check(results):
        assert len({results.lines[step]["real"] for step in range(len(steps))}) == 1, "one real server"

    return Case(f"{name}_{mode}_persistent", lb, steps, check=check)


def refused_by_the_real_server(name, mode):
    family = FAMILIES[name]
    lb = network(family, mode, family.A, family.B)
    steps = [
        wan(asks(family, init(), 0), forward("lan", new=True, state="init1")),
        lan(answers(family, 0, SCTPChunkAbort()), forward("wan", family.CLIENT, state="rejected")),
        wan(asks(family, init(), 0), forward("lan", new=True, state="init1")),
    ]

    def check(results):
        assert results.lines[0]["real"] != results.lines[2]["real"], "the next attempt goes to the next real server"

    return Case(f"{name}_{mode}_refused_by_the_real_server", lb, steps, check=check)


def of_no_association(name, mode):
    """RFC 9260 8.4; where replies are not seen, a packet may come by another path of an association that lives: it is not answered."""
    family = FAMILIES[name]
    nothing = drop("no_connection")
    refused = reply("no_connection", "wan", family.CLIENT, chunk=ABORT_REFLECTED, tag=THEIRS, sport=80, dport=40000) if mode in TWO_WAY else nothing
    complete = reply("no_connection", chunk=COMPLETE_REFLECTED, tag=THEIRS) if mode in TWO_WAY else nothing
    steps = [wan(asks(family, chunk), refused) for chunk in (data(), SACK, HEARTBEAT, COOKIE_ECHO, SCTPChunkShutdown(cumul_tsn_ack=7), init_ack())]
    steps.append(wan(asks(family, SCTPChunkShutdownAck()), complete))
    steps += [wan(asks(family, chunk), nothing) for chunk in (SCTPChunkAbort(), COOKIE_ACK, SCTPChunkError(), SCTPChunkShutdownComplete())]
    steps.append(wan(asks(family, data(), chksum=0x12345678), drop("bad_l4_checksum") if mode in TWO_WAY else nothing))
    return Case(f"{name}_{mode}_of_no_association", network(family, mode), steps)


def of_no_association_of_a_real_server(name, mode):
    family = FAMILIES[name]
    to = family.POOL if mode == "fullnat" else family.CLIENT
    steps = [lan(packet(family, family.A, to, data(), OURS, sport=8080, dport=40000), reply("no_connection", "lan", family.A, chunk=ABORT_REFLECTED, tag=OURS))]
    return Case(f"{name}_{mode}_of_no_association_of_a_real_server", network(family, mode), steps)


def unserved(name):
    family = FAMILIES[name]
    lb = family.two_arm(
        service(family, "nat", family.A, name="none", weights=[0]),
        service(family, "nat", family.A, name="silent", port=81, weights=[0], when_unavailable='"drop"'),
        service(family, "nat", family.A, name="drops", port=82, unknown_tcp='"drop"'),
    )
    steps = [
        wan(asks(family, init(), 0), reply("no_real_server", "wan", family.CLIENT, chunk=ABORT, tag=OURS)),
        wan(asks(family, init(), 0, dport=81), drop("no_real_server")),
        wan(asks(family, data(), dport=82), drop("no_connection")),
        wan(asks(family, init(), 0, dport=83), reply("no_service", chunk=ABORT, tag=OURS)),
        wan(asks(family, data(), dport=83), reply("no_service", chunk=ABORT_REFLECTED, tag=THEIRS)),
        wan(asks(family, SCTPChunkAbort(), dport=83), drop("no_service")),
    ]
    return Case(f"{name}_unserved", lb, steps)


def malformed(name):
    family = FAMILIES[name]
    alone = packet(family, family.CLIENT, family.VIP, init() / data(), 0)
    short = Sent(family.CLIENT, asks(family, b"\0\0").layer)
    beyond = asks(family, SCTPChunkAbort(len=400))
    steps = [wan(sent, drop("bad_l4_header")) for sent in (alone, short, beyond, asks(family, init(), 7), asks(family, init(tag=0), 0), asks(family, b""))]
    return Case(f"{name}_malformed", network(family, "nat"), steps)


def wrong_checksum(name, mode, real_port):
    """It stays wrong by as much: the other side must see that the packet was damaged on its way."""
    family = FAMILIES[name]
    steps = beginning(family, mode)
    steps += [wan(asks(family, data(b"damaged"), chksum=value), forward("lan", new=False)) for value in (0, 1, 0x12345678, 0xFFFFFFFF)]
    steps += [wan(asks(family, init(*addresses(family, family.NEAR)), 0, sport=40001, chksum=5), forward("lan", new=True))]
    return Case(f"{name}_{mode}_port_{real_port}_wrong_checksum_stays_wrong", network(family, mode, real_port=real_port), steps)


def forged(name, mode):
    """Without the real server's tag a client's packet goes on, and changes nothing."""
    family = FAMILIES[name]
    stays = forward("lan", state="established")
    steps = beginning(family, mode)
    steps += [wan(asks(family, chunk, tag=7), stays) for chunk in (SCTPChunkAbort(), SCTPChunkAbort(TCB=1), SCTPChunkShutdown(cumul_tsn_ack=7), SCTPChunkShutdownAck())]
    steps += [
        wan(asks(family, init(tag=9), 0), stays),
        # An ABORT that answers a packet to the client has that one's tag.
        wan(asks(family, SCTPChunkAbort(TCB=1), tag=OURS), forward("lan", state="closed")),
    ]
    return Case(f"{name}_{mode}_forged", network(family, mode), steps)


def begun_again(name, mode):
    """RFC 9260 5.2.2: the client has lost its association, and begins another one with the same ports."""
    family = FAMILIES[name]
    ours, theirs = OURS + 1, THEIRS + 1
    steps = beginning(family, mode) + [
        wan(asks(family, init(tag=ours), 0), forward("lan", new=False, state="established")),
        lan(answers(family, 0, init_ack(tag=theirs), ours), forward("wan", state="established")),
        wan(asks(family, COOKIE_ECHO, theirs), forward("lan", state="established")),
        lan(answers(family, 0, COOKIE_ACK, ours), forward("wan", state="established")),
        wan(asks(family, SCTPChunkShutdown(cumul_tsn_ack=7), theirs), forward("lan", state="shutdown_received")),
    ]
    return Case(f"{name}_{mode}_begun_again", network(family, mode), steps)


def expires(name):
    """The kernel's times: 4 seconds of an INIT without an answer, 15 minutes of an association; `sctp_established` says otherwise."""
    family = FAMILIES[name]
    lb = network(family, "nat", timeouts="{ sctp_established = 20 }")
    steps = [
        wan(asks(family, init(), 0, sport=41000), forward("lan", new=True)),
        wan(asks(family, init(), 0, sport=41000), forward("lan", new=True), at=4.5),
    ]
    late = beginning(family, "nat")
    for step in late:
        if callable(step.packet):
            step.packet.needs = 2
    late[0].at = 5
    for place in (1, 3):
        late[place].packet = answers(family, 2, init_ack() if place == 1 else COOKIE_ACK)
    steps += late + [
        wan(asks(family, data()), forward("lan", new=False), at=20),
        wan(asks(family, data()), reply("no_connection"), at=41),
    ]
    return Case(f"{name}_expires", lb, steps)


def in_fragments(name, mode, real_port):
    """What keeps its ports goes on as it came; what gets others cannot, since the checksum covers it all."""
    family = FAMILIES[name]
    lb = network(family, mode, real_port=real_port)
    whole = mode == "dr" or mode == "nat" and real_port is None
    steps = [wan(asks(family, init(), 0), forward("lan", new=True))]
    cut = fragments(asks(family, data(b"m" * 2500)))
    steps += [wan(part, forward("lan", new=False) if whole else drop("sctp_fragment")) for part in cut]
    cut = fragments(asks(family, init(*addresses(family, *[family.NEAR] * 200)), 0, sport=40001))
    steps += [wan(cut[0], forward("lan", new=True) if mode == "dr" else drop("sctp_fragment"))]
    # What is dropped makes no association.
    steps += [wan(cut[1], forward("lan", new=False) if mode == "dr" else drop("no_connection"))]
    steps += [wan(asks(family, data(), sport=40001), forward("lan", new=False) if mode == "dr" else reply("no_connection"))]
    return Case(f"{name}_{mode}_port_{real_port}_in_fragments", lb, steps, gathers=True)


def errors(name, mode):
    """ICMP errors about both sides' packets go to the one who has sent them, by ports and tag."""
    family = FAMILIES[name]
    steps = beginning(family, mode) + [
        wan(asks(family, data()), forward("lan")),
        lan(answers(family, 0, data()), forward("wan")),
        wan(asks(family, data(), tag=7), forward("lan")),
    ]
    for kind in (UNREACHABLE, PORT, TOO_BIG):
        rest = 1400 if kind is TOO_BIG else 0
        for more in (8, 12, None):
            steps.append(lan(about(4, kind, INSIDE[family], more=more, rest=rest), forward("wan", family.CLIENT, new=False)))
            steps.append(wan(about(5, kind, OUTSIDE[family], more=more, rest=rest), forward("lan", new=False)))
    steps.append(lan(about(6, UNREACHABLE, INSIDE[family]), drop("icmp_sequence")))
    return Case(f"{name}_{mode}_errors", network(family, mode), steps)


def ttl_runs_out(name, mode):
    family = FAMILIES[name]
    fields = {"hlim": 1} if family is lab6 else {"ttl": 1}
    steps = beginning(family, mode) + [wan(asks(family, data(), **fields), reply("ttl_exceeded", "wan", family.CLIENT))]
    return Case(f"{name}_{mode}_ttl_runs_out", network(family, mode), steps)


def stateless(name, mode, scheduler):
    """Any director of a cluster comes to the same real server in mid-association."""
    family = FAMILIES[name]
    lb = network(family, mode, family.A, family.B, family.C, scheduler=scheduler)
    steps = [
        wan(asks(family, data()), forward("lan", new=True, state="cookie_replied")),
        wan(asks(family, SACK), forward("lan", new=False, state="established")),
    ]
    return Case(f"{name}_{mode}_{scheduler}_in_mid_association", lb, steps)


def between_hosts(name):
    """SCTP that is no service's goes on between hosts, and to the host, as it does without any such service."""
    family = FAMILIES[name]
    lb = family.two_arm(service(family, "fullnat", family.A), forward=("wan", "lan"))
    steps = [
        wan(asks(family, data(), to=family.A.ip), forward("lan")),
        lan(packet(family, family.A, family.CLIENT, init(), 0), forward("wan")),
    ]
    return Case(f"{name}_between_hosts", lb, steps)


def is_full(name):
    """An INIT flood takes no established association away."""
    family = FAMILIES[name]
    lb = network(family, "fullnat")
    lb.text = re.sub(r"connections = \d+", "connections = 64", lb.text, count=1)
    steps = beginning(family, "fullnat")
    steps += [wan(asks(family, init(), 0, sport=42000 + n), one_of(forward("lan", new=True), drop("syn_flood"))) for n in range(200)]
    steps += [wan(asks(family, data()), forward("lan", new=False, state="established"))]
    return Case(f"{name}_a_flood_takes_no_association_away", lb, steps)


SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh", "fo", "ovf", "lblc", "lblcr", "twos", "conhash", "rendezvous", "p2c")
CASES = [
    *(both_ways(name, mode, port) for name in FAMILIES for mode in TWO_WAY for port in (8080, None)),
    *(make(name, mode) for make in (shut_by_the_client, ports, refused_by_the_real_server, of_no_association_of_a_real_server, forged, begun_again, errors, ttl_runs_out)
      for name in FAMILIES for mode in TWO_WAY),
    *(make(name, mode) for make in (one_way,) for name in FAMILIES for mode in ONE_WAY),
    *(make(name, mode) for make in (persistent, of_no_association) for name in FAMILIES for mode in MODES),
    *(schedulers(name, "nat", scheduler) for name in FAMILIES for scheduler in SCHEDULERS),
    *(stateless(name, mode, scheduler) for name in FAMILIES for mode in ("dr", "tunnel") for scheduler in ("sh", "mh", "dh")),
    *(make(name) for make in (unserved, malformed, expires, between_hosts, is_full) for name in FAMILIES),
    *(wrong_checksum(name, mode, port) for name in FAMILIES for mode in TWO_WAY for port in (8080, None)),
    *(in_fragments(name, mode, port) for name in FAMILIES for mode, port in (("dr", None), ("nat", None), ("nat", 8080), ("fullnat", 8080))),
]
