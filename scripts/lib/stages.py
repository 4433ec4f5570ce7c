"""Where a running weir's cycles go: its worker's thread is sampled (perf, by the clock: no hardware counters needed), and
each sample belongs to the stage whose code was running, by the line tables of the binary."""

import collections
import re
import subprocess

# The first that fits a frame, from the innermost on: (stage, the frame's function, its file).
STAGES = [
    ("parse, with the header checksum", r"", r"director/parse\.rs|wire/"),
    ("hash, fetch the bucket", r"::hash$|hash<|prefetch_bucket", r"conn/(table|entry|mod)\.rs"),
    ("look at the bucket, fetch the entry", r"guess$|guess<|matches", r"conn/table\.rs"),
    ("compare the key, fetch the counters", r"find|prefetch_counters|get$|eq$", r"conn/|director/mod\.rs"),
    ("addresses, ports, checksums", r"", r"forward/"),
    ("next hop, MAC addresses", r"", r"neighbour\.rs"),
    ("counters of the real server", r"add$|get$", r"stats/"),
    ("state, time, the rest of the decision", r"", r"director/"),
    ("the worker's loop, transmit buffers", r"", r"worker\.rs|io/dpdk/|packet\.rs|rcu/"),
]
DRIVER = "receive, transmit and free, in DPDK"
OTHER = "anything else"


def stages(folder, thread, weir, seconds):
    """The share of each stage in the time of a thread."""
    data = folder / "perf.data"
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "7000", "-t", str(thread), "-o", data, "--", "sleep", str(seconds)]
    subprocess.run(record, check=True, capture_output=True)
    told = lambda *options: subprocess.run(["perf", "script", "-i", data, *options], capture_output=True, text=True).stdout
    # Where the binary was mapped, and where its code is in the file.
    mapped = re.search(r"\[0x(\w+)\(0x\w+\) @ (0x\w+|0) .* r-xp .*/" + re.escape(weir.name), told("--show-mmap-events"))
    headers = subprocess.run(["readelf", "-lW", weir], capture_output=True, text=True).stdout
    segment = next(line for line in headers.splitlines() if " R E " in line).split()
    shift = int(segment[2], 16) - int(segment[1], 16) + int(mapped[2], 16) - int(mapped[1], 16)
    counts, addresses = collections.Counter(), collections.Counter()
    for line in told("-F", "ip,dso").splitlines():
        found = re.match(r"\s*(\w+) \((.*)\)$", line)
        if not found:
            continue
        ip, binary = found.groups()
        if binary.endswith("/" + weir.name):
            addresses[int(ip, 16) + shift] += 1
        else:
            # The memcpy of a driver is libc's.
            counts[DRIVER if re.search(r"/lib(rte_|pcap|c\.)", binary) else OTHER] += 1
    command = ["addr2line", "-e", weir, "-afiC", *map(hex, addresses)]
    frames = collections.defaultdict(list)
    address = None
    lines = iter(subprocess.run(command, capture_output=True, text=True).stdout.splitlines())
    for line in lines:
        if line.startswith("0x"):
            address = int(line, 16)
        else:
            frames[address].append((line, next(lines)))
    for address, count in addresses.items():
        counts[stage_of(frames[address])] += count
    total = sum(counts.values())
    order = [DRIVER, *(stage for stage, *_ in STAGES), OTHER]
    return {stage: counts[stage] / total for stage in order if counts[stage]}


def stage_of(frames):
    for function, place in frames:
        file = place.split("/src/")[-1] if "/rustc/" not in place and "/.cargo/" not in place else ""
        if function.startswith("rte_"):
            return DRIVER
        for stage, name, where in STAGES:
            if file and re.search(where, file) and re.search(name, function):
                return stage
    return OTHER
