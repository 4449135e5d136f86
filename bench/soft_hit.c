/* SPDX-License-Identifier: MIT */
/*
 * What an access costs on the soft machine: a hit in the TLB, and a miss that walks.
 * Prints the median of five rounds of each, in nanoseconds an access.
 */
#include <stdio.h>
#include <stdlib.h>

#include "machine/soft/soft.h"

enum { ACCESSES = 20000000, ROUNDS = 5, TABLES = 8, FRAMES = 1024 };
#define BASE 0x7f0000000000ULL

static struct mm mm;

static struct fault_result no_fault(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	(void)cpu;
	fprintf(stderr, "unexpected fault at %llx, code %x\n", (unsigned long long)cr2, code);
	exit(1);
}

static struct soft_cpu *create(void)
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
	return &m->cpus[0];
}

/* ns an access; `stride` bytes between accesses, over `pages` pages, again and again. */
static double measure(struct soft_cpu *cpu, bool write, u64 pages, u64 stride)
{
	u64 at = 0, sum = 0, start = machine_now_ns(), ns;

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
	ns = machine_now_ns() - start;
	__asm__ volatile("" ::"r"(sum));
	return (double)ns / ACCESSES;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(struct soft_cpu *cpu, const char *what, bool write, u64 pages, u64 stride)
{
	double ns[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		ns[i] = measure(cpu, write, pages, stride);
	qsort(ns, ROUNDS, sizeof(*ns), by_size);
	printf("%-28s %6.2f ns\n", what, ns[ROUNDS / 2]);
}

int main(void)
{
	struct soft_cpu *cpu = create();

	report(cpu, "read, TLB hit", false, TLB_ENTRIES, 64 + 8);
	report(cpu, "write, TLB hit", true, TLB_ENTRIES, 64 + 8);
	report(cpu, "read, another page each time", false, TLB_ENTRIES, PAGE_SIZE + 8);
	report(cpu, "read, TLB miss", false, 2 * TLB_ENTRIES, PAGE_SIZE);
	return 0;
}
