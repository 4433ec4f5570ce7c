"""The network that the cases play in: who there is, and configurations and packets made in one line.

        clients ── gateway ── wan [weir] lan ── real servers A, B, C, D
                                             └─ inner gateway ── FAR
"""

import json
import struct
from dataclasses import dataclass, field

from scapy.config import conf

conf.ipv6_enabled = False
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.l2 import ARP, Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402


@dataclass(frozen=True)
class Host:
    ip: str
    mac: str  # that its frames have on weir's link: its own, or its gateway's


WAN, LAN = Host("198.51.100.1", "02:00:00:00:00:01"), Host("10.0.0.1", "02:00:00:00:00:02")
GATEWAY = Host("198.51.100.254", "02:00:00:00:02:fe")
CLIENT = Host("203.0.113.7", GATEWAY.mac)
NEAR = Host("198.51.100.20", "02:00:00:00:02:20")
A, B, C, D = (Host(f"10.0.0.{11 + i}", f"02:00:00:00:01:{11 + i}") for i in range(4))
INNER_GATEWAY = Host("10.0.0.254", "02:00:00:00:01:fe")
FAR = Host("10.9.0.5", INNER_GATEWAY.mac)
INSIDE = Host("10.0.0.50", "02:00:00:00:01:50")  # a client in the real servers' own subnet
VIP, WAN_VIP, LAN_VIP = "192.0.2.80", "198.51.100.80", "10.0.0.80"
POOL = "10.0.0.200"
BROADCAST = "ff:ff:ff:ff:ff:ff"
LETTERS = {"A": A, "B": B, "C": C, "D": D}


def client(number):
    """One of many clients behind the gateway."""
    return Host(f"203.0.113.{number}", GATEWAY.mac)


# --- configurations ---------------------------------------------------------------------------------------------------


@dataclass
class Service:
    name: str
    mode: str
    protocol: str
    vip: str
    port: int
    text: str


@dataclass
class Config:
    text: str
    ports: dict  # name -> MAC
    services: dict
    pool: dict = field(default_factory=dict)  # addresses, ports
    tags: dict = field(default_factory=dict)  # name -> (EtherType, identifier) of each VLAN tag, of tagged ports
    captured: tuple = None  # the ports that have captures; None: all


def service(mode, *reals, protocol="tcp", vip=VIP, port=80, name="web", scheduler="rr", real_port=8080, weights=None, **keys):
    """A `[[service]]`: each further keyword is a line of it, in TOML."""
    lines = [f'name = "{name}"', f'address = "{vip}"', f"port = {json.dumps(port)}", f'protocol = "{protocol}"', f'mode = "{mode}"']
    lines += [f'scheduler = "{scheduler}"'] + ['local_pool = "inside"'] * (mode == "fullnat")
    lines += [f"{key} = {value}" for key, value in keys.items()]
    for number, real in enumerate(reals):
        lines += ["[[service.real]]", f'address = "{real.ip}"', f"weight = {weights[number] if weights else 1}"]
        lines += [f"port = {real_port}"] * (real_port is not None)
    # Of several ports any may be a reply's.
    return Service(name, mode, protocol, vip, port if isinstance(port, int) else 0, "\n".join(["[[service]]"] + lines) + "\n")


def route(to, via):
    return f'[[route]]\nto = "{to}"\nvia = "{via.ip}"\n'


def tags_of(vlan):
    """The tags of a port's frames, for `vlan = 100` or `vlan = "100.200"`."""
    ids = [int(part) for part in str(vlan).split(".") if part != "0"]
    return list(zip((0x88A8, 0x8100)[-len(ids) :], ids)) if ids else []


def port(name, host, mac=True, mtu=1500, companion=None, announce=(), vlan=None, device="net_null0"):
    lines = [f"vlan = {json.dumps(vlan)}"] * (vlan is not None)
    lines += [f'companion = "{companion}"'] if companion else []
    lines += [f"announce = {json.dumps(announce)}"] if announce else []
    lines = ["[[port]]"] + lines + [f'name = "{name}"', f'device = "{device}"', f'addresses = ["{host.ip}/24"]', f"mtu = {mtu}"]
    return "\n".join(lines + [f'mac = "{host.mac}"'] * mac) + "\n"


def forwarding(text, ports):
    """The configuration with `forward = true` on these ports."""
    for name in ports:
        text = text.replace(f'name = "{name}"\n', f'name = "{name}"\nforward = true\n', 1)
    return text


def two_arm(*services, known=(GATEWAY, NEAR, A, B, C, D, INNER_GATEWAY), pool=POOL, pool_ports="1024-65535", extra="",
            default_route=True, mtu=1500, connections=1024, macs=True, answers=None, to_host=None, to_host_peers=None, companion=None, announce=((), ()), vlans=(None, None), devices=("net_null0", "net_null0"), wan_mtu=1500, forward=()):
    """weir between the clients' link (wan) and the real servers' (lan); `known` have static neighbour entries."""
    text = f"limits = {{ connections = {connections}" + (f", answers_per_second = {answers}" if answers is not None else "")
    text += f", host_packets_per_second = {to_host}" if to_host is not None else ""
    text += (f", host_peer_packets_per_second = {to_host_peers}" if to_host_peers is not None else "") + " }\n"
    text += extra + port("wan", WAN, macs, wan_mtu, companion, announce[0], vlans[0], devices[0])
    text += port("lan", LAN, macs, mtu, None, announce[1], vlans[1], devices[1])
    text += f'[[route]]\nto = "0.0.0.0/0"\nvia = "{GATEWAY.ip}"\n' * default_route
    text += f'[[route]]\nto = "10.9.0.0/16"\nvia = "{INNER_GATEWAY.ip}"\n'
    text += "".join(f'[[neighbour]]\naddress = "{host.ip}"\nmac = "{host.mac}"\n' for host in known)
    text += f'[[local_pool]]\nname = "inside"\naddresses = ["{pool}"]\nports = "{pool_ports}"\n'
    text += "".join(each.text for each in services)
    text = forwarding(text, forward)
    first, last = map(int, pool_ports.split("-"))
    macs = {"wan": WAN.mac, "lan": LAN.mac} if macs else {"wan": "02:77:65:69:72:01", "lan": "02:77:65:69:72:02"}
    ends = pool.split("-")
    numbers = range(int(ends[0].split(".")[3]), int(ends[-1].split(".")[3]) + 1)
    addresses = [f"10.0.0.{number}" for number in numbers]
    tags = {name: tags_of(vlan) for name, vlan in zip(("wan", "lan"), vlans) if vlan}
    return Config(text, macs, {each.name: each for each in services}, {"addresses": addresses, "ports": (first, last)}, tags)


