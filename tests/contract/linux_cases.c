/* SPDX-License-Identifier: MIT */
/*
 * What the linux machine has to bear beyond the contract, because the kernel does as it likes:
 * pages shared with children, pinned, locked or huge, areas that are several areas to the kernel,
 * pages that the engine does not know, and layouts that change just now.
 */
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/uffd.h"
#include "machine/linux/window.h"
#include "tests/contract/batch.h"
#include "tests/contract/linux.h"

static void *address(unsigned page)
{
	return (void *)va_of(page);
}

/* Take these pages of the batch in one call. */
static unsigned take_these(struct batch *b, const unsigned *which, unsigned n)
{
	unsigned taken;

	for (unsigned k = 0; k < n; k++)
		b->takes[k] = (struct mmu_take){ .va = va_of(b->first + which[k]),
						 .ptep = b->ptep + which[k],
						 .page = b->pages[which[k]],
						 .left = slot_entry(which[k]),
						 .result = 12345 };
	spin_lock(b->ptl);
	taken = ops->take(c.mm, b->takes, n);
	spin_unlock(b->ptl);
	return taken;
}

/* Set only these pages of a staged batch. */
static void set_these(struct batch *b, const unsigned *which, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		unsigned i = which[k];

		spin_lock(b->ptl);
		assert_int_equal(ops->set(c.mm, va_of(b->first + i), b->ptep + i, b->ptes + i,
					  b->pages + i, 1),
				 1);
		spin_unlock(b->ptl);
	}
}

/* Page i of the batch was taken, with its contents. */
static void assert_taken(struct batch *b, unsigned i)
{
	assert_true(pte_same(b->ptep[i], slot_entry(i)));
	assert_false(program_present(&c, va_of(b->first + i)));
	assert_true(filled(b->pages[i], b->first + i));
}

/* Page i of the batch is where it was, with its contents. */
static void assert_stayed(struct batch *b, unsigned i)
{
	assert_int_equal(pte_pfn(b->ptep[i]), pte_pfn(b->ptes[i]));
	assert_true(pte_present(b->ptep[i]));
	assert_true(program_present(&c, va_of(b->first + i)));
	for (unsigned k = 0; k < PAGE_SIZE; k += 61)
		assert_int_equal(program_read(&c, 0, va_of(b->first + i) + k),
				 pattern(b->first + i, k));
}

/* ---- children ---- */

struct child {
	pid_t pid;
	int go; /* closed: it may end */
};

/* It ends well if the pages of the batch are at its end what they are now. */
static struct child fork_child(const struct batch *b)
{
	struct child child;
	int fd[2];
	char byte;

	assert_int_equal(pipe(fd), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (!child.pid) {
		bool good = true;

		close(fd[1]);
		good = read(fd[0], &byte, 1) == 0;
		for (unsigned i = 0; b && i < b->n; i++)
			for (unsigned k = 0; k < PAGE_SIZE; k++)
				good &= ((u8 *)address(b->first + i))[k] ==
					pattern(b->first + i, k);
		_exit(good ? 0 : 1);
	}
	close(fd[0]);
	child.go = fd[1];
	linux_wait_read();
	return child;
}

static void end_child(struct child child)
{
	int status;

	close(child.go);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void pages_shared_with_a_child_are_taken_and_the_child_keeps_its_own(void **state)
{
	struct child child;
	struct batch b;

	(void)state;
	map_batch(&b, 0, 12);
	child = fork_child(&b);
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++)
		assert_taken(&b, i);
	set_all(&b);
	program_write(&c, 0, va_of(b.first), 99);
	end_child(child);
	drop_batch(&b);
}

static void shared_pages_among_others_are_taken(void **state)
{
	struct child child;
	struct batch b;

	(void)state;
	map_batch(&b, 0, 12);
	child = fork_child(NULL);
	for (unsigned i = 1; i < b.n; i += 3) /* no longer shared */
		program_write(&c, 0, va_of(b.first + i), pattern(b.first + i, 0));
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++)
		assert_taken(&b, i);
	end_child(child);
	drop_batch(&b);
}

static void pages_once_shared_with_a_child_that_is_gone_are_taken(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, MMU_BATCH);
	end_child(fork_child(&b));
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++)
		assert_taken(&b, i);
	drop_batch(&b);
}

