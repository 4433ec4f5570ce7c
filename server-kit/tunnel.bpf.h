/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets out of ipip, GRE and GUE, at a device's ingress, before the stack sees them. */

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

/* linux/bpf.h of 6.3. */
#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV4
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

enum { IPV4_HEADER = 20, IPV6_HEADER = 40, UDP_HEADER = 8, GRE_HEADER = 4, GUE_HEADER = 4 };
enum { ECN_NONE = 0, ECN_ECT1 = 1, ECN_ECT0 = 2, ECN_CE = 3 };

struct outer {
	struct address source, destination;
	__u32 length; /* of the header, bytes */
	__u8 protocol;
	__u8 ecn;
	__u8 usual; /* a single packet without options: what follows the header is what it says */
};

static __always_inline int load(struct __sk_buff *skb, __u32 at, void *to, __u32 length)
{
	return bpf_skb_load_bytes_relative(skb, at, to, length, BPF_HDR_START_NET);
}

/* Reads the outer header. An IPv6 extension header is a protocol that is no tunnel's. `stack`: the stack has looked at it before, and
 * has checked its checksum (a socket's filter has no `bpf_csum_diff`). */
static __always_inline int read_outer(struct __sk_buff *skb, struct outer *outer, int stack)
{
	__u32 words[10];

	if (load(skb, 0, words, IPV4_HEADER))
		return -1;
	const __u8 *bytes = (const __u8 *)words;

	if (bytes[0] >> 4 == 4) {
		/* More fragments, or an offset. */
		int fragment = (bytes[6] & 0x3f) | bytes[7];
		__s64 sum = stack ? 0xffff : bpf_csum_diff(NULL, 0, words, IPV4_HEADER, 0);

		sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
		sum = (sum & 0xffff) + (sum >> 16);
		outer->length = IPV4_HEADER;
		outer->protocol = bytes[9];
		outer->ecn = bytes[1] & 3;
		outer->usual = bytes[0] == 0x45 && !fragment && sum == 0xffff;
		map_ipv4(&outer->source, words[3]);
		map_ipv4(&outer->destination, words[4]);
		return 0;
	}
	if (bytes[0] >> 4 != 6 || load(skb, 0, words, IPV6_HEADER))
		return -1;
	outer->length = IPV6_HEADER;
	outer->protocol = bytes[6];
	outer->ecn = bytes[1] >> 4 & 3;
	outer->usual = 1;
	__builtin_memcpy(&outer->source, bytes + 8, 16);
	__builtin_memcpy(&outer->destination, bytes + 24, 16);
	return 0;
}

/* What the outer protocol is to the kit, of the tunnels that it was told: a kind, or 0. */
static __always_inline __u32 kind_of(const struct settings *now, __u8 protocol)
{
	switch (protocol) {
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
		return now->kinds & KIND_IPIP;
	case IPPROTO_GRE:
		return now->kinds & KIND_GRE;
	case IPPROTO_UDP:
		return now->kinds & KIND_GUE;
	}
	return 0;
}

/* The headers before the packet inside, and its version as they tell it (0: they do not); negative where weir writes no such one. */
static __always_inline int read_wrapping(struct __sk_buff *skb, __u32 kind, const struct outer *outer, __u32 *version)
{
	__u8 bytes[4];

	*version = 0;
	switch (kind) {
	case KIND_IPIP:
		*version = outer->protocol == IPPROTO_IPIP ? 4 : 6;
		return 0;
	case KIND_GRE:
		if (load(skb, outer->length, bytes, GRE_HEADER) || bytes[0] || bytes[1])
			return -1;
		if (bytes[2] == 0x08 && bytes[3] == 0x00)
			*version = 4;
		else if (bytes[2] == 0x86 && bytes[3] == 0xdd)
			*version = 6;
		else
			return -1;
		return GRE_HEADER;
	}
	if (load(skb, outer->length + UDP_HEADER, bytes, GUE_HEADER))
		return -1;
	/* Variant 1 is the packet itself: its version begins with the bits 01. */
	if (bytes[0] >> 6 == 1)
		return UDP_HEADER;
	/* Variant 0: no control message, no fields, no flags. */
	if (bytes[0] || bytes[2] || bytes[3])
		return -1;
	if (bytes[1] == IPPROTO_IPIP)
		*version = 4;
	else if (bytes[1] == IPPROTO_IPV6)
		*version = 6;
	else
		return -1;
	return UDP_HEADER + GUE_HEADER;
}

/* RFC 6040: the mark that a packet has after the tunnel, or -1 where it has to be dropped. */
static __always_inline int ecn_of(__u8 outer, __u8 inner)
{
	if (outer == ECN_CE)
		return inner == ECN_NONE ? -1 : ECN_CE;
	return outer == ECN_ECT1 && inner == ECN_ECT0 ? ECN_ECT1 : inner;
}

