"""`client_address`: real servers behind fullnat are told of clients, by a header of the PROXY protocol or by a TCP option."""

import ipaddress
import struct

import lab
import lab6
from case import Case, drop, forward, lan, reply, wan
from lab46 import WAYS, two_arm
from lab46 import fullnat as service_of
from scapy.layers.inet import TCP
from wire import ip_of

NAMES = {lab: "v4", lab6: "v6"}
# The labs of the clients' and of the real servers' family.
PAIRS = [("v4", lab, lab), ("v6", lab6, lab6)] + [(way.name, way.near, way.far) for way in WAYS]
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def crc32c(data):
    """RFC 3720 appendix B.4, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def header(near, tcp=True, sport=40000, dport=80):
    """proxy-protocol.txt section 2.2, with the TLVs PP2_TYPE_CRC32C and PP2_TYPE_NOOP."""
    addresses = b"".join(ipaddress.ip_address(each).packed for each in (near.CLIENT.ip, near.VIP)) + struct.pack("!HH", sport, dport)
    family = (0x20 if near is lab6 else 0x10) | (1 if tcp else 2)
    before = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, family, len(addresses) + 12) + addresses
    tlvs = lambda crc: struct.pack("!BHI", 3, 4, crc) + struct.pack("!BH", 4, 2) + b"\0\0"  # noqa: E731
    return before + tlvs(crc32c(before + tlvs(0)))


def toa(near, sport=40000):
    address = ipaddress.ip_address(near.CLIENT.ip).packed
    return struct.pack("!BBH", 254, 4 + len(address), sport) + address


def config(near, far, way, mtu=(1500, 1500), protocol="tcp", **keys):
    return two_arm(service_of(near.VIP, far.A, protocol=protocol, client_address=f'"{way}"', **keys), mtu=mtu)


def client(near, flags="A", **fields):
    return near.tcp(near.CLIENT, near.VIP, flags, **{"seq": 1001, "ack": 5001, **fields})


def real(far, flags="A", **fields):
    """What the real server answers the client's SYN by, or sends later on that connection."""
    return (lab6 if far is lab6 else lab).reply_to(0, flags, **{"seq": 5001, "ack": 1001, **fields})


def spoilt(sent):
    sent.layer[TCP].chksum = 0x1234
    return sent


def segment(frame):
    return ip_of(frame).payload


def window(value):
    return {"frame": lambda frame: struct.unpack_from("!H", segment(frame), 14)[0] == value}


def options(expected):
    """The options of the header, without no operation at its end."""
    return {"frame": lambda frame: segment(frame)[20 : (segment(frame)[12] >> 4) * 4].rstrip(b"\1\0") == expected}


def opening(near, far, **fields):
    """The handshake up to the real server's answer."""
    return [
        wan(near.tcp(near.CLIENT, near.VIP), forward("lan", far.A, new=True, payload=b"", seq=1000)),
        lan(real(far, "SA", seq=5000, **fields), forward("wan", near.CLIENT, ack=1001, seq=5000)),
    ]


def taken(near, far, head):
    """The handshake's last ACK with the header, and the real server's acknowledgement of it."""
    return [
        *opening(near, far),
        wan(client(near), forward("lan", far.A, payload=head, seq=1001, ack=5001)),
        lan(real(far, ack=1001 + len(head)), forward("wan", near.CLIENT, ack=1001, payload=b"")),
    ]