/* The window's pages are shared then; teardown sees whether it could be emptied. */
static void pages_taken_before_a_fork_come_back_after_it(void **state)
{
	struct child child;
	struct batch b;

	(void)state;
	map_batch(&b, 0, 10);
	assert_int_equal(take_every(&b, 1), b.n);
	child = fork_child(NULL);
	set_all(&b);
	for (unsigned i = 0; i < b.n; i++)
		assert_stayed(&b, i);
	end_child(child);
	drop_batch(&b);
}

/* ---- pages that cannot be taken ---- */

static void pinned_pages_stay_as_long_as_they_are_pinned(void **state)
{
	struct io_uring_params params = { 0 };
	struct iovec pinned;
	struct batch b;
	long ring = syscall(__NR_io_uring_setup, 1, &params);

	(void)state;
	if (ring < 0) {
		print_message("no io_uring here to pin pages with\n");
		skip();
	}
	map_batch(&b, 0, 9);
	pinned = (struct iovec){ address(b.first + 3), 2 * PAGE_SIZE }; /* pages 3 and 4 */
	assert_int_equal(syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &pinned, 1),
			 0);
	assert_int_equal(take_every(&b, 1), b.n - 2);
	for (unsigned i = 0; i < b.n; i++) {
		if (i == 3 || i == 4) {
			assert_int_equal(b.takes[i].result, -EBUSY);
			assert_stayed(&b, i);
		} else {
			assert_int_equal(b.takes[i].result, 0);
			assert_taken(&b, i);
		}
	}
	assert_int_equal(syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0),
			 0);
	close((int)ring);
	assert_int_equal(take_these(&b, (unsigned[]){ 3, 4 }, 2), 2);
	assert_taken(&b, 3);
	assert_taken(&b, 4);
	drop_batch(&b);
}

static void locked_pages_stay(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 9);
	assert_int_equal(mlock(address(b.first + 3), 2 * PAGE_SIZE), 0);
	assert_int_equal(take_every(&b, 1), b.n - 2);
	for (unsigned i = 0; i < b.n; i++) {
		assert_int_equal(b.takes[i].result, i == 3 || i == 4 ? -EINVAL : 0);
		if (i == 3 || i == 4)
			assert_stayed(&b, i);
		else
			assert_taken(&b, i);
	}
	munlock(address(b.first + 3), 2 * PAGE_SIZE);
	assert_int_equal(take_these(&b, (unsigned[]){ 3, 4 }, 2), 2);
	drop_batch(&b);
}

static void pages_that_may_not_be_written_stay_until_they_may(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 10);
	assert_int_equal(mprotect(address(b.first + 5), 2 * PAGE_SIZE, PROT_READ), 0);
	assert_int_equal(take_every(&b, 1), b.n - 2);
	for (unsigned i = 0; i < b.n; i++) {
		assert_int_equal(b.takes[i].result, i == 5 || i == 6 ? -EINVAL : 0);
		if (i == 5 || i == 6)
			assert_stayed(&b, i);
		else
			assert_taken(&b, i);
	}
	assert_int_equal(mprotect(address(b.first + 5), 2 * PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(take_these(&b, (unsigned[]){ 5, 6 }, 2), 2);
	drop_batch(&b);
}

/* ---- several areas of the kernel ---- */

/* Pages from `from` to `to` become an area of the kernel of their own, with the same rights. */
static void split_kernel_area(unsigned from, unsigned to)
{
	assert_int_equal(madvise(address(from), (to - from) * PAGE_SIZE, MADV_DONTDUMP), 0);
}

static void a_take_goes_over_several_kernel_areas(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 30);
	split_kernel_area(b.first + 7, b.first + 8);
	split_kernel_area(b.first + 15, b.first + 40);
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++)
		assert_taken(&b, i);
	drop_batch(&b);
}

static void a_set_goes_over_several_kernel_areas(void **state)
{
	struct batch b;

	(void)state;
	allocate(&b, 0, 30, DIRTY);
	split_kernel_area(b.first + 7, b.first + 8);
	split_kernel_area(b.first + 15, b.first + 40);
	stage(&b);
	set_all(&b);
	for (unsigned i = 0; i < b.n; i++)
		assert_stayed(&b, i);
	drop_batch(&b);
}

