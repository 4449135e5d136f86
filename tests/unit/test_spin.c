/* SPDX-License-Identifier: MIT */
/* SPIN's dispatcher, and SPIN with several spaces and extensions. */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "systems/lab.h"
#include "systems/spin/spin.h"
#include "tests/unit/unit.h"

/* ---- the dispatcher alone ---- */

static struct spin_dispatcher *d;
static u64 imposed_on_all; /* by the authorizer; SPIN_ANY_KEY: what is asked for */
static int refused;

static int authorize(void *arg, const struct spin_installation *i, u64 *imposed)
{
	(void)arg;
	*imposed = imposed_on_all == SPIN_ANY_KEY ? i->key : imposed_on_all;
	return refused;
}

static int setup(void **state)
{
	(void)state;
	imposed_on_all = SPIN_ANY_KEY;
	refused = 0;
	return spin_dispatcher_create(authorize, NULL, &d);
}

static int teardown(void **state)
{
	(void)state;
	spin_dispatcher_destroy(d);
	return 0;
}

static char ran[64];
static unsigned nr_ran;

static void note(void *closure, struct spin_fault *f)
{
	(void)f;
	ran[nr_ran++ % sizeof(ran)] = *(const char *)closure;
	ran[nr_ran % sizeof(ran)] = '\0';
}

static bool is_even(void *closure, const struct spin_fault *f)
{
	(void)closure;
	return f->va % 2 == 0;
}

static s64 install(char *name, enum spin_order order, u64 key, spin_guard_fn guard)
{
	struct spin_installation i = { .extension = 3,
				       .order = order,
				       .event = SPIN_PROTECTION_FAULT,
				       .handler = note,
				       .guard = guard,
				       .closure = name,
				       .key = key };

	return spin_install(d, &i);
}

static const char *raise_for(u64 key, u64 va)
{
	struct spin_fault f = { .key = key, .va = va };
	unsigned n;

	nr_ran = 0;
	ran[0] = '\0';
	n = spin_raise(d, SPIN_PROTECTION_FAULT, &f);
	assert_int_equal(n, nr_ran);
	return ran;
}

static void handlers_run_in_order_where_guards_allow(void **state)
{
	struct spin_fault f = { .key = 1 };

	(void)state;
	install("c", SPIN_LAST, SPIN_ANY_KEY, NULL);
	install("b", SPIN_NORMAL, SPIN_ANY_KEY, is_even);
	install("a", SPIN_FIRST, SPIN_ANY_KEY, NULL);
	install("B", SPIN_NORMAL, 2, NULL);
	assert_string_equal(raise_for(1, 4), "abc");
	assert_string_equal(raise_for(1, 5), "ac");
	assert_string_equal(raise_for(2, 4), "abBc");
	assert_int_equal(spin_raise(d, SPIN_ACCESS_VIOLATION, &f), 0);
	assert_int_equal(install("a", NR_SPIN_ORDERS, 1, NULL), -EINVAL);
}

static void the_authorizer_refuses_and_imposes(void **state)
{
	(void)state;
	refused = -EACCES;
	assert_int_equal(install("a", SPIN_NORMAL, 1, NULL), -EACCES);
	refused = 0;
	imposed_on_all = 9;
	assert_true(install("a", SPIN_NORMAL, SPIN_ANY_KEY, NULL) > 0);
	assert_string_equal(raise_for(1, 0), "");
	assert_string_equal(raise_for(9, 0), "a");
}

static void handles_are_checked(void **state)
{
	s64 first = install("a", SPIN_NORMAL, 1, NULL), again;

	(void)state;
	assert_int_equal(spin_uninstall(d, 4, first), -EACCES);
	assert_int_equal(spin_uninstall(d, 3, first + 1), -EBADF);
	assert_int_equal(spin_uninstall(d, 3, 0), -EBADF);
	assert_int_equal(spin_uninstall(d, 3, -1), -EBADF);
	assert_int_equal(spin_uninstall(d, 3, 1LL << 60), -EBADF);
	assert_int_equal(spin_uninstall(d, 3, first), 0);
	assert_int_equal(spin_uninstall(d, 3, first), -EBADF);
	assert_string_equal(raise_for(1, 0), "");
	again = install("b", SPIN_NORMAL, 1, NULL);
	assert_int_not_equal(again, first); /* in the same place */
	assert_int_equal(spin_uninstall(d, 3, first), -EBADF);
	assert_string_equal(raise_for(1, 0), "b");
}

static void there_is_an_end_to_installing(void **state)
{
	unsigned n = 0;

	(void)state;
	while (install("a", SPIN_NORMAL, 1, NULL) > 0)
		n++;
	assert_int_equal(n, SPIN_BINDINGS);
	assert_int_equal(install("a", SPIN_NORMAL, 1, NULL), -ENOSPC);
}