def proxied(name, near, far):
    head, size = header(near), len(header(near))
    case = lambda what, steps, **more: Case(f"{name}_proxy_{what}", config(near, far, "proxy-v2"), steps, **more)  # noqa: E731
    sacks = lambda first, last: [("NOP", None), ("NOP", None), ("SAck", (first, last))]  # noqa: E731
    yield case("goes_before_the_data", [
        *opening(near, far),
        wan(client(near), forward("lan", far.A, payload=head, seq=1001, flags="A")),
        # Sent again with the data as long as the real server has not acknowledged it, also in part.
        wan(client(near, "PA", payload=REQUEST), forward("lan", payload=head + REQUEST, seq=1001, flags="PA")),
        lan(real(far, ack=1002), forward("wan", ack=1001)),
        wan(client(near, "PA", payload=REQUEST[:5]), forward("lan", payload=head + REQUEST[:5], seq=1001)),
        wan(client(near, "PA", seq=1006, payload=REQUEST[5:]), forward("lan", payload=REQUEST[5:], seq=1006 + size)),
        lan(real(far, ack=1001 + size), forward("wan", ack=1001)),
        wan(client(near, "PA", payload=REQUEST), forward("lan", payload=REQUEST, seq=1001 + size)),
        lan(real(far, "PA", ack=1019 + size, payload=b"200 OK"), forward("wan", ack=1019, seq=5001, payload=b"200 OK")),
        wan(client(near, "FA", seq=1019, ack=5007), forward("lan", seq=1019 + size, ack=5007, flags="FA", payload=b"")),
        lan(real(far, "FA", seq=5007, ack=1020 + size), forward("wan", ack=1020, seq=5007)),
        wan(client(near, seq=1020, ack=5008), forward("lan", seq=1020 + size)),
        # Late ones keep their meaning.
        lan(real(far, "SA", seq=5000), forward("wan", ack=1001)),
        lan(real(far, ack=1001), forward("wan", ack=1001)),
    ])
    yield case("before_a_real_server_that_speaks_first", [
        *taken(near, far, head),
        lan(real(far, "PA", ack=1001 + size, payload=b"220 mail"), forward("wan", ack=1001, payload=b"220 mail")),
        wan(client(near, ack=5009), forward("lan", seq=1001 + size, ack=5009, payload=b"")),
    ])
    long = b"x" * 1300
    def alone(results):  # noqa: E306
        frames = [frame for port, frame in results.parts if port == "lan"]
        assert len(frames) == 1 and segment(frames[0])[(segment(frames[0])[12] >> 4) * 4 :] == head, frames
        assert struct.unpack_from("!I", segment(frames[0]), 4)[0] == 1001 and ip_of(frames[0]).error == 0
    yield case("alone_before_much_data", [
        *opening(near, far),
        wan(client(near, "PA", payload=long), forward("lan", payload=long, seq=1001 + size)),
    ], gathers=True, check=alone)
    yield case("alone_before_a_fin_and_much_data", [
        *opening(near, far),
        wan(client(near, "FPA", payload=long), forward("lan", payload=long, seq=1001 + size, flags="FPA")),
    ], gathers=True, check=alone)
    yield case("before_a_fin", [
        *opening(near, far), wan(client(near, "FA"), forward("lan", payload=head, seq=1001, flags="FA")),
    ])
    yield case("keepalives", [
        *opening(near, far),
        wan(client(near, seq=1000, payload=b"\0"), forward("lan", payload=head, seq=1001)),
        lan(real(far, ack=1001 + size), forward("wan", ack=1001)),
        wan(client(near, seq=1000, payload=b"\0"), forward("lan", payload=b"\0", seq=1000 + size)),
        wan(client(near, seq=1000), forward("lan", payload=b"", seq=1000 + size)),
    ])
    other = lambda n: wan(near.tcp(near.CLIENT, near.VIP, sport=40001 + n), forward("lan", far.A))  # noqa: E731
    def later(n, seconds):  # noqa: E306
        step = other(n)
        step.after = seconds
        return step
    def lost(times):  # noqa: E306
        def check(results):
            again = [segment(frame) for port, frame in results.parts if port == "lan" and ip_of(frame).error == 0]
            assert len(again) == len(results.parts) == times, results.parts
            first = segment(results.forwarded(2))
            assert all(each[:16] == first[:16] and each[(each[12] >> 4) * 4 :] == head for each in again), again
        return check
    # RFC 6298: after 1, 2, 4 … seconds more; the connection's own packets are none, others turn the clock.
    waits = [later(n, seconds) for n, seconds in enumerate((0.9, 0.2, 1.8, 0.3, 3.6, 0.5, 7, 1.5))]
    yield case("is_sent_again_while_both_are_silent", [
        *opening(near, far),
        wan(client(near, payload=b""), forward("lan", far.A, payload=head)),
        *waits,
        lan(real(far, ack=1001 + size), forward("wan", near.CLIENT, ack=1001)),
        later(20, 40), later(21, 40),
    ], gathers=True, check=lost(4))
    yield case("is_sent_again_no_longer_than_a_minute", [
        *opening(near, far),
        wan(client(near, payload=b""), forward("lan", far.A, payload=head)),
        *(later(n, 1.1 * 2**n) for n in range(6)), later(6, 130), later(7, 200), later(8, 200),
    ], gathers=True, check=lost(6))
    yield case("is_sent_again_for_no_blind_ack", [
        *opening(near, far),
        wan(client(near, ack=7777, payload=b""), forward("lan", far.A, payload=head)),
        later(0, 2), later(1, 4),
    ], gathers=True, check=lost(0))
    yield case("is_not_sent_again_after_a_reset", [
        *opening(near, far),
        wan(client(near, payload=b""), forward("lan", far.A, payload=head)),
        lan(real(far, "R", seq=5001), forward("wan", near.CLIENT)),
        later(0, 2), later(1, 4),
    ], gathers=True, check=lost(0))
    yield case("resets_before_it", [*opening(near, far), wan(client(near, "R"), forward("lan", seq=1001, flags="R"))])
    yield case("resets_while_it_is_under_way", [
        *opening(near, far),
        wan(client(near), forward("lan", payload=head)),
        wan(client(near, "R"), forward("lan", seq=1001 + size, flags="R")),
    ], resets=1)
    yield case("resets_after_it", [
        *taken(near, far, head),
        lan(real(far, "RA", ack=1001 + size), forward("wan", ack=1001, flags="RA")),
        wan(client(near, "R"), forward("lan", seq=1001 + size, flags="R")),
    ])
    yield case("sacks", [
        *opening(near, far),
        wan(client(near, "PA", seq=2001, payload=b"late"), forward("lan", seq=2001 + size, payload=b"late")),
        # All are there but the header.
        lan(real(far, options=sacks(1001 + size, 2005 + size)), forward("wan", ack=1001, **options(b""))),
        wan(client(near), forward("lan", payload=head)),
        lan(real(far, ack=1001 + size, options=sacks(2001 + size, 2005 + size)), forward("wan", ack=1001, **options(b"\1\1\5\n" + struct.pack("!II", 2001, 2005)))),
        # The client's own are of the other direction.
        wan(client(near, options=sacks(6001, 6005)), forward("lan", **options(b"\1\1\5\n" + struct.pack("!II", 6001, 6005)))),
    ])
    yield case("in_the_window", [
        wan(near.tcp(near.CLIENT, near.VIP), forward("lan", far.A, new=True)),
        lan(real(far, "SA", seq=5000), forward("wan", **window(8192 - size))),
        wan(client(near), forward("lan", payload=head)),
        lan(real(far), forward("wan", **window(8192 - size))),
        lan(real(far, ack=1001 + size), forward("wan", **window(8192))),
    ])
    urgent = lambda step, by: lambda frame: struct.unpack_from("!H", segment(frame), 18)[0] == by  # noqa: E731, ARG005
    def marked(flags, **fields):  # noqa: E306
        sent = client(near, flags, **fields)
        sent.layer[TCP].urgptr = 3
        return sent
    yield case("urgent_data", [
        *opening(near, far),
        wan(marked("UA", payload=b"abc"), forward("lan", payload=head + b"abc", frame=urgent(2, 3 + size))),
        lan(real(far, ack=1004 + size), forward("wan", ack=1004)),
        wan(marked("UA", seq=1004, payload=b"abc"), forward("lan", payload=b"abc", frame=urgent(4, 3))),
    ])
    fast = [("TFO", (1, 2)), ("NOP", None), ("NOP", None)]
    yield case("no_data_in_a_syn", [
        wan(near.tcp(near.CLIENT, near.VIP, payload=b"odd", options=fast), forward("lan", far.A, new=True, payload=b"", **options(b""))),
        lan(real(far, "SA", seq=5000), forward("wan", ack=1001)),
        wan(client(near, "PA", payload=b"odd"), forward("lan", payload=head + b"odd")),
    ])
    words = [[("NOP", None)] * 4 * count for count in range(11)]
    yield case("behind_headers_of_any_length", [
        *opening(near, far), *(wan(client(near, "PA", payload=b"odd", options=each), forward("lan", payload=head + b"odd")) for each in words),
    ])
    answer = lambda results: spoilt(real(far, ack=1001 + size)(results))  # noqa: E731
    answer.needs = 0
    yield case("a_wrong_checksum_stays_wrong", [
        *opening(near, far),
        wan(spoilt(client(near, "PA", payload=b"odd")), forward("lan", payload=head + b"odd")),
        lan(answer, forward("wan", ack=1001)),
    ])


