/* SPDX-License-Identifier: MIT */
/* The link-time half of the machine contract on a host; see host.h. */
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/machine.h"
#include "machine/soft/host.h"

typedef void (*text_hook)(const char *text);

static _Atomic(text_hook) panic_hook;
static _Atomic(text_hook) message_hook;

void host_on_panic(text_hook hook)
{
	atomic_store(&panic_hook, hook);
}

void host_on_message(text_hook hook)
{
	atomic_store(&message_hook, hook);
}

u64 machine_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000u + t.tv_nsec;
}

unsigned machine_nr_cpus(void)
{
	static _Atomic unsigned known;
	unsigned n = atomic_load_explicit(&known, memory_order_relaxed);
	long configured;

	if (!n) {
		configured = sysconf(_SC_NPROCESSORS_CONF);
		n = configured > 0 ? configured : 1;
		atomic_store_explicit(&known, n, memory_order_relaxed);
	}
	return n;
}

unsigned machine_cpu(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 ? 0 : (unsigned)cpu % machine_nr_cpus();
}

u32 machine_thread_id(void)
{
	return (u32)gettid();
}

void machine_wait(_Atomic u32 *word, u32 expected)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void machine_wake(_Atomic u32 *word, u32 n)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

void machine_message(const char *text)
{
	text_hook hook = atomic_load(&message_hook);

	if (hook)
		hook(text);
	else
		fprintf(stderr, "vmfault: %s\n", text);
}

_Noreturn void machine_panic(const char *text)
{
	text_hook hook = atomic_load(&panic_hook);

	if (hook)
		hook(text);
	fprintf(stderr, "vmfault: panic: %s\n", text);
	abort();
}
