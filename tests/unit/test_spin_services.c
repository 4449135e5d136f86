/* SPDX-License-Identifier: MIT */
/* SPIN's memory services: PhysAddr, VirtAddr, Translation, and AddressSpace and a pager over them.
 */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "systems/lab.h"
#include "systems/spin/memory.h"
#include "systems/spin/pager.h"
#include "systems/spin/spin.h"
#include "tests/unit/unit.h"

#define AT     0x20000000ULL
#define FRAMES 256
#define MINE   5 /* the extension of these tests */
#define OTHER  6

static struct ledger *ledger;
static struct system *s;
static struct spin_services *m;
static u64 map; /* of process 1, which is MINE's */

static int setup(void **state)
{
	struct system_options o = { .cpus = 2, .frames = FRAMES };

	(void)state;
	assert_int_equal(ledger_create(2, &ledger), 0);
	o.ledger = ledger;
	assert_int_equal(spin_system.create(&spin_system, &o, &s), 0);
	m = spin_services_of(s);
	assert_int_equal(s->program->ops->fork(s->program, 0, 1), 0);
	spin_give_space(s, 1, MINE);
	map = spin_key_of(s, 1);
	s->program->ops->run(s->program, 1, 1);
	return 0;
}

/* Every test ends with frames, entries and counts as they should be. */
static int teardown(void **state)
{
	(void)state;
	s->program->ops->check(s->program);
	s->destroy(s);
	ledger_destroy(ledger);
	return 0;
}

/* CPU 0 runs process 0, CPU 1 process 1. */
static enum fault_reason read_at(unsigned cpu, u64 va, u8 *byte)
{
	return s->program->ops->access(s->program, cpu, va, 0, byte, 1);
}

static enum fault_reason write_at(unsigned cpu, u64 va, u8 byte)
{
	return s->program->ops->access(s->program, cpu, va, PF_WRITE, &byte, 1);
}

static void map_area(u64 pages)
{
	struct program_map a = { .addr = AT,
				 .len = pages * PAGE_SIZE,
				 .prot = VM_READ | VM_WRITE,
				 .flags = VMAP_FIXED,
				 .file = -1 };

	assert_int_equal(s->program->ops->map(s->program, 0, &a), AT);
}

static void fill_area(u64 pages)
{
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(write_at(0, AT + i * PAGE_SIZE, (u8)i), FAULT_OK);
}

static s64 frame(void)
{
	s64 f = spin_phys_allocate(m, MINE);

	assert_true(f > 0);
	return f;
}

/* A range of so many pages in process 1, and where it is. */
static s64 range(u64 pages, u64 *va)
{
	s64 r = spin_virt_allocate(m, MINE, map, pages);

	assert_true(r > 0);
	assert_int_equal(spin_virt_address(m, MINE, r, va), 0);
	return r;
}

/* ---- PhysAddr ---- */

