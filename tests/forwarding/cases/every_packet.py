"""No legal packet disappears without its name: protocol × part × mode × family × destination, each with the one thing that becomes
of it. A reason that says nothing but "dropped" is none."""

import lab
import lab6
from case import Case, drop, forward, lan, local, queue, reply, wan
from datagrams import fragments
from lab import Host, Sent
from quotes import KINDS, error
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Raw

FAMILIES = {"v4": lab, "v6": lab6}
MODES = ("dr", "nat", "fullnat", "tunnel", "l3dsr")
# GRE, ESP, AH, OSPF, SCTP, one that no one has.
OTHERS = {"gre": 47, "esp": 50, "ospf": 89, "sctp": 132, "unassigned": 200}
PARTS = ("whole", "first", "later")
ELSEWHERE = {lab: "198.18.0.9", lab6: "2001:db8:99::9"}
SILENT = {lab: "192.0.2.99", lab6: "2001:db8:2::99"}


def datagram(family, to, protocol, size=0, sender=None):
    """A packet of any protocol: of 3,000 bytes, if it is to be cut."""
    sender = sender or family.CLIENT
    if protocol == "udp":
        return family.udp(sender, to, b"x" * (size or 8))
    if protocol == "tcp":
        return family.tcp(sender, to, "S", payload=b"x" * size)
    if protocol == "ping":
        if family is lab6:
            return Sent(sender, lab6.ip6(sender, to) / ICMPv6EchoRequest(id=7, seq=1, data=b"x" * (size or 8)))
        return lab.icmp(sender, to, payload=b"x" * (size or 8))
    if protocol == "pong":
        if family is lab6:
            return Sent(sender, lab6.ip6(sender, to) / ICMPv6EchoReply(id=7, seq=1, data=b"x" * (size or 8)))
        return lab.icmp(sender, to, type=0, payload=b"x" * (size or 8))
    number = OTHERS[protocol]
    layer = lab6.ip6(sender, to, nh=number) if family is lab6 else lab.ip(sender, to, proto=number)
    return Sent(sender, layer / Raw(b"y" * (size or 16)))


def part_of(sent, part):
    if part == "whole":
        return sent
    cut = fragments(sent)
    return cut[0] if part == "first" else cut[-1]


def of_service(part, mode):
    """To a VIP's port: the first packet of a connection, or the rest of a datagram whose beginning has not come."""
    return {"whole": forward("lan", new=True), "first": forward("lan", new=True), "later": queue(None)}[part]


def expected(family, where, protocol, part, mode):
    is_flow = protocol in ("tcp", "udp")
    if where != "elsewhere" and protocol in ("ping", "pong") and part == "later":
        return queue(None)  # a request's, perhaps
    if where != "elsewhere" and protocol == "ping":
        return reply("icmp_echo")
    if where == "service" and is_flow:
        if mode == "tunnel" and part == "first" and family is lab6:
            return reply("too_big")  # 1,500 bytes do not fit behind another header
        return of_service(part, mode)
    if where in ("service", "vip"):
        if protocol == "pong":
            return drop("icmp_unsupported" if part == "whole" else "fragment")
        if is_flow:
            return {"whole": reply("no_service"), "first": drop("no_service"), "later": queue(None)}[part]
        return drop("unsupported_protocol" if part == "whole" else "fragment")
    if where == "port":
        if is_flow:
            # Whole ones count as the host's; beside nat, fragments may be answers to a client in the real servers' subnet.
            return local("to_port_address") if part != "later" or mode != "nat" else queue(None)
        return local("to_port_address") if part == "whole" else drop("fragment")
    if where == "pool":
        if protocol == "pong":
            return drop("icmp_unsupported" if part == "whole" else "fragment")
        if protocol == "tcp":
            return {"whole": drop("no_connection"), "first": drop("no_connection"), "later": queue(None)}[part]
        if protocol == "udp":
            return queue(None) if part == "later" else drop("no_connection")
        return drop("unsupported_protocol" if part == "whole" else "fragment")
    # To none of weir's addresses. Beside nat it may be a reply, which its first fragment tells.
    if is_flow and part == "later" and mode == "nat":
        return queue(None)
    return drop("not_for_us")


def every(name, mode, where):
    family = FAMILIES[name]
    keys = {"nat": {}, "fullnat": {}, "l3dsr": {"dscp": 9}}.get(mode, {})
    real_port = {} if mode in ("nat", "fullnat") else {"real_port": None}
    services = [family.service(mode, family.A, protocol=protocol, name=protocol, **keys, **real_port) for protocol in ("tcp", "udp")]
    lb = family.two_arm(*services)
    to = {"service": family.VIP, "vip": family.VIP, "port": family.WAN.ip, "pool": family.POOL, "elsewhere": ELSEWHERE[family]}[where]
    steps, names = [], []
    for protocol in ("tcp", "udp", "ping", "pong", *OTHERS):
        for part in PARTS:
            sender = Host(family.CLIENT.ip.rsplit(":" if family is lab6 else ".", 1)[0] + (":" if family is lab6 else ".") + str(20 + len(steps)), family.CLIENT.mac)
            sent = datagram(family, to, protocol, 0 if part == "whole" else 3000, sender)
            if where == "vip" and protocol in ("tcp", "udp"):
                make = family.tcp if protocol == "tcp" else family.udp
                sent = make(sender, to, dport=81, payload=b"x" * (8 if part == "whole" else 3000))
            steps.append(wan(part_of(sent, part), expected(family, where, protocol, part, mode)))
            names.append((protocol, part))
    return Case(f"{name}_{mode}_to_{where}", lb, steps, gathers=True, says=f"{names}")


def every_error(name, mode):
    """Each ICMP error about nothing that weir knows, whole and in fragments, to each of its addresses and to others."""
    family = FAMILIES[name]
    real_port = {} if mode in ("nat", "fullnat") else {"real_port": None}
    keys = {"dscp": 9} if mode == "l3dsr" else {}
    lb = family.two_arm(family.service(mode, family.A, protocol="udp", **keys, **real_port))
    steps = []
    for codes in KINDS.values():
        for to in (family.VIP, family.POOL, family.WAN.ip, ELSEWHERE[family]):
            quote = bytes(family.udp(Host(to, family.CLIENT.mac), family.CLIENT, b"x" * 2000, sport=5, dport=6).layer)
            steps.append(wan(error(family.CLIENT, to, codes, quote[:100]), drop("icmp_no_connection")))
            steps.append(wan(error(family.CLIENT, to, codes, quote[: 47 if family is lab6 else 27]), drop("icmp_bad_quote")))
            long = error(family.CLIENT, to, codes, quote)
            steps.append(wan(fragments(long)[0], drop("not_for_us" if to == ELSEWHERE[family] else "fragment")))
    return Case(f"{name}_{mode}_errors_about_nothing", lb, steps)


CASES = [every(name, mode, where) for name in FAMILIES for mode in MODES for where in ("service", "vip", "port", "pool", "elsewhere")]
CASES += [every_error(name, mode) for name in FAMILIES for mode in MODES]
