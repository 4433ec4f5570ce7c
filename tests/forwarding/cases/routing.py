"""weir as the gateway of nat real servers: a client in their own subnet, and their own traffic, which ports with `forward` send on
(RFC 1812)."""

import struct

import lab
import lab6
from case import ANY, Case, drop, forward, lan, local, queue, reply, wan
from lab import Host, Sent, icmp
from lab46 import ttl
from quotes import EXCEEDED, PORT, TOO_BIG, UNREACHABLE, about, error
from datagrams import fragments
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Raw
from wire import ip_of

NAMES = {lab: "v4", lab6: "v6"}
FAMILIES = (lab, lab6)
BOTH = ("wan", "lan")
INTERNET = {lab: Host("198.18.0.9", lab.GATEWAY.mac), lab6: Host("2001:db8:99::9", lab6.GATEWAY.mac)}
INSIDE = {lab: lab.INSIDE, lab6: Host("2001:db8:10::50", lab.INSIDE.mac)}
OUTSIDE = {lab: "198.18.7.7", lab6: "2001:db8:98::7"}
NO_ROUTE = {lab: (3, 0), lab6: (1, 0)}
HOST_UNREACHABLE = {lab: (3, 1), lab6: (1, 3)}


def known(family):
    return (family.GATEWAY, family.A, family.B, family.INNER_GATEWAY, INSIDE[family])


def reply_to(step, family, flags="SA", payload=b"", **fields):
    return (lab6 if family is lab6 else lab).reply_to(step, flags, payload, **fields)


