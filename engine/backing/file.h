/* SPDX-License-Identifier: MIT */
/* A file that is open, as an address space sees it. */
#ifndef VMF_BACKING_FILE_H
#define VMF_BACKING_FILE_H

#include "engine/base/types.h"

enum file_mode { FILE_READ = 1u << 0, FILE_WRITE = 1u << 1 };

struct file {
	_Atomic u32 refcount; /* one for each VMA, and for whoever has it open */
	u32 mode;	      /* enum file_mode: as it was opened */
};

#endif