static void a_frame_comes_active_and_full_of_zeros(void **state)
{
	u8 bytes[PAGE_SIZE];
	s64 f = frame();

	(void)state;
	assert_int_equal(spin_phys_state(m, MINE, f), SPIN_ACTIVE);
	memset(bytes, 7, sizeof(bytes));
	assert_int_equal(spin_phys_write(m, MINE, f, 0, bytes, sizeof(bytes)), 0);
	assert_int_equal(spin_phys_deallocate(m, MINE, f), 0);
	f = frame(); /* the same one */
	assert_int_equal(spin_phys_read(m, MINE, f, 0, bytes, sizeof(bytes)), 0);
	for (u64 i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(bytes[i], 0);
}

static void giving_back_twice_is_giving_back_once(void **state)
{
	s64 f = frame(), again;

	(void)state;
	assert_int_equal(spin_phys_deallocate(m, MINE, f), 0);
	assert_int_equal(spin_phys_deallocate(m, MINE, f), 0);
	again = frame();
	assert_int_not_equal(again, f);
	assert_int_equal(spin_phys_deallocate(m, MINE, f), 0);
	assert_int_equal(spin_phys_state(m, MINE, again), SPIN_ACTIVE);
	assert_int_equal(spin_phys_state(m, MINE, f), -EBADF);
	assert_int_equal(spin_phys_deallocate(m, MINE, 0), -EBADF);
	assert_int_equal(spin_phys_deallocate(m, MINE, -1), -EBADF);
	assert_int_equal(spin_phys_deallocate(m, MINE, FRAMES + 1), -EBADF);
	assert_int_equal(spin_phys_deallocate(m, OTHER, again), -EACCES);
}

static void states_change_only_as_they_may(void **state)
{
	s64 f = frame();

	(void)state;
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_ACTIVE), -EINVAL);
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_RECLAIMED), 0);
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_RECLAIMED), -EINVAL);
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_ACTIVE), 0);
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_FREE), -EACCES);
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_ZOMBIE), -EACCES);
	assert_int_equal(spin_phys_change_state(m, OTHER, f, SPIN_RECLAIMED), -EACCES);
	assert_int_equal(spin_phys_state(m, MINE, f), SPIN_ACTIVE);
}

/* ---- Translation ---- */

static void a_mapping_is_what_the_program_sees(void **state)
{
	u64 va;
	s64 r = range(2, &va), f = frame();
	u8 byte = 3;

	(void)state;
	assert_int_equal(read_at(1, va, &byte), FAULT_MAPERR); /* nothing there, nobody's */
	assert_int_equal(spin_phys_write(m, MINE, f, 0, &byte, 1), 0);
	assert_int_equal(spin_add_mapping(m, MINE, map, f, r, 0, VM_READ), 0);
	assert_int_equal(spin_add_mapping(m, MINE, map, f, r, 0, VM_READ), -EEXIST);
	assert_int_equal(read_at(1, va, &byte), FAULT_OK);
	assert_int_equal(byte, 3);
	assert_int_not_equal(write_at(1, va, 4), FAULT_OK);
	assert_int_equal(read_at(0, va, &byte), FAULT_MAPERR); /* another space */
	assert_int_equal(spin_change_mapping(m, MINE, map, r, 0, VM_READ | VM_WRITE), 0);
	assert_int_equal(write_at(1, va, 4), FAULT_OK);
	assert_int_equal(spin_phys_read(m, MINE, f, 0, &byte, 1), 0);
	assert_int_equal(byte, 4);
	assert_int_equal(spin_remove_mapping(m, MINE, map, r, 0), 0);
	assert_int_equal(spin_remove_mapping(m, MINE, map, r, 0), -ENOENT);
	assert_int_equal(read_at(1, va, &byte), FAULT_MAPERR);
}

static void what_is_asked_for_is_checked(void **state)
{
	u64 va;
	s64 r = range(2, &va), f = frame(), others = spin_phys_allocate(m, OTHER);

	(void)state;
	assert_int_equal(spin_add_mapping(m, MINE, map, f, r, 2, VM_READ), -EINVAL);
	assert_int_equal(spin_add_mapping(m, MINE, map, f, r, 0, VM_WRITE), -EINVAL);
	assert_int_equal(spin_add_mapping(m, MINE, map, others, r, 0, VM_READ), -EACCES);
	assert_int_equal(spin_add_mapping(m, OTHER, map, others, r, 0, VM_READ), -EACCES);
	assert_int_equal(spin_add_mapping(m, MINE, map + 1, f, r, 0, VM_READ), -EBADF);
	assert_int_equal(spin_add_mapping(m, MINE, map, f, r + 1, 0, VM_READ), -EBADF);
	assert_int_equal(spin_virt_allocate(m, MINE, map, 0), -EINVAL);
	assert_int_equal(spin_virt_allocate(m, MINE, map, SPIN_RANGE_PAGES + 1), -EINVAL);
	assert_int_equal(spin_virt_deallocate(m, OTHER, r), -EACCES);
	assert_int_equal(spin_virt_deallocate(m, MINE, r), 0);
	assert_int_equal(spin_virt_deallocate(m, MINE, r), -EBADF);
	assert_int_equal(spin_phys_deallocate(m, OTHER, others), 0);
}

