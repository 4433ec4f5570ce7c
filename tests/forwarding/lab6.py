"""The network of lab.py in IPv6: the same hosts, with the same MAC addresses.

        clients ── gateway ── wan [weir] lan ── real servers A, B, C, D
                                             └─ inner gateway ── FAR
"""

import struct

import lab
from scapy.config import conf

from lab import Config, Host, Sent, address
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS, IPv6,
                                ICMPv6EchoRequest, ICMPv6ND_Redirect)
from scapy.packet import Raw

WAN, LAN = Host("2001:db8:51::1", lab.WAN.mac), Host("2001:db8:10::1", lab.LAN.mac)
conf.ipv6_enabled = True  # else scapy leaves TCP checksums over IPv6 out
# What weir makes of its MAC addresses (RFC 4291 appendix A).
WAN_LOCAL, LAN_LOCAL = Host("fe80::ff:fe00:1", WAN.mac), Host("fe80::ff:fe00:2", LAN.mac)
GATEWAY = Host("2001:db8:51::fe", lab.GATEWAY.mac)
CLIENT = Host("2001:db8:7::7", GATEWAY.mac)
NEAR, NEAR_LOCAL = Host("2001:db8:51::20", lab.NEAR.mac), Host("fe80::20", lab.NEAR.mac)
A, B, C, D = (Host(f"2001:db8:10::{11 + i}", f"02:00:00:00:01:{11 + i}") for i in range(4))
INNER_GATEWAY = Host("2001:db8:10::fe", lab.INNER_GATEWAY.mac)
FAR = Host("2001:db8:19::5", INNER_GATEWAY.mac)
VIP, WAN_VIP, LAN_VIP = "2001:db8:2::80", "2001:db8:51::80", "2001:db8:10::80"
POOL = "2001:db8:10::200"
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
NOBODY = "::"


def solicited_node(target):
    """RFC 4291 2.7.1."""
    import ipaddress

    low = int(ipaddress.IPv6Address(address(target))) & 0xFFFFFF
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | low))


def group_mac(group):
    """RFC 2464 7."""
    import ipaddress

    return "33:33:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv6Address(group).packed[-4:])


def port(name, host, local=None, mtu=1500, companion=None, extra="", v4=None):
    addresses = [f'"{host.ip}/64"'] + [f'"{local}/64"'] * (local is not None) + [f'"{v4}"'] * (v4 is not None)
    lines = ["[[port]]", f'name = "{name}"', 'device = "net_null0"', f"addresses = [{', '.join(addresses)}]", f"mtu = {mtu}"]
    lines += [f'companion = "{companion}"'] * (companion is not None)
    return "\n".join(lines + [f'mac = "{host.mac}"']) + f"\n{extra}"


def two_arm(*services, known=(GATEWAY, NEAR, A, B, C, D, INNER_GATEWAY), gateway=GATEWAY.ip, extra="", answers=None, companion=None,
            wan_keys="", lan_keys="", v4=(None, None), wan_mtu=1500, mtu=1500, forward=()):
    text = "limits = { connections = 1024" + (f", answers_per_second = {answers}" if answers is not None else "") + " }\n"
    text += extra + port("wan", WAN, companion=companion, extra=wan_keys, v4=v4[0], mtu=wan_mtu) + port("lan", LAN, extra=lan_keys, v4=v4[1], mtu=mtu)
    text += f'[[route]]\nto = "::/0"\nvia = "{gateway}"\n' * (gateway is not None)
    text += f'[[route]]\nto = "2001:db8:19::/48"\nvia = "{INNER_GATEWAY.ip}"\n'
    text += "".join(f'[[neighbour]]\naddress = "{host.ip}"\nmac = "{host.mac}"\n' for host in known)
    text += f'[[local_pool]]\nname = "inside"\naddresses = ["{POOL}"]\n' + "".join(each.text for each in services)
    text = lab.forwarding(text, forward)
    return Config(text, {"wan": WAN.mac, "lan": LAN.mac}, {each.name: each for each in services}, {"addresses": [POOL], "ports": (1024, 65535)})


