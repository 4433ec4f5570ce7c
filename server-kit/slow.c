// SPDX-License-Identifier: MIT OR Apache-2.0
#include "slow.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICE "weir-kit"

#ifndef UDP_NO_CHECK6_RX
#define UDP_NO_CHECK6_RX 102
#endif

enum { ECN_NONE = 0, ECN_ECT1 = 1, ECN_ECT0 = 2, ECN_CE = 3, AT_ONCE = 64 };

static bool failed(const char *what)
{
	fprintf(stderr, "error: %s: %s\n", what, strerror(errno));
	return false;
}

static bool set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool right;

	/* No IPv6 in this kernel. */
	if (fd < 0 && errno == ENOENT)
		return true;
	right = fd >= 0 && write(fd, value, strlen(value)) > 0;
	if (!right)
		failed(path);
	if (fd >= 0)
		close(fd);
	return right;
}

static void warn_of_reverse_path(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/conf/all/rp_filter", "re");
	int value = 0;

	if (file && fscanf(file, "%d", &value) == 1 && value == 1)
		fprintf(stderr, "warning: net.ipv4.conf.all.rp_filter = 1: the kernel drops IPv4 packets out of tunnels that came in "
				"fragments; 2 or 0 lets them in\n");
	if (file)
		fclose(file);
}

static int open_device(void)
{
	struct ifreq request = { .ifr_name = DEVICE, .ifr_flags = IFF_TUN | IFF_NO_PI };
	int device = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), fd = -1;

	if (device < 0 || ioctl(device, TUNSETIFF, &request) || (fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0) {
		failed("the TUN device " DEVICE);
		goto close;
	}
	/* The clients are elsewhere: what comes by this device cannot be answered by it. */
	if (!set("/proc/sys/net/ipv4/conf/" DEVICE "/rp_filter", "0") ||
	    !set("/proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6", "0") ||
	    !set("/proc/sys/net/ipv6/conf/" DEVICE "/addr_gen_mode", "1"))
		goto close;
	request.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request)) {
		failed(DEVICE);
		goto close;
	}
	warn_of_reverse_path();
	close(fd);
	return device;
close:
	if (fd >= 0)
		close(fd);
	if (device >= 0)
		close(device);
	return -1;
}

static bool open_socket(struct slow *slow, const struct kernel *kernel, unsigned kind, int family, int protocol)
{
	int type = kind == KIND_GUE ? SOCK_DGRAM : SOCK_RAW, filter = kernel_socket_filter(kernel), one = 1, room = 4 << 20;
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);

	if (fd < 0)
		return errno == EAFNOSUPPORT || failed("a socket for tunnels");
	slow->kinds[slow->socket_count] = kind;
	slow->protocols[slow->socket_count] = protocol;
	slow->sockets[slow->socket_count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	/* The filter comes first: a socket without it would get packets of other hosts. */
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof(filter)))
		return failed("a filter for tunnels' sockets");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &one, sizeof(one));
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &one, sizeof(one));
	if (kind != KIND_GUE)
		return true;

	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(slow->settings.gue_port) };
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(slow->settings.gue_port) };

	if (family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		setsockopt(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, &one, sizeof(one));
	}
	if (bind(fd, family == AF_INET ? (struct sockaddr *)&any : (struct sockaddr *)&any6,
		 family == AF_INET ? sizeof(any) : sizeof(any6)))
		return failed("the UDP port for GUE");
	return true;
}

void slow_new(struct slow *slow)
{
	memset(slow, 0, sizeof(*slow));
	slow->device = -1;
}

void slow_close(struct slow *slow)
{
	for (unsigned n = 0; n < slow->socket_count; n++)
		close(slow->sockets[n].fd);
	if (slow->device >= 0)
		close(slow->device);
	slow_new(slow);
}

bool slow_apply(struct slow *slow, const struct kernel *kernel, const struct config *config)
{
	static const struct {
		unsigned kind;
		int family, protocol;
	} sockets[] = {
		{ KIND_IPIP, AF_INET, IPPROTO_IPIP },  { KIND_IPIP, AF_INET, IPPROTO_IPV6 }, { KIND_IPIP, AF_INET6, IPPROTO_IPIP },
		{ KIND_IPIP, AF_INET6, IPPROTO_IPV6 }, { KIND_GRE, AF_INET, IPPROTO_GRE },   { KIND_GRE, AF_INET6, IPPROTO_GRE },
		{ KIND_GUE, AF_INET, IPPROTO_UDP },    { KIND_GUE, AF_INET6, IPPROTO_UDP },
	};
	const struct settings *now = &config->settings;

	if (slow->settings.kinds == now->kinds && slow->settings.gue_port == now->gue_port)
		return true;
	slow_close(slow);
	if (!now->kinds)
		return true;
	slow->settings = *now;
	slow->device = open_device();

	bool right = slow->device >= 0;

	for (unsigned n = 0; n < SLOW_SOCKETS && right; n++) {
		if (now->kinds & sockets[n].kind)
			right = open_socket(slow, kernel, sockets[n].kind, sockets[n].family, sockets[n].protocol);
	}
	/* All or none, so that the next reload tries again. */
	if (!right)
		slow_close(slow);
	return right;
}

