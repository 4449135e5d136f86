/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_CORTEN_H
#define VMF_SYSTEMS_CORTEN_H

#include "machine/soft/program.h"
#include "systems/common/lab_store.h"
#include "systems/corten/file.h"
#include "systems/system.h"

#define CORTEN_LOW  0x10000000ULL
#define CORTEN_HIGH 0x7f0000000000ULL

struct corten {
	struct system system;
	struct program program;
	struct soft_machine *machine;
	struct lab_store store;
	struct corten_memory memory;
	struct corten_tables tables;
	struct corten_owner owner;
	struct corten_space *spaces[PROGRAM_PROCESSES];
	struct corten_file *files[PROGRAM_FILES];
	/* Where each CPU has given out addresses last, in a part of the space of its own;
	 * downwards.
	 */
	struct corten_addresses {
		_Alignas(64) _Atomic u64 next;
	} addresses[SOFT_MAX_CPUS];
	u64 hardware[4]; /* as counted at the last reset */
};

extern const struct system_type corten_system;

static inline struct corten *corten_of(struct system *s)
{
	return container_of(s, struct corten, system);
}
static inline struct corten *corten_of_program(struct program *p)
{
	return container_of(p, struct corten, program);
}
static inline struct corten_space *corten_space_of(struct mm *mm)
{
	return container_of(mm, struct corten_space, mm);
}

/* ---- fault.c ---- */

struct fault_result corten_trap(struct soft_cpu *cpu, u64 cr2, u32 code);

/* ---- calls.c ---- */

/* Addresses for so many bytes, that this CPU has given to nobody; whether they are free the tables
 * say.  0: there are none. */
u64 corten_next_address(struct corten *c, unsigned cpu, u64 len);

extern const struct program_ops corten_program_ops;

/* ---- evict.c ---- */

/* No frame was free; no lock is held.  False: nor is one now. */
bool corten_make_room(struct corten *c, unsigned cpu);

/* ---- remap.c ---- */

/* As mremap(2).  The address, or -EINVAL, -EFAULT, -ENOMEM. */
s64 corten_remap(struct corten *c, unsigned cpu, struct corten_space *s, u64 addr, u64 old_len,
		 u64 new_len, u32 flags, u64 to);

#endif