def datagrams(name, near, far):
    head = header(near, tcp=False)
    size = len(head)
    grown = {"v4": 0, "v6": 0, "four_to_six": 20, "six_to_four": -20}[name]
    ask = lambda payload, **fields: near.udp(near.CLIENT, near.VIP, payload, **fields)  # noqa: E731
    room = 1500 - grown - size - 8 - (40 if near is lab6 else 20)
    yield Case(f"{name}_proxy_before_each_datagram", config(near, far, "proxy-v2", protocol="udp"), [
        wan(ask(b"one"), forward("lan", far.A, new=True, payload=head + b"one")),
        wan(ask(b""), forward("lan", far.A, new=False, payload=head)),
        lan((lab6 if far is lab6 else lab).reply_to(0, payload=b"answer"), forward("wan", near.CLIENT, payload=b"answer")),
        wan(ask(b"wrong", chksum=0x1234), forward("lan", payload=head + b"wrong")),
        wan(ask(b"x" * room, **({"flags": "DF"} if near is lab else {})), forward("lan", length=1500)),
        wan(ask(b"x" * (room + 1), **({"flags": "DF"} if near is lab else {})), reply("too_big", "wan")),
    ])


def none_without(name, near, far):
    """A datagram without a checksum, which only IPv4 has."""
    head = header(near, tcp=False)
    yield Case(f"{name}_proxy_before_a_datagram_without_a_checksum", config(near, far, "proxy-v2", protocol="udp"), [
        wan(near.udp(near.CLIENT, near.VIP, b"one", chksum=0), forward("lan", far.A, new=True, payload=head + b"one", **({"chksum": 0} if far is lab else {}))),
    ])


