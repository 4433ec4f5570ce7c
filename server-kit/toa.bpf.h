/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The client's address behind fullnat: TCP option 254, read when a connection is established, told by accept and getpeername.
 *
 * IPv4: 254, 8, port, address; IPv6: 254, 20, port, address; both in network byte order. */

enum { TOA = 254, TOA_IPV4 = 8, TOA_IPV6 = 20, TCP_HEADER = 20, NO_OPERATION = 1, END_OF_OPTIONS = 0, MOST_OPTIONS = 40 };

/* Finds the first option 254 of the segment's header. `bpf_load_hdr_opt` would ask for the magic number of RFC 6994.
 * Returns 1 where it is an address, -1 where it is something else, 0 where there is none. */
static __always_inline int read_toa(struct bpf_sock_ops *ops, struct client *client)
{
	const __u8 *data = ops->skb_data, *end = ops->skb_data_end;
	__u32 at = TCP_HEADER;

	for (int step = 0; step < MOST_OPTIONS; step++) {
		const __u8 *option = data + at;
		__u8 kind, length;

		if (at > TCP_HEADER + MOST_OPTIONS || option + 1 > end)
			return 0;
		kind = option[0];
		if (kind == END_OF_OPTIONS)
			return 0;
		if (kind == NO_OPERATION) {
			at += 1;
			continue;
		}
		if (option + 2 > end)
			return 0;
		length = option[1];
		if (length < 2)
			return 0;
		if (kind != TOA) {
			at += length;
			continue;
		}
		if (length == TOA_IPV4 && option + TOA_IPV4 <= end) {
			__u32 four;

			__builtin_memcpy(&client->port, option + 2, 2);
			__builtin_memcpy(&four, option + 4, 4);
			map_ipv4(&client->address, four);
			client->family = 4;
			return 1;
		}
		if (length == TOA_IPV6 && option + TOA_IPV6 <= end) {
			__builtin_memcpy(&client->port, option + 2, 2);
			__builtin_memcpy(&client->address, option + 4, 16);
			client->family = 6;
			return 1;
		}
		return -1;
	}
	return 0;
}

static __always_inline void peer_of(struct bpf_sock_ops *ops, struct address *peer)
{
	__u32 four = ops->remote_ip4;

	/* Read here: the verifier takes loads of the context at fixed offsets only, and clang would merge two into one. */
	asm volatile("" : "+r"(four));
	if (ops->family == 2 /* AF_INET */) {
		map_ipv4(peer, four);
		return;
	}
	peer->words[0] = ops->remote_ip6[0];
	peer->words[1] = ops->remote_ip6[1];
	peer->words[2] = ops->remote_ip6[2];
	peer->words[3] = ops->remote_ip6[3];
}

static __always_inline void look_at_segments(struct bpf_sock_ops *ops, int look)
{
	__u32 flags = ops->bpf_sock_ops_cb_flags;

	flags = look ? flags | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG : flags & ~BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG;
	bpf_sock_ops_cb_flags_set(ops, flags);
}

static __always_inline void known(struct bpf_sock_ops *ops, const struct client *client, __u32 how)
{
	count(how);
	if (client->family == 6 && ops->family == 2 /* AF_INET */)
		count(COUNT_TOA_IPV4_SOCKET);
}

/* The handshake's last segment: an ACK, or the first data where the ACK was lost or deferred. */
static __always_inline void established(struct bpf_sock_ops *ops)
{
	struct client client = {};
	struct bpf_sock *socket = ops->sk;
	struct client *kept;
	struct address peer;
	int found;

	if (!socket)
		return;
	found = read_toa(ops, &client);
	peer_of(ops, &peer);
	if (!is_director(&peer)) {
		if (found)
			count(COUNT_TOA_UNTRUSTED);
		return;
	}
	if (found < 0) {
		count(COUNT_TOA_NONE);
		return;
	}
	client.first = ops->rcv_nxt;
	kept = bpf_sk_storage_get(&clients, socket, &client, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept) {
		count(COUNT_TOA_NONE);
		return;
	}
	if (found)
		known(ops, &client, COUNT_TOA_HANDSHAKE);
	else
		look_at_segments(ops, 1);
}

