// SPDX-License-Identifier: MIT OR Apache-2.0
/* The programs in the kernel: loaded, attached, told what to trust. */
#include "kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The object, by object.S. */
extern const unsigned char kit_object[], kit_object_end[];

enum { TC_HANDLE = 0x77656972, TC_PRIORITY = 1, BPF_FS = 0xcafe4a11 };

/* Kept over a restart: the clients of connections, and the counts. */
static const char *const kept[] = { "clients", "counters" };

static const char *const toa_programs[] = { "toa_segments", "toa_peer4", "toa_peer6", "toa_lookup" };
enum { TOA_PROGRAMS = 4, TOA_LOOKUP = 3 };

struct attached {
	char name[IFNAMSIZ];
	unsigned index; /* 0: not attached */
};

struct kernel {
	struct bpf_object *object;
	struct bpf_link *links[TOA_PROGRAMS];
	struct attached devices[MOST_DEVICES];
	unsigned device_count;
	char cgroup[PATH_MAX], pins[PATH_MAX];
};

static int map_of(const struct kernel *kernel, const char *name)
{
	return bpf_object__find_map_fd_by_name(kernel->object, name);
}

static struct bpf_program *program_of(const struct kernel *kernel, const char *name)
{
	return bpf_object__find_program_by_name(kernel->object, name);
}

/* libbpf's and the verifier's words, kept for the case of a failure. */
static char said[1 << 16];
static size_t said_length;

static int keep_said(enum libbpf_print_level level, const char *format, va_list arguments)
{
	int length;

	if (level == LIBBPF_DEBUG)
		return 0;
	length = vsnprintf(said + said_length, sizeof(said) - said_length, format, arguments);
	if (length > 0)
		said_length += (size_t)length < sizeof(said) - said_length ? (size_t)length : sizeof(said) - said_length - 1;
	return 0;
}

static bool failed(const char *what, int error)
{
	fprintf(stderr, "error: %s: %s\n", what, strerror(error < 0 ? -error : errno));
	if (said_length)
		fprintf(stderr, "%s", said);
	said_length = 0;
	said[0] = '\0';
	return false;
}

/* A map that another version has left there is not this one's. */
static void unlink_other(const char *path, const struct bpf_map *map)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return;
	if (!bpf_obj_get_info_by_fd(fd, &info, &length) &&
	    (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
	     info.value_size != bpf_map__value_size(map) || info.max_entries != bpf_map__max_entries(map)))
		unlink(path);
	close(fd);
}

static void pin_kept(struct kernel *kernel)
{
	char path[PATH_MAX + 16];
	struct statfs about;

	mkdir(kernel->pins, 0700);
	if (statfs(kernel->pins, &about) || about.f_type != BPF_FS) {
		fprintf(stderr, "warning: %s is not in a BPF file system: after a restart the clients of connections that are there "
				"are not known, and `status` has no counts (mount -t bpf bpf /sys/fs/bpf)\n", kernel->pins);
		return;
	}
	for (unsigned n = 0; n < sizeof(kept) / sizeof(kept[0]); n++) {
		struct bpf_map *map = bpf_object__find_map_by_name(kernel->object, kept[n]);

		snprintf(path, sizeof(path), "%s/%s", kernel->pins, kept[n]);
		unlink_other(path, map);
		bpf_map__set_pin_path(map, path);
	}
}

static bool find_cgroup(const struct config *config, char *path)
{
	struct mntent *mount;
	bool found = false;
	FILE *mounts;

	if (config->cgroup[0]) {
		strcpy(path, config->cgroup);
		return true;
	}
	mounts = setmntent("/proc/self/mounts", "re");
	while (mounts && !found && (mount = getmntent(mounts))) {
		found = !strcmp(mount->mnt_type, "cgroup2");
		if (found)
			snprintf(path, PATH_MAX, "%s", mount->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	if (!found)
		fprintf(stderr, "error: no cgroup2 is mounted, which toa takes: mount -t cgroup2 cgroup2 PLACE\n");
	return found;
}

struct kernel *kernel_load(const struct config *config)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "weir_kit");
	struct kernel *kernel = calloc(1, sizeof(*kernel));
	int status;

	if (!kernel)
		return NULL;
	libbpf_set_print(keep_said);
	strcpy(kernel->pins, config->pins);
	kernel->object = bpf_object__open_mem(kit_object, kit_object_end - kit_object, &options);
	if (!kernel->object) {
		failed("the programs cannot be read", 0);
		free(kernel);
		return NULL;
	}
	if (kernel->pins[0])
		pin_kept(kernel);
	status = bpf_object__load(kernel->object);
	if (status) {
		failed(status == -EPERM ? "the kernel does not load the programs (root, or CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)" :
					  "the kernel does not load the programs",
		       status);
		bpf_object__close(kernel->object);
		free(kernel);
		return NULL;
	}
	said_length = 0;
	return kernel;
}

