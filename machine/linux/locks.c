/* SPDX-License-Identifier: MIT */
/*
 * mlockall(): the program's memory stays resident, and the agent's reserve is not populated.
 *
 * Areas locked one by one need nothing here: the kernel refuses to move pages between locked and
 * unlocked areas.  After mlockall() the agent's window would be locked, too, and moves would
 * succeed.
 */
#include "machine/linux/agent.h"

#include <dlfcn.h>
#include <sys/mman.h>

static _Atomic u32 all_locked;

bool locks_all(void)
{
	return atomic_load_explicit(&all_locked, memory_order_relaxed);
}

__attribute__((visibility("default"))) int mlockall(int flags)
{
	int (*real)(int) = NULL;
	int err;

	*(void **)&real = dlsym(RTLD_NEXT, "mlockall");
	if (!agent.slot || !real)
		return real ? real(flags) : -1;
	/* On fault: what is reserved but not used stays so; what is there is locked all the same.
	 */
	err = real(flags | MCL_ONFAULT);
	if (!err)
		all_locked = 1;
	return err;
}

__attribute__((visibility("default"))) int munlockall(void)
{
	int (*real)(void) = NULL;

	*(void **)&real = dlsym(RTLD_NEXT, "munlockall");
	all_locked = 0;
	return real ? real() : -1;
}