static int version_of(int protocol)
{
	return protocol == IPPROTO_IPIP ? 4 : protocol == IPPROTO_IPV6 ? 6 : -1;
}

/* How many bytes are in front of the packet inside, and its version as they (or the outer header's protocol) tell it, 0: they do not;
 * -1 where weir writes no such header. */
static int wrapping_of(unsigned kind, int protocol, const unsigned char *bytes, size_t length, int *version)
{
	*version = 0;
	if (kind == KIND_IPIP) {
		*version = version_of(protocol);
		return 0;
	}
	if (length < 4)
		return -1;
	if (kind == KIND_GRE) {
		unsigned type = bytes[2] << 8 | bytes[3];

		*version = type == ETH_P_IP ? 4 : type == ETH_P_IPV6 ? 6 : -1;
		return bytes[0] || bytes[1] || *version < 0 ? -1 : 4;
	}
	if (bytes[0] >> 6 == 1)
		return 0;
	*version = version_of(bytes[1]);
	return bytes[0] || bytes[2] || bytes[3] || *version < 0 ? -1 : 4;
}

/* RFC 6040, as ecn_of of the programs; RFC 1624 for the header's checksum. False: to be dropped. */
static bool write_ecn(unsigned char *packet, int outer)
{
	bool six = packet[0] >> 4 == 6;
	int inner = six ? packet[1] >> 4 & 3 : packet[1] & 3, mark = inner;

	if (outer == ECN_CE && inner == ECN_NONE)
		return false;
	if (outer == ECN_CE)
		mark = ECN_CE;
	else if (outer == ECN_ECT1 && inner == ECN_ECT0)
		mark = ECN_ECT1;
	if (six) {
		packet[1] = (packet[1] & 0xcf) | mark << 4;
		return true;
	}

	unsigned sum = (~(packet[10] << 8 | packet[11]) & 0xffff) + (~(packet[0] << 8 | packet[1]) & 0xffff);

	packet[1] = (packet[1] & 0xfc) | mark;
	sum += packet[0] << 8 | packet[1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	packet[10] = (~sum & 0xffff) >> 8;
	packet[11] = ~sum & 0xff;
	return true;
}

static int ecn_of(struct msghdr *message)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
		int value;

		if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_TOS)
			return *CMSG_DATA(part) & 3;
		if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_TCLASS) {
			memcpy(&value, CMSG_DATA(part), sizeof(value));
			return value & 3;
		}
	}
	return 0;
}

static enum counter take_out(const struct slow *slow, unsigned which, bool raw4, unsigned char *bytes, size_t length, int ecn)
{
	size_t outer = 0;
	int wrapping, version, told;

	/* An IPv4 raw socket has the outer header, too. */
	if (raw4 && length >= 20)
		outer = (bytes[0] & 15) * 4;
	if (outer >= length)
		return COUNT_SLOW_MALFORMED;
	wrapping = wrapping_of(slow->kinds[which], slow->protocols[which], bytes + outer, length - outer, &told);
	if (wrapping < 0 || length - outer < (size_t)wrapping + 20)
		return COUNT_SLOW_MALFORMED;
	bytes += outer + wrapping;
	length -= outer + wrapping;
	version = bytes[0] >> 4;
	if ((version != 4 && version != 6) || (told && told != version) || (version == 6 && length < 40))
		return COUNT_SLOW_MALFORMED;
	if (!write_ecn(bytes, ecn))
		return COUNT_SLOW_CONGESTED;
	return write(slow->device, bytes, length) == (ssize_t)length ? COUNT_SLOW_OUT : COUNT_SLOW_MALFORMED;
}

void slow_receive(struct slow *slow, const struct kernel *kernel, unsigned which)
{
	static unsigned char bytes[1 << 17];
	int fd = slow->sockets[which].fd, family = 0;
	socklen_t length = sizeof(family);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length);
	/* Not more at once than lets signals in. */
	for (int turn = 0; turn < AT_ONCE; turn++) {
		char control[128];
		struct iovec part = { bytes, sizeof(bytes) };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
		ssize_t got = recvmsg(fd, &message, 0);

		if (got < 0)
			return;
		kernel_count(kernel, take_out(slow, which, slow->kinds[which] != KIND_GUE && family == AF_INET, bytes, got, ecn_of(&message)));
	}
}
