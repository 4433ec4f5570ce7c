#!/usr/bin/python3
"""A web server of moods: moody.py NAME MOOD-FILE [PORT].

The file says how the next request is answered: by one of MOODS; "hang": accepted, and never answered; "close": at once.
"""
import socket
import sys
import threading
import time

name, mood_file = sys.argv[1:3]
port = int(sys.argv[3]) if len(sys.argv) > 3 else 80
kept = []


def whole(status, body=name + "\n", version="HTTP/1.1", more=""):
    return f"{version} {status}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n{body}"


CHUNKS = "".join(f"1\r\n{letter}\r\n" for letter in name) + "0\r\n\r\n"
# What is sent, piece by piece, with half a second between two pieces.
MOODS = {
    "ok": [whole("200 OK")],
    "500": [whole("500 Internal Server Error", "no\n")],
    "503 with the body": [whole("503 Service Unavailable")],
    "404": [whole("404 Not Found", "no\n")],
    "302": [whole("302 Found", "", more="Location: /elsewhere\r\n")],
    "204": ["HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"],
    "another body": [whole("200 OK", "maintenance\n")],
    "chunks": ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS],
    "HTTP/1.0": [f"HTTP/1.0 200 OK\r\n\r\n{name}\n"],
    "no HTTP": ["220 mail.lab ESMTP\r\n"],
    "nothing but a status line": ["HTTP/1.1 200 OK\r\n"],
    "late": ["HTTP/1.1 200 OK\r\n", f"Content-Length: {len(name)}\r\n\r\n{name}"],
}


def answer(connection):
    with open(mood_file) as file:
        mood = file.read().strip()
    if mood == "hang":
        kept.append(connection)
        return
    with connection:
        connection.settimeout(5)
        try:
            if mood == "close" or not connection.recv(4096):
                return
            first, *others = MOODS[mood]
            connection.sendall(first.encode())
            for piece in others:
                time.sleep(0.5)
                connection.sendall(piece.encode())
        except OSError:
            pass


listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
