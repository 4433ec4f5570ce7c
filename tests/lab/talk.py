#!/usr/bin/python3
"""TCP connections that live on and on, each of which says a number every so often and hears it again.

    talk.py serve NAME PORT               answers each connection's first message with its name, later ones as they are
    talk.py talk N ADDRESS PORT DIRECTORY makes N connections to there, and then answers requests by files in the directory

Once all connections are made the file `open` is there. For each file `ask` it looks at every connection until it has heard two
more numbers, or has ended, or a minute is over, and moves a file `told` there: how many connections of each real server go on, how
many are broken, and the longest silence that one has seen since the last `ask`, in seconds.
"""
import asyncio
import collections
import json
import os
import resource
import sys
import time

PAUSE = 0.5
MESSAGE = 8


class Connection:
    def __init__(self):
        self.server = None
        self.heard = 0
        self.at = time.monotonic()
        self.silence = 0.0
        self.broken = None


async def serve(name, port):
    async def answer(reader, writer):
        try:
            await reader.readexactly(MESSAGE)
            writer.write(name.encode().ljust(MESSAGE))
            while True:
                writer.write(await reader.readexactly(MESSAGE))
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(answer, None, int(port), backlog=4096)
    await server.serve_forever()


async def hold(connection, address, gate, opened):
    try:
        async with gate:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"hello".ljust(MESSAGE))
            connection.server = (await reader.readexactly(MESSAGE)).decode().strip()
        opened()
        while True:
            connection.at = time.monotonic()
            await asyncio.sleep(PAUSE)
            said = str(connection.heard).encode().ljust(MESSAGE)
            writer.write(said)
            back = await reader.readexactly(MESSAGE)
            if back != said:
                raise ValueError(f"{back} for {said}")
            connection.heard += 1
            connection.silence = max(connection.silence, time.monotonic() - connection.at - PAUSE)
    except (OSError, ValueError, asyncio.IncompleteReadError) as why:
        connection.broken = repr(why)
        opened()


async def talk(count, address, port, directory):
    left = [count]
    every = asyncio.Event()

    def opened():
        left[0] -= 1
        if left[0] <= 0:
            every.set()

    connections = [Connection() for _ in range(count)]
    gate = asyncio.Semaphore(200)
    tasks = [asyncio.create_task(hold(it, (address, port), gate, opened)) for it in connections]
    await every.wait()
    put = lambda name, what: (open(f"{directory}/{name}.new", "w").write(what), os.rename(f"{directory}/{name}.new", f"{directory}/{name}"))
    put("open", json.dumps(collections.Counter(it.broken or it.server for it in connections)))
    while tasks:
        if not os.path.exists(f"{directory}/ask"):
            await asyncio.sleep(0.05)
            continue
        os.remove(f"{directory}/ask")
        wanted = {id(it): it.heard + 2 for it in connections}
        end = time.monotonic() + 60
        goes_on = lambda it: it.broken is None and it.heard >= wanted[id(it)]
        while time.monotonic() < end and not all(it.broken or goes_on(it) for it in connections):
            await asyncio.sleep(0.05)
        servers = collections.Counter(it.server for it in connections if goes_on(it))
        errors = collections.Counter(it.broken or "silent" for it in connections if not goes_on(it))
        put("told", json.dumps({
            "servers": dict(sorted(servers.items())),
            "broken": sum(errors.values()),
            "errors": errors.most_common(3),
            "silence": round(max(it.silence for it in connections), 2),
        }))
        # The broken ones have been told of.
        connections = [it for it in connections if goes_on(it)]
        for it in connections:
            it.silence = 0.0


def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    what, *rest = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve(*rest))
    else:
        count, address, port, directory = rest
        asyncio.run(talk(int(count), address, int(port), directory))


main()