static void ranges_do_not_overlap(void **state)
{
	u64 first, second, third;
	s64 r = range(3, &first);
	unsigned n = 2;

	(void)state;
	range(2, &second);
	assert_int_equal(first, SPIN_VIRT_LOW);
	assert_int_equal(second, first + 3 * PAGE_SIZE);
	assert_int_equal(spin_virt_deallocate(m, MINE, r), 0);
	range(4, &third); /* the hole is too small */
	assert_int_equal(third, second + 2 * PAGE_SIZE);
	range(3, &third);
	assert_int_equal(third, first);
	while (spin_virt_allocate(m, MINE, map, 1) > 0)
		n++;
	assert_int_equal(n, SPIN_RANGES - 1);
	assert_int_equal(spin_virt_allocate(m, MINE, map, 1), -ENOSPC);
}

/* The op "Dirty" of the published measurements. */
static void examine_mapping_says_what_was_written(void **state)
{
	struct spin_examined e;
	u64 va;
	s64 r = range(1, &va), f = frame();
	u8 byte;

	(void)state;
	assert_int_equal(spin_examine_mapping(m, MINE, map, va, &e), -ENOENT);
	spin_add_mapping(m, MINE, map, f, r, 0, VM_READ | VM_WRITE);
	assert_int_equal(spin_examine_mapping(m, MINE, map, va, &e), 0);
	assert_false(e.used || e.dirty);
	assert_int_equal(e.prot, VM_READ | VM_WRITE);
	read_at(1, va, &byte);
	assert_int_equal(spin_examine_mapping(m, MINE, map, va, &e), 0);
	assert_true(e.used && !e.dirty);
	write_at(1, va, 1);
	assert_int_equal(spin_examine_mapping(m, MINE, map, va, &e), 0);
	assert_true(e.dirty);
	/* An area of AddressSpace's. */
	spin_give_space(s, 0, MINE);
	map_area(1);
	assert_int_equal(spin_examine_mapping(m, MINE, spin_key_of(s, 0), AT, &e), -ENOENT);
	write_at(0, AT, 1);
	assert_int_equal(spin_examine_mapping(m, MINE, spin_key_of(s, 0), AT, &e), 0);
	assert_true(e.dirty);
	assert_int_equal(spin_examine_mapping(m, OTHER, spin_key_of(s, 0), AT, &e), -EACCES);
	assert_int_equal(spin_examine_mapping(m, MINE, spin_key_of(s, 0), 0, &e), -ENOENT);
}

/* On both CPUs, in both ranges, without the translations that TLBs have. */
static void a_frame_that_goes_takes_all_its_mappings_along(void **state)
{
	u64 va, other;
	s64 r = range(1, &va), r2 = range(1, &other), f = frame();
	u8 byte;

	(void)state;
	s->program->ops->run(s->program, 0, 1);
	spin_add_mapping(m, MINE, map, f, r, 0, VM_READ | VM_WRITE);
	spin_add_mapping(m, MINE, map, f, r2, 0, VM_READ | VM_WRITE);
	assert_int_equal(write_at(0, va, 8), FAULT_OK);
	assert_int_equal(read_at(1, other, &byte), FAULT_OK);
	assert_int_equal(byte, 8);
	assert_int_equal(spin_phys_change_protection(m, MINE, f, VM_READ), 0);
	assert_int_not_equal(write_at(0, va, 9), FAULT_OK);
	assert_int_not_equal(write_at(1, other, 9), FAULT_OK);
	assert_int_equal(spin_phys_deallocate(m, MINE, f), 0);
	assert_int_equal(read_at(0, va, &byte), FAULT_MAPERR);
	assert_int_equal(read_at(1, other, &byte), FAULT_MAPERR);
	assert_int_equal(spin_remove_mapping(m, MINE, map, r, 0), -ENOENT);
}