/* Segments of a connection whose handshake had no option: until the first byte has come, which may be after later ones. */
static __always_inline void first_data(struct bpf_sock_ops *ops)
{
	struct bpf_sock *socket = ops->sk;
	const __u8 *data = ops->skb_data, *end = ops->skb_data_end;
	struct client client = {};
	struct client *kept;
	__u32 sequence;
	int found;

	if (!socket)
		return;
	kept = bpf_sk_storage_get(&clients, socket, NULL, 0);
	if (!kept || kept->family)
		return;
	if (ops->rcv_nxt == kept->first) {
		found = read_toa(ops, &client);
		if (found > 0) {
			*kept = client;
			known(ops, &client, COUNT_TOA_DATA);
			look_at_segments(ops, 0);
			return;
		}
		if (data + TCP_HEADER > end)
			return;
		__builtin_memcpy(&sequence, data + 4, 4);
		/* A bare ACK, or what came before its turn. */
		if (!found && (ops->skb_len <= end - data || bpf_ntohl(sequence) != kept->first))
			return;
	}
	count(COUNT_TOA_NONE);
	bpf_sk_storage_delete(&clients, socket);
	look_at_segments(ops, 0);
}

SEC("sockops")
int toa_segments(struct bpf_sock_ops *ops)
{
	const struct settings *now;

	switch (ops->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		now = settings_now();
		if (now && now->toa)
			established(ops);
		break;
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		first_data(ops);
		break;
	}
	return 1;
}

/* accept and getpeername of an IPv4 socket, whose address cannot be an IPv6 one. */
SEC("cgroup/getpeername4")
int toa_peer4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	struct client *client;

	if (!socket)
		return 1;
	client = bpf_sk_storage_get(&clients, socket, NULL, 0);
	if (client && client->family == 4) {
		ctx->user_ip4 = client->address.words[3];
		ctx->user_port = client->port;
	}
	return 1;
}

/* Those of an IPv6 socket, which has IPv4 peers as ::ffff:a.b.c.d. */
SEC("cgroup/getpeername6")
int toa_peer6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	struct client *client;

	if (!socket)
		return 1;
	client = bpf_sk_storage_get(&clients, socket, NULL, 0);
	if (client && client->family) {
		ctx->user_ip6[0] = client->address.words[0];
		ctx->user_ip6[1] = client->address.words[1];
		ctx->user_ip6[2] = client->address.words[2];
		ctx->user_ip6[3] = client->address.words[3];
		ctx->user_port = client->port;
	}
	return 1;
}

/* What programs written for DPVS's toa module ask for an IPv6 client at an IPv4 socket: `struct toa_nat64_peer`. */
enum { TOA_SO_GET_LOOKUP = 4096, TOA_NAT64_PEER = 20 };

SEC("cgroup/getsockopt")
int toa_lookup(struct bpf_sockopt *ctx)
{
	struct client *client;
	__u8 *value = ctx->optval, *end = ctx->optval_end;
	struct bpf_sock *socket = ctx->sk;

	if (ctx->level != IPPROTO_IP || ctx->optname != TOA_SO_GET_LOOKUP || !socket)
		return 1;
	client = bpf_sk_storage_get(&clients, socket, NULL, 0);
	if (!client || client->family != 6 || value + TOA_NAT64_PEER > end)
		return 1;
	__builtin_memcpy(value, &client->address, 16);
	__builtin_memcpy(value + 16, &client->port, 2);
	value[18] = 0;
	value[19] = 0;
	ctx->optlen = TOA_NAT64_PEER;
	/* Two stores, as the verifier wants them. */
	asm volatile("" ::: "memory");
	ctx->retval = 0;
	return 1;
}
