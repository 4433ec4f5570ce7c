#!/usr/bin/python3
"""Runs captures through `weir replay` and holds what comes out against the table of cases.

    tests/forwarding/run.py [--ways WORKERSxBURST,…] [THEME | THEME.CASE] …

With the binary that WEIR names, or target/debug/weir; --ways, how often over and with how many workers and which `--burst`: 1x1.
One line a case; exit status 1 if any fails. Every case is also held against what must hold for all: see `general`. Without a theme,
every drop reason must be expected by some case.
"""

import functools
import importlib
import ipaddress
import json
import multiprocessing
import os
import re
import struct
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
try:
    import scapy  # noqa: F401
except ImportError:
    sys.exit("error: these tests need scapy: apt-get install python3-scapy")

import outward  # noqa: E402
import quotes  # noqa: E402
import tunnels  # noqa: E402
from case import ANY, NEXT  # noqa: E402
from lab import ARP, ICMP, IP, TCP, UDP, Ether, Host, Sent, tagged  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from wire import SCTP, Ipv4, Ipv6, ip_of, read_pcap, single_homed, write_pcap  # noqa: E402

WEIR = os.environ.get("WEIR", HERE / "../../target/debug/weir")
THEMES = sorted(path.stem for path in (HERE / "cases").glob("*.py"))
START = 1_700_000_000_000_000  # microseconds
VERDICTS = {"forward", "reply", "queue", "local", "drop"}
NEEDS_A_DEVICE = {"tx_full", "no_buffer", "no_headroom", "redirect_full", "host_queue_full"}
WORKERS = 1
BURST = 1

# What these count, each worker has for itself: places in its table, local ports that are its own, packets that wait;
# and a client port that two nat services lead to one real server is noticed where one worker has both.
ONE_WORKER = {
    "pools": {"v4_one_client", "four_to_six_one_client", "six_to_four_one_client", "elsewhere"},
    "connections": {
        "a_full_table_gives_the_oldest_half_open_connection_up",
        "a_full_table_has_room_after_the_timeouts",
        "connection_table_full",
        "one_connection",
        "fullnat_a_reused_port_leads_to_its_new_client",
        "fullnat_every_pair_of_a_small_pool_is_used_then_none_is_left",
        "fullnat_every_pair_of_several_addresses",
        "fullnat_known_connections_live_on_in_an_exhausted_pool",
        "fullnat_local_ports_are_unique_across_services",
        "fullnat_ports_are_counted_for_each_real_server",
        "fullnat_ports_of_ended_connections_are_free_again",
        "fullnat_ports_of_tcp_and_udp_are_apart",
    },
    "forged": {
        "a_syn_flood_lets_in_who_comes_again",
        "dr_a_full_table_gives_up_what_only_shook_hands",
        "dr_mh_goes_on_without_an_entry_where_there_is_no_room",
        "dr_sh_goes_on_without_an_entry_where_there_is_no_room",
        "fullnat_a_full_table_gives_up_what_a_blind_acknowledgement_opened",
        "fullnat_the_oldest_half_open_connection_gives_its_pair_up",
        "fullnat_a_full_table_gives_up_what_only_challenges_answered",
        "nat_a_full_table_gives_up_what_only_challenges_answered",
        "nat_a_full_table_gives_up_what_a_blind_acknowledgement_opened",
    },
    "drops": {"the_same_client_port_to_one_server_by_two_services"},
    "discovery": {"packets_that_wait_keep_their_order", "the_queue_is_bounded"},
    "fragments": {
        f"{family}_{what}"
        for family in ("four", "six")
        for what in ("more_wait_than_may", "a_flood_of_waiting_ones_leaves_others_their_part")
    },
    "snat": {f"{family}_{what}_every_port_is_used_then_none_is_left" for family in ("v4", "v6") for what in ("udp", "ping")}
    | {"v4_a_flood_from_inside_shuts_no_client_out"},
    "neighbours": {
        "a_failed_neighbour_holds_nobody_else_up",
        "a_full_queue_is_one_next_hops",
        "each_next_hop_has_its_own_queue",
        "packets_that_wait_keep_their_order",
        "the_queue_is_bounded",
    },
    # Who is full depends on whose turn it was.
    "thresholds": {f"{scheduler}_3_2_1_thresholds_in_churn_{seed}" for scheduler in ("rr", "wrr") for seed in range(3)},
}

