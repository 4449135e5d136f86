/* SPDX-License-Identifier: MIT */
#include "bench/soft_bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The default of `rounds`, and the most. */
enum { ROUNDS = 11, MOST_ROUNDS = 101 };

_Noreturn void give_up(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static double clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

double thread_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

double process_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* ---- the kernel's process ---- */

struct worker {
	pid_t pid;
	int ask, answer;
};

static void work(const struct contest *contests, int ask, int answer)
{
	unsigned which;

	while (read(ask, &which, sizeof(which)) == sizeof(which)) {
		double ns = contests[which].kernel(contests[which].arg);

		if (write(answer, &ns, sizeof(ns)) != sizeof(ns))
			exit(1);
	}
	exit(0);
}

static struct worker start_worker(const struct contest *contests)
{
	int ask[2], answer[2];
	struct worker w;

	if (pipe(ask) || pipe(answer))
		give_up("pipe");
	w.pid = fork();
	if (w.pid < 0)
		give_up("fork");
	if (!w.pid) {
		close(ask[1]);
		close(answer[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
		work(contests, ask[0], answer[1]);
	}
	close(ask[0]);
	close(answer[1]);
	w.ask = ask[1];
	w.answer = answer[0];
	return w;
}

static double ask_worker(const struct worker *w, unsigned which)
{
	double ns;

	if (write(w->ask, &which, sizeof(which)) != sizeof(which) ||
	    read(w->answer, &ns, sizeof(ns)) != sizeof(ns))
		give_up("the kernel's side");
	return ns;
}

static void end_worker(const struct worker *w)
{
	int status;

	close(w->ask);
	waitpid(w->pid, &status, 0);
	close(w->answer);
}

/* ---- contests ---- */

static void print_rounds(const char *who, const double *ns, unsigned n)
{
	printf(", \"%s\": [", who);
	for (unsigned i = 0; i < n; i++)
		printf("%s%.2f", i ? ", " : "", ns[i]);
	printf("]");
}

/* Who is first changes from round to round.  One more round in the beginning is thrown away. */
static void run_contest(const struct contest *c, unsigned which, const struct worker *w,
			unsigned rounds)
{
	double kernel[MOST_ROUNDS + 1], ours[MOST_ROUNDS + 1];

	for (unsigned i = 0; i <= rounds; i++) {
		if (c->kernel && i % 2)
			kernel[i] = ask_worker(w, which);
		ours[i] = c->ours(c->arg);
		if (c->kernel && i % 2 == 0)
			kernel[i] = ask_worker(w, which);
	}
	printf("{\"name\": \"%s\", \"unit\": \"%s\", \"target\": %.2f", c->name, c->unit,
	       c->target);
	if (c->kernel)
		print_rounds("kernel", kernel + 1, rounds);
	print_rounds("ours", ours + 1, rounds);
	if (c->print)
		c->print();
	printf("}\n");
	fflush(stdout);
}

int run_contests(const struct contest *contests, unsigned n, void (*start)(void), int argc,
		 char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : ROUNDS;
	struct worker w;

	if (!rounds || rounds > MOST_ROUNDS) {
		fprintf(stderr, "%s [rounds, 1 to %d [part of a name]]\n", argv[0], MOST_ROUNDS);
		return 1;
	}
	w = start_worker(contests);
	if (start)
		start();
	for (unsigned i = 0; i < n; i++)
		if (argc < 3 || strstr(contests[i].name, argv[2]))
			run_contest(&contests[i], i, &w, (unsigned)rounds);
	end_worker(&w);
	return 0;
}

/* ---- the engine's side ---- */

/* Nothing is evicted here. */
static int refuse(struct store *s, u64 slot, const void *bytes)
{
	(void)s, (void)slot, (void)bytes;
	return -ENOSPC;
}

static const struct store_ops no_store_ops = { .kind = "none", .save = refuse };
static struct store no_store = { .ops = &no_store_ops, .nr_slots = 64 };

struct soft_machine *bench_machine(unsigned cpus, u64 frames, unsigned prefetch)
{
	struct engine_config config = engine_default_config(frames);
	struct soft_options o = { .table_frames = frames / 64 + 256,
				  .user_frames = frames,
				  .nr_cpus = cpus,
				  .store = &no_store,
				  .config = &config };
	struct soft_machine *m;
	u64 bytes;

	config.prefetch = prefetch;
	errno = ENOMEM;
	if (soft_create(&o, &m))
		give_up("the soft machine");
	bytes = (m->nr_table + m->nr_user) << PAGE_SHIFT;
	madvise(m->memory, bytes, MADV_HUGEPAGE);
	for (u64 i = 0; i < bytes; i += PAGE_SIZE)
		((volatile char *)m->memory)[i] = ((volatile char *)m->memory)[i];
	return m;
}

struct mm *bench_space(struct soft_machine *m)
{
	struct mm *mm;

	if (mm_create(&m->engine, PAGE_SIZE, 1ULL << 47, &mm))
		give_up("the space");
	for (unsigned i = 0; i < m->nr_cpus; i++)
		soft_load_mm(&m->cpus[i], mm);
	return mm;
}

char *map_small_pages(size_t bytes)
{
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		give_up("mmap");
	madvise(at, bytes, MADV_NOHUGEPAGE);
	return at;
}
