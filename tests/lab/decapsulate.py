"""What a real server's kernel does with wrapped packets, for kernels that have no such devices: takes them out, and gives them to itself
by a TUN device called weir.

    decapsulate.py ipip | gre | gue | gue0
    decapsulate.py l3dsr DSCP=VIP …      packets that are routed to the TUN device get the VIP back that their DSCP tells

The headers are read by hand here: tests/forwarding holds them against scapy's word. Ends with an error at the first packet that is not
as it must be.
"""

import fcntl
import ipaddress
import os
import select
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
SO_RCVBUFFORCE = 33
GUE_PORT = 6080
PROTOCOLS = {"ipip": (4, 41), "gre": (47,)}


def tun():
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"weir", IFF_TUN | IFF_NO_PI))
    subprocess.run(["sysctl", "-q", "-w", "net.ipv6.conf.weir.disable_ipv6=0", "net.ipv4.conf.weir.rp_filter=0"], check=True)
    subprocess.run(["ip", "link", "set", "weir", "mtu", "1500", "up"], check=True)
    return device


def total(data):
    data += b"\0" * (len(data) % 2)
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def sockets(kind):
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        if kind in PROTOCOLS:
            found += [socket.socket(family, socket.SOCK_RAW, number) for number in PROTOCOLS[kind]]
            continue
        udp = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        udp.bind(("", GUE_PORT))
        found.append(udp)
    for each in found:
        each.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    return found


def inside(kind, packet):
    """The packet inside what a socket gave, which is without the outer header where the kernel has taken it off."""
    if kind == "gre":
        flags, protocol = struct.unpack_from("!HH", packet)
        packet = packet[4:]
        assert flags == 0 and protocol == {4: 0x0800, 6: 0x86DD}[packet[0] >> 4], "GRE of another kind"
    if kind == "gue0":
        assert packet[:4] == bytes([0, {4: 4, 6: 41}[packet[4] >> 4], 0, 0]), "GUE of another kind"
        packet = packet[4:]
    return packet


def with_vip(packet, vips):
    """The packet with its destination put back; its checksums must be right before."""
    packet = bytearray(packet)
    six = packet[0] >> 4 == 6
    dscp = ((packet[0] & 15) << 4 | packet[1] >> 4) >> 2 if six else packet[1] >> 2
    header, where = (40, slice(24, 40)) if six else ((packet[0] & 15) * 4, slice(16, 20))
    protocol = packet[6] if six else packet[9]
    if not six:
        assert total(bytes(packet[:header])) == 0xFFFF, "a wrong header checksum"
    pseudo = lambda: bytes(packet[8:40] if six else packet[12:20]) + struct.pack("!II", len(packet) - header, protocol)  # noqa: E731
    place = header + {6: 16, 17: 6, 1: 2, 58: 2}[protocol]
    if protocol != 1:
        assert total(pseudo() + bytes(packet[header:])) == 0xFFFF, f"a wrong checksum of protocol {protocol}"
    packet[where] = vips[six, dscp]
    if not six:
        packet[10:12] = b"\0\0"
        packet[10:12] = struct.pack("!H", ~total(bytes(packet[:header])) & 0xFFFF)
    if protocol != 1:
        packet[place : place + 2] = b"\0\0"
        packet[place : place + 2] = struct.pack("!H", ~total(pseudo() + bytes(packet[header:])) & 0xFFFF or 0xFFFF)
    return bytes(packet)


def main(kind, *arguments):
    device = tun()
    if kind == "l3dsr":
        vips = {}
        for argument in arguments:
            dscp, vip = argument.split("=")
            vip = ipaddress.ip_address(vip)
            vips[vip.version == 6, int(dscp)] = vip.packed
        print("ready", flush=True)
        while True:
            packet = os.read(device, 65536)
            # The kernel's own, of neighbour discovery and the like, are none of the client's.
            if (packet[0] >> 4 == 6, packet[6] if packet[0] >> 4 == 6 else packet[9]) in {(True, 58), (True, 0)}:
                continue
            os.write(device, with_vip(packet, vips))
    listening = sockets(kind)
    print("ready", flush=True)
    while True:
        for each in select.select(listening, [], [])[0]:
            packet = each.recv(65536)
            if each.type == socket.SOCK_RAW and each.family == socket.AF_INET:
                packet = packet[(packet[0] & 15) * 4 :]
            os.write(device, inside(kind, packet))


if __name__ == "__main__":
    main(*sys.argv[1:])
