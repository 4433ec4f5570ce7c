"""Ports with VLAN tags: every frame of such a port is tagged in its captures, in and out, and none gets to another port."""

import struct
from dataclasses import replace

from case import Case, drop, forward, lan, local, queue, reply, wan
from lab import A, B, CLIENT, GATEWAY, LAN, NEAR, VIP, WAN, WAN_VIP, arp, ethernet, icmp, raw, reply_to, service, tagged, tags_of, tcp, two_arm, udp

MODES = ("dr", "nat", "fullnat")
VLANS = {"single": (100, 200), "stacked": ("100.200", "4094.1"), "mixed": (100, "100.200"), "one_side": (100, None), "other_side": (None, "7.7")}
C_TAG, S_TAG = 0x8100, 0x88A8
SYN = ethernet(tcp(CLIENT, VIP))


def lb(*services, vlans=(100, 200), devices=("net_null0", "net_null1"), **more):
    return two_arm(*(services or (service("nat", A), service("nat", B, vip=WAN_VIP, name="near"))), vlans=vlans, devices=devices, **more)


def with_priorities(packet, *priorities):
    if callable(packet):

        def make(results):
            return replace(packet(results), priorities=priorities)

        make.needs = packet.needs
        return make
    return replace(packet, priorities=priorities)


def is_at(host, address):
    return reply("arp", "wan", eth_dst=host.mac, op=2, src=address, hwsrc=WAN.mac, dst=host.ip, hwdst=host.mac)


def traffic(mode, name):
    """Forwarded both ways, answered, refused, given to the host: whatever becomes of a packet, with the ports' tags."""
    replies = [lan(reply_to(0), forward("wan", CLIENT)), lan(reply_to(0, ttl=1), reply("ttl_exceeded", "lan", A))] * (mode != "dr")
    return Case(f"{mode}_{name}", lb(service(mode, A), service(mode, B, protocol="udp", name="dns"), service(mode, B, vip=WAN_VIP, name="near"),
                                     vlans=VLANS[name]), [
        wan(tcp(CLIENT, VIP), forward("lan", A, new=True)),
        *replies,
        wan(tcp(CLIENT, VIP, "A"), forward("lan", A, new=False)),
        wan(tcp(CLIENT, VIP, "A", payload=bytes(1460)), forward("lan", A, new=False)),
        wan(udp(CLIENT, VIP), forward("lan", B, new=True)),
        wan(icmp(CLIENT, VIP, payload=b"hi"), reply("icmp_echo", "wan", CLIENT, src=VIP)),
        wan(tcp(CLIENT, VIP, dport=81), reply("no_service", "wan", CLIENT, flags="RA")),
        wan(tcp(CLIENT, VIP, ttl=1), reply("ttl_exceeded", "wan", CLIENT)),
        wan(arp(NEAR, WAN_VIP), is_at(NEAR, WAN_VIP)),
        wan(tcp(CLIENT, WAN, dport=22), local("to_port_address")),
    ])


def strangers(vlan, *stacks):
    """Frames with other tags than a port has."""
    return [wan(raw(tagged(SYN, stack)), drop("other_vlan")) for stack in stacks]


def cut(vlan):
    """A frame that ends within its tags, or before its EtherType."""
    tags = tags_of(vlan)
    whole = tagged(SYN, tags)
    return [wan(raw(whole[:length]), drop("truncated")) for length in range(14 + 4 * len(tags))]


def jumbo(length, sport=40000):
    return udp(CLIENT, VIP, bytes(length - 28), sport, flags="DF")


def too_big(mtu):
    return lambda rest: struct.unpack("!HH", rest) == (0, mtu)


FINE = wan(tcp(CLIENT, VIP), forward("lan", A))
ONE = tags_of(100)
TRUNK = replace(lb(vlans=(100, 200), devices=("net_null0", "net_null0")), captured=("wan",))
OWN = lb(vlans=(100, 200), devices=("net_null0", "net_null0"))

