"""What `[[snat]]` makes of a packet: another source on the way out, another destination on the way back, and nothing else."""

import ipaddress
import struct

import quotes
from wire import ICMP, ICMPV6, TCP, UDP


def pool_of(case):
    """The addresses and ports of the pool that the case's rules use."""
    addresses, ports = case.config.pool["outside"]
    return [ipaddress.ip_address(address).packed for address in addresses], ports


def check(case, results, line, before, after, packet, where):
    goes_out = line["port"] == "lan"
    pool, (first, last) = pool_of(case)
    assert after.header_is_right(), f"{where}: IPv4 header checksum"
    assert after.ttl == before.ttl - 1, f"{where}: TTL {before.ttl} became {after.ttl}"
    if quotes.is_error(before) and not before.piece:
        return error(results, before, after, packet, where)
    other, own = ((before.dst, after.dst), after.src) if goes_out else ((before.src, after.src), before.dst)
    assert other[0] == other[1], f"{where}: the other end's address stays"
    assert own in pool, f"{where}: {ipaddress.ip_address(own)} is none of the pool"
    if case.gathers and len(before.packet) != len(after.packet):
        return
    same = bytearray(before.packet)
    same[before.ttl_at], same[before.own_checksum] = after.packet[before.ttl_at], after.packet[before.own_checksum]
    same[before.addresses] = after.packet[before.addresses]
    start = len(before.header)
    if not (before.piece and before.piece.offset):
        # The port of the inside, or the identifier; and the checksum.
        at = 4 if before.protocol in (ICMP, ICMPV6) else 0 if goes_out else 2
        number = struct.unpack_from("!H", (after if goes_out else before).payload, at)[0]
        assert first <= number <= last, f"{where}: {number} is no port of the pool"
        place = {TCP: 16, UDP: 6}.get(before.protocol, 2)
        for field in (at, place):
            same[start + field : start + field + 2] = after.packet[start + field : start + field + 2]
    assert bytes(same) == after.packet, f"{where}: more was rewritten than source or destination"
    if before.piece:
        return
    if before.says_nothing():
        assert after.field == 0, f"{where}: a UDP checksum of 0 stays 0"
    elif before.error == 0:
        assert after.field == after.right, f"{where}: checksum {after.field:#06x} instead of {after.right:#06x}"
    else:
        assert after.error == before.error, f"{where}: a wrong checksum stays wrong by as much"


def error(results, before, after, packet, where):
    """To the inside it keeps its sender's address, to the outside it comes from the pool."""
    assert after.error == 0, where
    about = getattr(packet, "about", None)
    if about is None:
        return
    from wire import ip_of

    original = ip_of(results.frames[about][2])
    mode = "nat" if results.frames[about][0] == "lan" else "fullnat"
    quotes.check(before, after, original, packet.more, None, True, mode, where)
