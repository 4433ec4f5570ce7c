#!/usr/bin/python3
"""UDP datagrams, echoed.

    echo.py serve PORT                                echoes every datagram, IPv4 and IPv6
    echo.py ask ADDRESS PORT LENGTH COUNT [AT_ONCE]   sends so many of so many bytes, AT_ONCE sockets at a time, and
                                                      says how many came back unchanged: "20 of 20"; one in 20 may be sent
                                                      once more, since a kernel without time loses some
    echo.py turn ADDRESS PORT LENGTH COUNT [AT_ONCE]  the same over IPv4, the last fragment of each first
"""

import random
import select
import socket
import struct
import sys
import time

PATIENCE = 5  # seconds without an answer
BUFFER = 4 << 20


def made(family):
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return made


def unbound(level, kind, data):
    """The address that a datagram was sent to, of any interface: an answer goes the way that routes say."""
    return level, kind, bytes(4) + data[4:] if level == socket.IPPROTO_IP else data[:16] + bytes(4)


def serve(port):
    four, six = made(socket.AF_INET), made(socket.AF_INET6)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # So that an answer to a VIP on the loopback interface comes from the VIP.
    four.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    four.bind(("0.0.0.0", port))
    six.bind(("::", port))
    while True:
        for ready in select.select([four, six], [], [])[0]:
            data, about, _, sender = ready.recvmsg(65535, 256)
            ready.sendmsg([data], [unbound(*each) for each in about], 0, sender)


def send(one, data):
    one.send(data)


def send_turned(one, data, size=1480):
    """Sends a datagram in fragments of our own, the last one first. Without a checksum, as IPv4 allows."""
    (to, port), (_, own) = one.getpeername(), one.getsockname()
    packet = struct.pack("!HHHH", own, port, 8 + len(data), 0) + data
    number = random.randrange(1 << 16)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for at in reversed(range(0, len(packet), size)):
            more = 0x2000 if at + size < len(packet) else 0
            # The kernel fills in the length, the source and the checksum.
            header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, number, more | at // 8, 64, 17, 0, bytes(4), socket.inet_aton(to))
            raw.sendto(header + packet[at : at + size], (to, 0))


def ask(send, address, port, length, count, at_once):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sockets = [made(family) for _ in range(at_once)]
    whole, spare = 0, max(1, count // 20)
    for first in range(0, count, at_once):
        sent = {}
        for one in sockets[: count - first]:
            one.connect((address, port))
            sent[one] = random.randbytes(length)
            send(one, sent[one])
        end = time.monotonic() + PATIENCE
        while sent:
            if time.monotonic() >= end:
                if len(sent) > spare:
                    break
                spare -= len(sent)
                for one, data in sent.items():
                    send(one, data)
                end = time.monotonic() + PATIENCE
            for ready in select.select(list(sent), [], [], 0.1)[0]:
                try:
                    whole += ready.recv(65535) == sent.pop(ready)
                except OSError as error:
                    print(f"{address}: {error}", file=sys.stderr)
    print(f"{whole} of {count}")


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    way = send_turned if sys.argv[1] == "turn" else send
    ask(way, sys.argv[2], *map(int, sys.argv[3:6]), int(sys.argv[6]) if len(sys.argv) > 6 else 1)
