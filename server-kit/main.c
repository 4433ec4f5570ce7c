// SPDX-License-Identifier: MIT OR Apache-2.0
/* The real server's side of weir: clients' addresses behind fullnat, and packets out of tunnels, without a kernel module. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "slow.h"

#define LOCKS "/run/weir-server-kit"
#define FILE_BY_DEFAULT "/etc/weir-server-kit.conf"

static const char usage[] =
	"The real server's side of weir, without a kernel module.\n"
	"\n"
	"  weir-server-kit run [FILE]      loads the programs, attaches them, runs until SIGTERM; SIGHUP reads the file again\n"
	"  weir-server-kit check [FILE]    says what is wrong with the file\n"
	"  weir-server-kit status [FILE]   prints what was counted\n"
	"  weir-server-kit verify          has this kernel load the programs, and attaches none\n"
	"\n"
	"FILE: " FILE_BY_DEFAULT " unless given. docs/server-kit.md says what it has.\n";

enum { FOLLOW_MILLISECONDS = 5000 };

/* Tells systemd, where it asked (sd_notify). */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t length;
	int fd;

	if (!path || (*path != '/' && *path != '@') || (length = strlen(path)) >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, length);
	if (*path == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + length);
	close(fd);
}

/* Two of them in one network namespace would detach each other's programs. The lock is in a folder where no other user can take it; the
 * file stays, as one that is removed could be locked by one process while another makes it anew. */
static bool alone(void)
{
	char path[sizeof(LOCKS) + 32] = LOCKS;
	struct stat about;
	int fd;

	if (mkdir(path, 0700) && errno != EEXIST)
		goto failed;
	if (lstat(path, &about))
		goto failed;
	if (!S_ISDIR(about.st_mode) || (about.st_uid && about.st_uid != geteuid()) || about.st_mode & (S_IWGRP | S_IWOTH)) {
		fprintf(stderr, "error: " LOCKS " is to be a folder that root alone can write to\n");
		return false;
	}
	if (stat("/proc/self/ns/net", &about)) {
		strcpy(path, "/proc/self/ns/net");
		goto failed;
	}
	snprintf(path, sizeof(path), LOCKS "/%llu", (unsigned long long)about.st_ino);
	/* Open until the process ends. */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		goto failed;
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return true;
	if (errno == EWOULDBLOCK) {
		fprintf(stderr, "error: another weir-server-kit runs in this network namespace (%s is locked)\n", path);
		return false;
	}
failed:
	fprintf(stderr, "error: %s: %s\n", path, strerror(errno));
	return false;
}

static void tell(const struct config *config)
{
	const struct settings *now = &config->settings;

	printf("%u directors; toa: %s; tunnels:%s%s%s%s\n", config->director_count,
	       !now->toa ? "off" : config->getsockopt ? "on, with getsockopt" : "on", now->kinds & KIND_IPIP ? " ipip" : "",
	       now->kinds & KIND_GRE ? " gre" : "", now->kinds & KIND_GUE ? " gue" : "", now->kinds ? "" : " off");
}

/* What differs needs the programs to be loaded anew. */
static void reload(const char *path, struct config *config, struct kernel *kernel, struct slow *slow)
{
	static struct config next;

	notify("RELOADING=1");
	if (!config_read(path, &next)) {
		fprintf(stderr, "error: everything stays as it was\n");
	} else {
		if (strcmp(next.cgroup, config->cgroup) || strcmp(next.pins, config->pins))
			fprintf(stderr, "warning: cgroup and pins change with a restart only\n");
		strcpy(next.cgroup, config->cgroup);
		strcpy(next.pins, config->pins);
		*config = next;

		bool applied = kernel_apply(kernel, config);

		if (slow_apply(slow, kernel, config) && applied)
			tell(config);
	}
	notify("READY=1");
}

static int serve(const char *path, struct config *config, struct kernel *kernel, struct slow *slow, int signals)
{
	time_t followed = 0;

	for (;;) {
		struct pollfd waited[1 + SLOW_SOCKETS] = { { .fd = signals, .events = POLLIN } };
		struct signalfd_siginfo signal;
		int ready;

		memcpy(waited + 1, slow->sockets, sizeof(slow->sockets));
		ready = poll(waited, 1 + slow->socket_count, FOLLOW_MILLISECONDS);
		if (ready < 0 && errno != EINTR) {
			perror("error: poll");
			return 1;
		}
		if (time(NULL) != followed) {
			followed = time(NULL);
			kernel_follow(kernel);
		}
		for (unsigned n = 0; ready > 0 && n < slow->socket_count; n++) {
			if (waited[1 + n].revents)
				slow_receive(slow, kernel, n);
		}
		if (ready <= 0 || !waited[0].revents || read(signals, &signal, sizeof(signal)) != sizeof(signal))
			continue;
		if (signal.ssi_signo != SIGHUP)
			return 0;
		reload(path, config, kernel, slow);
	}
}

static int run(const char *path)
{
	static struct config config;
	struct kernel *kernel;
	struct slow slow;
	sigset_t set;
	int signals, status = 1;

	if (!config_read(path, &config) || !alone())
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	kernel = kernel_load(&config);
	if (signals < 0 || !kernel)
		return 1;
	slow_new(&slow);
	if (kernel_apply(kernel, &config) && slow_apply(&slow, kernel, &config)) {
		tell(&config);
		notify("READY=1");
		status = serve(path, &config, kernel, &slow, signals);
		notify("STOPPING=1");
	}
	slow_close(&slow);
	kernel_unload(kernel);
	return status;
}

static int verify(void)
{
	static struct config config;
	struct kernel *kernel = kernel_load(&config);

	if (!kernel)
		return 1;
	kernel_unload(kernel);
	puts("this kernel takes the programs");
	return 0;
}

int main(int count, char **arguments)
{
	const char *command = count > 1 ? arguments[1] : "", *path = count > 2 ? arguments[2] : FILE_BY_DEFAULT;
	static struct config config;

	if (count == 2 && (!strcmp(command, "--help") || !strcmp(command, "-h"))) {
		fputs(usage, stdout);
		return 0;
	}
	if (count == 2 && !strcmp(command, "verify"))
		return verify();
	if (count == 2 || count == 3) {
		if (!strcmp(command, "run"))
			return run(path);
		if (!strcmp(command, "check") || !strcmp(command, "status")) {
			if (!config_read(path, &config))
				return 1;
			if (!strcmp(command, "status"))
				return !kernel_status(config.pins);
			tell(&config);
			return 0;
		}
	}
	fputs(usage, stderr);
	return 2;
}