# Where the order of several workers' turns shows, besides in the connections of all that `lc` and `wlc` count: in what they take
# from one limit, in two flows that want the same replies, and in a reply that is received by the port of its request.
ONE_AT_A_TIME = {
    # Which of two clients gets which local port.
    "crossing": {"four_to_six_persistence", "six_to_four_persistence"},
    # Which of the claims of one moment is answered first.
    "discovery": {"weirs_addresses_are_defended_once_in_ten_seconds"},
    "answers": {
        "a_forged_flood_for_every_port_of_a_vip_leaves_other_vips_their_resets",
        "a_forged_flood_for_one_service_leaves_other_vips_their_resets",
        "one_prefix_does_not_use_up_the_resets_of_others",
    },
    "drops": {
        "host_peers_bfd_from_beyond_the_link",
        "host_peers_other_ports",
        "host_peers_strangers",
        "host_peers_vrrp_from_beyond_the_link",
    },
    "forged": {"nat_udp_a_flow_that_was_answered_gives_way"},
    "modes": {"nat_one_arm"},
    # What answers a hairpin connection comes in by the port of its request.
    "routing": {f"{name}_{what}_of_a_hairpin_connection" for name in ("v4", "v6") for what in ("fragments",)}
    | {f"{name}_fragments_and_the_host" for name in ("v4", "v6")}
    | {f"{name}_errors_about_a_hairpin_connection" for name in ("v4", "v6")},
    # A packet that goes round the workers of a nat real server's services, and its answer.
    "snat": {f"{family}_a_nat_real_servers_own" for family in ("v4", "v6")},
    # Which of two SYNs takes its turn first, where one of them is handed over to the worker that has received the other.
    "schedulers": {"schedulers_of_two_services_do_not_share_their_turns"},
    # Which of two packets that are handed over gets which outer identification.
    "tunnel": {"4_in_4_persistent"},
}


def names_of(pattern):
    """The closed lists, as src/verdict.rs has them."""
    return set(re.findall(pattern, (HERE / "../../src/verdict.rs").read_text()))


DROPS = names_of(r'(?m)^    [A-Z]\w+, "([a-z0-9_]+)", "')
REASONS = {
    "forward": {"new connection", "known connection", "routed"},
    "queue": {"neighbour_unresolved", "first_fragment_missing"},
    "drop": DROPS,
    "reply": names_of(r'ReplyReason::\w+ => "(\w+)"'),
    "local": names_of(r'LocalReason::\w+ => "(\w+)"'),
}


class Results:
    """What one run gave: a line of `lines` for each packet, `out[port]` = (microseconds, frame) …"""

    def __init__(self, case, frames, lines, out, counts):
        self.case, self.frames, self.lines, self.out, self.counts = case, frames, lines, out, counts
        self.released, self.resets, self.parts = {}, [], []

    def sent(self, step):
        """The frame that `step` gave, or None."""
        line = self.lines[step]
        if "out_n" in line:
            return self.out[line["out_port"]][line["out_n"]][1]
        return self.released.get(step)

    def forwarded(self, step):
        frame = self.sent(step)
        assert frame, f"step {step} was to be forwarded, for a later step to reply: {self.lines[step]}"
        return frame

    def fields(self, step):
        return fields(self.forwarded(step))


def fields(frame):
    """A frame's fields by the names that cases use."""
    return dict(fields_of(bytes(frame), getattr(frame, "priorities", ())))


@functools.lru_cache(maxsize=1024)
def fields_of(frame, priorities):
    packet = Ether(frame)
    found = {"eth_src": packet.src, "eth_dst": packet.dst, "type": packet.type, "frame": frame, "priorities": priorities}
    if ARP in packet:
        arp = packet[ARP]
        found |= {"op": arp.op, "src": arp.psrc, "dst": arp.pdst, "hwsrc": arp.hwsrc, "hwdst": arp.hwdst}
    if isinstance(packet.payload, IPv6):
        parts = Ipv6(frame)
        found |= {"src": packet[IPv6].src, "dst": packet[IPv6].dst, "hlim": parts.ttl, "proto": parts.protocol}
        found |= {"tos": parts.traffic_class(), "label": packet[IPv6].fl, "length": len(parts.packet)}
        if parts.protocol in (6, 17) and not (parts.piece and parts.piece.offset):
            sport, dport = struct.unpack_from("!HH", parts.payload)
            found |= {"sport": sport, "dport": dport, "chksum": parts.field}
            found["payload"] = parts.payload[(parts.payload[12] >> 4) * 4 if parts.protocol == 6 else 8 :]
            if parts.protocol == 6:
                at = mss_at(parts.payload)
                found["mss"] = at and struct.unpack_from("!H", parts.payload, at)[0]
                found["flags"] = str(packet[TCP].flags) if TCP in packet else None
                found["seq"], found["ack"] = struct.unpack_from("!II", parts.payload, 4)
        if parts.protocol == SCTP and not parts.piece:
            found |= sctp_fields(parts)
        if parts.protocol == 58:
            found |= {"icmp": tuple(parts.payload[:2]), "rest": parts.payload[4:8], "payload": parts.payload[8:]}
            if parts.payload[0] in (135, 136):
                # RFC 4861 4.3, 4.4, 4.6.1: the target, the flags, and the one option.
                found["target"] = str(ipaddress.IPv6Address(parts.payload[8:24]))
                found["nd"] = "".join(name for bit, name in ((0x80, "R"), (0x40, "S"), (0x20, "O")) if parts.payload[4] & bit)
                found["option"] = parts.payload[24:].hex(":")
    if isinstance(packet.payload, IP):
        ip = packet[IP]
        found |= {"src": ip.src, "dst": ip.dst, "ttl": ip.ttl, "tos": ip.tos, "proto": ip.proto, "ihl": ip.ihl, "id": ip.id}
        found |= {"df": bool(ip.flags.DF), "length": ip.len}
        parts = Ipv4(frame)
        if ip.proto == 6 and ip.frag == 0:
            at = mss_at(parts.payload)
            found["mss"] = at and struct.unpack_from("!H", parts.payload, at)[0]
        if ip.proto in (6, 17) and ip.frag == 0:
            layer = packet[TCP if ip.proto == 6 else UDP]
            found |= {"sport": layer.sport, "dport": layer.dport, "chksum": parts.field}
            if ip.proto == 6:
                found |= {"flags": str(layer.flags), "seq": layer.seq, "ack": layer.ack}
                found["payload"] = parts.payload[layer.dataofs * 4 :]
            else:
                found["payload"] = parts.payload[8:]
        if ip.proto == SCTP and not parts.piece:
            found |= sctp_fields(parts)
        if ip.proto == 1:
            found |= {"icmp": tuple(parts.payload[:2]), "rest": parts.payload[4:8], "payload": parts.payload[8:]}
    return found


