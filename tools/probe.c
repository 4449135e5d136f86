/* SPDX-License-Identifier: MIT */
/*
 * See probe.h.  For userfaultfd two questions: is there a userfaultfd that serves faults of the
 * kernel's own (system calls on absent pages), and does it have the features.  The second is asked
 * twice, since Linux tells the features to anybody but gives EVENT_FORK only to CAP_SYS_PTRACE.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine/linux/uffd_abi.h"
#include "tools/probe.h"
#include "tools/say.h"

static const struct feature {
	u64 bit;
	const char *name, *since;
} features_needed[] = {
	{ UFFD_FEATURE_EVENT_FORK, "EVENT_FORK", "4.11" },
	{ UFFD_FEATURE_EVENT_REMAP, "EVENT_REMAP", "4.11" },
	{ UFFD_FEATURE_EVENT_REMOVE, "EVENT_REMOVE", "4.11" },
	{ UFFD_FEATURE_EVENT_UNMAP, "EVENT_UNMAP", "4.11" },
	{ UFFD_FEATURE_THREAD_ID, "THREAD_ID", "4.14" },
	{ UFFD_FEATURE_MOVE, "MOVE", "6.8" },
};

unsigned missing_features(u64 features, char *names, size_t size)
{
	unsigned missing = 0;
	size_t at = 0;

	names[0] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(features_needed); i++) {
		const struct feature *f = &features_needed[i];

		if (features & f->bit)
			continue;
		at += snprintf(names + at, size - at, "%sUFFD_FEATURE_%s (Linux %s)",
			       missing ? ", " : "", f->name, f->since);
		at = min_of(at, size - 1);
		missing++;
	}
	return missing;
}

static bool has_ptrace_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return false;
	return data[0].effective & (1u << CAP_SYS_PTRACE);
}

/* A descriptor by the system call, or if that is forbidden the device, as the agent does; -1 with
 * errno of the system call. */
static int open_userfaultfd(void)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int err = errno, dev;

	if (fd >= 0 || err != EPERM)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(dev);
	}
	errno = err;
	return fd;
}

static void say_why_not_opened(int err)
{
	if (err == ENOSYS)
		say("this kernel has no userfaultfd (CONFIG_USERFAULTFD), or a container's filter "
		    "hides it");
	else if (err != EPERM)
		say("userfaultfd: %s", strerror(err));
	else if (has_ptrace_capability())
		say("userfaultfd is filtered here (seccomp): a container must allow the system "
		    "call or /dev/userfaultfd");
	else
		say("no permission for userfaultfd: be root, have CAP_SYS_PTRACE, or set sysctl "
		    "vm.unprivileged_userfaultfd=1");
}

static bool ask(u64 features, u64 *offered)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = open_userfaultfd();
	int err, saved;

	if (fd < 0)
		return false;
	err = ioctl(fd, UFFDIO_API, &api);
	saved = errno;
	close(fd);
	errno = saved;
	*offered = api.features;
	return err == 0;
}

bool probe_userfaultfd(void)
{
	char names[512];
	u64 offered = 0;

	if (!ask(0, &offered)) {
		say_why_not_opened(errno);
		return false;
	}
	if (missing_features(offered, names, sizeof(names))) {
		say("this kernel's userfaultfd lacks %s", names);
		return false;
	}
	if (!ask(UFFD_NEEDED, &offered)) {
		say("no permission for userfaultfd's EVENT_FORK: be root or have CAP_SYS_PTRACE");
		return false;
	}
	return true;
}

#define HUGE_SIZE (2UL << 20)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

bool probe_huge_pages(void)
{
	char *p = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	char *at = (char *)(((uintptr_t)p + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	bool known = true;

	/* That there is no memory in one piece just now says nothing. */
	if (p != MAP_FAILED) {
		*at = 1;
		known = madvise(at, HUGE_SIZE, MADV_COLLAPSE) == 0 || errno != EINVAL;
		munmap(p, 2 * HUGE_SIZE);
	}
	if (!known)
		say("--huge-pages keep: this kernel has no transparent huge pages "
		    "(CONFIG_TRANSPARENT_HUGEPAGE); leave it out");
	return known;
}
