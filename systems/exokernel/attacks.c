/* SPDX-License-Identifier: MIT */
/* Attacks on the exokernel: by the first environment, straight to the kernel. */
#include "engine/base/errno.h"
#include "systems/exokernel/internal.h"

#define AT 0x20000000ULL

static struct xok *attacked(struct system *s)
{
	return &exokernel_of(s)->xok;
}

/* By the call itself; and nothing may have been written. */
static int insert(struct system *s, unsigned cap, unsigned target, u64 va, u64 pfn, u64 bits)
{
	pte_t entry = { 0 }, pte = pte_make(pfn, PTE_PRESENT | bits);
	struct page *page = NULL;
	int result = xok_insert_pte(attacked(s), 0, cap, target, va, &entry, &pte, &page, 1);

	return result < 0 && !pte_none(entry) ? 1 : result;
}

static u64 own_frame(struct system *s)
{
	return attacked(s)->machine->nr_table + 1;
}

static int kernel_frame(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, AT, 0, PTE_USER);
}

static int frame_past_the_end(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, AT, own_frame(s) + attacked(s)->nr_frames, PTE_USER);
}

static int another_s_frame(struct system *s)
{
	atomic_store(&attacked(s)->owners[1], LIBRARY_RESOURCE + 1);
	return insert(s, LIBRARY_CAP, 0, AT, own_frame(s), PTE_USER);
}

static int made_up_capability(struct system *s)
{
	return insert(s, 5, 0, AT, own_frame(s), PTE_USER);
}

static int read_capability_for_writing(struct system *s)
{
	attacked(s)->envs[0].caps[1] =
		(struct xok_capability){ .resource = LIBRARY_RESOURCE, .rights = XOK_READ };
	if (insert(s, 1, 0, AT, own_frame(s), PTE_USER) < 0)
		return 1; /* reading is allowed */
	return insert(s, 1, 0, AT, own_frame(s), PTE_USER | PTE_WRITE);
}

static int another_s_entries_go(struct system *s)
{
	return xok_check_removal(attacked(s), 0, LIBRARY_CAP, 1);
}

static int another_s_table(struct system *s)
{
	return insert(s, LIBRARY_CAP, 1, AT, own_frame(s), PTE_USER);
}

static int kernel_address(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, 0xffff800000000000ULL, own_frame(s), PTE_USER);
}

static int kernel_entry(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, AT, own_frame(s), 0);
}

static int installed_twice(struct system *s)
{
	pte_t entry = { 0 }, pte = pte_make(own_frame(s), PTE_PRESENT | PTE_USER);
	struct page *page = NULL;

	for (unsigned i = 0; i < 2; i++) {
		int got =
			xok_insert_pte(attacked(s), 0, LIBRARY_CAP, 0, AT, &entry, &pte, &page, 1);

		if (i || got != 1)
			return got;
	}
	return 1;
}

static int absent_entry_changed(struct system *s)
{
	pte_t entry = { 0 };

	return xok_mod_pte(attacked(s), 0, LIBRARY_CAP, 0, AT, &entry,
			   pte_make(own_frame(s), PTE_PRESENT | PTE_USER));
}

static int frames_of_another(struct system *s)
{
	return xok_take_frames(attacked(s), 0, LIBRARY_CAP, own_frame(s), 1);
}

/* ---- of revocation ---- */

/* A page of the program's, written; its frame.  `entry`: where it is mapped. */
static u64 touched(struct system *s, u64 *va, pte_t **entry)
{
	const struct program_map a = { .len = PAGE_SIZE, .prot = VM_READ | VM_WRITE, .file = -1 };
	spinlock_t *ptl;
	u64 word = 7;

	*va = (u64)s->program->ops->map(s->program, 0, &a);
	s->program->ops->access(s->program, 0, *va, PF_WRITE, &word, sizeof(word));
	*entry = pte_find(exokernel_of(s)->base.mm, *va, &ptl);
	return pte_pfn(pte_read(*entry));
}

static int mapped_frame_goes_back(struct system *s)
{
	pte_t *entry;
	u64 va, pfn = touched(s, &va, &entry);

	return xok_give_frames(attacked(s), 0, LIBRARY_CAP, &pfn, 1);
}

/* A frame that the library has and does not use. */
static u64 unused(struct system *s)
{
	struct engine *e = exokernel_of(s)->library.engine;
	struct page *page = page_alloc(e, ZONE_USER, 0, 0);

	return page_pfn(e, page);
}

static int kept_frame(struct system *s)
{
	u64 pfn = unused(s);

	if (xok_give_frames(attacked(s), 0, LIBRARY_CAP, &pfn, 1))
		return 1;
	return insert(s, LIBRARY_CAP, 0, AT, pfn, PTE_USER);
}

