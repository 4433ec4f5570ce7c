/* What weir uses of DPDK, and the few things that only C can say: offsets, macros, static inlines.
 * Only names that the 22.11, 23.11 and 24.11 lines all have. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fopencookie */
#endif

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_thash.h>
#include <rte_version.h>

/* struct rte_mbuf is one maze of unnamed unions, and another one in each LTS line: the C compiler
 * tells where its fields are, and src/lib.rs reads and writes them there. */
enum weir_mbuf_layout {
	WEIR_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	WEIR_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	WEIR_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	WEIR_MBUF_PORT = offsetof(struct rte_mbuf, port),
	WEIR_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	WEIR_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	WEIR_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	WEIR_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	WEIR_MBUF_RSS = offsetof(struct rte_mbuf, hash.rss),
	WEIR_MBUF_FDIR_HI = offsetof(struct rte_mbuf, hash.fdir.hi),
	WEIR_MBUF_VLAN_TCI_OUTER = offsetof(struct rte_mbuf, vlan_tci_outer),
	WEIR_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
};

_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_addr) == sizeof(void *), "buf_addr");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_off) == 2, "data_off");
_Static_assert(sizeof(((struct rte_mbuf *)0)->nb_segs) == 2, "nb_segs");
_Static_assert(sizeof(((struct rte_mbuf *)0)->port) == 2, "port");
_Static_assert(sizeof(((struct rte_mbuf *)0)->ol_flags) == 8, "ol_flags");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == 4, "pkt_len");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == 2, "data_len");
_Static_assert(sizeof(((struct rte_mbuf *)0)->vlan_tci) == 2, "vlan_tci");
_Static_assert(sizeof(((struct rte_mbuf *)0)->hash.rss) == 4, "hash.rss");
_Static_assert(sizeof(((struct rte_mbuf *)0)->hash.fdir.hi) == 4, "hash.fdir.hi");
_Static_assert(offsetof(struct rte_mbuf, hash.fdir.hi) >= offsetof(struct rte_mbuf, hash.rss) + 4, "hash.fdir.hi");
_Static_assert(sizeof(((struct rte_mbuf *)0)->vlan_tci_outer) == 2, "vlan_tci_outer");
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_len) == 2, "buf_len");

/* Macros with casts, which bindgen cannot evaluate. */
static const uint64_t WEIR_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t WEIR_RX_VLAN = RTE_MBUF_F_RX_VLAN;
static const uint64_t WEIR_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t WEIR_TX_VLAN = RTE_MBUF_F_TX_VLAN;
static const uint64_t WEIR_RX_OFFLOAD_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t WEIR_RX_OFFLOAD_VLAN_FILTER = RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
static const uint64_t WEIR_TX_OFFLOAD_VLAN_INSERT = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
static const uint64_t WEIR_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t WEIR_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t WEIR_RSS_FLOWS = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
static const uint64_t WEIR_RSS_PORTS_V4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP;

/* rte_errno is a macro over a thread-local. */
static inline int weir_errno(void)
{
	return rte_errno;
}

/* struct rte_eth_link has bit fields, and became a union in 24.07. */
static inline int weir_eth_link(uint16_t port, bool *up, uint32_t *megabits)
{
	struct rte_eth_link link;
	int failed = rte_eth_link_get_nowait(port, &link);

	if (failed)
		return failed;
	*up = link.link_status == RTE_ETH_LINK_UP;
	*megabits = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	return 0;
}

/* Gives a network interface of the kernel another MAC address: 0, or an errno. */
static inline int weir_netdev_set_mac(unsigned int index, const uint8_t mac[6])
{
	struct ifreq request;
	int failed, fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		return errno;
	memset(&request, 0, sizeof(request));
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, mac, 6);
	failed = if_indextoname(index, request.ifr_name) && !ioctl(fd, SIOCSIFHWADDR, &request) ? 0 : errno;
	close(fd);
	return failed;
}

/* Takes an IPv6 address of 64 bits of network away from one of the kernel's network interfaces, if it has it. */
static inline void weir_netdev_remove_ipv6(unsigned int index, const uint8_t address[16])
{
	/* The kernel's struct in6_ifreq (linux/ipv6.h), which does not go with the C library's headers. */
	struct {
		struct in6_addr address;
		uint32_t length;
		int index;
	} request = { .length = 64, .index = (int)index };
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	if (fd < 0)
		return;
	memcpy(&request.address, address, sizeof(request.address));
	ioctl(fd, SIOCDIFADDR, &request);
	close(fd);
}

/* Whether the kernel has a network interface of this number. */
static inline bool weir_netdev_exists(unsigned int index)
{
	char name[IF_NAMESIZE];

	return if_indextoname(index, name) != NULL;
}

/* A stdio stream that gives every line to `write`: how DPDK's log leaves by way of Rust. */
typedef ssize_t (*weir_log_writer)(void *cookie, const char *text, size_t length);

static inline FILE *weir_log_stream(weir_log_writer write)
{
	cookie_io_functions_t functions = { .write = write };

	return fopencookie(NULL, "w", functions);
}
