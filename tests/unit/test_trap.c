/* SPDX-License-Identifier: MIT */
/*
 * Vector 14 on a kernel of the soft machine: which end each fault comes to, with which signal, and
 * in which state of interrupts and locks; the kernel half of the address space; and oopses.
 */
#include "machine/soft/kernel.h"
#include "tests/unit/one_world.h"
#include "tests/unit/panics.h"

#define VMALLOC	    0xffffc90000000000ULL
#define VMALLOC_END 0xffffe90000000000ULL
#define KRW	    (PTE_WRITE | PTE_NX)

static struct soft_kernel *k;
static struct task task;
static char said[8192];

static void listen(const char *text)
{
	size_t n = strlen(said);

	snprintf(said + n, sizeof(said) - n, "%s\n", text);
}

static void boot(enum kernel_half half)
{
	start((struct world_options){ .cpus = 2 });
	assert_int_equal(soft_kernel_create(w.m, half, VMALLOC, VMALLOC_END, &k), 0);
	task = (struct task){ .mm = mm, .pid = 100, .name = "program" };
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &task);
	said[0] = 0;
	host_on_message(listen);
}

static int setup(void **state)
{
	(void)state;
	boot(KERNEL_HALF_SHARED);
	return 0;
}

static int setup_lazy(void **state)
{
	(void)state;
	boot(KERNEL_HALF_LAZY);
	return 0;
}

static int end_of_test(void **state)
{
	host_on_message(NULL);
	for (unsigned i = 0; i < 2; i++)
		soft_load_mm(&w.m->cpus[i], NULL);
	soft_kernel_destroy(k);
	w.m->general_protection = NULL;
	return teardown(state);
}

static void expect_signal(int sig, int code, u64 address, u32 error_code)
{
	assert_int_equal(k->cpus[0].end, TRAP_SIGNAL);
	assert_int_equal(task.signal.sig, sig);
	assert_int_equal(task.signal.code, code);
	assert_int_equal(task.signal.address, address);
	assert_int_equal(task.signal.trap, address ? TRAP_PF : task.signal.trap);
	assert_int_equal(task.signal.error_code, error_code);
	task.signal.sig = 0;
}

static void read_byte(u64 va)
{
	u8 byte;

	soft_read_byte(w.cpu, va, &byte);
}

static void write_byte(u64 va)
{
	soft_write_byte(w.cpu, va, 1);
}

static void fetch_byte(u64 va)
{
	u8 byte;

	soft_fetch(w.cpu, va, &byte, 1);
}

/* ---- the program's own accesses: rows of the golden vectors ---- */

static void an_unmapped_address_is_a_maperr_with_the_exact_address(void **state)
{
	(void)state;
	read_byte(AT(5) + 77);
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, AT(5) + 77, 4);
	fetch_byte(AT(5) + 3);
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, AT(5) + 3, 0x14);
	read_byte(8);
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, 8, 4);
}

static void what_a_mapping_forbids_is_an_accerr(void **state)
{
	(void)state;
	map(0, 1, 0);
	read_byte(AT(0) + 5);
	expect_signal(SIGNAL_SEGV, SEGV_ACCERR, AT(0) + 5, 4);
	write_byte(AT(0) + 6);
	expect_signal(SIGNAL_SEGV, SEGV_ACCERR, AT(0) + 6, 6);
	map(1, 1, VM_READ);
	write_byte(AT(1));
	expect_signal(SIGNAL_SEGV, SEGV_ACCERR, AT(1), 6);
	read_byte(AT(1));
	write_byte(AT(1));
	expect_signal(SIGNAL_SEGV, SEGV_ACCERR, AT(1), 7);
	fetch_byte(AT(1));
	expect_signal(SIGNAL_SEGV, SEGV_ACCERR, AT(1), 0x15);
}

