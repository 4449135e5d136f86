/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/common/lab_store.h"

static struct lab_store *of(struct store *s)
{
	return container_of(s, struct lab_store, store);
}

static int save(struct store *store, u64 slot, const void *bytes)
{
	struct lab_store *s = of(store);
	int err = atomic_load(&s->error[RAMFILE_WRITE]);

	if (err)
		return err;
	s->pages[slot] = malloc(PAGE_SIZE);
	if (!s->pages[slot])
		return -ENOSPC;
	memcpy(s->pages[slot], bytes, PAGE_SIZE);
	ledger_count(PAID_IO_WRITES);
	if (s->who)
		ledger_step(*s->who, "writes a page to the store", 0);
	return 0;
}

static int load(struct store *store, u64 slot, void *bytes)
{
	struct lab_store *s = of(store);
	int err = atomic_load(&s->error[RAMFILE_READ]);

	if (err)
		return err;
	if (!s->pages[slot])
		return -ENOENT;
	memcpy(bytes, s->pages[slot], PAGE_SIZE);
	ledger_count(PAID_IO_READS);
	if (s->who)
		ledger_step(*s->who, "reads the page from the store", 0);
	return 0;
}

static bool same(struct store *store, u64 slot, const void *bytes)
{
	const char *kept = of(store)->pages[slot];

	return kept && !memcmp(kept, bytes, PAGE_SIZE);
}

static void drop(struct store *store, u64 slot)
{
	struct lab_store *s = of(store);

	free(s->pages[slot]);
	s->pages[slot] = NULL;
}

static int flush(struct store *store)
{
	(void)store;
	return 0;
}

static const struct store_ops lab_store_ops = {
	.kind = "laboratory",
	.save = save,
	.load = load,
	.same = same,
	.drop = drop,
	.flush = flush,
};

int lab_store_init(struct lab_store *s, u64 slots)
{
	*s = (struct lab_store){ .store = { .ops = &lab_store_ops, .nr_slots = slots } };
	s->pages = calloc(slots, sizeof(*s->pages));
	return s->pages ? 0 : -ENOMEM;
}

void lab_store_fini(struct lab_store *s)
{
	for (u64 i = 0; i < s->store.nr_slots; i++)
		free(s->pages[i]);
	free(s->pages);
}

void lab_store_fail(struct lab_store *s, enum ramfile_io io, int err)
{
	atomic_store(&s->error[io], err);
}
