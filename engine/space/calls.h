/* SPDX-License-Identifier: MIT */
/*
 * Linux's memory system calls on a space: the order of their checks, their error numbers, what they
 * have done when they fail in the middle, and how areas merge and split under them.
 *
 * Arguments come as a program gives them (bytes; numbers of engine/space/uapi.h), checked or not;
 * of those that are of 32 bits here Linux takes no notice of the upper half. What comes back is
 * what the system call returns: a value, or a negative errno.  Each takes mmap_lock itself, and may
 * sleep.  Rules that differ between versions of Linux are those of 6.18; the comment says so.
 *
 * A machine whose kernel has made the change already mirrors it with the vm_ functions of mm.h.
 */
#ifndef VMF_SPACE_CALLS_H
#define VMF_SPACE_CALLS_H

#include "engine/space/mm.h"
#include "engine/space/uapi.h"

/* mmap(2), with an open file or NULL; offset in bytes. */
s64 do_mmap(struct mm *mm, u64 addr, u64 len, u64 prot, u64 flags, struct file *file, u64 offset);
/* munmap(2) is vm_unmap(). */
/* brk(2): the break there is then, which is the old one if it could not be moved. */
u64 do_brk(struct mm *mm, u64 addr);
/* mprotect(2): what lies before a hole has changed when it says -ENOMEM. */
s64 do_mprotect(struct mm *mm, u64 addr, u64 len, u64 prot);
/* mremap(2): of several areas those that have moved before it failed stay moved. */
s64 do_mremap(struct mm *mm, u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr);
/* mincore(2): a byte a page, 1 or 0, to vec, which has room for them; what lies before a hole is
 * told. */
s64 do_mincore(struct mm *mm, u64 addr, u64 len, u8 *vec);
/* The same for the area at addr alone, at most so many pages: of how many it was, or -ENOMEM. */
s64 mincore_area(struct mm *mm, u64 addr, u64 pages, u8 *vec);
/* mlock(2), mlock2(2), munlock(2): what lies before a hole is locked when they say -ENOMEM. */
s64 do_mlock(struct mm *mm, u64 addr, u64 len);
s64 do_mlock2(struct mm *mm, u64 addr, u64 len, u32 flags);
s64 do_munlock(struct mm *mm, u64 addr, u64 len);
/* mlockall(2), munlockall(2). */
s64 do_mlockall(struct mm *mm, u32 flags);
s64 do_munlockall(struct mm *mm);
/* msync(2): over a hole it goes on, and says -ENOMEM at the end. */
s64 do_msync(struct mm *mm, u64 addr, u64 len, u32 flags);
/* mseal(2): of a range with a hole nothing is sealed. */
s64 do_mseal(struct mm *mm, u64 addr, u64 len, u64 flags);
/* madvise(2), for the advice in enum uapi_madvise; any other is refused as unknown (-EINVAL). */
s64 do_madvise(struct mm *mm, u64 addr, u64 len, u32 advice);

#endif
