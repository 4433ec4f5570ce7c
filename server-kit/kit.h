/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs in the kernel and the loader share. */
#ifndef WEIR_KIT_H
#define WEIR_KIT_H

#include <linux/types.h>

/* IPv4 addresses are kept as ::ffff:a.b.c.d, their prefixes 96 bits longer: a map holds both families. */
struct address {
	__u32 words[4];
};

struct prefix {
	__u32 length;
	struct address address;
};

/* What the option said of a socket's client. */
struct client {
	struct address address;
	__u16 port; /* network byte order */
	__u8 family; /* 4 or 6 as in the option; 0: not known yet */
	__u8 unused;
	__u32 first; /* while not known: the sequence number of the first byte */
};

enum { MOST_DIRECTORS = 4096, MOST_DESTINATIONS = 256, MOST_DEVICES = 16 };

enum { KIND_IPIP = 1, KIND_GRE = 2, KIND_GUE = 4 };

struct settings {
	__u32 kinds; /* of tunnels, bits */
	__u16 gue_port; /* host byte order */
	__u16 toa;
};

/* What is counted, and what `weir-server-kit status` says of it. */
#define COUNTERS(each)                                                                                              \
	each(TOA_HANDSHAKE, "toa_handshake", "connections whose client the handshake's last segment told")          \
	each(TOA_DATA, "toa_data", "connections whose client only the first data segment told")                     \
	each(TOA_NONE, "toa_none", "connections from a director without the option, or with one that is no address") \
	each(TOA_UNTRUSTED, "toa_untrusted", "connections with the option from an address that is no director's")   \
	each(TOA_IPV4_SOCKET, "toa_ipv4_socket", "IPv6 clients at IPv4 sockets, which cannot show them")           \
	each(TUNNEL_IPIP, "tunnel_ipip", "packets taken out of ipip")                                               \
	each(TUNNEL_GRE, "tunnel_gre", "packets taken out of GRE")                                                  \
	each(TUNNEL_GUE, "tunnel_gue", "packets taken out of GUE")                                                  \
	each(TUNNEL_SLOW, "tunnel_slow", "packets left to the process: reassembled fragments, outer options")       \
	each(TUNNEL_MALFORMED, "tunnel_malformed", "dropped: not a packet inside, or a header that weir does not write") \
	each(TUNNEL_CONGESTED, "tunnel_congested", "dropped: marked as congested outside, not ECN-capable inside (RFC 6040)") \
	each(TUNNEL_FAILED, "tunnel_failed", "dropped: the kernel could not take the header off")                   \
	each(SLOW_OUT, "slow_out", "packets that the process took out")                                             \
	each(SLOW_MALFORMED, "slow_malformed", "packets that the process dropped: not a packet inside")             \
	each(SLOW_CONGESTED, "slow_congested", "packets that the process dropped: marked as congested outside only")

enum counter {
#define EACH(name, text, help) COUNT_##name,
	COUNTERS(EACH)
#undef EACH
	COUNTS
};

#endif
