"""`[[snat]]`: real servers' own connections outwards, from addresses of a local pool; and all that is none of them."""

import lab
import lab6
from case import Case, Expect, drop, forward, lan, reply, wan
from datagrams import fragments
from lab import Host, Sent, icmp
from quotes import EXCEEDED, KINDS, PORT, TOO_BIG, UNREACHABLE, about, error
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Raw
from wire import ip_of

NAMES = {lab: "v4", lab6: "v6"}
FAMILIES = (lab, lab6)
REMOTE = {lab: Host("203.0.113.9", lab.GATEWAY.mac), lab6: Host("2001:db8:7::9", lab6.GATEWAY.mac)}
OTHER = {lab: Host("203.0.113.19", lab.GATEWAY.mac), lab6: Host("2001:db8:7::19", lab6.GATEWAY.mac)}
ROUTER = {lab: Host("203.0.113.254", lab.GATEWAY.mac), lab6: Host("2001:db8:7::fe", lab6.GATEWAY.mac)}
POOL = {lab: "198.51.100.200", lab6: "2001:db8:51::200"}
FROM = {lab: "10.0.0.0/24", lab6: "2001:db8:10::/64"}
# Beyond the connected subnet of the real servers.
FAR = {lab: "10.9.0.0/16", lab6: "2001:db8:19::/48"}


def world(family, *services, rules=None, ports="1024-65535", extra="", **more):
    """weir with a pool on the clients' side, and rules that use it: (from, further keys)."""
    text = f'[[local_pool]]\nname = "outside"\naddresses = ["{POOL[family]}"]\nports = "{ports}"\n'
    for source, keys in rules if rules is not None else ((FROM[family], ""),):
        text += f'[[snat]]\nfrom = "{source}"\npool = "outside"\n{keys}'
    config = family.two_arm(*services, extra=extra + text, **more)
    config.pool["outside"] = ([POOL[family]], tuple(map(int, ports.split("-"))))
    return config


def back(step, family, flags="SA", payload=b"", **fields):
    """What the remote host answers to the packet that weir sent for `step`."""
    return (lab6 if family is lab6 else lab).reply_to(step, flags, payload, **fields)