def optional(name, near, far):
    option = toa(near)
    forged = b"\xfe\x08\0\x01\1\2\3\4"
    raw = lambda data: [(254, data[2:])]  # noqa: E731
    stamps = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    kept = b"\1\1\x08\n" + struct.pack("!II", 1, 2)
    yield Case(f"{name}_toa_with_the_first_data", config(near, far, "toa"), [
        *opening(near, far),
        wan(client(near), forward("lan", far.A, payload=b"", seq=1001, **options(option))),
        wan(client(near, "PA", payload=REQUEST, options=stamps), forward("lan", payload=REQUEST, seq=1001, **options(option + kept))),
        lan(real(far), forward("wan", ack=1001)),
        wan(client(near, "PA", payload=REQUEST), forward("lan", payload=REQUEST, **options(option))),
        wan(client(near, "PA", seq=1019, payload=b"more"), forward("lan", payload=b"more", seq=1019, **options(b""))),
        lan(real(far, ack=1019), forward("wan", ack=1019)),
        wan(client(near, "PA", payload=REQUEST), forward("lan", payload=REQUEST, **options(b""))),
        wan(client(near, "R", seq=1019), forward("lan", seq=1019, **options(b""))),
    ])
    yield Case(f"{name}_toa_of_the_clients_own_is_none", config(near, far, "toa"), [
        wan(near.tcp(near.CLIENT, near.VIP, options=raw(forged)), forward("lan", far.A, new=True, **options(b""))),
        lan(real(far, "SA", seq=5000), forward("wan", ack=1001)),
        wan(client(near, options=raw(forged)), forward("lan", far.A, frame=lambda frame: forged not in segment(frame) and option in segment(frame))),
        wan(client(near, "PA", seq=1019, payload=b"more", options=raw(forged)), forward("lan", **options(b""))),
    ])
    full, padded = [(200, b"#" * 38)], [("NOP", None)] * 40
    yield Case(f"{name}_toa_in_the_place_of_padding", config(near, far, "toa"), [
        *opening(near, far),
        wan(client(near, "PA", payload=REQUEST, options=padded), forward("lan", payload=REQUEST, seq=1001, **options(option))),
        wan(client(near, "PA", payload=b"odd", options=padded[:5] + stamps[2:] + padded[:25]), forward("lan", payload=b"odd", seq=1001, **options(option + kept[2:]))),
        wan(spoilt(client(near, "PA", payload=b"odd", options=padded)), forward("lan", payload=b"odd", seq=1001, **options(option))),
    ])
    yield Case(f"{name}_toa_without_room", config(near, far, "toa"), [
        *opening(near, far),
        wan(client(near, "PA", payload=REQUEST, options=full), forward("lan", payload=REQUEST, seq=1001)),
        wan(client(near, "PA", payload=b"x" * (1460 - 20 * (near is lab6) - 20 * (name == "four_to_six"))), forward("lan", seq=1001, length=1500 - 20 * (name == "six_to_four"))) if name != "six_to_four" else
        wan(client(near, "PA", payload=REQUEST, options=full), forward("lan", payload=REQUEST, seq=1001)),
    ])
    lowered = 1460 - 20 * (near is not far or near is lab6) - len(option)
    yield Case(f"{name}_toa_leaves_room_by_the_mss", config(near, far, "toa"), [
        wan(near.tcp(near.CLIENT, near.VIP, options=[("MSS", 9000)]), forward("lan", far.A, new=True, mss=9000)),
        lan(real(far, "SA", seq=5000, options=[("MSS", 8960)]), forward("wan", mss=lowered)),
        lan(real(far, "SA", seq=5000, options=[("MSS", 536)]), forward("wan", mss=536 - len(option))),
    ])