/* Makes the map's keys those of the list: first what is new, then what is no longer there, so that none is missing meanwhile. */
static bool fill(int map, const void *keys, unsigned keys_count, size_t size)
{
	unsigned char key[sizeof(struct prefix)], next[sizeof(struct prefix)];
	__u32 one = 1;
	bool more;

	for (unsigned n = 0; n < keys_count; n++) {
		int status = bpf_map_update_elem(map, (const char *)keys + n * size, &one, BPF_ANY);

		if (status)
			return failed("a map of the kernel", status);
	}
	more = !bpf_map_get_next_key(map, NULL, next);
	while (more) {
		bool listed = false;

		memcpy(key, next, size);
		more = !bpf_map_get_next_key(map, key, next);
		for (unsigned n = 0; n < keys_count && !listed; n++)
			listed = !memcmp((const char *)keys + n * size, key, size);
		if (!listed)
			bpf_map_delete_elem(map, key);
	}
	return true;
}

static bool apply_toa(struct kernel *kernel, const struct config *config)
{
	int cgroup = -1;
	bool right = true;

	for (unsigned n = 0; n < TOA_PROGRAMS && right; n++) {
		bool wanted = n == TOA_LOOKUP ? config->getsockopt : config->settings.toa;
		struct bpf_program *program = program_of(kernel, toa_programs[n]);

		if (!wanted) {
			bpf_link__destroy(kernel->links[n]);
			kernel->links[n] = NULL;
			continue;
		}
		if (kernel->links[n])
			continue;
		if (cgroup < 0) {
			if (!find_cgroup(config, kernel->cgroup))
				return false;
			cgroup = open(kernel->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (cgroup < 0)
				return failed(kernel->cgroup, 0);
		}
		kernel->links[n] = bpf_program__attach_cgroup(program, cgroup);
		right = kernel->links[n] || failed(kernel->cgroup, 0);
	}
	if (cgroup >= 0)
		close(cgroup);
	return right;
}

static bool is_ethernet(const char *name)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {};
	bool right;

	strcpy(request.ifr_name, name);
	right = fd >= 0 && !ioctl(fd, SIOCGIFHWADDR, &request) &&
		(request.ifr_hwaddr.sa_family == ARPHRD_ETHER || request.ifr_hwaddr.sa_family == ARPHRD_LOOPBACK);
	close(fd);
	return right;
}

static bool attach(struct kernel *kernel, struct attached *device)
{
	unsigned index = if_nametoindex(device->name);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = index, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = TC_HANDLE, .priority = TC_PRIORITY, .flags = BPF_TC_F_REPLACE,
		    .prog_fd = bpf_program__fd(program_of(kernel, "tunnel_ingress")));
	int status;

	if (!index) {
		fprintf(stderr, "error: no device %s\n", device->name);
		return false;
	}
	if (!is_ethernet(device->name)) {
		fprintf(stderr, "error: device %s has no Ethernet frames\n", device->name);
		return false;
	}
	status = bpf_tc_hook_create(&hook);
	if (status && status != -EEXIST)
		return failed(device->name, status);
	status = bpf_tc_attach(&hook, &options);
	if (status)
		return failed(device->name, status);
	said_length = 0;
	device->index = index;
	return true;
}

static void detach(const struct attached *device)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = device->index, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = TC_HANDLE, .priority = TC_PRIORITY);

	if (device->index && if_nametoindex(device->name) == device->index)
		bpf_tc_detach(&hook, &options);
	said_length = 0;
}

