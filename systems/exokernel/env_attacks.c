/* SPDX-License-Identifier: MIT */
/*
 * Attacks by way of an environment: with its exception stack, with a handler that faults, by
 * killing it at the worst moment.  What they leave behind is looked at.
 */
#include "engine/base/errno.h"
#include "systems/exokernel/aegis.h"
#include "systems/exokernel/internal.h"

#define HOLE  0x30000000ULL /* nothing is mapped from here on */
#define PAGES 8ULL
#define WORD  0x5ec2e7ULL

static struct xok *attacked(struct system *s)
{
	return &exokernel_of(s)->xok;
}

static enum fault_reason write_word(struct system *s, unsigned cpu, u64 va)
{
	u64 word = WORD;

	return s->program->ops->access(s->program, cpu, va, PF_WRITE, &word, sizeof(word));
}

/* PAGES of the program's, of which half is written. */
static u64 map_pages(struct system *s)
{
	const struct program_map a = { .len = PAGES * PAGE_SIZE,
				       .prot = VM_READ | VM_WRITE,
				       .file = -1 };
	u64 va = (u64)s->program->ops->map(s->program, 0, &a);

	for (u64 i = 0; i < PAGES / 2; i++)
		write_word(s, 0, va + i * PAGE_SIZE);
	return va;
}

/* ---- what is left of an environment ---- */

static bool has_capability(const struct xok_env *e)
{
	for (unsigned i = 0; i < XOK_CAPS; i++)
		if (e->caps[i].resource != XOK_KERNEL)
			return true;
	return false;
}

static bool has_slice(const struct xok *x, unsigned env)
{
	for (unsigned cpu = 0; cpu < x->machine->nr_cpus; cpu++)
		for (unsigned i = 0; i < x->slices[cpu].n; i++)
			if (x->slices[cpu].envs[i] == env)
				return true;
	return false;
}

/* A translation that hardware would use. */
static bool has_binding(struct system *s, unsigned env, struct mm *mm)
{
	const struct aegis *a = exokernel_of(s)->aegis;
	pte_t pte;

	for (u64 i = 0; a && i < STLB_ENTRIES; i++)
		if (a->stlb.entries[i].page != STLB_NONE && a->stlb.entries[i].asid == env)
			return true;
	for (u64 va = mm->low; !a && engine_system_next_entry(mm, &va, &pte); va += PAGE_SIZE)
		if (pte_present(pte))
			return true;
	return false;
}

static bool is_gone(struct system *s, unsigned env, struct mm *mm)
{
	const struct xok *x = attacked(s);
	const struct xok_env *e = &x->envs[env];

	return !e->used && !e->dying && !e->fault && !e->stack[0] && !has_capability(e) &&
	       !has_slice(x, env) && !has_binding(s, env, mm);
}

static u64 frames_of(const struct xok *x, u32 resource)
{
	u64 n = 0;

	for (u64 i = 0; i < x->nr_frames; i++)
		n += atomic_load(&x->owners[i]) == resource;
	return n;
}

/* ---- a handler that faults ---- */

struct deep {
	struct soft_cpu *cpu;
	unsigned entered;
	bool wrong; /* what its frame said was not so */
};

static struct fault_result faults_again(void *arg, struct mm *mm, const struct xok_trap_frame *f)
{
	struct deep *d = arg;
	u64 word;

	(void)mm;
	d->wrong |= f->level != d->entered || f->va != HOLE + d->entered * PAGE_SIZE;
	d->entered++;
	soft_read_u64(d->cpu, HOLE + d->entered * PAGE_SIZE, &word);
	return (struct fault_result){ .reason = FAULT_OK };
}

/* The library's only environment: nobody has its frames then, and what was in them is gone. */
int attack_fault_in_handler(struct system *s)
{
	struct xok *x = attacked(s);
	struct deep d = { .cpu = &x->machine->cpus[0] };
	u64 va = map_pages(s), frame;
	spinlock_t *ptl;

	frame = pte_pfn(pte_read(pte_find(exokernel_of(s)->base.mm, va, &ptl)));
	xok_set_handler(x, 0, LIBRARY_CAP, 0, faults_again, &d);
	if (write_word(s, 0, HOLE) != FAULT_KILLED || d.entered != XOK_NESTED || d.wrong)
		return 1;
	if (!is_gone(s, 0, exokernel_of(s)->base.mm) || frames_of(x, LIBRARY_RESOURCE) ||
	    atomic_load(&x->holders[LIBRARY_RESOURCE].frames) ||
	    *(u64 *)(x->machine->memory + (frame << PAGE_SHIFT)) == WORD)
		return 1;
	if (write_word(s, 0, va) != FAULT_KILLED) /* by what the TLB still had */
		return 1;
	return xok_take_frames(x, 0, LIBRARY_CAP, frame, 1);
}

