/* SPDX-License-Identifier: MIT */
#include "engine/kernel/uaccess.h"

#include "engine/base/errno.h"

bool access_ok(u64 address, u64 n)
{
	return n <= TASK_END && address <= TASK_END - n;
}

u64 copy_to_user(const struct uaccess *u, u64 to, const void *from, u64 n)
{
	return access_ok(to, n) ? u->kernel->ops->raw_copy_to_user(u->cpu, to, from, n) : n;
}

u64 copy_from_user(const struct uaccess *u, void *to, u64 from, u64 n)
{
	u64 left = access_ok(from, n) ? u->kernel->ops->raw_copy_from_user(u->cpu, to, from, n) : n;

	/* Whatever was there of the kernel's must not be taken for the program's. */
	memset((char *)to + (n - left), 0, left);
	return left;
}

u64 clear_user(const struct uaccess *u, u64 to, u64 n)
{
	static const char zeros[256];

	while (n) {
		u64 part = min_of(n, (u64)sizeof(zeros));
		u64 left = copy_to_user(u, to, zeros, part);

		n -= part - left;
		if (left)
			break;
		to += part;
	}
	return n;
}

static bool is_size(unsigned bytes)
{
	return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

int get_user(const struct uaccess *u, u64 *value, u64 from, unsigned bytes)
{
	*value = 0;
	if (!is_size(bytes))
		return -EFAULT;
	if (!copy_from_user(u, value, from, bytes))
		return 0;
	*value = 0;
	return -EFAULT;
}

int put_user(const struct uaccess *u, u64 value, u64 to, unsigned bytes)
{
	return is_size(bytes) && !copy_to_user(u, to, &value, bytes) ? 0 : -EFAULT;
}

/* Page by page, so that no byte is asked for behind the page that the NUL is in. */
s64 strncpy_from_user(const struct uaccess *u, char *to, u64 from, s64 n)
{
	s64 done = 0;

	while (done < n) {
		u64 at = from + (u64)done;
		u64 part = min_of((u64)(n - done), PAGE_SIZE - (at & (PAGE_SIZE - 1)));
		u64 left = access_ok(at, part)
				   ? u->kernel->ops->raw_copy_from_user(u->cpu, to + done, at, part)
				   : part;

		for (u64 i = 0; i < part - left; i++, done++)
			if (!to[done])
				return done;
		if (left)
			return -EFAULT;
	}
	return n;
}

int copy_from_user_nofault(const struct uaccess *u, void *to, u64 from, u64 n)
{
	u64 left;

	pagefault_disable(u->current);
	left = copy_from_user(u, to, from, n);
	pagefault_enable(u->current);
	return left ? -EFAULT : 0;
}

int copy_to_user_nofault(const struct uaccess *u, u64 to, const void *from, u64 n)
{
	u64 left;

	pagefault_disable(u->current);
	left = copy_to_user(u, to, from, n);
	pagefault_enable(u->current);
	return left ? -EFAULT : 0;
}
