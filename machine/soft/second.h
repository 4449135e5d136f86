/* SPDX-License-Identifier: MIT */
/*
 * A second stage of translation, as processors have it for guests (Intel SDM vol. 3C, 29.3; AMD APM
 * vol. 2, 15.25): what page tables call physical addresses, those of tables and of pages, are a
 * guest's, and each goes through this stage before memory is touched.
 *
 * A translation that is missing there, or forbids the access, is no page fault of the guest's: the
 * access is broken off, `resolve` is called outside of it (the guest has left to whoever is below
 * it), and it is made again.
 *
 * TLBs hold the two stages as one.  Who changes the second so that less is allowed than before owes
 * a soft_shootdown_all(); tables that were taken out of it stay until that has returned.
 */
#ifndef VMF_SOFT_SECOND_H
#define VMF_SOFT_SECOND_H

#include "machine/soft/soft.h"

/* Of an access, beside PF_WRITE, PF_INSTR and PF_USER: it is to one of the guest's page tables, for
 * which it counts as a write, because the walk sets bits there; otherwise to the page itself. */
#define SECOND_TABLE (1u << 30)

/* What the second stage has for a page. */
struct second_page {
	char *host; /* its bytes */
	bool write; /* a write needs no other look: allowed, and noted as far as writes are */
	bool fetch;
};

struct soft_second_stage {
	/*
	 * The walk itself, instead of second_walk() with translate(): by other tables than those of
	 * the space.  As second_walk().  NULL: in two dimensions.
	 */
	enum walk_status (*walk)(struct soft_second_stage *s, struct soft_cpu *cpu,
				 const struct mmu_control *control, u64 root, u64 va, u32 access,
				 struct walk_result *w, char **host);
	/*
	 * Translate the guest-physical address for an access to it, made for the virtual address
	 * va.  False: it cannot be now, and the stage remembers for this CPU why.  By the thread
	 * that drives the CPU, within the access: no lock, no sleep, no memory to be allocated.
	 */
	bool (*translate)(struct soft_second_stage *s, struct soft_cpu *cpu, u64 va, u64 gpa,
			  u32 access, struct second_page *page);
	/* After a walk has ended so: FAULT_OK: make the access again; else as a trap's. */
	enum fault_reason (*resolve)(struct soft_second_stage *s, struct soft_cpu *cpu);
};

/* ---- for the machine itself ---- */

/*
 * mmu_walk() in both stages, inside: WALK_UNREACHABLE if the second has stopped it, at the table of
 * w->level, or at the page, which is one level below the entry that leads to it.  *host: the page's
 * bytes.
 */
enum walk_status second_walk(struct soft_cpu *cpu, const struct mmu_control *control, u64 root,
			     u64 va, u32 access, struct walk_result *w, char **host);

#endif