static void a_frame_that_is_reclaimed_is_mapped_nowhere_and_stale(void **state)
{
	u64 va;
	s64 r = range(2, &va), f = frame();
	u8 byte = 6;

	(void)state;
	spin_phys_write(m, MINE, f, 0, &byte, 1);
	spin_add_mapping(m, MINE, map, f, r, 0, VM_READ);
	assert_int_equal(read_at(1, va, &byte), FAULT_OK);
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_RECLAIMED), 0);
	assert_int_equal(read_at(1, va, &byte), FAULT_MAPERR);
	assert_int_equal(spin_add_mapping(m, MINE, map, f, r, 1, VM_READ), -ESTALE);
	assert_int_equal(spin_phys_change_state(m, MINE, f, SPIN_ACTIVE), 0);
	assert_int_equal(spin_add_mapping(m, MINE, map, f, r, 1, VM_READ), 0);
	assert_int_equal(read_at(1, va + PAGE_SIZE, &byte), FAULT_OK);
	assert_int_equal(byte, 6);
}

static void a_space_that_ends_leaves_frames_and_takes_ranges(void **state)
{
	u64 va;
	s64 r = range(3, &va), f = frame();

	(void)state;
	spin_add_mapping(m, MINE, map, f, r, 1, VM_READ);
	s->program->ops->exit(s->program, 1);
	assert_int_equal(spin_virt_deallocate(m, MINE, r), -EBADF);
	assert_int_equal(spin_phys_state(m, MINE, f), SPIN_ACTIVE);
	assert_int_equal(spin_virt_allocate(m, MINE, map, 1), -EBADF);
}

/* ---- memory is short ---- */

static s64 nominee, told;
static unsigned asked;
static int refused;

static void nominate(void *closure, struct spin_fault *f)
{
	(void)closure;
	if (!f->frame)
		return;
	asked++;
	if (nominee)
		f->frame = nominee;
	f->done = true;
}

static char last_words;

static void hear(void *closure, struct spin_fault *f)
{
	(void)closure;
	told = f->frame;
	assert_int_equal(spin_phys_state(m, MINE, told), SPIN_TRANSIENT);
	assert_int_equal(spin_phys_read(m, MINE, told, 0, &last_words, 1), 0);
	/* It is too late for all else. */
	refused = spin_phys_write(m, MINE, told, 0, "x", 1);
	assert_int_equal(spin_phys_change_state(m, MINE, told, SPIN_ACTIVE), -EBUSY);
}

static void install(u32 extension, enum spin_event event, spin_handler_fn handler)
{
	struct spin_installation i = { .extension = extension,
				       .event = event,
				       .handler = handler,
				       .key = spin_frames_of(MINE) };

	assert_int_equal(spin_install(spin_dispatcher_of(s), &i) > 0, extension == MINE);
	nominee = told = 0;
	asked = 0;
}

static void the_oldest_frame_goes_and_its_owner_sees_it_last(void **state)
{
	s64 a = frame(), b = frame();
	u64 va;
	s64 r = range(1, &va);
	u8 byte;

	(void)state;
	install(OTHER, SPIN_REPOSSESS, hear);
	install(MINE, SPIN_RECLAIM, nominate);
	install(MINE, SPIN_REPOSSESS, hear);
	spin_phys_write(m, MINE, a, 0, "a", 1);
	spin_add_mapping(m, MINE, map, a, r, 0, VM_READ | VM_WRITE);
	assert_int_equal(spin_phys_take_back(m, 1), 1);
	assert_int_equal(asked, 1);
	assert_int_equal(told, a);
	assert_int_equal(last_words, 'a');
	assert_int_equal(refused, -ESTALE);
	assert_int_equal(spin_phys_state(m, MINE, a), -EBADF);
	assert_int_equal(spin_phys_state(m, MINE, b), SPIN_ACTIVE);
	assert_int_equal(read_at(1, va, &byte), FAULT_MAPERR);
}

