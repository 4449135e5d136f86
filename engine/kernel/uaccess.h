/* SPDX-License-Identifier: MIT */
/*
 * The kernel's way to the program's memory.
 *
 * Each may fault and sleep, and needs a context that may (no spinlock of the engine's, faults not
 * disabled).  The *_nofault ones may be called anywhere: what is not there is an error.
 * `u` says in whose name: the machine's CPU, and the task that runs on it.
 */
#ifndef VMF_KERNEL_UACCESS_H
#define VMF_KERNEL_UACCESS_H

#include "engine/kernel/kernel.h"

struct uaccess {
	struct kernel *kernel;
	struct task *current;
	void *cpu;
};

/* Are these the program's addresses, all of them? */
bool access_ok(u64 address, u64 n);

/* Bytes that were not copied: 0 is success.  Copies what comes before the first that cannot be. */
u64 copy_to_user(const struct uaccess *u, u64 to, const void *from, u64 n);
/* The same; what was not copied of `to` is zeros. */
u64 copy_from_user(const struct uaccess *u, void *to, u64 from, u64 n);
u64 clear_user(const struct uaccess *u, u64 to, u64 n);

/* One value of 1, 2, 4 or 8 bytes.  0, or -EFAULT with *value 0. */
int get_user(const struct uaccess *u, u64 *value, u64 from, unsigned bytes);
int put_user(const struct uaccess *u, u64 value, u64 to, unsigned bytes);

/*
 * A string with its NUL, of at most n bytes.  Its length without the NUL; n if there was none in n
 * bytes; -EFAULT if the program's memory ends before.
 */
s64 strncpy_from_user(const struct uaccess *u, char *to, u64 from, s64 n);

/* 0 or -EFAULT; nothing is brought in. */
int copy_from_user_nofault(const struct uaccess *u, void *to, u64 from, u64 n);
int copy_to_user_nofault(const struct uaccess *u, u64 to, const void *from, u64 n);

#endif
