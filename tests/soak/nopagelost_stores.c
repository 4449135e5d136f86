/* SPDX-License-Identifier: MIT */
/* Swap areas whose stores fail to load and save, and that come and go. */
#include "tests/soak/nopagelost.h"

enum { AREAS = 3 };
/* A share of all slots there are, and the priority. */
static const struct {
	u64 share;
	int prio;
} areas[AREAS] = { { 38, 5 }, { 38, 5 }, { 24, 1 } };

/* Of so many loads or saves one fails; 0: none.  Changes as they work. */
static _Atomic unsigned load_fails, save_fails;
_Atomic u64 failed_loads, failed_saves;
static _Atomic u64 calls;
struct areas_done areas_done;

struct shaky {
	struct store store;
	char *bytes;
	_Atomic bool *full; /* by slot */
	int type;	    /* of the area; -1: it is off */
};

static struct shaky shaky[AREAS];

static bool fails(_Atomic unsigned *rate, _Atomic u64 *count)
{
	unsigned every = atomic_load_explicit(rate, memory_order_relaxed);
	u64 x = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + seed;

	x = x * 0x9e3779b97f4a7c15ULL;
	if (!every || (x >> 33) % every)
		return false;
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	return true;
}

static struct shaky *shaky_of(struct store *s)
{
	return container_of(s, struct shaky, store);
}

static int shaky_save(struct store *s, u64 slot, const void *bytes)
{
	struct shaky *k = shaky_of(s);

	if (slot >= s->nr_slots || atomic_load(&k->full[slot]))
		STORE_DIE("a slot is saved twice");
	if (fails(&save_fails, &failed_saves))
		return calls & 1 ? -EIO : -ENOSPC;
	memcpy(k->bytes + P(slot), bytes, PAGE_SIZE);
	atomic_store(&k->full[slot], true);
	return 0;
}

static int shaky_load(struct store *s, u64 slot, void *bytes)
{
	struct shaky *k = shaky_of(s);

	if (slot >= s->nr_slots || !atomic_load(&k->full[slot]))
		STORE_DIE("a slot is loaded that was never saved");
	if (fails(&load_fails, &failed_loads)) {
		memset(bytes, 0xbd, PAGE_SIZE / 2); /* half of it came */
		return -EIO;
	}
	memcpy(bytes, k->bytes + P(slot), PAGE_SIZE);
	return 0;
}

static bool shaky_same(struct store *s, u64 slot, const void *bytes)
{
	struct shaky *k = shaky_of(s);

	return atomic_load(&k->full[slot]) && !memcmp(k->bytes + P(slot), bytes, PAGE_SIZE);
}

static void shaky_drop(struct store *s, u64 slot)
{
	struct shaky *k = shaky_of(s);

	if (!atomic_load(&k->full[slot]))
		return;
	memset(k->bytes + P(slot), 0xdd, PAGE_SIZE);
	atomic_store(&k->full[slot], false);
}

static const struct store_ops shaky_ops = {
	.kind = "shaky",
	.save = shaky_save,
	.load = shaky_load,
	.same = shaky_same,
	.drop = shaky_drop,
};

void make_stores(u64 slots)
{
	for (unsigned i = 0; i < AREAS; i++) {
		struct shaky *k = &shaky[i];

		k->store.ops = &shaky_ops;
		k->store.nr_slots = slots * areas[i].share / 100;
		k->bytes = malloc(P(k->store.nr_slots));
		k->full = calloc(k->store.nr_slots, sizeof(*k->full));
		k->type = -1;
		if (!k->bytes || !k->full)
			STORE_DIE("no memory for the stores");
	}
}

void free_stores(void)
{
	for (unsigned i = 0; i < AREAS; i++) {
		free(shaky[i].bytes);
		free((void *)shaky[i].full);
	}
}

struct store *first_store(void)
{
	return &shaky[0].store;
}

static void turn_on(unsigned i)
{
	shaky[i].type = swap_area_on(w.e, &shaky[i].store, areas[i].prio);
	if (shaky[i].type < 0)
		STORE_DIE("an area cannot be turned on");
	areas_done.ons++;
}

static void turn_off(struct shaky *k)
{
	int err = swap_area_off(w.e, (unsigned)k->type);

	if (err == -ENOMEM) {
		areas_done.no_room++;
	} else if (err == -EIO) {
		areas_done.unreadable++;
	} else if (err) {
		STORE_DIE("swapoff fails in some other way");
	} else {
		for (u64 slot = 0; slot < k->store.nr_slots; slot++)
			if (atomic_load(&k->full[slot]))
				STORE_DIE("an area that is off has bytes");
		k->type = -1;
		areas_done.offs++;
	}
}

void turn_on_all(void)
{
	for (unsigned i = 0; i < AREAS; i++)
		turn_on(i);
}

void turn_any(u64 *rnd, bool on)
{
	unsigned i = rnd_below(rnd, AREAS);

	if (on && shaky[i].type < 0)
		turn_on(i);
	else if (!on && shaky[i].type >= 0)
		turn_off(&shaky[i]);
}

void change_failures(u64 *rnd)
{
	atomic_store(&load_fails, rnd_below(rnd, 3) ? 0 : 5 + rnd_below(rnd, 300));
	atomic_store(&save_fails, rnd_below(rnd, 3) ? 0 : 5 + rnd_below(rnd, 300));
}