def sctp_fields(parts):
    sport, dport, tag, chksum = struct.unpack_from("!HHII", parts.payload)
    return {"sport": sport, "dport": dport, "tag": tag, "chksum": chksum, "chunk": tuple(parts.payload[12:14]), "payload": parts.payload[12:]}


class Untagged(bytes):
    """A frame without the VLAN tags that it came out with, whose priorities are here."""

    priorities = ()


def without_tags(frame, tags, port):
    """A frame that weir sent by a port, without the tags that all of the port's have."""
    found = [struct.unpack_from("!HH", frame, 12 + 4 * n) for n in range(len(tags))]
    ids = [(kind, control & 0x1FFF) for kind, control in found]
    assert ids == tags, f"a frame out of {port} with the tags {ids}, not {tags}"
    rest = Untagged(frame[:12] + frame[12 + 4 * len(tags) :])
    assert rest[12:14] not in (b"\x81\0", b"\x88\xa8"), f"a frame out of {port} with more tags than {tags}"
    rest.priorities = tuple(control >> 13 for _, control in found)
    return rest


def in_bursts(case):
    """Whether packets come in bursts: each right after the one before, unless it has a time of its own, or is an answer that
    another worker may get before it has the question. What the control thread learns of neighbours and routers it learns between
    two bursts: cases of that keep their times. So do cases of many idle connections that are reset: their order is that of the clock
    readings, of which a burst has one."""
    waits = any(getattr(step.expect, "verdict", None) == "queue" for step in case.steps)
    learns = any((getattr(step.expect, "verdict", None), getattr(step.expect, "reason", None)) == ("local", "nd") for step in case.steps)
    return BURST > 1 and not case.asks and not waits and not learns and case.resets <= 2


def times_of(case):
    time, times, bursts = START, [], in_bursts(case)
    for number, step in enumerate(case.steps):
        comes_along = bursts and step.after == NEXT and (WORKERS == 1 or step.port == case.steps[number - 1].port)
        after = 1e-6 if comes_along else step.after
        time = START + round(step.at * 1e6) if step.at is not None else time + round(after * 1e6)
        assert not times or time > times[-1] or step.at is not None or step.after == 0, "steps in the order of their times"
        times.append(time)
    return times