/* ---- an environment that is killed ---- */

struct killed {
	struct xok *xok;
	xok_fault_fn fault; /* the library's own handler */
	void *arg;
	int err;
};

/* On another CPU its parent ends it, just now. */
static struct fault_result is_killed(void *arg, struct mm *mm, const struct xok_trap_frame *f)
{
	struct killed *k = arg;

	k->err = xok_env_destroy(k->xok, 0, LIBRARY_CAP, 1);
	return k->fault(k->arg, mm, f);
}

/* A child on the second CPU, that has pages of its own. */
static int start_child(struct system *s, u64 va)
{
	const struct program_ops *ops = s->program->ops;

	if (ops->fork(s->program, 0, 1))
		return -ENOMEM;
	ops->run(s->program, 1, 1);
	return write_word(s, 1, va) == FAULT_OK ? 0 : -EFAULT;
}

int attack_kill_in_handler(struct system *s)
{
	const struct program_ops *ops = s->program->ops;
	struct xok *x = attacked(s);
	struct engine *e = exokernel_of(s)->library.engine;
	struct killed k = { .xok = x, .fault = x->envs[0].fault, .arg = x->envs[0].arg };
	u64 va = map_pages(s), free = zone_free_pages(e, ZONE_USER);
	u64 frames = frames_of(x, LIBRARY_RESOURCE);
	int err;

	if (start_child(s, va) || xok_set_handler(x, 1, LIBRARY_CAP, 1, is_killed, &k))
		return 1;
	if (write_word(s, 1, va + PAGE_SIZE) != FAULT_KILLED || k.err)
		return 1;
	if (write_word(s, 1, va) != FAULT_KILLED || /* by what the TLB still had */
	    !is_gone(s, 1, exokernel_of(s)->base.program.mms[1]))
		return 1;
	err = xok_take_slice(x, 0, LIBRARY_CAP, 1, 1);
	/* The library clears up, and nothing is missing; who comes next begins as any. */
	ops->exit(s->program, 1);
	if (zone_free_pages(e, ZONE_USER) != free || frames_of(x, LIBRARY_RESOURCE) != frames)
		return 1;
	if (start_child(s, va) || write_word(s, 0, va) != FAULT_OK)
		return 1;
	ops->check(s->program);
	return err;
}

/* ---- exception stacks ---- */

static int set_stack(struct system *s, unsigned target, u64 pfn, u64 bits)
{
	struct xok *x = attacked(s);
	pte_t ptes[XOK_STACK_PAGES];

	for (unsigned i = 0; i < x->stack_pages; i++)
		ptes[i] = pte_make(pfn + i, PTE_PRESENT | PTE_USER | bits);
	return xok_set_stack(x, 0, LIBRARY_CAP, target, LIBRARY_STACK, ptes, x->stack_pages);
}

/* Refused, and the stack is as it was. */
static int leaves_stack(struct system *s, unsigned target, u64 pfn, u64 bits)
{
	u64 before = attacked(s)->envs[0].stack[0];
	int err = set_stack(s, target, pfn, bits);

	return attacked(s)->envs[0].stack[0] == before ? err : 1;
}

int attack_stack_of_another(struct system *s)
{
	u64 pfn = attacked(s)->machine->nr_table + 1;

	atomic_store(xok_owner(attacked(s), pfn), LIBRARY_RESOURCE + 1);
	return leaves_stack(s, 0, pfn, PTE_WRITE);
}

int attack_stack_read_only(struct system *s)
{
	return leaves_stack(s, 0, attacked(s)->machine->nr_table + 1, 0);
}

/* Of the same library, even. */
int attack_stack_for_another(struct system *s)
{
	if (s->program->ops->fork(s->program, 0, 1))
		return -ENOMEM;
	return leaves_stack(s, 1, attacked(s)->machine->nr_table + 1, PTE_WRITE);
}

int attack_stack_goes_back(struct system *s)
{
	u64 pfn = attacked(s)->envs[0].stack[0];

	return xok_give_frames(attacked(s), 0, LIBRARY_CAP, &pfn, 1);
}
