#!/usr/bin/python3
"""An HTTP client that knows which real server failed it.

    load.py connections N PARALLEL ADDRESS     N connections of one request each
    load.py steady STOP-FILE PARALLEL ADDRESS  keep-alive connections, request after request, until the file exists

Prints one JSON object: {"requests": {server: n}, "failed": {server or "unknown": n}, "errors": [up to 5 texts]}.
In `steady`, a failed connection counts against the real server that had answered it, and another takes its place.
"""
import collections
import json
import os
import socket
import sys
import threading
import urllib.parse


class Count:
    def __init__(self):
        self.lock = threading.Lock()
        self.requests = collections.Counter()
        self.failed = collections.Counter()
        self.errors = []

    def good(self, server):
        with self.lock:
            self.requests[server] += 1

    def bad(self, server, error):
        with self.lock:
            self.failed[server or "unknown"] += 1
            if len(self.errors) < 5:
                self.errors.append(f"{server}: {error!r}")


def request(connection, keep):
    """One request; returns the server's name, the first word of the answer."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: %s\r\n\r\n" % (b"keep-alive" if keep else b"close"))
    answer = b""
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        if end:
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            if len(body) >= int(fields[b"content-length"]):
                break
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"closed after {len(answer)} bytes")
        answer += piece
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(head.decode(errors="replace"))
    if not keep and connection.recv(1):
        raise ConnectionError("bytes after the end")
    return body.split()[0].decode()


def single(address, count, left):
    while True:
        with count.lock:
            if left[0] == 0:
                return
            left[0] -= 1
        try:
            with socket.create_connection(address, timeout=10) as connection:
                count.good(request(connection, keep=False))
        except (OSError, ValueError, KeyError) as error:
            count.bad(None, error)


def steady(address, count, stop):
    while not os.path.exists(stop):
        server = None
        try:
            with socket.create_connection(address, timeout=10) as connection:
                while not os.path.exists(stop):
                    server = request(connection, keep=True)
                    count.good(server)
        except (OSError, ValueError, KeyError) as error:
            count.bad(server, error)


def main():
    what, how_much, parallel, address = sys.argv[1:]
    parts = urllib.parse.urlsplit(f"//{address}")
    address = (parts.hostname, parts.port or 80)
    count = Count()
    target, argument = (single, [int(how_much)]) if what == "connections" else (steady, how_much)
    threads = [threading.Thread(target=target, args=(address, count, argument)) for _ in range(int(parallel))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"requests": count.requests, "failed": count.failed, "errors": count.errors}, sort_keys=True))


main()
