/* SPDX-License-Identifier: MIT */
/*
 * Broken memory: frames that must not be used any more.
 *
 * A frame that has failed (memory_failure) takes its bytes with it.  Entries that map it become
 * markers, at which who touches them is told (SIGBUS, BUS_MCEERR_AR), unless the bytes are a file's
 * that has them on its disk: then they are read again.  A frame that is likely to fail
 * (soft_offline_page) is emptied: its bytes go to another frame, and nobody notices.  Either is
 * never allocated again: PG_HWPOISON stays with it.
 *
 * Both take frames that are free, or whose page is on an LRU list and is not on its way to or from
 * the swap area; others are -EBUSY, and may be tried again.  Both sleep; no lock is held but
 * mmap_lock for reading.  They need frames that are directly mapped.
 *
 * Programs are told when they touch what is lost, as with Linux's vm.memory_failure_early_kill 0.
 * That Linux sends the program that asks for MADV_HWPOISON its signal at once is not done here.
 */
#ifndef VMF_RECLAIM_MEMORY_FAILURE_H
#define VMF_RECLAIM_MEMORY_FAILURE_H

#include "engine/base/types.h"

struct engine;

/*
 * The frame has failed.  0; -EHWPOISON: it had before; -EBUSY: it stays in use; -ENXIO: there is no
 * such frame of programs.
 *   free                    taken off the free lists
 *   anonymous, or shared    all entries become markers; shared memory keeps its place, so that
 *   memory                  whoever looks for the bytes there finds that they are lost
 *   of a file, clean        unmapped, out of the cache
 *   of a file, dirty        the same with markers, and fsync(2) tells of an error (-EIO)
 */
int memory_failure(struct engine *e, u64 pfn);

/* The frame is to be retired while its bytes are still good: they move to another
 * (migrate/migrate.h).  0, also if it has been; -EBUSY, -ENXIO as above; -ENOMEM. */
int soft_offline_page(struct engine *e, u64 pfn);

#endif
