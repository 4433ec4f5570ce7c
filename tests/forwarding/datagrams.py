"""Datagrams in fragments: cut, and put together again, by RFC 791 and RFC 8200 rather than by weir or scapy."""

import struct

from wire import Ipv4, Ipv6, checksum, ip_of

COPIED = 0x80  # RFC 791 3.1: an option with this bit is in every fragment


def options_of_all(options):
    """The options of an IPv4 header that fragments other than the first have."""
    kept, at = b"", 0
    while at < len(options) and options[at] != 0:
        length = 1 if options[at] == 1 else options[at + 1]
        kept += options[at : at + length] if options[at] & COPIED else b""
        at += length
    return kept.ljust(-(-len(kept) // 4) * 4, b"\0")


def fragment(packet, offset, data, more, id=0x77):
    """One fragment of a packet: `data` belongs at `offset` of what follows the header."""
    if packet[0] >> 4 == 6:
        header = struct.pack("!4sHBB", packet[:4], 8 + len(data), 44, packet[7]) + packet[8:40]
        return header + struct.pack("!BBHI", packet[6], 0, offset | more, id) + data
    size = (packet[0] & 15) * 4
    options = packet[20:size] if offset == 0 else options_of_all(packet[20:size])
    flags = struct.unpack_from("!H", packet, 6)[0] & 0xC000 | (0x2000 if more else 0) | offset // 8
    header = bytes([0x40 | (20 + len(options)) // 4, packet[1]]) + struct.pack("!HHH", 20 + len(options) + len(data), id, flags)
    header += packet[8:10] + b"\0\0" + packet[12:20] + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + data


def parts_of(packet, size, id=0x77):
    """A packet cut so that each fragment has at most `size` bytes of data (all but the last, a multiple of 8)."""
    start = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
    payload, size = packet[start:], size // 8 * 8
    cuts = range(0, len(payload), size)
    return [fragment(packet, at, payload[at : at + size], at + size < len(payload), id) for at in cuts]


def framed(packet, sender, port_mac):
    """The frame of a packet."""
    to, by = (bytes.fromhex(mac.replace(":", "")) for mac in (port_mac, sender.mac))
    return to + by + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00") + packet


def packet_of(sent):
    return bytes(sent.layer)


def fragments(sent, size=None, id=0x77, port_mac=None, order=None):
    """The frames of a packet's fragments, in an order; of 1,500 bytes, unless another size is given."""
    from lab import WAN

    size = size or (1448 if packet_of(sent)[0] >> 4 == 6 else 1480)
    parts = [framed(part, sent.sender, port_mac or WAN.mac) for part in parts_of(packet_of(sent), size, id)]
    return [parts[n] for n in order(len(parts))] if order else parts


def is_first(frame):
    piece = ip_of(frame).piece
    return piece is not None and piece.offset == 0


class Whole:
    """A datagram put together: its addresses, protocol, and what follows its headers, as the views of wire.py have them."""

    def __init__(self, parts):
        first = ip_of(parts[0])
        self.src, self.dst, self.id = first.src, first.dst, first.piece.id
        data, at = b"", 0
        for frame in parts:
            part = ip_of(frame)
            assert part.piece.offset == at, f"a gap or an overlap at {at}: {part.piece}"
            data, at = data + part.data, at + len(part.data)
            assert part.piece.more == (frame is not parts[-1]), f"more: {part.piece}"
        if len(first.src) == 16:
            header = first.packet[:4] + struct.pack("!HBB", len(data), first.piece.next_header, first.ttl) + first.src + first.dst
            self.packet = header + data
            self.view = Ipv6(parts[0][:14] + self.packet)
        else:
            size = len(first.header)
            header = first.header[:2] + struct.pack("!HHH", (size + len(data)) & 0xFFFF, first.piece.id, 0) + first.header[8:10]
            self.packet = header + b"\0\0" + first.header[12:] + data
            self.view = Ipv4(parts[0][:14] + self.packet) if size + len(data) <= 65535 else None


def together(frames):
    """The datagrams that these fragments make, whatever order they are in. Exact duplicates are one."""
    groups = {}
    for frame in frames:
        part = ip_of(frame)
        if part.piece is None:
            continue
        key = (part.src, part.dst, part.piece.id, part.protocol if len(part.src) == 4 else None)
        groups.setdefault(key, {})[part.piece.offset, part.piece.more, part.data] = frame
    for key, group in groups.items():
        yield Whole([group[place] for place in sorted(group)])