def replay(case, frames, folder, burst):
    """One run: what it wrote, as bytes."""
    ports = list(case.config.ports)
    (folder / "lb.toml").write_text(case.config.text)
    command = [WEIR, "replay", "--config", folder / "lb.toml", "--explain", folder / "why.jsonl", "--json"]
    command += ["--workers", str(WORKERS), "--burst", str(burst)]
    for port in ports:
        mine = [(time, frame) for (name, time, frame) in frames if name == port]
        if case.config.captured is None or port in case.config.captured:
            write_pcap(folder / f"{port}.in", mine)
            command += ["--rx", f"{port}={folder / port}.in"]
        command += ["--tx", f"{port}={folder / port}.out"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"weir replay: exit {run.returncode}\n{run.stderr}"
    written = [run.stdout, (folder / "why.jsonl").read_bytes()] + [(folder / f"{port}.out").read_bytes() for port in ports]
    lines = [json.loads(line) for line in (folder / "why.jsonl").read_text().splitlines()]
    tags = case.config.tags
    bare = lambda port, frame: without_tags(frame, tags[port], port) if port in tags else frame  # noqa: E731
    out = {port: [(time, bare(port, frame)) for time, frame in read_pcap(folder / f"{port}.out")] for port in ports}
    return written, Results(case, frames, lines, out, json.loads(run.stdout))


def play(case, folder):
    """Runs the case. A packet that replies to one of weir's is made from what a run up to there has sent."""
    times, frames, results = times_of(case), [], None
    for number, step in enumerate(case.steps):
        packet = step.packet
        if callable(packet):
            if results is None or len(results.lines) <= packet.needs:
                results = replay(case, frames, folder, BURST)[1]
                account(case, results)
            packet = packet(results)
        if isinstance(packet, Sent):
            frame = packet.frame(case.config.ports[step.port])
            packet = tagged(frame, case.config.tags.get(step.port, ()), packet.priorities)
        frames.append((step.port, times[number], packet))
    first, results = replay(case, frames, folder, BURST)
    if BURST > 1:
        # Also that what weir does is the same each time.
        second, single = replay(case, frames, folder, 1)
        if first == second:
            return results
        differ = [number for number, lines in enumerate(zip(results.lines, single.lines)) if lines[0] != lines[1]]
        assert False, f"two runs differ, in steps {differ}:" + "".join(f"\n{results.lines[n]}\n{single.lines[n]}" for n in differ[:2])
    return results


def account(case, results):
    """Every frame out belongs to a packet in (by `out_n`, or by being queued and released) or is an ARP request of weir's."""
    spare = {port: dict(enumerate(frames)) for port, frames in results.out.items()}
    for line in results.lines:
        if "out_n" in line:
            port, number = line["out_port"], line["out_n"]
            assert number in spare[port], f"out_n {number} of {port} twice, or not there: {line}"
            time, _ = spare[port].pop(number)
            assert time == round(line["time"] * 1e6), f"a frame has the timestamp of what caused it: {line}, {time}"
    requests = []
    for port, left in spare.items():
        for number in sorted(left):
            time, frame = left[number]
            packet = Ether(frame)
            if ARP in packet:
                assert packet[ARP].op == 1 and packet[ARP].hwsrc == packet.src == case.config.ports[port], f"not weir's ARP request: {packet!r}"
                requests.append((port, round((time - START) / 1e6, 3), packet[ARP].pdst))
                del left[number]
            elif is_own_discovery(frame):
                own_discovery(case, port, frame)
                requests.append((port, round((time - START) / 1e6, 3), fields(frame)["target"]))
                del left[number]
    for number, line in enumerate(results.lines):
        expect = case.steps[number].expect
        release = getattr(expect, "sent_with", None)
        if line["verdict"] == "queue" and release is not None and release < len(results.lines):
            left, due = spare[line["out_port"]], results.frames[release][1]
            released = [place for place, (time, _) in left.items() if time == due]
            assert released, f"step {number} was to be released by step {release}, with its timestamp"
            results.released[number] = left.pop(min(released))[1]
    for left in spare.values():
        of_its_own = [number for number, (_, frame) in left.items() if is_own_reset(case, fields(frame))]
        results.resets += [left.pop(number)[1] for number in of_its_own]
    if case.gathers:
        results.parts = [(port, frame) for port, left in spare.items() for _, frame in left.values()]
        spare = {}
    extra = [(port, fields(frame)) for port, left in spare.items() for _, frame in left.values()]
    assert not extra, f"frames out that nothing explains: {extra}"
    return sorted(requests, key=lambda request: request[1])


def is_own_discovery(frame):
    """A question of weir's, or an announcement."""
    packet = Ether(frame)
    return isinstance(packet.payload, IPv6) and Ipv6(frame).protocol == 58 and Ipv6(frame).payload[0] in (135, 136)


def own_discovery(case, port, frame):
    """What every message of neighbour discovery has that weir sends of its own accord: RFC 4861 4.3, 4.4, 7.2.2 and 7.2.6."""
    parts, found = Ipv6(frame), fields(frame)
    mac = case.config.ports[port]
    assert parts.ttl == 255 and parts.error == 0 and found["icmp"][1] == 0 and not any(parts.trailer), found
    assert found["eth_src"] == mac, found
    if found["icmp"][0] == 135:
        low = int(ipaddress.IPv6Address(found["target"])) & 0xFFFFFF
        group = ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | low)
        if found["eth_dst"].startswith("33:33"):
            assert found["dst"] == str(group) and found["eth_dst"] == "33:33:" + group.packed[-4:].hex(":"), found
        else:
            assert found["dst"] == found["target"], found
        assert found["option"] == f"01:01:{mac}", found
    else:
        flags = "RO" if is_ports(case, found["target"]) else "O"
        assert (found["dst"], found["eth_dst"], found["nd"]) == ("ff02::1", "33:33:00:00:00:01", flags), found
        assert found["src"] == found["target"] and found["option"] == f"02:01:{mac}", found


def is_ports(case, address):
    """Whether an address is a port's own: a link-local one, or one of the file's."""
    address = ipaddress.ip_address(address)
    listed = (net for port in tomllib.loads(case.config.text)["port"] for net in port["addresses"])
    return address.is_link_local or any(ipaddress.ip_interface(net).ip == address for net in listed)


def is_own_reset(case, found):
    """A reset to a real server, from a local pair, that answers nothing: RST alone, and right in itself. With `on_idle = "reset"` to
    either end of a connection."""
    if 'on_idle = "reset"' in case.config.text and found.get("flags") == "R":
        packet = ip_of(found["frame"])
        return packet.error == 0 and (not isinstance(packet, Ipv4) or packet.header_is_right())
    first, last = case.config.pool["ports"]
    is_pair = found.get("src") in case.config.pool["addresses"] and first <= found.get("sport", -1) <= last
    return is_pair and found.get("flags") == "R" and ip_of(found["frame"]).header_is_right() and ip_of(found["frame"]).error == 0