static void what_is_no_longer_mapped_is_told_and_the_rest_goes_on(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 12);
	assert_int_equal(munmap(address(b.first + 4), 3 * PAGE_SIZE), 0);
	linux_wait_read();
	assert_int_equal(take_every(&b, 1), b.n - 3);
	for (unsigned i = 0; i < b.n; i++) {
		if (i >= 4 && i < 7) {
			assert_int_equal(b.takes[i].result, -ENOENT);
			assert_true(pte_none(b.ptep[i]));
		} else {
			assert_int_equal(b.takes[i].result, 0);
			assert_taken(&b, i);
		}
	}
	assert_int_equal(set_once(&b, 0), 4);
	b.ptep[4] = slot_entry(4);
	spin_lock(b.ptl);
	ops->stage(c.engine, b.pages + 4, 1);
	assert_int_equal(ops->set(c.mm, va_of(b.first + 4), b.ptep + 4, b.ptes + 4, b.pages + 4, 1),
			 -ENOENT);
	spin_unlock(b.ptl);
	ops->unstage(c.engine, b.pages[4]);
	assert_true(pte_same(b.ptep[4], slot_entry(4)));
	drop_batch(&b);
}

/* ---- between the takes ---- */

static const unsigned sparse[] = { 0, 5, 9, 40 };

static void map_sparse(struct batch *b)
{
	allocate(b, 0, 41, DIRTY);
	stage(b);
	set_these(b, sparse, ARRAY_SIZE(sparse));
}

static void drop_sparse(struct batch *b)
{
	for (unsigned i = 0; i < b->n; i++) /* what was staged and not set */
		if (pte_none(b->ptep[i]))
			ops->unstage(c.engine, b->pages[i]);
	drop_batch(b);
}

static void a_take_goes_over_holes(void **state)
{
	struct batch b;

	(void)state;
	map_sparse(&b);
	assert_int_equal(take_these(&b, sparse, ARRAY_SIZE(sparse)), ARRAY_SIZE(sparse));
	for (unsigned k = 0; k < ARRAY_SIZE(sparse); k++) {
		assert_int_equal(b.takes[k].result, 0);
		assert_taken(&b, sparse[k]);
	}
	drop_sparse(&b);
}

static void pages_that_the_engine_does_not_know_are_left_alone(void **state)
{
	static const unsigned unknown[] = { 2, 7, 39 };
	struct batch b;

	(void)state;
	map_sparse(&b);
	for (unsigned k = 0; k < ARRAY_SIZE(unknown); k++) {
		program_gains_page(&c, va_of(b.first + unknown[k]));
		if (k) /* the first one stays the kernel's page of zeros */
			program_write(&c, 0, va_of(b.first + unknown[k]) + 9, 70 + k);
	}
	assert_int_equal(take_these(&b, sparse, ARRAY_SIZE(sparse)), ARRAY_SIZE(sparse));
	for (unsigned k = 0; k < ARRAY_SIZE(sparse); k++)
		assert_taken(&b, sparse[k]);
	for (unsigned k = 0; k < ARRAY_SIZE(unknown); k++) {
		u64 va = va_of(b.first + unknown[k]);

		assert_true(pte_none(b.ptep[unknown[k]]));
		assert_true(program_present(&c, va));
		assert_int_equal(program_read(&c, 0, va + 9), k ? 70 + k : 0);
		assert_int_equal(program_read(&c, 0, va + 10), 0);
		program_unmap(&c, va, 1);
	}
	drop_sparse(&b);
}

/* Enough to see it go wrong; on one CPU the time ends it. */
#define ROUNDS 5000
#define END_NS 3000000000ULL

static _Atomic bool enough;

/* Changes the layout all the time, far from what the test looks at. */
static void *change_layout(void *arg)
{
	while (!atomic_load(&enough))
		madvise(arg, PAGE_SIZE, MADV_DONTNEED);
	return NULL;
}

