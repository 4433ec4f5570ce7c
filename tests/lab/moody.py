#!/usr/bin/python3
"""A web server of moods: moody.py NAME MOOD-FILE [PORT].

The file says how the next request is answered: "ok" (200, the server's name), "500", or "hang" (accepted, and never answered).
"""
import socket
import sys
import threading

name, mood_file = sys.argv[1:3]
port = int(sys.argv[3]) if len(sys.argv) > 3 else 80
kept = []


def answer(connection):
    with open(mood_file) as file:
        mood = file.read().strip()
    if mood == "hang":
        kept.append(connection)
        return
    with connection:
        connection.settimeout(5)
        try:
            if not connection.recv(4096):
                return
            status, body = ("200 OK", f"{name}\n") if mood == "ok" else ("500 Internal Server Error", "no\n")
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + body).encode())
        except OSError:
            pass


listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
