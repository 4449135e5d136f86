/* SPDX-License-Identifier: MIT */
/*
 * pread(2) and pwrite(2): between a file and the program's memory.
 *
 * Page by page of the file, through a page of the kernel's: no page of the file is locked while the
 * program's memory is touched, for that may be the same page.  What was copied before an error
 * counts.
 */
#ifndef VMF_KERNEL_RW_H
#define VMF_KERNEL_RW_H

#include "engine/backing/file.h"
#include "engine/kernel/uaccess.h"

/* n bytes from pos on to the program's memory at `to`, and the other way.  Bytes done, or -EBADF
 * (not open for that), -EINVAL (pos beyond all files), -EFAULT (not the program's memory, or none
 * that can be had), or as file_read() and file_write().  No lock held. */
s64 vfs_read(const struct uaccess *u, struct file *file, u64 to, u64 n, u64 pos);
s64 vfs_write(const struct uaccess *u, struct file *file, u64 from, u64 n, u64 pos);

#endif
