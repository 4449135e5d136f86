/* SPDX-License-Identifier: MIT */
/*
 * What huge pages save on the soft machine: the same random accesses over the same memory, in small
 * pages and in huge ones.  Faults, walks and references to page tables are counted, and the same in
 * every run; the time of an access is measured, the two by turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/soft_bench.h"
#include "engine/space/calls.h"
#include "engine/space/uapi.h"

enum { ACCESSES = 2000000, MOST_ROUNDS = 101 };

struct figures {
	u64 faults, misses, references;
	double ns[MOST_ROUNDS]; /* an access, the first touch included */
};

static u64 next(u64 *rnd)
{
	*rnd ^= *rnd >> 12;
	*rnd ^= *rnd << 25;
	*rnd ^= *rnd >> 27;
	return *rnd * 0x2545f4914f6cdd1dULL;
}

static void access_at_random(struct soft_cpu *cpu, u64 base, u64 bytes)
{
	u64 rnd = 1, word;

	for (unsigned i = 0; i < ACCESSES; i++) {
		u64 va = base + (next(&rnd) % bytes & ~7ULL);
		bool write = i % 4 == 0;

		if ((write ? soft_write_u64(cpu, va, i) : soft_read_u64(cpu, va, &word)) !=
		    FAULT_OK)
			give_up("an access failed");
	}
}

/* One round in a new space. */
static void run(struct soft_machine *m, u64 bytes, bool huge, unsigned round, struct figures *f)
{
	struct mm *mm = bench_space(m);
	struct soft_cpu *cpu = &m->cpus[0];
	s64 base = vm_map(mm, 1ULL << 40, bytes, VM_READ | VM_WRITE, VMAP_FIXED, 0);
	u64 misses = cpu->misses, references = cpu->references;
	double start;

	if (base < 0 ||
	    do_madvise(mm, (u64)base, bytes, huge ? UAPI_MADV_HUGEPAGE : UAPI_MADV_NOHUGEPAGE))
		give_up("no memory");
	start = thread_ns();
	access_at_random(cpu, (u64)base, bytes);
	f->ns[round] = (thread_ns() - start) / ACCESSES;
	f->faults = mm->minor;
	f->misses = cpu->misses - misses;
	f->references = cpu->references - references;
	soft_load_mm(cpu, NULL);
	mm_destroy(mm);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *ns, unsigned n)
{
	qsort(ns, n, sizeof(*ns), by_value);
	return ns[n / 2];
}

int main(int argc, char **argv)
{
	static const unsigned sizes[] = { 2, 16, 64, 128 }; /* MiB */
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 5;
	struct soft_machine *m = bench_machine(1, PAGES(192), 1);

	if (!rounds || rounds > MOST_ROUNDS) {
		fprintf(stderr, "usage: %s [rounds, 1 to %d]\n", argv[0], MOST_ROUNDS);
		return 2;
	}
	printf("%u random accesses, a quarter of them writes, in a new area\n", ACCESSES);
	printf("%5s %-6s %8s %10s %11s %8s\n", "MiB", "pages", "faults", "TLB misses", "references",
	       "ns each");
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		static struct figures f[2];

		memset(f, 0, sizeof(f));
		for (unsigned r = 0; r < rounds; r++)
			for (unsigned huge = 0; huge < 2; huge++)
				run(m, MIB(sizes[s]), huge, r, &f[huge]);
		for (unsigned huge = 0; huge < 2; huge++)
			printf("%5u %-6s %8llu %10llu %11llu %8.1f\n", sizes[s],
			       huge ? "2 MiB" : "4 KiB", (unsigned long long)f[huge].faults,
			       (unsigned long long)f[huge].misses,
			       (unsigned long long)f[huge].references, median(f[huge].ns, rounds));
	}
	return 0;
}
