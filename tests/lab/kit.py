"""Hand-made directors for weir-server-kit's lab (kit.sh), and the servers that they speak to.

    kit.py serve                      TCP servers of each family, and a UDP one, that tell what they see
    kit.py toa MAC TRUSTED4 TRUSTED6  connections with the option in every place, from addresses that no host has
    kit.py toa-many MAC COUNT         to an unmodified nginx
    kit.py tunnel MAC KIT CONFIG      wrapped packets of each kind, right and wrong
    kit.py elsewhere MAC KIT CONFIG   wrapped packets of each kind by a device that the kit was not told
    kit.py ask WHO VIP PORT COUNT     connections of a real client: the servers tell client or director, or getsockopt the client alone
    kit.py stay VIP PORT STOP         one connection, which is told the same until that file is there

A case that does not come out as the table says ends it with an error.
"""

import ipaddress
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time

SERVER = {4: "10.0.0.11", 6: "2001:db8:10::11"}
DIRECTOR = {4: "10.0.0.200", 6: "2001:db8:10::200"}
STRANGER = {4: "10.0.0.8", 6: "2001:db8:10::8"}
# Listeners of IPv4, of IPv6 alone, and of both.
IPV4, IPV6, BOTH = 8004, 8006, 8046
TOA_SO_GET_LOOKUP = 4096


# The servers.


def told(address):
    return f"{address[0]} {address[1]}"


def lookup(connection):
    """What a program written for DPVS's module asks an IPv4 socket for."""
    try:
        data = connection.getsockopt(socket.IPPROTO_IP, TOA_SO_GET_LOOKUP, 20)
    except OSError:
        return "- -"
    return f"{ipaddress.IPv6Address(data[:16])} {struct.unpack('!H', data[16:18])[0]}"


def converse(connection, accepted):
    """Each line is answered with what accept, getpeername and getsockopt tell then."""
    with connection, connection.makefile("rb") as lines:
        for _ in lines:
            answer = f"{told(accepted)} {told(connection.getpeername())} {lookup(connection)}\n"
            connection.sendall(answer.encode())


def accept_for_ever(listener):
    while True:
        connection, address = listener.accept()
        threading.Thread(target=converse, args=(connection, address), daemon=True).start()


def answer_datagrams(family):
    """Answers with the datagram's TOS or traffic class in front, from the address that it came to."""
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        server.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        server.setsockopt(socket.IPPROTO_IP, socket.IP_PKTINFO if hasattr(socket, "IP_PKTINFO") else 8, 1)
    else:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    server.bind(("", 7000))
    while True:
        data, control, _, client = server.recvmsg(65536, 512)
        field, info = 0, []
        for level, kind, value in control:
            if kind in (socket.IP_TOS, socket.IPV6_TCLASS) and len(value) in (1, 4):
                field = value[0]
            elif len(value) == 12:
                # The source is the address that the datagram was for; any interface.
                info = [(level, kind, struct.pack("i", 0) + value[8:12] + bytes(4))]
            elif len(value) == 20:
                info = [(level, kind, value[:16] + struct.pack("i", 0))]
        server.sendmsg([f"{field} ".encode() + data[:64]], info, 0, client)


