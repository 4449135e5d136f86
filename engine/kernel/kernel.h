/* SPDX-License-Identifier: MIT */
/*
 * A kernel on the engine: what the entry of vector 14 must know besides address spaces.
 *
 * The kernel half of every address space is one and the same set of tables, the kernel's own.  They
 * hang on the top-level entries 256 to 511, and come into a space in one of two ways:
 *
 *   KERNEL_HALF_SHARED   all 256 entries exist from the start and are put into every space when it
 *                        is made; what is mapped below them later is seen by all at once.
 *   KERNEL_HALF_LAZY     a space gets a top-level entry when it is first touched there: a fault in
 *                        the vmalloc area copies it.  (x86-32 does this still.)
 */
#ifndef VMF_KERNEL_KERNEL_H
#define VMF_KERNEL_KERNEL_H

#include "engine/kernel/extable.h"
#include "engine/space/mm.h"

#define KERNEL_START 0xffff800000000000ULL
#define TASK_END     0x00007ffffffff000ULL /* TASK_SIZE_MAX: user addresses are below */

enum kernel_half { KERNEL_HALF_SHARED, KERNEL_HALF_LAZY };

/* What the kernel asks of the machine.  `cpu` is the machine's own. */
struct kernel_ops {
	/* Only while the machine's interrupts are off, and on, respectively. */
	void (*irq_enable)(void *cpu);
	void (*irq_disable)(void *cpu);
	/*
	 * Copy n bytes from or to the program's memory, with AC set and an exception-table entry at
	 * the instruction.  Bytes that were not copied, from the first that could not be.
	 */
	u64 (*raw_copy_from_user)(void *cpu, void *to, u64 from, u64 n);
	u64 (*raw_copy_to_user)(void *cpu, u64 to, const void *from, u64 n);
	/* The addresses that the kernel's calls would return to, innermost first.  How many. */
	unsigned (*stack_trace)(void *cpu, const struct pt_regs *regs, u64 *ips, unsigned most);
};

struct kernel {
	struct engine *engine;
	pte_t *pgd; /* the kernel's own: its upper half is everybody's, its lower is empty */
	u64 pgd_phys;
	spinlock_t table_lock; /* guards adding tables */
	enum kernel_half half;
	u64 vmalloc_start, vmalloc_end;
	const struct exception_table *extable;
	const struct kernel_ops *ops;
	/* A probe set on the instruction takes the trap; NULL: none is set. */
	bool (*kprobe)(void *ctx, struct pt_regs *regs, u32 trap);
	void *kprobe_ctx;
	bool smap;
	bool old_stack_rule; /* see STACK_ACCESS_BELOW_SP */
	bool panic_on_oops;
	_Atomic unsigned oopses;
};

/* Make the kernel's tables, as kernel->half wants them; engine, half and the vmalloc area are set.
 * 0, -ENOMEM. */
int kernel_init_half(struct kernel *kernel);
/* Give them back.  No space that has some is loaded anywhere; frames mapped there are the caller's.
 */
void kernel_fini_half(struct kernel *kernel);
/* What a new space gets of the kernel half. */
void kernel_attach(struct kernel *kernel, struct mm *mm);
/* Map a frame at a kernel address, with bits beyond present and accessed.  Nothing may be there.
 * 0, -ENOMEM, -EINVAL (not a page of the kernel half), -EEXIST. */
int kernel_map(struct kernel *kernel, u64 va, u64 pfn, u64 bits);
/* Take the entry away; flush it on all CPUs, whichever space they have, before the frame is used
 * again.  The frame's number, or -ENOENT. */
s64 kernel_unmap(struct kernel *kernel, u64 va);

/* The entry of a kernel address in the kernel's own tables, or NULL: there is no table. */
pte_t *kernel_pte(const struct kernel *kernel, u64 va);

/*
 * The lazy way: if the kernel has what mm lacks at the top level for va, give it.  True: it was so,
 * or another CPU has given it meanwhile and the page is there: the access may be made again.  Takes
 * no lock and never sleeps.
 */
bool vmalloc_fault(struct kernel *kernel, struct mm *mm, u64 va);
/* Does the kernel's table allow the access by now?  Then the fault came of an old translation. */
bool spurious_kernel_fault(struct kernel *kernel, u64 va, u32 code);

#endif
