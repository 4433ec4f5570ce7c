#!/usr/bin/python3
"""A switch's trunk for kernels without 802.1Q: puts VLAN tags on frames, and takes them off.

    tests/lab/trunk.py TRUNK INTERFACE=VLAN …    VLAN: 0 (untagged), 100, or 100.200 for 802.1ad outside of 802.1Q

What comes in by an interface leaves by the trunk with the tags of the interface's VLAN; what comes in by the trunk leaves, without its
tags, by the interface of its VLAN, or ends here.
"""

import select
import socket
import struct
import sys

ETH_P_ALL, ETH_P_8021Q, ETH_P_8021AD = 3, 0x8100, 0x88A8
SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 263, 8, 4
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
LONGEST = 65536


def opened(name):
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, "SO_RCVBUFFORCE") else socket.SO_RCVBUF, 16 << 20)
    raw.bind((name, ETH_P_ALL))
    return raw


def received(raw):
    """A frame as it was on the wire: the kernel takes the outer tag off, and tells it beside the frame."""
    frame, about, _, sender = raw.recvmsg(LONGEST, 128)
    if sender[2] == PACKET_OUTGOING:
        return None
    for level, kind, data in about:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, control, ethertype = struct.unpack_from("=IIIHHHH", data)
            if status & TP_STATUS_VLAN_VALID:
                ethertype = ethertype if status & TP_STATUS_VLAN_TPID_VALID else ETH_P_8021Q
                frame = frame[:12] + struct.pack("!HH", ethertype, control) + frame[12:]
    return frame


def tags_of(vlan):
    ids = [int(part) for part in vlan.split(".")]
    kinds = (ETH_P_8021AD, ETH_P_8021Q)[-len(ids) :]
    return b"".join(struct.pack("!HH", kind, id) for kind, id in zip(kinds, ids)) if ids != [0] else b""


def split(frame):
    """The tags of a frame, without priorities, and the frame without them."""
    tags, at = b"", 12
    while frame[at : at + 2] in (b"\x81\0", b"\x88\xa8"):
        tags += frame[at : at + 2] + bytes([frame[at + 2] & 15, frame[at + 3]])
        at += 4
    return tags, frame[:12] + frame[at:]


def main(trunk, *accesses):
    trunk = opened(trunk)
    by_tags, tags_by = {}, {}
    for access in accesses:
        name, vlan = access.split("=")
        raw, tags = opened(name), tags_of(vlan)
        by_tags[tags], tags_by[raw] = raw, tags
    poll = select.poll()
    sockets = {raw.fileno(): raw for raw in (trunk, *tags_by)}
    for number in sockets:
        poll.register(number, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            raw = sockets[number]
            try:
                frame = received(raw)
                if frame is None:
                    continue
                if raw is trunk:
                    tags, frame = split(frame)
                    if tags in by_tags:
                        by_tags[tags].send(frame)
                else:
                    trunk.send(frame[:12] + tags_by[raw] + frame[12:])
            except OSError as error:
                print(f"{error}: a frame is lost", file=sys.stderr, flush=True)


main(*sys.argv[1:])
