"""What weir is to reach, beside what was measured."""

import re
import statistics

# Of fullnat, by load: the rate beside testpmd's 5tswap.
TO_5TSWAP = {"1k": 0.73, "100k": 0.65, "1m": 0.68}
# Likewise, the cycles a packet that are weir's own: beyond testpmd's io, which does nothing with a packet.
OWN_CYCLES = {"1": 29, "1k": 29, "100k": 36, "1m": 46}
# Likewise, all cycles of a packet.
CYCLES = {"1k-burst1": 105, "1k-burst2": 80, "1k-burst4": 68}
FLOWS = {"1": "1 flow", "1k": "1,000 flows", "100k": "100,000 flows", "1m": "1,000,000 flows"}
POLLS = {"1k-burst1": "polls of 1 packet", "1k-burst2": "polls of 2 packets", "1k-burst4": "polls of 4 packets"}
# Cycles of IPv6 to those of IPv4, the same number of known flows.
IPV6 = 1.35
# Cycles of TCP and UDP mixed at random, to the mean of both alone.
MIXED = 1.02
# By number of services, each of 8 real servers: of what is not to be more.
FOOTPRINT = {
    (20_000, "start to ready", "s"): 1,
    (20_000, "reload", "s"): 1,
    (20_000, "/metrics", "MB"): 60,
    (20_000, "/metrics, per_real = false", "MB"): 60,
    (100_000, "start to ready", "s"): 1.5,
    (100_000, "reload", "s"): 1,
    (100_000, "memory after the start", "MB"): 600,
    (100_000, "memory after 5 reloads", "MB"): 600,
    (100_000, "weir show services", "s"): 1,
}
CHANGES = ("a service added", "a real server added", "a service removed", "a weight")
DROPS = ("to an address that weir does not have", "to a VIP's port without service", "ACK without connection")


def goals(forwarding, engine, hz, footprint):
    """Returns a row for each goal: the measured figure, the goal and whether it is met (none: not measured).
    `forwarding`: see tables.summary; the others: see Bench. Other weirs that this one is held against have no goals."""
    middle = {key: statistics.median(values) for key, values in engine.items()}
    rows = []

    def row(what, value, sign, goal, unit):
        met = None if value is None else value >= goal if sign == "≥" else value <= goal
        rows.append(
            {"what": what, "value": "not measured" if value is None else f"{value:.2f}{unit}", "goal": f"{sign} {goal}{unit}", "met": met}
        )

    def at_least(what, value, goal, unit=""):
        row(what, value, "≥", goal, unit)

    def at_most(what, value, goal, unit=""):
        row(what, value, "≤", goal, unit)

    def which(case, *words):
        """The figure of a case whose name has all the words."""
        for of, what in middle:
            if of == case and all(re.search(rf"(^|\W){re.escape(word)}(\W|$)", what) for word in words):
                return of, what
        return None

    def find(case, *words, times=1.0):
        found = which(case, *words)
        return middle[found] * times if found else None

    def rate(*words):
        """Millions a second."""
        nanos = find(*words)
        return 1e3 / nanos if nanos else None

    def times(one, other):
        """The median over the rounds of how often the other's time the one's is: a round's neighbours drift together."""
        if one is None or other is None:
            return None
        return statistics.median(a / b for a, b in zip(engine[one], engine[other]))

    def of_each(case, what, goal, pairs):
        """A goal of every figure of a case, each beside another; at least a row that says that there are none."""
        pairs = list(pairs)
        for name, one, other in pairs:
            at_most(name, times(one, other), goal)
        if not pairs:
            at_most(f"{case}: {what}", None, goal)

    forwarding_goals(forwarding, at_least, at_most)
    for mode in ("nat", "fullnat"):
        for flows in (1_000, 100_000, 1_000_000):
            both, one = which("both", mode, f"{flows} flows"), which("known", mode, f"{flows} flows")
            at_least(f"{mode}, {flows:,} flows both ways: rate / one way's", times(one, both), 0.9)
    for mode in ("dr", "nat", "fullnat"):
        for flows in (1_000, 1_000_000):
            four, six = (which("ipv6", mode, f"{flows} flows", f"over IPv{family}") for family in (4, 6))
            at_most(f"{mode}, {flows:,} flows: IPv6's time / IPv4's", times(six, four), IPV6)
    for what in DROPS:
        at_most(f"dropped, {what}: time / a known packet's", times(which("drops", what), which("drops", "known")), 1.0)
    many, few = which("large", "10000000 alive"), which("large", "1000000 alive")
    at_most("10,000,000 alive, 1,000,000 in use: time / 1,000,000 alive's", times(many, few), 1.2)
    each = re.search(r"(\d+) B each", few[1]) if few else None
    at_most("memory a connection, 1,000,000 alive", int(each[1]) if each else None, 88, " B")
    at_least("new connections, dr udp", rate("new", "dr"), 9.2, " M/s")
    at_least("new connections, fullnat udp", rate("new", "fullnat"), 6.7, " M/s")
    at_least("whole TCP connections, fullnat", rate("tcp", "fullnat"), 2, " M/s")
    at_most("a whole TCP connection, fullnat: cycles", find("tcp", "fullnat", times=hz / 1e9) if hz else None, 1500)

    # "known, to one of 5000 services on one VIP, 100 % forwarded"
    def among_services():
        for case, what in middle:
            if case == "services" and "only" not in what:
                kind, to, _ = what.split(", ")
                yield f"{kind}, {to}: time / the only service's", (case, what), which(case, kind, "only")

    # "dr to 1 of 10000 services, 10000 routes, 10000 neighbours, 100 % forwarded"
    def among_routes():
        for case, what in middle:
            if case == "routes" and "1 route," not in what:
                to, routes, neighbours, _ = what.split(", ")
                few = which(case, re.match(r"(.*) of", to)[1], "1 route")
                yield f"{to}, {routes}, {neighbours}: time / one route's", (case, what), few

    of_each("services", "time / the only service's", 1.05, among_services())
    of_each("routes", "time / one route's", 1.05, among_routes())
    before, after = which("flood", "before"), which("flood", "the table full")
    at_least("known connections in a SYN flood: rate / before", times(before, after), 0.8)
    idle = find("gap", "nothing")
    gaps = [(what, value - idle) for (case, what), value in middle.items() if case == "gap" and "nothing" not in what and idle is not None]
    for what, value in gaps or [("gap", None)]:
        at_most(f"{what}: longest gap over idle's", None if value is None else value / 1e3, 50, " µs")
    for change in CHANGES:
        among = [which("publish", f"{change}, among {services} services") for services in (0, 1_000, 20_000, 100_000)]
        among = [one for one in among if one]
        for one in among:
            at_most(f"publishing {one[1]}", middle[one] / 1e3, 50, " µs")
        ratio = times(among[-1], among[0]) if len(among) > 1 else None
        at_most(f"publishing {change}: among most / among none", ratio, 1.5)
    at_most("publishing, mh with 10 real servers", find("publish", "mh", times=1e-3), 50, " µs")
    for (services, what, unit), goal in FOOTPRINT.items():
        values = footprint.get((services, what, unit))
        at_most(f"{services:,} services × 8 real servers: {what}", statistics.median(values) if values else None, goal, f" {unit}")
    return rows


