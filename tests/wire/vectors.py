#!/usr/bin/python3
"""Writes vectors.txt: frames made by scapy, and what scapy reads in them. src/wire/vectors_tests.rs reads them by weir's
views.

    tests/wire/vectors.py > tests/wire/vectors.txt
"""

import sys

from scapy.all import (
    ARP, Dot1Q, Ether, ICMP, ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr, ICMPv6NDOptMTU, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig,
    ICMPv6TimeExceeded, IP, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting, IPOption_LSRR, IPOption_Router_Alert, PadN, Raw, RouterAlert, TCP, UDP,
)

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:02:54")
V4 = dict(src="203.0.113.7", dst="192.0.2.80")
V6 = dict(src="2001:db8::7", dst="2001:db8:1::80")
LINK = dict(src="fe80::7", dst="ff02::1", hlim=255)
MAC = "02:00:00:00:00:07"
QUOTED = IP(src="192.0.2.80", dst="203.0.113.7", id=9) / UDP(sport=53, dport=1024) / Raw(b"quoted bytes")
QUOTED6 = IPv6(src="2001:db8:1::80", dst="2001:db8::7") / TCP(sport=80, dport=1024, seq=77)

FRAMES = {
    "tcp syn": IP(**V4, ttl=9, tos=0x2E, id=77, flags="DF")
    / TCP(sport=40000, dport=80, seq=0xFFFFFFF0, flags="S", window=8192,
          options=[("NOP", None), ("WScale", 7), ("MSS", 1460), ("SAckOK", b"")]),
    "tcp data": IP(**V4) / TCP(sport=40000, dport=80, seq=5, ack=7, flags="PA", options=[("Timestamp", (1, 2))]) / Raw(b"data"),
    "udp": IP(**V4) / UDP(sport=4000, dport=53) / Raw(b"odd"),
    "udp without checksum": IP(**V4) / UDP(sport=4000, dport=53, chksum=0) / Raw(b"none"),
    "ipv4 options": IP(**V4, options=[IPOption_Router_Alert()]) / UDP(sport=1, dport=2),
    "source route": IP(**V4, options=[IPOption_LSRR(routers=["10.0.0.1", "10.0.0.2"])]) / UDP(sport=1, dport=2),
    "ipv4 fragment": IP(**V4, id=0xBEEF, flags="MF", frag=185) / Raw(b"12345678"),
    "echo request": IP(**V4) / ICMP(type=8, id=0x1234, seq=3) / Raw(b"ping"),
    "fragmentation needed": IP(**V4) / ICMP(type=3, code=4, nexthopmtu=1280) / QUOTED,
    "time exceeded, cut": IP(**V4) / ICMP(type=11, code=0) / Raw(bytes(QUOTED)[:28]),
    "arp request": ARP(op=1, hwsrc=MAC, psrc="192.0.2.7", hwdst="00:00:00:00:00:00", pdst="192.0.2.1"),
    "arp reply": ARP(op=2, hwsrc=MAC, psrc="192.0.2.7", hwdst="02:00:00:00:00:01", pdst="192.0.2.1"),
    "tagged": Dot1Q(vlan=100, prio=5, id=1) / IP(**V4) / UDP(sport=1, dport=2),
    "tcp over ipv6": IPv6(**V6, tc=0xB8, fl=0xABCDE, hlim=3)
    / TCP(sport=40000, dport=443, seq=1, flags="S", options=[("MSS", 1220)]),
    "udp over ipv6": IPv6(**V6) / UDP(sport=4000, dport=53) / Raw(b"odd"),
    "extension headers": IPv6(**V6) / IPv6ExtHdrHopByHop(options=[RouterAlert(value=0), PadN(optdata=b"")])
    / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
    / IPv6ExtHdrRouting(type=2, segleft=0, addresses=["2001:db8::9"]) / UDP(sport=4000, dport=53) / Raw(b"far"),
    "atomic fragment": IPv6(**V6) / IPv6ExtHdrFragment(id=7, m=0, offset=0) / UDP(sport=4000, dport=53) / Raw(b"one"),
    "ipv6 fragment": IPv6(**V6) / IPv6ExtHdrFragment(id=0xABCDEF01, m=1, offset=181, nh=17) / Raw(b"12345678"),
    "echo request over ipv6": IPv6(**V6) / ICMPv6EchoRequest(id=0x1234, seq=3, data=b"ping"),
    "packet too big": IPv6(**V6) / ICMPv6PacketTooBig(mtu=1400) / QUOTED6,
    "port unreachable over ipv6": IPv6(**V6) / ICMPv6DestUnreach(code=4) / QUOTED6,
    "time exceeded over ipv6": IPv6(**V6) / ICMPv6TimeExceeded(code=0) / Raw(bytes(QUOTED6)[:48]),
    "router solicitation": IPv6(**LINK) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=MAC),
    "router advertisement": IPv6(**LINK) / ICMPv6ND_RA(chlim=64, M=0, O=1, routerlifetime=1800, reachabletime=30000,
                                                       retranstimer=1000)
    / ICMPv6NDOptSrcLLAddr(lladdr=MAC) / ICMPv6NDOptMTU(mtu=1400)
    / ICMPv6NDOptPrefixInfo(prefix="2001:db8:7::", prefixlen=64, L=1, A=0, validlifetime=86400, preferredlifetime=14400),
    "neighbour solicitation": IPv6(src="fe80::7", dst="ff02::1:ff00:80", hlim=255) / ICMPv6ND_NS(tgt="2001:db8:1::80")
    / ICMPv6NDOptSrcLLAddr(lladdr=MAC),
    "duplicate address detection": IPv6(src="::", dst="ff02::1:ff00:80", hlim=255) / ICMPv6ND_NS(tgt="2001:db8:1::80"),
    "neighbour advertisement": IPv6(src="fe80::7", dst="fe80::1", hlim=255) / ICMPv6ND_NA(tgt="fe80::7", R=0, S=1, O=1)
    / ICMPv6NDOptDstLLAddr(lladdr=MAC),
}