def ping(family, sender, to, size=8, **fields):
    if family is lab6:
        return Sent(sender, lab6.ip6(sender, to, **fields) / ICMPv6EchoRequest(id=7, seq=1, data=b"12345678" * (size // 8)))
    return icmp(sender, to, payload=b"12345678" * (size // 8), **fields)


def pong(family, sender, to, **fields):
    if family is lab6:
        return Sent(sender, lab6.ip6(sender, to, **fields) / ICMPv6EchoReply(id=7, seq=1, data=b"12345678"))
    return icmp(sender, to, type=0, payload=b"12345678", **fields)


# --- hairpin ------------------------------------------------------------------------------------------------------------


def itself(family):
    """A real server is a client of the VIP that leads to itself."""
    lb = family.two_arm(family.service("nat", family.A, vip=family.LAN_VIP), known=known(family))
    return Case(f"{NAMES[family]}_a_real_server_reaches_itself", lb, [
        lan(family.tcp(family.A, family.LAN_VIP, "S", seq=1000), forward("lan", family.A, new=True, src=family.LAN.ip, dport=8080)),
        lan(reply_to(0, family, "SA", seq=5000, ack=1001), forward("lan", family.A, new=False, src=family.LAN_VIP, sport=80, dport=40000)),
        lan(family.tcp(family.A, family.LAN_VIP, "PA", seq=1001, ack=5001, payload=b"GET"), forward("lan", family.A, new=False, state="established")),
        lan(reply_to(0, family, "PA", b"200", seq=5001, ack=1004), forward("lan", family.A, payload=b"200")),
    ])


def neighbours(family, protocol):
    """Clients of the real servers' subnet, and one from elsewhere beside them."""
    make = getattr(family, protocol)
    lb = family.two_arm(family.service("nat", family.A, protocol=protocol), known=known(family))
    steps = [lan(make(INSIDE[family], family.VIP), forward("lan", family.A, new=True, src=family.LAN.ip)),
             lan(make(family.B, family.VIP), forward("lan", family.A, new=True, src=family.LAN.ip)),
             wan(make(family.CLIENT, family.VIP), forward("lan", family.A, new=True, src=family.CLIENT.ip, sport=40000)),
             lan(reply_to(0, family, seq=5000, ack=1001) if protocol == "tcp" else reply_to(0, family, payload=b"x"), forward("lan", INSIDE[family], src=family.VIP, sport=80, dport=40000)),
             lan(reply_to(1, family, seq=5000, ack=1001) if protocol == "tcp" else reply_to(1, family, payload=b"x"), forward("lan", family.B, src=family.VIP, dport=40000)),
             lan(reply_to(2, family, seq=5000, ack=1001) if protocol == "tcp" else reply_to(2, family, payload=b"x"), forward("wan", family.CLIENT, src=family.VIP)),
             lan(make(INSIDE[family], family.VIP, "A", seq=1001, ack=5001) if protocol == "tcp" else make(INSIDE[family], family.VIP), forward("lan", family.A, new=False))]

    def apart(results):
        assert results.fields(0)["sport"] != results.fields(1)["sport"], "two clients with one local pair"

    return Case(f"{NAMES[family]}_{protocol}_clients_in_the_real_servers_subnet", lb, steps, check=apart)


def errors(family):
    """An ICMP error about a hairpin connection comes to the port's address."""
    lb = family.two_arm(family.service("nat", family.A, protocol="udp"), known=known(family))
    return Case(f"{NAMES[family]}_errors_about_a_hairpin_connection", lb, [
        lan(family.udp(INSIDE[family], family.VIP), forward("lan", family.A, new=True, src=family.LAN.ip)),
        lan(reply_to(0, family, payload=b"x"), forward("lan", INSIDE[family])),
        lan(hairpin_error(0, PORT, family.A), forward("lan", INSIDE[family], icmp=PORT[family], src=family.VIP)),
        lan(hairpin_error(1, PORT, INSIDE[family]), forward("lan", family.A, icmp=PORT[family], src=family.LAN.ip)),
    ])


def hairpin_error(step, kind, sender):
    """As `about`; what nat makes of it elsewhere does not hold here."""
    made = about(step, kind, sender)

    def make(results):
        return made(results)

    make.needs = step
    return make


def small_pool(family):
    """The same port of two clients is told apart, many times over."""
    lb = family.two_arm(family.service("nat", family.A, family.B, protocol="udp"), known=known(family))
    steps = [lan(family.udp(sender, family.VIP, sport=40000 + number), forward("lan", new=True, src=family.LAN.ip)) for number in range(30) for sender in (INSIDE[family], family.A)]

    def once(results):
        pairs = [(results.fields(n)["dst"], results.fields(n)["sport"]) for n in range(len(steps))]
        assert len(set(pairs)) == len(pairs), "a local pair twice"

    return Case(f"{NAMES[family]}_every_hairpin_connection_has_its_pair", lb, steps, check=once)


# --- forward = true -----------------------------------------------------------------------------------------------------


def conversation(family):
    """A real server's own traffic outwards, and back: every protocol."""
    lb = family.two_arm(family.service("nat", family.A), known=known(family), forward=BOTH)
    to = INTERNET[family]
    other = {lab: lambda a, b: Sent(a, lab.ip(a, b, proto=47) / Raw(b"\0\0\x08\0gre")), lab6: lambda a, b: Sent(a, lab6.ip6(a, b, nh=47) / Raw(b"\0\0\x08\0gre"))}[family]
    return Case(f"{NAMES[family]}_a_real_servers_own_traffic", lb, [
        lan(family.tcp(family.A, to, "S", sport=50000, dport=443), forward("wan", src=family.A.ip, dst=to.ip)),
        wan(family.tcp(to, family.A, "SA", sport=443, dport=50000), forward("lan", family.A, src=to.ip)),
        lan(family.tcp(family.A, to, "A", sport=50000, dport=443), forward("wan")),
        lan(family.tcp(family.A, to, "FA", sport=50000, dport=443), forward("wan")),
        wan(family.tcp(to, family.A, "R", sport=443, dport=50000), forward("lan")),
        lan(family.udp(family.A, to, sport=123, dport=123), forward("wan")),
        wan(family.udp(to, family.A, sport=123, dport=123), forward("lan", family.A)),
        lan(ping(family, family.A, to), forward("wan")),
        wan(pong(family, to, family.A), forward("lan", family.A)),
        lan(other(family.A, to), forward("wan")),
        # Beside it the service goes on.
        wan(family.tcp(family.CLIENT, family.VIP), forward("lan", family.A, new=True)),
        lan(reply_to(10, family, seq=5000, ack=1001), forward("wan", family.CLIENT, new=False, src=family.VIP)),
        # What looks like a reply of the service and is none is answered as before.
        lan(family.tcp(family.A, to, "A", sport=8080, dport=50001, seq=7, ack=9), reply("no_connection", "lan")),
    ])


def every_port(family):
    """With a service of every port, a real server's segments are its own conversation's as well."""
    lb = family.two_arm(family.service("nat", family.A, port=0, real_port=None), known=known(family), forward=BOTH)
    to = INTERNET[family]
    return Case(f"{NAMES[family]}_own_traffic_beside_a_service_of_every_port", lb, [
        lan(family.tcp(family.A, to, "S", sport=50000, dport=443), forward("wan", src=family.A.ip)),
        wan(family.tcp(to, family.A, "SA", sport=443, dport=50000), forward("lan", family.A)),
        lan(family.tcp(family.A, to, "A", sport=50000, dport=443), forward("wan", src=family.A.ip)),
    ])


def off(family, ports):
    lb = family.two_arm(family.service("nat", family.A), known=known(family), forward=ports)
    to = INTERNET[family]
    return Case(f"{NAMES[family]}_it_takes_both_ports_{'_'.join(ports) or 'none'}", lb, [
        lan(family.tcp(family.A, to, sport=50000), drop("not_for_us")), lan(family.udp(family.A, to, sport=50000), drop("not_for_us")),
        lan(ping(family, family.A, to), drop("not_for_us")), wan(family.udp(to, family.A), drop("not_for_us")), wan(ping(family, to, family.A), drop("not_for_us")),
    ])


def refused(family):
    """RFC 1812 5.3: what a router does not send on, and what it says of that, from the address of the port that it came in by."""
    lb = family.two_arm(family.service("nat", family.A), known=known(family), forward=BOTH, mtu=1280, **({"gateway": None} if family is lab6 else {"default_route": False}),
                        extra=lab.route("198.18.0.0/24", lab.GATEWAY) if family is lab else lab.route("2001:db8:99::/64", lab6.GATEWAY))
    to, nowhere = INTERNET[family], Host("198.19.0.1", "") if family is lab else Host("2001:db8:77::1", "")
    from_lan, from_wan = {"src": family.LAN.ip}, {"src": family.WAN.ip}
    big = lambda more: family.udp(to, family.A, b"x" * (1280 - (48 if family is lab6 else 28) + more), **({} if family is lab6 else {"flags": "DF"}))  # noqa: E731
    steps = [
        lan(family.udp(family.A, to, **ttl(family, 1)), reply("ttl_exceeded", "lan", icmp=EXCEEDED[family], **from_lan)),
        lan(ping(family, family.A, to, **ttl(family, 1)), reply("ttl_exceeded", "lan", icmp=EXCEEDED[family], **from_lan)),
        lan(family.udp(family.A, to, **ttl(family, 2)), forward("wan", **ttl(family, 1))),
        lan(family.udp(family.A, nowhere), reply("no_route", "lan", icmp=NO_ROUTE[family], **from_lan)),
        wan(big(0), forward("lan", family.A)),
        wan(big(1), reply("too_big", "wan", icmp=TOO_BIG[family], rest=struct.pack("!I", 1280), **from_wan)),
        # Errors go on, and are never answered.
        wan(error(to, family.A, PORT, quote(family.udp(family.A, to))), forward("lan", family.A)),
        wan(error(to, family.A, PORT, quote(family.udp(family.A, to)), **ttl(family, 1)), drop("ttl_exceeded")),
        lan(error(family.A, nowhere, UNREACHABLE, quote(family.udp(nowhere, family.A))), drop("no_route")),
        # Sources that the port does not lead to, weir's own, and those of a link.
        wan(family.udp(family.B, family.A), drop("wrong_port")),
        lan(family.udp(Host(family.VIP, family.A.mac), to), drop("bad_source")),
    ]
    if family is lab:
        steps += [lan(lab.udp(lab.A, address), drop({"not_for_us", "no_route"})) for address in ("255.255.255.255", "224.0.0.5", "127.0.0.1", "0.0.0.0", "240.0.0.1")]
        steps += [wan(lab.udp(to, "10.0.0.255"), drop("not_for_us"))]
    else:
        steps += [lan(lab6.udp(Host("fe80::9", lab6.A.mac), to), drop("bad_source")), lan(lab6.udp(lab6.A, "::1"), drop("not_for_us"))]
    return Case(f"{NAMES[family]}_what_a_router_refuses", lb, steps)


def quote(packet):
    return bytes(packet.layer)[: 48 if packet.layer.version == 6 else 28]


def unknown_host(family):
    """A next hop is asked for, as for every packet; one that does not answer is told of."""
    lb = family.two_arm(family.service("nat", family.A), known=(family.GATEWAY, family.A), forward=BOTH)
    return Case(f"{NAMES[family]}_a_host_that_does_not_answer", lb, [
        wan(family.udp(INTERNET[family], family.D), queue("lan"), at=1),
        wan(family.udp(INTERNET[family], family.D), reply("host_unreachable", "wan", icmp=HOST_UNREACHABLE[family], src=family.WAN.ip), at=20),
    ], asks=ANY, lost={"neighbour_failed": 1})


def in_fragments(family):
    """Fragments between hosts go on one by one, whether the first one comes first or not; those of a ping too."""
    lb = family.two_arm(family.service("dr", family.A, real_port=None), known=known(family), forward=BOTH)
    to = INTERNET[family]
    there = fragments(family.udp(family.A, to, b"q" * 3000), port_mac=family.LAN.mac)
    back = fragments(family.udp(to, family.A, b"a" * 3000), port_mac=family.WAN.mac)[::-1]
    pings = fragments(ping(family, family.A, to, size=3000), port_mac=family.LAN.mac)
    return Case(f"{NAMES[family]}_fragments_between_hosts", lb, [
        *(lan(each, forward("wan")) for each in there), *(wan(each, forward("lan", family.A)) for each in back), *(lan(each, forward("wan")) for each in pings),
    ])


def in_fragments_beside_nat(family):
    """Where a fragment may be a nat real server's reply, it waits for its first one; and then it is what it is."""
    lb = family.two_arm(family.service("nat", family.A, protocol="udp"), known=known(family), forward=BOTH)
    to = INTERNET[family]
    sent = fragments(family.udp(family.A, to, b"q" * 3000, sport=5000), port_mac=family.LAN.mac)
    return Case(f"{NAMES[family]}_fragments_between_hosts_beside_nat", lb, [
        *(lan(each, queue(None)) for each in sent[1:]), lan(sent[0], forward("wan")),
    ], gathers=True, check=lambda results: three(results, sent))


def three(results, sent):
    came = [ip_of(frame) for frame in sent]
    went = [ip_of(frame) for _, frame in results.out["wan"]]
    assert len(went) == len(came) and {one.payload for one in went} == {one.payload for one in came}, "the same fragments"
    assert all(one.src == came[0].src and one.dst == came[0].dst and one.ttl == 63 for one in went), "as they were, but for the TTL"


def hairpin_fragments(family, companion=False):
    """A large datagram of a client in the real servers' subnet, and its answer, which comes to the port's address. With a companion the
    host has that address too, and gets what is no answer."""
    lb = family.two_arm(family.service("nat", family.A, protocol="udp"), known=known(family))
    if companion:
        lb.text = lb.text.replace('name = "lan"', 'name = "lan"\ncompanion = "weir-lan"')
    there = fragments(family.udp(INSIDE[family], family.VIP, b"q" * 3000), port_mac=family.LAN.mac)
    steps = [lan(each, forward("lan", family.A)) for each in there]
    for number in range(len(there)):
        def make(results, number=number):
            frame = results.forwarded(0)
            packet = ip_of(frame)
            sport = struct.unpack_from("!H", packet.payload)[0]
            answer = family.udp(family.A, family.LAN.ip, b"a" * 3000, sport=8080, dport=sport)
            return fragments(answer, port_mac=family.LAN.mac)[number]

        make.needs = 0
        steps.append(lan(make, forward("lan", INSIDE[family], src=family.VIP)))
    if not companion:
        return Case(f"{NAMES[family]}_fragments_of_a_hairpin_connection", lb, steps)
    own = family.udp(family.A, family.LAN.ip, b"o" * 3000, sport=8080, dport=2049)
    whole = fragments(own, id=0x99, port_mac=family.LAN.mac)
    steps += [lan(each, local("to_port_address")) for each in whole]
    # Of any protocol, also where the first one comes last; and from beyond the link.
    steps += [lan(each, queue(None)) for each in fragments(own, id=0x9A, port_mac=family.LAN.mac)[1:]]
    steps.append(lan(fragments(own, id=0x9A, port_mac=family.LAN.mac)[0], local("to_port_address")))
    steps += [lan(each, local("to_port_address")) for each in reversed(fragments(ping(family, family.A, family.LAN.ip, 3000), port_mac=family.LAN.mac))]
    return Case(f"{NAMES[family]}_fragments_and_the_host", lb, steps, gathers=True)


def cut_between_hosts():
    """RFC 1812 5.3.6: an IPv4 packet without DF is fragmented."""
    lb = lab.two_arm(lab.service("nat", lab.A), known=known(lab), forward=BOTH, mtu=1000)
    sent = lab.udp(INTERNET[lab], lab.A, b"x" * 1400)

    def whole(results):
        parts = [ip_of(frame) for _, frame in results.out["lan"]]
        assert len(parts) == 2 and all(len(part.packet) <= 1000 for part in parts), "in two fragments"
        assert b"".join(part.payload for part in sorted(parts, key=lambda part: part.piece.offset)) == bytes(sent.layer)[20:], "the same datagram"

    return Case("v4_a_long_packet_between_hosts_is_cut", lb, [wan(sent, forward("lan", lab.A))], gathers=True, check=whole)


def errors_between_hosts(family):
    """A router does not look inside: errors about pings, about later fragments and other protocols, and what is no error to it."""
    lb = family.two_arm(family.service("nat", family.A), known=known(family), forward=BOTH)
    router, to = INTERNET[family], family.B
    head = 40 if family is lab6 else 20
    pinged = bytes(ping(family, to, router).layer)[: head + 8]
    other = bytes((lab6.ip6(to, router, nh=50) if family is lab6 else lab.ip(to, router, proto=50)) / Raw(b"e" * 8))
    later = fragments(family.udp(to, router, b"q" * 3000))[-1][14:][: head + 16]
    stranger = bytes(family.udp(family.A, router).layer)[: head + 8]
    kinds = [(kind, quote) for kind in (UNREACHABLE, EXCEEDED, TOO_BIG) for quote in (pinged, other, later, stranger)]
    steps = [wan(error(router, to, kind, quote, rest=1400 if kind is TOO_BIG else 0), forward("lan", family.B)) for kind, quote in kinds]
    steps += [wan(error(router, to, PORT, pinged, chksum=0x1234), forward("lan", family.B)), wan(error(router, to, PORT, pinged, **ttl(family, 1)), drop("ttl_exceeded"))]
    if family is lab:
        steps += [wan(error(router, to, (5, 1), pinged), forward("lan", family.B)), wan(error(router, to, (4, 0), pinged), forward("lan", family.B))]
    return Case(f"{NAMES[family]}_errors_between_hosts", lb, steps)


def impossible_fragments():
    """RFC 791: no datagram is longer than 65,535 bytes, whoever it is for."""
    lb = lab.two_arm(lab.service("dr", lab.A, real_port=None), known=known(lab), forward=BOTH, mtu=1000)
    long = lambda offset, length, protocol: Sent(INTERNET[lab], lab.ip(INTERNET[lab], lab.A, proto=protocol, frag=offset // 8, flags="MF") / Raw(b"z" * length))  # noqa: E731
    return Case("v4_fragments_between_hosts_that_cannot_be", lb, [
        *(wan(long(offset, 1472, protocol), drop("fragment_too_long")) for offset in (65528, 64800, 64064) for protocol in (17, 6, 1, 47)),
        wan(long(64040, 1470, 17), drop("bad_ip_header")),
        wan(long(64040, 1472, 17), forward("lan", lab.A)),
    ], gathers=True)


def loops(family):
    """A packet to a network that routers lead here, and one that its own router would get back."""
    services = [family.service("nat", family.A)]
    if family is lab:
        lb = lab.two_arm(*services, known=known(lab), forward=BOTH, announce=(["192.0.2.0/24"], ()))
        unused = "192.0.2.99"
    else:
        lb = lab6.two_arm(*services, known=known(lab6), forward=BOTH, wan_keys='announce = ["2001:db8:2::/64"]\n')
        unused = "2001:db8:2::99"
    return Case(f"{NAMES[family]}_no_packet_goes_in_circles", lb, [
        wan(family.udp(INTERNET[family], unused, **ttl(family, 200)), drop("not_for_us")),
        wan(family.udp(INTERNET[family], OUTSIDE[family], **ttl(family, 200)), drop("not_for_us")),
        lan(family.udp(family.A, unused), drop("not_for_us")),
        lan(family.udp(family.A, OUTSIDE[family]), forward("wan")),
        # To another host of its own link it goes, though the two could do without.
        lan(family.udp(family.A, family.B), forward("lan", family.B)),
    ])


def spoiled(family):
    """A fragment that claims to be a real server's, from the other side: it spoils nothing."""
    lb = family.two_arm(family.service("nat", family.A, protocol="udp"), known=known(family))
    request = family.udp(family.CLIENT, family.VIP)
    answer = family.udp(Host(family.A.ip, family.A.mac), family.CLIENT.ip, b"a" * 3000, sport=8080, dport=40000)
    forged = fragments(family.udp(Host(family.A.ip, family.GATEWAY.mac), family.CLIENT.ip, b"z" * 3000, sport=8080, dport=40000), 800)
    steps = [wan(request, forward("lan", family.A, new=True))]
    steps += [wan(each, drop("wrong_port")) for each in forged]
    steps += [lan(each, forward("wan", family.CLIENT, src=family.VIP)) for each in fragments(answer, port_mac=family.LAN.mac)]
    return Case(f"{NAMES[family]}_forged_fragments_of_a_real_server", lb, steps)


CASES = [
    *(make(family) for make in (errors_between_hosts, loops, spoiled) for family in FAMILIES),
    impossible_fragments(),
    *(make(family) for make in (in_fragments, in_fragments_beside_nat, hairpin_fragments) for family in FAMILIES),
    *(hairpin_fragments(family, companion=True) for family in FAMILIES),
    cut_between_hosts(),
    *(make(family) for make in (itself, errors, small_pool) for family in FAMILIES),
    *(neighbours(family, protocol) for family in FAMILIES for protocol in ("tcp", "udp")),
    *(make(family) for make in (conversation, every_port, refused, unknown_host) for family in FAMILIES),
    *(off(family, ports) for family in FAMILIES for ports in ((), ("wan",), ("lan",))),
]
