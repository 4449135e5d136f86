/* SPDX-License-Identifier: MIT */
/* Running what may panic, crash or hang, and going on. */
#ifndef VMF_DIFFERENTIAL_GUARD_H
#define VMF_DIFFERENTIAL_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Call run(ctx).  False: the engine under it panicked or crashed, or it took GUARD_SECONDS, or it
 * called guard_give_up(): `why` says so, and whatever it worked on is left as it lies.
 * One at a time in a process.
 */
bool guarded(void (*run)(void *ctx), void *ctx, char *why, size_t size);
/* From within run(). */
_Noreturn void guard_give_up(const char *why);

/* An operation takes microseconds, and a sequence that makes all areas there can be a second. */
#define GUARD_SECONDS 20

#endif
