/* SPDX-License-Identifier: MIT */
/*
 * A sequence of a world as text: a line "world NAME", one with its settings if it has any, a line
 * for each step with its call and those of its numbers that are not zero, and "end".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/differential/worlds/world.h"

enum { COMPLAINT = 160, LINE = 256 };

const struct oracle_world *world_find(const char *name)
{
	for (unsigned i = 0; i < nr_worlds; i++)
		if (!strcmp(worlds[i]->name, name))
			return worlds[i];
	return NULL;
}

static u64 get(const u8 *step, const struct step_field *field)
{
	u64 value = 0;

	memcpy(&value, step + field->offset, field->size); /* least byte first */
	return value;
}

static bool put(u8 *step, const struct step_field *field, u64 value)
{
	memcpy(step + field->offset, &value, field->size);
	return get(step, field) == value;
}

static u32 call_of(const u8 *step)
{
	u32 call;

	memcpy(&call, step, sizeof(call));
	return call;
}

/* ---- printing ---- */

struct sink {
	char *buf;
	size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void add(struct sink *s, const char *format, ...)
{
	size_t at = min_of(s->used, s->size);
	__builtin_va_list args;

	__builtin_va_start(args, format);
	s->used += (size_t)vsnprintf(s->buf + at, s->size - at, format, args);
	__builtin_va_end(args);
}

static void add_step(struct sink *s, const struct oracle_world *world, const u8 *step)
{
	add(s, "%s", world->calls[call_of(step)]);
	for (unsigned i = 0; i < world->nr_fields; i++) {
		u64 value = get(step, &world->fields[i]);

		if (value)
			add(s, value < 10000 ? " %s=%llu" : " %s=0x%llx", world->fields[i].name,
			    (unsigned long long)value);
	}
	add(s, "\n");
}

size_t steps_print(const struct oracle_world *world, const struct script *script, char *buf,
		   size_t size)
{
	struct sink s = { .buf = buf, .size = size };

	add(&s, "world %s\n", world->name);
	if (script->setting[0] | script->setting[1])
		add(&s, "setting 0x%llx 0x%llx\n", (unsigned long long)script->setting[0],
		    (unsigned long long)script->setting[1]);
	for (unsigned i = 0; i < script->n; i++)
		add_step(&s, world, script->steps[i]);
	add(&s, "end\n");
	return s.used;
}

/* ---- parsing ---- */

/* The next line without its comment, false: there is none.  Words are separated by one blank. */
static bool next_line(const char **at, const char *end, char *line)
{
	const char *stop = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
	size_t n;

	if (*at >= end)
		return false;
	stop = stop ?: end;
	n = min_of((size_t)(stop - *at), (size_t)LINE - 1);
	memcpy(line, *at, n);
	line[n] = 0;
	line[strcspn(line, "#")] = 0;
	*at = stop + 1;
	return true;
}

const struct oracle_world *steps_world(const char *text, size_t size)
{
	const char *at = text;
	char line[LINE], name[32];

	while (next_line(&at, text + size, line)) {
		if (sscanf(line, "world %31s", name) == 1)
			return world_find(name);
		if (line[strspn(line, " \t")])
			return NULL;
	}
	return NULL;
}

static bool parse_number(const char *word, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(word, &end, 0);
	return *word >= '0' && *word <= '9' && !*end && !errno;
}

static bool parse_field(const struct oracle_world *world, u8 *step, char *word)
{
	char *equals = strchr(word, '=');
	u64 value;

	if (!equals || !parse_number(equals + 1, &value))
		return false;
	*equals = 0;
	for (unsigned i = 0; i < world->nr_fields; i++)
		if (!strcmp(world->fields[i].name, word))
			return put(step, &world->fields[i], value);
	return false;
}

static bool parse_step(const struct oracle_world *world, u8 *step, char *word, char **rest)
{
	u32 call = 0;

	while (call < world->nr_calls && strcmp(world->calls[call], word))
		call++;
	if (call == world->nr_calls)
		return false;
	memcpy(step, &call, sizeof(call));
	while ((word = strtok_r(NULL, " \t\r", rest)))
		if (!parse_field(world, step, word))
			return false;
	return world->fits(step);
}

static bool parse_settings(struct script *script, char **rest)
{
	for (unsigned i = 0; i < MOST_SETTINGS; i++) {
		const char *word = strtok_r(NULL, " \t\r", rest);

		if (!word || !parse_number(word, &script->setting[i]))
			return false;
	}
	return !strtok_r(NULL, " \t\r", rest);
}

bool steps_parse(const struct oracle_world *world, const char *text, size_t size,
		 struct script *script, char *complaint)
{
	char line[LINE], *word, *rest;
	const char *at = text;
	unsigned number = 0;

	memset(script, 0, sizeof(*script));
	while (next_line(&at, text + size, line)) {
		number++;
		word = strtok_r(line, " \t\r", &rest);
		if (!word || !strcmp(word, "world"))
			continue;
		if (!strcmp(word, "end"))
			return true;
		if (!strcmp(word, "setting")
			    ? parse_settings(script, &rest)
			    : script->n < MOST_STEPS &&
				      parse_step(world, script->steps[script->n++], word, &rest))
			continue;
		snprintf(complaint, COMPLAINT, "line %u is no step of the world %s", number,
			 world->name);
		return false;
	}
	snprintf(complaint, COMPLAINT, "there is no end");
	return false;
}
