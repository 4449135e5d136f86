/* SPDX-License-Identifier: MIT */
/* userfaultfd: each event, who waits until it is read, and faults that come too late. */
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/userfault/hooks.h"
#include "tests/unit/userfault_world.h"

static struct call {
	pthread_t thread;
	enum { CALL_UNMAP, CALL_REMAP, CALL_ADVISE, CALL_FORK, CALL_MAP } what;
	u64 at, len, to, new_len;
	s64 result;
	struct mm *child;
} call;

static void *run_call(void *arg)
{
	struct call *c = arg;

	switch (c->what) {
	case CALL_UNMAP:
		c->result = vm_unmap(mm, c->at, c->len);
		break;
	case CALL_REMAP:
		c->result = vm_remap(mm, c->at, c->len, c->new_len, VREMAP_MAYMOVE | VREMAP_FIXED,
				     c->to);
		break;
	case CALL_ADVISE:
		c->result = vm_advise(mm, c->at, c->len, VADV_DONTNEED);
		break;
	case CALL_FORK:
		c->result = mm_fork(mm, &c->child);
		break;
	case CALL_MAP:
		c->result = vm_map(mm, c->at, c->len, RW, VMAP_FIXED, 0);
		break;
	}
	return NULL;
}

static void begins_call(struct call c)
{
	call = c;
	assert_int_equal(pthread_create(&call.thread, NULL, run_call, &call), 0);
}
static void has_returned(s64 result)
{
	pthread_join(call.thread, NULL);
	assert_int_equal(call.result, result);
}

static struct userfault_msg expect_event(enum uapi_uffd_event event)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, false), 1);
	assert_int_equal(msg.event, event);
	return msg;
}

static void wait_for_event(void)
{
	while (!userfaultfd_poll(ctx, true))
		sched_yield();
}

static void expect_unmap(unsigned page, unsigned n)
{
	struct userfault_msg msg = expect_event(UAPI_UFFD_EVENT_UNMAP);

	assert_int_equal(msg.arg.remove.start, AT(page));
	assert_int_equal(msg.arg.remove.end, AT(page + n));
}

static void an_unmapping_is_told_and_waits_to_be_read(void **state)
{
	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_UNMAP);
	map(0, 8, RW);
	assert_int_equal(reg(2, 4, MISSING), 0);
	begins_call((struct call){ .what = CALL_UNMAP, .at = AT(1), .len = P(2) });
	wait_for_event();
	assert_int_equal(copy(4, 1, 1), -EAGAIN);
	assert_int_equal(done, -EAGAIN);
	assert_int_equal(zeropage(4, 1), -EAGAIN);
	assert_int_equal(move(4, 7, 1), -EAGAIN);
	assert_int_equal(protect(4, 1), -EAGAIN);
	assert_int_equal(continue_mode(4, 1, 0), -EAGAIN);
	assert_int_equal(userfaultfd_poison(ctx, AT(4), P(1), 0, &done), -EAGAIN);
	expect_unmap(1, 2);
	has_returned(0);
	assert_int_equal(copy(4, 1, 1), 0);
	begins_call((struct call){ .what = CALL_MAP, .at = AT(3), .len = P(1) });
	expect_unmap(3, 1);
	has_returned(AT(3));
	/* Two areas, and one event. */
	assert_int_equal(vm_protect(mm, AT(5), P(1), VM_READ), 0);
	begins_call((struct call){ .what = CALL_UNMAP, .at = AT(4), .len = P(2) });
	expect_unmap(4, 2);
	has_returned(0);
	begins_call((struct call){ .what = CALL_UNMAP, .at = AT(7), .len = P(1) });
	has_returned(0); /* not registered: nobody is told */
	expect_nothing();
}

static void a_removal_is_told_before_it_happens(void **state)
{
	struct userfault_msg msg;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_REMOVE);
	map(0, 4, RW);
	put(1, 5);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_call((struct call){ .what = CALL_ADVISE, .at = AT(1), .len = P(2) });
	wait_for_event();
	assert_int_equal(get(1), 5);
	assert_int_equal(copy(2, 1, 1), -EAGAIN);
	msg = expect_event(UAPI_UFFD_EVENT_REMOVE);
	assert_int_equal(msg.arg.remove.start, AT(1));
	assert_int_equal(msg.arg.remove.end, AT(3));
	has_returned(0);
	begins_to_read(1);
	expect_fault(1, 0);
	assert_int_equal(copy(1, 1, 6), 0);
	has_read(6);
}

