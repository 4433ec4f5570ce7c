"""What the modes tunnel and l3dsr make of a packet, taken apart by scapy and held against the RFCs."""

import ipaddress
import struct
import tomllib

import scapy.layers.inet6  # noqa: F401: so that IPv6 is known inside others
from lab import Ether
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE
from wire import Ipv4, Ipv6, checksum, ip_of

MODES = ("tunnel", "l3dsr")
PROTOCOLS = {"ipip": {4: 4, 6: 41}, "gre": {4: 47, 6: 47}, "gue": {4: 17, 6: 17}}
IP_NUMBERS = {4: 4, 6: 41}


def keys_of(service):
    return tomllib.loads(service.text)["service"][0]


def overhead(keys, outer):
    """Bytes before the packet inside."""
    between = {"ipip": 0, "gre": 4, "gue": 8 + 4 * (keys.get("gue_variant", 1) == 0)}[keys.get("tunnel", "ipip")]
    return {4: 20, 6: 40}[outer] + between


def view(packet):
    """The parts of an IP packet."""
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0"
    return ip_of(bytes(12) + kind + packet)


def inside(frame, keys):
    """The packet that a real server takes out of the frame, by scapy's word for what is around it."""
    outer = Ether(frame).payload
    assert isinstance(outer, (IP, IPv6)), f"not IP: {outer!r}"
    kind = keys.get("tunnel", "ipip")
    if kind == "ipip":
        found = outer.payload
        assert isinstance(found, (IP, IPv6)), f"no packet in a packet: {outer!r}"
        return bytes(found.original)
    if kind == "gre":
        assert GRE in outer, f"no GRE: {outer!r}"
        gre = outer[GRE]
        flags = (gre.chksum_present, gre.routing_present, gre.key_present, gre.seqnum_present, gre.version)
        assert not any(flags), f"GRE without options (RFC 2784): {gre!r}"
        found = gre.payload
        assert gre.proto == {IP: 0x0800, IPv6: 0x86DD}[type(found)], f"the protocol of what is inside: {gre!r}"
        return bytes(found.original)
    assert UDP in outer and outer[UDP].dport == keys.get("gue_port", 6080), f"no GUE: {outer!r}"
    data = bytes(outer[UDP].payload.original if hasattr(outer[UDP].payload, "original") else outer[UDP].payload)
    if keys.get("gue_variant", 1) == 1:
        return data
    number = IP_NUMBERS[data[4] >> 4]
    assert data[:4] == bytes([0, number, 0, 0]), f"the header of variant 0: {data[:4].hex()}"
    return data[4:]


def udp_checksum(outer, keys, where):
    """RFC 768, RFC 6935: none over IPv4, the right one over IPv6, unless both ends were told to leave it out."""
    six = len(outer.src) == 16
    if not six or keys.get("gue_zero_checksum"):
        assert outer.field == 0, f"{where}: an outer UDP checksum of {outer.field:#06x}"
    else:
        assert outer.field == outer.right != 0, f"{where}: an outer UDP checksum of {outer.field:#06x} instead of {outer.right:#06x}"


def as_sent(before):
    """The packet as it goes on: with one less of TTL."""
    packet = bytearray(before.packet)
    packet[before.ttl_at] -= 1
    if isinstance(before, Ipv4) and not isinstance(before, Ipv6):
        header = packet[: len(before.header)]
        header[10:12] = b"\0\0"
        packet[10:12] = struct.pack("!H", checksum(bytes(header)))
    return bytes(packet)


def sources(case, six):
    """weir's own addresses of a family, on its ports."""
    found = tomllib.loads(case.config.text)["port"]
    addresses = [ipaddress.ip_interface(each).ip for port in found for each in port["addresses"]]
    return [address.packed for address in addresses if (address.version == 6) == six]