def one_arm(*services):
    """weir with one leg, in the real servers' and the clients' own subnet."""
    text = "limits = { connections = 1024 }\n" + port("lan", LAN)
    text += f'[[route]]\nto = "0.0.0.0/0"\nvia = "{INNER_GATEWAY.ip}"\n'
    text += "".join(f'[[neighbour]]\naddress = "{host.ip}"\nmac = "{host.mac}"\n' for host in (A, B, INSIDE, INNER_GATEWAY))
    text += f'[[local_pool]]\nname = "inside"\naddresses = ["{POOL}"]\n' + "".join(each.text for each in services)
    pool = {"addresses": [POOL], "ports": (1024, 65535)}
    return Config(text, {"lan": LAN.mac}, {each.name: each for each in services}, pool)


# --- packets: (sender, scapy's IP or ARP layer) ------------------------------------------------------------------------


@dataclass
class Sent:
    """A packet and the host that sends it, which gives the frame its source MAC address."""

    sender: Host
    layer: object
    to_mac: str = None  # default: the port's
    priorities: tuple = ()  # of its VLAN tags, where the port has some; default: 0

    def frame(self, port_mac):
        return bytes(Ether(src=self.sender.mac, dst=self.to_mac or port_mac) / self.layer)


def address(where):
    return where.ip if isinstance(where, Host) else where


def ip(sender, to, **fields):
    return IP(src=sender.ip, dst=address(to), **{"ttl": 64, "id": 0x1234, **fields})


def tcp(sender, to, flags="S", sport=40000, dport=80, payload=b"", seq=1000, ack=0, options=(), chksum=None, **fields):
    segment = TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, options=list(options), chksum=chksum)
    return Sent(sender, ip(sender, to, **fields) / segment / Raw(payload))


def udp(sender, to, payload=b"question", sport=40000, dport=80, chksum=None, **fields):
    return Sent(sender, ip(sender, to, **fields) / UDP(sport=sport, dport=dport, chksum=chksum) / Raw(payload))


def icmp(sender, to, type=8, code=0, payload=b"", id=7, seq=1, chksum=None, **fields):
    header = struct.pack("!BBHHH", type, code, 0, id, seq)
    from wire import checksum

    value = checksum(header + payload) if chksum is None else chksum
    return Sent(sender, ip(sender, to, proto=1, **fields) / Raw(header[:2] + struct.pack("!H", value) + header[4:] + payload))


def quoting(sent, type=3, code=3, sender=CLIENT, to=VIP):
    """An ICMP error about `sent`."""
    return icmp(sender, to, type, code, payload=bytes(sent.layer)[:28], id=0, seq=0)


def arp(sender, target, op="who-has", to_mac=None, target_mac="00:00:00:00:00:00", **fields):
    layer = ARP(op=op, hwsrc=sender.mac, psrc=sender.ip, hwdst=target_mac, pdst=address(target))
    for name, value in fields.items():
        setattr(layer, name, value)
    return Sent(sender, layer, to_mac or (BROADCAST if op == "who-has" else None))


def tagged(frame, tags, priorities=()):
    """The frame with these VLAN tags."""
    numbers = list(priorities) + [0] * len(tags)
    text = b"".join(struct.pack("!HH", kind, number << 13 | id) for (kind, id), number in zip(tags, numbers))
    return frame[:12] + text + frame[12:]


def raw(data):
    """A frame as it stands, Ethernet header included."""
    return data


def ethernet(sent, port_mac=WAN.mac):
    """The frame of a packet, to be bent out of shape."""
    return sent.frame(port_mac)


def fixed(frame):
    """The frame with its IPv4 header checksum put right again."""
    from wire import checksum

    length = 14 + (frame[14] & 15) * 4
    blank = frame[14:24] + b"\0\0" + frame[26:length]
    return frame[:24] + struct.pack("!H", checksum(blank)) + frame[26:]


def reply_to(step, flags="SA", payload=b"", **fields):
    """What the real server sends back for the packet that weir forwarded to it at `step` (a number)."""

    def make(results):
        return turned(results.forwarded(step), flags, payload, fields)

    make.needs = step
    return make


def turned(frame, flags, payload, fields):
    packet = Ether(frame)
    sender = Host(packet[IP].dst, packet.dst)
    layer = UDP if UDP in packet else TCP
    ports = {"sport": packet[layer].dport, "dport": packet[layer].sport}
    if layer is UDP:
        return udp(sender, packet[IP].src, payload, **ports, **fields)
    return tcp(sender, packet[IP].src, flags, payload=payload, **ports, **fields)
