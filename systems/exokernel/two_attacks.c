/* SPDX-License-Identifier: MIT */
/* Attacks of one library operating system on the other, straight to the kernel. */
#include "engine/base/errno.h"
#include "systems/exokernel/two.h"

#define AT     0x20000000ULL
#define PAGES  64ULL /* that the other's program has written */
#define LEFT   24ULL /* frames that the other is left with, fewer */
#define SECRET 0x5ec4e75ec4e7ULL

static struct beside *attacked(struct system *s)
{
	return two_of(s)->beside;
}

static struct xok *kernel(struct system *s)
{
	return &attacked(s)->xok;
}

static unsigned other_env(struct system *s)
{
	return attacked(s)->sides[1].library.env;
}

static u32 other_resource(struct system *s)
{
	return beside_resource(attacked(s), 1);
}

static u64 own_frame(struct system *s)
{
	return attacked(s)->machine->nr_table + 1;
}

static u64 other_s_frame(struct system *s)
{
	return own_frame(s) + kernel(s)->nr_frames / BESIDE;
}

/* ---- the other's frames, tables and environments ---- */

/* By the call itself; and nothing may have been written. */
static int insert(struct system *s, unsigned cap, unsigned target, u64 pfn)
{
	pte_t entry = { 0 }, pte = pte_make(pfn, PTE_PRESENT | PTE_USER);
	struct page *page = NULL;
	int result = xok_insert_pte(kernel(s), 0, cap, target, AT, &entry, &pte, &page, 1);

	return result < 0 && !pte_none(entry) ? 1 : result;
}

static int frame_is_mapped(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, other_s_frame(s));
}

/* The other has one there. */
static int capability_is_presented(struct system *s)
{
	struct xok_env *other = &kernel(s)->envs[other_env(s)];

	other->caps[3] = other->caps[LIBRARY_CAP];
	return insert(s, 3, 0, other_s_frame(s));
}

static int table_is_written(struct system *s)
{
	return insert(s, LIBRARY_CAP, other_env(s), own_frame(s));
}

static int entries_are_taken_away(struct system *s)
{
	return xok_check_removal(kernel(s), 0, LIBRARY_CAP, other_env(s));
}

static int frame_is_given_back(struct system *s)
{
	u64 pfn = other_s_frame(s);

	return xok_give_frames(kernel(s), 0, LIBRARY_CAP, &pfn, 1);
}

static int frame_is_taken(struct system *s)
{
	u64 pfn = other_s_frame(s);

	return xok_take_list(kernel(s), 0, LIBRARY_CAP, &pfn, 1);
}

static int frame_is_guaranteed(struct system *s)
{
	return xok_guarantee(kernel(s), 0, LIBRARY_CAP, other_s_frame(s));
}

static int environment_ends(struct system *s)
{
	return xok_env_destroy(kernel(s), 0, LIBRARY_CAP, other_env(s));
}

static int environment_is_made_again(struct system *s)
{
	return xok_env_create(kernel(s), 0, other_env(s), attacked(s)->sides[0].mm);
}

/* ---- the other's time ---- */

static unsigned other_cpu(struct system *s)
{
	return attacked(s)->sides[1].program.first_cpu;
}

static int slice_is_taken(struct system *s)
{
	return xok_take_slice(kernel(s), 0, LIBRARY_CAP, 0, other_cpu(s));
}

static int slice_is_ended(struct system *s)
{
	return xok_yield(kernel(s), 0, LIBRARY_CAP, other_cpu(s), XOK_NOBODY);
}

/* ---- the other's faults ---- */

static struct fault_result spy(void *arg, struct mm *mm, const struct xok_trap_frame *f)
{
	bool *entered = arg;

	(void)mm, (void)f;
	*entered = true;
	return (struct fault_result){ .reason = FAULT_MAPERR };
}

/* Pages of the other program's, each with its word.  0: they cannot be written. */
static u64 write_pages(struct system *s)
{
	const struct program_map a = { .len = PAGES * PAGE_SIZE,
				       .prot = VM_READ | VM_WRITE,
				       .file = -1 };
	struct program *p = s->parts[1].program;
	s64 at = p->ops->map(p, 0, &a);

	for (u64 i = 0; at > 0 && i < PAGES; i++) {
		u64 word = SECRET + i;

		if (p->ops->access(p, 0, (u64)at + i * PAGE_SIZE, PF_WRITE, &word, sizeof(word)) !=
		    FAULT_OK)
			return 0;
	}
	return at > 0 ? (u64)at : 0;
}

static int handler_is_replaced(struct system *s)
{
	bool entered = false;
	int err = xok_set_handler(kernel(s), 0, LIBRARY_CAP, other_env(s), spy, &entered);

	return !write_pages(s) || entered ? 1 : err;
}

/* ---- frames that the other gave up ---- */

/* The frames of the other's pages. */
static void find_frames(struct system *s, u64 at, u64 pfns[PAGES])
{
	struct mm *mm = attacked(s)->sides[1].mm;
	pte_t pte = { 0 };

	for (u64 i = 0, va = at; i < PAGES; i++, va = at + i * PAGE_SIZE) {
		bool found = engine_system_next_entry(mm, &va, &pte);

		pfns[i] = found && va == at + i * PAGE_SIZE ? pte_pfn(pte) : 0;
	}
}