static void the_kernel_half_looks_protected_whatever_is_there(void **state)
{
	(void)state;
	read_byte(KERNEL_START + 1);
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, KERNEL_START + 1, 5);
	write_byte(KERNEL_START);
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, KERNEL_START, 7);
	read_byte(TASK_END); /* the page that is never given */
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, TASK_END, 5);
}

static void an_address_that_is_not_canonical_is_no_page_fault(void **state)
{
	(void)state;
	read_byte(0x0000800000000000ULL);
	assert_int_equal(task.signal.trap, TRAP_GP);
	expect_signal(SIGNAL_SEGV, CODE_KERNEL, 0, 0);
}

static void a_page_that_cannot_be_had_is_a_bus_error(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	flaky.load_error = -EIO;
	flaky.error_slot = -1;
	read_byte(AT(0) + 9);
	expect_signal(SIGNAL_BUS, BUS_ADRERR, AT(0) + 9, 4);
	flaky.load_error = 0;
	assert_int_equal(get(0), 1);
}

static void a_key_that_forbids_is_a_pkuerr_and_says_which(void **state)
{
	struct mmu_control c = w.cpu->control;
	spinlock_t *ptl;
	pte_t *ptep;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	ptep = pte_find(mm, AT(0), &ptl);
	pte_set_bits(ptep, 3ULL << PTE_KEY_SHIFT);
	soft_invlpg(w.cpu, AT(0));
	c.pke = true;
	c.pkru = 2u << 6; /* key 3: no write */
	soft_set_control(w.cpu, &c);
	assert_int_equal(get(0), 1);
	write_byte(AT(0));
	assert_int_equal(task.signal.pkey, 3);
	expect_signal(SIGNAL_SEGV, SEGV_PKUERR, AT(0), 0x27);
}

static void a_reserved_bit_is_a_bug_whoever_meets_it(void **state)
{
	spinlock_t *ptl;
	pte_t *ptep;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	ptep = pte_find(mm, AT(0), &ptl);
	pte_set_bits(ptep, 1ULL << 50);
	soft_invlpg(w.cpu, AT(0));
	read_byte(AT(0));
	assert_int_equal(k->cpus[0].end, TRAP_OOPS);
	assert_non_null(strstr(said, "reserved bit violation"));
	pte_reset_bits(ptep, 1ULL << 50);
}

/* ---- interrupts ---- */

static void interrupts_are_on_in_a_fault_only_if_they_were_before(void **state)
{
	struct soft_kernel_cpu *c = &k->cpus[0];
	unsigned before;

	(void)state;
	map(0, 4, RW);
	before = c->irq_enables;
	put(0, 1);
	assert_int_equal(c->irq_enables, before + 1);
	assert_true(c->irqs);
	c->regs.flags &= ~(u64)EFLAGS_IF;
	put(1, 1);
	assert_int_equal(c->irq_enables, before + 1);
	assert_false(c->irqs);
	c->regs.flags |= EFLAGS_IF;
	/* In the kernel half nothing sleeps, so they stay off. */
	read_byte(KERNEL_START);
	assert_int_equal(c->irq_enables, before + 1);
}

/* ---- the kernel's accesses to the program's memory ---- */

static void a_kernel_access_brings_the_programs_page_in(void **state)
{
	char byte = 'x';

	(void)state;
	map(0, 1, RW);
	assert_int_equal(soft_kernel_store(k, 0, INSN_COPY, true, AT(0), &byte, 1), TRAP_RETRY);
	assert_int_equal(get(0), 'x');
	assert_int_equal(task.signal.sig, 0);
}

static void a_bad_address_goes_to_the_fixup_or_is_an_oops(void **state)
{
	char byte;

	(void)state;
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, true, AT(5), &byte, 1), TRAP_FIXUP);
	assert_int_equal(said[0], 0);
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, true, AT(5), &byte, 1), TRAP_OOPS);
	assert_non_null(strstr(said, "BUG: unable to handle page fault for address"));
	assert_true(task.killed);
}

