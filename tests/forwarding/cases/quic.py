"""`quic`: datagrams go to the real server that has made their connection id (draft-ietf-quic-load-balancers), whatever the client's
address has become."""

import struct

import lab
import lab6
from case import Case, forward, lan, wan

NAMES = {lab: "v4", lab6: "v6"}
FAMILIES = (lab, lab6)
MODES = ("dr", "nat", "fullnat", "tunnel")
IDS = {"A": "0a01", "B": "0b02", "C": "0c03", "D": "0d04"}
NONCE = bytes.fromhex("1122334455")
# The draft's test vectors: key, and a connection id of the server ed793a.
KEY = "8f95f09245765f80256934e50c66207f"
ENCRYPTED = bytes.fromhex("0720b1d07b359d3c")
# The example of its section 5.4.2: of the server 31441a.
EXAMPLE_KEY = "fdf726a9893ec05c0632d3956680baf0"
EXAMPLE = bytes.fromhex("0767947d29be054a")


def service(family, mode, ids, quic="server_id_length = 2, connection_id_length = 8", weights=None, **keys):
    """A service whose real servers have these server ids: by letter."""
    hosts = [getattr(family, letter) for letter in ids]
    made = family.service(mode, *hosts, protocol="udp", scheduler="sh", port=443, real_port=443, weights=weights, quic=f"{{ {quic} }}", **keys)
    for letter, host in zip(ids, hosts):
        made.text = made.text.replace(f'address = "{host.ip}"\n', f'address = "{host.ip}"\nserver_id = "{ids[letter]}"\n')
    return made


def id_of(letter, config=0):
    return bytes([config << 5 | 7]) + bytes.fromhex(IDS.get(letter, letter)) + NONCE


def short(id):
    return b"\x40" + id + b"protected"


def long(id, kind, version=1):
    """A packet with a long header (RFC 9000 17.2)."""
    return bytes([0xC0 | kind << 4]) + struct.pack("!IB", version, len(id)) + id + b"\x08" + bytes(8) + b"protected"


INITIAL, ZERO_RTT, HANDSHAKE = 0, 1, 2


def place(family, letter):
    host = getattr(family, letter)
    return f"[{host.ip}]:443" if family is lab6 else f"{host.ip}:443"


def to(family, letter, new):
    return forward("lan", getattr(family, letter), new=new, real=place(family, letter))


def follows(family, mode):
    """By connection id, at every address and port; and at a known one as well, where that was another connection's."""
    send = lambda payload, sport=40001, client=7: wan(family.udp(at(family, client), family.VIP, payload, sport=sport, dport=443), None)  # noqa: E731

    def step(payload, expect, **where):
        made = send(payload, **where)
        made.expect = expect
        return made

    steps = [
        step(short(id_of("B")), to(family, "B", True)),
        step(short(id_of("B")), to(family, "B", False)),
        # The port is now another connection's.
        step(short(id_of("A")), to(family, "A", True)),
        # Nothing that is known: it stays.
        step(short(id_of("ffff")), to(family, "A", False)),
        step(short(id_of("B", config=3)), to(family, "A", False)),
        step(b"\x40short", to(family, "A", False)),
        step(b"", to(family, "A", False)),
        # Another address, another port.
        step(short(id_of("B")), to(family, "B", True), client=9, sport=50000),
        step(long(id_of("C"), HANDSHAKE), to(family, "C", True), client=9, sport=50001),
        step(long(id_of("C"), 3, 0x6B3343CF), to(family, "C", True), client=9, sport=50002),
        # What a client may have drawn itself goes with its address and port.
        step(long(id_of("B"), INITIAL), to(family, "C", False), client=9, sport=50001),
        step(long(id_of("B"), ZERO_RTT), to(family, "C", False), client=9, sport=50001),
        step(long(id_of("B"), HANDSHAKE, version=0xFF000022), to(family, "C", False), client=9, sport=50001),
        step(long(id_of("B") + b"x", HANDSHAKE), to(family, "C", False), client=9, sport=50001),
        # Drained: it keeps those that it has.
        step(short(id_of("D")), to(family, "D", True), client=11),
        step(short(id_of("D")), to(family, "D", True), client=12),
    ]
    if mode in ("nat", "fullnat"):
        steps += [lan(family.reply_to(7, payload=b"answer"), forward("wan", new=False, dst=at(family, 9).ip, sport=443, dport=50000))]
    first = len(steps)
    clients = range(20, 60)
    steps += [step(long(id_of("C"), INITIAL), forward("lan", new=True), client=n) for n in clients]

    def spread(results):
        chosen = {results.lines[n]["real"] for n in range(first, first + len(clients))}
        assert chosen == {place(family, letter) for letter in "ABC"}, f"new connections go to {chosen}"

    web = service(family, mode, IDS, weights=[1, 1, 1, 0])
    return Case(f"{NAMES[family]}_{mode}_by_connection_id", family.two_arm(web), steps, check=spread)


def at(family, number):
    """One of many clients behind the gateway."""
    return family.CLIENT.__class__(f"2001:db8:7::{number}" if family is lab6 else f"203.0.113.{number}", family.GATEWAY.mac)


def encrypted(family):
    """The draft's own connection ids, in services of their own keys."""
    steps, services = [], []
    for number, (key, server, id) in enumerate(((KEY, "ed793a", ENCRYPTED), (EXAMPLE_KEY, "31441a", EXAMPLE))):
        vip = (family.VIP, family.WAN_VIP)[number]
        ids = {"A": "000000", "B": server, "C": "ffffff"}
        services.append(service(family, "nat", ids, f'server_id_length = 3, connection_id_length = 8, key = "{key}"', vip=vip, name=f"s{number}"))
        send = lambda payload, client, vip=vip, sport=40001 + number: family.udp(at(family, client), vip, payload, sport=sport, dport=443)  # noqa: E731
        steps += [wan(send(short(id), 7), to(family, "B", True)), wan(send(short(id), 8), to(family, "B", True)), wan(send(long(id, HANDSHAKE), 9), to(family, "B", True))]
        # In plain it would be the server's.
        plain = b"\x07" + bytes.fromhex(server) + NONCE[:4]
        steps += [wan(send(short(plain), 10), forward("lan", new=True))]
    return Case(f"{NAMES[family]}_encrypted_connection_ids", family.two_arm(*services), steps)


CASES = [follows(family, mode) for family in FAMILIES for mode in MODES]
CASES += [encrypted(family) for family in FAMILIES]