static s64 install_at(enum spin_event event, enum spin_order order)
{
	struct spin_installation i = {
		.extension = 3, .order = order, .event = event, .handler = note, .closure = "z"
	};

	return spin_install(d, &i);
}

/* Whoever had it before, for whatever event. */
static void a_binding_is_free_when_its_handler_is_gone(void **state)
{
	s64 handles[SPIN_BINDINGS];

	(void)state;
	for (unsigned event = 0; event < NR_SPIN_EVENTS; event++)
		for (unsigned order = 0; order < NR_SPIN_ORDERS; order++) {
			for (unsigned i = 0; i < SPIN_BINDINGS; i++) {
				handles[i] = install_at(event, order);
				assert_true(handles[i] > 0);
			}
			assert_int_equal(install_at(event, order), -ENOSPC);
			for (unsigned i = 0; i < SPIN_BINDINGS; i++)
				assert_int_equal(spin_uninstall(d, 3, handles[i]), 0);
		}
}

static void order_stays_when_one_in_the_middle_goes(void **state)
{
	s64 middle;

	(void)state;
	install("a", SPIN_NORMAL, 1, NULL);
	middle = install("b", SPIN_NORMAL, 1, NULL);
	install("c", SPIN_NORMAL, 1, NULL);
	spin_uninstall(d, 3, middle);
	assert_string_equal(raise_for(1, 0), "ac");
	install("d", SPIN_NORMAL, 1, NULL); /* in the place of b */
	assert_string_equal(raise_for(1, 0), "acd");
}

/* ---- a handler that does not end ---- */

static _Atomic bool inside, let_go;
static _Atomic unsigned entered;

static void run_away(void *closure, struct spin_fault *f)
{
	(void)closure, (void)f;
	atomic_fetch_add(&entered, 1);
	atomic_store(&inside, true);
	while (!atomic_load(&let_go))
		sched_yield();
}

static void *raise_once(void *arg)
{
	struct spin_fault f = { .key = 1 };

	(void)arg;
	spin_raise(d, SPIN_INVALID_TRANSLATION, &f);
	return NULL;
}

static void who_does_not_end_is_not_waited_for_for_ever(void **state)
{
	struct spin_installation i = { .extension = 3,
				       .event = SPIN_INVALID_TRANSLATION,
				       .order = SPIN_NORMAL,
				       .handler = run_away };
	struct spin_fault f = { .key = 1 };
	s64 handle = spin_install(d, &i);
	pthread_t thread;
	unsigned n = 0;

	(void)state;
	pthread_create(&thread, NULL, raise_once, NULL);
	while (!atomic_load(&inside))
		sched_yield();
	assert_int_equal(spin_uninstall(d, 3, handle), -EBUSY);
	/* Nobody else comes to run it, and its binding is nobody else's. */
	assert_int_equal(spin_raise(d, SPIN_INVALID_TRANSLATION, &f), 0);
	while (install("a", SPIN_NORMAL, 1, NULL) > 0)
		n++;
	assert_int_equal(n, SPIN_BINDINGS - 1);
	atomic_store(&let_go, true);
	pthread_join(thread, NULL);
	assert_int_equal(entered, 1);
	assert_int_equal(spin_uninstall(d, 3, handle), 0);
	assert_int_equal(spin_uninstall(d, 3, handle), -EBADF);
	assert_true(install("a", SPIN_NORMAL, 1, NULL) > 0);
}

/* ---- raising while others come and go ---- */

static _Atomic bool gone, end;
static _Atomic unsigned after_gone, runs;

static void must_not_be_gone(void *closure, struct spin_fault *f)
{
	(void)closure, (void)f;
	atomic_fetch_add(&runs, 1);
	if (atomic_load(&gone))
		atomic_fetch_add(&after_gone, 1);
}

static void *raise_on(void *arg)
{
	struct spin_fault f = { .key = 1 };

	(void)arg;
	while (!atomic_load(&end))
		spin_raise(d, SPIN_INVALID_TRANSLATION, &f);
	return NULL;
}

static void nobody_runs_a_handler_that_was_taken_away(void **state)
{
	struct spin_installation i = { .event = SPIN_INVALID_TRANSLATION,
				       .order = SPIN_NORMAL,
				       .handler = must_not_be_gone };
	pthread_t threads[3];

	(void)state;
	for (unsigned k = 0; k < 3; k++)
		pthread_create(&threads[k], NULL, raise_on, NULL);
	for (unsigned k = 0; k < 300; k++) {
		unsigned before = atomic_load(&runs);
		s64 handle;

		atomic_store(&gone, false);
		handle = spin_install(d, &i);
		while (atomic_load(&runs) == before)
			;
		spin_uninstall(d, 0, handle);
		atomic_store(&gone, true);
	}
	atomic_store(&end, true);
	for (unsigned k = 0; k < 3; k++)
		pthread_join(threads[k], NULL);
	assert_int_equal(after_gone, 0);
}

