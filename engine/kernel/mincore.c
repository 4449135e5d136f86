/* SPDX-License-Identifier: MIT */
/* mincore(2); mincore.h.  Area by area: between two the program's memory is touched, no lock held.
 */
#include "engine/kernel/mincore.h"

#include "engine/base/errno.h"
#include "engine/space/calls.h"

s64 sys_mincore(const struct uaccess *u, u64 addr, u64 len, u64 vec)
{
	u64 pages = (len >> PAGE_SHIFT) + !PAGE_ALIGNED(len);
	u8 bytes[PAGE_SIZE];

	if (!PAGE_ALIGNED(addr))
		return -EINVAL;
	if (!access_ok(addr, len))
		return -ENOMEM;
	if (!access_ok(vec, pages))
		return -EFAULT;
	while (pages) {
		s64 n = mincore_area(u->current->mm, addr, min_of(pages, PAGE_SIZE), bytes);

		if (n < 0)
			return n;
		if (copy_to_user(u, vec, bytes, (u64)n))
			return -EFAULT;
		pages -= (u64)n;
		vec += (u64)n;
		addr += (u64)n << PAGE_SHIFT;
	}
	return 0;
}
