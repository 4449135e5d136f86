/* SPDX-License-Identifier: MIT */
/*
 * In the agent's place for tests of the command: claims a slot of the report and writes figures
 * that are known.  FAKE_AGENT in the environment says which story: "watching", "paging" or
 * "stopped"; without it, nothing.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine/linux/report.h"

static struct report_slot *claim(void)
{
	const char *path = getenv("VMFAULT_REPORT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	struct report_header *file;
	u32 slot;

	if (fd < 0)
		return NULL;
	file = mmap(NULL, PAGE_SIZE + REPORT_SLOTS * REPORT_SLOT_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
	close(fd);
	if (file == MAP_FAILED || file->magic != REPORT_MAGIC)
		return NULL;
	slot = atomic_fetch_add(&file->next_slot, 1);
	return slot < file->nr_slots ? report_slot(file, slot) : NULL;
}

static u64 limit_of_options(void)
{
	const char *options = getenv("VMFAULT_OPTIONS");
	const char *limit = options ? strstr(options, "limit=") : NULL;

	return limit ? strtoull(limit + strlen("limit="), NULL, 10) : 0;
}

static void write_paging(struct report_slot *slot)
{
	slot->stats.minor = 1000;
	slot->stats.major = 200;
	slot->stats.zero = 30;
	slot->stats.second_chance = 4;
	slot->stats.prefetched = 5;
	slot->stats.evicted_clean = 60;
	slot->stats.evicted_dirty = 70;
	slot->stats.same_filled = 8;
	slot->stats.segments = 9;
	slot->stats.direct_reclaim_ns = 1500000;
	slot->stats.direct_freed = 10;
	slot->written[ROOM_SPARE].pages = 70;
	slot->written[ROOM_SPARE].ns = 250000;
	slot->written[ROOM_AFTER_FAULT].pages = 15;
	slot->written[ROOM_WAITING].pages = 5;
	slot->raw_bytes = 8 << 20;
	slot->stored_bytes = 2 << 20;
	slot->latency[report_bucket(1000)] = 980;
	slot->latency[report_bucket(8000)] = 15;
	slot->latency[report_bucket(100000)] = 5;
	slot->latency_max_ns = 123456;
	slot->unmanaged[UNMANAGED_STACK] = 132 << 10;
	slot->unmanaged[UNMANAGED_LOCKED] = 4096;
}

__attribute__((constructor)) static void begin(void)
{
	const char *story = getenv("FAKE_AGENT");
	struct report_slot *slot = story ? claim() : NULL;
	enum agent_state state = AGENT_WATCHING;

	if (!slot)
		return;
	slot->pid = getpid();
	slot->parent = getppid();
	strcpy(slot->program, "program");
	slot->limit_bytes = limit_of_options();
	slot->resident_bytes = 30 << 20;
	slot->peak_resident_bytes = 60 << 20;
	slot->agent_bytes = 3 << 20;
	if (strcmp(story, "watching")) {
		write_paging(slot);
		state = AGENT_PAGING;
	}
	if (!strcmp(story, "stopped")) {
		strcpy(slot->why, "the layout could not be followed");
		state = AGENT_STOPPED;
	}
	atomic_store_explicit(&slot->state, state, memory_order_release);
}
