"""What weir is to reach, beside what was measured."""

import re
import statistics

# Of fullnat, by number of flows: the rate of the shortest frames beside testpmd's 5tswap.
TO_5TSWAP = {1_000: 0.73, 100_000: 0.65, 1_000_000: 0.68}
# Likewise, the cycles a packet that are weir's own: beyond testpmd's io, which does nothing with a packet.
OWN_CYCLES = {1: 29, 1_000: 29, 100_000: 36, 1_000_000: 46}


def goals(forwarding, engine, hz):
    """What is to be reached: a row for each figure, with the goal beside it. `engine`: see Bench.engine."""
    middle = {key: statistics.median(values) for key, values in engine.items()}
    rows = []

    def row(what, value, goal, met):
        rows.append({"what": what, "value": value, "goal": goal, "met": met})

    def at_least(what, value, goal, unit=""):
        row(what, f"{value:.2f}{unit}", f"≥ {goal}{unit}", value >= goal)

    def at_most(what, value, goal, unit=""):
        row(what, f"{value:.2f}{unit}", f"≤ {goal}{unit}", value <= goal)

    def which(case, *words):
        for of, what in middle:
            if of == case and all(re.search(rf"(^|\W){word}(\W|$)", what) for word in words):
                return of, what
        return None

    def find(case, *words):
        return middle.get(which(case, *words))

    def times(one, other):
        """The median over the rounds of how often the other's time the one's is: a round's neighbours drift together."""
        return statistics.median(a / b for a, b in zip(engine[one], engine[other]))

    for measured in forwarding:
        flows = measured["flows"]
        if (measured["program"], measured["length"]) != ("weir fullnat", 64):
            continue
        if flows in TO_5TSWAP:
            at_least(f"fullnat udp, {flows:,} flows, net_pcap: rate / 5tswap's", measured["to_5tswap"], TO_5TSWAP[flows])
        if flows in OWN_CYCLES and measured["own_cycles"] is not None:
            at_most(f"fullnat udp, {flows:,} flows, net_pcap: own cycles", measured["own_cycles"], OWN_CYCLES[flows])
    if not middle:
        return rows
    for mode in ("nat", "fullnat"):
        for flows in (1_000, 100_000, 1_000_000):
            both, one = which("both", mode, f"{flows} flows"), which("known", mode, f"{flows} flows")
            at_least(f"{mode}, {flows:,} flows both ways: rate / one way's", times(one, both), 0.9)
    if many := which("large", "10000000 alive"):
        at_most("10,000,000 alive, 1,000,000 in use: time / 1,000,000 alive's", times(many, which("large", "1000000 alive")), 1.2)
    for case, what in middle:
        if case == "large" and (each := re.search(r"(\d+) B each", what)):
            at_most(f"memory a connection, {what.split()[0]} alive", int(each[1]), 88, " B")
            break
    at_least("new connections, dr udp", 1e3 / find("new", "dr"), 6, " M/s")
    at_least("new connections, fullnat udp", 1e3 / find("new", "fullnat"), 4, " M/s")
    at_least("whole TCP connections, fullnat", 1e3 / find("tcp", "fullnat"), 2, " M/s")
    if hz:
        at_most("a whole TCP connection, fullnat: cycles", find("tcp", "fullnat") * hz / 1e9, 1500)
    for (case, what), value in middle.items():
        # "known, to one of 5000 services on one VIP, 100 % forwarded"
        if case == "services" and "only" not in what:
            kind, to, _ = what.split(", ")
            goal_of = f"{kind}, {to}: time / the only service's"
            at_most(goal_of, times((case, what), which(case, kind, "only")), 1.05)
    for case, what in middle:
        # "dr to 1 of 10000 services, 10000 routes, 10000 neighbours, 100 % forwarded"
        if case == "routes" and "1 route," not in what:
            to, routes, neighbours, _ = what.split(", ")
            few = which(case, re.match(r"(.*) of", to)[1], "1 route")
            at_most(f"{to}, {routes}, {neighbours}: time / one route's", times((case, what), few), 1.05)
    before, after = find("flood", "before"), find("flood", "the table full")
    at_least("known connections in a SYN flood: rate / before", before / after, 0.8)
    for what in ("start to ready", "reload"):
        at_most(f"{what}, 20,000 services × 8 real servers", find("reload", what) / 1e9, 1, " s")
    idle = find("gap", "nothing")
    for (case, what), value in middle.items():
        if case == "gap" and "nothing" not in what:
            at_most(f"{what}: longest gap over idle's", (value - idle) / 1e3, 50, " µs")
    for change in ("a service added", "a real server added", "a service removed", "a weight"):
        among = [which("publish", f"{change}, among {services} services") for services in (0, 1_000, 20_000, 100_000)]
        among = [one for one in among if one]
        for one in among:
            at_most(f"publishing {one[1]}", middle[one] / 1e3, 50, " µs")
        at_most(f"publishing {change}: among most / among none", times(among[-1], among[0]), 1.5)
    at_most("publishing, mh with 10 real servers", find("publish", "mh") / 1e3, 50, " µs")
    return rows
