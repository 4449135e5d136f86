/* SPDX-License-Identifier: MIT */
/* Linux's error numbers, which the engine returns negated. */
#ifndef VMF_BASE_ERRNO_H
#define VMF_BASE_ERRNO_H

#ifndef EPERM
#define EPERM	   1
#define ENOENT	   2
#define ESRCH	   3
#define EINTR	   4
#define EIO	   5
#define ENXIO	   6
#define EBADF	   9
#define EAGAIN	   11
#define ENOMEM	   12
#define EACCES	   13
#define EFAULT	   14
#define EBUSY	   16
#define EEXIST	   17
#define ENODEV	   19
#define EINVAL	   22
#define EFBIG	   27
#define ENOSPC	   28
#define ERANGE	   34
#define ENOSYS	   38
#define EBADMSG	   74
#define EOVERFLOW  75
#define EOPNOTSUPP 95
#define ETIMEDOUT  110
#define ESTALE	   116
#define EHWPOISON  133
#endif

#endif