static void without_stac_there_is_an_oops_even_with_a_fixup(void **state)
{
	char byte;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, false, AT(0), &byte, 1), TRAP_OOPS);
	assert_non_null(strstr(said, "supervisor read access in kernel mode"));
	assert_non_null(strstr(said, "permissions violation"));
}

static void a_jump_into_the_program_is_an_oops_even_with_a_fixup(void **state)
{
	(void)state;
	map(0, 1, VM_READ | VM_EXEC);
	read_byte(AT(0));
	assert_int_equal(soft_kernel_jump(k, 0, INSN_COPY, AT(0)), TRAP_OOPS);
	assert_non_null(strstr(said, "unable to execute userspace code"));
}

static void with_faults_disabled_nothing_is_brought_in(void **state)
{
	char byte;

	(void)state;
	map(0, 1, RW);
	pagefault_disable(&task);
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, true, AT(0), &byte, 1), TRAP_FIXUP);
	pagefault_enable(&task);
	assert_int_equal(mm->minor, 0);
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, true, AT(0), &byte, 1), TRAP_RETRY);
}

static void an_interrupt_may_not_fault_either(void **state)
{
	char byte;

	(void)state;
	map(0, 1, RW);
	task.in_interrupt = true;
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, true, AT(0), &byte, 1), TRAP_FIXUP);
	assert_panics(soft_kernel_load(k, 0, INSN_OTHER, true, AT(0), &byte, 1),
		      "Fatal exception in interrupt");
}

static void a_kernel_thread_has_no_memory_of_a_programs(void **state)
{
	struct task thread = { .mm = NULL, .pid = 7, .name = "kthread" };
	char byte;

	(void)state;
	map(0, 1, RW);
	soft_kernel_run(k, 0, &thread); /* the program's tables are still loaded */
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, true, AT(0), &byte, 1), TRAP_FIXUP);
}

/*
 * The kernel holds mmap_lock for writing and, by a bug, touches an address of the program's.
 * Waiting for the lock would be waiting for itself.  It is known not to hold it only where it is
 * meant to touch the program: at the instructions that have a fixup.
 */
static void a_bug_under_mmap_lock_is_an_oops_and_no_deadlock(void **state)
{
	char byte;

	(void)state;
	map(0, 1, RW);
	down_write(&mm->mmap_lock);
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, true, AT(0), &byte, 1), TRAP_OOPS);
	up_write(&mm->mmap_lock);
	/* With nobody in the way it is not even noticed. */
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, true, AT(0), &byte, 1), TRAP_RETRY);
}

/* ---- the kernel's own memory ---- */

static void what_is_mapped_below_shared_entries_is_there_in_all_spaces(void **state)
{
	struct page *page = page_alloc(w.e, ZONE_USER, 0, 0);
	struct task other = { .pid = 101, .name = "other" };
	char byte = 0;

	(void)state;
	assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &other.mm), 0);
	kernel_attach(&k->kernel, other.mm);
	assert_int_equal(kernel_map(&k->kernel, VMALLOC, page_pfn(w.e, page), KRW), 0);
	assert_int_equal(kernel_map(&k->kernel, VMALLOC, page_pfn(w.e, page), KRW), -EEXIST);
	assert_int_equal(kernel_map(&k->kernel, VMALLOC + 1, 0, KRW), -EINVAL);
	assert_int_equal(kernel_map(&k->kernel, AT(0), 0, KRW), -EINVAL);
	byte = 'k';
	assert_int_equal(soft_kernel_store(k, 0, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_RETRY);
	soft_kernel_run(k, 0, &other);
	byte = 0;
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_RETRY);
	assert_int_equal(byte, 'k');
	assert_int_equal(w.cpu->faults, 0);
	assert_int_equal(kernel_unmap(&k->kernel, VMALLOC), page_pfn(w.e, page));
	assert_int_equal(kernel_unmap(&k->kernel, VMALLOC), -ENOENT);
	soft_kernel_run(k, 0, &task);
	soft_invlpg(w.cpu, VMALLOC);
	page_put(w.e, page);
	mm_destroy(other.mm);
}

