"""`limits` of a service: what is refused, by which name."""

import lab
import lab6
from case import Case, drop, forward, lan, wan
from lab46 import WAYS
from lab46 import reply_to as either_reply_to
from lab46 import two_arm as both

FAMILIES = {"v4": lab, "v6": lab6}
MODES = ("dr", "nat", "fullnat", "tunnel")
LIMITS = ("connections", "new_per_second", "per_client_connections", "per_client_new_per_second")
NAMES = {"connections": "connections", "new_per_second": "new", "per_client_connections": "client_connections",
         "per_client_new_per_second": "client_new"}


def client(family, number):
    """Another one for each number: of IPv6 in a /64 of its own."""
    return lab.client(number) if family is lab else lab6.Host(f"2001:db8:7:{number:x}::7", lab6.GATEWAY.mac)


def neighbour_of(family, number, host):
    """In the same /64: one client, of whatever address."""
    return lab.client(number) if family is lab else lab6.Host(f"2001:db8:7:{number:x}::{host:x}", lab6.GATEWAY.mac)


def service(family, mode, **keys):
    real_port = {"real_port": None} if mode in ("dr", "tunnel") else {}
    return family.service(mode, family.A, **real_port, **keys)


def refused(key):
    return drop(f"limit_{NAMES[key]}")


def of(key, family, mode):
    """Two flows of one client from several addresses of its /64, then of another."""
    is_client = key.startswith("per_client")
    one = [neighbour_of(family, 9, host) for host in (1, 2, 3)]
    other = client(family, 10)
    steps = []
    for n, host in enumerate(one[:2]):
        steps.append(wan(family.udp(host, family.VIP, sport=5000 + n), forward("lan", new=True)))
        if mode in ("nat", "fullnat"):
            # A flow that is answered gives way to no other.
            steps.append(lan(family.reply_to(len(steps) - 1, payload=b"answer"), forward("wan")))
    steps.append(wan(family.udp(one[2], family.VIP, sport=5003), refused(key)))
    # What is there goes on.
    steps.append(wan(family.udp(one[0], family.VIP, sport=5000), forward("lan", new=False)))
    steps.append(wan(family.udp(other, family.VIP), forward("lan", new=True) if is_client else refused(key)))
    later = forward("lan", new=True) if "second" in key else refused(key)
    steps.append(wan(family.udp(one[2], family.VIP, sport=5003), later, after=1.5))
    lb = family.two_arm(service(family, mode, protocol="udp", limits=f"{{ {key} = 2 }}"))
    return Case(f"{'v6' if family is lab6 else 'v4'}_{mode}_{key}", lb, steps, gathers=mode == "tunnel")


def hashed(family):
    """With a hash what goes on with a connection of another director has an entry, and is not asked for the limits."""
    steps = [wan(family.tcp(client(family, n), family.VIP, "A", seq=9, ack=9), forward("lan", new=True)) for n in range(1, 5)]
    steps.append(wan(family.tcp(client(family, 9), family.VIP), drop("limit_connections")))
    name = f"{'v6' if family is lab6 else 'v4'}_hash"
    return Case(name, family.two_arm(service(family, "dr", scheduler="sh", limits="{ connections = 3 }")), steps)


def across(way, key):
    near, far = way.near, way.far
    one, other = client(near, 9), client(near, 10)
    is_client = key.startswith("per_client")
    return Case(f"{way.name}_{key}", both(way.service("A", protocol="udp", limits=f"{{ {key} = 1 }}")), [
        wan(near.udp(one, near.VIP), forward("lan", far.A, new=True)),
        lan(either_reply_to(0, payload=b"answer"), forward("wan")),
        wan(near.udp(one, near.VIP, sport=5000), refused(key)),
        wan(near.udp(one, near.VIP), forward("lan", far.A, new=False)),
        wan(near.udp(other, near.VIP), forward("lan", far.A, new=True) if is_client else refused(key)),
    ])


def persistent(family):
    """A client's bond to its real server is no connection; who is refused has none."""
    one, other = client(family, 9), client(family, 10)
    lb = service(family, "nat", protocol="udp", persistence="{ timeout = 300 }", limits="{ connections = 2 }")
    steps = []
    for n in range(2):
        steps.append(wan(family.udp(one, family.VIP, sport=5000 + n), forward("lan", new=True)))
        steps.append(lan(family.reply_to(2 * n, payload=b"answer"), forward("wan")))
    steps.append(wan(family.udp(other, family.VIP), drop("limit_connections")))
    return Case(f"{'v6' if family is lab6 else 'v4'}_persistence", family.two_arm(lb), steps)


def begun_again(family, mode, key):
    """A SYN in the place of a half-closed connection asks for the rates as well, once, and counts."""
    one = family.client(9) if family is lab else client(family, 9)
    talk = lambda flags, **fields: family.tcp(one, family.VIP, flags, **fields)  # noqa: E731
    says = lambda flags, **fields: lan(family.reply_to(0, flags, **fields), forward("wan"))  # noqa: E731
    opens = lambda seq: wan(talk("S", seq=seq), forward("lan"))  # noqa: E731
    def rest(seq, ack):  # noqa: E306
        return [
            says("SA", seq=ack - 1, ack=seq + 1),
            wan(talk("A", seq=seq + 1, ack=ack), forward("lan")),
            says("FA", seq=ack, ack=seq + 1),
        ]
    again = opens(700_000)
    again.after = 1.5
    name = f"{'v6' if family is lab6 else 'v4'}_{mode}_{key}_begun_again"
    return Case(name, family.two_arm(service(family, mode, limits=f"{{ {key} = 1 }}")), [
        opens(1000), *rest(1000, 5001),
        wan(talk("S", seq=700_000), refused(key)),
        again, opens(700_000), *rest(700_000, 90_001),
        wan(talk("S", seq=1_400_000), refused(key)),
    ])


CASES = [
    *(of(key, family, mode) for key in LIMITS for family in FAMILIES.values() for mode in MODES),
    *(hashed(family) for family in FAMILIES.values()),
    *(across(way, key) for way in WAYS for key in LIMITS),
    *(begun_again(family, mode, key) for family in FAMILIES.values() for mode in ("nat", "fullnat") for key in LIMITS if "second" in key),
    *(persistent(family) for family in FAMILIES.values()),
]
