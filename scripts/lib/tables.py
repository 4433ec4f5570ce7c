"""The tables that scripts/bench prints."""

import statistics

from traffic import LOADS

# Below, a median says little.
ENOUGH_ROUNDS = 5


def beside(rates, others):
    """The median of the ratios in each round, since both drift together; none without a round of both."""
    ratios = [one / other for one, other in zip(rates, others)]
    return statistics.median(ratios) if ratios else None


def summary(forwarded, against, hz):
    """A row for every program and load that were measured in one round at least. `against`: names of other weirs."""
    rates = {
        (one["load"], one["binary"], one["mode"], one["traffic"]): [each["pps"] for each in one["rounds"]] for one in forwarded
    }
    rows = []
    for one in forwarded:
        load, binary, mode, traffic, baseline, rounds = (
            one[key] for key in ("load", "binary", "mode", "traffic", "baseline", "rounds")
        )
        if not rounds:
            continue
        mine = rates[load, binary, mode, traffic]
        testpmd = lambda mode: rates.get((load, "testpmd", mode, baseline), [])
        own = [hz / rate - hz / io for rate, io in zip(mine, testpmd("io"))] if hz else []
        median = statistics.median(mine)
        rows.append(
            {
                "load": load,
                "flows": LOADS[load].flows,
                "bytes": LOADS[load].bytes,
                "traffic": traffic,
                "program": f"{binary} {mode}",
                "mpps": median / 1e6,
                "best_mpps": max(mine) / 1e6,
                "cycles": hz / median if hz else None,
                "own_cycles": statistics.median(own) if own else None,
                "spread": (max(mine) - min(mine)) / median,
                "to_macswap": beside(mine, testpmd("macswap")),
                "to_5tswap": beside(mine, testpmd("5tswap")),
                "to_against": {
                    other: beside(mine, rates.get((load, other, mode, traffic), [])) for other in against if binary == "weir"
                },
                "cpu_share": min(each["share"] for each in rounds),
                "again": sum(each["attempts"] - 1 for each in rounds),
                "rounds": mine,
            }
        )
    return rows


def table(head, rows, *left):
    """Markdown, and readable as it is; the columns called `left` hold words."""
    left = [head.index(name) for name in left]
    rows = [head] + rows
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    line = lambda row: "| " + " | ".join(
        cell.ljust(width) if n in left else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths))
    ) + " |"
    rule = "|" + "|".join(":" + "-" * (width + 1) if n in left else "-" * (width + 1) + ":" for n, width in enumerate(widths)) + "|"
    return "\n".join([line(rows[0]), rule] + [line(row) for row in rows[1:]])


def print_forwarding(rows, against):
    known = lambda value, form: "–" if value is None else format(value, form)
    head = ["flows", "bytes", "traffic", "program", "Mpps", "best", "cycles", "own", "spread", "/ macswap", "/ 5tswap"]
    head += [f"/ {name}" for name in against] + ["CPU share", "again"]
    shown = [
        [
            f"{row['flows']:,}",
            row["bytes"],
            row["traffic"],
            row["program"],
            f"{row['mpps']:.2f}",
            f"{row['best_mpps']:.2f}",
            known(row["cycles"], ".0f"),
            known(row["own_cycles"], ".0f"),
            f"{row['spread']:.0%}",
            known(row["to_macswap"], ".2f"),
            known(row["to_5tswap"], ".2f"),
            *(known(row["to_against"].get(name), ".2f") for name in against),
            f"{row['cpu_share']:.0%}",
            str(row["again"]),
        ]
        for row in rows
    ]
    print(table(head, shown, "traffic", "program"))
    others = "".join(f", / {name}" for name in against)
    print(
        "\nbytes: of a frame on the wire. Mpps: million packets a CPU-second of the forwarding thread, median and best of the rounds. cycles: of the TSC, a packet."
        "\nown: cycles beyond those of testpmd's io, in the same round; median."
        f"\nspread: (largest - smallest) / median. / macswap, / 5tswap{others}: the rate beside that program's in the same round, median."
        "\nCPU share: how much of the time the thread had its CPU, in its worst round. again: measurements taken again, as it had its CPU too little."
    )
    if any("IPv" in row["traffic"] for row in rows):
        print("Of IPv4 and IPv6, the shorter frames are IPv4's. What changes the family is held against testpmd with the family that comes in.")
    if any(row["traffic"] in ("udp, Zipf", "tcp", "udp + tcp") for row in rows):
        print("Of Zipf, and where there is TCP, weir polls a second port as well, by which the connections were opened.")