def forwarding_goals(forwarding, at_least, at_most):
    """Those of fullnat on net_pcap, of the measured weir only."""
    measured = {(one["load"], one["traffic"]): one for one in forwarding if one["program"] == "weir fullnat"}
    of = lambda load: next((one for (name, _), one in measured.items() if name == load), {})
    for load, goal in TO_5TSWAP.items():
        at_least(f"fullnat udp, {FLOWS[load]}, net_pcap: rate / 5tswap's", of(load).get("to_5tswap"), goal)
    for load, goal in OWN_CYCLES.items():
        at_most(f"fullnat udp, {FLOWS[load]}, net_pcap: own cycles", of(load).get("own_cycles"), goal)
    for load, goal in CYCLES.items():
        at_most(f"fullnat udp, {POLLS[load]}, net_pcap: cycles", of(load).get("cycles"), goal)
    for mode in ("dr", "fullnat"):
        for load in ("1k", "1m"):
            rounds = {one["traffic"]: one["rounds"] for one in forwarding if (one["load"], one["program"]) == (f"{load}-ipv6", f"weir {mode}")}
            ratios = [four / six for four, six in zip(*(rounds.get(f"udp, IPv{family}", []) for family in (4, 6)))]
            at_most(f"{mode}, {FLOWS[load]}, net_pcap: IPv6's cycles / IPv4's", statistics.median(ratios) if ratios else None, IPV6)
    mixed, udp, tcp = (measured.get(("1k-mixed", traffic), {}).get("rounds", []) for traffic in ("udp + tcp", "udp", "tcp"))
    ratios = [2 / both / (1 / one + 1 / other) for both, one, other in zip(mixed, udp, tcp)]
    what = "fullnat, TCP and UDP mixed at random, net_pcap: cycles / the mean of both alone"
    at_most(what, statistics.median(ratios) if ratios else None, MIXED)
