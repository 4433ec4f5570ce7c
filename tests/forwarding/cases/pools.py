"""Local pools that are nearly used up: no client has more than its fair share of what is left."""

import lab
import lab6
from case import Case, drop, forward, lan, wan
from lab46 import WAYS
from lab46 import reply_to as either_reply_to
from lab46 import two_arm as both

UNFAIR = drop("local_ports_unfair")


def client(family, number):
    return lab.client(number) if family is lab else lab6.Host(f"2001:db8:7:{number:x}::7", lab6.GATEWAY.mac)


def talk(family, host, first, count, reply_to, reals=None):
    """So many flows of a client, each answered, so that none gives way to another; `first`: the number of the first step."""
    onwards = (forward("lan", reals and reals[n % len(reals)], new=True) for n in range(count))
    steps = [wan(family.udp(host, family.VIP, sport=1000 + n), onward) for n, onward in enumerate(onwards)]
    steps += [lan(reply_to(first + n, payload=b"answer"), forward("wan")) for n in range(count)]
    return steps


def one_client(family, config, reply_to, name):
    """100 pairs: a client alone gets 80, another one then its own, and the first still goes on with what it has."""
    one, other, third = (client(family, n) for n in (9, 10, 11))
    steps = talk(family, one, 0, 80, reply_to)
    steps += [wan(family.udp(one, family.VIP, sport=5000 + n), UNFAIR) for n in range(3)]
    steps.append(wan(family.udp(one, family.VIP, sport=1000), forward("lan", new=False)))
    steps += talk(family, other, len(steps), 19, reply_to)
    # Of three clients, who hold 80, 19 and none, each may have 33.
    steps.append(wan(family.udp(one, family.VIP, sport=6000), UNFAIR))
    steps.append(wan(family.udp(third, family.VIP), forward("lan", new=True)))
    steps.append(lan(reply_to(len(steps) - 1, payload=b"answer"), forward("wan")))
    # None is left: a flow of UDP gives way to a client that has less than its share.
    steps.append(wan(family.udp(third, family.VIP, sport=7000), forward("lan", new=True)))
    steps.append(wan(family.udp(one, family.VIP, sport=7000), UNFAIR))
    return Case(name, config, steps)


def elsewhere(family):
    """With another real server that has pairs left, the client goes there."""
    one = client(family, 9)
    service = family.service("fullnat", family.A, family.B, protocol="udp", scheduler="fo", weights=[2, 1])
    steps = talk(family, one, 0, 80, family.reply_to, [family.A])
    steps.append(wan(family.udp(one, family.VIP, sport=5000), forward("lan", family.B, new=True)))
    return Case("elsewhere", family.two_arm(service, pool_ports="40000-40099"), steps)


def one_of(family):
    service = family.service("fullnat", family.A, protocol="udp")
    return family.two_arm(service, pool_ports="40000-40099")


CASES = [
    one_client(lab, one_of(lab), lab.reply_to, "v4_one_client"),
    *(one_client(way.near, both(way.service("A", protocol="udp"), ports="40000-40099"), either_reply_to, f"{way.name}_one_client") for way in WAYS),
    elsewhere(lab),
]
