/* SPDX-License-Identifier: MIT */
/*
 * The microkernel's memory: who has which frame, and where he has mapped it (Liedtke, SOSP 1995).
 *
 * Frames come from the root pager, one task each.  Who has a frame may map it into spaces of
 * others, with rights that he has himself; the database remembers each mapping, so that it can be
 * flushed. All functions take the database's lock.
 */
#ifndef VMF_L4_MAPDB_H
#define VMF_L4_MAPDB_H

#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/mmu/pte.h"

#define L4_NOBODY 0

enum l4_right { L4_READ = 1, L4_WRITE = 2 };

struct l4_frame {
	u32 task;   /* that has it; L4_NOBODY: the root pager */
	u32 rights; /* enum l4_right, the task's own */
	struct list_head mappings;
};

struct mapdb {
	spinlock_t lock;
	u64 first, nr; /* frames of programs */
	struct l4_frame *frames;
};

/* 0, -ENOMEM. */
int mapdb_init(struct mapdb *db, u64 first, u64 nr);
void mapdb_fini(struct mapdb *db);

/* The root pager gives the frame to a task, with these rights.  0, -EINVAL (there is no such
 * frame), -EBUSY (somebody has it). */
int mapdb_give(struct mapdb *db, u64 pfn, u32 task, u32 rights);
/* `task` maps its frame at va of a space.  0, -EINVAL, -EACCES (it has not the frame, or not that
 * right), -EEXIST (it is there), -ENOMEM. */
int mapdb_map(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va, u32 rights);
/* It takes this mapping back.  0, -EINVAL, -EACCES, -ENOENT. */
int mapdb_flush(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va);
/* Has the task that frame, and has it mapped it there?  0, -EINVAL, -EACCES, -ENOENT. */
int mapdb_owns(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va);
/* The rights of that mapping; 0: there is none. */
u32 mapdb_rights(struct mapdb *db, u64 pfn, const void *space, u64 va);
/* Change them, to what the task has itself.  As mapdb_flush(). */
int mapdb_set_rights(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va, u32 rights);
/* Mappings, of all frames. */
u64 mapdb_count(struct mapdb *db);

#endif
