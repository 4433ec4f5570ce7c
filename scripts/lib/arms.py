"""The programs that scripts/bench measures: testpmd and weir, each forwarding what net_pcap plays."""

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from attempts import Failure, least_starved, twice
from traffic import LEAST_FRAMES, SERVICE_PORT, VIP, VIP6, Load, clients, evenly, family_words, frame, write_frames

# By the family of the real servers.
REALS = {4: [f"10.0.0.{last}" for last in range(11, 15)], 6: [f"2001:db8:10::{last}" for last in range(11, 15)]}
POOLS = {4: "10.0.0.200-10.0.0.207", 6: "2001:db8:10::200-2001:db8:10::207"}
VIPS = {4: VIP, 6: VIP6}
# Mbufs beside those that net_pcap keeps.
SPARE_MBUFS = 16384
# What an mbuf of 2048 bytes takes, in bytes. Of ordinary memory, a page: no mbuf crosses the end of one.
MBUF = 2048 + 128 + 256
MBUF_IN_PAGES = 4096
START = 30.0


class Arm:
    """A program that forwards on one core. `sample` says what it has done so far."""

    def __init__(self, bench, load, capture):
        self.bench, self.load, self.flows = bench, load, load.flows
        # What it forwards, and what testpmd forwards that it is held against.
        self.traffic = self.baseline = load.words
        self.mbufs = load.frames + SPARE_MBUFS
        self.device = f"net_pcap0,rx_pcap={capture},infinite_rx=1"
        self.process = None

    def measured(self):
        """What it does in a while: again where it was starved of its CPU, and from the start once more where it failed."""

        def run():
            with self:
                return least_starved(lambda: self.measure(self.bench.seconds))

        return twice(run)

    def __enter__(self):
        self.log = open(self.bench.folder / "log", "w+", errors="replace")
        try:
            self.start()
            self.thread = self.forwarding_thread()
            self.warm_up()
        except BaseException as error:
            self.__exit__(type(error), error)
            raise
        return self

    def __exit__(self, kind=None, error=None, *_):
        try:
            # It no longer answers, or is gone.
            if isinstance(error, (OSError, ValueError, http.client.HTTPException)):
                raise Failure(f"{self.name}: {error or kind.__name__}{self.last_words()}") from error
        finally:
            self.end()

    def end(self):
        if self.process:
            stop(self.process)
        # The EAL leaves its folder behind.
        shutil.rmtree(f"/run/dpdk/bench-{os.getpid()}", ignore_errors=True)
        self.log.close()

    def spawn(self, command, **options):
        # Nothing polls on when this script is killed.
        guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        wherever = lambda: os.sched_setaffinity(0, self.bench.cpus)
        self.process = subprocess.Popen(guard + command, stderr=self.log, preexec_fn=wherever, **options)

    def wait_until(self, what, condition):
        end = time.monotonic() + START
        while time.monotonic() < end:
            if condition():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        waited = f" in {START:.0f} s" if self.process.returncode is None else ""
        raise Failure(f"{self.name}: no {what}{waited}{self.last_words()}")

    def last_words(self):
        """Whether it has ended, and the end of its log."""
        ended = ""
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = f"; it ended with {self.process.wait(1)}"
        self.log.seek(0)
        return "\n".join([f"{ended}:", *self.log.read().splitlines()[-12:]])

    def forwarding_thread(self):
        """The one thread on the worker's CPU that is called a worker (its name depends on DPDK's version)."""
        found = []

        def look():
            found.clear()
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                name = (task / "comm").read_text()
                if "worker" in name and os.sched_getaffinity(int(task.name)) == {self.bench.worker_cpu}:
                    found.append(task)
            return len(found) == 1

        self.wait_until("worker thread", look)
        return found[0]

    def cpu_ns(self):
        return int((self.thread / "schedstat").read_text().split()[0])

    def measure(self, seconds):
        """Packets a CPU-second, and the share of the time that the thread had its CPU."""
        start = time.monotonic()
        packets_before, ns_before = self.sample(), self.cpu_ns()
        time.sleep(seconds)
        packets, ns = self.sample(), self.cpu_ns()
        wall = time.monotonic() - start
        done = packets["received"] - packets_before["received"]
        sent = packets["sent"] - packets_before["sent"]
        busy = (ns - ns_before) / 1e9
        # A few bursts may be between the two counters.
        if done <= 0 or abs(done - sent) > 1000 + done / 1000:
            raise Failure(f"{self.name}: received {done} packets and sent {sent}: {packets}")
        return {"pps": done / busy, "share": busy / wall}