def large(name, near, far):
    """Segments as a TAP gives them that leaves their cutting to the NIC, up to what an IP packet may have."""
    most, grown, size = 65_000, {"four_to_six": 20}.get(name, 0), len(header(near))
    def sized(length, **fields):  # noqa: E306
        sent = client(near, "PA", payload=b"x" * (length - (60 if near is lab6 else 40)), **fields)
        if near is lab:
            sent.layer.flags = "DF"
        return sent
    fits = most - grown
    data = fits - (60 if near is lab6 else 40)
    def alone(results):  # noqa: E306
        (frame,) = (segment(frame) for port, frame in results.parts if port == "lan")
        assert frame[(frame[12] >> 4) * 4 :] == header(near) and struct.unpack_from("!I", frame, 4)[0] == 1001
    wide = lambda way: config(near, far, way, mtu=(most, most))  # noqa: E731
    yield Case(f"{name}_proxy_before_64_kB", wide("proxy-v2"), [
        *opening(near, far),
        # What does not fit is told of, without the header: that goes alone.
        wan(sized(65_535), reply("too_big", "wan")),
        wan(sized(fits), forward("lan", far.A, payload=b"x" * data, seq=1001 + size)),
        lan(real(far, ack=1001 + size + data), forward("wan", near.CLIENT, ack=1001 + data)),
        wan(sized(fits, seq=1001 + data), forward("lan", far.A, payload=b"x" * data, seq=1001 + data + size)),
        lan(real(far, ack=1001 + size + 2 * data), forward("wan", near.CLIENT, ack=1001 + 2 * data)),
    ], gathers=True, check=alone)
    option = toa(near)
    yield Case(f"{name}_toa_with_64_kB", wide("toa"), [
        *opening(near, far),
        wan(sized(65_535), reply("too_big", "wan")),
        wan(sized(fits - len(option)), forward("lan", far.A, seq=1001, **options(option))),
        # The header of the other family is shorter.
        wan(sized(fits), forward("lan", far.A, seq=1001, **options(option if name == "six_to_four" else b""))),
        lan(real(far, ack=1001 + data), forward("wan", near.CLIENT, ack=1001 + data)),
        wan(sized(fits, seq=1001 + data), forward("lan", far.A, seq=1001 + data, **options(b""))),
    ])