/* ---- the system ---- */

#define AT 0x20000000ULL

static struct system *make(struct ledger **ledger)
{
	struct system_options o = { .cpus = 1, .frames = 256 };
	struct system *s;

	assert_int_equal(ledger_create(1, &o.ledger), 0);
	assert_int_equal(spin_system.create(&spin_system, &o, &s), 0);
	*ledger = o.ledger;
	return s;
}

static void map_at(struct system *s, u64 len)
{
	struct program_map map = {
		.addr = AT, .len = len, .prot = VM_READ | VM_WRITE, .flags = VMAP_FIXED, .file = -1
	};

	assert_int_equal(s->program->ops->map(s->program, 0, &map), AT);
}

static u64 guards_of_a_fault(struct system *s, u64 va)
{
	u8 byte = 1;

	system_measure(s);
	assert_int_equal(s->program->ops->access(s->program, 0, va, PF_WRITE, &byte, 1), FAULT_OK);
	system_measured(s);
	return s->total[PAID_GUARDS];
}

/* The published relation: what a fault costs grows with every handler that is installed. */
static void guards_grow_with_installed_handlers(void **state)
{
	struct ledger *ledger;
	struct system *s = make(&ledger);
	struct spin_installation i = { .extension = 5,
				       .event = SPIN_INVALID_TRANSLATION,
				       .order = SPIN_NORMAL,
				       .handler = note,
				       .closure = "x" };
	u64 before;

	(void)state;
	map_at(s, 16 * PAGE_SIZE);
	assert_int_equal(s->program->ops->fork(s->program, 0, 2), 0);
	spin_give_space(s, 2, 5);
	i.key = spin_key_of(s, 2);
	before = guards_of_a_fault(s, AT + 15 * PAGE_SIZE);
	nr_ran = 0;
	for (unsigned n = 1; n < 10; n++) {
		assert_true(spin_install(spin_dispatcher_of(s), &i) > 0);
		assert_int_equal(guards_of_a_fault(s, AT + n * PAGE_SIZE), before + n);
		assert_int_equal(s->total[PAID_HANDLERS], 2);
	}
	assert_int_equal(nr_ran, 0); /* none of them is for this space */
	s->destroy(s);
	ledger_destroy(ledger);
}

/* An extension that has every fault of its space first, and leaves it to AddressSpace. */
static void an_extension_sees_its_own_space_only(void **state)
{
	struct ledger *ledger;
	struct system *s = make(&ledger);
	struct spin_installation i = { .extension = 5,
				       .event = SPIN_INVALID_TRANSLATION,
				       .order = SPIN_FIRST,
				       .handler = note,
				       .closure = "x" };
	u8 byte = 1;

	(void)state;
	map_at(s, 2 * PAGE_SIZE);
	assert_int_equal(s->program->ops->fork(s->program, 0, 1), 0);
	i.key = spin_key_of(s, 1);
	assert_int_equal(spin_install(spin_dispatcher_of(s), &i), -EACCES);
	spin_give_space(s, 1, 5);
	assert_true(spin_install(spin_dispatcher_of(s), &i) > 0);
	nr_ran = 0;
	assert_int_equal(s->program->ops->access(s->program, 0, AT, PF_WRITE, &byte, 1), FAULT_OK);
	assert_int_equal(nr_ran, 0);
	s->program->ops->run(s->program, 0, 1);
	assert_int_equal(s->program->ops->access(s->program, 0, AT, PF_WRITE, &byte, 1), FAULT_OK);
	assert_int_equal(nr_ran, 1);
	assert_int_equal(s->program->ops->access(s->program, 0, AT, 0, &byte, 1), FAULT_OK);
	assert_int_equal(byte, 1);
	s->destroy(s);
	ledger_destroy(ledger);
}

#define alone(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		alone(handlers_run_in_order_where_guards_allow),
		alone(the_authorizer_refuses_and_imposes),
		alone(handles_are_checked),
		alone(there_is_an_end_to_installing),
		alone(a_binding_is_free_when_its_handler_is_gone),
		alone(order_stays_when_one_in_the_middle_goes),
		alone(who_does_not_end_is_not_waited_for_for_ever),
		alone(nobody_runs_a_handler_that_was_taken_away),
		cmocka_unit_test(guards_grow_with_installed_handlers),
		cmocka_unit_test(an_extension_sees_its_own_space_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
