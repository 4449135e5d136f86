/* SPDX-License-Identifier: MIT */
/* The machine contract's link-time half, for threads that must not call libc. */
#include "machine/linux/agent.h"
#include "engine/base/errno.h"
#include "machine/linux/place.h"
#include "machine/linux/sys.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

u64 machine_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts); /* the vDSO's: no system call, no errno */
	return (u64)ts.tv_sec * 1000000000ULL + (u64)ts.tv_nsec;
}

unsigned machine_cpu(void)
{
	unsigned aux;

	/* Linux keeps the CPU's number there, below its node's: what the vDSO's getcpu() reads. */
	__builtin_ia32_rdtscp(&aux);
	return aux & 0xfff;
}

unsigned machine_nr_cpus(void)
{
	static unsigned n;
	cpu_set_t set;
	long bytes;

	if (!n) {
		bytes = sys(sched_getaffinity, 0, sizeof set, &set);
		for (long i = 0; i < bytes * 8; i++)
			n += CPU_ISSET((size_t)i, &set) != 0;
	}
	return n ? n : 1;
}

u32 machine_thread_id(void)
{
	return (u32)sys(gettid);
}

/* Nobody holds a lock of the engine for so long, but who does not get a CPU. */
#define LONG_WAIT_NS (2 * 1000 * 1000)

void machine_wait(_Atomic u32 *word, u32 expected)
{
	struct timespec most = { .tv_nsec = LONG_WAIT_NS };

	if (sys(futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, &most) == -ETIMEDOUT)
		place_waits_long();
}

void machine_wake(_Atomic u32 *word, u32 n)
{
	sys(futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n);
}

void machine_message(const char *text)
{
	agent_warn(text);
}

_Noreturn void machine_panic(const char *text)
{
	long pid = sys(getpid);

	agent_warn(text);
	for (;;)
		sys(kill, pid, SIGABRT);
}