# --- what must hold in every case -------------------------------------------------------------------------------------


def general(case, results):
    lines, frames = results.lines, results.frames
    assert len(lines) == len(frames), f"{len(frames)} packets received, {len(lines)} explained"
    for number, (line, (port, time, frame)) in enumerate(zip(lines, frames)):
        where = f"step {number}: {line}"
        is_its_own = line["port"] == port or case.config.captured is not None
        assert line["n"] == number and is_its_own and round(line["time"] * 1e6) == time, f"{where}: out of order"
        assert line["verdict"] in VERDICTS, where
        assert line["reason"] in REASONS[line["verdict"]], f"{where}: a reason that no list has"
        assert ("out_n" in line) == (line["verdict"] in ("forward", "reply")), where
        sent = results.sent(number)
        if sent is None:
            continue
        assert fields(sent)["eth_src"] == case.config.ports[line["out_port"]], f"{where}: not from the out port's MAC address"
        if line.get("mode") == "snat" and line["verdict"] in ("forward", "queue"):
            outward.check(case, results, line, ip_of(untagged(frame)), ip_of(sent), case.steps[number].packet, where)
        elif line.get("mode") in tunnels.MODES and line["verdict"] in ("forward", "queue"):
            beyond_link(case, results, line, untagged(frame), sent, where)
        elif line["verdict"] in ("forward", "queue") and "service" not in line:
            routed(case, ip_of(untagged(frame)), ip_of(sent), where)
        elif line["verdict"] in ("forward", "queue") and quotes.is_error(ip_of(untagged(frame))):
            error_rewritten(case, results, line, case.steps[number].packet, ip_of(untagged(frame)), ip_of(sent), where)
        elif line["verdict"] in ("forward", "queue"):
            rewritten(case, line, untagged(frame), sent, where)
        elif line["reason"] == "nd":
            assert Ipv6(sent).error == 0 and Ipv6(sent).ttl == 255, where
        elif line["reason"] != "arp":
            answered(line, ip_of(untagged(frame)), ip_of(sent), where)
    counts = results.counts
    tally = {verdict: sum(line["verdict"] == verdict for line in lines) for verdict in VERDICTS}
    # Fragments that have waited are answered, or the host's, later.
    later = sum(line["verdict"] == "queue" and "out_n" not in line for line in lines) if case.gathers else 0
    assert counts["received"] == len(lines), counts
    for name, verdict in (("answered", "reply"), ("local", "local")):
        assert tally[verdict] <= counts[name] <= tally[verdict] + later, counts
    whole = counts["transmitted"] + counts["answered"] + counts["local"] + counts["queued"] + sum(counts["dropped"].values())
    assert counts["received"] == whole, f"received = transmitted + answered + local + queued + dropped: {counts}"
    dropped = {}
    for line in lines:
        if line["verdict"] == "drop":
            dropped[line["reason"]] = dropped.get(line["reason"], 0) + 1
    for reason, count in case.lost.items():
        dropped[reason] = dropped.get(reason, 0) + count
    counted = {reason: count for reason, count in counts["dropped"].items() if count}
    assert len(results.resets) == case.resets, f"{len(results.resets)} resets of its own accord"
    assert counted == dropped, f"dropped: {dropped} by the explanations and the case, counted {counted}"


def untagged(frame):
    """The frame without VLAN tags."""
    while frame[12:14] in (b"\x81\0", b"\x88\xa8"):
        frame = frame[:12] + frame[16:]
    return frame


def rewritten(case, line, frame, sent, where):
    """A packet sent on differs from the one received by what its mode rewrites, and by nothing else."""
    before, after = ip_of(frame), ip_of(sent)
    service = case.config.services[line["service"]]
    assert line["mode"] == service.mode, where
    assert after.header_is_right(), f"{where}: IPv4 header checksum"
    assert after.ttl == before.ttl - 1, f"{where}: TTL {before.ttl} became {after.ttl}"
    assert after.trailer in (b"", before.trailer) or not any(after.trailer), f"{where}: {after.trailer} after the packet"
    vip = ipaddress.ip_address(service.vip).packed
    if "client_address" in service.text:
        return told(case, line, service, before, after, where)
    if before.piece or after.piece:
        return part_rewritten(case, line, service, before, after, where)
    if len(before.src) != len(after.src):
        return translated(case, line, service, before, after, where)
    rewrites = vip_ports(service, before, after, before.dst == vip, line, where, case)
    same = bytearray(before.packet)
    same[before.ttl_at], same[before.own_checksum] = after.packet[before.ttl_at], after.packet[before.own_checksum]
    start = len(before.header)
    if rewrites:
        same[before.addresses], same[start : start + 4] = after.packet[before.addresses], after.payload[:4]
        place = start + before.place
        same[place : place + before.size] = after.packet[place : place + before.size]
    if rewrites and before.protocol == SCTP:
        same[start:] = single_homed(same[start:], after.src)
    if "tcp_mss" in service.text and (mss := mss_at(before.payload)):
        same[start + mss : start + mss + 2] = after.packet[start + mss : start + mss + 2]
        same[start + 16 : start + 18] = after.packet[start + 16 : start + 18]
    assert bytes(same) == after.packet, f"{where}: more was rewritten than the mode does"
    if before.says_nothing():
        assert after.field == 0, f"{where}: a UDP checksum of 0 stays 0"
    elif before.error == 0:
        assert after.field == after.right, f"{where}: checksum {after.field:#06x} instead of {after.right:#06x}"
    else:
        assert after.error == before.error, f"{where}: a wrong checksum stays wrong by as much"