static void a_move_is_told_and_keeps_the_context(void **state)
{
	struct userfault_msg msg;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_REMAP);
	map(0, 4, RW);
	put(1, 5);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(protect(1, 1), 0);
	begins_call((struct call){
		.what = CALL_REMAP, .at = AT(0), .len = P(4), .new_len = P(4), .to = AT(16) });
	msg = expect_event(UAPI_UFFD_EVENT_REMAP);
	assert_int_equal(msg.arg.remap.from, AT(0));
	assert_int_equal(msg.arg.remap.to, AT(16));
	assert_int_equal(msg.arg.remap.len, P(4));
	has_returned(AT(16));
	begins_to_read(18);
	expect_fault(18, 0);
	assert_int_equal(copy(18, 1, 6), 0);
	has_read(6);
	expect_protected(17);
}

/* The marks go with the context, and with nothing else: the first write faults, as in Linux. */
static void what_moves_untold_faults_at_its_first_write(void **state)
{
	u64 faults;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	put(1, 5);
	assert_int_equal(reg(0, 4, WP), 0);
	assert_int_equal(protect(1, 1), 0);
	assert_int_equal(
		do_mremap(mm, AT(0), P(4), P(4), UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, AT(16)),
		AT(16));
	assert_false(pte_uffd_wp(pte_peek(mm, AT(17))));
	assert_false(pte_write(pte_peek(mm, AT(17))));
	faults = mm->minor;
	put(17, 6);
	assert_int_equal(mm->minor, faults + 1);
	put(17, 7);
	assert_int_equal(mm->minor, faults + 1);
}

static void a_move_that_is_not_told_loses_the_context(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(1, 1), 0);
	begins_call((struct call){
		.what = CALL_REMAP, .at = AT(0), .len = P(4), .new_len = P(4), .to = AT(16) });
	has_returned(AT(16));
	assert_false(pte_uffd_wp(entry(17)));
	put(17, 5);
	assert_int_equal(protect(16, 1), -ENOENT);
}

static void a_child_has_a_context_of_its_own_if_asked(void **state)
{
	struct userfault_msg msg;
	struct userfaultfd_ctx *parent;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	map(0, 4, RW);
	map(8, 4, RW);
	put(1, 5);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(reg(8, 4, MISSING), 0);
	assert_int_equal(protect(1, 1), 0);
	begins_call((struct call){ .what = CALL_FORK });
	wait_for_event();
	assert_int_equal(copy(2, 1, 1), -EAGAIN);
	msg = expect_event(UAPI_UFFD_EVENT_FORK);
	has_returned(0);
	expect_nothing(); /* one event for both */
	parent = ctx;
	ctx = msg.arg.fork.ctx;
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	begins_to_read(2);
	expect_fault(2, 0);
	assert_int_equal(copy(2, 1, 9), 0);
	has_read(9);
	expect_protected(1);
	begins_to_read(9);
	expect_fault(9, 0);
	assert_int_equal(zeropage(9, 1), 0);
	has_read(0);
	soft_load_mm(w.cpu, NULL);
	close_ctx();
	mm_destroy(call.child);
	ctx = parent;
	w.cpu = &w.m->cpus[0];
	assert_int_equal(get(1), 5);
	expect_protected(1);
}

static void a_child_that_is_not_told_of_is_served_by_nobody(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(0, 2), 0);
	assert_int_equal(mm_fork(mm, &call.child), 0);
	assert_true(pte_uffd_wp(entry(0)));
	assert_true(pte_mapped(entry_of(call.child, 0)) && !pte_uffd_wp(entry_of(call.child, 0)));
	soft_check(w.m);
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	put(0, 9);
	soft_load_mm(w.cpu, NULL);
	w.cpu = &w.m->cpus[0];
	mm_destroy(call.child);
	expect_protected(0);
}

/* Nobody will ever read it: whoever waits goes on, and the child is nobody's. */
static void closing_lets_go_who_waits_for_an_event_to_be_read(void **state)
{
	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_call((struct call){ .what = CALL_FORK });
	wait_for_event();
	close_ctx();
	has_returned(0);
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	assert_int_equal(get(1), 0);
	soft_load_mm(w.cpu, NULL);
	w.cpu = &w.m->cpus[0];
	mm_destroy(call.child);
}

