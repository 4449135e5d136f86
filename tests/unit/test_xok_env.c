/* SPDX-License-Identifier: MIT */
/* Environments of the exokernel, of Xok and of Aegis: time slices, exception stacks, their end. */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "systems/exokernel/aegis.h"
#include "systems/exokernel/exokernel.h"
#include "systems/exokernel/internal.h"
#include "tests/unit/unit.h"

#define FRAMES 1024ULL

static struct system *s;
static struct exokernel *x;
static struct xok *k;
static struct program *p;

static int setup(const struct system_type *type)
{
	struct system_options o = { .cpus = 2, .frames = FRAMES };

	if (ledger_create(o.cpus, &o.ledger) || type->create(type, &o, &s))
		return -1;
	x = exokernel_of(s);
	k = &x->xok;
	p = s->program;
	ledger_begin(o.ledger, 0);
	ledger_reset(o.ledger);
	return 0;
}

static int setup_xok(void **state)
{
	(void)state;
	return setup(&xok_system);
}

static int setup_aegis(void **state)
{
	(void)state;
	return setup(&aegis_system);
}

static int teardown(void **state)
{
	struct ledger *ledger = s->ledger;

	(void)state;
	p->ops->check(p);
	s->destroy(s);
	ledger_destroy(ledger);
	return 0;
}

static u64 map_pages(u64 n)
{
	const struct program_map a = { .len = n * PAGE_SIZE,
				       .prot = VM_READ | VM_WRITE,
				       .file = -1 };

	return (u64)p->ops->map(p, 0, &a);
}

static enum fault_reason write_word(unsigned cpu, u64 va, u64 word)
{
	return p->ops->access(p, cpu, va, PF_WRITE, &word, sizeof(word));
}

/* ---- exception stacks ---- */

/* A handler that touches the next page of the area before it has the library serve the fault. */
static struct {
	u64 end;
	xok_fault_fn fault;
	void *arg;
	unsigned deepest;
	bool wrong;
} nest;

static struct fault_result touches_first(void *arg, struct mm *mm, const struct xok_trap_frame *f)
{
	u64 next = (f->va & PAGE_MASK) + PAGE_SIZE;
	struct xok_trap_frame before = *f;

	(void)arg;
	nest.deepest = max_of(nest.deepest, (unsigned)f->level);
	if (next < nest.end)
		nest.wrong |= soft_write_u64(&k->machine->cpus[0], next, f->level) != FAULT_OK;
	nest.wrong |= memcmp(&before, f, sizeof(before)) != 0;
	return nest.fault(nest.arg, mm, f);
}

static void nest_in(u64 va, u64 pages)
{
	nest.end = va + pages * PAGE_SIZE;
	nest.fault = k->envs[0].fault;
	nest.arg = k->envs[0].arg;
	nest.deepest = 0;
	nest.wrong = false;
	assert_int_equal(xok_set_handler(k, 0, LIBRARY_CAP, 0, touches_first, NULL), 0);
	ledger_reset(s->ledger);
}

static void a_handler_that_faults_takes_the_next_level(void **state)
{
	u64 va = map_pages(XOK_NESTED), word;

	(void)state;
	nest_in(va, XOK_NESTED);
	assert_int_equal(write_word(0, va, 100), FAULT_OK);
	assert_false(nest.wrong);
	assert_int_equal(nest.deepest, XOK_NESTED - 1);
	assert_int_equal(ledger_sum(s->ledger, PAID_UPCALLS), XOK_NESTED);
	assert_int_equal(ledger_sum(s->ledger, PAID_EXCEPTIONS), XOK_NESTED);
	assert_int_equal(k->envs[0].levels[0], 0);
	/* What each wrote is there, and costs no fault any more. */
	for (u64 i = 1; i < XOK_NESTED; i++) {
		assert_int_equal(p->ops->access(p, 0, va + i * PAGE_SIZE, 0, &word, 8), FAULT_OK);
		assert_int_equal(word, i - 1);
	}
	xok_set_handler(k, 0, LIBRARY_CAP, 0, nest.fault, nest.arg);
}

static int fork_to_second_cpu(void)
{
	int err = p->ops->fork(p, 0, 1);

	if (!err)
		p->ops->run(p, 1, 1);
	return err;
}

static void who_has_no_stack_or_no_handler_is_killed(void **state)
{
	u64 va = map_pages(1);

	(void)state;
	assert_int_equal(write_word(0, va, 1), FAULT_OK);
	for (unsigned without = 0; without < 2; without++) {
		assert_int_equal(fork_to_second_cpu(), 0);
		if (without)
			k->envs[1].fault = NULL;
		else
			k->envs[1].stack[0] = 0;
		assert_int_equal(write_word(1, va, 2), FAULT_KILLED);
		assert_false(k->envs[1].used || k->envs[1].dying);
		p->ops->exit(p, 1);
	}
	assert_int_equal(write_word(0, va, 3), FAULT_OK);
}