def routed(case, before, after, where):
    """A packet between hosts: its TTL is one less, and nothing else changes (RFC 1812 5.3.1). What weir has cut is the case's."""
    if case.gathers and len(before.packet) != len(after.packet):
        return
    same = bytearray(before.packet)
    same[before.ttl_at] -= 1
    same[before.own_checksum] = after.packet[before.own_checksum]
    assert bytes(same) == after.packet and after.header_is_right(), f"{where}: more changed than the TTL"


def mss_at(segment):
    """Where a SYN's largest segment size is (RFC 9293 3.2), or None."""
    at, end = 20, (segment[12] >> 4) * 4
    while segment[13] & 2 and at < end and segment[at]:
        if segment[at] == 2 and at + 4 <= end and segment[at + 1] == 4:
            return at + 2
        at += 1 if segment[at] == 1 else max(segment[at + 1], 2) if at + 1 < end else 40
    return None


def beyond_link(case, results, line, frame, sent, where):
    """A packet of the modes tunnel and l3dsr; or an error about one that weir had wrapped, for its client."""
    before, vip = ip_of(frame), case.config.services[line["service"]].vip
    if before.dst == ipaddress.ip_address(vip).packed:
        case.parts = results.parts
        if case.gathers:
            return  # What weir has cut is the case's.
        return tunnels.check(case, line, frame, sent, where)
    after = ip_of(sent)
    assert quotes.is_error(before) and quotes.is_error(after), where
    assert after.header_is_right() and after.error == 0 and after.src == ipaddress.ip_address(vip).packed, where


def error_rewritten(case, results, line, packet, before, after, where):
    """An ICMP error: about the packet of another step, if `packet` says so."""
    service = case.config.services[line["service"]]
    assert line["mode"] == service.mode and after.header_is_right() and after.error == 0, where
    assert after.ttl == before.ttl - 1, f"{where}: TTL {before.ttl} became {after.ttl}"
    if (about := getattr(packet, "about", None)) is None:
        return
    original = ip_of(untagged(results.frames[about][2]))
    vip = ipaddress.ip_address(service.vip).packed
    quotes.check(before, after, original, packet.more, vip, original.dst != vip, service.mode, where)


def part_rewritten(case, line, service, before, after, where):
    """As `rewritten`, of a fragment: what has no header of layer 4 keeps all of its bytes. What weir has cut is the case's."""
    request = before.dst == ipaddress.ip_address(service.vip).packed
    if service.mode == "dr":
        assert (after.src, after.dst) == (before.src, before.dst), where
    elif request:
        assert str(ipaddress.ip_address(after.dst)) in line["real"], f"{where}: went to {after.dst}"
    else:
        assert after.src == ipaddress.ip_address(service.vip).packed, f"{where}: not from the service"
    if len(before.data) != len(after.data):
        return
    assert after.piece.id & 0xFFFF == before.piece.id & 0xFFFF, f"{where}: {before.piece} became {after.piece}"
    assert (after.piece.offset, after.piece.more) == (before.piece.offset, before.piece.more), where
    changed = 20 if before.piece.offset == 0 and service.mode != "dr" else 0
    assert after.payload[changed:] == before.payload[changed:], f"{where}: more was rewritten than the mode does"


def translated(case, line, service, before, after, where):
    """The other family's header, as RFC 7915 has it, and behind it what mode fullnat makes of what was received."""
    assert service.mode == "fullnat", where
    vip_ports(service, before, after, before.dst == ipaddress.ip_address(service.vip).packed, line, where, case)
    assert after.traffic_class() == before.traffic_class() and after.protocol == before.protocol, where
    assert after.trailer == b"", f"{where}: {after.trailer} after the packet"
    if len(after.src) == 16:
        assert len(after.header) == 40 and after.header[1:4] == bytes([after.header[1] & 0xF0, 0, 0]), f"{where}: no extension headers, flow label 0"
    else:
        atomic = before.fragment_id()
        df = atomic is None and len(after.packet) > 1260
        assert len(after.header) == 20 and after.header[6:8] == bytes([0x40 if df else 0, 0]), f"{where}: {len(after.packet)} bytes, flags {after.header[6:8]}"
        assert atomic is None or after.header[4:6] == atomic, f"{where}: the identification of an atomic fragment"
    same = bytearray(before.payload)
    same[:4] = after.payload[:4]
    same[before.place : before.place + 2] = after.payload[before.place : before.place + 2]
    if "tcp_mss" in service.text and before.protocol == 6 and (mss := mss_at(before.payload)):
        same[mss : mss + 2] = after.payload[mss : mss + 2]
    assert bytes(same) == after.payload, f"{where}: more was rewritten than ports and checksum"
    if before.error == 0:
        assert after.field == after.right, f"{where}: checksum {after.field:#06x} instead of {after.right:#06x}"
    else:
        assert after.error == before.error, f"{where}: a wrong checksum stays wrong by as much"