def serve():
    for family, port, alone in ((socket.AF_INET, IPV4, 0), (socket.AF_INET6, IPV6, 1), (socket.AF_INET6, BOTH, 0)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
        listener.bind(("", port))
        listener.listen(100)
        threading.Thread(target=accept_for_ever, args=(listener,), daemon=True).start()
    for family in (socket.AF_INET, socket.AF_INET6):
        threading.Thread(target=answer_datagrams, args=(family,), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


# What both directors need.


def scapy():
    import logging

    logging.getLogger("scapy").setLevel(logging.ERROR)
    import scapy.all

    return scapy.all


class Wire:
    """Frames of the lan, to the server's MAC and from it."""

    def __init__(self, mac):
        self.scapy = scapy()
        self.server = mac
        self.own = open("/sys/class/net/lan/address").read().strip()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("lan", 0))

    def send(self, packet):
        self.socket.send(bytes(self.scapy.Ether(src=self.own, dst=self.server) / packet))

    def ip(self, source, destination, **fields):
        make = self.scapy.IPv6 if ":" in destination else self.scapy.IP
        return make(src=source, dst=destination, **fields)

    def wait(self, wanted, seconds):
        """The first packet from the server that is wanted; None if none comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self.socket], [], [], left)[0]:
            data, address = self.socket.recvfrom(65536)
            if address[2] == socket.PACKET_OUTGOING:
                continue
            frame = self.scapy.Ether(data)
            if frame.src == self.server and wanted(frame.payload):
                return frame.payload
        return None


# The option.


def toa(address, port):
    return (254, struct.pack("!H", port) + ipaddress.ip_address(address).packed)


class Connection:
    """A TCP connection that is made segment by segment."""

    def __init__(self, wire, source, server, port):
        self.wire, self.source, self.server, self.port = wire, source, server, port
        self.local = random.randrange(20000, 60000)
        self.sequence, self.acknowledged = random.randrange(1 << 32), 0
        self.segment("S", options=[("MSS", 1400)])
        reply = self.hear(lambda tcp: tcp.flags == "SA")
        assert reply, "no SYN/ACK"
        self.sequence = (self.sequence + 1) % (1 << 32)
        self.acknowledged = (reply.seq + 1) % (1 << 32)

    def segment(self, flags, options=(), data=b"", ahead=0):
        make = self.wire.scapy.TCP
        sequence = (self.sequence + ahead) % (1 << 32)
        tcp = make(sport=self.local, dport=self.port, flags=flags, seq=sequence, ack=self.acknowledged, options=list(options))
        self.wire.send(self.wire.ip(self.source, self.server) / tcp / data)

    def hear(self, wanted, seconds=3):
        tcp = self.wire.scapy.TCP
        found = self.wire.wait(lambda p: tcp in p and p[tcp].dport == self.local and wanted(p[tcp]), seconds)
        return found and found[tcp]

    def answer(self, length):
        """What the server says to the data that was sent, of that length."""
        reply = self.hear(lambda tcp: len(tcp.payload) and tcp.seq == self.acknowledged)
        assert reply, "no answer"
        data = bytes(reply.payload)
        self.sequence = (self.sequence + length) % (1 << 32)
        self.acknowledged = (reply.seq + len(data)) % (1 << 32)
        self.segment("A")
        return data.decode()

    def ask(self, options=()):
        self.segment("PA", options, b"?\n")
        return self.answer(2)

    def end(self):
        self.segment("R")


FOUR, SIX = ("203.0.113.7", 4242), ("2001:db8:77::7", 4243)
# The port whose bytes are the magic number of TCP Fast Open in option 254: another way through the kernel.
FAST_OPEN = ("203.0.113.9", 0xF989)
NOP, STAMP = ("NOP", None), ("Timestamp", (7, 0))


def option_cases():
    """Name, director's family, listener, options of the handshake's ACK (None: it is lost), of the first data, and what accept,
    getpeername and DPVS's getsockopt tell: the client, or None for the director."""
    mapped = ("::ffff:" + FOUR[0], FOUR[1])
    four, six = [toa(*FOUR)], [toa(*SIX)]
    yield "IPv4", 4, IPV4, four, four, FOUR, FOUR, None
    yield "IPv4 at a socket of both", 4, BOTH, four, four, mapped, mapped, None
    yield "an IPv6 client at a socket of both", 4, BOTH, six, six, SIX, SIX, SIX
    yield "an IPv6 client at an IPv4 socket", 4, IPV4, six, six, None, None, SIX
    yield "IPv6", 6, IPV6, six, six, SIX, SIX, SIX
    yield "IPv6 at a socket of both", 6, BOTH, six, six, SIX, SIX, SIX
    yield "an IPv4 client at an IPv6 socket", 6, IPV6, four, four, mapped, mapped, None
    yield "the ACK is lost", 4, IPV4, None, four, FOUR, FOUR, None
    yield "the ACK is lost, IPv6", 6, BOTH, None, six, SIX, SIX, SIX
    yield "only the ACK has it", 4, IPV4, four, [], FOUR, FOUR, None
    yield "only the data has it", 4, IPV4, [], four, None, FOUR, None
    yield "only the data has it, IPv6", 6, IPV6, [], six, None, SIX, SIX
    yield "only the data, Fast Open's number", 4, IPV4, [], [toa(*FAST_OPEN)], None, FAST_OPEN, None
    yield "Fast Open's number", 4, IPV4, [toa(*FAST_OPEN)], [], FAST_OPEN, FAST_OPEN, None
    yield "behind others", 4, IPV4, [NOP, NOP, STAMP, NOP, *four], four, FOUR, FOUR, None
    yield "in a full header", 4, IPV4, [STAMP, (253, bytes(8)), *six], [], None, None, SIX
    yield "the first of two", 4, IPV4, [*four, toa(*FAST_OPEN)], [], FOUR, FOUR, None
    yield "none", 4, IPV4, [], [], None, None, None
    yield "of another length", 4, IPV4, [(254, bytes(4))], four, None, None, None
    yield "of no length", 4, IPV4, [(254, b"")], [], None, None, None
    yield "behind the end of options", 4, IPV4, [("EOL", None), ("NOP", None), *four], [], None, None, None
    yield "another kind", 4, IPV4, [(253, toa(*FOUR)[1])], [], None, None, None


def show(client, own):
    return f"{client[0]} {client[1]}" if client else own


def check_options(wire, name, family, listener, on_ack, on_data, accepted, peer, looked):
    connection = Connection(wire, DIRECTOR[family], SERVER[family], listener)
    own = DIRECTOR[family] if family == 6 or listener == IPV4 else "::ffff:" + DIRECTOR[family]
    own = f"{own} {connection.local}"
    if on_ack is not None:
        connection.segment("A", on_ack)
        # accept is back before the data comes.
        time.sleep(0.03)
    got = connection.ask(on_data).split()
    expected = " ".join([show(accepted, own), show(peer, own), show(looked, "- -")])
    assert " ".join(got) == expected, f"{name}: expected '{expected}', got '{' '.join(got)}'"
    # Data that comes later changes nothing, whatever it says.
    again = connection.ask([toa("192.0.2.99", 1)]).split()
    assert again == got, f"{name}: first '{got}', then '{again}'"
    connection.end()


def check_option_order(wire):
    """The second segment comes before the first, which comes twice."""
    connection = Connection(wire, DIRECTOR[4], SERVER[4], IPV4)
    connection.segment("A")
    time.sleep(0.03)
    connection.segment("PA", [], b"\n", ahead=1)
    time.sleep(0.03)
    connection.segment("A", [toa(*FOUR)], b"?")
    connection.segment("A", [toa(*FAST_OPEN)], b"?")
    got = connection.answer(2).split()[2:4]
    assert got == [FOUR[0], str(FOUR[1])], f"out of order: {got}"
    connection.end()


def check_strangers(wire):
    for family in (4, 6):
        connection = Connection(wire, STRANGER[family], SERVER[family], BOTH)
        connection.segment("A", [toa(*FOUR)])
        got = connection.ask([toa(*FOUR)]).split()
        own = STRANGER[family] if family == 6 else "::ffff:" + STRANGER[family]
        assert got[0] == got[2] == own, f"a stranger is believed: {got}"
        connection.end()


def options(mac):
    wire = Wire(mac)
    count = 0
    for case in option_cases():
        check_options(wire, *case)
        count += 1
    check_option_order(wire)
    check_strangers(wire)
    # One connection stays, for kit.sh to turn things off and on: it asks by a line of stdin.
    connection = Connection(wire, DIRECTOR[4], SERVER[4], IPV4)
    connection.segment("A", [toa(*FOUR)])
    print(f"{count} cases", flush=True)
    for _ in sys.stdin:
        print(connection.ask().split()[2], flush=True)


def many(mac, count):
    """Unmodified nginx tells each client's address."""
    wire = Wire(mac)
    for n in range(int(count)):
        family = 4 if n % 2 else 6
        client = f"203.0.113.{n + 1}" if n % 4 < 2 or family == 4 else f"2001:db8:77::{n + 1:x}"
        connection = Connection(wire, DIRECTOR[family], SERVER[family], 80)
        option = [toa(client, 1000 + n)]
        if n % 3:
            connection.segment("A", option)
        request = b"GET / HTTP/1.0\r\n\r\n"
        connection.segment("PA", option, request)
        answer = connection.answer(len(request)).split()[-1]
        assert ipaddress.ip_address(answer.removeprefix("::ffff:")) == ipaddress.ip_address(client), f"{client}: nginx says {answer}"
        connection.end()


# A real client behind a real weir.


def seen(connection):
    """What accept, getpeername and getsockopt tell at the other end."""
    connection.sendall(b"?\n")
    words = connection.makefile().readline().replace("::ffff:", "").split()
    return [" ".join(words[n : n + 2]) for n in (0, 2, 4)]


def ask(who, vip, port, count):
    for _ in range(int(count)):
        with socket.create_connection((vip, int(port)), timeout=5) as connection:
            own = told(connection.getsockname())
            accepted, peer, looked = seen(connection)
            assert accepted == peer, f"accept tells {accepted}, getpeername {peer}"
            assert (peer == own) == (who == "client"), f"{own} is seen as {peer}"
            if who == "getsockopt":
                assert looked == own, f"{own} is {looked} by getsockopt"


def stay(vip, port, stop):
    with socket.create_connection((vip, int(port)), timeout=5) as connection:
        own = told(connection.getsockname())
        print("began", flush=True)
        while not os.path.exists(stop):
            accepted, peer, _ = seen(connection)
            assert accepted == peer == own, f"{own} is seen as {accepted} and {peer}"
            time.sleep(0.02)


# Tunnels.

CLIENT = {4: "198.51.100.77", 6: "2001:db8:51::77"}
VIP = {4: "192.0.2.80", 6: "2001:db8:2::80"}
KINDS = ("ipip", "gre", "gue", "gue0")
GUE = 6080


class Tunnels:
    def __init__(self, mac, kit, config):
        self.wire, self.kit, self.config = Wire(mac), kit, config
        self.scapy = self.wire.scapy
        self.port = 30000

    def counted(self):
        lines = subprocess.run([self.kit, "status", self.config], check=True, capture_output=True, text=True).stdout.splitlines()
        return {line.split()[0]: int(line.split()[1]) for line in lines}

    def datagram(self, inner, ecn=0, port=7000, size=20):
        self.port += 1
        fields = {"tc": 0xB8 | ecn, "hlim": 9} if inner == 6 else {"tos": 0xB8 | ecn, "ttl": 9}
        payload = str(self.port).encode().ljust(size, b".")
        return self.wire.ip(CLIENT[inner], VIP[inner], **fields) / self.scapy.UDP(sport=self.port, dport=port) / payload

    def middle(self, kind, inner, port=GUE):
        """What is between the outer IP header and the packet, with the outer protocol."""
        six = inner == 6
        if kind == "ipip":
            return (41 if six else 4), b""
        if kind == "gre":
            return 47, struct.pack("!HH", 0, 0x86DD if six else 0x0800)
        gue = struct.pack("!BBH", 0, 41 if six else 4, 0) if kind == "gue0" else b""
        return 17, (port, gue)

    def wrap(self, kind, outer, inner, packet, ecn=0, source=None, to=None, port=GUE, options=None, middle=None):
        protocol, between = self.middle(kind, inner, port)
        raw = self.scapy.Raw
        if protocol == 17:
            body = self.scapy.UDP(sport=50000, dport=between[0]) / raw((between[1] if middle is None else middle) + bytes(packet))
            if outer == 4:
                body.chksum = 0
        else:
            body = raw((between if middle is None else middle) + bytes(packet))
        fields = {"tc": ecn, "nh": protocol} if outer == 6 else {"tos": ecn, "proto": protocol}
        head = self.wire.ip(source or DIRECTOR[outer], to or SERVER[outer], **fields)
        if options and outer == 4:
            head.options = [self.scapy.IPOption_NOP()] * 4
        if options and outer == 6:
            head.nh = 60
            head = head / self.scapy.IPv6ExtHdrDestOpt(nh=protocol, options=[self.scapy.PadN(optdata=bytes(4))])
        return head / body

    def fragments(self, packet):
        """Two pieces, the second one first."""
        if packet.version == 4:
            pieces = self.scapy.fragment(packet, fragsize=600)
        else:
            head = self.scapy.IPv6(bytes(packet))
            body = bytes(head.payload)
            protocol, head.nh = head.nh, 44
            head.remove_payload()
            head.plen = None
            make = self.scapy.IPv6ExtHdrFragment
            ident = random.randrange(1 << 32)
            pieces = [
                head.copy() / make(nh=protocol, offset=0, m=1, id=ident) / body[:600],
                head.copy() / make(nh=protocol, offset=75, m=0, id=ident) / body[600:],
            ]
        assert len(pieces) == 2
        return pieces[::-1]

    def heard(self, inner, seconds):
        """The server's answer to the last datagram: the TOS that it saw."""
        udp = self.scapy.UDP
        found = self.wire.wait(
            lambda p: udp in p and p[udp].dport == self.port and p.src == VIP[inner] and p.dst == CLIENT[inner], seconds
        )
        return found and int(bytes(found[udp].payload).split()[0])

    def case(self, name, packets, inner, expected, counters):
        """Sends them; the answer's TOS is as expected (None: none comes), and only these counters go up, by one."""
        before = self.counted()
        for packet in packets:
            self.wire.send(packet)
        got = self.heard(inner, 3 if expected is not None else 0.05)
        assert got == expected, f"{name}: expected {expected}, got {got}"
        wanted, rose = {key: 1 for key in counters}, None
        # The process counts after it has written.
        end = time.monotonic() + 1
        while rose != wanted and (rose is None or time.monotonic() < end):
            after = self.counted()
            rose = {key: after[key] - before[key] for key in after if after[key] != before[key]}
        assert rose == wanted, f"{name}: counted {rose}, not {counters}"

    def right(self, kind, outer, inner):
        name = f"IPv{inner} by {kind} over IPv{outer}"
        fast, slow = [f"tunnel_{kind.rstrip('0')}"], ["tunnel_slow", "slow_out"]
        self.case(name, [self.wrap(kind, outer, inner, self.datagram(inner))], inner, 0xB8, fast)
        for outside, inside, mark in ((3, 2, 3), (3, 1, 3), (1, 2, 1), (2, 1, 1), (1, 0, 0), (3, 3, 3)):
            wrapped = self.wrap(kind, outer, inner, self.datagram(inner, inside), ecn=outside)
            self.case(f"{name}, ECN {outside} around {inside}", [wrapped], inner, 0xB8 | mark, fast)
        wrapped = self.wrap(kind, outer, inner, self.datagram(inner), ecn=3)
        self.case(f"{name}, congested", [wrapped], inner, None, ["tunnel_congested"])
        wrapped = self.wrap(kind, outer, inner, self.datagram(inner), options=True)
        self.case(f"{name}, outer options", [wrapped], inner, 0xB8, slow)
        for outside, inside, mark in ((0, 0, 0), (3, 2, 3), (1, 2, 1)):
            pieces = self.fragments(self.wrap(kind, outer, inner, self.datagram(inner, inside, size=900), ecn=outside))
            self.case(f"{name}, fragments, ECN {outside} around {inside}", pieces, inner, 0xB8 | mark, slow)
        pieces = self.fragments(self.wrap(kind, outer, inner, self.datagram(inner, size=900), ecn=3))
        self.case(f"{name}, congested fragments", pieces, inner, None, ["tunnel_slow", "slow_congested"])

    def wrong(self, kind, outer, inner):
        name = f"IPv{inner} by {kind} over IPv{outer}"
        malformed = ["tunnel_malformed"]
        packet = self.datagram(inner)
        quiet = [
            ("of a stranger", self.wrap(kind, outer, inner, packet, source=STRANGER[outer])),
            ("to another address", self.wrap(kind, outer, inner, packet, to={4: "10.0.0.12", 6: "2001:db8:10::12"}[outer])),
        ]
        if outer == 4:
            sum_is_wrong = self.wrap(kind, outer, inner, packet)
            sum_is_wrong.chksum = 0x1234
            quiet.append(("with a wrong checksum outside", sum_is_wrong))
        if kind.startswith("gue"):
            quiet.append(("to another port", self.wrap(kind, outer, inner, packet, port=6081)))
        for what, wrapped in quiet:
            self.case(f"{name} {what}", [wrapped], inner, None, [])
        pieces = self.fragments(self.wrap(kind, outer, inner, self.datagram(inner, size=900), source=STRANGER[outer]))
        self.case(f"{name}, fragments of a stranger", pieces, inner, None, [])

        version = bytes(packet)
        version = bytes([0x55]) + version[1:]
        broken = [("version 5 inside", self.wrap(kind, outer, inner, version)), ("cut off", self.wrap(kind, outer, inner, bytes(packet)[:19]))]
        if kind != "gue":
            broken.append(("the other family's number", self.wrap(kind, outer, 10 - inner, packet)))
            pieces = self.fragments(self.wrap(kind, outer, 10 - inner, self.datagram(inner, size=900)))
            self.case(f"{name}: the other family's number, fragments", pieces, inner, None, ["tunnel_slow", "slow_malformed"])
        if kind == "gre":
            number = struct.pack("!H", 0x86DD if inner == 6 else 0x0800)
            broken += [
                ("a key", self.wrap(kind, outer, inner, packet, middle=b"\x20\0" + number + bytes(4))),
                ("version 1", self.wrap(kind, outer, inner, packet, middle=b"\0\1" + number)),
                ("another protocol", self.wrap(kind, outer, inner, packet, middle=b"\0\0\x65\x58")),
            ]
        if kind == "gue0":
            number = bytes([41 if inner == 6 else 4])
            for what, middle in (
                ("a control message", b"\x20" + number + b"\0\0"),
                ("fields", b"\1" + number + bytes(6)),
                ("flags", b"\0" + number + b"\x80\0"),
                ("another protocol", b"\0\x2f\0\0"),
                ("version 2", b"\x80" + number + b"\0\0"),
            ):
                broken.append((what, self.wrap(kind, outer, inner, packet, middle=middle)))
        for what, wrapped in broken:
            self.case(f"{name}: {what}", [wrapped], inner, None, malformed)
        if kind != "ipip":
            nothing = self.wrap(kind, outer, inner, b"", middle=b"")
            self.case(f"{name}: nothing inside", [nothing], inner, None, malformed)

    def elsewhere(self):
        """What comes by a device that the file does not have is not taken out, neither at once nor by the process."""
        for kind in KINDS:
            for outer in (4, 6):
                for inner in (4, 6):
                    name = f"IPv{inner} by {kind} over IPv{outer} by another device"
                    self.case(name, [self.wrap(kind, outer, inner, self.datagram(inner))], inner, None, [])
                    wrapped = self.wrap(kind, outer, inner, self.datagram(inner), options=True)
                    self.case(f"{name}, outer options", [wrapped], inner, None, [])
                    pieces = self.fragments(self.wrap(kind, outer, inner, self.datagram(inner, size=900)))
                    self.case(f"{name}, fragments", pieces, inner, None, [])

    def noise(self, seed, count):
        """Wrapped packets with bytes of chance in them, whole and in fragments: nothing of it ends the kit."""
        dice = random.Random(seed)
        for _ in range(count):
            kind, outer, inner = dice.choice(KINDS), dice.choice((4, 6)), dice.choice((4, 6))
            cut = dice.random() < 0.3
            inside = bytearray(bytes(self.datagram(inner, size=900 if cut else dice.randrange(60))))
            for _ in range(dice.randrange(4)):
                inside[dice.randrange(min(60, len(inside)))] = dice.randrange(256)
            if dice.random() < 0.2:
                inside = inside[: dice.randrange(len(inside))]
            middle = dice.randbytes(dice.randrange(9)) if dice.random() < 0.3 else None
            wrapped = self.wrap(kind, outer, inner, bytes(inside), ecn=dice.randrange(4), options=dice.random() < 0.3, middle=middle)
            long = len(bytes(wrapped)) > 700
            for packet in self.fragments(wrapped) if cut and long else [wrapped]:
                self.wire.send(packet)
        # What came of it has been answered, or not, when the next case begins.
        time.sleep(0.3)

    def errors(self, inner):
        """The kernel speaks to the client itself: a closed port, and a ping."""
        packet = self.datagram(inner, port=7001)
        self.wire.send(self.wrap("ipip", 4, inner, packet))
        error = self.scapy.ICMPv6DestUnreach if inner == 6 else self.scapy.ICMP
        heard = self.wire.wait(lambda p: p.dst == CLIENT[inner] and error in p and p[error].type == (1 if inner == 6 else 3), 3)
        assert heard, f"no port unreachable over IPv{inner}"
        ping = self.scapy.ICMPv6EchoRequest(id=9) if inner == 6 else self.scapy.ICMP(id=9)
        reply = self.scapy.ICMPv6EchoReply if inner == 6 else self.scapy.ICMP
        self.wire.send(self.wrap("gre", 6, inner, self.wire.ip(CLIENT[inner], VIP[inner]) / ping))
        heard = self.wire.wait(lambda p: p.dst == CLIENT[inner] and p.src == VIP[inner] and reply in p and p[reply].id == 9, 3)
        assert heard, f"no echo reply over IPv{inner}"

    def run(self):
        cases = 0
        for kind in KINDS:
            for outer in (4, 6):
                for inner in (4, 6):
                    self.right(kind, outer, inner)
                    self.wrong(kind, outer, inner)
                    cases += 1
        for inner in (4, 6):
            self.errors(inner)
        self.noise(7, 1500)
        for kind in KINDS:
            self.right(kind, 4, 6)
        print(f"{cases} tunnels")


if __name__ == "__main__":
    commands = {
        "serve": serve,
        "toa": options,
        "toa-many": many,
        "tunnel": lambda *a: Tunnels(*a).run(),
        "elsewhere": lambda *a: Tunnels(*a).elsewhere(),
        "ask": ask,
        "stay": stay,
    }
    commands[sys.argv[1]](*sys.argv[2:])
    sys.stdout.flush()
    # Threads and scapy's sockets do not matter any more.
    os._exit(0)