/* The other is asked for nearly all, and the attacker takes them.  Of the frames that had the
 * other's words it has how many; `at`: where these are. */
static u64 take_over(struct system *s, u64 *at, u64 pfns[PAGES])
{
	struct xok *x = kernel(s);
	u64 n = 0;

	*at = write_pages(s);
	if (!*at)
		return 0;
	find_frames(s, *at, pfns);
	xok_revoke(x, other_resource(s), x->nr_frames / BESIDE - LEFT);
	library_ask(&attacked(s)->sides[0].library, x->nr_frames);
	for (u64 i = 0; i < PAGES; i++)
		if (pfns[i] &&
		    atomic_load(xok_owner(x, pfns[i])) == beside_resource(attacked(s), 0))
			pfns[n++] = pfns[i];
	return n;
}

static char *bytes_of(struct system *s, u64 pfn)
{
	return attacked(s)->machine->memory + (pfn << PAGE_SHIFT);
}

static int bytes_are_read(struct system *s)
{
	u64 at, pfns[PAGES], n = take_over(s, &at, pfns);

	for (u64 i = 0; i < n; i++)
		for (u64 k = 0; k < PAGE_SIZE; k++)
			if (bytes_of(s, pfns[i])[k])
				return 1;
	return n ? -ENOENT : 1;
}

/* The other goes on as if it still had them. */
static int bytes_are_changed(struct system *s)
{
	struct program *p = s->parts[1].program;
	u64 at, word = 0, pfns[PAGES], n = take_over(s, &at, pfns);

	for (u64 i = 0; i < n; i++)
		memset(bytes_of(s, pfns[i]), 'X', PAGE_SIZE);
	for (u64 i = 0; n && i < PAGES; i++)
		if (p->ops->access(p, 0, at + i * PAGE_SIZE, 0, &word, sizeof(word)) != FAULT_OK ||
		    word != SECRET + i)
			return 1;
	return n ? -ENOENT : 1;
}

static void no_answer(void *arg, u64 n)
{
	(void)arg, (void)n;
}

static void reads_nothing(void *arg)
{
	(void)arg;
}

/* Of a frame that it has lost by force. */
static int block_is_forgotten(struct system *s)
{
	static const struct xok_entries deaf = { .revoke = no_answer,
						 .repossessed = reads_nothing };
	struct library *l = &attacked(s)->sides[1].library;
	u64 last = attacked(s)->machine->nr_table + kernel(s)->nr_frames - 1;
	int result;

	xok_hold(kernel(s), l->resource, &deaf, l);
	if (!write_pages(s) || xok_revoke(kernel(s), l->resource, 1) != 1 || !library_lost(l, last))
		return 1;
	result = xok_forget(kernel(s), 0, LIBRARY_CAP, last);
	xok_hold(kernel(s), l->resource, &library_entries, l);
	library_read_vector(l);
	return library_lost(l, last) ? 1 : result;
}

/* ---- more than its part ---- */

static int no_frames(s64 came_free)
{
	return came_free ? 1 : -ENOSPC;
}

static int all_are_wanted(struct system *s)
{
	return no_frames(xok_want_frames(kernel(s), 0, LIBRARY_CAP, kernel(s)->nr_frames / BESIDE));
}

static int needed_ones_are_wanted(struct system *s)
{
	xok_want_frames(kernel(s), other_env(s), LIBRARY_CAP, kernel(s)->nr_frames);
	return no_frames(xok_want_frames(kernel(s), 0, LIBRARY_CAP, 1));
}

const struct system_attack two_attacks[TWO_ATTACKS] = {
	{ "the other library's frame is mapped", frame_is_mapped, -EACCES },
	{ "the other library's capability is presented", capability_is_presented, -EBADF },
	{ "an entry in the other library's page table", table_is_written, -EACCES },
	{ "the other library's entries are taken away", entries_are_taken_away, -EACCES },
	{ "the other library's frame is given back", frame_is_given_back, -EACCES },
	{ "the other library's frame is taken", frame_is_taken, -EBUSY },
	{ "the other library's frame is guaranteed", frame_is_guaranteed, -EACCES },
	{ "the other library's environment ends", environment_ends, -EACCES },
	{ "the other library's environment is made again", environment_is_made_again, -EEXIST },
	{ "the other library's faults enter this one", handler_is_replaced, -EACCES },
	{ "what the other library wrote is in its old frame", bytes_are_read, -ENOENT },
	{ "the other library still sees its old frame", bytes_are_changed, -ENOENT },
	{ "the other library's saved page is forgotten", block_is_forgotten, -ENOENT },
	{ "all frames of a library that is calm are wanted", all_are_wanted, -ENOSPC },
	{ "frames that the other library needs are wanted", needed_ones_are_wanted, -ENOSPC },
	{ "a time slice on the other's CPU", slice_is_taken, -EACCES },
	{ "the other's time slice is ended", slice_is_ended, -EACCES },
};