def told(case, line, service, before, after, where):
    """A packet by which a real server is told of the client, or its answer: what is put in the case says; the data stay."""
    if before.piece or after.piece:
        return
    vip_ports(service, before, after, before.dst == ipaddress.ip_address(service.vip).packed, line, where, case)
    start = lambda packet: (packet.payload[12] >> 4) * 4 if packet.protocol == 6 else 8  # noqa: E731
    data = before.payload[start(before) :]
    is_syn = before.protocol == 6 and before.payload[13] & 2
    assert is_syn or after.payload[start(after) :].endswith(data) or before.payload[4:8] < after.payload[4:8], f"{where}: the data"
    if before.says_nothing():
        return
    if before.error == 0:
        assert after.field == after.right, f"{where}: checksum {after.field:#06x} instead of {after.right:#06x}"
    else:
        assert after.error == before.error, f"{where}: a wrong checksum stays wrong by as much"


# The real servers' subnets, and the addresses of weir's port there.
HAIRPIN = {ipaddress.ip_network("10.0.0.0/24"): bytes([10, 0, 0, 1]), ipaddress.ip_network("2001:db8:10::/64"): ipaddress.ip_address("2001:db8:10::1").packed}


def hairpin(client):
    """The source that a nat client gets which is in the subnet of its real server, or None."""
    address = ipaddress.ip_address(client)
    return next((own for net, own in HAIRPIN.items() if address in net), None)


def vip_ports(service, before, after, request, line, where, case):
    """Addresses and ports against the table of modes; true if the mode rewrites them."""
    if service.mode == "dr":
        return False
    ports = lambda packet: struct.unpack("!HH", packet.payload[:4])  # noqa: E731
    (_, old_dport), (sport, dport) = ports(before), ports(after)
    dotted = lambda address: str(ipaddress.ip_address(address))  # noqa: E731
    place = lambda address, port: f"[{dotted(address)}]:{port}" if len(address) == 16 else f"{dotted(address)}:{port}"  # noqa: E731
    if request:
        assert place(after.dst, dport) == line["real"], f"{where}: went to {place(after.dst, dport)}"
        if service.mode == "nat" and (own := hairpin(before.src)):
            assert after.src == own, f"{where}: a client in the real servers' subnet gets the port's address"
        elif service.mode == "nat":
            assert after.src == before.src and sport == ports(before)[0], f"{where}: the client's address and port stay"
        else:
            first, last = case.config.pool["ports"]
            assert dotted(after.src) in case.config.pool["addresses"] and first <= sport <= last, f"{where}: {dotted(after.src)}:{sport}"
    else:
        assert dotted(after.src) == service.vip and sport == service.port or service.port == 0, f"{where}: not from the service"
        if service.mode == "nat" and before.dst in HAIRPIN.values():
            assert hairpin(after.dst) == before.dst, f"{where}: to a client in the real servers' subnet"
        elif service.mode == "nat":
            assert after.dst == before.dst and dport == old_dport, f"{where}: the client's address and port stay"
    return True


def answered(line, before, after, where):
    """weir's own answers: back to the sender, from where it had sent, with every checksum right."""
    assert after.header_is_right(), f"{where}: IPv4 header checksum"
    assert after.field == after.right or before.error, f"{where}: checksum {after.field:#06x} instead of {after.right:#06x}"
    assert after.dst == before.src, f"{where}: the answer goes to the sender"
    assert after.ttl >= 32, f"{where}: a fresh TTL"
    assert not any(after.trailer), f"{where}: {after.trailer} after the answer"
    if after.piece and after.piece.offset:
        return
    if after.protocol == 58 and after.payload[0] < 128:
        quote = after.payload[8:]
        assert before.packet.startswith(quote), f"{where}: quotes what was received"
        whole = len(quote) == len(before.packet) or len(after.packet) == 1280
        assert whole, f"{where}: RFC 4443 2.4 (c): as much as fits into 1280 bytes"
    if after.protocol == 1 and after.payload[0] in (3, 11):
        quote = after.payload[8:]
        assert before.packet.startswith(quote), f"{where}: quotes what was received"
        assert len(quote) >= min(len(before.header) + 8, len(before.packet)), f"{where}: RFC 792: the header and 64 bits"
        assert len(after.packet) <= 576, f"{where}: RFC 1812 4.3.2.3: at most 576 bytes"


# --- what one case expects --------------------------------------------------------------------------------------------


