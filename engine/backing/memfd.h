/* SPDX-License-Identifier: MIT */
/*
 * memfd_create(2) and file seals: shared memory whose owner gives up, for good, what may be done to
 * it.
 *
 * Seals are only ever added.  They are written with the file's i_rwsem held, under which writing,
 * truncating and punching look at them.  What maps a file for writing is counted
 * (mapping->i_mmap_writable), so that F_SEAL_WRITE is refused as long as a mapping may write, and
 * no such mapping is made afterwards.
 */
#ifndef VMF_BACKING_MEMFD_H
#define VMF_BACKING_MEMFD_H

#include "engine/backing/file.h"

struct engine;

/* Linux's numbers: fcntl(2), memfd_create(2). */
enum memfd_seal {
	MEMFD_SEAL_SEAL = 0x01,		/* no more seals */
	MEMFD_SEAL_SHRINK = 0x02,	/* it does not get shorter */
	MEMFD_SEAL_GROW = 0x04,		/* nor longer */
	MEMFD_SEAL_WRITE = 0x08,	/* its bytes stay */
	MEMFD_SEAL_FUTURE_WRITE = 0x10, /* the same, but for mappings that there are already */
	MEMFD_SEAL_EXEC = 0x20,		/* whether it may be executed stays (6.3) */
};
#define MEMFD_ALL_SEALS 0x3fu

enum memfd_flag {
	MEMFD_CLOEXEC = 1,
	MEMFD_ALLOW_SEALING = 2,
	MEMFD_HUGETLB =
		4, /* of huge pages; their size << MEMFD_HUGE_SHIFT as a power of two, or 0 */
	MEMFD_NOEXEC_SEAL = 8, /* not executable, and sealed so; more seals may be added */
};
#define MEMFD_HUGE_SHIFT 26
#define MEMFD_HUGE_MASK	 63u

/* As memfd_create(2): a new, empty file of shared memory, open for reading and writing; what the
 * flags do not allow to be sealed has MEMFD_SEAL_SEAL.  NULL: no memory, no pool of that size, or
 * as shmem_file_setup(). */
struct file *memfd_alloc_file(struct engine *e, u32 flags);

/*
 * fcntl(F_ADD_SEALS).  0; -EPERM: not open for writing, or sealed against seals; -EINVAL: unknown
 * seals, or no file that can be sealed; -EBUSY: MEMFD_SEAL_WRITE, and a shared mapping may write.
 * Sealing what may be executed with MEMFD_SEAL_EXEC seals its bytes and its size, too.  May sleep.
 */
int memfd_add_seals(struct file *file, u32 seals);
/* fcntl(F_GET_SEALS): the seals, or -EINVAL. */
int memfd_get_seals(const struct file *file);

/* ---- what seals forbid: all give 0 or -EPERM ---- */

/* Mapping it with these VM_ flags; of a mapping that only reads VM_MAYWRITE goes, so that no
 * mprotect(2) makes it one that writes. */
int memfd_check_mmap(const struct address_space *m, u32 *vm_flags);
/* Writing [pos, pos + len), len not 0.  This and the next two: i_rwsem held, or it is looked at
 * again under it. */
int memfd_check_write(const struct address_space *m, u64 pos, u64 len);
int memfd_check_truncate(const struct address_space *m, u64 size);
int memfd_check_punch(const struct address_space *m);

#endif