static void a_handler_may_name_another_frame_of_its_own(void **state)
{
	s64 a = frame(), b = frame(), others = spin_phys_allocate(m, OTHER);

	(void)state;
	install(MINE, SPIN_RECLAIM, nominate);
	nominee = b;
	assert_int_equal(spin_phys_take_back(m, 1), 1);
	assert_int_equal(spin_phys_state(m, MINE, b), -EBADF);
	assert_int_equal(spin_phys_state(m, MINE, a), SPIN_ACTIVE);
	/* Not one that is gone, nor another's: then the one that was asked for. */
	nominee = others;
	assert_int_equal(spin_phys_take_back(m, 1), 1);
	assert_int_equal(spin_phys_state(m, MINE, a), -EBADF);
	assert_int_equal(spin_phys_state(m, OTHER, others), SPIN_ACTIVE);
	assert_int_equal(spin_phys_deallocate(m, OTHER, others), 0);
	assert_int_equal(spin_phys_take_back(m, 1), 0);
}

static void what_was_used_gets_a_second_chance_and_what_is_given_up_goes_first(void **state)
{
	s64 a = frame(), b = frame(), c = frame();
	u64 va;
	s64 r = range(1, &va);

	(void)state;
	spin_add_mapping(m, MINE, map, a, r, 0, VM_READ | VM_WRITE);
	write_at(1, va, 1);
	spin_phys_change_state(m, MINE, c, SPIN_RECLAIMED);
	assert_int_equal(spin_phys_take_back(m, 1), 1);
	assert_int_equal(spin_phys_state(m, MINE, c), -EBADF);
	assert_int_equal(spin_phys_take_back(m, 1), 1);
	assert_int_equal(spin_phys_state(m, MINE, b), -EBADF);
	assert_int_equal(spin_phys_state(m, MINE, a), SPIN_ACTIVE);
	assert_int_equal(spin_phys_take_back(m, 9), 1);
	assert_int_equal(spin_phys_state(m, MINE, a), -EBADF);
}

/* Who has more gives: an extension's half of the memory does not starve a program. */
static void extensions_and_programs_share_what_there_is(void **state)
{
	u8 byte;
	u64 n = 0;

	(void)state;
	while (spin_phys_allocate(m, MINE) > 0)
		n++;
	assert_int_equal(n, FRAMES / 2);
	map_area(FRAMES);
	fill_area(FRAMES);
	assert_true(spin_phys_held(m) < FRAMES / 2);
	assert_true(spin_phys_held(m) > FRAMES / 8);
	for (u64 i = 0; i < FRAMES; i++) {
		assert_int_equal(read_at(0, AT + i * PAGE_SIZE, &byte), FAULT_OK);
		assert_int_equal(byte, (u8)i);
	}
}

/* ---- AddressSpace over the services ---- */

static struct spin_frame *frame_under(u64 va)
{
	struct mm *mm = spin_space_of(spin_of_system(s), spin_key_of(s, 0));
	pte_t pte;

	assert_true(engine_system_next_entry(mm, &va, &pte));
	return spin_frame_at(m, pte_pfn(pte));
}

static void address_space_s_frames_come_from_phys_addr(void **state)
{
	struct spin_frame *f;

	(void)state;
	map_area(1);
	write_at(0, AT, 1);
	f = frame_under(AT);
	assert_int_equal(f->state, SPIN_ACTIVE);
	assert_int_equal(f->owner, SPIN_ADDRESS_SPACE);
	s->program->ops->unmap(s->program, 0, AT, PAGE_SIZE);
	assert_int_equal(f->state, SPIN_FREE);
}

