/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd's interface, with what Debian 12's <linux/userfaultfd.h> does not have yet:
 * UFFDIO_POISON (Linux 6.6) and UFFDIO_MOVE (6.8).  Probed at run time, never assumed.
 */
#ifndef VMF_LINUX_UFFD_ABI_H
#define VMF_LINUX_UFFD_ABI_H

#include <linux/ioctl.h>
#include <linux/userfaultfd.h>

#ifndef UFFDIO_MOVE
#define UFFD_FEATURE_POISON   (1 << 14)
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#define UFFD_FEATURE_MOVE     (1 << 16)
#define _UFFDIO_MOVE	      (0x05)
#define _UFFDIO_POISON	      (0x08)

struct uffdio_move {
	__u64 dst, src, len;
	__u64 mode;
	__s64 move; /* out: bytes moved, or a negative errno */
};
#define UFFDIO_MOVE_MODE_DONTWAKE	 ((__u64)1 << 0)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((__u64)1 << 1)
#define UFFDIO_MOVE			 _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)

struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC	    0xAA
#define USERFAULTFD_IOC_NEW _IO(USERFAULTFD_IOC, 0x00)
#endif

/* What `vmfault run` cannot do without. */
#define UFFD_NEEDED                                                                                \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
	 UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MOVE)

#endif
