/* SPDX-License-Identifier: MIT */
/*
 * What a program can do on a machine with CPUs, processes and files: a table of calls, so that one
 * script (script.h) runs on whatever fields its faults.  soft_program is the engine on the soft
 * machine; each system of systems/ is another.
 *
 * Processes are numbered 0 (the first, which is always there) to PROGRAM_PROCESSES - 1, files 0 to
 * PROGRAM_FILES - 1.  A call acts on the process that runs on its CPU.  Calls on different CPUs may
 * be made at once; those that make or end processes or files may not.  A call that is not offered
 * is NULL.
 */
#ifndef VMF_SOFT_PROGRAM_H
#define VMF_SOFT_PROGRAM_H

#include "engine/backing/ramfile.h"
#include "engine/fault/fault.h"

#define PROGRAM_PROCESSES 27
#define PROGRAM_FILES	  26

enum program_counter {
	COUNT_MINOR,
	COUNT_MAJOR,
	COUNT_RSS,
	COUNT_SWAPPED,
	COUNT_MAPS,
	COUNT_CACHED, /* from here on: of a file */
	COUNT_DIRTY,
	COUNT_AWAY,
};

/* An area to make. */
struct program_map {
	u64 addr, len; /* bytes, whole pages */
	u32 prot;      /* VM_READ | VM_WRITE | VM_EXEC */
	u32 flags;     /* VMAP_FIXED, VMAP_FIXED_NOREPLACE; neither: addr is a hint */
	u32 vm_flags;  /* VM_SHARED, VM_GROWSDOWN, VM_LOCKED ... */
	int file;      /* -1: anonymous */
	u64 offset;    /* bytes, whole pages */
};

struct program;

struct program_ops {
	/* The address, or -EINVAL, -ENOMEM, -EEXIST. */
	s64 (*map)(struct program *p, unsigned cpu, const struct program_map *map);
	int (*unmap)(struct program *p, unsigned cpu, u64 addr, u64 len);
	int (*protect)(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot);
	s64 (*remap)(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags,
		     u64 to);
	int (*advise)(struct program *p, unsigned cpu, u64 addr, u64 len, enum vm_advice advice);

	/* An access of up to a page, within one: PF_WRITE, PF_INSTR or 0.  FAULT_OK, or why the
	 * program would get a signal. */
	enum fault_reason (*access)(struct program *p, unsigned cpu, u64 va, u32 access,
				    void *bytes, size_t n);
	/* The locked read-modify-write of the aligned word at va. */
	enum fault_reason (*add)(struct program *p, unsigned cpu, u64 va, u64 add, u64 *old);
	/* The system's kernel reads from, or writes to, the program's memory for it.  Bytes that it
	 * could not. */
	u64 (*copy_in)(struct program *p, unsigned cpu, void *to, u64 va, u64 n);
	u64 (*copy_out)(struct program *p, unsigned cpu, u64 va, const void *from, u64 n);

	/* The kernel takes `len` bytes (whole pages) of memory of its own that can be paged out:
	 * *va, until the machine ends.  0, -ENOMEM, or what the kernel stopped for.  Offered where
	 * a kernel has such memory. */
	int (*kernel_map)(struct program *p, unsigned cpu, u64 len, u64 *va);
	/* Its own code accesses that memory, up to a page, within one: PF_WRITE or 0.  0, -EFAULT,
	 * or what the kernel stopped for. */
	int (*kernel_access)(struct program *p, unsigned cpu, u64 va, u32 access, void *bytes,
			     size_t n);

	/* Has the page at va been written to since its translation was made?  1, 0; -ENOENT: it has
	 * none.  Offered where a program may ask that. */
	int (*dirty)(struct program *p, unsigned cpu, u64 va);

	/* Take away what can be of the range; `pages` of whoever. */
	void (*pageout)(struct program *p, unsigned cpu, u64 addr, u64 len);
	void (*reclaim)(struct program *p, u64 pages);
	/* From now on reading back (RAMFILE_READ) or writing out of pages fails; err 0: no more. */
	int (*fail_swap)(struct program *p, enum ramfile_io io, int err);

	/* Process `child` begins as a copy of the one on the CPU.  0, -ENOMEM. */
	int (*fork)(struct program *p, unsigned cpu, unsigned child);
	/* The process ends; CPUs that ran it run the first. */
	void (*exit)(struct program *p, unsigned process);
	/* The CPU runs that process from now on. */
	void (*run)(struct program *p, unsigned cpu, unsigned process);
	/* Which one that is. */
	unsigned (*running)(struct program *p, unsigned cpu);

	/* A new file, on a disk or in memory. */
	int (*file_create)(struct program *p, int file, bool in_memory);
	s64 (*file_read)(struct program *p, int file, u64 pos, void *bytes, u64 n);
	s64 (*file_write)(struct program *p, int file, u64 pos, const void *bytes, u64 n);
	int (*file_truncate)(struct program *p, int file, u64 size);
	int (*file_punch)(struct program *p, int file, u64 pos, u64 len);
	int (*file_sync)(struct program *p, int file);
	/* What is clean and not mapped leaves the cache. */
	void (*file_evict)(struct program *p, int file);
	/* Its disk fails from now on.  -EINVAL: it has none. */
	int (*file_fail)(struct program *p, int file, enum ramfile_io io, int err);
	void (*file_close)(struct program *p, int file);

	u64 (*count)(struct program *p, unsigned cpu, int file, enum program_counter counter);
	/* Every invariant; panics with a message.  Nobody else active. */
	void (*check)(struct program *p);
	/* What is counted counts from here on, and up to here: what follows is cleaning up.  NULL:
	 * nothing is. */
	void (*measure)(struct program *p);
	void (*measured)(struct program *p);
};

struct program {
	const struct program_ops *ops;
	unsigned nr_cpus;
};

/* ---- accesses by a soft CPU, whoever fields its faults ---- */

struct soft_cpu;

/* As program_ops.access. */
enum fault_reason soft_program_access(struct soft_cpu *c, u64 va, u32 access, void *bytes,
				      size_t n);
/* The kernel's copy of a program's memory (`out`: to it), page by page, in supervisor mode, between
 * STAC and CLAC.  Bytes that it could not. */
u64 soft_program_copy(struct soft_cpu *c, u64 va, char *bytes, u64 n, bool out);

/* ---- the engine on the soft machine ---- */

struct soft_machine;

struct soft_program {
	struct program program;
	struct soft_machine *machine;
	struct engine *engine;		   /* of the machine's, the one that serves it */
	unsigned first_cpu;		   /* its CPUs: from this one on */
	struct mm *mms[PROGRAM_PROCESSES]; /* [0]: the caller's */
	struct file *files[PROGRAM_FILES];
};

extern const struct program_ops soft_program_ops;

/* `mm` is the first process, and is loaded on every CPU that runs nothing. */
void soft_program_init(struct soft_program *p, struct soft_machine *m, struct mm *mm);
/* Its other processes end, its files are closed. */
void soft_program_fini(struct soft_program *p);

#endif