def quoted(layer):
    """What an error quotes: addresses and ports."""
    inner = layer.payload
    if isinstance(inner, Raw):
        inner = (IP if inner.load[0] >> 4 == 4 else IPv6)(inner.load)
    l4 = inner.payload
    ports = f":{l4.sport}>{l4.dport}" if hasattr(l4, "sport") else ""
    yield f"quoted={inner.src}>{inner.dst}{ports}"


def l4(layer):
    if isinstance(layer, TCP):
        yield f"tcp={layer.sport}>{layer.dport}"
        yield f"flags={int(layer.flags)} seq={layer.seq} ack={layer.ack} window={layer.window}"
        mss = dict(option for option in layer.options if option[0] == "MSS").get("MSS")
        yield f"mss={mss} data={len(layer.payload)}"
    elif isinstance(layer, UDP):
        yield f"udp={layer.sport}>{layer.dport} length={layer.len} data={len(layer.payload)}"
    elif isinstance(layer, ICMP):
        yield f"icmp={layer.type}/{layer.code}"
        if layer.type == 8:
            yield f"id={layer.id} sequence={layer.seq}"
        else:
            if layer.code == 4:
                yield f"mtu={layer.nexthopmtu}"
            yield from quoted(layer)
    elif isinstance(layer, ICMPv6EchoRequest):
        yield f"icmpv6={layer.type}/{layer.code} id={layer.id} sequence={layer.seq}"
    elif isinstance(layer, ICMPv6ND_RS):
        yield f"rs source={layer[ICMPv6NDOptSrcLLAddr].lladdr}"
    elif isinstance(layer, ICMPv6ND_RA):
        yield f"ra hops={layer.chlim} lifetime={layer.routerlifetime} reachable={layer.reachabletime}"
        yield f"retransmit={layer.retranstimer} source={layer[ICMPv6NDOptSrcLLAddr].lladdr}"
        prefix = layer[ICMPv6NDOptPrefixInfo]
        yield f"mtu={layer[ICMPv6NDOptMTU].mtu} prefix={prefix.prefix}/{prefix.prefixlen} onlink={prefix.L}"
        yield f"addresses={prefix.A} valid={prefix.validlifetime} preferred={prefix.preferredlifetime}"
    elif isinstance(layer, ICMPv6ND_NS):
        option = layer.payload
        yield f"ns target={layer.tgt} source={option.lladdr if option else None}"
    elif isinstance(layer, ICMPv6ND_NA):
        flags = f"router={layer.R} solicited={layer.S} override={layer.O}"
        yield f"na target={layer.tgt} {flags} mac={layer.payload.lladdr}"
    elif isinstance(layer, (ICMPv6PacketTooBig, ICMPv6DestUnreach, ICMPv6TimeExceeded)):
        yield f"icmpv6={layer.type}/{layer.code}"
        if isinstance(layer, ICMPv6PacketTooBig):
            yield f"mtu={layer.mtu}"
        yield from quoted(layer)
    else:
        yield f"data={len(layer)}"


def read(frame):
    layer = frame.payload
    if isinstance(layer, Dot1Q):
        yield f"vlan={layer.vlan} priority={layer.prio} drop={layer.id}"
        layer = layer.payload
    if isinstance(layer, ARP):
        yield f"arp={layer.op} sender={layer.hwsrc}/{layer.psrc} target={layer.hwdst}/{layer.pdst}"
        return
    if isinstance(layer, IP):
        yield f"ipv4={layer.src}>{layer.dst} header={layer.ihl * 4} length={layer.len}"
        yield f"protocol={layer.proto} ttl={layer.ttl} tos={layer.tos} ident={layer.id}"
        flags = int(layer.flags)
        yield f"df={flags >> 1 & 1} mf={flags & 1} offset={layer.frag * 8}"
        route = any(isinstance(option, IPOption_LSRR) for option in layer.options)
        yield f"route={int(route)}"
        yield from l4(layer.payload)
        return
    yield f"ipv6={layer.src}>{layer.dst} class={layer.tc} flow={layer.fl} hops={layer.hlim} length={layer.plen}"
    extensions, protocol, layer = 0, layer.nh, layer.payload
    while isinstance(layer, (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting, IPv6ExtHdrFragment)):
        extensions += len(layer) - len(layer.payload)
        protocol = layer.nh
        if isinstance(layer, IPv6ExtHdrFragment):
            yield f"fragment={layer.offset * 8} mf={layer.m} ident={layer.id}"
        layer = layer.payload
    yield f"protocol={protocol} extensions={extensions}"
    yield from l4(layer)


for name, packet in FRAMES.items():
    # Read anew: scapy computes lengths and checksums when it writes.
    frame = Ether(bytes(ETHER / packet))
    sys.stdout.write(f"{name}\t{bytes(frame).hex()}\t{' '.join(read(frame))}\n")
