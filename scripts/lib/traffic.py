"""What scripts/bench sends: frames, which flows they are of and how long, and the captures that net_pcap plays."""

import itertools
import random
import socket
import struct
from dataclasses import dataclass

# net_pcap's own addresses, by its number, to which the frames are sent.
PORT_MACS = [bytes.fromhex("027063617000"), bytes.fromhex("027063617001")]
CLIENT_MAC = bytes.fromhex("020000000001")
VIP = "192.0.2.53"
VIP6 = "2001:db8:2::53"
SERVICE_PORT = 53
FCS = 4
# On the wire, in bytes, of which the last 4 are the FCS.
SHORTEST = 64
# The simple IMIX: how often each length comes.
IMIX = {64: 7, 570: 4, 1518: 1}
# The least frames in a capture: more than a burst, so that one flow and many differ in flows only.
LEAST_FRAMES = 1024
SYN, ACK = 0x02, 0x10


@dataclass(frozen=True)
class Load:
    """One kind of traffic: every program of it forwards the same, but for the parts of "mixed"."""

    flows: int
    # Of every frame of IPv4; none for IMIX. One of IPv6 with the same payload is 20 bytes longer.
    length: int | None = SHORTEST
    # "even": every flow as often as any other. "zipf": by its rank. "mixed": half of the flows TCP, in random order. "families": of
    # IPv4 and, in another capture, of IPv6.
    kind: str = "even"
    # The most packets that are taken from the receive queue at once; none: the programs' own.
    burst: int | None = None

    @property
    def is_plain(self):
        return self == Load(self.flows)

    @property
    def words(self):
        """What the traffic is, for the table."""
        if self.kind == "zipf":
            return "udp, Zipf"
        if self.kind == "families":
            return family_words(4)
        return f"udp, polls of {self.burst}" if self.burst else "udp"

    @property
    def bytes(self):
        if self.kind == "families":
            return f"{self.length}, {self.length + 20}"
        return "IMIX" if self.length is None else str(self.length)

    @property
    def frames(self):
        frames = max(self.flows, LEAST_FRAMES)
        # IMIX has its proportions exactly.
        return frames if self.length else -(-frames // sum(IMIX.values())) * sum(IMIX.values())


LOADS = {
    "1": Load(1),
    "1k": Load(1_000),
    "100k": Load(100_000),
    "1m": Load(1_000_000),
    "1k-570": Load(1_000, 570),
    "1k-1500": Load(1_000, 1500),
    "1k-imix": Load(1_000, None),
    "100k-zipf": Load(100_000, kind="zipf"),
    "1k-mixed": Load(1_000, kind="mixed"),
    "1k-burst1": Load(1_000, burst=1),
    "1k-burst2": Load(1_000, burst=2),
    "1k-burst4": Load(1_000, burst=4),
    "1k-ipv6": Load(1_000, kind="families"),
    "1m-ipv6": Load(1_000_000, kind="families"),
}


def family_words(front, back=None):
    """What traffic is whose clients have addresses of the one family, and whose real servers have those of the other."""
    return f"udp, IPv{front}" if back in (None, front) else f"udp, IPv{front} to IPv{back}"


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(client, length=SHORTEST, tcp=None, to=PORT_MACS[0]):
    """A client's frame to the VIP of its family, with every checksum right; `tcp`: the flags of a TCP segment, or none for UDP.

    `length`: of IPv4's; see Load. It is full: of the shortest, 18 or 6 bytes are payload, since a frame with padding is no usual
    one."""
    address, port = client
    is_six = len(address) == 16
    length -= FCS + 14
    addresses = address + (socket.inet_pton(socket.AF_INET6, VIP6) if is_six else socket.inet_aton(VIP))
    if tcp is None:
        protocol, at = 17, 6
        segment = struct.pack("!HHHH", port, SERVICE_PORT, length - 20, 0)
    else:
        protocol, at = 6, 16
        sequence = 1000 if tcp & SYN else 1001
        segment = struct.pack("!HHIIBBHHH", port, SERVICE_PORT, sequence, 0, 5 << 4, tcp, 0xFFFF, 0, 0)
    segment += bytes(length - 20 - len(segment))
    total = checksum(addresses + struct.pack("!HH", protocol, length - 20) + segment + bytes(len(segment) % 2))
    segment = segment[:at] + struct.pack("!H", total or 0xFFFF) + segment[at + 2 :]
    if is_six:
        return to + CLIENT_MAC + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, length - 20, protocol, 64) + addresses + segment
    ip = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, protocol, 0) + addresses
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return to + CLIENT_MAC + b"\x08\x00" + ip + segment


