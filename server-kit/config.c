// SPDX-License-Identifier: MIT OR Apache-2.0
/* The file: lines of a key and its values. */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	const char *path;
	unsigned line;
	struct config *config;
	bool right;
};

__attribute__((format(printf, 2, 3))) static void wrong(struct reader *reader, const char *format, ...)
{
	va_list arguments;

	reader->right = false;
	if (reader->line)
		fprintf(stderr, "error: %s:%u: ", reader->path, reader->line);
	else
		fprintf(stderr, "error: %s: ", reader->path);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

/* An address as the maps have it; the bits of its family's address, or 0 where it is none. */
static unsigned parse_address(const char *text, struct address *address)
{
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &address->words[3]) == 1) {
		address->words[2] = htonl(0xffff);
		return 32;
	}
	return inet_pton(AF_INET6, text, address) == 1 ? 128 : 0;
}

static bool parse_number(const char *text, unsigned long most, unsigned long *number)
{
	char *end;

	errno = 0;
	*number = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *number <= most;
}

/* The shortest prefix of a director, bits: 10.0.0.0/8 and fc00::/7 are the largest networks that are any one's own. */
enum { SHORTEST_IPV4 = 8, SHORTEST_IPV6 = 7, MAPPED = 96 };

/* Whether it holds ::ffff:0:0/96, which in the map is every host of IPv4. */
static bool holds_mapped(const struct prefix *prefix)
{
	struct address mapped = { .words = { 0, 0, htonl(0xffff), 0 } };
	const unsigned char *a = (const unsigned char *)&mapped, *b = (const unsigned char *)&prefix->address;

	for (unsigned bit = 0; bit < prefix->length; bit++) {
		if ((a[bit / 8] ^ b[bit / 8]) & (0x80 >> bit % 8))
			return false;
	}
	return prefix->length <= MAPPED;
}

static bool is_mapped(const struct address *address)
{
	return !address->words[0] && !address->words[1] && address->words[2] == htonl(0xffff);
}

static void read_director(struct reader *reader, const char *word)
{
	struct config *config = reader->config;
	struct prefix *prefix = &config->directors[config->director_count];
	char text[INET6_ADDRSTRLEN + 4];
	unsigned long length;
	unsigned bits, shortest;
	char *slash;

	if (config->director_count == MOST_DIRECTORS) {
		wrong(reader, "more than %d directors: write prefixes", MOST_DIRECTORS);
		return;
	}
	if (snprintf(text, sizeof(text), "%s", word) >= (int)sizeof(text)) {
		wrong(reader, "'%s' is no address and no prefix such as 10.0.0.200/30", word);
		return;
	}
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	bits = parse_address(text, &prefix->address);
	if (!bits) {
		wrong(reader, "'%s' is no address and no prefix such as 10.0.0.200/30", word);
		return;
	}
	length = bits;
	if (slash && !parse_number(slash + 1, bits, &length)) {
		wrong(reader, "'%s': a prefix of this family has 1 to %u bits", word, bits);
		return;
	}
	if (!length) {
		wrong(reader, "'%s' is every host: each could claim any client's address", word);
		return;
	}
	prefix->length = 128 - bits + length;
	if (bits == 128 && holds_mapped(prefix)) {
		wrong(reader, "'%s' holds ::ffff:0:0/96, which is every host of IPv4: each could claim any client's address", word);
		return;
	}
	/* An IPv4 prefix in IPv6's clothes is one, too. */
	shortest = is_mapped(&prefix->address) ? SHORTEST_IPV4 + MAPPED : SHORTEST_IPV6;
	if (prefix->length < shortest) {
		wrong(reader, "'%s' is too much: a prefix has %d bits or more, over IPv6 %d, as each of its hosts could claim any client's address",
		      word, SHORTEST_IPV4, SHORTEST_IPV6);
		return;
	}
	for (unsigned bit = prefix->length; bit < 128; bit++) {
		if (((const unsigned char *)&prefix->address)[bit / 8] & (0x80 >> bit % 8)) {
			wrong(reader, "'%s' has bits behind its length of %lu: a longer prefix, or zeros there", word, length);
			return;
		}
	}
	config->director_count++;
}

static void read_destination(struct reader *reader, const char *word)
{
	struct config *config = reader->config;

	if (config->destination_count == MOST_DESTINATIONS)
		wrong(reader, "more than %d destinations", MOST_DESTINATIONS);
	else if (!parse_address(word, &config->destinations[config->destination_count]))
		wrong(reader, "'%s' is no address", word);
	else
		config->destination_count++;
}