/* A fault that is late: what it saw is not so any more when it comes to be told of. */
static unsigned late_fault(unsigned page, u32 reason)
{
	struct fault_result res = { 0 };
	struct vm_fault_info vmf = { .address = AT(page),
				     .real_address = AT(page),
				     .flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_USER,
				     .res = &res };
	unsigned ret;

	down_read(&mm->mmap_lock);
	vmf.vma = find_vma(mm, AT(page));
	vmf.ptep = pte_find(mm, AT(page), &vmf.ptl);
	ret = handle_userfault(&vmf, reason);
	assert_true(ret == VM_FAULT_RETRY && vmf.unlocked);
	assert_false(rwsem_is_locked(&mm->mmap_lock));
	return ret;
}

/* Nobody would wake it: it must not sleep.  (If it does, this test does not end.) */
static void what_was_served_before_it_was_queued_does_not_wait(void **state)
{
	struct mm *child;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	map(0, 4, RW);
	put(0, 1);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(copy(1, 1, 7), 0);
	late_fault(1, VM_UFFD_MISSING);
	assert_int_equal(userfaultfd_poison(ctx, AT(2), P(1), 0, &done), 0);
	late_fault(2, VM_UFFD_MISSING);
	/* Not marked any more, and shared, so that it does not allow writing yet. */
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(protect(0, 1), 0);
	assert_int_equal(unprotect(0, 1), 0);
	assert_false(pte_write(entry(0)));
	late_fault(0, VM_UFFD_WP);
	mm_destroy(child);
	expect_nothing();
}

static void a_child_keeps_the_marks_of_shared_memory(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	struct userfaultfd_ctx *parent;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(reg(0, 4, WP), 0);
	put(0, 1);
	put(1, 2);
	assert_int_equal(protect(1, 2), 0);
	begins_call((struct call){ .what = CALL_FORK });
	parent = ctx;
	ctx = expect_event(UAPI_UFFD_EVENT_FORK).arg.fork.ctx;
	has_returned(0);
	soft_check(w.m);
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	put(0, 3);
	expect_protected(1);
	expect_protected(2);
	soft_load_mm(w.cpu, NULL);
	close_ctx();
	mm_destroy(call.child);
	w.cpu = &w.m->cpus[0];
	ctx = parent;
	assert_int_equal(get(0), 3);
	expect_protected(1);
	file_put(f);
}

/* At each of its allocations. */
static void a_fork_without_memory_tells_nothing(void **state)
{
	bool failed = true;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	map(0, 4, RW);
	put(0, 1);
	assert_int_equal(reg(0, 4, MISSING), 0);
	for (u64 left = 1; left < 3 || failed; left++) {
		struct userfault_msg msg;

		atomic_store(&w.m->inject.memory_left, left);
		begins_call((struct call){ .what = CALL_FORK });
		while (!userfaultfd_poll(ctx, true) && pthread_tryjoin_np(call.thread, NULL))
			sched_yield();
		failed = !userfaultfd_poll(ctx, true);
		atomic_store(&w.m->inject.memory_left, 0);
		if (failed) {
			assert_int_equal(call.result, -ENOMEM);
			assert_int_equal(copy(1, 1, 1), 0); /* nothing is changing */
			assert_int_equal(vm_advise(mm, AT(1), P(1), VADV_DONTNEED), 0);
			continue;
		}
		msg = expect_event(UAPI_UFFD_EVENT_FORK);
		has_returned(0);
		userfaultfd_release(msg.arg.fork.ctx);
		mm_destroy(call.child);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)
	const struct CMUnitTest tests[] = {
		T(an_unmapping_is_told_and_waits_to_be_read),
		T(a_removal_is_told_before_it_happens),
		T(a_move_is_told_and_keeps_the_context),
		T(what_moves_untold_faults_at_its_first_write),
		T(a_move_that_is_not_told_loses_the_context),
		T(a_child_has_a_context_of_its_own_if_asked),
		T(a_child_that_is_not_told_of_is_served_by_nobody),
		T(closing_lets_go_who_waits_for_an_event_to_be_read),
		T(what_was_served_before_it_was_queued_does_not_wait),
		T(a_child_keeps_the_marks_of_shared_memory),
		T(a_fork_without_memory_tells_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