def again(name, near, far, way):
    """A connection with the client's numbers of the last one is told all the same, by whatever weir has not seen the last one end."""
    head = header(near)
    size = len(head) if way == "proxy-v2" else 0
    told = {"payload": head} if size else options(toa(near))
    with_data = {"payload": head + REQUEST} if size else options(toa(near))
    ends = {
        # Right behind data: not the number that the real server has acknowledged.
        "reset": [wan(client(near, "R", seq=1019))],
        "silence": [lan(real(far, "FPA", ack=1019 + size, payload=b"200 OK")), wan(client(near, seq=1019, ack=5008))],
    }
    for end, steps in ends.items():
        after = {"after": 61} if end == "silence" else {}
        yield Case(f"{name}_{way}_again_after_{end}", config(near, far, way), [
            *opening(near, far),
            wan(client(near), forward("lan", far.A, seq=1001, **told)),
            lan(real(far, ack=1001 + size), forward("wan", near.CLIENT, ack=1001)),
            wan(client(near, "PA", payload=REQUEST), forward("lan", seq=1001 + size)),
            *steps,
            # Of the old connection, late.
            lan(real(far, ack=1019 + size)),
            wan(near.tcp(near.CLIENT, near.VIP), forward("lan", seq=1000), **after),
            lan(real(far, "SA", seq=9000), forward("wan", ack=1001)),
            wan(client(near, ack=9001), forward("lan", seq=1001, **told)),
            *([wan(client(near, "PA", seq=961, ack=9001, payload=b"#" * 58), forward("lan", seq=1001, payload=head))] if size else []),
            wan(client(near, "PA", ack=9001, payload=REQUEST), forward("lan", seq=1001, **with_data)),
            lan(real(far, seq=9001, ack=1019 + size), forward("wan", ack=1019)),
        ], gathers=True)


def quoted(name, near, far):
    """An error about what was told goes to the client with its own numbers."""
    head = header(near)
    size = len(head)

    def error(step):
        def make(results):
            about = ip_of(results.forwarded(step)).packet
            return lab.icmp(lab.A, lab.POOL, 3, 4, payload=about[:40], id=0, seq=1400)

        make.needs = step
        return make

    yield Case(f"{name}_errors_quote_the_clients_numbers", config(near, far, "proxy-v2"), [
        *taken(near, far, head),
        wan(client(near, "PA", payload=REQUEST), forward("lan", payload=REQUEST, seq=1001 + size)),
        lan(error(4), forward("wan", near.CLIENT, payload=lambda quote: struct.unpack_from("!I", quote, 24)[0] == 1001)),
        # About the header: of the first byte.
        lan(error(2), forward("wan", near.CLIENT, payload=lambda quote: struct.unpack_from("!I", quote, 24)[0] == 1001)),
    ])


def pieces():
    """A fragment in which the data begin cannot have the header before them; behind the header it can go on."""
    head = header(lab)
    size = len(head)

    def cut(**fields):
        sent = client(lab, "PA", payload=b"x" * 44, **fields)
        sent.layer.flags = "MF"
        return sent

    yield Case("v4_proxy_in_fragments", config(lab, lab, "proxy-v2"), [
        *opening(lab, lab),
        wan(cut(id=1), drop("client_address")),
        wan(client(lab), forward("lan", payload=head)),
        lan(real(lab, ack=1001 + size), forward("wan", ack=1001)),
        wan(cut(id=2), forward("lan", lab.A)),
    ], gathers=True, check=lambda results: segment_is(results.forwarded(5), 1001 + size))


def segment_is(frame, sequence):
    assert struct.unpack_from("!I", segment(frame), 4)[0] == sequence, frame.hex()


CASES = [
    *(case for pair in PAIRS for case in proxied(*pair)),
    *(case for pair in PAIRS for case in datagrams(*pair)),
    *(case for pair in PAIRS if pair[1] is lab for case in none_without(*pair)),
    *(case for pair in PAIRS for case in optional(*pair)),
    *(case for pair in PAIRS for case in large(*pair)),
    *(case for pair in PAIRS for way in ("proxy-v2", "toa") for case in again(*pair, way)),
    *quoted("v4", lab, lab),
    *pieces(),
]