/* Six levels for one handler deep are for the program, not for a handler one too deep. */
static void one_fault_too_deep_ends_a_child_and_nobody_else(void **state)
{
	u64 va = map_pages(XOK_NESTED + 1);
	struct soft_cpu *cpus = k->machine->cpus;

	(void)state;
	assert_int_equal(p->ops->fork(p, 0, 1), 0);
	p->ops->run(p, 0, 1);
	nest_in(va, XOK_NESTED + 1);
	assert_int_equal(xok_set_handler(k, 1, LIBRARY_CAP, 1, touches_first, NULL), 0);
	assert_int_equal(write_word(0, va, 1), FAULT_KILLED);
	assert_int_equal(soft_write_u64(&cpus[0], va, 1), FAULT_KILLED);
	xok_set_handler(k, 0, LIBRARY_CAP, 0, nest.fault, nest.arg);
	assert_int_equal(write_word(1, va, 1), FAULT_OK);
	p->ops->exit(p, 1);
	assert_int_equal(write_word(0, va, 1), FAULT_OK);
}

/* ---- time slices ---- */

static void the_next_in_the_vector_is_next(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(p->ops->fork(p, 0, i), 0);
		assert_int_equal(xok_take_slice(k, 0, LIBRARY_CAP, i, 0), 0);
	}
	assert_int_equal(xok_take_slice(k, 0, LIBRARY_CAP, 1, 0), -EEXIST);
	assert_int_equal(xok_take_slice(k, 0, LIBRARY_CAP, 4, 0), -EACCES);
	assert_int_equal(xok_take_slice(k, 0, LIBRARY_CAP, 1, 2),
			 -EACCES); /* there is no such CPU */
	assert_int_equal(xok_take_slice(k, 0, 5, 1, 1), -EBADF);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(xok_yield(k, 0, LIBRARY_CAP, 0, XOK_NOBODY), 0);
		assert_int_equal(xok_current(k, 0), i % 4);
	}
	assert_int_equal(xok_yield(k, 1, LIBRARY_CAP, 0, 3), 0);
	assert_int_equal(xok_current(k, 0), 3);
	assert_int_equal(xok_yield(k, 1, LIBRARY_CAP, 1, 3), -ENOENT);
	/* Who ends goes out of it, wherever it stands. */
	p->ops->exit(p, 2);
	assert_int_equal(xok_current(k, 0), 3);
	assert_int_equal(xok_env_destroy(k, 0, LIBRARY_CAP, 3), 0);
	assert_int_equal(xok_current(k, 0), 0);
	assert_int_equal(k->slices[0].n, 2);
	p->ops->exit(p, 3);
	p->ops->exit(p, 1);
	assert_int_equal(k->slices[0].n, 1);
	assert_int_equal(k->slices[1].n, 1);
}

/* ---- the end, at any moment ---- */

#define MANY 400ULL

static _Atomic u64 written;
static u64 area;

static void *write_until_killed(void *arg)
{
	enum fault_reason reason = FAULT_OK;

	(void)arg;
	for (u64 i = 0; reason == FAULT_OK && i < MANY; i++) {
		reason = write_word(1, area + i * PAGE_SIZE, i);
		atomic_store(&written, i);
	}
	ledger_begin(NULL, 0);
	return reason == FAULT_OK || reason == FAULT_KILLED ? NULL : (void *)1;
}

static void who_is_killed_on_another_cpu_leaves_nothing(void **state)
{
	u64 free;

	(void)state;
	area = map_pages(MANY);
	free = zone_free_pages(x->library.engine, ZONE_USER);
	for (u64 round = 0; round < 12; round++) {
		pthread_t thread;
		void *result;

		assert_int_equal(fork_to_second_cpu(), 0);
		atomic_store(&written, 0);
		assert_int_equal(pthread_create(&thread, NULL, write_until_killed, NULL), 0);
		while (atomic_load(&written) < 3 * round)
			sched_yield();
		assert_int_equal(xok_env_destroy(k, 0, LIBRARY_CAP, 1), 0);
		pthread_join(thread, &result);
		assert_null(result);
		assert_false(k->envs[1].used || k->envs[1].dying);
		assert_int_equal(write_word(1, area, 1), FAULT_KILLED);
		p->ops->exit(p, 1);
		p->ops->check(p);
		assert_int_equal(zone_free_pages(x->library.engine, ZONE_USER), free);
	}
}

static void a_stack_is_not_repossessed(void **state)
{
	u64 stack = k->envs[0].stack[0];

	(void)state;
	/* It is not asked, and not told. */
	k->holders[LIBRARY_RESOURCE].entries = NULL;
	assert_true(xok_revoke(k, LIBRARY_RESOURCE, k->nr_frames) < k->nr_frames);
	assert_int_equal(atomic_load(xok_owner(k, stack)), LIBRARY_RESOURCE);
	assert_int_equal(k->envs[0].stack[0], stack);
	library_read_vector(&x->library);
}

#define BOTH(f)                                                                                    \
	cmocka_unit_test_setup_teardown(f, setup_xok, teardown),                                   \
		cmocka_unit_test_setup_teardown(f, setup_aegis, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_handler_that_faults_takes_the_next_level),
		BOTH(who_has_no_stack_or_no_handler_is_killed),
		BOTH(one_fault_too_deep_ends_a_child_and_nobody_else),
		BOTH(the_next_in_the_vector_is_next),
		BOTH(who_is_killed_on_another_cpu_leaves_nothing),
		BOTH(a_stack_is_not_repossessed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
