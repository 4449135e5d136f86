/* SPDX-License-Identifier: MIT */
/* Signals of the calling thread wait while it holds what their handlers may want. */
#ifndef VMF_LINUX_SIGNALS_H
#define VMF_LINUX_SIGNALS_H

#include "engine/base/types.h"
#include "machine/linux/sys.h"

#include <signal.h>

/* Block all; the mask as it was, for signals_restore(). */
static inline u64 signals_block(void)
{
	u64 all = ~0ULL, mask;

	sys(rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof mask);
	return mask;
}

static inline void signals_restore(u64 mask)
{
	sys(rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask);
}

#endif
