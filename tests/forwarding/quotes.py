"""ICMP errors about packets that weir has sent on."""

import struct

import lab
import lab6
from lab import Host, Sent
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from wire import Ipv4, Ipv6, checksum, ip_of

# Type and code of each error, by family.
UNREACHABLE = {lab: (3, 1), lab6: (1, 3)}
PORT = {lab: (3, 3), lab6: (1, 4)}
PROHIBITED = {lab: (3, 13), lab6: (1, 1)}
TOO_BIG = {lab: (3, 4), lab6: (2, 0)}
EXCEEDED = {lab: (11, 0), lab6: (3, 0)}
REASSEMBLY = {lab: (11, 1), lab6: (3, 1)}
PARAMETER = {lab: (12, 0), lab6: (4, 0)}
KINDS = {"unreachable": UNREACHABLE, "port": PORT, "prohibited": PROHIBITED, "too_big": TOO_BIG, "exceeded": EXCEEDED, "reassembly": REASSEMBLY, "parameter": PARAMETER}


def family_of(packet):
    return lab6 if packet[0] >> 4 == 6 else lab


def error(sender, to, kind, quote, rest=0, extensions=b"", chksum=None, options=(), **fields):
    """An ICMP error, of the family of what it quotes; `extensions` follow by RFC 4884, with the length of the quote in its place."""
    family = family_of(quote)
    kind, code = kind[family] if isinstance(kind, dict) else kind
    if extensions:
        unit, shift = (8, 24) if family is lab6 else (4, 16)
        quote += bytes(max(128, -(-len(quote) // unit) * unit) - len(quote))
        rest |= len(quote) // unit << shift
    message = struct.pack("!BBHI", kind, code, 0, rest) + quote + extensions
    if family is lab6:
        layer = IPv6(src=sender.ip, dst=lab.address(to), nh=58, **{"hlim": 64, **fields})
        pseudo = bytes(layer)[8:40] + struct.pack("!II", len(message), 58)
    else:
        layer = IP(src=sender.ip, dst=lab.address(to), proto=1, **{"ttl": 64, "id": 0x4321, **fields}, options=list(options))
        pseudo = b""
    value = checksum(pseudo + message) if chksum is None else chksum
    return Sent(sender, layer / Raw(message[:2] + struct.pack("!H", value) + message[4:]))


def about(step, kind, sender, more=8, **fields):
    """An error about the frame that weir sent for `step`, which quotes its IP headers and `more` bytes (None: all)."""

    def make(results):
        packet = ip_of(results.forwarded(step))
        size = len(packet.packet) if more is None else len(packet.header) + more
        source = ".".join(map(str, packet.src)) if len(packet.src) == 4 else _text(packet.src)
        return error(sender, fields.pop("to", source), kind, packet.packet[:size], **fields)

    make.needs = make.about = step
    make.more = more
    return make


def _text(address):
    import ipaddress

    return str(ipaddress.IPv6Address(address))


def parts(packet):
    """An ICMP error's type and code, second word, and what it quotes: the packet, and the extensions behind it (RFC 4884)."""
    message = packet.payload
    kind, code = message[0], message[1]
    six = len(packet.src) == 16
    words = message[4] * 8 if six and kind in (1, 3) else message[5] * 4 if not six and kind in (3, 11, 12) else 0
    quote = message[8:]
    return (kind, code), message[4:8], quote[:words] if words else quote, quote[words:] if words else b""


class Quoted:
    """The headers of a quoted packet, of which only the beginning is there."""

    def __init__(self, packet):
        view = Ipv6 if packet[0] >> 4 == 6 else Ipv4
        length = 40 + struct.unpack_from("!H", packet, 4)[0] if view is Ipv6 else struct.unpack_from("!H", packet, 2)[0]
        whole = view(bytes(12) + (b"\x86\xdd" if view is Ipv6 else b"\x08\0") + packet + bytes(max(0, length - len(packet))))
        self.src, self.dst, self.protocol, self.ttl = whole.src, whole.dst, whole.protocol, whole.ttl
        self.header, self.length = whole.header, length
        self.l4 = packet[len(whole.header) :]
        self.traffic_class = whole.traffic_class()
        self.is_header_right = whole.header_is_right()


# RFC 7915 4.2 and 5.2: type and code in the other family.
TO_SIX = {(3, 0): (1, 0), (3, 1): (1, 0), (3, 2): (4, 1), (3, 3): (1, 4), (3, 4): (2, 0), (3, 13): (1, 1), (11, 0): (3, 0), (11, 1): (3, 1), (12, 0): (4, 0)}
TO_FOUR = {(1, 0): (3, 1), (1, 1): (3, 10), (1, 2): (3, 1), (1, 3): (3, 1), (1, 4): (3, 3), (2, 0): (3, 4), (3, 0): (11, 0), (3, 1): (11, 1), (4, 0): (12, 0), (4, 1): (3, 2)}


def is_error(packet):
    return (packet.protocol, packet.payload[0] in (3, 4, 5, 11, 12)) == (1, True) or packet.protocol == 58 and packet.payload[0] < 128


def check(before, after, original, more, vip, request, mode, where):
    """What weir made of the error `before`, about a packet that it had received as `original` and sent on: the RFCs' word for it.
    `more`: so many bytes are quoted behind the IP headers, if not all."""
    crosses = len(before.src) != len(after.src)
    assert after.traffic_class() == before.traffic_class(), where
    # It goes to the one who had sent the packet.
    assert after.dst == original.src, f"{where}: to {after.dst.hex()}"
    if not request:
        assert after.src == vip, f"{where}: to a client it comes from the VIP, not from {after.src.hex()}"
    elif mode == "nat":
        assert after.src == before.src, f"{where}: the router's address stays"
    else:
        assert after.src == original.dst, f"{where}: to a fullnat real server it comes from the local address"
    (kind, rest, quote, extensions), (was, had, quoted, extended) = parts(after), parts(before)
    if crosses:
        assert kind == (TO_SIX if len(after.src) == 16 else TO_FOUR)[was], f"{where}: {was} became {kind}"
        assert len(after.packet) <= (1280 if len(after.src) == 16 else 576), where
    else:
        assert (kind, rest) == (was, had), f"{where}: {was} {had} became {kind} {rest}"
        assert len(after.packet) == len(before.packet), where
    assert extensions == extended, f"{where}: the extensions stay"
    now, then = Quoted(quote), Quoted(quoted)
    assert (now.src, now.dst) == (original.src, original.dst), f"{where}: it quotes the packet that was received"
    assert now.length == len(original.packet), where
    assert now.ttl == then.ttl and now.traffic_class == then.traffic_class and now.protocol == original.protocol, where
    assert now.is_header_right, f"{where}: the quoted header's checksum"
    size = min(len(now.l4), len(then.l4), len(original.payload), more or 1 << 16)
    assert now.l4[:size] == original.payload[:size], f"{where}: {now.l4[:size].hex()} is not what was received: {original.payload[:size].hex()}"
    if not crosses:
        assert size == min(more or len(then.l4), len(original.payload)), where
        same = bytearray(now.header)
        was = original.header
        same[original.ttl_at] = was[original.ttl_at]
        same[original.own_checksum] = was[original.own_checksum]
        assert bytes(same) == was, f"{where}: the quoted header"
