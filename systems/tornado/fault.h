/* SPDX-License-Identifier: MIT */
/* A fault on its way from object to object (fault.c), through the engine below (below.c), and the
 * system around it (tornado.c). */
#ifndef VMF_SYSTEMS_TORNADO_FAULT_H
#define VMF_SYSTEMS_TORNADO_FAULT_H

#include "engine/backing/page_cache.h"
#include "systems/common/engine_system.h"
#include "systems/tornado/objects.h"

struct tornado {
	struct engine_system base;
	struct co_system objects;
	bool shared; /* FCMs have one representative for all CPUs */
	struct dram *dram;
	struct process *processes[PROGRAM_PROCESSES]; /* as base.program.mms */
	struct mmu_ops counted;			      /* as engine_system made it */
	struct store_ops store_ops;		      /* of base.store, with the COR before it */
	const struct store_ops *store_own;
	_Atomic bool forgot; /* no memory for a descriptor: a page is in core unknown to its FCM */
};

/* A file, whose address_space has these ops. */
struct tornado_file {
	struct address_space_ops ops;
	const struct address_space_ops *own;
	struct tornado *tornado;
	struct fcm *fcm;
};

static inline struct tornado *tornado_of_engine(struct engine *e)
{
	return container_of(engine_system_of_engine(e), struct tornado, base);
}

/* The CPU that this thread drives. */
unsigned tornado_cpu(const struct tornado *t);
/* Whose space that is; NULL: of none that has begun. */
struct process *tornado_process(struct tornado *t, const struct mm *mm);
/* The file behind an area's mapping. */
struct tornado_file *tornado_file(const struct address_space *m);

/* An FCM with one user, of the kind that this system has.  NULL: no memory. */
struct fcm *tornado_new_fcm(struct tornado *t);
/* process_back_fn; arg: the tornado. */
bool tornado_back(void *arg, const struct vma *vma, struct range *range);
/* The page that an entry at va maps is in core: its FCM is told, if it is anonymous. */
void tornado_note_entry(struct tornado *t, struct process *p, u64 va, pte_t pte);

/* ---- a fault ---- */

struct fault {
	struct tornado *tornado;
	unsigned cpu;
	struct process *process;
	struct mm *mm;
	u64 address, va; /* va: its page */
	u32 code;
	co_ref region;	    /* that handles it, */
	struct range range; /* and its range */
	/* The FCM that has, or lacks, the page. */
	struct fcm *fcm;
	u64 offset;
	struct fcm_page page;
	bool filling;	/* it is ours to fill, and to complete */
	bool asked_cor; /* the COR has said how */
	bool cleared;	/* its old entry is gone, until the new one is there (or the old again) */
	bool started;	/* its server reads: the thread has to retry */
	bool pending;	/* it turned out that another fills it: to be waited for */
	struct fault_notification notification;
};

static inline u64 pages_between(u64 start, u64 va)
{
	return (va - start) >> PAGE_SHIFT;
}

static inline struct co_system *objects(struct fault *f)
{
	return &f->tornado->objects;
}

/* The Region's range, once more if it is destroyed under way.  0, -EFAULT, -EACCES.  Without
 * may_grow any lock of the engine may be held. */
int fault_find_region(struct fault *f, bool may_grow);
/* Is the page cached, as one of the Region's own, or of the file under them?  enum fcm_answer, or
 * an error.  n NULL: it is only looked. */
int fault_ask_fcm(struct fault *f, struct fault_notification *n);
/* How often the frame has been released. */
u32 fault_generation_of(const struct fault *f, u64 pfn);
/* What we fill is filled with that frame; NO_PFN: it could not be.  Nothing, if we do not. */
void fault_complete(struct fault *f, u64 pfn);
/*
 * The engine has found that the page is at the store, while the FCM of the file under the Region
 * was asked: it is a copy of the Region's own, which went out.  What was to be filled of the file's
 * is not, and the Region's FCM is asked.  If another fills it just now the engine is not kept from
 * it: the notification is waited for later.
 */
void fault_is_own(struct fault *f);
/* The fault is pending: the program's dispatcher is told its id. */
void fault_upcall(struct fault *f);
/* That is the fault for which this thread is in the engine from now on; NULL: none. */
void fault_below(struct fault *f);

/* What the engine has for its changes of translations, its steps and its reads from the store,
 * while a fault is on its way and otherwise. */
void fault_set_hooks(struct tornado *t);
/* A file's page is read, or looked up or made, for whoever: as address_space_ops. */
int fault_read_page(struct address_space *m, struct page *page);
int fault_get_page(struct address_space *m, u64 index, enum page_use use, struct page **page,
		   bool *major);
/* soft_trap_fn */
struct fault_result fault_trap(struct soft_cpu *cpu, u64 cr2, u32 code);

#define NR_TORNADO_ATTACKS 10
extern const struct system_attack tornado_attacks[NR_TORNADO_ATTACKS];

#endif