static void a_page_that_is_taken_is_reclaimed_and_reacts(void **state)
{
	struct spin_frame *f;
	u8 byte;

	(void)state;
	map_area(1);
	write_at(0, AT, 5);
	f = frame_under(AT);
	/* Its store does not take it just now. */
	s->program->ops->fail_swap(s->program, RAMFILE_WRITE, -EIO);
	s->program->ops->pageout(s->program, 0, AT, PAGE_SIZE);
	assert_int_equal(f->state, SPIN_RECLAIMED);
	system_measure(s);
	assert_int_equal(read_at(0, AT, &byte), FAULT_OK);
	system_measured(s);
	assert_int_equal(byte, 5);
	assert_ptr_equal(frame_under(AT), f);
	assert_int_equal(f->state, SPIN_ACTIVE);
	assert_int_equal(s->total[PAID_IO_READS], 0);
	s->program->ops->fail_swap(s->program, RAMFILE_WRITE, 0);
	s->program->ops->pageout(s->program, 0, AT, PAGE_SIZE);
	assert_int_equal(f->state, SPIN_FREE); /* written out, and Repossessed */
	assert_int_equal(read_at(0, AT, &byte), FAULT_OK);
	assert_int_equal(byte, 5);
}

static u64 retries_of_a_write(u64 va, enum fault_reason reason)
{
	system_measure(s);
	assert_int_equal(write_at(0, va, 1), reason);
	system_measured(s);
	return s->total[PAID_RETRIES];
}

static void a_stale_frame_is_tried_again_but_not_for_ever(void **state)
{
	(void)state;
	map_area(3);
	assert_int_equal(retries_of_a_write(AT, FAULT_OK), 0);
	atomic_store(&m->stale_every, 2);
	atomic_store(&m->adds, 1); /* the first is stale, the second is not */
	assert_int_equal(retries_of_a_write(AT + PAGE_SIZE, FAULT_OK), 1);
	atomic_store(&m->stale_every, 1);
	assert_int_equal(retries_of_a_write(AT + 2 * PAGE_SIZE, FAULT_OOM), SPIN_STALE_TRIES);
	atomic_store(&m->stale_every, 0);
	assert_int_equal(retries_of_a_write(AT + 2 * PAGE_SIZE, FAULT_OK), 0);
}

/* ---- an extension over the services: a pager ---- */

static struct spin_pager *pager;
static u64 object; /* its first address */

static void make_pager(u64 pages, spin_fill_fn fill)
{
	assert_int_equal(spin_pager_create(s, MINE, 1, pages, fill, NULL, &pager), 0);
	object = spin_pager_address(pager);
}

static void fill_with_number(void *arg, u64 page, void *bytes)
{
	(void)arg;
	memset(bytes, (int)page + 1, PAGE_SIZE);
}

static void an_object_s_pages_come_when_they_are_touched(void **state)
{
	u8 byte;

	(void)state;
	make_pager(3, fill_with_number);
	assert_int_equal(spin_phys_held(m), 0);
	assert_int_equal(read_at(1, object + 2 * PAGE_SIZE, &byte), FAULT_OK);
	assert_int_equal(byte, 3);
	assert_int_equal(spin_phys_held(m), 1);
	assert_int_equal(read_at(1, object + 3 * PAGE_SIZE, &byte), FAULT_MAPERR);
	assert_int_equal(read_at(0, object, &byte), FAULT_MAPERR); /* another space */
	spin_pager_destroy(pager);
	assert_int_equal(spin_phys_held(m), 0);
	assert_int_equal(read_at(1, object + 2 * PAGE_SIZE, &byte), FAULT_MAPERR);
}

static void a_page_is_written_back_and_read_back(void **state)
{
	u8 byte;

	(void)state;
	make_pager(4, NULL);
	for (u64 i = 0; i < 4; i++)
		assert_int_equal(write_at(1, object + i * PAGE_SIZE, (u8)(i + 40)), FAULT_OK);
	assert_int_equal(spin_phys_take_back(m, 4), 4);
	assert_int_equal(spin_pager_written(pager), 4);
	assert_int_equal(spin_phys_held(m), 0);
	for (u64 i = 0; i < 4; i++) {
		assert_int_equal(read_at(1, object + i * PAGE_SIZE, &byte), FAULT_OK);
		assert_int_equal(byte, i + 40);
	}
	assert_int_equal(spin_pager_read(pager), 4);
	spin_pager_destroy(pager);
}