/* A page that had been taken by mistake could not be given back just then. */
static void pages_that_the_engine_does_not_know_survive_while_the_layout_changes(void **state)
{
	u64 va, end = machine_now_ns() + END_NS;
	pthread_t changer;
	struct batch b;

	(void)state;
	map_sparse(&b);
	va = va_of(b.first + 7);
	enough = false;
	assert_int_equal(pthread_create(&changer, NULL, change_layout, address(c.pages - 1)), 0);
	for (unsigned round = 0; round < ROUNDS && machine_now_ns() < end; round++) {
		while (uffd_zeropage(agent.uffd, va, PAGE_SIZE) == -EAGAIN)
			sched_yield();
		program_write(&c, 0, va, 77);
		take_these(&b, sparse, ARRAY_SIZE(sparse));
		assert_true(program_present(&c, va));
		assert_int_equal(program_read(&c, 0, va), 77);
		program_unmap(&c, va, 1);
		for (unsigned k = 0; k < ARRAY_SIZE(sparse); k++) {
			unsigned i = sparse[k];
			int err = 1;

			if (b.takes[k].result) {
				assert_int_equal(b.takes[k].result, -EAGAIN);
				continue;
			}
			do {
				spin_lock(b.ptl);
				err = ops->set(c.mm, va_of(b.first + i), b.ptep + i, b.ptes + i,
					       b.pages + i, 1);
				spin_unlock(b.ptl);
			} while (err == -EAGAIN && !sched_yield());
			assert_int_equal(err, 1);
		}
	}
	enough = true;
	pthread_join(changer, NULL);
	for (unsigned k = 0; k < ARRAY_SIZE(sparse); k++)
		assert_stayed(&b, sparse[k]);
	drop_sparse(&b);
}

/* ---- while the layout changes ---- */

static void *give_up_a_page(void *va)
{
	madvise(va, PAGE_SIZE, MADV_DONTNEED);
	return NULL;
}

static void assert_nothing_can_be_done(struct batch *absent, struct batch *present)
{
	assert_int_equal(set_once(absent, 0), -EAGAIN);
	for (unsigned i = 0; i < absent->n; i++)
		assert_true(pte_none(absent->ptep[i]));
	assert_int_equal(take_every(present, 1), 0);
	for (unsigned i = 0; i < present->n; i++) {
		assert_int_equal(present->takes[i].result, -EAGAIN);
		assert_stayed(present, i);
	}
}

static void while_a_change_is_under_way_all_stays_as_it_is(void **state)
{
	struct batch absent, present;
	struct pollfd pfd;
	pthread_t changer;

	(void)state;
	map_batch(&present, 0, 6);
	allocate(&absent, 20, 6, DIRTY);
	stage(&absent);

	/* Not read yet: the kernel refuses. */
	linux_stop_reading();
	assert_int_equal(pthread_create(&changer, NULL, give_up_a_page, address(c.pages - 1)), 0);
	pfd = (struct pollfd){ .fd = agent.uffd, .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_nothing_can_be_done(&absent, &present);
	linux_go_on_reading();
	pthread_join(changer, NULL);
	linux_wait_read();

	/* Read and not applied yet: the gate refuses. */
	gate_lock();
	assert_nothing_can_be_done(&absent, &present);
	gate_unlock();

	set_all(&absent);
	assert_int_equal(take_every(&present, 1), present.n);
	for (unsigned i = 0; i < present.n; i++) {
		assert_stayed(&absent, i);
		assert_taken(&present, i);
	}
	drop_batch(&absent);
	drop_batch(&present);
}

static void a_full_window_refuses_until_something_comes_back(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 5);
	linux_window_hold();
	assert_int_equal(take_every(&b, 1), 0);
	for (unsigned i = 0; i < b.n; i++) {
		assert_int_equal(b.takes[i].result, -EAGAIN);
		assert_stayed(&b, i);
	}
	linux_window_give(30);
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++)
		assert_taken(&b, i);
	for (unsigned i = 0; i < WINDOW_SEGMENTS; i++)
		linux_window_give(i);
	drop_batch(&b);
}

static void takes_share_a_segment_until_it_is_full(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, MMU_BATCH);
	for (unsigned i = 0; i < b.n; i++)
		assert_int_equal(take_these(&b, &i, 1), 1);
	for (unsigned i = 0; i < b.n; i++)
		assert_int_equal(b.pages[i]->where, b.pages[0]->where + i * PAGE_SIZE);
	for (unsigned i = 0; i < b.n; i++)
		assert_taken(&b, i);
	drop_batch(&b);
}

/* ---- moves that are done and said to have failed ---- */

/* uffd_move() as the machine calls it.  Ordered to, a move is done and said to have failed, as
 * Linux 6.18 does now and then (machine/linux/uffd.h): in the next `wrong_moves` calls, from the
 * page on that is `wrong_from` bytes behind the first. */
static unsigned wrong_moves;
static u64 wrong_from;

