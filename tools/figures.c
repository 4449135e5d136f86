/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/figures.h"
#include "tools/say.h"

#define REPORT_BYTES (PAGE_SIZE + (u64)REPORT_SLOTS * REPORT_SLOT_SIZE)

void *report_create(int *fd)
{
	int made = memfd_create("vmfault-report", MFD_CLOEXEC);
	struct report_header *header = MAP_FAILED;

	/* Out of the way of 0, 1 and 2, should the caller have closed them. */
	*fd = made < 0 ? -1 : fcntl(made, F_DUPFD_CLOEXEC, 10);
	if (made >= 0)
		close(made);
	if (*fd >= 0 && ftruncate(*fd, REPORT_BYTES) == 0)
		header = mmap(NULL, REPORT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (header == MAP_FAILED) {
		say("no file for the report: %s", strerror(errno));
		return NULL;
	}
	header->nr_slots = REPORT_SLOTS;
	header->magic = REPORT_MAGIC;
	return header;
}

static u64 get(const _Atomic u64 *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void largest(u64 *sofar, u64 value)
{
	*sofar = max_of(*sofar, value);
}

static void sum_events(struct engine_stats *sum, const struct engine_stats *add)
{
	_Static_assert(sizeof(*sum) % sizeof(u64) == 0, "counters and nothing else");
	const _Atomic u64 *from = (const _Atomic u64 *)add;
	_Atomic u64 *to = (_Atomic u64 *)sum;

	for (unsigned i = 0; i < sizeof(*sum) / sizeof(u64); i++)
		atomic_store_explicit(&to[i], get(&to[i]) + get(&from[i]), memory_order_relaxed);
}

/* Text that another process wrote: ended, and of printable characters. */
static void copy_text(char *to, const char *from, size_t size)
{
	size_t i;

	for (i = 0; i + 1 < size && from[i]; i++)
		to[i] = (unsigned char)from[i] < ' ' || from[i] == 0x7f ? '?' : from[i];
	to[i] = '\0';
}

static void add_note(struct figures *f, const struct report_slot *slot, enum agent_state state)
{
	struct note *note;

	if (!slot->why[0] || f->nr_notes == MAX_NOTES)
		return;
	note = &f->notes[f->nr_notes++];
	note->pid = slot->pid;
	note->stopped = state == AGENT_STOPPED;
	copy_text(note->program, slot->program, sizeof(note->program));
	copy_text(note->text, slot->why, sizeof(note->text));
}

static void add_slot(struct figures *f, const struct report_slot *slot)
{
	enum agent_state state = atomic_load_explicit(&slot->state, memory_order_acquire);

	if (state == AGENT_NONE)
		return;
	f->processes++;
	f->paged +=
		get(&slot->stats.segments) > 0 || state == AGENT_PAGING || state == AGENT_STOPPED;
	f->stopped += state == AGENT_STOPPED;
	largest(&f->peak_resident, get(&slot->peak_resident_bytes));
	largest(&f->agent, get(&slot->agent_bytes));
	if (slot->pid == f->outcome.pid)
		f->end_resident = get(&slot->resident_bytes);
	for (unsigned i = 0; i < NR_UNMANAGED; i++)
		largest(&f->unmanaged[i], get(&slot->unmanaged[i]));
	f->raw += get(&slot->raw_bytes);
	f->stored += get(&slot->stored_bytes);
	f->kept += get(&slot->kept_bytes);
	f->native += get(&slot->native);
	sum_events(&f->events, &slot->stats);
	for (unsigned i = 0; i < NR_ROOM_WRITERS; i++) {
		f->written[i].pages += get(&slot->written[i].pages);
		f->written[i].ns += get(&slot->written[i].ns);
	}
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		f->latency[i] += get(&slot->latency[i]);
	largest(&f->latency_max, get(&slot->latency_max_ns));
	add_note(f, slot, state);
}

void figures_sum(struct figures *f, const void *report, const struct run_options *options,
		 const struct outcome *outcome)
{
	const struct report_header *header = report;
	unsigned claimed = atomic_load_explicit(&header->next_slot, memory_order_acquire);

	*f = (struct figures){ .options = options, .outcome = *outcome };
	if (claimed > REPORT_SLOTS) {
		f->untold = claimed - REPORT_SLOTS;
		claimed = REPORT_SLOTS;
	}
	for (unsigned i = 0; i < claimed; i++)
		add_slot(f, report_slot((void *)report, i));
}

u64 latency_at(const struct figures *f, double part)
{
	u64 all = 0, below = 0;

	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		all += f->latency[i];
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
		below += f->latency[i];
		if (below && below >= part * all)
			return min_of(report_bucket_floor(i + 1), max_of(f->latency_max, (u64)1));
	}
	return 0;
}

const char *unmanaged_name(enum unmanaged_kind kind)
{
	static const char *const names[NR_UNMANAGED] = {
		[UNMANAGED_STACK] = "stack",	   [UNMANAGED_SMALL] = "small",
		[UNMANAGED_LOCKED] = "locked",	   [UNMANAGED_PINNED] = "pinned",
		[UNMANAGED_READONLY] = "readonly", [UNMANAGED_REFUSED] = "refused",
	};

	return names[kind] ? names[kind] : "other";
}
