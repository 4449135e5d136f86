/* SPDX-License-Identifier: MIT */
/* Checks that builds with -Dchecks=true make as they go; others do not even evaluate them. */
#ifndef VMF_BASE_CHECK_H
#define VMF_BASE_CHECK_H

#include "engine/base/text.h"

#ifdef VMF_CHECKS
#define VMF_ASSERT(what)                                                                           \
	do {                                                                                       \
		if (!(what))                                                                       \
			vmf_panic("%s: not so: %s", __func__, #what);                              \
	} while (0)
#else
#define VMF_ASSERT(what) ((void)sizeof(!(what)))
#endif

#endif
