/* SPDX-License-Identifier: MIT */
/* Between the files of the systems `xok` and `aegis`, and its tests. */
#ifndef VMF_EXOKERNEL_INTERNAL_H
#define VMF_EXOKERNEL_INTERNAL_H

#include "systems/exokernel/library.h"

#define LIBRARY_RESOURCE 1

struct aegis;

struct exokernel {
	struct engine_system base;
	struct xok xok;
	struct library library;
	struct aegis *aegis; /* NULL: the hardware walks page tables, which are the kernel's */
};

/* system_type.create of both. */
int exokernel_create(const struct system_type *type, const struct system_options *options,
		     struct system **system);

static inline struct exokernel *exokernel_of(struct system *s)
{
	return container_of(engine_system_of(s), struct exokernel, base);
}

#define XOK_EXPECTED 9
extern const struct system_expectation xok_expected[XOK_EXPECTED];

/* env_attacks.c: on both. */
int attack_fault_in_handler(struct system *s);
int attack_kill_in_handler(struct system *s);
int attack_stack_of_another(struct system *s);
int attack_stack_read_only(struct system *s);
int attack_stack_for_another(struct system *s);
int attack_stack_goes_back(struct system *s);

#define ENV_ATTACKS                                                                                \
	{ "a handler faults in itself without end", attack_fault_in_handler, -EBADF },             \
		{ "an environment is killed as its handler runs", attack_kill_in_handler,          \
		  -EACCES },                                                                       \
		{ "an exception stack in another's frame", attack_stack_of_another, -EACCES },     \
		{ "an exception stack that is read-only", attack_stack_read_only, -EACCES },       \
		{ "an exception stack for another environment", attack_stack_for_another,          \
		  -EACCES },                                                                       \
	{                                                                                          \
		"a frame of the exception stack is given back", attack_stack_goes_back, -EBUSY     \
	}

#define XOK_ATTACKS 25
extern const struct system_attack xok_attacks[XOK_ATTACKS];

#endif