def mismatch(expect, number, results):
    """Why a step did not end as expected; None if it did."""
    line, sent = results.lines[number], results.sent(number)
    if line["verdict"] != expect.verdict:
        return f"{expect.verdict} {'' if expect.reason is ANY else expect.reason}".strip()
    reasons = expect.reason if isinstance(expect.reason, (set, frozenset)) else {expect.reason}
    if expect.reason is not ANY and line["reason"] not in reasons:
        return f"reason {expect.reason}"
    if expect.port and line.get("out_port") != expect.port:
        return f"out of {expect.port}"
    for key, value in expect.explain.items():
        if line.get(key) != value and not (key == "real" and takes_turns(results.case, line)):
            return f"{key} = {value}"
    if sent is None:
        return None
    found = fields(sent)
    wanted = dict(expect.frame)
    if isinstance(expect.to, Host) and not takes_turns(results.case, line):
        wanted["eth_dst"] = expect.to.mac
        if line.get("mode") in ("nat", "fullnat", "snat") or line["verdict"] == "reply":
            wanted["dst"] = expect.to.ip
    for key, value in wanted.items():
        right = value(found.get(key)) if callable(value) else found.get(key) == value
        if not right:
            return f"{key} = {'as checked' if callable(value) else repr(value)}, not {found.get(key)!r}"
    return None


def takes_turns(case, line):
    """Whether which real server it is depends on how many workers take turns, each for itself."""
    return WORKERS > 1 and "real" in line and re.search(r'scheduler = "w?rr"', case.config.text)


def is_one_at_a_time(theme, case):
    # An ICMP error comes to any worker, before that of its connection perhaps.
    has_errors = theme == "icmp_errors" or theme == "tunnel" and re.search("error|quote|on_the_way|without_a_connection", case.name)
    return has_errors or case.name in ONE_AT_A_TIME.get(theme, ()) or re.search(r'scheduler = "(w?lc|sed|nq|ovf)"|max_connections|limits = |one_packet', case.config.text)


def judge(case, folder):
    results = play(case, folder)
    requests = account(case, results)
    wrong = []
    for number, step in enumerate(case.steps):
        expects = step.expect if isinstance(step.expect, list) else [step.expect] * (step.expect is not None)
        misses = [mismatch(expect, number, results) for expect in expects]
        if misses and all(misses):
            wrong.append(f"step {number}: expected {' or '.join(misses)}, got {json.dumps(results.lines[number])}")
    assert not wrong, "\n".join(wrong[:3] + [f"… and {len(wrong) - 3} more steps"] * (len(wrong) > 3))
    assert case.asks is ANY or requests == list(case.asks), f"ARP requests: expected {list(case.asks)}, got {requests}"
    general(case, results)
    if case.check:
        case.check(results)


def cases_of(theme):
    cases = importlib.import_module(f"cases.{theme}").CASES
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"{theme}: two cases of one name"
    return cases


def reasons_without_a_case():
    """The drop reasons that no step of any case insists on, and what cases insist on that no list has."""
    found = set()
    for case in (case for theme in THEMES for case in cases_of(theme)):
        found.update(case.lost)
        drops = (step.expect.reason for step in case.steps if getattr(step.expect, "verdict", None) == "drop")
        found.update(reason for reason in drops if isinstance(reason, str))
    return sorted(DROPS - NEEDS_A_DEVICE - found), sorted(found - DROPS)


def is_for(theme, case, workers, burst):
    """Whether a case says something of so many workers and such bursts."""
    return not (workers > 1 and (case.name in ONE_WORKER.get(theme, ()) or burst > 1 and is_one_at_a_time(theme, case)))


def attempt(what):
    """What became of a case with so many workers and such bursts: the lines to print, and whether it went well."""
    global WORKERS, BURST
    WORKERS, BURST, theme, place = what
    case = cases_of(theme)[place]
    name = f"{theme}.{case.name}" + f" ({WORKERS} workers, bursts of {BURST})" * ((WORKERS, BURST) != (1, 1))
    with tempfile.TemporaryDirectory() as folder:
        try:
            judge(case, Path(folder))
            return f"ok      {name}", True
        except (AssertionError, KeyError, IndexError, subprocess.TimeoutExpired) as error:
            return f"FAILED  {name}: {case.says}\n        " + str(error or repr(error)).replace("\n", "\n        "), False


def main(wanted):
    ways = [(1, 1)]
    if wanted[:1] == ["--ways"]:
        ways, wanted = [tuple(map(int, way.split("x"))) for way in wanted[1].split(",")], wanted[2:]
    if not Path(WEIR).is_file():
        sys.exit(f"error: no binary at {WEIR}: build it, or name another in WEIR")
    named = [theme for theme in THEMES if any(name.split(".")[0] == theme for name in wanted)]
    tries = [
        (*way, theme, place)
        for theme in (named if wanted else THEMES)
        for place, case in enumerate(cases_of(theme))
        if not wanted or theme in wanted or f"{theme}.{case.name}" in wanted
        for way in ways
        if is_for(theme, case, *way)
    ]
    failed = 0
    # The cases are made once: what tries them is forked from here.
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        for line, went_well in pool.imap(attempt, tries, chunksize=2):
            print(line, flush=True)
            failed += not went_well
    print(f"{len(tries)} cases, {failed} failed")
    if not wanted:
        missing, unknown = reasons_without_a_case()
        print(f"{len(DROPS)} drop reasons; no case for: {missing or 'none'}; in no list: {unknown or 'none'}")
        failed += bool(missing or unknown or not DROPS)
    return 1 if failed or not tries else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
