/* SPDX-License-Identifier: MIT */
/* One world in which scripts run (machine/soft/script.h has the language), for tests of rules. */
#ifndef VMF_TESTS_SCRIPT_WORLD_H
#define VMF_TESTS_SCRIPT_WORLD_H

#include "machine/soft/script.h"
#include "tests/unit/one_world.h"

/* The script goes through, and all invariants hold after it. */
static inline void passes(const char *text)
{
	char message[SCRIPT_MESSAGE];
	struct script *s;

	if (script_parse(text, strlen(text), &s, message) || script_run(s, w.m, w.mm, message))
		fail_msg("%s", message);
	script_free(s);
	soft_check(w.m);
}

/* One more space in the world, loaded on its second CPU. */
static inline struct mm *second_space(void)
{
	struct mm *other;

	assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &other), 0);
	soft_load_mm(&w.m->cpus[1], other);
	return other;
}

static inline void end_second_space(struct mm *other)
{
	soft_load_mm(&w.m->cpus[1], NULL);
	mm_destroy(other);
}

#endif
