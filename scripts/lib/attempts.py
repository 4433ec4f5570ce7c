"""When a measurement is taken again: other programs took the CPU, or nothing was forwarded."""

import sys

# The share of the time below which a thread was starved of its CPU.
ENOUGH_SHARE = 0.9
# How often a starved measurement is taken again.
AGAIN = 3


class Failure(Exception):
    """What went wrong, for people."""


def least_starved(measure):
    """Measures until the thread has its CPU for long enough, but not forever; returns the attempt with the largest share."""
    attempts = [measure()]
    while attempts[-1]["share"] < ENOUGH_SHARE and len(attempts) <= AGAIN:
        attempts.append(measure())
    return max(attempts, key=lambda one: one["share"]) | {"attempts": len(attempts)}


def say(failure):
    print(f"\n{failure}\nonce more", file=sys.stderr)


def twice(run, tell=say):
    """What `run` returns; if it fails, it runs once more, and `tell` gets to know why."""
    try:
        return run()
    except Failure as failure:
        tell(failure)
    return run()