static void read_device(struct reader *reader, const char *word)
{
	struct config *config = reader->config;

	if (config->device_count == MOST_DEVICES)
		wrong(reader, "more than %d devices", MOST_DEVICES);
	else if (strlen(word) >= IFNAMSIZ)
		wrong(reader, "'%s' is too long for a device's name", word);
	else
		strcpy(config->devices[config->device_count++], word);
}

static void read_tunnel(struct reader *reader, const char *word)
{
	static const struct {
		const char *name;
		unsigned kind;
	} kinds[] = { { "ipip", KIND_IPIP }, { "gre", KIND_GRE }, { "gue", KIND_GUE } };

	for (unsigned n = 0; n < sizeof(kinds) / sizeof(kinds[0]); n++) {
		if (!strcmp(word, kinds[n].name)) {
			reader->config->settings.kinds |= kinds[n].kind;
			return;
		}
	}
	wrong(reader, "no tunnel '%s': there are ipip, gre and gue", word);
}

static void read_toa(struct reader *reader, const char *word)
{
	reader->config->settings.toa = 1;
	if (!strcmp(word, "getsockopt"))
		reader->config->getsockopt = true;
	else if (strcmp(word, "accept"))
		wrong(reader, "no toa '%s': there are accept and getsockopt", word);
}

static void read_gue_port(struct reader *reader, const char *word)
{
	unsigned long port;

	if (!parse_number(word, 65535, &port) || !port)
		wrong(reader, "'%s' is no port: 1 to 65535", word);
	else
		reader->config->settings.gue_port = port;
}

static void read_path(struct reader *reader, const char *word, char *path)
{
	if (*word != '/' || strlen(word) >= PATH_MAX)
		wrong(reader, "'%s' is no path from the root", word);
	else
		strcpy(path, word);
}

static void read_cgroup(struct reader *reader, const char *word)
{
	read_path(reader, word, reader->config->cgroup);
}

static void read_pins(struct reader *reader, const char *word)
{
	read_path(reader, word, reader->config->pins);
}

static const struct key {
	const char *name;
	void (*read)(struct reader *reader, const char *word);
	bool many;
} keys[] = {
	{ "director", read_director, true },	 { "toa", read_toa, true },
	{ "tunnel", read_tunnel, true },	 { "device", read_device, true },
	{ "destination", read_destination, true }, { "gue-port", read_gue_port, false },
	{ "cgroup", read_cgroup, false },	 { "pins", read_pins, false },
};

static void read_line(struct reader *reader, char *text)
{
	const char *blanks = " \t\r\n";
	char *rest, *name, *word;
	unsigned words = 0;

	text[strcspn(text, "#")] = '\0';
	name = strtok_r(text, blanks, &rest);
	if (!name)
		return;
	for (unsigned n = 0; n < sizeof(keys) / sizeof(keys[0]); n++) {
		if (strcmp(name, keys[n].name))
			continue;
		while ((word = strtok_r(NULL, blanks, &rest))) {
			if (words++ && !keys[n].many) {
				wrong(reader, "%s has one value", name);
				return;
			}
			keys[n].read(reader, word);
		}
		if (!words)
			wrong(reader, "%s has no value", name);
		return;
	}
	wrong(reader, "no key '%s': there are director, toa, tunnel, device, destination, gue-port, cgroup and pins", name);
}

/* What only the whole file tells. */
static void check(struct reader *reader)
{
	const struct config *config = reader->config;

	reader->line = 0;
	if (!config->director_count)
		wrong(reader, "no director: the addresses that weir sends from (its local pools, tunnel sources)");
	if (!config->settings.toa && !config->settings.kinds)
		wrong(reader, "nothing to do: toa accept, or tunnel ipip, gre or gue");
	if (config->settings.kinds && !config->device_count)
		wrong(reader, "a tunnel, but no device that its packets come by");
	if (config->settings.kinds && !config->destination_count)
		wrong(reader, "a tunnel, but no destination: the real server's address as weir's file has it");
}

bool config_read(const char *path, struct config *config)
{
	struct reader reader = { .path = path, .config = config, .right = true };
	char *text = NULL;
	size_t room = 0;
	FILE *file;

	memset(config, 0, sizeof(*config));
	config->settings.gue_port = 6080;
	strcpy(config->pins, "/sys/fs/bpf/weir-server-kit");
	file = fopen(path, "re");
	if (!file) {
		wrong(&reader, "%s", strerror(errno));
		return false;
	}
	while (getline(&text, &room, file) >= 0) {
		reader.line++;
		read_line(&reader, text);
	}
	if (ferror(file)) {
		reader.line = 0;
		wrong(&reader, "%s", strerror(errno));
	}
	free(text);
	fclose(file);
	if (reader.right)
		check(&reader);
	return reader.right;
}
