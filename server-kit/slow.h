/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef WEIR_KIT_SLOW_H
#define WEIR_KIT_SLOW_H

#include <poll.h>

#include "kernel.h"

/* What the program at the device leaves to the stack and so to this process: fragments, which the stack puts together, outer
 * options and extension headers. It takes out what its sockets get, and gives it to the stack by a TUN device. */
enum { SLOW_SOCKETS = 8 };

struct slow {
	int device; /* -1: no tunnel is taken out of */
	struct pollfd sockets[SLOW_SOCKETS];
	unsigned kinds[SLOW_SOCKETS];
	int protocols[SLOW_SOCKETS];
	unsigned socket_count;
	struct settings settings;
};

void slow_new(struct slow *slow);

/* Opens the sockets of the tunnels that the file has, and closes others. Says what fails; false then. */
bool slow_apply(struct slow *slow, const struct kernel *kernel, const struct config *config);

/* Handles what has come at a socket that poll found readable. */
void slow_receive(struct slow *slow, const struct kernel *kernel, unsigned which);

void slow_close(struct slow *slow);

#endif
