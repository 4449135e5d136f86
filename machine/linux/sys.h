/* SPDX-License-Identifier: MIT */
/*
 * System calls for the agent, without libc.
 *
 * The agent's threads live in a process whose heap, and with it much of libc's state, they may
 * themselves have paged out; so they touch neither errno nor any lock of libc.  All functions
 * return the kernel's answer: a result, or a negative errno.
 */
#ifndef VMF_LINUX_SYS_H
#define VMF_LINUX_SYS_H

#include <asm/unistd.h>

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define SYS_PICK(_1, _2, _3, _4, _5, _6, _7, name, ...) name
#define SYS_0(n)					sys6(n, 0, 0, 0, 0, 0, 0)
#define SYS_1(n, a)					sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define SYS_2(n, a, b)					sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS_3(n, a, b, c)				sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS_4(n, a, b, c, d)				sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS_5(n, a, b, c, d, e)				sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS_6(n, a, b, c, d, e, f)                                                                 \
	sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
/* sys(openat, dirfd, path, ...): any system call by its name. */
#define sys(name, ...)                                                                             \
	SYS_PICK(__NR_##name, ##__VA_ARGS__, SYS_6, SYS_5, SYS_4, SYS_3, SYS_2, SYS_1, SYS_0)      \
	(__NR_##name, ##__VA_ARGS__)

#endif
