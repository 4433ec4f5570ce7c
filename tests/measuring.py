"""The parts of scripts/bench that measure nothing themselves: what is taken again, which packets are sent, what the tables say."""

import io
import random
import struct
import sys
import tempfile
import unittest
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts" / "lib"))
import tables  # noqa: E402
import traffic  # noqa: E402
from arms import Program, named  # noqa: E402
from attempts import AGAIN, Failure, least_starved, twice  # noqa: E402
from hugepages import TRIES, Hugepages  # noqa: E402
from traffic import ACK, IMIX, LOADS, SYN, Load, clients, evenly, frame, imix, write_capture, write_openings, zipf  # noqa: E402


class Attempts(unittest.TestCase):
    def measure(self, *shares):
        """What is kept of attempts with these shares of the CPU, and how many are left."""
        left = list(shares)
        kept = least_starved(lambda: {"share": left.pop(0), "pps": len(left)})
        return kept["share"], kept["attempts"], len(left)

    def test_a_thread_that_had_its_cpu_is_measured_once(self):
        self.assertEqual(self.measure(0.9, 1.0), (0.9, 1, 1))

    def test_a_starved_one_is_measured_until_it_was_not(self):
        self.assertEqual(self.measure(0.3, 0.89, 0.95, 1.0), (0.95, 3, 1))

    def test_the_least_starved_attempt_counts_when_all_were(self):
        self.assertEqual(AGAIN, 3)
        self.assertEqual(self.measure(0.3, 0.8, 0.5, 0.2, 1.0), (0.8, 4, 1))

    def test_the_whole_attempt_is_kept_not_its_share_alone(self):
        attempts = iter([{"share": 0.7, "pps": 5}, {"share": 0.2, "pps": 9}, {"share": 0.1, "pps": 8}, {"share": 0.3, "pps": 7}])
        self.assertEqual(least_starved(lambda: next(attempts))["pps"], 5)

    def test_what_fails_runs_once_more_and_only_once(self):
        told = []

        def run(failures):
            if failures:
                raise failures.pop(0)
            return "done"

        one, two = Failure("one"), Failure("two")
        self.assertEqual(twice(lambda: run([]), told.append), "done")
        self.assertEqual(told, [])
        failures = [one]
        self.assertEqual(twice(lambda: run(failures), told.append), "done")
        self.assertEqual(told, [one])
        failures = [one, two]
        with self.assertRaises(Failure) as raised:
            twice(lambda: run(failures), told.append)
        self.assertIs(raised.exception, two)

    def test_a_mistake_of_the_script_itself_is_not_tried_again(self):
        with self.assertRaises(KeyError):
            twice(lambda: {}["nothing"], self.fail)