s64 __real_uffd_move(int fd, u64 dst, u64 src, u64 len);
s64 __wrap_uffd_move(int fd, u64 dst, u64 src, u64 len);

s64 __wrap_uffd_move(int fd, u64 dst, u64 src, u64 len)
{
	s64 done = __real_uffd_move(fd, dst, src, len);

	if (!wrong_moves || done <= (s64)wrong_from)
		return done;
	wrong_moves--;
	return wrong_from ? (s64)wrong_from : -EEXIST;
}

static void pages_that_were_moved_without_being_counted_are_taken(void **state)
{
	struct batch b;

	(void)state;
	for (wrong_from = 0; wrong_from <= 4 * PAGE_SIZE; wrong_from += 4 * PAGE_SIZE) {
		wrong_moves = 1;
		map_batch(&b, 0, 8);
		assert_int_equal(take_every(&b, 1), b.n);
		assert_int_equal(wrong_moves, 0);
		for (unsigned i = 0; i < b.n; i++)
			assert_taken(&b, i);
		drop_batch(&b);
	}
}

static void a_segment_that_was_emptied_without_being_counted_is_used_again(void **state)
{
	struct batch b;

	(void)state;
	for (unsigned round = 0; round < 2 * WINDOW_SEGMENTS; round++) {
		map_batch(&b, 0, MMU_BATCH);
		assert_int_equal(take_every(&b, 1), b.n);
		wrong_from = round % 2 * 8 * PAGE_SIZE;
		wrong_moves = 1; /* the next is the segment's, to the bin */
		drop_batch(&b);
		assert_int_equal(wrong_moves, 0);
	}
	assert_int_equal(linux_warnings(), 0);
}

/* ---- pages of other kinds ---- */

static void the_kernels_page_of_zeros_is_taken(void **state)
{
	struct batch b;

	(void)state;
	allocate(&b, 0, 3, DIRTY);
	for (unsigned i = 0; i < b.n; i++) {
		program_gains_page(&c, va_of(b.first + i));
		b.ptep[i] = b.ptes[i]; /* adopted */
	}
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++) {
		const u8 *bytes = ops->bytes(c.engine, b.pages[i]);

		assert_false(program_present(&c, va_of(b.first + i)));
		for (unsigned k = 0; k < PAGE_SIZE; k++)
			assert_int_equal(bytes[k], 0);
	}
	set_all(&b);
	for (unsigned i = 0; i < b.n; i++) {
		assert_int_equal(program_read(&c, 0, va_of(b.first + i)), 0);
		program_write(&c, 0, va_of(b.first + i), 1);
	}
	drop_batch(&b);
}

static void pages_that_the_kernel_has_swapped_out_are_taken_with_their_contents(void **state)
{
	unsigned swapped = 0;
	struct batch b;

	(void)state;
	map_batch(&b, 0, MMU_BATCH);
	madvise(address(b.first), b.n * PAGE_SIZE / 2, MADV_PAGEOUT);
	for (unsigned i = 0; i < b.n; i++)
		swapped += linux_page(va_of(b.first + i)) == LINUX_SWAPPED;
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++) {
		assert_int_equal(b.takes[i].result, 0);
		assert_taken(&b, i);
	}
	drop_batch(&b);
	if (!swapped) {
		print_message("the kernel swapped nothing out\n");
		skip();
	}
}

static bool is_huge(u64 va)
{
	unsigned long start, end, kib = 0;
	char line[256];
	FILE *f = fopen("/proc/self/smaps", "r");
	bool in = false;

	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = va >= start && va < end;
		else if (in && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			break;
	}
	fclose(f);
	return kib >= PMD_SIZE / 1024;
}

static int setup_large(void **state)
{
	(void)state;
	return create(CONTRACT_BARE, 3 * PTRS_PER_TABLE, FRAMES);
}

