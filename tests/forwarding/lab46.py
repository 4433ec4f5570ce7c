"""The networks of lab.py and lab6.py as one: every host has an address of each family, and the same MAC address.

        clients ── gateway ── wan [weir] lan ── real servers A, B, C, D
                                             └─ inner gateway ── FAR
"""

from dataclasses import dataclass

import lab
import lab6
from lab import Config

KNOWN = tuple(host for each in (lab, lab6) for host in (each.GATEWAY, each.NEAR, each.A, each.B, each.C, each.D, each.INNER_GATEWAY))
POOLS = {"inside4": lab.POOL, "inside6": lab6.POOL}


def port(name, four, six, mtu=1500):
    addresses = ", ".join(f'"{host.ip}/{length}"' for host, length in ((four, 24), (six, 64)) if host)
    mac = (four or six).mac
    return f'[[port]]\nname = "{name}"\ndevice = "net_null0"\naddresses = [{addresses}]\nmtu = {mtu}\nmac = "{mac}"\n'


def two_arm(*services, known=KNOWN, ports="1024-65535", mtu=(1500, 1500), lan=(lab.LAN, lab6.LAN), keys=""):
    text = "limits = { connections = 1024 }\n" + keys + port("wan", lab.WAN, lab6.WAN, mtu[0]) + port("lan", *lan, mtu[1])
    text += f'[[route]]\nto = "0.0.0.0/0"\nvia = "{lab.GATEWAY.ip}"\n[[route]]\nto = "::/0"\nvia = "{lab6.GATEWAY.ip}"\n'
    text += lab.route("10.9.0.0/16", lab.INNER_GATEWAY) * (lan[0] is not None)
    text += lab.route("2001:db8:19::/48", lab6.INNER_GATEWAY) * (lan[1] is not None)
    fits = lambda host: lan[":" in host.ip] is not None or host in (lab.GATEWAY, lab.NEAR, lab6.GATEWAY, lab6.NEAR)  # noqa: E731
    text += "".join(f'[[neighbour]]\naddress = "{host.ip}"\nmac = "{host.mac}"\n' for host in known if fits(host))
    pools = {name: address for name, address in POOLS.items() if lan[name == "inside6"] is not None}
    text += "".join(f'[[local_pool]]\nname = "{name}"\naddresses = ["{address}"]\nports = "{ports}"\n' for name, address in pools.items())
    text += "".join(each.text for each in services)
    first, last = map(int, ports.split("-"))
    macs = {"wan": lab.WAN.mac, "lan": lab.LAN.mac}
    return Config(text, macs, {each.name: each for each in services}, {"addresses": list(pools.values()), "ports": (first, last)})


def fullnat(vip, *reals, **more):
    """A service with the local pool of its real servers' family."""
    made = lab.service("fullnat", *reals, vip=vip, **more)
    family = "6" if reals and ":" in reals[0].ip else "4"
    made.text = made.text.replace('"inside"', f'"inside{family}"')
    return made


@dataclass
class Way:
    """From clients of one family to real servers of the other."""

    name: str
    near: object  # the lab of the clients' family
    far: object  # … and of the real servers'

    def service(self, *names, **more):
        return fullnat(self.near.VIP, *(getattr(self.far, name) for name in names), **more)

    @property
    def is_six_first(self):
        return self.near is lab6


WAYS = (Way("four_to_six", lab, lab6), Way("six_to_four", lab6, lab))


def ttl(family, value):
    """The field that counts down, as each family's packets call it."""
    return {"hlim" if family is lab6 else "ttl": value}


def tos(family, value):
    return {"tc" if family is lab6 else "tos": value}


def reply_to(step, flags="SA", payload=b"", four=None, six=None, **fields):
    """As in lab.py and lab6.py, in the family of the frame; `four`, `six`: fields of packets of one of them."""

    def make(results):
        frame = results.forwarded(step)
        if frame[12:14] == b"\x86\xdd":
            return lab6.reply_to(step, flags, payload, **fields, **(six or {}))(results)
        return lab.turned(frame, flags, payload, {**fields, **(four or {})})

    make.needs = step
    return make