def service(mode, *reals, vip=VIP, **more):
    return lab.service(mode, *reals, vip=vip, **more)


def ip6(sender, to, **fields):
    return IPv6(src=address(sender), dst=address(to), **{"hlim": 64, **fields})


def udp(sender, to, payload=b"question", sport=40000, dport=80, chksum=None, extensions=None, **fields):
    header = ip6(sender, to, **fields)
    return Sent(sender, (header / extensions if extensions else header) / UDP(sport=sport, dport=dport, chksum=chksum) / Raw(payload))


def tcp(sender, to, flags="S", sport=40000, dport=80, payload=b"", seq=1000, ack=0, options=(), **fields):
    segment = TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, options=list(options))
    return Sent(sender, ip6(sender, to, **fields) / segment / Raw(payload))


def ping(sender, to, **fields):
    return Sent(sender, ip6(sender, to, **fields) / ICMPv6EchoRequest(id=7, seq=1, data=b"12345678"))


def discovery(sender, destination, message, to_mac=None, hlim=255, source=None):
    """A message of neighbour discovery; one to a group goes to its MAC address."""
    group = destination.startswith("ff")
    packet = ip6(sender if source is None else source, destination, hlim=hlim) / message
    return Sent(sender, packet, to_mac or (group_mac(destination) if group else None))


def solicit(sender, target, to=None, mac=True, source=None, **more):
    """`mac`: the source link-layer address; True: the sender's own; None: none."""
    message = ICMPv6ND_NS(tgt=address(target))
    if mac is not None:
        message /= ICMPv6NDOptSrcLLAddr(lladdr=sender.mac if mac is True else mac)
    return discovery(sender, address(to) if to else solicited_node(target), message, source=source, **more)


def probe(sender, target=None, **more):
    """Duplicate address detection of the sender's, for its own address unless another is named."""
    return solicit(sender, target or sender.ip, mac=None, source=NOBODY, **more)


def advertise(sender, to, solicited=True, override=True, router=False, mac=True, target=None, **more):
    message = ICMPv6ND_NA(tgt=address(target or sender), R=int(router), S=int(solicited), O=int(override))
    if mac is not None:
        message /= ICMPv6NDOptDstLLAddr(lladdr=sender.mac if mac is True else mac)
    return discovery(sender, address(to), message, **more)


def announce(sender, **more):
    """An unsolicited one, to all nodes."""
    return advertise(sender, ALL_NODES, solicited=False, **more)


def router_advertisement(sender, lifetime=1800, mac=True, **more):
    message = ICMPv6ND_RA(routerlifetime=lifetime)
    if mac is not None:
        message /= ICMPv6NDOptSrcLLAddr(lladdr=sender.mac)
    return discovery(sender, ALL_NODES, message, **more)


def router_solicitation(sender):
    return discovery(sender, "ff02::2", ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=sender.mac))


def redirect(sender, to):
    return discovery(sender, address(to), ICMPv6ND_Redirect(tgt=sender.ip, dst=CLIENT.ip))


def reply_to(step, flags="SA", payload=b"", **fields):
    """As lab.reply_to."""

    def make(results):
        from scapy.layers.l2 import Ether

        packet = Ether(results.forwarded(step))
        sender = Host(packet[IPv6].dst, packet.dst)
        layer = UDP if UDP in packet else TCP
        ports = {"sport": packet[layer].dport, "dport": packet[layer].sport}
        make_it = udp if layer is UDP else lambda *about, **more: tcp(*about[:2], flags, payload=payload, **more)
        return make_it(sender, packet[IPv6].src, payload, **ports, **fields)

    make.needs = step
    return make


def mended(frame):
    """The frame with the ICMPv6 checksum of a packet without extension headers put right again."""
    from wire import checksum

    message = frame[54:56] + b"\0\0" + frame[58:]
    pseudo = frame[22:54] + struct.pack("!II", len(message), 58)
    return frame[:56] + struct.pack("!H", checksum(pseudo + message)) + frame[58:]
