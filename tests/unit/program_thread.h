/* SPDX-License-Identifier: MIT */
/* The program is a second thread, on the world's first CPU, and makes one access; the test is its
 * monitor. */
#ifndef VMF_TESTS_PROGRAM_THREAD_H
#define VMF_TESTS_PROGRAM_THREAD_H

#include <pthread.h>

#include "tests/unit/one_world.h"

static struct program {
	pthread_t thread;
	u64 va;
	bool write;
	u8 byte;
	enum fault_reason reason;
	_Atomic bool is_over;
} program;

static inline void *run_program(void *arg)
{
	struct program *p = arg;

	p->reason = p->write ? soft_write_byte(w.cpu, p->va, p->byte)
			     : soft_read_byte(w.cpu, p->va, &p->byte);
	atomic_store(&p->is_over, true);
	return NULL;
}

/* byte: what is written. */
static inline void begins_to(u64 va, bool write, u8 byte)
{
	program.va = va;
	program.write = write;
	program.byte = byte;
	atomic_store(&program.is_over, false);
	assert_int_equal(pthread_create(&program.thread, NULL, run_program, &program), 0);
}

static inline enum fault_reason is_done(void)
{
	pthread_join(program.thread, NULL);
	return program.reason;
}

static inline void has_done_it(void)
{
	assert_int_equal(is_done(), FAULT_OK);
}

#endif
