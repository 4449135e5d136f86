/* SPDX-License-Identifier: MIT */
/*
 * A pool of huge pages: a file of them, of which each process has a piece of each of some pages,
 * and areas that live for a moment: private copies of the file, or memory of their own, with a
 * promise or without, shared with a child for a while.  The pool is too small for all, and changes.
 */
#include "engine/backing/memfd.h"
#include "engine/hugetlb/hugetlb.h"
#include "tests/soak/nopagelost.h"

enum { FILE_HUGE = 2, SPOTS = SHARED_PAGES / FILE_HUGE };

void make_pool(void)
{
	struct hstate *h = hstate_sizelog(w.e, 21);

	if (hugetlb_set_pool(h, POOL_MOST) != POOL_MOST)
		STORE_DIE("no pool");
	files[POOL_FILE] = memfd_alloc_file(w.e, MEMFD_HUGETLB);
	if (!files[POOL_FILE])
		STORE_DIE("no file of the pool");
}

void resize_pool(u64 *rnd)
{
	struct hstate *h = hstate_sizelog(w.e, 21);

	if (rnd_below(rnd, 3))
		hugetlb_set_pool(h, POOL_MOST - rnd_below(rnd, 4));
	else
		hugetlb_set_overcommit(h, rnd_below(rnd, 3));
}

/* An area of one huge page, and what is known of some spots of it. */
struct pool_area {
	bool of_file, promised;
	unsigned huge; /* of the file */
	u32 version[SPOTS];
};

static u64 spot_at(const struct worker *k, const struct pool_area *a, unsigned spot)
{
	return POOL_AT + shared_offset(k, POOL_FILE, spot + a->huge * SPOTS) - a->huge * PMD_SIZE;
}

static unsigned spot_name(const struct pool_area *a, unsigned spot)
{
	return a->of_file ? 10000 * (POOL_FILE + 1) + a->huge * SPOTS + spot : 50000 + spot;
}

/* Who was promised a page gets it; a child that has lost its page, or who was promised none, may
 * find that there is none.  LOST: this. */
static enum end pool_end(struct worker *k, const struct pool_area *a, enum fault_reason reason)
{
	if (reason == FAULT_OK)
		return DONE;
	if (reason == FAULT_KILLED)
		return KILLED;
	if (reason != FAULT_BUS || (a->promised && !k->is_child))
		DIE(k, "an area of the pool%s: reason %d", k->is_child ? " in a child" : "",
		    reason);
	k->pool_buses++;
	return LOST;
}

static enum end check_spot(struct worker *k, struct pool_area *a, unsigned spot, bool write)
{
	u64 got[PIECE / 8], want[PIECE / 8], va = spot_at(k, a, spot);
	enum end end = pool_end(k, a, soft_read(k->cpu, va, got, PIECE));

	if (end != DONE)
		return end;
	make_words(k, spot_name(a, spot), a->version[spot], want, PIECE / 8);
	if (memcmp(got, want, PIECE))
		DIE(k, "spot %u of an area of the pool%s%s: %lx, not %lx", spot,
		    a->of_file ? ", of a file" : "", k->is_child ? ", in a child" : "",
		    (unsigned long)got[0], (unsigned long)want[0]);
	k->reads++;
	if (!write)
		return DONE;
	make_words(k, spot_name(a, spot), a->version[spot] + 1, want, PIECE / 8);
	end = pool_end(k, a, soft_write(k->cpu, va, want, PIECE));
	if (end == DONE) {
		a->version[spot]++;
		k->writes++;
	}
	return end;
}

static enum end check_spots(struct worker *k, struct pool_area *a, unsigned n)
{
	enum end end = DONE;

	while (n-- && end != KILLED)
		end = check_spot(k, a, rnd_below(&k->rnd, SPOTS), rnd_below(&k->rnd, 2));
	return end;
}

