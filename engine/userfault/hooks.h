/* SPDX-License-Identifier: MIT */
/* What the rooms that fault and change the layout call.  For a VMA or space that no context
 * watches, none of it is called, or all of it is one test. */
#ifndef VMF_USERFAULT_HOOKS_H
#define VMF_USERFAULT_HOOKS_H

#include "engine/fault/fault.h"
#include "engine/space/mm.h"

/* ---- faults (handle.c) ---- */

/*
 * The fault is the monitor's to serve: tell it, and sleep until woken.  reason: one of VM_UFFD.
 * VM_FAULT_RETRY, with the fault's lock dropped; or, with it held, VM_FAULT_SIGBUS (the context
 * does not serve such faults) or VM_FAULT_NOPAGE (it is just being released).
 */
unsigned handle_userfault(struct vm_fault_info *vmf, u32 reason);

/* ---- spaces (context.c) ---- */

/* The space goes: no operation touches it from now on.  No lock held. */
void userfaultfd_exit(struct mm *mm);

#endif
