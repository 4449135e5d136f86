/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/figures.h"
#include "tools/json.h"
#include "tools/say.h"

/* ---- making ---- */

static void set(json_t *object, const char *key, u64 value)
{
	json_object_set_new(object, key, json_integer(value));
}

static json_t *faults(const struct engine_stats *e)
{
	json_t *o = json_object();

	set(o, "minor", e->minor);
	set(o, "major", e->major);
	set(o, "zero", e->zero);
	set(o, "second_chance", e->second_chance);
	set(o, "prefetched", e->prefetched);
	return o;
}

static json_t *latency(const struct figures *f)
{
	json_t *o = json_object();

	set(o, "p50", latency_at(f, 0.5));
	set(o, "p99", latency_at(f, 0.99));
	set(o, "p999", latency_at(f, 0.999));
	set(o, "max", f->latency_max);
	return o;
}

static json_t *evicted(const struct engine_stats *e)
{
	json_t *o = json_object();

	set(o, "clean", e->evicted_clean);
	set(o, "dirty", e->evicted_dirty);
	set(o, "same_filled", e->same_filled);
	return o;
}

static json_t *store(const struct figures *f)
{
	json_t *o = json_object();

	json_object_set_new(o, "kind", json_string(f->options->compress));
	set(o, "raw_bytes", f->raw);
	set(o, "stored_bytes", f->stored);
	set(o, "kept_bytes", f->kept);
	return o;
}

static json_t *unmanaged(const struct figures *f)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < NR_UNMANAGED; i++) {
		json_t *o;

		if (!f->unmanaged[i])
			continue;
		o = json_object();
		json_object_set_new(o, "why", json_string(unmanaged_name(i)));
		set(o, "bytes", f->unmanaged[i]);
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *processes(const struct figures *f)
{
	json_t *o = json_object();

	set(o, "seen", f->processes + f->untold);
	set(o, "paged", f->paged);
	set(o, "stopped", f->stopped);
	set(o, "untold", f->untold);
	return o;
}

static json_t *share(u64 pages, u64 ns)
{
	json_t *o = json_object();

	set(o, "pages", pages);
	set(o, "ns", ns);
	return o;
}

static json_t *written(const struct figures *f)
{
	static const char *const names[NR_ROOM_WRITERS] = {
		[ROOM_SPARE] = "spare",
		[ROOM_AFTER_FAULT] = "after_fault",
		[ROOM_WAITING] = "waiting",
	};
	json_t *o = json_object();

	for (unsigned i = 0; i < NR_ROOM_WRITERS; i++)
		json_object_set_new(o, names[i], share(f->written[i].pages, f->written[i].ns));
	json_object_set_new(o, "direct",
			    share(f->events.direct_freed, f->events.direct_reclaim_ns));
	return o;
}

static json_t *huge_pages(const struct figures *f)
{
	json_t *o = json_object();

	json_object_set_new(o, "how", json_string(f->options->huge_pages));
	set(o, "made", f->events.thp_collapse);
	set(o, "split", f->events.thp_split);
	return o;
}

static json_t *reclaim(const struct figures *f)
{
	const struct engine_stats *e = &f->events;
	json_t *o = json_object();

	set(o, "direct_ns", e->direct_reclaim_ns);
	json_object_set_new(o, "written", written(f));
	set(o, "segments", e->segments);
	set(o, "activated", e->activated);
	set(o, "refaults", e->refaults);
	set(o, "workingset_refault", e->workingset_refault);
	set(o, "workingset_activate", e->workingset_activate);
	set(o, "untakeable", e->untakeable);
	set(o, "store_full", e->store_full);
	set(o, "store_errors", e->store_errors);
	set(o, "native_pages", f->native);
	return o;
}

const char *json_plain(const char *s, char *plain, size_t size)
{
	json_t *j = json_string(s);
	size_t i;

	json_decref(j);
	if (j)
		return s;
	for (i = 0; s[i] && i + 1 < size; i++)
		plain[i] = (unsigned char)s[i] < 0x80 ? s[i] : '?';
	plain[i] = '\0';
	return plain;
}

static json_t *text(const char *s)
{
	char plain[256];

	return json_string(json_plain(s, plain, sizeof(plain)));
}

static json_t *notes(const struct figures *f)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < f->nr_notes; i++) {
		json_t *o = json_object();

		set(o, "pid", f->notes[i].pid);
		json_object_set_new(o, "program", text(f->notes[i].program));
		json_object_set_new(o, "stopped", json_boolean(f->notes[i].stopped));
		json_object_set_new(o, "text", text(f->notes[i].text));
		json_array_append_new(list, o);
	}
	return list;
}