/* The process's sockets get packets by these devices alone, as the program at them does. */
static bool tell_devices(struct kernel *kernel)
{
	__u32 indices[MOST_DEVICES];
	unsigned count = 0;

	for (unsigned n = 0; n < kernel->device_count; n++) {
		if (kernel->devices[n].index)
			indices[count++] = kernel->devices[n].index;
	}
	return fill(map_of(kernel, "devices"), indices, count, sizeof(*indices));
}

static bool apply_devices(struct kernel *kernel, const struct config *config)
{
	unsigned wanted = config->settings.kinds ? config->device_count : 0;
	bool right = true;

	for (unsigned n = 0; n < kernel->device_count; n++) {
		bool stays = false;

		for (unsigned m = 0; m < wanted; m++)
			stays = stays || !strcmp(kernel->devices[n].name, config->devices[m]);
		if (!stays)
			detach(&kernel->devices[n]);
	}
	kernel->device_count = wanted;
	for (unsigned n = 0; n < wanted; n++) {
		strcpy(kernel->devices[n].name, config->devices[n]);
		kernel->devices[n].index = 0;
		right = attach(kernel, &kernel->devices[n]) && right;
	}
	return tell_devices(kernel) && right;
}

bool kernel_apply(struct kernel *kernel, const struct config *config)
{
	__u32 zero = 0;
	int status;

	if (!fill(map_of(kernel, "directors"), config->directors, config->director_count, sizeof(struct prefix)) ||
	    !fill(map_of(kernel, "destinations"), config->destinations, config->destination_count, sizeof(struct address)))
		return false;
	status = bpf_map_update_elem(map_of(kernel, "settings"), &zero, &config->settings, BPF_ANY);
	if (status)
		return failed("a map of the kernel", status);

	bool toa = apply_toa(kernel, config);

	return apply_devices(kernel, config) && toa;
}

void kernel_follow(struct kernel *kernel)
{
	bool changed = false;

	for (unsigned n = 0; n < kernel->device_count; n++) {
		struct attached *device = &kernel->devices[n];
		unsigned index = if_nametoindex(device->name);

		if (index == device->index)
			continue;
		changed = true;
		device->index = 0;
		if (index && attach(kernel, device))
			printf("device %s is there anew\n", device->name);
	}
	if (changed)
		tell_devices(kernel);
}

void kernel_unload(struct kernel *kernel)
{
	for (unsigned n = 0; n < kernel->device_count; n++)
		detach(&kernel->devices[n]);
	for (unsigned n = 0; n < TOA_PROGRAMS; n++)
		bpf_link__destroy(kernel->links[n]);
	bpf_object__close(kernel->object);
	free(kernel);
}

int kernel_socket_filter(const struct kernel *kernel)
{
	return bpf_program__fd(program_of(kernel, "tunnel_socket"));
}

/* The process's own counters are no program's: only its value of the first CPU is used. */
void kernel_count(const struct kernel *kernel, enum counter counter)
{
	int cpus = libbpf_num_possible_cpus();
	__u64 values[cpus > 0 ? cpus : 1];
	__u32 key = counter;
	int map = map_of(kernel, "counters");

	if (bpf_map_lookup_elem(map, &key, values))
		return;
	values[0]++;
	bpf_map_update_elem(map, &key, values, BPF_ANY);
}

bool kernel_status(const char *pins)
{
	static const struct {
		const char *name, *help;
	} counted[] = {
#define EACH(name, text, help) { text, help },
		COUNTERS(EACH)
#undef EACH
	};
	int cpus = libbpf_num_possible_cpus();
	__u64 values[cpus > 0 ? cpus : 1];
	char path[PATH_MAX + 16];
	int map;

	snprintf(path, sizeof(path), "%s/counters", pins);
	map = bpf_obj_get(path);
	if (map < 0) {
		fprintf(stderr, "error: %s: %s: no kit has run\n", path, strerror(errno));
		return false;
	}
	for (__u32 key = 0; key < COUNTS; key++) {
		__u64 sum = 0;

		if (bpf_map_lookup_elem(map, &key, values)) {
			fprintf(stderr, "error: %s: of another version\n", path);
			close(map);
			return false;
		}
		for (int cpu = 0; cpu < cpus; cpu++)
			sum += values[cpu];
		printf("%-18s %12llu  %s\n", counted[key].name, (unsigned long long)sum, counted[key].help);
	}
	close(map);
	return true;
}
