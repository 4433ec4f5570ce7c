/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef WEIR_KIT_CONFIG_H
#define WEIR_KIT_CONFIG_H

#include <limits.h>
#include <net/if.h>
#include <stdbool.h>

#include "kit.h"

struct config {
	struct prefix directors[MOST_DIRECTORS];
	unsigned director_count;
	struct address destinations[MOST_DESTINATIONS];
	unsigned destination_count;
	char devices[MOST_DEVICES][IFNAMSIZ];
	unsigned device_count;
	struct settings settings;
	bool getsockopt;
	char cgroup[PATH_MAX]; /* empty: the root of the first cgroup2 that is mounted */
	char pins[PATH_MAX];
};

/* Reads the file. Says each mistake, with its line, on stderr; false if there was one. */
bool config_read(const char *path, struct config *config);

#endif
