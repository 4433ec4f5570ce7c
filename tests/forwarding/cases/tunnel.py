"""The modes tunnel and l3dsr: packets that go to real servers anywhere, wrapped or marked. What is inside, and around it, is held
against the RFCs by tunnels.py for every packet."""

import socket
import struct

import lab
import lab6
import tunnels
from case import Case, drop, forward, lan, local, queue, reply, wan
from lab import Host
from lab46 import KNOWN, tos, ttl
from lab46 import two_arm as both
from quotes import KINDS, PORT, TOO_BIG, about, error
from scapy.layers.inet import IP, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.layers.l2 import Ether

NAMES = {lab: "v4", lab6: "v6"}
PAIRS = [(near, far) for near in (lab, lab6) for far in (lab, lab6)]
GUES = ({}, {"gue_variant": 0}, {"gue_port": 6081}, {"gue_zero_checksum": "true"})
KEYS = [{"tunnel": '"ipip"'}, {"tunnel": '"gre"'}] + [{"tunnel": '"gue"', **more} for more in GUES] + [{}]
INSIDE = {lab: lab.INNER_GATEWAY, lab6: lab6.INNER_GATEWAY}
OUTSIDE = {lab: Host("203.0.113.254", lab.GATEWAY.mac), lab6: Host("2001:db8:7::fe", lab6.GATEWAY.mac)}


def name_of(keys):
    return "_".join(str(value).strip('"') if key == "tunnel" else f"{key}_{value}" for key, value in keys.items()) or "by_default"


def title(near, far):
    return f"{NAMES[near][1]}_in_{NAMES[far][1]}"


def service(near, *reals, keys=None, mode="tunnel", protocol="tcp", **more):
    return lab.service(mode, *reals, vip=near.VIP, protocol=protocol, real_port=None, **(keys or {}), **more)


def bytes_before(keys, far):
    plain = {key: value.strip('"') if isinstance(value, str) else value for key, value in keys.items()}
    return tunnels.overhead(plain, 6 if far is lab6 else 4)


def sized(near, length, df=True, **more):
    """A datagram whose IP packet has so many bytes."""
    header = 40 if near is lab6 else 20
    fields = {} if near is lab6 else {"flags": "DF" if df else 0}
    return near.udp(near.CLIENT, near.VIP, bytes(length - header - 8), **fields, **more)


def every_kind(near, far, keys):
    """A TCP connection from its SYN to its FIN, and UDP; to the subnet and beyond a router."""
    lb = both(service(near, far.A, keys=keys), service(near, far.FAR, keys=keys, protocol="udp", name="dns"))
    tcp = lambda flags, **more: near.tcp(near.CLIENT, near.VIP, flags, **more)  # noqa: E731
    steps = [wan(tcp("S"), forward("lan", far.A, new=True, service="web", state="syn_recv"))]
    steps += [wan(tcp("A", seq=1001, ack=5001), forward("lan", far.A, new=False))]
    steps += [wan(tcp("PA", seq=1001, ack=5001, payload=b"GET" * n), forward("lan", far.A, new=False)) for n in (1, 2, 100)]
    steps += [wan(tcp("FA", seq=1301, ack=5001), forward("lan", far.A)), wan(tcp("A", seq=1302, ack=5002), forward("lan", far.A))]
    for n in range(4):
        steps += [wan(near.udp(near.CLIENT, near.VIP, b"q" * n, sport=5000 + n % 2), forward("lan", far.FAR, new=n < 2, service="dns"))]
    return Case(f"{title(near, far)}_{name_of(keys)}", lb, steps, check=spreads if keys.get("tunnel") == '"gue"' else None)


def spreads(results):
    """A flow keeps its outer source port, and flows have different ones, so that routers and NICs tell them apart."""
    sport = lambda step: struct.unpack_from("!H", tunnels.ip_of(results.forwarded(step)).payload)[0]  # noqa: E731
    assert len({sport(step) for step in range(7)}) == 1, "one flow, one port"
    assert sport(7) == sport(9) and sport(8) == sport(10), "one flow, one port"
    assert len({sport(0), sport(7), sport(8)}) > 1, "all flows have one port"