/* Reclaimed, and touched before it is taken. */
static void a_frame_that_was_given_up_reacts_at_a_fault(void **state)
{
	struct spin_examined e;
	u8 byte;

	(void)state;
	make_pager(1, NULL);
	write_at(1, object, 7);
	assert_int_equal(
		spin_phys_change_state(m, MINE, spin_pager_frame(pager, 0), SPIN_RECLAIMED), 0);
	assert_int_equal(spin_examine_mapping(m, MINE, map, object, &e), -ENOENT);
	assert_int_equal(read_at(1, object, &byte), FAULT_OK);
	assert_int_equal(byte, 7);
	assert_int_equal(spin_pager_read(pager) + spin_pager_written(pager), 0);
	assert_int_equal(spin_phys_state(m, MINE, spin_pager_frame(pager, 0)), SPIN_ACTIVE);
	spin_pager_destroy(pager);
}

static unsigned takes_left;

/* While the object fills a page, its frame goes. */
static void fill_and_lose(void *arg, u64 page, void *bytes)
{
	fill_with_number(arg, page, bytes);
	if (takes_left) {
		takes_left--;
		assert_int_equal(spin_phys_take_back(m, 1), 1);
	}
}

static u64 retries_of_a_read(enum fault_reason reason)
{
	u8 byte = 0;

	system_measure(s);
	assert_int_equal(read_at(1, object, &byte), reason);
	system_measured(s);
	if (reason == FAULT_OK)
		assert_int_equal(byte, 1);
	return s->total[PAID_RETRIES];
}

static void a_pager_tries_again_with_another_frame_but_not_for_ever(void **state)
{
	(void)state;
	make_pager(1, fill_and_lose);
	takes_left = 100;
	assert_int_equal(retries_of_a_read(FAULT_OOM), SPIN_STALE_TRIES);
	takes_left = 3;
	assert_int_equal(retries_of_a_read(FAULT_OK), 3);
	assert_int_equal(spin_phys_held(m), 1);
	spin_pager_destroy(pager);
}

static void an_object_larger_than_its_memory_loses_nothing(void **state)
{
	const u64 n = FRAMES; /* extensions may have half of them */
	u8 byte;

	(void)state;
	make_pager(n, fill_with_number);
	for (u64 i = 0; i < n; i++)
		assert_int_equal(write_at(1, object + i * PAGE_SIZE, (u8)(i * 3)), FAULT_OK);
	assert_int_equal(spin_phys_held(m), FRAMES / 2);
	assert_int_equal(spin_pager_written(pager), FRAMES / 2);
	/* Programs need theirs. */
	map_area(FRAMES);
	fill_area(FRAMES);
	assert_true(spin_phys_held(m) < FRAMES / 2);
	for (u64 i = 0; i < n; i++) {
		assert_int_equal(read_at(1, object + i * PAGE_SIZE, &byte), FAULT_OK);
		assert_int_equal(byte, (u8)(i * 3));
	}
	spin_pager_destroy(pager);
}

/* Two CPUs write to the object while frames are taken from it all the time, until 200 pages have
 * been written back. */
#define OBJECT_PAGES 8

struct adder {
	unsigned cpu;
	u64 rounds;
	enum fault_reason reason;
};

static _Atomic unsigned adding;

/* Who has lost its frame so often in a row that the pager gives up has added nothing: once more. */
static enum fault_reason add_one(unsigned cpu, u64 va)
{
	enum fault_reason reason;
	u64 old;

	do
		reason = s->program->ops->add(s->program, cpu, va, 1, &old);
	while (reason == FAULT_OOM);
	return reason;
}

