/* SPDX-License-Identifier: MIT */
/*
 * Shared memory: files with nothing behind the page cache but the swap area.  Behind shared
 * anonymous mappings, and by itself as memfd_create(2) gives it (memfd.h).
 */
#ifndef VMF_BACKING_SHMEM_H
#define VMF_BACKING_SHMEM_H

#include "engine/backing/file.h"

struct address_space;
struct engine;
struct shared_policy;

/* A new file of `size` bytes, all zeros, open for reading and writing, that cannot be sealed. NULL:
 * no memory, size too large, or the machine has no direct map of programs' pages. */
struct file *shmem_file_setup(struct engine *e, u64 size);
/* Which nodes its pages come from; m is shared memory. */
struct shared_policy *shmem_policy(struct address_space *m);

#endif
