/* SPDX-License-Identifier: MIT */
#include "tests/differential/shorten.h"

bool shorten_list(const struct list_to_shorten *list)
{
	void *ctx = list->ctx;
	bool any = false;

	for (unsigned part = max_of(list->length(ctx) / 2, 1u); part; part /= 2)
		for (unsigned at = 0; at < list->length(ctx) && list->in_time(ctx);) {
			/* From the end: what is built up is taken down first. */
			unsigned n = list->length(ctx), from = n > at + part ? n - at - part : 0;

			if (list->without(ctx, from, part))
				any = true;
			else
				at += part;
		}
	return any;
}
