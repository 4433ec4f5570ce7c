"""A hop between two interfaces that loses, repeats and delays frames: the kernel here has no netem.

    hop.py FIRST SECOND LOST REPEATED LATE    shares in thousandths; late ones come up to 5 ms later, behind others
"""

import heapq
import random
import selectors
import socket
import sys
import time

LATE = 0.005
PACKET_OUTGOING = 4


def opened(name):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.bind((name, 0))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    link.setblocking(False)
    return link


def main(first, second, *shares):
    lost, repeated, late = (int(share) / 1000 for share in shares)
    links = opened(first), opened(second)
    others = dict(zip(links, reversed(links)))
    ready, waiting, count = selectors.DefaultSelector(), [], 0
    for link in links:
        ready.register(link, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in ready.select(pause):
            for _ in range(64):
                try:
                    frame, (_, _, kind, _, _) = key.fileobj.recvfrom(65536)
                except BlockingIOError:
                    break
                if kind == PACKET_OUTGOING:
                    continue
                if is_discovery(frame):
                    send(others[key.fileobj], frame)
                    continue
                if random.random() < lost:
                    continue
                for _ in range(2 if random.random() < repeated else 1):
                    count += 1
                    if random.random() < late:
                        due = time.monotonic() + random.random() * LATE
                        heapq.heappush(waiting, (due, count, others[key.fileobj], frame))
                    else:
                        send(others[key.fileobj], frame)
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, link, frame = heapq.heappop(waiting)
            send(link, frame)


def is_discovery(frame):
    """What finds neighbours says nothing of streams."""
    return frame[12:14] == b"\x08\x06" or frame[12:14] == b"\x86\xdd" and frame[20] == 58


def send(link, frame):
    try:
        link.send(frame)
    except (BlockingIOError, OSError):
        pass  # lost, as any may be


main(*sys.argv[1:])