def ecn_and_dscp(near, far):
    """RFC 6040 4.1: all four code points are copied; so is the DSCP."""
    lb = both(service(near, far.A, protocol="udp"))
    steps = [wan(near.udp(near.CLIENT, near.VIP, **tos(near, value)), forward("lan", far.A, tos=value))
             for value in (0, 1, 2, 3, 0xB8, 0xB9, 0xBA, 0xBB, 0xFC, 0xFF)]
    return Case(f"{title(near, far)}_tos_and_ecn", lb, steps)


def df_and_identification(far=lab):
    """RFC 6864: what routers may fragment has a number of its own."""
    lb = both(service(lab, far.A, protocol="udp"))
    steps = [wan(lab.udp(lab.CLIENT, lab.VIP, flags="DF" if n % 2 else 0, id=7, sport=5000 + n // 4), forward("lan", far.A, df=bool(n % 2)))
             for n in range(16)]

    def unique(results):
        numbers = [results.fields(step)["id"] for step in range(0, 16, 2)]
        assert len(set(numbers)) == len(numbers), f"identifications {numbers}"

    return Case("4_in_4_df_is_the_inner_ones", lb, steps, check=unique)


def times_to_live(near, far):
    lb = both(service(near, far.A, protocol="udp"))
    send = lambda value: near.udp(near.CLIENT, near.VIP, **ttl(near, value))  # noqa: E731
    steps = [wan(send(1), reply("ttl_exceeded", to=near.CLIENT, src=near.VIP))]
    steps += [wan(send(value), forward("lan", far.A)) for value in (2, 64, 255)]
    steps += [wan(send(1), reply("ttl_exceeded", to=near.CLIENT, src=near.VIP))]
    return Case(f"{title(near, far)}_ttl", lb, steps)


def sizes(near, far, keys):
    """What fits exactly, and one byte more: the sender hears what is left for it."""
    before = bytes_before(keys, far)
    lb = both(service(near, far.A, protocol="udp", keys=keys))
    most = 1500 - before
    told = {"rest": struct.pack("!I", most), "icmp": TOO_BIG[near], "src": near.VIP}
    steps = []
    for _ in range(2):
        steps += [wan(sized(near, most), forward("lan", far.A)), wan(sized(near, most + 1), reply("too_big", to=near.CLIENT, **told))]
    return Case(f"{title(near, far)}_{name_of(keys)}_at_the_limit", lb, steps)


def pieces(far, keys):
    """What any router may fragment is fragmented, and each piece wrapped: the real server gets an ordinary datagram in fragments."""
    service_ = service(lab, far.A, protocol="udp", keys=keys)
    most = 1500 - bytes_before(keys, far)
    sent = [sized(lab, size, df=False) for size in (most + 1, most + 1, 1500)]

    def whole(results):
        frames = [frame for _, frame in results.out["lan"]]
        assert all(len(frame) <= 1514 for frame in frames) and len(frames) == 6, f"{len(frames)} frames"
        made = tunnels.keys_of(service_)
        for first, second, packet in zip(frames[::2], frames[1::2], (bytes(each.layer) for each in sent)):
            parts = sorted((tunnels.view(tunnels.inside(frame, made)) for frame in (first, second)), key=lambda part: part.piece.offset)
            assert b"".join(part.payload for part in parts) == packet[20:], "the datagram"
            assert all(part.header_is_right() and part.ttl == 63 and part.src + part.dst == packet[12:20] for part in parts), parts

    return Case(f"4_in_{4 if far is lab else 6}_{name_of(keys)}_in_pieces", both(service_), [wan(each, forward("lan")) for each in sent], gathers=True, check=whole)


def least_of_ipv6(far, mtu):
    """IPv6 is never told to send less than 1,280 bytes: what is that small and does not fit is wrapped, and what that makes is cut."""
    lb = both(service(lab6, far.A, protocol="udp"), mtu=(1500, mtu))
    most = mtu - bytes_before({}, far)
    steps = [wan(sized(lab6, length), forward("lan", far.A)) for length in (most, most + 1, 1279, 1280)]
    steps += [wan(sized(lab6, length), reply("too_big", to=lab6.CLIENT, rest=struct.pack("!I", 1280))) for length in (1281, 1400)]
    steps += [wan(sized(lab6, 1280), forward("lan", far.A))]

    def cut(results):
        assert len(results.parts) == 4, f"{len(results.parts)} fragments besides the last ones"
        assert all(len(frame) - 14 <= mtu for _, frame in results.parts), "a fragment that does not fit"
        assert len(results.forwarded(0)) == 14 + mtu, "what fits goes whole"

    return Case(f"{title(lab6, far)}_1280_bytes_always_pass", lb, steps, gathers=True, check=cut)


def first_of_all(near, far):
    """What is cut waits for the next hop's MAC address as what is not, and goes in its order. It counts as what came: one packet."""
    service_ = service(near, far.A, protocol="udp")
    mtu = 1500 if near is lab else 1290 if far is lab else 1310
    lb = both(service_, known=tuple(host for host in KNOWN if host.ip != far.A.ip), mtu=(1500, mtu))
    most = mtu - bytes_before({}, far)
    sent = [sized(near, length, df=False) for length in (100, most + 1, 100, most)]
    here = lab.arp(lab.A, lab.LAN, op="is-at", target_mac=lab.LAN.mac) if far is lab else lab6.advertise(lab6.A, lab6.LAN)

    def whole(results):
        assert results.counts["queued"] == 0, results.counts
        outer = lambda frame: isinstance(Ether(frame).payload, (IP, IPv6)) and tunnels.ip_of(frame).protocol != 58  # noqa: E731
        frames = [frame for _, frame in results.out["lan"] if outer(frame)]
        assert len(frames) == 5 and all(len(frame) - 14 <= mtu for frame in frames), [len(frame) for frame in frames]
        assert all(Ether(frame).dst == far.A.mac for frame in frames), "the real server's MAC address"
        made, alone = tunnels.keys_of(service_), (0, 3, 4)
        packets = [bytes(each.layer) for each in sent]
        for frame, packet in zip((frames[n] for n in alone), packets[::2] + packets[3:]):
            assert tunnels.view(tunnels.inside(frame, made)).payload == tunnels.view(packet).payload, "a whole one"
        if near is lab:
            parts = [tunnels.view(tunnels.inside(frame, made)) for frame in frames[1:3]]
            assert b"".join(part.payload for part in parts) == packets[1][20:], "the datagram"
        else:
            parts = tunnels.pieces_of(frames[1:3]).values()
            data = b"".join(data for _, data, _, _ in parts)
            assert data[40:] == packets[1][40:] and len({number for _, _, number, _ in parts}) == 1, "the packet"

    steps = [wan(each, queue("lan")) for each in sent] + [lan(here, local())]
    return Case(f"{title(near, far)}_pieces_wait_for_the_next_hop", lb, steps, gathers=True, check=whole, asks=[("lan", 0.001, far.A.ip)])


def headers(far):
    """Options and extension headers go along."""
    pad = lambda header: header(options=[PadN(optdata=b"\0\0\0\0")])  # noqa: E731
    options = [IPOption_RR(length=7, pointer=4, routers=["0.0.0.0"])]
    lb = both(service(lab6, far.A, protocol="udp"), service(lab, far.A, protocol="udp", name="dns"))
    steps = [wan(lab6.udp(lab6.CLIENT, lab6.VIP, extensions=each), forward("lan", far.A))
             for each in (pad(IPv6ExtHdrHopByHop), pad(IPv6ExtHdrDestOpt), pad(IPv6ExtHdrHopByHop) / pad(IPv6ExtHdrDestOpt))]
    steps += [wan(lab.udp(lab.CLIENT, lab.VIP, options=options), forward("lan", far.A)) for _ in range(2)]
    return Case(f"options_and_extension_headers_in_{NAMES[far][1]}", lb, steps)


def padded(far):
    """The padding of a short frame does not go along."""
    frame = lab.udp(lab.CLIENT, lab.VIP, b"x").frame(lab.WAN.mac)
    lb = both(service(lab, far.A, protocol="udp"))
    steps = [wan(frame + bytes(60 - len(frame)), forward("lan", far.A)) for _ in range(3)]
    return Case(f"4_in_{NAMES[far][1]}_padding_stays_behind", lb, steps)


def wrong_checksum(far):
    """It stays as it is: the real server sees it."""
    lb = both(service(lab, far.A, protocol="udp", keys={"tunnel": '"gue"'}))
    steps = [wan(lab.udp(lab.CLIENT, lab.VIP, chksum=value), forward("lan", far.A)) for value in (0, 1, 0xFFFF)]
    return Case(f"4_in_{NAMES[far][1]}_a_wrong_checksum_stays", lb, steps)


def by_hash(near, far, scheduler, mode="tunnel", keys=None):
    """Where every weir of a cluster comes to the same real server, no connection is needed: segments in mid-connection are scheduled,
    and errors about what the real server has sent find it too."""
    servers = (far.A, far.B, far.C, far.D)
    lb = both(service(near, *servers, scheduler=scheduler, mode=mode, keys=keys))
    steps = []
    for number in range(8):
        sport = 40000 + number
        steps.append(wan(near.tcp(near.CLIENT, near.VIP, "A", sport=sport), forward("lan")))
        from_vip = near.tcp(Host(near.VIP, "02:00:00:00:09:09"), near.CLIENT, "A", sport=80, dport=50000 + number)
        steps.append(wan(error(OUTSIDE[near], near.VIP, TOO_BIG, bytes(from_vip.layer), rest=1400), forward("lan")))
        steps.append(wan(near.tcp(near.CLIENT, near.VIP, "A", sport=50000 + number), forward("lan")))

    def same(results):
        for step in range(1, len(steps), 3):
            assert results.fields(step)["eth_dst"] == results.fields(step + 1)["eth_dst"], f"step {step} went to another real server"

    return Case(f"{title(near, far)}_{mode}_{scheduler}_without_a_connection", lb, steps, check=same)


def errors_of_clients(near, far, mode="tunnel", keys=None):
    """What routers say of the real server's packets arrives at the VIP, and goes on to the real server as any packet."""
    lb = both(service(near, far.A, protocol="udp", mode=mode, keys=keys))
    steps = [wan(near.udp(near.CLIENT, near.VIP), forward("lan", far.A, new=True))]
    answer = near.udp(Host(near.VIP, "02:00:00:00:09:09"), near.CLIENT, b"answer" * 20, sport=80, dport=40000)
    for codes in KINDS.values():
        steps.append(wan(error(OUTSIDE[near], near.VIP, codes, bytes(answer.layer), rest=1400), forward("lan", far.A, new=False)))
    stranger = near.udp(Host(near.VIP, "02:00:00:00:09:09"), near.CLIENT, b"answer", sport=80, dport=40001)
    steps.append(wan(error(OUTSIDE[near], near.VIP, PORT, bytes(stranger.layer)), drop("icmp_no_connection")))
    steps.append(wan(error(OUTSIDE[near], near.VIP, PORT, bytes(answer.layer), **ttl(near, 1)), drop("ttl_exceeded")))
    return Case(f"{title(near, far)}_{mode}_errors_about_answers", lb, steps)


def without_a_connection(near, far):
    """As in dr: other schedulers answer a segment of no connection by a reset; no real server, no service: as ever."""
    lb = both(service(near, far.A), service(near, far.A, protocol="udp", name="dns", weights=[0]))
    return Case(f"{title(near, far)}_refusals", lb, [
        wan(near.tcp(near.CLIENT, near.VIP, "A", ack=77), reply("no_connection", to=near.CLIENT, flags="R", seq=77)),
        wan(near.udp(near.CLIENT, near.VIP), reply("no_real_server", to=near.CLIENT, icmp=PORT[near])),
        wan(near.tcp(near.CLIENT, near.VIP, dport=81), reply("no_service", to=near.CLIENT)),
        wan(near.tcp(near.CLIENT, near.VIP), forward("lan", far.A, new=True)),
    ])


def both_families(near):
    """One service may have real servers of both."""
    lb = both(service(near, lab.A, lab6.B))
    steps = [wan(near.tcp(near.CLIENT, near.VIP, sport=40000 + n), forward("lan", (lab6.B, lab.A)[n % 2], new=True)) for n in range(6)]
    steps += [wan(near.tcp(near.CLIENT, near.VIP, "A", sport=40000 + n), forward("lan", (lab6.B, lab.A)[n % 2], new=False)) for n in range(6)]
    return Case(f"{NAMES[near]}_real_servers_of_both_families", lb, steps)


def from_source(near, far):
    """`tunnel_source`: any address of weir's own ports."""
    keys = {"tunnel_source": f'"{far.WAN.ip}"', "tunnel": '"gre"'}
    lb = both(service(near, far.A, keys=keys, protocol="udp"))
    steps = [wan(near.udp(near.CLIENT, near.VIP), forward("lan", far.A, src=far.WAN.ip)) for _ in range(2)]
    return Case(f"{title(near, far)}_from_another_address", lb, steps)


def persistence(near, far):
    lb = both(service(near, far.A, far.B, persistence="{ timeout = 300 }"))
    steps = [wan(near.tcp(near.CLIENT, near.VIP, sport=40000), forward("lan", new=True))]
    steps += [wan(near.tcp(near.CLIENT, near.VIP, sport=40000 + n), forward("lan", new=True)) for n in range(1, 5)]

    def same(results):
        assert len({results.lines[n]["real"] for n in range(5)}) == 1, "a client's connections go to one real server"

    return Case(f"{title(near, far)}_persistent", lb, steps, check=same)


def marking(family, protocol, dscp):
    lb = both(service(family, family.A, family.FAR, mode="l3dsr", protocol=protocol, keys={"dscp": dscp}))
    make = {"tcp": family.tcp, "udp": family.udp}[protocol]
    steps = []
    for n, far in enumerate((family.FAR, family.A, family.FAR)):
        for value in (0, 0x2F, 0xFF, 2):
            new = value == 0
            flags = {"flags": "S" if new else "A"} if protocol == "tcp" else {}
            steps.append(wan(make(family.CLIENT, family.VIP, sport=5000 + n, **flags, **tos(family, value)), forward("lan", far, new=new)))
    steps.append(wan(make(family.CLIENT, family.VIP, sport=5000, **ttl(family, 1)), reply("ttl_exceeded", to=family.CLIENT)))
    return Case(f"{NAMES[family]}_l3dsr_{protocol}_dscp_{dscp}", lb, steps)


def marking_other_checksums():
    lb = both(service(lab, lab.A, mode="l3dsr", protocol="udp", keys={"dscp": 5}))
    options = [IPOption_RR(length=7, pointer=4, routers=["0.0.0.0"])]
    steps = [wan(lab.udp(lab.CLIENT, lab.VIP, chksum=value), forward("lan", lab.A)) for value in (0, 1, 0xFFFF)]
    steps += [wan(lab.udp(lab.CLIENT, lab.VIP, options=options), forward("lan", lab.A))]
    steps += [wan(sized(lab, 1500), forward("lan", lab.A)), wan(sized(lab, 1500), forward("lan", lab.A))]
    return Case("v4_l3dsr_checksums_follow", lb, steps)


def errors_on_the_way(near, far, keys):
    """Routers between weir and the real server: "too big" is kept for ten minutes, and said to the client about its own packet as soon
    as there is enough to say it; the client never hears of the others."""
    before = bytes_before(keys, far)
    told = max(1320 - before, 1280) if near is lab6 else 1320 - before
    says = {"rest": struct.pack("!I", told), "icmp": TOO_BIG[near], "src": near.VIP}
    lb = both(service(near, far.B, protocol="udp", keys=keys), service(near, far.A, protocol="udp", keys=keys, port=81, name="dns"))
    big, fits = sized(near, 1440), sized(near, min(told, 1320 - before))
    steps = [wan(big, forward("lan", far.B, new=True)), wan(fits, forward("lan", far.B, new=False))]
    router = INSIDE[far]
    steps += [lan(about(0, codes, router, more=None), drop("tunnel_error")) for name, codes in KINDS.items() if name != "too_big"]
    steps += [wan(big, forward("lan", far.B, new=False))]
    steps += [wan(about(0, TOO_BIG, router, more=None, rest=1320), drop("wrong_port"))]
    steps += [lan(about(0, TOO_BIG, router, more=None, rest=1320, chksum=0x1234), drop("bad_l4_checksum"))]
    steps += [wan(big, forward("lan", far.B, new=False))]
    steps += [lan(about(0, TOO_BIG, router, more=None, rest=1320), forward("wan", near.CLIENT, dst=near.CLIENT.ip, **says))]
    steps += [wan(big, reply("too_big", to=near.CLIENT, **says)), wan(fits, forward("lan", far.B, new=False))]
    # Another real server has another way.
    other = sized(near, 1440, dport=81)
    steps += [wan(other, forward("lan", far.A, new=True)), wan(other, forward("lan", far.A, new=False))]
    # A wider way is not believed; a narrower one is, of what fits as well; it need not be said to whom it does not concern.
    steps += [lan(about(0, TOO_BIG, router, more=None, rest=1400), forward("wan", near.CLIENT))]
    steps += [wan(big, reply("too_big", to=near.CLIENT, **says))]
    steps += [lan(about(1, TOO_BIG, router, more=None, rest=1320), drop("tunnel_too_big"))]
    steps += [wan(big, reply("too_big", to=near.CLIENT, **says), at=590.0), wan(big, forward("lan", new=True), at=900.0)]
    return Case(f"{title(near, far)}_{name_of(keys)}_errors_on_the_way", lb, steps)


def short_quotes(near, far):
    """Of the packet inside less is quoted than says whose it is (RFC 792): the client hears of it at its next packet."""
    lb = both(service(near, far.A, protocol="udp"))
    told = {"rest": struct.pack("!I", max(1320 - bytes_before({}, far), 1280 if near is lab6 else 0))}
    big = sized(near, 1440)
    return Case(f"{title(near, far)}_short_quotes", lb, [
        wan(big, forward("lan", far.A, new=True)),
        lan(about(0, TOO_BIG, INSIDE[far], more=8, rest=1320), drop("tunnel_too_big")),
        wan(big, reply("too_big", to=near.CLIENT, **told)),
        lan(about(0, PORT, INSIDE[far], more=8), drop("tunnel_error")),
    ])


def both_variants(near, far):
    """Where packets in GUE of both variants go to one real server, an error is about the one that it quotes."""
    plain, header = ({"tunnel": '"gue"', "gue_variant": variant} for variant in (1, 0))
    lb = both(service(near, far.A, protocol="udp", keys=plain), service(near, far.A, keys=header, name="other"))
    big = sized(near, 1420)
    steps = [wan(near.tcp(near.CLIENT, near.VIP), forward("lan", far.A, new=True)), wan(big, forward("lan", far.A, new=True))]
    steps += [lan(about(step, TOO_BIG, INSIDE[far], more=None, rest=1400), expect) for step, expect in (
        (0, drop("tunnel_too_big")), (1, forward("wan", near.CLIENT, icmp=TOO_BIG[near], rest=struct.pack("!I", 1400 - bytes_before(plain, far)))))]
    return Case(f"{title(near, far)}_gue_of_both_variants", lb, steps)


def forged_on_the_way(near, far):
    """Believed is only what quotes a packet that weir may have sent."""
    lb = both(service(near, far.A, protocol="udp"))
    big = sized(near, 1440)

    def changed(make):
        def forge(results):
            packet = bytearray(tunnels.ip_of(results.forwarded(0)).packet)
            make(packet)
            return error(INSIDE[far], far.LAN.ip, TOO_BIG, bytes(packet), rest=1320)

        forge.needs = 0
        return forge

    six, inner = far is lab6, 40 if far is lab6 else 20

    def other_port(packet):
        packet[inner + (40 if near is lab6 else 20)] ^= 1

    def other_real(packet):
        packet[39 if six else 19] ^= 0x40

    def other_protocol(packet):
        packet[6 if six else 9] = 47

    return Case(f"{title(near, far)}_forged_on_the_way", lb, [
        wan(big, forward("lan", far.A, new=True)),
        lan(changed(other_port), drop("icmp_no_connection")),
        lan(changed(other_real), drop({"icmp_bad_quote", "icmp_no_connection"})),
        lan(changed(other_protocol), drop({"icmp_bad_quote", "icmp_no_connection"})),
        wan(big, forward("lan", far.A, new=False)),
    ])


def forged_from_outside(near, far, scheduler):
    """Nor is what a client says to another address of weir's than its packets are wrapped from: it would narrow the way of all."""
    lb = both(service(near, far.A, protocol="udp", scheduler=scheduler))
    big = sized(near, 1440)

    def forge(results):
        packet = bytearray(tunnels.ip_of(results.forwarded(0)).packet)
        if far is lab6:
            packet[8:24] = socket.inet_pton(socket.AF_INET6, far.WAN.ip)
        else:
            packet[12:16] = socket.inet_aton(far.WAN.ip)
        return error(OUTSIDE[far], far.WAN.ip, TOO_BIG, bytes(packet), rest=1320)

    forge.needs = 0
    return Case(f"{title(near, far)}_{scheduler}_forged_from_outside", lb, [
        wan(big, forward("lan", far.A, new=True)), wan(forge, drop("icmp_bad_quote")), wan(big, forward("lan", far.A, new=False)),
    ])


def of_companions(near, far):
    """The host behind a port gets the errors about its own packets, not those about weir's."""
    lb = both(service(near, far.A, protocol="udp"))
    lb.text = lb.text.replace('name = "lan"', 'name = "lan"\ncompanion = "weir-lan"')
    big = sized(near, 1440)
    own = far.udp(Host(far.LAN.ip, far.LAN.mac), far.A, b"x" * 20, sport=50000, dport=53)
    return Case(f"{title(near, far)}_errors_and_the_host", lb, [
        wan(big, forward("lan", far.A, new=True)),
        lan(about(0, PORT, far.A, more=None), drop("tunnel_error")),
        lan(about(0, TOO_BIG, INSIDE[far], more=None, rest=1320), forward("wan", near.CLIENT)),
        lan(error(far.A, far.LAN.ip, PORT, bytes(own.layer)), local("to_port_address")),
    ])


CASES = [errors_on_the_way(near, far, keys) for near, far in PAIRS for keys in KEYS]
CASES += [make(near, far) for make in (short_quotes, both_variants, forged_on_the_way, of_companions) for near, far in PAIRS]
CASES += [every_kind(near, far, keys) for near, far in PAIRS for keys in KEYS]
CASES += [ecn_and_dscp(near, far) for near, far in PAIRS]
CASES += [times_to_live(near, far) for near, far in PAIRS]
CASES += [sizes(near, far, keys) for near, far in PAIRS for keys in KEYS]
CASES += [pieces(far, keys) for far in (lab, lab6) for keys in KEYS]
CASES += [first_of_all(near, far) for near, far in PAIRS]
CASES += [df_and_identification(), least_of_ipv6(lab, 1290), least_of_ipv6(lab6, 1310)]
CASES += [make(far) for make in (headers, padded, wrong_checksum) for far in (lab, lab6)]
CASES += [forged_from_outside(near, far, scheduler) for near, far in PAIRS for scheduler in ("rr", "mh")]
CASES += [by_hash(near, far, scheduler) for near, far in PAIRS for scheduler in ("sh", "mh")]
CASES += [make(near, far) for make in (errors_of_clients, without_a_connection, from_source, persistence) for near, far in PAIRS]
CASES += [both_families(near) for near in (lab, lab6)]
CASES += [marking(family, protocol, dscp) for family in (lab, lab6) for protocol in ("tcp", "udp") for dscp in (1, 63)]
CASES += [marking_other_checksums()]
CASES += [errors_of_clients(family, family, "l3dsr", {"dscp": 9}) for family in (lab, lab6)]
CASES += [by_hash(family, family, "mh", "l3dsr", {"dscp": 9}) for family in (lab, lab6)]
