/* SPDX-License-Identifier: MIT */
/*
 * The heap in the arena: what brk(2) moves is wherever the marks of the process say, and a process
 * may set its own (PR_SET_MM_MAP).  The areas that were the heap stay where they are.
 */
#include <linux/prctl.h>

#include "machine/linux/sys.h"
#include "tests/differential/runner.h"

/* For marks that only have to be addresses of user space. */
#define SOMEWHERE (16 * PAGE_SIZE)

bool heap_place(u64 data_bytes)
{
	u64 stack = (u64)__builtin_frame_address(0);
	struct prctl_mm_map map = {
		.start_code = SOMEWHERE,
		.end_code = SOMEWHERE + 1,
		.start_data = SOMEWHERE,
		.end_data = SOMEWHERE + data_bytes,
		.start_brk = HEAP_START,
		.brk = HEAP_START,
		.start_stack = stack,
		.arg_start = stack,
		.arg_end = stack,
		.env_start = stack,
		.env_end = stack,
		.exe_fd = ~0u,
	};

	return !sys(prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) &&
	       (u64)sys(brk, 0) == HEAP_START;
}

bool heap_moves(void)
{
	return (u64)sys(brk, HEAP_START + PAGE_SIZE) == HEAP_START + PAGE_SIZE &&
	       (u64)sys(brk, HEAP_START) == HEAP_START;
}
