/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef WEIR_KIT_KERNEL_H
#define WEIR_KIT_KERNEL_H

#include "config.h"

struct kernel;

/* Loads the programs and maps, and attaches nothing. Says what fails; NULL then. */
struct kernel *kernel_load(const struct config *config);

/* Attaches and detaches what the file asks for, and what its maps have. Says what fails; false then, with the rest done. */
bool kernel_apply(struct kernel *kernel, const struct config *config);

/* Attaches to devices of the file that have come anew under their name. */
void kernel_follow(struct kernel *kernel);

/* Takes everything out of the kernel but the clients of connections that are there: they are for the next run. */
void kernel_unload(struct kernel *kernel);

/* The filter of the process's sockets. */
int kernel_socket_filter(const struct kernel *kernel);

/* Counts what the process itself does. */
void kernel_count(const struct kernel *kernel, enum counter counter);

/* Prints what the running kit has counted; false if none runs. */
bool kernel_status(const char *pins);

#endif