/* The keys up to `unmanaged` are promised; those after it may grow. */
static json_t *make(const struct figures *f)
{
	json_t *o = json_object();

	set(o, "exit_status", f->outcome.status);
	json_object_set_new(o, "wall_seconds", json_real(f->outcome.wall_seconds));
	set(o, "memory_limit_bytes", f->options->memory);
	set(o, "peak_resident_bytes", f->peak_resident);
	set(o, "agent_bytes", f->agent);
	json_object_set_new(o, "faults", faults(&f->events));
	json_object_set_new(o, "fault_latency_ns", latency(f));
	json_object_set_new(o, "evicted", evicted(&f->events));
	json_object_set_new(o, "store", store(f));
	json_object_set_new(o, "unmanaged", unmanaged(f));
	set(o, "end_resident_bytes", f->end_resident);
	json_object_set_new(o, "processes", processes(f));
	json_object_set_new(o, "reclaim", reclaim(f));
	json_object_set_new(o, "policy", json_string(f->options->policy));
	json_object_set_new(o, "huge_pages", huge_pages(f));
	json_object_set_new(o, "notes", notes(f));
	return o;
}

/* With a newline, so that it is a text file. */
static bool dump(const struct figures *f, FILE *to)
{
	json_t *o = make(f);
	bool done = json_dumpf(o, to, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0 &&
		    fputc('\n', to) != EOF && fflush(to) == 0;

	json_decref(o);
	return done;
}

/* ---- files ---- */

bool json_print(const struct figures *f)
{
	return dump(f, stderr);
}

static bool cannot_write(const char *path)
{
	say("--stats %.500s cannot be written: %s", path, strerror(errno));
	return false;
}

/* A terminal, pipe or device is written to as it is, and not replaced. */
static bool is_special(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

/* The file that is written and then takes the place of `path`, or of what that links to. */
static int open_beside(const char *path, char name[PATH_MAX + 16], char target[PATH_MAX])
{
	if (strlen(path) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (!realpath(path, target))
		strcpy(target, path);
	snprintf(name, PATH_MAX + 16, "%s.XXXXXX", target);
	return mkostemp(name, O_CLOEXEC);
}

bool json_writable(const char *path)
{
	char name[PATH_MAX + 16], target[PATH_MAX];
	struct stat st;
	int fd;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return cannot_write(path);
	}
	if (is_special(path))
		return access(path, W_OK) == 0 || cannot_write(path);
	fd = open_beside(path, name, target);
	if (fd < 0)
		return cannot_write(path);
	close(fd);
	unlink(name);
	return true;
}

static bool write_special(const struct figures *f, const char *path)
{
	FILE *to = fopen(path, "we");
	bool done = to && dump(f, to);

	if (to && fclose(to))
		done = false;
	return done || cannot_write(path);
}

/* mkstemp() makes files for their owner only; a result is for whom the user's umask lets. */
static void usual_mode(int fd)
{
	mode_t mask = umask(0);

	umask(mask);
	fchmod(fd, 0666 & ~mask);
}

bool json_write(const struct figures *f, const char *path)
{
	char target[PATH_MAX], name[PATH_MAX + 16];
	bool done = false;
	FILE *to;
	int fd;

	if (is_special(path))
		return write_special(f, path);
	fd = open_beside(path, name, target);
	if (fd < 0)
		return cannot_write(path);
	usual_mode(fd);
	to = fdopen(fd, "w");
	if (to)
		done = dump(f, to);
	if (to ? fclose(to) : close(fd))
		done = false;
	if (done && rename(name, target) == 0)
		return true;
	cannot_write(path);
	unlink(name);
	return false;
}

bool json_read_peak(const char *path, u64 *peak)
{
	json_error_t error;
	json_t *o = json_load_file(path, 0, &error);
	json_int_t value = json_integer_value(json_object_get(o, "peak_resident_bytes"));

	if (!o && access(path, R_OK))
		say("--stats %.500s cannot be read: %s", path, strerror(errno));
	else if (!o)
		say("--stats %.500s is not of an earlier run: %s in line %d", path, error.text,
		    error.line);
	else if (value <= 0)
		say("--stats %.500s is not of an earlier run: no peak_resident_bytes", path);
	json_decref(o);
	*peak = value;
	return value > 0;
}
