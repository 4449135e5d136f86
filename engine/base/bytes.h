/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a page of a file, which others may be writing at the same time: a program through
 * its mapping, write(2), a truncation.  What is read then is old or new, byte by byte, and that is
 * between those who write: no lock of the engine is about it, as none of Linux's is.
 *
 * Anonymous pages are not copied with these: nobody may be writing to them while they are copied,
 * and the thread sanitizer is to see it when somebody is.
 */
#ifndef VMF_BASE_BYTES_H
#define VMF_BASE_BYTES_H

#include "engine/base/types.h"

#if defined(__SANITIZE_THREAD__)
#define VMF_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VMF_THREAD_SANITIZER 1
#endif
#endif

#ifdef VMF_THREAD_SANITIZER
/* Byte by byte and volatile: memcpy would be looked at whoever calls it. */
__attribute__((no_sanitize("thread"), noinline, unused)) static void
shared_copy(void *to, const void *from, size_t n)
{
	volatile char *t = to;
	const volatile char *f = from;

	while (n--)
		*t++ = *f++;
}

__attribute__((no_sanitize("thread"), noinline, unused)) static void shared_zero(void *to, size_t n)
{
	volatile char *t = to;

	while (n--)
		*t++ = 0;
}
#else
static inline void shared_copy(void *to, const void *from, size_t n)
{
	memcpy(to, from, n);
}

static inline void shared_zero(void *to, size_t n)
{
	memset(to, 0, n);
}
#endif

#endif
