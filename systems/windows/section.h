/* SPDX-License-Identifier: MIT */
/*
 * Sections of two kinds.
 *
 * Of an image: a driver's pageable code or data (PAGE...), which it locks while it may be used at
 * DISPATCH_LEVEL.  Locks are counted: what is locked twice is unlocked twice.
 *
 * Of memory that is mapped in several places: its pages' state is in prototype entries, one for all
 * views, so that a page that one view brings in is there for the others.
 *
 * By the thread that drives the CPU, below DISPATCH_LEVEL but where said.
 */
#ifndef VMF_SYSTEMS_WINDOWS_SECTION_H
#define VMF_SYSTEMS_WINDOWS_SECTION_H

#include "systems/windows/nt.h"

/* A section of an image with these bytes at its start, at *va: code (which is not written to
 * afterwards) or data.  0, -ENOMEM, or of a bug check. */
int mm_load_section(struct nt *k, unsigned cpu, u64 pages, bool code, const void *bytes, size_t n,
		    u64 *va);
/* -EINVAL: none begins there; -EBUSY: it is locked. */
int mm_unload_section(struct nt *k, unsigned cpu, u64 va);

/*
 * All of the section that holds va is there from now on, and stays; *handle says which, for
 * unlocking.  A section that is locked already may be locked again at DISPATCH_LEVEL; otherwise
 * that is a bug check (0xA).  0; -EINVAL: va is in no section; or of a bug check.
 */
int mm_lock_pageable_section(struct nt *k, unsigned cpu, u64 va, unsigned *handle);
/* The other way, at up to DISPATCH_LEVEL.  Bug check 0x1A (0x1010): it is not locked.  -EINVAL:
 * that is no section's handle. */
int mm_unlock_pageable_section(struct nt *k, unsigned cpu, unsigned handle);

/* Memory to be mapped, of zeros: *segment.  0, -ENOMEM. */
int mm_create_segment(struct nt *k, unsigned cpu, u64 pages, unsigned *segment);
/* -EINVAL: there is none of that name; -EBUSY: a view maps it. */
int mm_delete_segment(struct nt *k, unsigned cpu, unsigned segment);
/* All of it is at *va, too.  0, -ENOMEM, -EINVAL. */
int mm_map_view(struct nt *k, unsigned cpu, unsigned segment, u64 *va);
/* -EINVAL: none begins there. */
int mm_unmap_view(struct nt *k, unsigned cpu, u64 va);

/*
 * As memory pressure has it: trim [va, va + n) and, if `out`, write what is modified and use all
 * frames on standby for others, so that it is in the page file alone.  -EPERM: part of it is not
 * pageable; -EBUSY: part is locked; the rest is trimmed.  -EIO, -ENOSPC: the page file.
 */
int mm_page_out(struct nt *k, unsigned cpu, u64 va, u64 n, bool out);
/* The same for one frame of the machine's memory.  -EPERM: it is none that is paged (a page
 * table's, the nonpaged pool's, free); -EBUSY: locked. */
int mm_page_out_frame(struct nt *k, unsigned cpu, u64 pfn);

#endif