def check(case, line, frame, sent, where):
    service = case.config.services[line["service"]]
    assert line["mode"] == service.mode, where
    before, after, keys = ip_of(frame), ip_of(sent), keys_of(service)
    assert after.header_is_right(), f"{where}: IPv4 header checksum"
    real = ipaddress.ip_address(line["real"].rsplit(":", 1)[0].strip("[]"))
    assert after.dst == real.packed, f"{where}: to {after.dst.hex()}"
    if service.mode == "l3dsr":
        return marked(before, after, keys, where)
    assert after.trailer == b"", f"{where}: {after.trailer} after the packet"
    packet = reassembled(case, sent) if is_piece(after) else after
    if keys.get("tunnel") == "gue" and not is_piece(after):
        udp_checksum(after, keys, where)
    found = inside(packet_frame(packet), keys)
    assert found == as_sent(before), f"{where}: inside is {found.hex()} instead of {as_sent(before).hex()}"
    inner, outer = (6 if len(each.src) == 16 else 4 for each in (before, after))
    assert packet.protocol == PROTOCOLS[keys.get("tunnel", "ipip")][inner], f"{where}: protocol {packet.protocol}"
    expected = keys.get("tunnel_source")
    known = [ipaddress.ip_address(expected).packed] if expected else sources(case, outer == 6)
    assert after.src in known, f"{where}: from {after.src.hex()}"
    assert after.ttl == 64, f"{where}: outer TTL {after.ttl}"
    # RFC 6040 4.1, normal mode: ECN is copied, as is the DSCP.
    assert after.traffic_class() == before.traffic_class(), f"{where}: outer TOS {after.traffic_class():#x}"
    if outer == 4 and not is_piece(after):
        df = bool(before.packet[6] & 0x40) if inner == 4 else True
        assert bool(after.packet[6] & 0x40) == df, f"{where}: outer DF"
        assert after.header[6:8] == bytes([0x40 if df else 0, 0]), f"{where}: a whole packet"
    if keys.get("tunnel") == "gue" and not is_piece(after):
        sport = struct.unpack_from("!H", after.payload)[0]
        assert 49152 <= sport, f"{where}: outer source port {sport}"


def is_piece(packet):
    if len(packet.src) == 16:
        return packet.fragment is not None
    return bool(struct.unpack_from("!H", packet.packet, 6)[0] & 0x3FFF)


def packet_frame(packet):
    return bytes(12) + (b"\x86\xdd" if len(packet.src) == 16 else b"\x08\0") + packet.packet


def pieces_of(frames):
    """The fragments of one datagram, by offset: (offset, more, data, header without the fragment's own fields)."""
    found = {}
    for frame in frames:
        outer = Ether(frame).payload
        if isinstance(outer, IPv6):
            part = outer[IPv6ExtHdrFragment]
            found[part.offset * 8] = (bool(part.m), frame[14 + 48 :], part.id, part.nh)
        else:
            found[outer.frag * 8] = ("MF" in str(outer.flags), frame[14 + 20 : 14 + outer.len], outer.id, outer.proto)
    return dict(sorted(found.items()))


def reassembled(case, last):
    """The outer packet of which `last` is the last fragment; the others are the case's."""
    number = lambda frame: next(iter(pieces_of([frame]).values()))[2]  # noqa: E731
    frames = [frame for _, frame in case.parts if number(frame) == number(last)] + [last]
    pieces, whole = pieces_of(frames), b""
    for offset, (more, data, _, _) in pieces.items():
        assert offset == len(whole), f"a hole at {len(whole)}: {list(pieces)}"
        assert more == (offset != max(pieces)) and (not more or len(data) % 8 == 0), list(pieces)
        whole += data
    protocol = pieces[0][3]
    if len(ip_of(last).src) == 16:
        header = bytearray(last[14:54])
        header[4:6], header[6] = struct.pack("!H", len(whole)), protocol
        return view(bytes(header) + whole)
    header = bytearray(last[14:34])
    header[2:4], header[6:8], header[10:12] = struct.pack("!H", 20 + len(whole)), b"\0\0", b"\0\0"
    header[10:12] = struct.pack("!H", checksum(bytes(header)))
    return view(bytes(header) + whole)


def marked(before, after, keys, where):
    """l3dsr: the real server's address, the DSCP, one less of TTL; the checksums follow."""
    assert after.ttl == before.ttl - 1 and after.src == before.src, where
    assert after.traffic_class() == keys["dscp"] << 2 | before.traffic_class() & 3, f"{where}: TOS {after.traffic_class():#x}"
    same = bytearray(before.packet)
    for place in (slice(0, 2), after.addresses, after.own_checksum, slice(after.ttl_at, after.ttl_at + 1)):
        same[place] = after.packet[place]
    if before.place is not None:
        place = slice(len(before.header) + before.place, len(before.header) + before.place + 2)
        same[place] = after.packet[place]
    assert bytes(same) == after.packet, f"{where}: more was rewritten than the mode does"
    if before.says_nothing():
        assert after.field == 0, f"{where}: a UDP checksum of 0 stays 0"
    elif before.error == 0:
        assert after.field == after.right, f"{where}: checksum {after.field:#06x} instead of {after.right:#06x}"
    else:
        assert after.error == before.error, f"{where}: a wrong checksum stays wrong by as much"
