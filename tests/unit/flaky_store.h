/* SPDX-License-Identifier: MIT */
/* A store for tests: keeps pages as they are, fails when told to, and watches its contract. */
#ifndef VMF_TESTS_FLAKY_STORE_H
#define VMF_TESTS_FLAKY_STORE_H

#include "engine/backing/store.h"
#include "engine/base/errno.h"
#include "tests/unit/unit.h"

enum { FLAKY_SLOTS = 2048 };

static struct flaky {
	struct store store;
	u8 *bytes[FLAKY_SLOTS]; /* NULL: empty */
	/* Set by a test while others load.  error_slot: that one only, or -1: all */
	_Atomic int save_error, load_error, error_slot;
	u64 room; /* saves that succeed before -ENOSPC */
	u64 each; /* bytes that a page is said to take */
	_Atomic unsigned saves, loads, sames, drops;
} flaky;

static int flaky_save(struct store *s, u64 slot, const void *bytes)
{
	assert_true(slot < FLAKY_SLOTS);
	assert_null(flaky.bytes[slot]); /* a slot is never rewritten */
	flaky.saves++;
	if (flaky.save_error)
		return flaky.save_error;
	if (!flaky.room)
		return -ENOSPC;
	flaky.room--;
	flaky.bytes[slot] = malloc(PAGE_SIZE);
	memcpy(flaky.bytes[slot], bytes, PAGE_SIZE);
	s->stats.raw_bytes += PAGE_SIZE;
	s->stats.stored_bytes += flaky.each;
	return 0;
}

static int flaky_load(struct store *s, u64 slot, void *bytes)
{
	(void)s;
	flaky.loads++;
	if (!flaky.bytes[slot])
		return -ENOENT;
	if (flaky.load_error && (flaky.error_slot < 0 || (u64)flaky.error_slot == slot)) {
		memset(bytes, 0xbd, PAGE_SIZE);
		return flaky.load_error;
	}
	memcpy(bytes, flaky.bytes[slot], PAGE_SIZE);
	return 0;
}

static bool flaky_same(struct store *s, u64 slot, const void *bytes)
{
	(void)s;
	flaky.sames++;
	return flaky.bytes[slot] && !memcmp(flaky.bytes[slot], bytes, PAGE_SIZE);
}

static void flaky_drop(struct store *s, u64 slot)
{
	flaky.drops++;
	if (flaky.bytes[slot]) {
		flaky.room++;
		s->stats.raw_bytes -= PAGE_SIZE;
		s->stats.stored_bytes -= flaky.each;
	}
	free(flaky.bytes[slot]);
	flaky.bytes[slot] = NULL;
}

static const struct store_ops flaky_ops = {
	.kind = "flaky",
	.save = flaky_save,
	.load = flaky_load,
	.same = flaky_same,
	.drop = flaky_drop,
};

static struct store *flaky_store(void)
{
	memset(&flaky, 0, sizeof(flaky));
	flaky.store.ops = &flaky_ops;
	flaky.store.nr_slots = FLAKY_SLOTS;
	flaky.room = FLAKY_SLOTS;
	flaky.error_slot = -1;
	return &flaky.store;
}

static unsigned flaky_kept(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FLAKY_SLOTS; i++)
		n += flaky.bytes[i] != NULL;
	return n;
}

#endif
