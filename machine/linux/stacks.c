/* SPDX-License-Identifier: MIT */
/*
 * Stacks of the program's threads are not managed.  libc makes them inside pthread_create(), so
 * that call is wrapped and every new thread says where its stack is before it runs.
 */
#include "machine/linux/agent.h"
#include "machine/linux/signals.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#define MAX_STACKS 4096

static struct {
	spinlock_t lock;
	unsigned nr; /* entries in use or used before */
	struct {
		u64 start, end; /* 0, 0: free */
		bool mapped;	/* as a stack: stays one, in libc's cache, when its thread ends */
	} stack[MAX_STACKS];
} stacks;

/* Signals wait: a handler may map memory itself, or stop its thread while another one maps some (as
 * garbage collectors do). */
static u64 lock(void)
{
	u64 mask = signals_block();

	spin_lock(&stacks.lock);
	return mask;
}

static void unlock(u64 mask)
{
	spin_unlock(&stacks.lock);
	signals_restore(mask);
}

static int stack_add(u64 start, u64 end, bool mapped)
{
	u64 mask = lock();
	int at = -1;

	for (unsigned i = 0; i < stacks.nr && at < 0; i++) {
		if (!stacks.stack[i].end)
			at = (int)i;
	}
	if (at < 0 && stacks.nr < MAX_STACKS)
		at = (int)stacks.nr++;
	if (at >= 0) {
		stacks.stack[at].start = start;
		atomic_signal_fence(memory_order_seq_cst);
		stacks.stack[at].end = end;
		stacks.stack[at].mapped = mapped;
	}
	unlock(mask);
	return at;
}

bool stacks_overlap(u64 start, u64 end, u64 *from, u64 *to)
{
	bool found = false;
	u64 mask;

	if (!stacks.nr)
		return false;
	mask = lock();
	for (unsigned i = 0; i < stacks.nr; i++) {
		u64 s = stacks.stack[i].start, e = stacks.stack[i].end;

		if (s < end && e > start && (!found || s < *from)) {
			*from = s;
			*to = e;
			found = true;
		}
	}
	unlock(mask);
	return found;
}

void stacks_reset(void)
{
	spin_init(&stacks.lock);
}

void stacks_mapped(u64 start, u64 end)
{
	stacks_unmapped(start, end);
	stack_add(start, end, true);
}

void stacks_unmapped(u64 start, u64 end)
{
	u64 mask;

	if (!stacks.nr)
		return;
	mask = lock();
	for (unsigned i = 0; i < stacks.nr; i++) {
		if (stacks.stack[i].mapped && stacks.stack[i].start < end &&
		    stacks.stack[i].end > start)
			stacks.stack[i].start = stacks.stack[i].end = 0;
	}
	unlock(mask);
}

u64 stacks_bytes(void)
{
	u64 bytes = 0, mask = lock();

	for (unsigned i = 0; i < stacks.nr; i++)
		bytes += stacks.stack[i].end - stacks.stack[i].start;
	unlock(mask);
	return bytes;
}

struct start {
	void *(*fn)(void *);
	void *arg;
};

static int note_own_stack(void)
{
	pthread_attr_t attr;
	void *base = NULL;
	size_t size = 0;
	u64 from, to;

	if (pthread_getattr_np(pthread_self(), &attr))
		return -1;
	pthread_attr_getstack(&attr, &base, &size);
	pthread_attr_destroy(&attr);
	if (stacks_overlap((u64)base, (u64)base + size, &from, &to))
		return -1;
	return stack_add((u64)base & PAGE_MASK, PAGE_ALIGN((u64)base + size), false);
}

static void stack_gone(void *index)
{
	u64 i = (u64)index, mask = lock();

	stacks.stack[i].end = 0; /* first: a fork may copy the entry as it is half done */
	atomic_signal_fence(memory_order_seq_cst);
	stacks.stack[i].start = 0;
	unlock(mask);
}

static void *start_thread(void *p)
{
	struct start start = *(struct start *)p;
	void *result;
	int index;

	free(p);
	index = note_own_stack();
	if (index < 0)
		return start.fn(start.arg);
	/* libc keeps the stack of a thread that ended for the next one, which says so again. */
	pthread_cleanup_push(stack_gone, (void *)(u64)index);
	result = start.fn(start.arg);
	pthread_cleanup_pop(1);
	return result;
}

__attribute__((visibility("default"))) int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	struct start *start = malloc(sizeof *start);
	int err;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	if (!start)
		return real(thread, attr, fn, arg);
	start->fn = fn;
	start->arg = arg;
	err = real(thread, attr, start_thread, start);
	if (err)
		free(start);
	return err;
}