class Testpmd(Arm):
    def __init__(self, mode, *where, family=None):
        super().__init__(*where)
        if family:
            self.traffic = self.baseline = family_words(family)
        self.mode, self.binary, self.name = mode, "testpmd", f"testpmd {mode}"

    def start(self):
        bench = self.bench
        memory = ["--in-memory"] if bench.hugepages else ["--no-huge", "-m", str(self.mbufs * MBUF_IN_PAGES // 2**20 + 256)]
        self.spawn(
            # Line by line: what it answers comes before its prompt.
            ["stdbuf", "-oL", "dpdk-testpmd", "--lcores", f"0@{bench.main_cpu},1@{bench.worker_cpu}", "--main-lcore", "0", "--no-pci"]
            + ["--no-telemetry", "--file-prefix", f"bench-{os.getpid()}", *memory, "--vdev", self.device, "--"]
            + ["-i", f"--forward-mode={self.mode}", "--nb-cores=1", f"--burst={self.load.burst or 32}", "--port-topology=loop"]
            + [f"--total-num-mbufs={self.mbufs}", "--mbcache=256"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.heard = ""
        self.expect("testpmd> ")
        self.tell("start")

    def expect(self, text):
        def heard():
            self.heard += (self.process.stdout.read() or b"").decode(errors="replace")
            return text in self.heard

        self.wait_until(f"{text!r}", heard)
        answer, _, self.heard = self.heard.partition(text)
        return answer

    def tell(self, command):
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        self.expect(command)
        return self.expect("testpmd> ")

    def warm_up(self):
        before = self.sample()["received"]
        self.wait_until("forwarding", lambda: self.sample()["received"] > before + 4 * self.flows)
        time.sleep(self.bench.settle)

    def sample(self):
        stats = self.tell("show port stats 0")
        found = {name: re.search(rf"{name}-packets:\s*(\d+)", stats) for name in ("RX", "TX")}
        if not all(found.values()):
            raise ValueError(f"no counters in {stats!r}")
        count = lambda name: int(found[name][1])
        return {"received": count("RX"), "sent": count("TX")}


@dataclass(frozen=True)
class Program:
    """A binary of weir, and what the tables call it."""

    name: str
    path: Path

    def takes_bursts(self, folder):
        """Whether it knows `[dpdk] burst`: an older one does not."""
        file = folder / "burst.toml"
        file.write_text('[dpdk]\nburst = 1\n[[port]]\nname = "wire"\ndevice = "net_null0"\naddresses = ["10.0.0.1/24"]\n')
        done = subprocess.run([self.path, "check", file], capture_output=True, text=True)
        return "unknown key `burst`" not in done.stdout + done.stderr


def named(paths, taken="weir"):
    """A different name for each path, as short as it gets: the file's, with as many folders before it as that takes."""
    names = {}
    for path in paths:
        parts = path.absolute().parts[1:]
        others = [other.absolute().parts[1:] for other in paths if other.absolute() != path.absolute()]
        depth = next(
            (
                depth
                for depth in range(1, len(parts) + 1)
                if parts[-depth:] != (taken,) and all(other[-depth:] != parts[-depth:] for other in others)
            ),
            None,
        )
        names[path] = "/".join(parts[-depth:]) if depth else str(path.absolute())
    return [Program(names[path], path) for path in dict.fromkeys(paths)]


class Weir(Arm):
    CONFIG = """
[dpdk]
workers = [{worker}]
main_lcore = {main}
hugepages = "{hugepages}"
idle = "poll"
rss_key = "published"
mbufs = {mbufs}
{burst}

[api]
control = "unix:{socket}"
listen = ""

[limits]
connections = {connections}

[[port]]
name = "wire"
device = "{device}"
addresses = [{addresses}]

[[local_pool]]
name = "inside"
addresses = ["{local}"]
"""
    # What opens connections is played there once, and then there is nothing.
    OPENINGS = """
[[port]]
name = "openings"
device = "net_pcap1,rx_pcap={openings}"
"""
    SERVICE = """
[[service]]
name = "bench-{protocol}"
address = "{vip}"
port = {port}
protocol = "{protocol}"
mode = "{mode}"
scheduler = "rr"
{pool}
"""

    def __init__(self, mode, bench, load, capture, program=None, protocols=("udp",), openings=None, families=(4, 4)):
        """`program`: another binary than the measured one. `openings`: a capture that opens the connections, if `capture`
        does not. `families`: of the clients, and of the real servers."""
        super().__init__(bench, load, capture)
        self.front, self.back = families
        if load.kind == "families":
            self.traffic, self.baseline = family_words(*families), family_words(self.front)
        self.mode, self.protocols, self.openings = mode, protocols, openings
        self.program = program or Program("weir", bench.weir)
        self.binary, self.name = self.program.name, f"{self.program.name} {mode}"
        if load.kind == "mixed":
            self.traffic = " + ".join(protocols)

    def config(self, **given):
        burst = f"burst = {self.load.burst}" if self.load.burst else ""
        own = ['"10.0.0.1/24"'] + ['"2001:db8:10::1/64"'] * (6 in (self.front, self.back))
        parts = [self.CONFIG.format(burst=burst, addresses=", ".join(own), local=POOLS[self.back], **given)]
        if self.openings:
            parts.append(self.OPENINGS.format(openings=self.openings))
        pool = 'local_pool = "inside"' if self.mode == "fullnat" else ""
        for protocol in self.protocols:
            parts.append(self.SERVICE.format(protocol=protocol, vip=VIPS[self.front], port=SERVICE_PORT, mode=self.mode, pool=pool))
            port = SERVICE_PORT if self.mode == "dr" else 5353
            parts += [f'[[service.real]]\naddress = "{real}"\nport = {port}\n' for real in REALS[self.back]]
        for n, real in enumerate(REALS[self.back]):
            parts.append(f'[[neighbour]]\naddress = "{real}"\nmac = "02:00:00:00:01:{n:02x}"\n')
        return "\n".join(parts)

    def start(self):
        bench = self.bench
        self.socket = bench.folder / "api"
        self.socket.unlink(missing_ok=True)
        config = self.config(
            worker=bench.worker_cpu,
            main=bench.main_cpu,
            hugepages="require" if bench.hugepages else "never",
            mbufs=self.mbufs,
            socket=self.socket,
            # Twice the flows: room for whatever a hash does.
            connections=max(2 * self.flows, 65536),
            device=self.device,
        )
        (bench.folder / "weir.toml").write_text(config)
        self.spawn([self.program.path, "run", "--config", bench.folder / "weir.toml"], env=os.environ | {"RUST_LOG": "warn"})
        self.wait_until("API", self.socket.exists)

    def ask(self):
        return self.ask_all()[0]

    def ask_all(self):
        connection = http.client.HTTPConnection("localhost", timeout=START)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(START)
        try:
            connection.sock.connect(str(self.socket))
            connection.request("GET", "/v1/workers")
            return json.load(connection.getresponse())
        finally:
            connection.close()

    def warm_up(self):
        self.wait_until(f"{self.flows} connections", lambda: self.ask()["connections"] == self.flows)
        time.sleep(self.bench.settle)

    def sample(self):
        worker = self.ask()
        if worker["connections"] != self.flows:
            raise Failure(f"{self.name}: {worker['connections']} connections of {self.flows} flows")
        return {"received": worker["received_packets"], "sent": worker["transmitted_packets"]}


class WeirWorkers(Weir):
    """Several workers, each with a receive queue of its own, to which its own flows come, as from a NIC."""

    def __init__(self, workers, bench):
        self.workers = workers
        super().__init__("fullnat", bench, Load(1_000 * workers), None)
        self.name = f"weir, {workers} worker{'s' * (workers > 1)}"
        captures = [bench.folder / f"worker-{workers}-{n}.pcap" for n in range(workers)]
        self.device = "net_pcap0" + "".join(f",rx_pcap={capture}" for capture in captures) + ",infinite_rx=1"
        self.mbufs = workers * (LEAST_FRAMES + SPARE_MBUFS)

    @staticmethod
    def captures(workers, folder):
        """The flows of each worker, a thousand."""
        own, dice = [[] for _ in range(workers)], random.Random(1)
        for client in clients(2_000 * workers + 2_000, dice):
            own[owner(client, workers)].append(client)
        for n, flows in enumerate(own):
            assert len(flows) >= 1_000
            each = [frame(flow) for flow in flows[:1_000]]
            chosen = evenly(len(each), LEAST_FRAMES, dice)
            write_frames(folder / f"worker-{workers}-{n}.pcap", (each[one] for one in chosen))

    def config(self, **given):
        # The control thread shares a CPU where there is none for it.
        cpus = self.bench.cpus
        given["worker"] = ", ".join(str(cpus[(n + 1) % len(cpus)]) for n in range(self.workers))
        return super().config(**given)

    def forwarding_thread(self):
        found = []

        def look():
            found[:] = [task for task in Path(f"/proc/{self.process.pid}/task").iterdir() if "worker" in (task / "comm").read_text()]
            return len(found) == self.workers

        self.wait_until("worker threads", look)
        return found

    def cpu_ns(self):
        return sum(int((task / "schedstat").read_text().split()[0]) for task in self.thread)

    def sample(self):
        total = {"received": 0, "sent": 0}
        for worker in self.ask_all():
            total["received"] += worker["received_packets"]
            total["sent"] += worker["transmitted_packets"]
        return total

    def warm_up(self):
        connections = lambda: sum(worker["connections"] for worker in self.ask_all())
        self.wait_until(f"{self.flows} connections", lambda: connections() == self.flows)
        time.sleep(self.bench.settle)

    def measure(self, seconds):
        """What all send together, as if each worker had a CPU to itself; the share is their mean."""
        start = time.monotonic()
        before, ns_before = self.sample(), self.cpu_ns()
        time.sleep(seconds)
        after, ns = self.sample(), self.cpu_ns()
        wall = time.monotonic() - start
        received, sent = (after[key] - before[key] for key in ("received", "sent"))
        busy = (ns - ns_before) / 1e9 / self.workers
        if received <= 0 or abs(received - sent) > 1000 * self.workers + received / 1000:
            raise Failure(f"{self.name}: received {received} packets and sent {sent}")
        return {"pps": sent / busy, "share": busy / wall}


# Microsoft's, which weir's devices hash with.
RSS_KEY = int("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa", 16)


def owner(client, workers):
    """Which worker a NIC brings a client's packets to."""
    address, port = client
    data = int.from_bytes(address + socket.inet_aton(VIP) + struct.pack("!HH", port, 53), "big")
    total = 0
    for bit in range(96):
        if data >> (95 - bit) & 1:
            total ^= RSS_KEY >> (320 - 32 - bit) & 0xFFFFFFFF
    return total % 128 % workers


def stop(process):
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            try:
                pipe.close()
            except BrokenPipeError:
                pass