/* Writing is refused while it is protected, private copy or not, and goes on afterwards. */
static enum end protect(struct worker *k, struct pool_area *a)
{
	unsigned spot = rnd_below(&k->rnd, SPOTS);
	enum fault_reason reason;
	enum end end;
	s64 err = do_mprotect(k->mm, POOL_AT, PMD_SIZE, UAPI_PROT_READ);

	if (must(k, !err, "protecting an area of the pool", err) == KILLED)
		return KILLED;
	end = check_spot(k, a, spot, false);
	reason = soft_write_byte(k->cpu, spot_at(k, a, spot), 0x77);
	if (reason == FAULT_OK)
		DIE(k, "what is protected can be written");
	err = do_mprotect(k->mm, POOL_AT, PMD_SIZE, RW);
	return must(k, !err, "unprotecting an area of the pool", err) == KILLED ? KILLED : end;
}

/* Both write, and neither sees what the other has written. */
static enum end share(struct worker *k, struct pool_area *a)
{
	static _Thread_local struct worker child;
	struct pool_area its = *a;
	enum end end;
	struct mm *mm;
	s64 err = mm_fork(k->mm, &mm);

	if (err)
		return mm_is_oom_victim(k->mm) ? KILLED : DONE;
	be_child(&child, k, mm);
	end = check_spots(&child, &its, 3);
	soft_load_mm(k->cpu, k->mm);
	if (end != KILLED && check_spots(k, a, 3) != KILLED) {
		soft_load_mm(k->cpu, mm);
		check_spots(&child, &its, 3);
		soft_load_mm(k->cpu, k->mm);
	}
	mm_destroy(mm);
	k->rnd = child.rnd;
	k->forks++;
	return mm_is_oom_victim(k->mm) ? KILLED : check_spots(k, a, 3);
}

/* A private copy goes: what is there is as the file has it, or new. */
static enum end drop(struct worker *k, struct pool_area *a)
{
	s64 err = do_madvise(k->mm, POOL_AT, PMD_SIZE, UAPI_MADV_DONTNEED);

	for (unsigned spot = 0; spot < SPOTS; spot++)
		a->version[spot] = a->of_file ? k->shared[POOL_FILE][a->huge * SPOTS + spot] : 0;
	return must(k, !err, "dropping of an area of the pool", err);
}

enum end live_in_pool(struct worker *k)
{
	u64 flags = UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;
	struct pool_area a = { .of_file = rnd_below(&k->rnd, 2),
			       .promised = rnd_below(&k->rnd, 3) };
	enum end end = DONE;
	s64 at;

	if (a.of_file)
		a.huge = rnd_below(&k->rnd, FILE_HUGE);
	else
		flags |= UAPI_MAP_ANONYMOUS | UAPI_MAP_HUGETLB;
	if (!a.promised)
		flags |= UAPI_MAP_NORESERVE;
	at = do_mmap(k->mm, POOL_AT, PMD_SIZE, RW, flags, a.of_file ? files[POOL_FILE] : NULL,
		     a.huge * PMD_SIZE);
	if (at == -ENOMEM) {
		k->pool_refused++;
		return DONE;
	}
	if (must(k, at == (s64)POOL_AT, "mapping of the pool", at) == KILLED)
		return KILLED;
	for (unsigned spot = 0; spot < SPOTS && a.of_file; spot++)
		a.version[spot] = k->shared[POOL_FILE][a.huge * SPOTS + spot];
	for (unsigned n = 1 + rnd_below(&k->rnd, 5); n && end != KILLED; n--) {
		end = check_spots(k, &a, 1 + rnd_below(&k->rnd, 6));
		if (end == KILLED)
			break;
		switch (rnd_below(&k->rnd, 6)) {
		case 0:
			end = protect(k, &a);
			break;
		case 1:
			end = share(k, &a);
			break;
		case 2:
			end = drop(k, &a);
			break;
		}
	}
	if (end == KILLED)
		return KILLED;
	k->pool_lives++;
	at = vm_unmap(k->mm, POOL_AT, PMD_SIZE);
	return must(k, !at, "unmapping of the pool", at);
}
