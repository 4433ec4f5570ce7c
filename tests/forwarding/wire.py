"""Captures and checksums, written from the RFCs rather than taken from weir or scapy: what checks must not share its faults."""

import struct
from dataclasses import dataclass

TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
EXTENSIONS = {0, 43, 44, 60}  # hop-by-hop options, routing, fragment, destination options


def internet_sum(data):
    """RFC 1071: the one's complement sum of 16-bit words, an odd last byte padded with zero."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data):
    return ~internet_sum(data) & 0xFFFF


def crc32c(data):
    """RFC 9260 appendix A, bit by bit; as the header has it: lowest byte first."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.unpack(">I", struct.pack("<I", crc ^ 0xFFFFFFFF))[0]


def single_homed(packet, sender):
    """An SCTP packet whose INIT or INIT ACK tells no address but `sender` (RFC 9260 3.3.2.1): others are padding (RFC 4820)."""
    packet, at = bytearray(packet), 32
    if packet[12] not in (1, 2):
        return bytes(packet)
    while at + 4 <= len(packet):
        kind, length = struct.unpack_from("!HH", packet, at)
        if kind in (5, 6) and packet[at + 4 : at + length] != sender:
            packet[at : at + length] = struct.pack("!HH", 0x8005, length) + bytes(length - 4)
        at += (length + 3) & ~3
    return bytes(packet)


@dataclass
class Piece:
    """What part of its datagram a fragment is."""

    id: int
    offset: int
    more: bool
    next_header: int


class Ipv4:
    """The parts of a well-formed IPv4 packet; `field` and `right` are its layer-4 checksum as it is, and as it should be."""

    def __init__(self, frame):
        self.ethernet = frame[:14]
        assert frame[12:14] == b"\x08\x00" and frame[14] >> 4 == 4, "not IPv4"
        length = struct.unpack("!H", frame[16:18])[0]
        assert 14 + length <= len(frame), "the frame ends before its packet"
        self.packet = frame[14 : 14 + length]
        self.trailer = frame[14 + length :]
        self.header = self.packet[: (self.packet[0] & 15) * 4]
        self.payload = self.packet[len(self.header) :]
        self.ttl, self.protocol = self.packet[8], self.packet[9]
        self.src, self.dst = self.packet[12:16], self.packet[16:20]
        id, flags = struct.unpack("!HH", self.packet[4:8])
        self.piece = Piece(id, (flags & 0x1FFF) * 8, bool(flags & 0x2000), self.protocol) if flags & 0x3FFF else None
        self.data = self.payload  # of a fragment: what belongs at its offset
        self.place = {TCP: 16, UDP: 6, ICMP: 2, SCTP: 8}.get(self.protocol)

    # Where in the packet its addresses are, its TTL, and the checksum of its header.
    addresses, ttl_at, own_checksum = slice(12, 20), 8, slice(10, 12)

    @property
    def size(self):
        """Bytes of the layer-4 checksum."""
        return 4 if self.protocol == SCTP else 2

    @property
    def field(self):
        return struct.unpack_from("!I" if self.protocol == SCTP else "!H", self.payload, self.place)[0]

    @property
    def right(self):
        if self.protocol == SCTP:
            return crc32c(self.payload[:8] + bytes(4) + self.payload[12:])
        blank = self.payload[: self.place] + b"\0\0" + self.payload[self.place + 2 :]
        if self.protocol == ICMP:
            return checksum(blank)
        pseudo = self.src + self.dst + struct.pack("!HH", self.protocol, len(self.payload))
        value = checksum(pseudo + blank)
        return value or 0xFFFF if self.protocol == UDP else value  # RFC 768: a computed 0 is sent as 0xffff

    @property
    def error(self):
        """How far off the layer-4 checksum is; an IPv4 UDP checksum of 0 says nothing and is never off."""
        if self.protocol == UDP and self.field == 0:
            return 0
        if self.protocol == SCTP:
            return self.field ^ self.right
        return (self.field - self.right) % 0xFFFF

    def says_nothing(self):
        return self.protocol == UDP and self.field == 0

    def traffic_class(self):
        return self.packet[1]

    def fragment_id(self):
        """What an atomic fragment's identification is in IPv4: of an IPv4 packet, none."""
        return None

    def header_is_right(self):
        return checksum(self.header[:10] + b"\0\0" + self.header[12:]) == struct.unpack_from("!H", self.header, 10)[0]


class Ipv6(Ipv4):
    """The same of an IPv6 packet; extension headers are part of its header."""

    addresses, ttl_at, own_checksum = slice(8, 40), 7, slice(0, 0)

    def __init__(self, frame):
        self.ethernet = frame[:14]
        assert frame[12:14] == b"\x86\xdd" and frame[14] >> 4 == 6, "not IPv6"
        length = 40 + struct.unpack("!H", frame[18:20])[0]
        assert 14 + length <= len(frame), "the frame ends before its packet"
        self.packet = frame[14 : 14 + length]
        self.trailer = frame[14 + length :]
        self.protocol, self.ttl = self.packet[6], self.packet[7]
        at, self.fragment, self.piece, start = 40, None, None, 40
        while self.protocol in EXTENSIONS and not (self.piece and self.piece.offset):
            if self.protocol == 44:
                self.fragment, start = self.packet[at + 6 : at + 8], at + 8
                place, id = struct.unpack("!HI", self.packet[at + 2 : at + 8])
                self.piece = Piece(id, place & ~7, bool(place & 1), self.packet[at]) if place & ~6 else None
            self.protocol, size = self.packet[at], 8 if self.protocol == 44 else 8 + self.packet[at + 1] * 8
            at += size
        self.header, self.payload, self.data = self.packet[:at], self.packet[at:], self.packet[start:]
        self.src, self.dst = self.packet[8:24], self.packet[24:40]
        self.place = {TCP: 16, UDP: 6, ICMPV6: 2, SCTP: 8}.get(self.protocol)

    @property
    def right(self):
        """RFC 8200 8.1."""
        if self.protocol == SCTP:
            return super().right
        blank = self.payload[: self.place] + b"\0\0" + self.payload[self.place + 2 :]
        value = checksum(self.src + self.dst + struct.pack("!II", len(self.payload), self.protocol) + blank)
        return value or 0xFFFF if self.protocol == UDP else value

    @property
    def error(self):
        return self.field ^ self.right if self.protocol == SCTP else (self.field - self.right) % 0xFFFF

    def says_nothing(self):
        return False

    def traffic_class(self):
        return (self.packet[0] & 15) << 4 | self.packet[1] >> 4

    def fragment_id(self):
        return self.fragment

    def header_is_right(self):
        return True


def ip_of(frame):
    return Ipv6(frame) if frame[12:14] == b"\x86\xdd" else Ipv4(frame)


def write_pcap(path, frames):
    """`frames`: (microseconds, bytes)."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for time, data in frames:
            file.write(struct.pack("<IIII", *divmod(time, 1_000_000), len(data), len(data)) + data)


def read_pcap(path):
    with open(path, "rb") as file:
        data = file.read()
    magic, linktype = struct.unpack_from("<I16xI", data)
    assert magic == 0xA1B2C3D4 and linktype == 1, "a little-endian Ethernet capture in microseconds"
    frames, at = [], 24
    while at < len(data):
        seconds, micros, length, whole = struct.unpack_from("<IIII", data, at)
        assert length == whole, "a frame written in part"
        frames.append((seconds * 1_000_000 + micros, data[at + 16 : at + 16 + length]))
        at += 16 + length
    return frames
