/* SPDX-License-Identifier: MIT */
/* What an access costs on the soft machine: a hit in the TLB, and a miss that walks. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/soft_bench.h"

enum { ACCESSES = 5000000, TABLES = 8, FRAMES = 1024 };
#define BASE 0x7f0000000000ULL

static struct mm mm;
static struct soft_cpu *cpu;

static struct fault_result no_fault(struct soft_cpu *at, u64 cr2, u32 code)
{
	(void)at;
	fprintf(stderr, "unexpected fault at %llx, code %x\n", (unsigned long long)cr2, code);
	exit(1);
}

static void create(void)
{
	struct soft_options o = {
		.table_frames = TABLES, .user_frames = FRAMES, .nr_cpus = 1, .trap = no_fault
	};
	struct soft_machine *m;
	pte_t *table;
	u64 i, frame = 0;

	if (soft_create_hardware(&o, &m)) {
		fprintf(stderr, "cannot create the machine\n");
		exit(1);
	}
	mm.engine = &m->engine;
	mm.pgd_phys = frame++;
	table = (pte_t *)m->memory;
	for (enum mmu_level l = LEVEL_P4D; l > LEVEL_PTE; l--, frame++) {
		table[level_index(l, BASE)] = pte_make(frame, PTE_PRESENT | PTE_WRITE | PTE_USER);
		table = (pte_t *)(m->memory + frame * PAGE_SIZE);
	}
	for (i = 0; i < PTRS_PER_TABLE; i++)
		table[i] = pte_make(TABLES + i, PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_NX);
	soft_load_mm(&m->cpus[0], &mm);
	cpu = &m->cpus[0];
}

/* ns an access; `stride` bytes between accesses, over `pages` pages, again and again. */
static double measure(bool write, u64 pages, u64 stride)
{
	u64 at = 0, sum = 0;
	double start = thread_ns(), ns;

	for (unsigned i = 0; i < ACCESSES; i++) {
		u64 word;

		if (write) {
			soft_write_u64(cpu, BASE + at, i);
		} else {
			soft_read_u64(cpu, BASE + at, &word);
			sum += word;
		}
		at += stride;
		if (at >= pages * PAGE_SIZE)
			at = 0;
	}
	ns = thread_ns() - start;
	__asm__ volatile("" ::"r"(sum));
	return ns / ACCESSES;
}

/* Over as many pages as the TLB has entries. */
static double hit(u64 write)
{
	return measure(write, TLB_ENTRIES, 64 + 8);
}

static double another_page(u64 arg)
{
	(void)arg;
	return measure(false, TLB_ENTRIES, PAGE_SIZE + 8);
}

static double miss(u64 arg)
{
	(void)arg;
	return measure(false, 2 * TLB_ENTRIES, PAGE_SIZE);
}

static const struct contest contests[] = {
	{ "TLB hit, read", "ns", 5, NULL, hit, false, NULL },
	{ "TLB hit, write", "ns", 5, NULL, hit, true, NULL },
	{ "TLB hit, another page each time", "ns", 5, NULL, another_page, 0, NULL },
	{ "TLB miss", "ns", 0, NULL, miss, 0, NULL },
};

int main(int argc, char **argv)
{
	return run_contests(contests, sizeof(contests) / sizeof(*contests), create, argc, argv);
}