CASES = [
    *(traffic(mode, name) for mode in MODES for name in VLANS),
    Case("tags_of_no_port_single", lb(), [
        *strangers(100, [], [(C_TAG, 101)], [(C_TAG, 200)], [(C_TAG, 0)], [(C_TAG, 4095)], [(S_TAG, 100)], [(C_TAG, 100), (C_TAG, 100)], [(S_TAG, 100), (C_TAG, 100)],
                   [(C_TAG, 100), (S_TAG, 0)], [(C_TAG, 0), (C_TAG, 100)], [(C_TAG, 100), (C_TAG, 0), (C_TAG, 0)]),
        FINE,
    ]),
    Case("tags_of_no_port_stacked", lb(vlans=("100.200", None)), [
        *strangers("100.200", [], [(C_TAG, 100)], [(S_TAG, 100)], [(C_TAG, 200)], [(S_TAG, 200), (C_TAG, 100)], [(S_TAG, 100), (C_TAG, 100)], [(S_TAG, 100), (S_TAG, 200)],
                   [(S_TAG, 100), (C_TAG, 200), (C_TAG, 200)], [(S_TAG, 100), (C_TAG, 0)]),
        FINE,
    ]),
    Case("both_tags_may_be_of_802_1q", lb(vlans=("100.200", None)), [
        wan(raw(tagged(SYN, [(C_TAG, 100), (C_TAG, 200)])), forward("lan", A, new=True)),
        lan(reply_to(0), forward("wan", CLIENT)),
    ], says="QinQ before IEEE 802.1ad; what is sent has the EtherType of 802.1ad outside"),
    Case("a_tag_inside_that_only_gives_a_priority", lb(), [wan(raw(tagged(SYN, [(C_TAG, 100), (C_TAG, 0)], (0, 5))), forward("lan", A, new=True))]),
    Case("cut_tags_are_truncated", lb(), [*cut(100), FINE]),
    Case("cut_tags_of_two_are_truncated", lb(vlans=("100.200", None)), [*cut("100.200"), FINE]),
    Case("priorities_go_from_tag_to_tag", lb(), [
        wan(with_priorities(tcp(CLIENT, VIP), 5), forward("lan", A, priorities=(5,))),
        lan(with_priorities(reply_to(0), 7), forward("wan", CLIENT, priorities=(7,))),
        lan(reply_to(0, "A"), forward("wan", CLIENT, priorities=(0,))),
        wan(with_priorities(icmp(CLIENT, VIP), 3), reply("icmp_echo", "wan", CLIENT, priorities=(3,))),
        wan(with_priorities(arp(NEAR, WAN_VIP), 6), reply("arp", "wan", priorities=(6,))),
        wan(raw(tagged(ethernet(tcp(CLIENT, VIP, "A")), [(C_TAG, 0x1000 | 100)], (2,))), forward("lan", A, priorities=(2,))),
    ], says="a frame's drop eligible bit says what has become of it on the way here, and goes"),
    Case("priorities_of_stacked_tags", lb(vlans=("100.200", "300.400")), [
        wan(with_priorities(tcp(CLIENT, VIP), 5, 1), forward("lan", A, priorities=(5, 1))),
        lan(with_priorities(reply_to(0), 0, 7), forward("wan", CLIENT, priorities=(0, 7))),
    ]),
    Case("priorities_between_one_tag_and_two", lb(vlans=(100, "300.400")), [
        wan(with_priorities(tcp(CLIENT, VIP), 5), forward("lan", A, priorities=(5, 0))),
        lan(with_priorities(reply_to(0), 3, 7), forward("wan", CLIENT, priorities=(3,))),
    ]),
    Case("a_priority_tag_on_an_untagged_port_gives_its_priority", lb(vlans=(None, 200)), [
        wan(raw(tagged(SYN, [(C_TAG, 0)], (4,))), forward("lan", A, priorities=(4,))),
        lan(with_priorities(reply_to(0), 7), forward("wan", CLIENT, priorities=(), type=0x0800)),
        wan(tcp(CLIENT, VIP, "A"), forward("lan", A, priorities=(0,))),
    ]),
    Case("weir_asks_for_neighbours_with_its_tags", lb(known=(GATEWAY,)), [
        wan(with_priorities(tcp(CLIENT, VIP), 5), queue("lan", sent_with=1, priorities=(5,))),
        lan(arp(A, LAN, "is-at", target_mac=LAN.mac, to_mac=LAN.mac)),
    ], asks=[("lan", 0.001, A.ip)]),
    Case("an_untagged_and_a_tagged_port_on_one_device", lb(vlans=(None, 200), devices=("net_null0", "net_null0")), [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        lan(reply_to(0), forward("wan", CLIENT)),
        wan(raw(tagged(SYN, [(C_TAG, 0)])), forward("lan", A)),
        *strangers(0, [(C_TAG, 100)], [(C_TAG, 200)], [(S_TAG, 0)], [(C_TAG, 0), (C_TAG, 200)]),
    ], says="each has a capture of its own here: in the other's its frames are strangers"),
    Case("the_capture_of_a_device", TRUNK, [
        wan(raw(tagged(SYN, ONE)), forward("lan", A)),
        wan(raw(tagged(ethernet(arp(A, LAN), LAN.mac), tags_of(200))), reply("arp", "lan")),
        wan(raw(tagged(SYN, tags_of(300))), drop("other_vlan")),
    ], says="a port without a capture of its own is found in that of another on its device"),
    Case("captures_of_ports_on_one_device", OWN, [
        wan(tcp(CLIENT, VIP), forward("lan", A)),
        lan(reply_to(0), forward("wan", CLIENT)),
        *strangers(100, tags_of(200), tags_of(300)),
    ]),
    *(Case(f"jumbo_{name}", lb(service("nat", A, protocol="udp"), vlans=vlans, wan_mtu=9000, mtu=9000), [
        wan(jumbo(9000), forward("lan", A, new=True)),
        lan(reply_to(0, payload=bytes(8972)), forward("wan", CLIENT)),
    ]) for name, vlans in {"untagged": (None, None), "single": (100, 200), "stacked": ("1.2", "3.4")}.items()),
    Case("jumbo_to_a_port_with_a_smaller_mtu", lb(service("nat", A, protocol="udp"), vlans=(100, 200), wan_mtu=65000, mtu=9000), [
        wan(jumbo(9000), forward("lan", A)),
        wan(jumbo(9001), reply("too_big", "wan", CLIENT, icmp=(3, 4), rest=too_big(9000))),
        wan(jumbo(64000), reply("too_big", "wan", CLIENT, icmp=(3, 4), rest=too_big(9000))),
    ]),
]