static int counted_twice(struct system *s)
{
	u64 pfn = unused(s);
	const u64 twice[] = { pfn, pfn };

	return xok_give_frames(attacked(s), 0, LIBRARY_CAP, twice, 2);
}

static int another_s_goes_back(struct system *s)
{
	u64 pfn = unused(s);

	atomic_store(xok_owner(attacked(s), pfn), LIBRARY_RESOURCE + 1);
	return xok_give_frames(attacked(s), 0, LIBRARY_CAP, &pfn, 1);
}

static struct fault_result refuse(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	(void)cpu, (void)cr2, (void)code;
	return (struct fault_result){ .reason = FAULT_MAPERR };
}

/* What the CPU reads without anybody's help. */
static enum fault_reason read_alone(struct system *s, u64 va, u64 *word)
{
	struct soft_machine *m = attacked(s)->machine;
	soft_trap_fn trap = m->trap;
	enum fault_reason reason;

	m->trap = refuse;
	reason = soft_read_u64(&m->cpus[0], va, word);
	m->trap = trap;
	return reason;
}

/* The entry is gone, the flush forgotten, the frame given back: what the TLB had must not do. */
static int stale_translation(struct system *s)
{
	enum fault_reason before, after = FAULT_OK;
	pte_t *entry, was;
	u64 va, word = 0, pfn = touched(s, &va, &entry);

	was = pte_exchange(entry, (pte_t){ 0 });
	before = read_alone(s, va, &word);
	if (!xok_give_frames(attacked(s), 0, LIBRARY_CAP, &pfn, 1))
		after = read_alone(s, va, &word);
	pte_store(entry, was); /* the engine knows of nothing */
	return before == FAULT_OK && word == 7 && after == FAULT_MAPERR ? -EFAULT : 1;
}

static void no_answer(void *arg, u64 n)
{
	(void)arg, (void)n;
}

static void reads_its_vector(void *arg)
{
	library_read_vector(arg);
}

/* Who keeps everything is left without; what it was asked for is what may not be mapped now. */
static int no_answer_at_all(struct system *s)
{
	static const struct xok_entries deaf = { .revoke = no_answer,
						 .repossessed = reads_its_vector };
	struct xok *x = attacked(s);
	u64 last = own_frame(s) + x->nr_frames - 2;

	xok_hold(x, LIBRARY_RESOURCE, &deaf, &exokernel_of(s)->library);
	if (xok_revoke(x, LIBRARY_RESOURCE, 5) != 5)
		return 1;
	while (atomic_load(xok_owner(x, last)) == LIBRARY_RESOURCE) /* guaranteed, or a stack */
		last--;
	return insert(s, LIBRARY_CAP, 0, AT, last, PTE_USER);
}

static int too_many_guarantees(struct system *s)
{
	int err = 0;

	for (u64 i = 0; !err && i <= XOK_GUARANTEED; i++)
		err = xok_guarantee(attacked(s), 0, LIBRARY_CAP, own_frame(s) + i);
	return err;
}

const struct system_attack xok_attacks[XOK_ATTACKS] = {
	{ "a mapping of a page-table frame", kernel_frame, -EACCES },
	{ "a mapping of a frame that is none", frame_past_the_end, -EACCES },
	{ "a mapping of another's frame", another_s_frame, -EACCES },
	{ "a capability that is made up", made_up_capability, -EBADF },
	{ "a capability for reading, used for writing", read_capability_for_writing, -EACCES },
	{ "an entry in another environment's page table", another_s_table, -EACCES },
	{ "entries of another environment's are taken away", another_s_entries_go, -EACCES },
	{ "an entry in the kernel's half", kernel_address, -EINVAL },
	{ "an entry that is the supervisor's", kernel_entry, -EINVAL },
	{ "an entry is inserted where one is", installed_twice, -EEXIST },
	{ "an entry is changed that is not there", absent_entry_changed, -ENOENT },
	{ "frames that somebody has are taken", frames_of_another, -EBUSY },
	{ "a frame is given back and stays mapped", mapped_frame_goes_back, -EBUSY },
	{ "a frame that was given back is mapped", kept_frame, -EACCES },
	{ "one frame is given back as two", counted_twice, -EINVAL },
	{ "another's frame is given back", another_s_goes_back, -EACCES },
	{ "a translation that is kept when the frame goes", stale_translation, -EFAULT },
	{ "a library that never answers keeps its frames", no_answer_at_all, -EACCES },
	{ "all frames are guaranteed", too_many_guarantees, -ENOSPC },
	ENV_ATTACKS,
};
