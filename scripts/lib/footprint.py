"""What many services cost the daemon: its start, its reloads, its memory, and what it tells of them."""

import os
import socket
import subprocess
import time
from pathlib import Path

from arms import START, stop
from attempts import Failure

REALS = 8
RELOADS = 5
# Services of which a whole scrape is read: of 100,000 it would be a gigabyte.
SCRAPED = 20_000
FEW, MANY = SCRAPED, 100_000
# Services in a file: weir takes files of 16 MiB.
IN_A_FILE = 10_000
# After a change, until memory that is given back has been.
SETTLE = 0.5

HEAD = """
include = ["large-*.toml"]
[dpdk]
workers = [{worker}]
main_lcore = {main}
idle = "adaptive"
hugepages = "never"
[api]
control = "unix:{api}"
listen = ""
[metrics]
per_real = {per_real}
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/16"]
"""


class Large:
    """A daemon with a great many services of 8 real servers, on no NIC."""

    def __init__(self, bench, program, services):
        self.bench, self.program, self.services = bench, program, services
        self.folder = bench.folder / "large"
        self.api, self.file = self.folder / "api", self.folder / "weir.toml"

    def __enter__(self):
        self.folder.mkdir(exist_ok=True)
        self.api.unlink(missing_ok=True)
        for old in self.folder.glob("large-*.toml"):
            old.unlink()
        for first in range(0, self.services, IN_A_FILE):
            self.write(first, 1)
        self.write_head("true")
        self.log = open(self.folder / "log", "w+", errors="replace")
        self.process = None
        return self

    def __exit__(self, *_):
        if self.process:
            stop(self.process)
        self.log.close()

    def write_head(self, per_real):
        bench = self.bench
        self.file.write_text(HEAD.format(worker=bench.worker_cpu, main=bench.main_cpu, api=self.api, per_real=per_real))

    def write(self, first, weight):
        """The file of 10,000 services from `first` on; `weight`: of one real server among them."""
        parts = []
        for n in range(first, min(first + IN_A_FILE, self.services)):
            vip = f"11.{n // 62_500}.{n // 250 % 250}.{n % 250 + 1}"
            parts.append(f'[[service]]\naddress = "{vip}"\nport = 80\nprotocol = "tcp"\nmode = "nat"\nscheduler = "wrr"\n')
            parts += [
                f'[[service.real]]\naddress = "10.0.{n % 200 + 1}.{last}"\nweight = {weight if (n, last) == (first, 4) else 1}\n'
                for last in range(1, REALS + 1)
            ]
        (self.folder / f"large-{first // IN_A_FILE:02}.toml").write_text("".join(parts))

    def wherever(self):
        os.sched_setaffinity(0, self.bench.cpus)

    def start(self):
        """Seconds until it is ready."""
        began = time.monotonic()
        self.process = subprocess.Popen([self.program, "run", "--config", self.file], stderr=self.log, preexec_fn=self.wherever)
        # The socket is there before anything answers on it.
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - began > START:
                self.log.seek(0)
                raise Failure(f"weir does not start with {self.services:,} services:\n{self.log.read()[-2000:]}")
            time.sleep(0.002)
        return time.monotonic() - began

    def answers(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START)
            try:
                connection.connect(str(self.api))
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n")
                return b" 200 " in connection.recv(64)
            except OSError:
                return False

    def command(self, *words, expect):
        """Seconds that a command of weir takes; `expect`: what its answer has."""
        began = time.monotonic()
        command = [self.program, *words, "--api", f"unix:{self.api}"]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=self.wherever, timeout=2 * START)
        took = time.monotonic() - began
        if done.returncode or not expect(done.stdout):
            raise Failure(f"weir {' '.join(words)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return took

    def reload(self, weight):
        self.write(0, weight)
        return self.command("reload", expect=lambda answer: "1 reweighted" in answer)

    def memory(self, name):
        """Megabytes, as the kernel counts them."""
        time.sleep(SETTLE)
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024 / 1e6

    def scrape(self):
        """Megabytes of /metrics, and the seconds that they take."""
        began = time.monotonic()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START)
            connection.connect(str(self.api))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n")
            length, buffer, start, end = 0, bytearray(1 << 20), b"", b""
            while got := connection.recv_into(buffer):
                start = start or bytes(buffer[:64])
                end = (end + bytes(buffer[max(0, got - 16) : got]))[-16:]
                length += got
        took = time.monotonic() - began
        # A chunked answer that ends without its last chunk was cut off.
        if b" 200 " not in start or not end.endswith((b"\r\n0\r\n\r\n", b"# EOF\n")):
            raise Failure(f"/metrics of {self.services:,} services: {start!r} … {end!r}")
        return length / 1e6, took


def footprint(bench, program, services):
    """What a daemon with so many services takes: by what it is and its unit, one value or more."""
    try:
        with Large(bench, program, services) as daemon:
            return look_at(daemon)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"weir with {services:,} services: {error}") from error


def look_at(daemon):
    told = {}
    services = daemon.services
    told["start to ready", "s"] = [daemon.start()]
    told["memory after the start", "MB"] = [daemon.memory("VmRSS")]
    told["reload", "s"] = [daemon.reload(2 + n) for n in range(RELOADS)]
    told[f"memory after {RELOADS} reloads", "MB"] = [daemon.memory("VmRSS")]
    told["weir show services", "s"] = [daemon.command("show", "services", expect=lambda answer: answer.count("\n") > services)]
    if services <= SCRAPED:
        size, took = daemon.scrape()
        told["/metrics", "MB"], told["a scrape", "s"] = [size], [took]
        daemon.write_head("false")
        daemon.command("reload", expect=lambda _: True)
        size, took = daemon.scrape()
        told["/metrics, per_real = false", "MB"], told["a scrape, per_real = false", "s"] = [size], [took]
    told["memory at most", "MB"] = [daemon.memory("VmHWM")]
    return told