/* As before paging began: nothing was registered then. */
static void parts_of_a_huge_page_are_taken_and_the_others_unharmed(void **state)
{
	u64 huge = (c.base + PMD_SIZE - 1) & PMD_MASK;
	struct batch b;
	bool got;

	(void)state;
	assert_int_equal(uffd_unregister(agent.uffd, c.base, c.pages * PAGE_SIZE), 0);
	assert_int_equal(madvise((void *)huge, PMD_SIZE, MADV_HUGEPAGE), 0);
	for (u64 va = huge; va < huge + PMD_SIZE; va++)
		*(volatile u8 *)va = pattern((va - c.base) / PAGE_SIZE, va % PAGE_SIZE);
	got = is_huge(huge);
	assert_int_equal(uffd_register(agent.uffd, c.base, c.pages * PAGE_SIZE), 0);
	if (got) {
		allocate(&b, 0, 20, DIRTY);
		b.first = (huge - c.base) / PAGE_SIZE + 100;
		b.ptep = pte_alloc(c.mm, va_of(b.first), &b.ptl);
		for (unsigned i = 0; i < b.n; i++)
			b.ptep[i] = b.ptes[i];
		assert_int_equal(take_every(&b, 1), b.n);
		for (unsigned i = 0; i < b.n; i++)
			assert_taken(&b, i);
		for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
			if (i < 100 || i >= 100 + b.n)
				for (unsigned k = 0; k < PAGE_SIZE; k += 509)
					assert_int_equal(
						program_read(&c, 0, huge + i * PAGE_SIZE + k),
						pattern((huge - c.base) / PAGE_SIZE + i, k));
		set_all(&b);
		for (unsigned i = 0; i < b.n; i++)
			assert_stayed(&b, i);
		drop_batch(&b);
	}
	program_unmap(&c, c.base, c.pages);
	if (!got) {
		print_message("the kernel gives no huge page here\n");
		skip();
	}
}

/* ---- with the engine ---- */

static int setup_served(void **state)
{
	(void)state;
	return create(CONTRACT_SERVED, PAGES, FRAMES);
}

static void a_page_that_vanished_reads_as_zeros(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		program_write(&c, 0, va_of(9), 7);
		assert_int_equal(program_read(&c, 0, va_of(9)), 7);
		program_loses_page(&c, va_of(9), NULL);
		assert_int_equal(program_read(&c, 0, va_of(9)), 0);
	}
}

/* A server that is just reading refuses some. */
static void evict(unsigned from, unsigned to)
{
	for (unsigned i = from, tries = 0; i < to; i++) {
		while (program_present(&c, va_of(i))) {
			assert_true(tries++ < 1000);
			reclaim_range(c.mm, va_of(from), va_of(to));
		}
	}
}

static void a_page_given_up_reads_as_zeros_resident_or_not(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 20; i++)
			program_write(&c, 0, va_of(i), 1 + i);
		if (round)
			evict(0, 20);
		program_unmap(&c, va_of(5), 5);
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(program_read(&c, 0, va_of(i)),
					 i >= 5 && i < 10 ? 0 : 1 + i);
	}
}

#define served_test(name) cmocka_unit_test_setup_teardown(name, setup_served, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		contract_test(pages_shared_with_a_child_are_taken_and_the_child_keeps_its_own),
		contract_test(shared_pages_among_others_are_taken),
		contract_test(pages_once_shared_with_a_child_that_is_gone_are_taken),
		contract_test(pages_taken_before_a_fork_come_back_after_it),
		contract_test(pinned_pages_stay_as_long_as_they_are_pinned),
		contract_test(locked_pages_stay),
		contract_test(pages_that_may_not_be_written_stay_until_they_may),
		contract_test(a_take_goes_over_several_kernel_areas),
		contract_test(a_set_goes_over_several_kernel_areas),
		contract_test(what_is_no_longer_mapped_is_told_and_the_rest_goes_on),
		contract_test(a_take_goes_over_holes),
		contract_test(pages_that_the_engine_does_not_know_are_left_alone),
		contract_test(pages_that_the_engine_does_not_know_survive_while_the_layout_changes),
		contract_test(while_a_change_is_under_way_all_stays_as_it_is),
		contract_test(a_full_window_refuses_until_something_comes_back),
		contract_test(takes_share_a_segment_until_it_is_full),
		contract_test(pages_that_were_moved_without_being_counted_are_taken),
		contract_test(a_segment_that_was_emptied_without_being_counted_is_used_again),
		contract_test(the_kernels_page_of_zeros_is_taken),
		contract_test(pages_that_the_kernel_has_swapped_out_are_taken_with_their_contents),
		cmocka_unit_test_setup_teardown(
			parts_of_a_huge_page_are_taken_and_the_others_unharmed, setup_large,
			teardown),
		served_test(a_page_that_vanished_reads_as_zeros),
		served_test(a_page_given_up_reads_as_zeros_resident_or_not),
	};

	return run_contract(tests);
}