/* Writes the mark into the packet that now follows the Ethernet header. */
static __always_inline int write_ecn(struct __sk_buff *skb, __u32 version, const __u8 *inner, __u8 ecn)
{
	__u8 changed[2] = { inner[0], inner[1] };

	if (version == 6) {
		changed[1] = (inner[1] & 0xcf) | ecn << 4;
		return bpf_skb_store_bytes(skb, ETH_HLEN, changed, 2, BPF_F_RECOMPUTE_CSUM);
	}
	changed[1] = (inner[1] & 0xfc) | ecn;

	__u16 from, to;

	__builtin_memcpy(&from, inner, 2);
	__builtin_memcpy(&to, changed, 2);
	/* The header's sum stays the same, so that of the whole packet does, too. */
	return bpf_l3_csum_replace(skb, ETH_HLEN + 10, from, to, 2) ?: bpf_skb_store_bytes(skb, ETH_HLEN, changed, 2, 0);
}

static __always_inline int drop(__u32 counter)
{
	count(counter);
	return TC_ACT_SHOT;
}

SEC("tc")
int tunnel_ingress(struct __sk_buff *skb)
{
	const struct settings *now = settings_now();
	struct outer outer;
	__u32 kind, version, told, outside;
	__u8 inner[20];
	int wrapping, ecn;

	/* Frames for others, which a device in promiscuous mode sees. */
	if (!now || skb->pkt_type != 0 /* PACKET_HOST */)
		return TC_ACT_OK;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_OK;
	if (read_outer(skb, &outer, 0))
		return TC_ACT_OK;
	kind = kind_of(now, outer.protocol);
	if (!kind)
		return TC_ACT_OK;
	/* To the process, by the stack, which puts the pieces together. */
	if (!outer.usual)
		return TC_ACT_OK;
	if (kind == KIND_GUE) {
		__u16 port;

		if (load(skb, outer.length + 2, &port, 2) || port != bpf_htons(now->gue_port))
			return TC_ACT_OK;
		/* Several datagrams in one, by the receive offload of UDP: a socket gets them one by one. */
		if (skb->gso_size)
			return TC_ACT_OK;
	}
	if (!bpf_map_lookup_elem(&destinations, &outer.destination) || !is_director(&outer.source))
		return TC_ACT_OK;

	wrapping = read_wrapping(skb, kind, &outer, &told);
	if (wrapping < 0)
		return drop(COUNT_TUNNEL_MALFORMED);
	outside = outer.length + wrapping;
	if (load(skb, outside, inner, sizeof(inner)))
		return drop(COUNT_TUNNEL_MALFORMED);
	version = inner[0] >> 4;
	if ((version != 4 && version != 6) || (told && told != version))
		return drop(COUNT_TUNNEL_MALFORMED);
	ecn = ecn_of(outer.ecn, version == 4 ? inner[1] & 3 : inner[1] >> 4 & 3);
	if (ecn < 0)
		return drop(COUNT_TUNNEL_CONGESTED);

	/* The size of the segments that receive offload has put together stays. */
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	int other = (version == 4) != (skb->protocol == bpf_htons(ETH_P_IP));

	if (other)
		flags |= version == 4 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4 : BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
	if (bpf_skb_adjust_room(skb, -(__s32)outside, BPF_ADJ_ROOM_MAC, flags))
		return drop(COUNT_TUNNEL_FAILED);
	if (other) {
		__u16 type = version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);

		if (bpf_skb_store_bytes(skb, ETH_HLEN - 2, &type, 2, 0))
			return drop(COUNT_TUNNEL_FAILED);
	}
	if (ecn != (version == 4 ? inner[1] & 3 : inner[1] >> 4 & 3) && write_ecn(skb, version, inner, ecn))
		return drop(COUNT_TUNNEL_FAILED);
	count(kind == KIND_IPIP ? COUNT_TUNNEL_IPIP : kind == KIND_GRE ? COUNT_TUNNEL_GRE : COUNT_TUNNEL_GUE);
	return TC_ACT_OK;
}

/* What the process's sockets get: packets of directors to the destinations by the devices, nothing else. Of one that came in pieces
 * the last piece's device is known. */
SEC("socket")
int tunnel_socket(struct __sk_buff *skb)
{
	struct outer outer;
	__u32 device = skb->ifindex;

	if (!bpf_map_lookup_elem(&devices, &device) || read_outer(skb, &outer, 1) || !is_director(&outer.source) ||
	    !bpf_map_lookup_elem(&destinations, &outer.destination))
		return 0;
	count(COUNT_TUNNEL_SLOW);
	return skb->len;
}