def print_engine(engine, hz):
    cycles = lambda nanos: f"{nanos * hz / 1e9:.0f}" if hz else "–"
    for case in ("known", "ipv6", "sizes", "both", "large", "services", "routes", "drops", "new", "tcp", "flood", "redirect", "memory"):
        lines = [(what, statistics.median(values)) for (of, what), values in engine.items() if of == case]
        if lines:
            print(table([case, "ns", "cycles", "M/s"], [[w, f"{n:.1f}", cycles(n), f"{1e3 / n:.2f}"] for w, n in lines], case))
            print()


def print_footprint(footprints):
    if not footprints:
        return
    digits = {"s": 2, "MB": 0}
    rows = [
        [f"{services:,}", what, f"{statistics.median(values):.{digits[unit]}f} {unit}", f"{max(values):.{digits[unit]}f} {unit}"]
        for (services, what, unit), values in footprints.items()
    ]
    print(table(["services", "footprint", "median", "most"], rows, "footprint"))
    print("\nOf a daemon with so many services of 8 real servers each. s: of wall time. MB: million bytes; memory: resident (VmRSS, VmHWM).\n")


def print_goals(rows, rounds):
    measured = [row for row in rows if row["met"] is not None]
    if measured:
        shown = [[row["what"], row["value"], row["goal"], "reached" if row["met"] else "missed"] for row in measured]
        print(table(["what", "figure", "goal", ""], shown, "what"))
    if missing := [f"  {row['what']}: {row['goal']}" for row in rows if row["met"] is None]:
        print("\nGoals that were not measured:\n" + "\n".join(missing))
    if measured and rounds < ENOUGH_ROUNDS:
        print(f"\nOf {rounds} rounds, which do not tell a goal just missed from one just reached: that takes {ENOUGH_ROUNDS}.")


def print_scaling(results, workers):
    middle = {name: statistics.median(one["pps"] for one in rounds) for name, rounds in results.items()}
    one, several = middle.values()
    rows = [[name, f"{pps / 1e6:.2f}", f"{pps / one:.2f}"] for name, pps in middle.items()]
    print(table(["program", "Mpps", "/ one worker"], rows, "program"))
    print(
        "\nfullnat udp, 1,000 flows a worker. Mpps: million packets sent, as if each worker had a CPU to itself."
        f"\nOf the linear: {several / one / workers:.0%}."
    )


def print_instructions(counts):
    rooms = list(next(iter(counts.values())))
    print(table(["mode", *rooms], [[mode, *(f"{count[room]:.0f}" for room in rooms)] for mode, count in counts.items()], "mode"))
    print(
        "\nInstructions a packet of a known flow in `weir replay`, one packet a burst, by where they were written."
        "\nall: with the standard library's inlined parts, and the replay's own reading, writing and memory."
    )


def print_stages(results):
    shown = [stage for stage in results["1m"]["stages"] if any(one["stages"].get(stage, 0) >= 0.002 for one in results.values())]
    cell = lambda one, share: f"{share * one['cycles']:.1f} ({share:.0%})"
    rows = [[stage, *(cell(one, one["stages"].get(stage, 0)) for one in results.values())] for stage in shown]
    rows.append(["sum", *(f"{one['cycles']:.0f}" for one in results.values())])
    print(table(["stage", *(f"{LOADS[size].flows:,} flows" for size in results)], rows, "stage"))
    print("\nCycles (of the TSC) a packet of a known fullnat flow on net_pcap, and their share.")
