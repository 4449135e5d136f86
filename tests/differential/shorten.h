/* SPDX-License-Identifier: MIT */
/* Making a list that fails shorter, whatever it is a list of. */
#ifndef VMF_DIFFERENTIAL_SHORTEN_H
#define VMF_DIFFERENTIAL_SHORTEN_H

#include "engine/base/types.h"

struct list_to_shorten {
	void *ctx;
	unsigned (*length)(const void *ctx);
	/* Does it still fail without `n` of its elements from `from` on (fewer if it has fewer)?
	 * Then they are gone, and perhaps what came after the failure, too. */
	bool (*without)(void *ctx, unsigned from, unsigned n);
	bool (*in_time)(const void *ctx);
};

/* Ever smaller parts, until no single element can go, or there is no time left.  Did any go? */
bool shorten_list(const struct list_to_shorten *list);

#endif
