/* SPDX-License-Identifier: MIT */
/* The policies there are. */
#include "engine/reclaim/policy.h"

static const struct reclaim_policy *const policies[] = {
	&policy_lru,
	&policy_gen,
	&policy_clock,
	&policy_fifo,
};

static bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

const struct reclaim_policy *policy_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++)
		if (same_name(policies[i]->name, name))
			return policies[i];
	return NULL;
}
