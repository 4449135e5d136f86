/* SPDX-License-Identifier: MIT */
#include "systems/windows/bugcheck.h"

#include "engine/base/errno.h"

/* So that who is refused by a system call and who stops the kernel can be told of in one way. */
static int errno_of(enum bugcheck_code code)
{
	switch (code) {
	case NO_BUGCHECK:
		return 0;
	case IRQL_NOT_LESS_OR_EQUAL:
	case IRQL_NOT_GREATER_OR_EQUAL:
		return -EPERM;
	case DRIVER_IRQL_NOT_LESS_OR_EQUAL:
	case ATTEMPTED_WRITE_TO_READONLY_MEMORY:
	case ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY:
		return -EACCES;
	case PAGE_FAULT_IN_NONPAGED_AREA:
		return -EFAULT;
	case KERNEL_DATA_INPAGE_ERROR:
		return -EIO;
	case NO_PAGES_AVAILABLE:
		return -ENOMEM;
	case SPIN_LOCK_ALREADY_OWNED:
		return -EBUSY;
	case UNEXPECTED_KERNEL_MODE_TRAP:
		return -EOVERFLOW;
	case SPIN_LOCK_NOT_OWNED:
	case MEMORY_MANAGEMENT:
	case BAD_POOL_CALLER:
		return -EINVAL;
	}
	return -EINVAL;
}

int bugcheck_raise(struct bugcheck *b, enum bugcheck_code code, const u64 parameter[4])
{
	u32 running = NO_BUGCHECK;

	if (atomic_compare_exchange_strong(&b->code, &running, code))
		for (unsigned i = 0; i < 4; i++)
			b->parameter[i] = parameter[i];
	return bugcheck_errno(b);
}

int bugcheck_errno(const struct bugcheck *b)
{
	return errno_of(atomic_load(&b->code));
}