static void in_the_lazy_way_the_first_touch_copies_the_entry(void **state)
{
	struct page *page = page_alloc(w.e, ZONE_USER, 0, 0);
	char byte = 'k';

	(void)state;
	assert_int_equal(kernel_map(&k->kernel, VMALLOC, page_pfn(w.e, page), KRW), 0);
	assert_int_equal(kernel_map(&k->kernel, VMALLOC + PAGE_SIZE, page_pfn(w.e, page), KRW), 0);
	assert_int_equal(soft_kernel_store(k, 0, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_RETRY);
	assert_int_equal(w.cpu->faults, 1);
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, false, VMALLOC + PAGE_SIZE, &byte, 1),
			 TRAP_RETRY);
	assert_int_equal(w.cpu->faults, 1); /* one entry, 512 GiB */
	assert_int_equal(byte, 'k');
	/* Outside the area, or not there at all, it is a bug. */
	assert_int_equal(kernel_map(&k->kernel, KERNEL_START, page_pfn(w.e, page), KRW), 0);
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, false, KERNEL_START, &byte, 1),
			 TRAP_OOPS);
	assert_int_equal(
		soft_kernel_load(k, 0, INSN_OTHER, false, VMALLOC + 2 * PAGE_SIZE, &byte, 1),
		TRAP_OOPS);
	/* The program cannot have it brought in. */
	read_byte(VMALLOC);
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, VMALLOC, 5);
	kernel_unmap(&k->kernel, VMALLOC);
	kernel_unmap(&k->kernel, VMALLOC + PAGE_SIZE);
	kernel_unmap(&k->kernel, KERNEL_START);
	soft_load_mm(w.cpu, NULL);
	page_put(w.e, page);
}

static void rights_that_were_raised_make_a_spurious_fault_harmless(void **state)
{
	struct page *page = page_alloc(w.e, ZONE_USER, 0, 0);
	char byte = 'k';

	(void)state;
	assert_int_equal(kernel_map(&k->kernel, VMALLOC, page_pfn(w.e, page), PTE_NX), 0);
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_RETRY);
	pte_set_bits(kernel_pte(&k->kernel, VMALLOC), PTE_WRITE); /* and no flush */
	assert_int_equal(soft_kernel_store(k, 0, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_RETRY);
	assert_int_equal(w.cpu->faults, 1);
	/* A page that is still read-only is no such case. */
	pte_reset_bits(kernel_pte(&k->kernel, VMALLOC), PTE_WRITE);
	soft_invlpg(w.cpu, VMALLOC);
	assert_int_equal(soft_kernel_store(k, 0, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_OOPS);
	kernel_unmap(&k->kernel, VMALLOC);
	soft_invlpg(w.cpu, VMALLOC);
	page_put(w.e, page);
}

/* ---- probes ---- */

static unsigned probed;

static bool probe(void *ctx, struct pt_regs *regs, u32 trap)
{
	(void)ctx;
	(void)regs;
	assert_int_equal(trap, TRAP_PF);
	probed++;
	return true;
}

static void a_probe_takes_the_kernels_faults_and_not_the_programs(void **state)
{
	char byte;

	(void)state;
	probed = 0;
	k->kernel.kprobe = probe;
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_KPROBE);
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, true, AT(9), &byte, 1), TRAP_KPROBE);
	assert_int_equal(probed, 2);
	read_byte(AT(9));
	expect_signal(SIGNAL_SEGV, SEGV_MAPERR, AT(9), 4);
	assert_int_equal(probed, 2);
}

/* ---- oopses ---- */

