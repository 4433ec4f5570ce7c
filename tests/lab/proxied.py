"""A real server of UDP that is told of its clients: answers each datagram with what its header says, and its data.

    proxied.py PORT
"""

import socket
import struct
import sys


def told(datagram):
    """Who a header of the PROXY protocol, version 2, says that a datagram is from, and what is behind it."""
    if datagram[:12] != b"\r\n\r\n\0\r\nQUIT\n":
        return "none", datagram
    command, family, length = struct.unpack_from("!BBH", datagram, 12)
    rest = datagram[16 + length :]
    if command == 0x20:
        return "local", rest
    kind, size = {0x12: (socket.AF_INET, 4), 0x22: (socket.AF_INET6, 16)}[family]
    return socket.inet_ntop(kind, datagram[16 : 16 + size]), rest


server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", int(sys.argv[1])))
while True:
    datagram, client = server.recvfrom(65536)
    who, data = told(datagram)
    server.sendto(f"{who} {len(data)}\n".encode(), client)