def clients(count, dice, family=4):
    """Different clients, from addresses and ports all over."""
    seen = set()
    while len(seen) < count:
        if family == 6:
            address = (0x26000000 << 96 | dice.getrandbits(116)).to_bytes(16, "big")  # of 2600::/12
        else:
            address = dice.randrange(0x0B000000, 0x64000000).to_bytes(4, "big")  # 11.0.0.0 … 99.255.255.255
        seen.add((address, dice.randrange(1024, 65536)))
    seen = sorted(seen)
    dice.shuffle(seen)
    return seen


def evenly(flows, frames, dice):
    """The flow of each frame, in random order, each as often as any other."""
    chosen = [n % flows for n in range(frames)]
    dice.shuffle(chosen)
    return chosen


def zipf(flows, frames, dice, s=1.0):
    """The flow of each frame, drawn: the one of rank n comes 1 / n^s times as often as the first."""
    weights = itertools.accumulate(1 / rank**s for rank in range(1, flows + 1))
    return dice.choices(range(flows), cum_weights=list(weights), k=frames)


def imix(frames, dice):
    """The length of each frame, in random order, in the proportions of IMIX."""
    each = [length for length, times in IMIX.items() for _ in range(times)]
    chosen = [each[n % len(each)] for n in range(frames)]
    dice.shuffle(chosen)
    return chosen


def write_frames(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for n, one in enumerate(frames):
            file.write(struct.pack("<IIII", n // 1_000_000, n % 1_000_000, len(one), len(one)) + one)


def write_capture(path, load, *, frames=None, tcp=0.0, family=4, seed=1):
    """Writes a capture to be played in a loop. `tcp`: the share of the flows that are TCP, whose frames are ACKs of connections
    that are open. Flows that no frame is drawn of, and TCP connections, take `write_openings` first."""
    dice = random.Random(seed)
    frames = frames or load.frames
    all_clients = clients(load.flows, dice, family)
    chosen = (zipf if load.kind == "zipf" else evenly)(load.flows, frames, dice)
    lengths = [load.length] * frames if load.length else imix(frames, dice)
    are_tcp = int(load.flows * tcp)
    made = {}
    for key in zip(chosen, lengths):
        if key not in made:
            flow, length = key
            made[key] = frame(all_clients[flow], length, ACK if flow < are_tcp else None)
    write_frames(path, (made[key] for key in zip(chosen, lengths)))


def write_openings(path, load, *, tcp=0.0, seed=1):
    """Writes a capture that opens every flow's connection, to be played once by the second port: SYNs, then ACKs, and a datagram
    of each UDP flow."""
    dice = random.Random(seed)
    all_clients = clients(load.flows, dice)
    are_tcp = int(load.flows * tcp)
    # The most frequent flows' connections are not to stand side by side in memory.
    by_tcp, by_udp = all_clients[:are_tcp], all_clients[are_tcp:]
    dice.shuffle(by_tcp)
    dice.shuffle(by_udp)
    opening = [(client, flags) for flags in (SYN, ACK) for client in by_tcp] + [(client, None) for client in by_udp]
    write_frames(path, (frame(client, tcp=flags, to=PORT_MACS[1]) for client, flags in opening))