static void *add_on(void *arg)
{
	struct adder *a = arg;

	for (; a->reason == FAULT_OK && spin_pager_written(pager) < 200; a->rounds++)
		for (u64 page = 0; a->reason == FAULT_OK && page < OBJECT_PAGES; page++)
			a->reason = add_one(a->cpu, object + page * PAGE_SIZE);
	atomic_fetch_sub(&adding, 1);
	return NULL;
}

static void nothing_is_lost_while_frames_come_and_go(void **state)
{
	struct adder adders[] = { { .cpu = 0 }, { .cpu = 1 } };
	pthread_t threads[2];

	(void)state;
	s->program->ops->run(s->program, 0, 1);
	make_pager(OBJECT_PAGES, NULL);
	atomic_store(&adding, 2);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, add_on, &adders[i]);
	while (atomic_load(&adding)) {
		spin_phys_take_back(m, 2);
		sched_yield();
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(adders[i].reason, FAULT_OK);
	}
	for (u64 page = 0; page < OBJECT_PAGES; page++) {
		u64 sum = 0;

		assert_int_equal(s->program->ops->access(s->program, 1, object + page * PAGE_SIZE,
							 0, &sum, sizeof(sum)),
				 FAULT_OK);
		assert_int_equal(sum, adders[0].rounds + adders[1].rounds);
	}
	spin_pager_destroy(pager);
}

/* ---- handlers that do nothing ---- */

static unsigned ignored;

static void ignore(void *closure, struct spin_fault *f)
{
	(void)closure, (void)f;
	ignored++;
}

static void who_ignores_a_fault_stops_that_strand_and_no_other(void **state)
{
	struct spin_installation i = { .extension = MINE,
				       .event = SPIN_INVALID_TRANSLATION,
				       .order = SPIN_FIRST,
				       .handler = ignore,
				       .key = map };
	u64 va;
	u8 byte;

	(void)state;
	range(1, &va);
	assert_true(spin_install(spin_dispatcher_of(s), &i) > 0);
	ignored = 0;
	assert_int_equal(read_at(1, va, &byte), FAULT_MAPERR); /* UnhandledUserSpace */
	assert_int_equal(ignored, 1);
	map_area(1);
	assert_int_equal(write_at(0, AT, 1), FAULT_OK);
	assert_int_equal(ignored, 1);
}

#define with_system(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_system(a_frame_comes_active_and_full_of_zeros),
		with_system(giving_back_twice_is_giving_back_once),
		with_system(states_change_only_as_they_may),
		with_system(a_mapping_is_what_the_program_sees),
		with_system(what_is_asked_for_is_checked),
		with_system(ranges_do_not_overlap),
		with_system(examine_mapping_says_what_was_written),
		with_system(a_frame_that_goes_takes_all_its_mappings_along),
		with_system(a_frame_that_is_reclaimed_is_mapped_nowhere_and_stale),
		with_system(a_space_that_ends_leaves_frames_and_takes_ranges),
		with_system(the_oldest_frame_goes_and_its_owner_sees_it_last),
		with_system(a_handler_may_name_another_frame_of_its_own),
		with_system(what_was_used_gets_a_second_chance_and_what_is_given_up_goes_first),
		with_system(extensions_and_programs_share_what_there_is),
		with_system(address_space_s_frames_come_from_phys_addr),
		with_system(a_page_that_is_taken_is_reclaimed_and_reacts),
		with_system(a_stale_frame_is_tried_again_but_not_for_ever),
		with_system(an_object_s_pages_come_when_they_are_touched),
		with_system(a_page_is_written_back_and_read_back),
		with_system(a_frame_that_was_given_up_reacts_at_a_fault),
		with_system(a_pager_tries_again_with_another_frame_but_not_for_ever),
		with_system(an_object_larger_than_its_memory_loses_nothing),
		with_system(nothing_is_lost_while_frames_come_and_go),
		with_system(who_ignores_a_fault_stops_that_strand_and_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
