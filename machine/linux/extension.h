/* SPDX-License-Identifier: MIT */
/*
 * A user's extension in the agent: who chooses the pages that go (vmfault run --extension).
 *
 * Its interpreter calls a few functions of libc, which threads of the agent otherwise never do:
 * texts of numbers, in the C locale, setjmp and longjmp.  None of them allocates or locks; they use
 * the thread's descriptor and its variables, for which thread.h has room.
 */
#ifndef VMF_LINUX_EXTENSION_H
#define VMF_LINUX_EXTENSION_H

#include "engine/base/types.h"

struct engine;

/* At start-up, once the arena is there, by a thread of libc's: load the file.  What is wrong with
 * it is in the report, and there is none then. */
void agent_extension_load(const char *path);
/* Is there one? */
bool agent_extension_is_there(void);
/* Before the engine is asked for anything: it has policy_chosen, and asks the extension from now
 * on.  0, -ENOMEM. */
int agent_extension_begin(struct engine *e);

#endif
