#!/usr/bin/python3
"""Asks a service again and again, and says when which real server failed it.

    window.py ask STOP-FILE ADDRESS PORT RESULTS   a request every 20 ms, each in a connection of its own, until the file exists
    window.py judge RESULTS SERVER DIED SECONDS BACK
        DIED and BACK in seconds since 1970: no request that ended before DIED or began more than SECONDS after it may have failed, and
        SERVER answers none that began from DIED + SECONDS to BACK

A request that began at a time of failure and has no answer within 2 s has failed.
"""
import json
import os
import socket
import sys
import threading
import time


def request(address, results):
    began = time.time()
    server = None
    try:
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
            head, _, body = answer.partition(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 200 "):
                server = body.split()[0].decode()
    except (OSError, IndexError):
        pass
    results.append((began, time.time(), server))


def ask(stop, address, port, file):
    results, threads = [], []
    while not os.path.exists(stop):
        threads.append(threading.Thread(target=request, args=((address, int(port)), results)))
        threads[-1].start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    with open(file, "w") as out:
        json.dump(sorted(results, key=lambda result: result[0]), out)


def judge(file, server, died, seconds, back):
    died, end, back = float(died), float(died) + float(seconds), float(back)
    with open(file) as results:
        results = json.load(results)
    failed = [(began, ended) for began, ended, by in results if by is None]
    outside = [round(began - died, 3) for began, ended in failed if ended < died or began > end]
    wrong = [round(began - died, 3) for began, _, by in results if by == server and end < began < back]
    before = sum(by == server for began, _, by in results if began < died)
    after = sum(by == server for began, _, by in results if began > back)
    last = max((round(began - died, 3) for began, _ in failed), default=0)
    print(f"{len(results)} requests, {len(failed)} failed, the last {last} s after; {before} by {server} before, {after} when back")
    if outside or wrong or not before or not after:
        sys.exit(f"failed outside of the window: {outside[:5]}; answered by {server} meanwhile: {wrong[:5]}")


{"ask": ask, "judge": judge}[sys.argv[1]](*sys.argv[2:])