class Pages(unittest.TestCase):
    """In a folder like the kernel's, of a machine that has reserved 10 pages, 4 of them free."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.pages = Path(folder.name)
        (self.pages / "nr_hugepages").write_text("10")
        (self.pages / "free_hugepages").write_text("4")

    def reserved(self):
        return int((self.pages / "nr_hugepages").read_text())

    def test_what_is_missing_is_reserved_and_given_back(self):
        with Hugepages(100, self.pages) as pages:
            self.assertTrue(pages.enough)
            self.assertEqual(self.reserved(), 56)
        self.assertEqual(self.reserved(), 10)
        with self.assertRaises(KeyboardInterrupt), Hugepages(100, self.pages):
            raise KeyboardInterrupt
        self.assertEqual(self.reserved(), 10)

    def test_those_that_are_free_are_enough(self):
        with Hugepages(8, self.pages) as pages:
            self.assertTrue(pages.enough)
            self.assertEqual(self.reserved(), 10)

    def test_too_few_are_given_back_at_once(self):
        class Short(Hugepages):
            def set(self, count):
                super().set(min(count, 20))

        with mock.patch("time.sleep") as sleep, Short(100, self.pages) as pages:
            self.assertFalse(pages.enough)
            self.assertEqual(self.reserved(), 10)
            self.assertEqual(sleep.call_count, TRIES)

    def test_an_interrupt_while_they_are_reserved_gives_them_back(self):
        class Short(Hugepages):
            def set(self, count):
                super().set(min(count, 20))

        for interrupt in (KeyboardInterrupt, SystemExit):
            with mock.patch("time.sleep", side_effect=interrupt), self.assertRaises(interrupt):
                Short(100, self.pages).__enter__()
            self.assertEqual(self.reserved(), 10)

    def test_a_kernel_without_hugepages_has_none(self):
        with Hugepages(100, self.pages / "none") as pages:
            self.assertFalse(pages.enough)


class Traffic(unittest.TestCase):
    def test_imix_has_its_proportions_exactly(self):
        frames = LOADS["1k-imix"].frames
        self.assertGreaterEqual(frames, 1024)
        count = Counter(imix(frames, random.Random(1)))
        self.assertEqual(sum(IMIX.values()), 12)
        self.assertEqual(count, {length: times * frames // 12 for length, times in {64: 7, 570: 4, 1518: 1}.items()})

    def test_imix_is_in_no_order(self):
        lengths = imix(1200, random.Random(1))
        self.assertNotEqual(lengths, imix(1200, random.Random(2)))
        self.assertEqual(lengths, imix(1200, random.Random(1)))
        # Of 1200, a twelfth is 100: the first tenth has some of each.
        self.assertEqual(set(lengths[:120]), set(IMIX))

    def test_zipf_draws_each_flow_by_its_rank(self):
        flows, frames = 1_000, 200_000
        count = Counter(zipf(flows, frames, random.Random(1)))
        whole = sum(1 / rank for rank in range(1, flows + 1))
        for rank in (1, 2, 10, 100):
            expected = frames / whole / rank
            # Six standard deviations.
            self.assertAlmostEqual(count[rank - 1], expected, delta=6 * expected**0.5, msg=rank)
        self.assertLessEqual(max(count), flows - 1)
        self.assertEqual(zipf(flows, 100, random.Random(7)), zipf(flows, 100, random.Random(7)))

    def test_even_traffic_has_each_flow_as_often_as_any_other(self):
        chosen = evenly(7, 70, random.Random(1))
        self.assertEqual(set(Counter(chosen).values()), {10})
        self.assertNotEqual(chosen, sorted(chosen))

    def test_frames_have_right_checksums_and_no_padding(self):
        for client in clients(20, random.Random(3)):
            for tcp in (None, SYN, ACK):
                for length in (64, 570, 1500, 1518):
                    whole = frame(client, length, tcp)
                    self.assertEqual(len(whole), length - 4)
                    ip, segment = whole[14:34], whole[34:]
                    self.assertEqual(traffic.checksum(ip), 0)
                    self.assertEqual(struct.unpack("!H", ip[2:4])[0], length - 18)
                    pseudo = ip[12:] + struct.pack("!HH", ip[9], len(segment))
                    self.assertEqual(traffic.checksum(pseudo + segment), 0)
                    self.assertEqual(ip[9], 17 if tcp is None else 6)
                    if tcp:
                        self.assertEqual(segment[13], tcp)

    def test_frames_of_ipv6_have_the_same_payload_and_right_checksums(self):
        for client in clients(20, random.Random(3), 6):
            self.assertEqual((len(client[0]), client[0][0]), (16, 0x26))
            for tcp in (None, SYN, ACK):
                for length in (64, 570, 1500):
                    whole = frame(client, length, tcp)
                    self.assertEqual(len(whole), length - 4 + 20)
                    ip, segment = whole[14:54], whole[54:]
                    protocol = 17 if tcp is None else 6
                    self.assertEqual(whole[12:14], b"\x86\xdd")
                    self.assertEqual(struct.unpack("!IHBB", ip[:8]), (0x60000000, len(segment), protocol, 64))
                    self.assertEqual(traffic.checksum(ip[8:] + struct.pack("!II", len(segment), protocol) + segment), 0)
                    self.assertEqual(segment[8:] if tcp is None else segment[20:], bytes(length - 18 - (28 if tcp is None else 40)))

    def test_each_family_has_a_capture_of_its_own(self):
        load = Load(50, kind="families")
        with tempfile.TemporaryDirectory() as folder:
            for family, ethertype in ((4, b"\x08\x00"), (6, b"\x86\xdd")):
                write_capture(Path(folder) / "flows", load, family=family)
                frames = frames_of(Path(folder) / "flows")
                self.assertEqual({one[12:14] for one in frames}, {ethertype})
                self.assertEqual(len(set(frames)), 50)

    def test_connections_are_opened_by_the_second_port_before_the_first_uses_them(self):
        load = Load(50, kind="mixed")
        with tempfile.TemporaryDirectory() as folder:
            flows, openings = Path(folder) / "flows", Path(folder) / "openings"
            write_capture(flows, load, tcp=0.5)
            write_openings(openings, load, tcp=0.5)
            key = lambda one: (one[23], one[26:30], one[34:36])
            loop, once = frames_of(flows), frames_of(openings)
        self.assertEqual({one[:6] for one in loop}, {traffic.PORT_MACS[0]})
        self.assertEqual({one[:6] for one in once}, {traffic.PORT_MACS[1]})
        # In the loop, no segment opens or ends anything.
        self.assertEqual({one[47] for one in loop if one[23] == 6}, {ACK})
        self.assertEqual(Counter(one[23] for one in once), {6: 50, 17: 25})
        self.assertEqual({key(one) for one in loop}, {key(one) for one in once})
        opened = [one[47] for one in once if one[23] == 6]
        self.assertEqual(opened, [SYN] * 25 + [ACK] * 25)

    def test_every_load_says_what_it_is(self):
        self.assertEqual(LOADS["1k-burst2"].words, "udp, polls of 2")
        self.assertEqual(LOADS["1k-imix"].bytes, "IMIX")
        told = [(load.flows, load.bytes, load.words) for load in LOADS.values() if load.kind != "mixed"]
        self.assertEqual(len(set(told)), len(told))


def frames_of(path):
    data, frames, at = path.read_bytes(), [], 24
    while at < len(data):
        length = struct.unpack("<I", data[at + 8 : at + 12])[0]
        frames.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    return frames


def measured(program, *rates, load="1k", traffic="udp", baseline=None, share=1.0, attempts=1):
    rounds = [{"pps": rate, "share": share, "attempts": attempts} for rate in rates]
    binary, mode = program.rsplit(" ", 1)
    baseline = baseline or LOADS[load].words
    return {"load": load, "binary": binary, "mode": mode, "traffic": traffic, "baseline": baseline, "rounds": rounds}


class Tables(unittest.TestCase):
    def test_own_cycles_and_ratios_are_between_neighbours_of_a_round(self):
        forwarded = [
            measured("testpmd io", 100.0, 50.0),
            measured("testpmd 5tswap", 80.0, 40.0),
            measured("weir fullnat", 50.0, 25.0, share=0.5, attempts=4),
            measured("old/weir fullnat", 25.0, 12.5),
        ]
        rows = {row["program"]: row for row in tables.summary(forwarded, ["old/weir"], 1000.0)}
        weir = rows["weir fullnat"]
        self.assertEqual((weir["to_5tswap"], weir["to_against"]), (0.625, {"old/weir": 2.0}))
        # 20 - 10 and 40 - 20.
        self.assertEqual(weir["own_cycles"], 15)
        self.assertEqual((weir["cpu_share"], weir["again"]), (0.5, 6))
        self.assertEqual(weir["to_macswap"], None)
        self.assertEqual(rows["old/weir fullnat"]["to_against"], {})

    def test_what_was_not_reached_is_left_out_and_the_rest_is_told(self):
        # The second round came to the last of the programs only, in the other direction.
        forwarded = [measured("testpmd io", 100.0), measured("testpmd 5tswap"), measured("weir fullnat", 50.0, 20.0), measured("weir dr")]
        rows = {row["program"]: row for row in tables.summary(forwarded, [], 1000.0)}
        self.assertEqual(set(rows), {"testpmd io", "weir fullnat"})
        self.assertEqual((rows["weir fullnat"]["own_cycles"], rows["weir fullnat"]["to_5tswap"]), (10, None))
        out = io.StringIO()
        with redirect_stdout(out):
            tables.print_forwarding(list(rows.values()), [])
        self.assertIn("| weir fullnat |", out.getvalue())

    def test_kinds_of_traffic_with_the_same_load_stay_apart(self):
        forwarded = [measured("testpmd io", 100.0, load="1k-mixed")]
        forwarded += [measured("weir fullnat", rate, load="1k-mixed", traffic=of) for of, rate in (("udp", 50.0), ("tcp", 40.0))]
        rows = {row["traffic"]: row for row in tables.summary(forwarded, [], 1000.0) if row["program"] != "testpmd io"}
        self.assertEqual((rows["udp"]["own_cycles"], rows["tcp"]["own_cycles"]), (10, 15))

    def test_each_family_is_held_against_testpmd_with_the_packets_that_come_in(self):
        forwarded = [measured("testpmd io", rate, load="1k-ipv6", traffic=of, baseline=of) for of, rate in (("udp, IPv4", 100.0), ("udp, IPv6", 50.0))]
        forwarded += [
            measured("weir fullnat", 25.0, load="1k-ipv6", traffic=of, baseline=of.split(" to ")[0])
            for of in ("udp, IPv4", "udp, IPv6", "udp, IPv6 to IPv4", "udp, IPv4 to IPv6")
        ]
        rows = {row["traffic"]: row["own_cycles"] for row in tables.summary(forwarded, [], 1000.0) if row["program"] == "weir fullnat"}
        self.assertEqual(rows, {"udp, IPv4": 30, "udp, IPv6": 20, "udp, IPv6 to IPv4": 20, "udp, IPv4 to IPv6": 30})

    def test_binaries_have_different_names_and_none_is_called_like_the_measured_one(self):
        name = lambda *paths: [program.name for program in named([Path(path) for path in paths])]
        self.assertEqual(name("/a/weir-old"), ["weir-old"])
        self.assertEqual(name("/a/release/weir"), ["release/weir"])
        self.assertEqual(name("/a/release/weir", "/b/release/weir"), ["a/release/weir", "b/release/weir"])
        self.assertEqual(name("/a/old", "/a/old"), ["old"])
        self.assertEqual(name("/weir", "/a b/weir"), ["/weir", "a b/weir"])
        self.assertEqual(named([Path("/a/weir-old")]), [Program("weir-old", Path("/a/weir-old"))])


if __name__ == "__main__":
    unittest.main()
