/* SPDX-License-Identifier: MIT */
#include "machine/linux/uffd.h"
#include "engine/base/errno.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd_abi.h"

#include <fcntl.h>

static int uffd_new(void)
{
	long fd = sys(userfaultfd, O_CLOEXEC | O_NONBLOCK), dev;

	if (fd != -EPERM)
		return (int)fd;
	/* Not privileged; the device may be open to us all the same. */
	dev = sys(openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
	if (dev < 0)
		return -EPERM;
	fd = sys(ioctl, dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	sys(close, dev);
	return (int)fd;
}

int uffd_open(u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = uffd_new();
	long err;

	if (fd < 0)
		return fd;
	err = sys(ioctl, fd, UFFDIO_API, &api);
	if (err < 0) {
		sys(close, fd);
		return (int)err;
	}
	return fd;
}

int uffd_register(int fd, u64 start, u64 len)
{
	struct uffdio_register r = {
		.range = { .start = start, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return (int)sys(ioctl, fd, UFFDIO_REGISTER, &r);
}

int uffd_unregister(int fd, u64 start, u64 len)
{
	struct uffdio_range r = { .start = start, .len = len };

	return (int)sys(ioctl, fd, UFFDIO_UNREGISTER, &r);
}

s64 uffd_copy(int fd, u64 dst, const void *src, u64 len, bool wake)
{
	struct uffdio_copy c = { .dst = dst,
				 .src = (u64)src,
				 .len = len,
				 .mode = wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE };
	long err = sys(ioctl, fd, UFFDIO_COPY, &c);

	if (err == 0)
		return (s64)len;
	return c.copy > 0 ? c.copy : err;
}

int uffd_zeropage(int fd, u64 dst, u64 len)
{
	struct uffdio_zeropage z = { .range = { .start = dst, .len = len } };

	return (int)sys(ioctl, fd, UFFDIO_ZEROPAGE, &z);
}

s64 uffd_move(int fd, u64 dst, u64 src, u64 len)
{
	struct uffdio_move m = {
		.dst = dst,
		.src = src,
		.len = len,
		.mode = UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES | UFFDIO_MOVE_MODE_DONTWAKE,
	};
	long err = sys(ioctl, fd, UFFDIO_MOVE, &m);

	if (err == 0)
		return (s64)len;
	return m.move > 0 ? m.move : err;
}

void uffd_wake(int fd, u64 start, u64 len)
{
	struct uffdio_range r = { .start = start, .len = len };

	sys(ioctl, fd, UFFDIO_WAKE, &r);
}

int uffd_poison(int fd, u64 va)
{
	struct uffdio_poison p = { .range = { .start = va, .len = PAGE_SIZE } };

	return (int)sys(ioctl, fd, UFFDIO_POISON, &p);
}
