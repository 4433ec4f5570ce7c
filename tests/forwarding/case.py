"""A case: a configuration, packets in, and for each packet what becomes of it.

Steps are numbered from 0 in the order of their times, as `--explain` numbers packets. A step comes a millisecond after
the one before it, unless `at` (seconds from the start) or `after` (seconds from the step before) says otherwise.
"""

from dataclasses import dataclass, field
from typing import Any

ANY = object()
NEXT = 0.001  # seconds from one step to the next, if the case does not say


@dataclass
class Expect:
    verdict: str
    reason: Any = ANY
    port: str = None
    to: Any = None  # the next hop and, unless it is a gateway's, the destination
    explain: dict = field(default_factory=dict)
    frame: dict = field(default_factory=dict)
    sent_with: int = None  # queue: the step whose packet releases the frame


def forward(port, to=None, new=None, real=None, state=None, service=None, **frame):
    """Sent on out of `port`; `frame` names fields of it (see run.fields)."""
    reason = {None: ANY, True: "new connection", False: "known connection"}[new]
    explain = {"real": real, "state": state, "service": service}
    return Expect("forward", reason, port, to, {key: value for key, value in explain.items() if value is not None}, frame)


def reply(reason, port="wan", to=None, **frame):
    return Expect("reply", reason, port, to, {}, frame)


def queue(port, sent_with=None, to=None, **frame):
    return Expect("queue", ANY, port, to, {}, frame, sent_with)


def local(reason=ANY):
    return Expect("local", reason)


def drop(reason):
    """`reason`: one, or a set of those that would do."""
    return Expect("drop", reason)


def one_of(*expects):
    """Where the contract leaves a choice."""
    return list(expects)


ends = None  # any verdict will do, as long as there is one


@dataclass
class Step:
    port: str
    packet: Any
    expect: Any
    at: float = None
    after: float = NEXT


def wan(packet, expect=ends, at=None, after=NEXT):
    return Step("wan", packet, expect, at, after)


def lan(packet, expect=ends, at=None, after=NEXT):
    return Step("lan", packet, expect, at, after)


@dataclass
class Case:
    name: str
    config: Any
    steps: list
    asks: Any = ()  # the ARP requests that weir sends: (port, seconds, address); ANY: some
    resets: int = 0  # resets of weir's own accord, to real servers whose local pair is used again
    lost: dict = field(default_factory=dict)  # drops that no step's verdict tells of: packets that waited in vain
    gathers: bool = False  # fragments wait, or are made: `check` holds the frames out that no packet's line tells of
    check: Any = None  # check(results): what the table cannot say; raises AssertionError
    says: str = ""  # why, where the name does not tell
