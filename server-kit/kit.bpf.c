// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What runs in the kernel: clients' addresses from the TCP option, and packets out of tunnels. */
#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kit.h"

char _license[] SEC("license") = "Dual MIT/GPL";

/* Of each list room for two files' worth: a reload adds what is new before it takes the old away. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 2 * MOST_DIRECTORS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} directors SEC(".maps");

/* The outer destinations of tunnels. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MOST_DESTINATIONS);
	__type(key, struct address);
	__type(value, __u32);
} destinations SEC(".maps");

/* The numbers of the devices that tunnels' packets come by. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MOST_DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Of each connection that came from a director; freed with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct client);
} clients SEC(".maps");

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += 1;
}

static __always_inline const struct settings *settings_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline void map_ipv4(struct address *address, __u32 four)
{
	address->words[0] = 0;
	address->words[1] = 0;
	address->words[2] = bpf_htonl(0xffff);
	address->words[3] = four;
}

static __always_inline int is_director(const struct address *address)
{
	struct prefix key = { .length = 128, .address = *address };

	return bpf_map_lookup_elem(&directors, &key) != NULL;
}

#include "toa.bpf.h"
#include "tunnel.bpf.h"