static void an_oops_tells_all_that_helps(void **state)
{
	static const char *const parts[] = {
		"BUG: kernel NULL pointer dereference, address: 0000000000000010\n",
		"#PF: supervisor write access in kernel mode\n",
		"#PF: error_code(0x0002) - not-present page\n",
		"PGD 0\n",
		"CR2: 0000000000000010\n",
		"Oops #1: pid 100, program\n",
		"RIP: 0010:",
		"RAX: 000000000000002a",
		"Call Trace:\n",
	};
	char byte = 1;

	(void)state;
	k->cpus[0].regs.reg[REG_AX] = 42;
	assert_int_equal(soft_kernel_store(k, 0, INSN_OTHER, true, 0x10, &byte, 1), TRAP_OOPS);
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		if (!strstr(said, parts[i]))
			fail_msg("not said: %s but:\n%s", parts[i], said);
}

static void an_oops_shows_the_tables_down_to_the_page(void **state)
{
	char byte;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, false, AT(0), &byte, 1), TRAP_OOPS);
	assert_non_null(strstr(said, "PGD "));
	assert_non_null(strstr(said, "PUD "));
	assert_non_null(strstr(said, "PMD "));
	assert_non_null(strstr(said, "PTE "));
}

static void where_there_is_nobody_to_kill_there_is_a_panic(void **state)
{
	char byte;

	(void)state;
	task.pid = 1;
	assert_panics(soft_kernel_load(k, 0, INSN_OTHER, true, 0, &byte, 1), "kill init");
	task.pid = 0;
	assert_panics(soft_kernel_load(k, 0, INSN_OTHER, true, 0, &byte, 1), "idle");
	task.pid = 100;
	k->kernel.panic_on_oops = true;
	assert_panics(soft_kernel_load(k, 0, INSN_OTHER, true, 0, &byte, 1), "Fatal exception");
}

static void the_kernel_faults_at_an_address_that_is_not_canonical(void **state)
{
	char byte;

	(void)state;
	assert_int_equal(soft_kernel_load(k, 0, INSN_COPY, true, 1ULL << 50, &byte, 1), TRAP_FIXUP);
	assert_int_equal(soft_kernel_load(k, 0, INSN_OTHER, true, 1ULL << 50, &byte, 1), TRAP_OOPS);
	assert_non_null(strstr(said, "general protection fault"));
}

#define T(name)	     cmocka_unit_test_setup_teardown(name, setup, end_of_test)
#define T_LAZY(name) cmocka_unit_test_setup_teardown(name, setup_lazy, end_of_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_unmapped_address_is_a_maperr_with_the_exact_address),
		T(what_a_mapping_forbids_is_an_accerr),
		T(the_kernel_half_looks_protected_whatever_is_there),
		T(an_address_that_is_not_canonical_is_no_page_fault),
		T(a_page_that_cannot_be_had_is_a_bus_error),
		T(a_key_that_forbids_is_a_pkuerr_and_says_which),
		T(a_reserved_bit_is_a_bug_whoever_meets_it),
		T(interrupts_are_on_in_a_fault_only_if_they_were_before),
		T(a_kernel_access_brings_the_programs_page_in),
		T(a_bad_address_goes_to_the_fixup_or_is_an_oops),
		T(without_stac_there_is_an_oops_even_with_a_fixup),
		T(a_jump_into_the_program_is_an_oops_even_with_a_fixup),
		T(with_faults_disabled_nothing_is_brought_in),
		T(an_interrupt_may_not_fault_either),
		T(a_kernel_thread_has_no_memory_of_a_programs),
		T(a_bug_under_mmap_lock_is_an_oops_and_no_deadlock),
		T(what_is_mapped_below_shared_entries_is_there_in_all_spaces),
		T_LAZY(in_the_lazy_way_the_first_touch_copies_the_entry),
		T(rights_that_were_raised_make_a_spurious_fault_harmless),
		T(a_probe_takes_the_kernels_faults_and_not_the_programs),
		T(an_oops_tells_all_that_helps),
		T(an_oops_shows_the_tables_down_to_the_page),
		T(where_there_is_nobody_to_kill_there_is_a_panic),
		T(the_kernel_faults_at_an_address_that_is_not_canonical),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