def ping(family, sender, to, size=8, id=7, seq=1, **fields):
    data = b"12345678" * (size // 8)
    if family is lab6:
        return Sent(sender, lab6.ip6(sender, to, **fields) / ICMPv6EchoRequest(id=id, seq=seq, data=data))
    return icmp(sender, to, payload=data, id=id, seq=seq, **fields)


def pong(step, family, to_step=None, **more):
    """The reply to the echo that weir sent for `step`."""

    def make(results):
        return answer(family, ip_of(results.forwarded(step)), **more)

    make.needs = step
    return make


def answer(family, packet, data=None, **fields):
    source, target = (family_host(address) for address in (packet.dst, packet.src))
    id, seq = (int.from_bytes(packet.payload[at : at + 2], "big") for at in (4, 6))
    data = packet.payload[8:] if data is None else data
    if family is lab6:
        return Sent(source, lab6.ip6(source, target.ip, **fields) / ICMPv6EchoReply(id=id, seq=seq, data=data))
    return icmp(source, target.ip, type=0, payload=data, id=id, seq=seq, **fields)


def family_host(packed):
    import ipaddress

    return Host(str(ipaddress.ip_address(packed)), lab.GATEWAY.mac)


def out(family, **more):
    return forward("wan", REMOTE[family], new=True, src=POOL[family], service=f"snat:{FROM[family]}", **more)


# --- connections --------------------------------------------------------------------------------------------------------


def tcp(family):
    """A whole connection; and its segments afterwards."""
    send = lambda flags, **more: family.tcp(family.A, REMOTE[family], flags, sport=50000, dport=443, **more)  # noqa: E731
    known = forward("wan", REMOTE[family], new=False, src=POOL[family])
    inside = forward("lan", family.A, new=False, src=REMOTE[family].ip, sport=443, dport=50000)
    steps = [
        lan(send("S", seq=1000, options=[("MSS", 1460)]), out(family, state="syn_recv", mss=1460)),
        lan(send("S", seq=1000, options=[("MSS", 1460)]), known),
        wan(back(0, family, "SA", seq=5000, ack=1001), inside),
        lan(send("A", seq=1001, ack=5001), known),
        lan(send("PA", seq=1001, ack=5001, payload=b"GET"), known),
        wan(back(0, family, "PA", b"200 OK", seq=5001, ack=1004), forward("lan", family.A, payload=b"200 OK")),
        lan(send("FA", seq=1004, ack=5007), known),
        wan(back(0, family, "FA", seq=5007, ack=1005), inside),
        lan(send("A", seq=1005, ack=5008), forward("wan", state="time_wait")),
        # The same port again: another connection, from another port, and then what a stranger sends to it.
        lan(send("S", seq=9000), out(family)),
        wan(back(9, family, "SA", seq=100, ack=9001), inside),
        wan(family.tcp(OTHER[family], POOL[family], "A", sport=443, dport=1), reply("no_connection", "wan")),
    ]

    def once(results):
        ports = {results.fields(n)["sport"] for n in (0, 1, 3, 4, 6, 8)}
        assert len(ports) == 1, f"one connection with the ports {ports}"

    return Case(f"{NAMES[family]}_tcp", world(family), steps, check=once)


def reset(family):
    """Without a connection both ends hear of it; a remote host's refusal ends the attempt."""
    send = lambda flags, **more: family.tcp(family.A, REMOTE[family], flags, sport=50000, dport=443, **more)  # noqa: E731
    return Case(f"{NAMES[family]}_tcp_without_a_connection", world(family), [
        lan(send("A", seq=7, ack=9), reply("no_connection", "lan", family.A)),
        lan(send("R", seq=7), drop("no_connection")),
        lan(send("S", seq=1000), out(family)),
        wan(back(2, family, "RA", seq=0, ack=1001), forward("lan", family.A, state="close")),
        wan(family.udp(REMOTE[family], POOL[family]), drop("no_connection")),
    ])


def udp(family):
    """Each remote address and port has its own mapping; hosts and ports of the inside never share one towards the same remote."""
    sent = [(host, sport, to, dport) for host in (family.A, family.B) for sport in (123, 5353) for to in (REMOTE[family], OTHER[family]) for dport in (53, 123)]
    steps = [lan(family.udp(host, to, sport=sport, dport=dport), forward("wan", to, new=True, src=POOL[family], dport=dport)) for host, sport, to, dport in sent]
    steps += [wan(back(n, family, payload=b"answer"), forward("lan", host, new=False, src=to.ip, sport=dport, dport=sport, payload=b"answer")) for n, (host, sport, to, dport) in enumerate(sent)]
    steps += [lan(family.udp(host, to, sport=sport, dport=dport), forward("wan", to, new=False)) for host, sport, to, dport in sent]
    steps += [wan(family.udp(OTHER[family], POOL[family], sport=53, dport=number), drop("no_connection")) for number in (80, 1)]

    def apart(results):
        for remote in {(to.ip, dport) for _, _, to, dport in sent}:
            mine = [n for n, (_, _, to, dport) in enumerate(sent) if (to.ip, dport) == remote]
            ports = [results.fields(n)["sport"] for n in mine]
            assert len(set(ports)) == len(ports), f"towards {remote}: {ports}"
        again = [results.fields(n)["sport"] for n in range(len(sent) * 2, len(sent) * 3)]
        assert again == [results.fields(n)["sport"] for n in range(len(sent))], "another port for a known flow"

    return Case(f"{NAMES[family]}_udp", world(family), steps, check=apart)


def unpredictable(family):
    """A resolver's questions: the port of one says nothing of the next, to the same server or another one."""
    sent = [(n, to) for n in range(64) for to in (REMOTE[family], OTHER[family])]
    steps = [lan(family.udp(family.A, to, sport=3000 + n, dport=53), forward("wan", to, new=True, src=POOL[family])) for n, to in sent]

    def scattered(results):
        ports = [results.fields(n)["sport"] for n in range(len(sent))]
        for mine in (ports, ports[::2], ports[1::2]):
            steps = [(later - port) % 64512 for port, later in zip(mine, mine[1:])]
            assert len(set(steps)) > len(steps) * 0.9, f"the ports go by steps: {mine}"

    return Case(f"{NAMES[family]}_ports_cannot_be_foreseen", world(family), steps, check=scattered)


def pings(family):
    """Identifiers of several hosts do not meet; an echo ends after 30 s of silence."""
    hosts = [(host, id) for host in (family.A, family.B, family.C) for id in (1, 2, 7)]
    steps = [lan(ping(family, host, REMOTE[family], id=id), out(family, state="icmp")) for host, id in hosts]
    steps += [wan(pong(n, family), forward("lan", host, new=False, src=REMOTE[family].ip)) for n, (host, _) in enumerate(hosts)]
    steps += [lan(ping(family, host, REMOTE[family], id=id, seq=2), forward("wan", REMOTE[family], new=False)) for host, id in hosts]
    steps += [lan(ping(family, family.A, OTHER[family], id=1), forward("wan", OTHER[family], new=True))]
    # What no host has asked for, and a request from outside, which is weir's to answer.
    steps += [wan(answer_to_nothing(family), drop({"no_connection", "icmp_unsupported"})), wan(ping(family, REMOTE[family], POOL[family]), reply("icmp_echo", "wan"))]
    steps += [wan(pong(0, family), forward("lan", family.A), after=29), wan(pong(1, family), drop({"no_connection", "icmp_unsupported"}), after=30)]
    steps += [lan(ping(family, family.A, REMOTE[family], id=2), out(family))]

    def right(results):
        number = lambda n: int.from_bytes(results.fields(n)["rest"][:2], "big")  # noqa: E731
        ids = [number(n) for n in range(len(hosts))]
        assert len(set(ids)) == len(ids), f"identifiers {ids}"
        for n, (_, id) in enumerate(hosts):
            assert number(len(hosts) + n) == id, f"the host's own identifier {id} comes back, not {number(len(hosts) + n)}"
            assert number(2 * len(hosts) + n) == ids[n], "another identifier for a known echo"

    return Case(f"{NAMES[family]}_ping", world(family), steps, check=right)


def answer_to_nothing(family):
    packet = ip_of(bytes(12) + (b"\x86\xdd" if family is lab6 else b"\x08\0") + bytes(ping(family, Host(POOL[family], ""), REMOTE[family].ip, id=3).layer))
    return answer(family, packet)


# --- errors -------------------------------------------------------------------------------------------------------------


def errors(family, protocol):
    """Each error, both ways, with 8 bytes quoted and with all."""
    if protocol == "tcp":
        steps = [lan(family.tcp(family.A, REMOTE[family], "S", sport=50000, dport=443, seq=1000), out(family)), wan(back(0, family, "SA", seq=5000, ack=1001), forward("lan", family.A))]
    elif protocol == "udp":
        steps = [lan(family.udp(family.A, REMOTE[family], b"x" * 40, sport=50000, dport=53), out(family)), wan(back(0, family, payload=b"y" * 40), forward("lan", family.A))]
    else:
        steps = [lan(ping(family, family.A, REMOTE[family], 40), out(family)), wan(pong(0, family), forward("lan", family.A))]
    for codes in KINDS.values():
        for more in (8, None):
            rest = 1400 if codes is TOO_BIG else 0
            for sender in (ROUTER[family], REMOTE[family]):
                steps.append(wan(about(0, codes, sender, more, rest=rest), forward("lan", family.A, new=False, icmp=codes[family], src=sender.ip)))
            steps.append(lan(about(1, codes, family.A, more, rest=rest), forward("wan", REMOTE[family], new=False, icmp=codes[family], src=POOL[family])))
    return Case(f"{NAMES[family]}_{protocol}_errors", world(family), steps)


def forged(family):
    """Errors about nothing, and about what no one can have sent of late."""
    nothing = bytes(family.udp(Host(POOL[family], ""), REMOTE[family], sport=5555, dport=53).layer)
    echo = bytes(ping(family, Host(POOL[family], ""), REMOTE[family], id=5555).layer)
    inside = bytes(family.udp(REMOTE[family], family.A, sport=53, dport=5555).layer)
    return Case(f"{NAMES[family]}_errors_about_nothing", world(family, forward=("wan", "lan")), [
        wan(error(ROUTER[family], POOL[family], UNREACHABLE, nothing), drop("icmp_no_connection")),
        wan(error(ROUTER[family], POOL[family], UNREACHABLE, echo), drop("icmp_bad_quote")),
        # It would tell the outside an address of the inside.
        lan(error(family.A, REMOTE[family], PORT, inside), drop("icmp_no_connection")),
        lan(family.tcp(family.A, REMOTE[family], "S", sport=50000, dport=443, seq=1000), out(family)),
        wan(back(3, family, "SA", seq=5000, ack=1001), forward("lan", family.A)),
        lan(family.tcp(family.A, REMOTE[family], "A", sport=50000, dport=443, seq=1 << 28, ack=5001), forward("wan")),
        wan(about(5, UNREACHABLE, ROUTER[family]), drop("icmp_sequence")),
    ])


def ttl(family, value):
    return {"hlim" if family is lab6 else "ttl": value}


def traceroute(family):
    """To its hosts weir is a router, with the address of its port; to the outside it is the pool."""
    probe = lambda hops, **more: family.udp(family.A, REMOTE[family], sport=50000, dport=33434, **ttl(family, hops), **more)  # noqa: E731
    ended = reply("ttl_exceeded", "lan", family.A, src=family.LAN.ip, icmp=EXCEEDED[family])
    return Case(f"{NAMES[family]}_traceroute", world(family), [
        lan(probe(1), ended),
        lan(ping(family, family.A, REMOTE[family], **ttl(family, 1)), ended),
        lan(probe(2), out(family, **ttl(family, 1))),
        wan(about(2, EXCEEDED, ROUTER[family]), forward("lan", family.A, src=ROUTER[family].ip, icmp=EXCEEDED[family])),
        lan(probe(1), ended),
        lan(ping(family, family.A, REMOTE[family], **ttl(family, 2)), out(family)),
        wan(about(5, EXCEEDED, ROUTER[family]), forward("lan", family.A, src=ROUTER[family].ip)),
        wan(back(2, family, payload=b"x", **ttl(family, 1)), reply("ttl_exceeded", "wan", src=POOL[family])),
    ])


def large(family):
    """Larger than the link: said to its sender, before a connection is made and after; what may be cut is cut."""
    df = {"flags": "DF"} if family is lab else {}
    big = lambda size, **more: family.udp(family.A, REMOTE[family], b"x" * size, sport=50000, dport=53, **more)  # noqa: E731
    told = reply("too_big", "lan", family.A, src=family.LAN.ip, icmp=TOO_BIG[family])
    steps = [lan(big(1350, **df), told), lan(big(8, **df), forward("wan")), lan(big(1350, **df), told), lan(ping(family, family.B, REMOTE[family], 1360, **df), reply("too_big", "lan", family.B, src=family.LAN.ip))]
    if family is lab:
        steps.append(lan(big(1350), forward("wan", new=False)))
    return Case(f"{NAMES[family]}_larger_than_the_link", world(family, wan_mtu=1300), steps, gathers=family is lab)


# --- fragments ----------------------------------------------------------------------------------------------------------


def in_fragments(family, make, reply_of):
    """A datagram in three fragments each way, in order and out of order."""
    steps = []
    for round, order in enumerate((None, lambda n: [1, 0, 2])):
        at = len(steps)
        frames = fragments(make(family), 1000, id=0x70 + round, port_mac=lab.LAN.mac, order=order)
        steps += [lan(frame, waits(order, n, lambda: forward("wan", src=POOL[family]))) for n, frame in enumerate(frames)]
        if round == 0:
            steps += [wan(part(at, n, family, reply_of), forward("lan", family.A, src=REMOTE[family].ip)) for n in range(3)]
    return Case(f"{NAMES[family]}_{reply_of.__name__}_in_fragments", world(family), steps, gathers=True)


def waits(order, n, expect):
    return Expect("queue", "first_fragment_missing") if order and n == 0 else expect()


def part(step, number, family, reply_of):
    """Fragment `number` of the answer to the datagram whose first fragment was sent at `step`."""

    def make(results):
        first = ip_of(results.forwarded(step))
        return fragments(reply_of(family, first), 1000, id=0x99, port_mac=lab.WAN.mac)[number]

    make.needs = step
    return make


def datagram(family, first):
    port = int.from_bytes(first.payload[:2], "big")
    return family.udp(REMOTE[family], POOL[family], b"answer" * 400, sport=53, dport=port)


def echo(family, first):
    return answer(family, first, data=b"12345678" * 300)


# --- what is not translated ---------------------------------------------------------------------------------------------


def precedence(family):
    """Replies of services, VIPs and hosts of the same link come first; `forward` comes last."""
    web = family.service("nat", family.A, name="web")
    lb = world(family, web, forward=("wan", "lan"), rules=((FROM[family], ""),))
    far = family.FAR
    return Case(f"{NAMES[family]}_comes_after_services_and_before_routing", lb, [
        wan(family.tcp(family.CLIENT, family.VIP), forward("lan", family.A, new=True, service="web")),
        lan(family.reply_to(0, "SA", seq=5000, ack=1001), forward("wan", family.CLIENT, new=False, src=family.VIP)),
        # Its own connection, to the client's very port.
        lan(family.tcp(family.A, family.CLIENT, "S", sport=50000, dport=40000), forward("wan", family.CLIENT, new=True, src=POOL[family])),
        # To the VIP: as every client in the subnet of its real server.
        lan(family.tcp(family.B, family.VIP, "S", sport=50000), forward("lan", family.A, new=True, src=family.LAN.ip, service="web")),
        lan(family.tcp(family.B, POOL[family], "S", sport=50000, dport=2000), drop("no_connection")),
        # From elsewhere: routed.
        lan(family.tcp(far, REMOTE[family], "S", sport=50000), forward("wan", REMOTE[family], src=far.ip)),
        # To the inside of another rule's: leaves by a port that it did not come in by, or not.
        lan(family.udp(family.A, far, sport=9, dport=9), forward("lan", far, src=POOL[family])),
        wan(family.udp(family.A, REMOTE[family], sport=50000), drop("wrong_port")),
    ])


def chosen(family):
    """The longest prefix counts, and the port that a packet leaves by."""
    rules = ((FROM[family], 'out_port = "wan"\n'), (f"{family.A.ip}/{128 if family is lab6 else 32}", 'out_port = "lan"\n'))
    return Case(f"{NAMES[family]}_the_rule_of_the_longest_prefix", world(family, rules=rules), [
        lan(family.udp(family.B, REMOTE[family], sport=9), forward("wan", REMOTE[family], new=True, src=POOL[family], service=f"snat:{FROM[family]}")),
        lan(family.udp(family.A, REMOTE[family], sport=9), drop("not_for_us")),
        lan(family.udp(family.B, family.FAR, sport=9), drop("not_for_us")),
        wan(back(0, family, payload=b"x"), forward("lan", family.B)),
    ])


def broadcast(forward):
    """RFC 2644: no broadcasts of the other port's subnet, not even as weir's own; no one is asked for its MAC address."""
    everyone = Host("198.51.100.255", lab.GATEWAY.mac)
    sent = (lab.udp(lab.A, everyone, sport=9, dport=9), ping(lab, lab.A, everyone), lab.tcp(lab.A, everyone, "S"))
    name = "_although_weir_forwards" if forward else ""
    return Case(f"no_directed_broadcast{name}", world(lab, forward=forward), [lan(packet, drop("not_for_us")) for packet in sent])


def none(family):
    """Not weir's to translate."""
    lb = world(family, default_route=False) if family is lab else world(family, gateway=None)
    codes = {lab: (3, 0), lab6: (1, 0)}[family]
    return Case(f"{NAMES[family]}_without_a_way", lb, [
        lan(family.udp(family.A, REMOTE[family], sport=9), reply("no_route", "lan", family.A, src=family.LAN.ip, icmp=codes)),
        lan(ping(family, family.A, REMOTE[family]), reply("no_route", "lan", family.A, src=family.LAN.ip, icmp=codes)),
        lan(family.udp(family.A, family.B, sport=9), drop("not_for_us")),
    ])


# --- limits -------------------------------------------------------------------------------------------------------------


def exhausted(family, protocol):
    """A pool of four ports: four answered flows to one remote port; to another there are four more."""
    ports = range(4)
    if protocol == "ping":
        send = lambda n, to, **more: ping(family, family.A, to, id=100 + n, **more)  # noqa: E731
        answered = lambda n: pong(n, family)  # noqa: E731
    else:
        send = lambda n, to, **more: family.udp(family.A, to, sport=100 + n, dport=53, **more)  # noqa: E731
        answered = lambda n: back(n, family, payload=b"x")  # noqa: E731
    steps = [lan(send(n, REMOTE[family]), out(family)) for n in ports]
    steps += [wan(answered(n), forward("lan", family.A)) for n in ports]
    steps += [lan(send(5, REMOTE[family]), drop("local_ports_exhausted"))]
    steps += [lan(send(n, OTHER[family]), forward("wan", OTHER[family], new=True)) for n in ports]
    # Known ones go on, and the oldest that nothing has answered gives way.
    steps += [lan(send(0, REMOTE[family]), forward("wan", new=False)), lan(send(6, OTHER[family]), forward("wan", new=True))]
    return Case(f"{NAMES[family]}_{protocol}_every_port_is_used_then_none_is_left", world(family, ports="2000-2003"), steps)


def flooded(family):
    """An inside host that opens connections in vain takes no more than half of the table: clients come in at their first attempt."""
    lb = world(family, family.service("nat", family.B, name="web"), connections=40)
    steps = [lan(family.tcp(family.A, REMOTE[family], "S", sport=3000 + n, dport=443)) for n in range(60)]
    steps += [wan(family.tcp(family.CLIENT, family.VIP, "S", sport=40000 + n), forward("lan", family.B, new=True, service="web")) for n in range(16)]
    return Case(f"{NAMES[family]}_a_flood_from_inside_shuts_no_client_out", lb, steps)


def natted(family):
    """A real server of services of every port, and of its own port: what is no reply of theirs goes outwards."""
    services = [family.service("nat", family.A, name="every", port=0, real_port=None, protocol="udp"), family.service("nat", family.A, name="ntp", port=123, real_port=123, protocol="udp", vip=family.WAN_VIP)]
    flows = [(sport, dport) for sport in (123, 5000, 6000) for dport in (123, 53, 80)]
    steps = [lan(family.udp(family.A, REMOTE[family], sport=sport, dport=dport), out(family)) for sport, dport in flows]
    steps += [wan(back(n, family, payload=b"x"), forward("lan", family.A, new=False, src=REMOTE[family].ip, dport=sport)) for n, (sport, _) in enumerate(flows)]
    steps += [lan(family.udp(family.A, REMOTE[family], sport=sport, dport=dport), forward("wan", REMOTE[family], new=False, src=POOL[family])) for sport, dport in flows]
    at = len(steps)
    steps += [wan(family.udp(family.CLIENT, family.VIP, sport=40000 + n, dport=7000), forward("lan", family.A, new=True, service="every")) for n in range(8)]
    steps += [lan(family.reply_to(at + n, payload=b"x"), forward("wan", family.CLIENT, new=False, src=family.VIP, service="every")) for n in range(8)]
    return Case(f"{NAMES[family]}_a_nat_real_servers_own", world(family, *services), steps)


def many(family):
    """Many flows of many hosts, and the answer to each."""
    hosts = [Host(family.A.ip[:-2] + str(20 + n), f"02:00:00:00:01:{20 + n}") for n in range(8)]
    makes = [lambda host, n: family.udp(host, REMOTE[family], sport=3000 + n, dport=53), lambda host, n: ping(family, host, REMOTE[family], id=n),
             lambda host, n: family.tcp(host, REMOTE[family], "S", sport=3000 + n, dport=443)]
    sent = [(host, make, n) for n in range(4) for host in hosts for make in makes]
    steps = [lan(make(host, n), out(family)) for host, make, n in sent]
    answers = {makes[0]: lambda n: back(n, family, payload=b"x"), makes[1]: lambda n: pong(n, family), makes[2]: lambda n: back(n, family, "SA", seq=1, ack=1001)}
    steps += [wan(answers[make](n), forward("lan", new=False, eth_dst=host.mac)) for n, (host, make, _) in enumerate(sent)]
    return Case(f"{NAMES[family]}_many_flows", world(family, known=(family.GATEWAY, *hosts)), steps)


def own_timeouts(family):
    """A rule's own times, where another one and the services go by the usual ones."""
    known = forward("wan", REMOTE[family], new=False, src=POOL[family])
    ask = lambda sport: family.udp(family.A, REMOTE[family], sport=sport)  # noqa: E731
    talk = lambda flags, **more: family.tcp(family.A, REMOTE[family], flags, sport=50000, dport=443, **more)  # noqa: E731
    def after(seconds, step):  # noqa: E306
        step.after = seconds
        return step
    rules = ((FROM[family], 'timeouts = { udp = 2, icmp = 5, tcp_established = 20 }\n'), (FAR[family], ""))
    return Case(f"{NAMES[family]}_own_timeouts", world(family, rules=rules), [
        lan(ask(9), out(family)),
        after(1.9, lan(ask(9), known)),
        after(2.1, lan(ask(9), out(family))),
        lan(ping(family, family.A, REMOTE[family], id=3), out(family, state="icmp")),
        after(4.9, lan(ping(family, family.A, REMOTE[family], id=3), known)),
        after(5.1, lan(ping(family, family.A, REMOTE[family], id=3), out(family, state="icmp"))),
        lan(talk("S", seq=1000), out(family)),
        wan(back(6, family, "SA", seq=5000, ack=1001), forward("lan", family.A)),
        lan(talk("A", seq=1001, ack=5001), known),
        after(19, lan(talk("A", seq=1001, ack=5001), known)),
        after(21, lan(talk("A", seq=1001, ack=5001), reply("no_connection", "lan", family.A))),
    ])


CASES = [make(family) for make in (own_timeouts, tcp, reset, udp, unpredictable, pings, forged, traceroute, large, precedence, chosen, none, natted, many) for family in FAMILIES]
CASES += [flooded(lab), broadcast(()), broadcast(("wan", "lan"))]
CASES += [errors(family, protocol) for family in FAMILIES for protocol in ("tcp", "udp", "ping")]
CASES += [exhausted(family, protocol) for family in FAMILIES for protocol in ("udp", "ping")]
CASES += [in_fragments(family, make, reply_of) for family in FAMILIES for make, reply_of in (
    (lambda family: family.udp(family.A, REMOTE[family], b"question" * 300, sport=50000, dport=53), datagram),
    (lambda family: ping(family, family.A, REMOTE[family], 2400), echo))]
