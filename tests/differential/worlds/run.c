/* SPDX-License-Identifier: MIT */
/*
 * A run of one world: a keeper for what it needs of the kernel, and a worker that does the
 * sequences, so that a side that crashes is told like any other trouble.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/differential/shorten.h"
#include "tests/differential/worlds/keeper.h"

#define TIMES_TO_DIFFER 3

const struct oracle_world *const worlds[] = { &world_huge,	    &world_hugeswap,
					      &world_hugetlb,	    &world_userfault,
					      &world_userfaultswap, &world_pageout,
					      &world_systems };
const unsigned nr_worlds = sizeof(worlds) / sizeof(*worlds);

static double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- random numbers ---- */

static u64 random_state;

u64 mix(u64 x)
{
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x;
}

u64 chance(u64 n)
{
	random_state = mix(random_state);
	return (random_state * 0x2545f4914f6cdd1dULL >> 11) % n;
}

/* The n-th sequence of a seed is the same whatever the others are. */
static void seed_chance(u64 seed, u64 number)
{
	random_state = ((seed + 1) * 0x9e3779b97f4a7c15ULL + number) * 0xbf58476d1ce4e5b9ULL;
	random_state ^= random_state >> 31;
	random_state = random_state ?: 1;
}

/* ---- the worker ---- */

struct worker {
	const struct oracle_world *world;
	const struct world_run *options;
	struct world_result *result;
	double told; /* progress, when */
	double deadline;
	struct script script, best;
	struct world_trial trial;
};

static void do_script(struct worker *w, const struct script *script)
{
	memset(&w->trial, 0, sizeof(w->trial));
	w->world->perform(script, w->options->engine_only, &w->trial);
}

static void count(struct world_result *r, const struct script *script,
		  const struct world_trial *trial)
{
	for (unsigned i = 0; i < script->n; i++) {
		s64 result = trial->results[i];
		u32 call;

		memcpy(&call, script->steps[i], sizeof(call));
		r->calls[call]++;
		r->errnos[call][result < 0 && result > -MOST_ERRNOS ? -result : 0]++;
	}
	for (unsigned call = 0; call < MOST_CALLS; call++)
		for (unsigned err = 0; err < MOST_ERRNOS; err++) {
			r->calls[call] += trial->besides[call][err];
			r->errnos[call][err] += trial->besides[call][err];
			r->operations += trial->besides[call][err];
		}
	for (unsigned i = 0; i < MOST_ROWS; i++)
		r->rows[i] += trial->rows[i];
	r->operations += script->n;
	r->sequences++;
}

static unsigned best_length(const void *ctx)
{
	return ((const struct worker *)ctx)->best.n;
}

static bool still_differs(struct worker *w)
{
	do_script(w, &w->script);
	if (w->trial.verdict != VERDICT_DIFFERS)
		return false;
	/* What comes after has nothing to do with it. */
	w->script.n = w->trial.at + 1;
	w->best = w->script;
	return true;
}

static bool without(void *ctx, unsigned from, unsigned n)
{
	struct worker *w = ctx;
	unsigned all = w->best.n;

	n = min_of(n, all - from);
	if (n == all)
		return false;
	w->script = w->best;
	memmove(w->script.steps[from], w->best.steps[from + n], (all - from - n) * STEP_SIZE);
	w->script.n = all - n;
	if (w->world->mend)
		w->world->mend(&w->script);
	return w->script.n && still_differs(w);
}

static bool in_time(const void *ctx)
{
	return now_seconds() < ((const struct worker *)ctx)->deadline;
}

/* Numbers that may as well be zero are. */
static void clear_numbers(struct worker *w)
{
	for (unsigned i = 0; i < w->best.n && in_time(w); i++)
		for (unsigned f = 0; f < w->world->nr_fields && i < w->best.n; f++) {
			const struct step_field *field = &w->world->fields[f];
			u64 zero = 0;

			if (!memcmp(w->best.steps[i] + field->offset, &zero, field->size))
				continue;
			w->script = w->best;
			memset(w->script.steps[i] + field->offset, 0, field->size);
			if (!w->world->fits(w->script.steps[i]))
				continue;
			if (w->world->mend)
				w->world->mend(&w->script);
			if (w->script.n == w->best.n)
				still_differs(w);
		}
}

static void shrink_script(struct worker *w)
{
	const struct list_to_shorten list = { w, best_length, without, in_time };

	w->deadline = now_seconds() + w->options->shrink_seconds;
	w->best = w->script;
	w->best.n = w->trial.at + 1;
	while (shorten_list(&list) && in_time(w))
		;
	if (!w->options->replayed)
		clear_numbers(w);
}

static const char *name_of(const struct worker *w, u64 number, char *buf, size_t size)
{
	if (w->options->replayed)
		snprintf(buf, size, "%s", w->options->names[number]);
	else
		snprintf(buf, size, "seed %llu, sequence %llu",
			 (unsigned long long)w->options->seed, (unsigned long long)number);
	return buf;
}

static void tell_mismatch(struct worker *w, u64 number)
{
	struct world_result *r = w->result;
	char name[300], both[sizeof(w->trial.text)];
	size_t used;

	memcpy(both, w->trial.text, sizeof(both));
	shrink_script(w);
	do_script(w, &w->best);
	if (w->trial.verdict == VERDICT_DIFFERS)
		memcpy(both, w->trial.text, sizeof(both));
	r->end = WORLD_MISMATCH;
	r->number = number;
	snprintf(r->what, sizeof(r->what), "%s, world %s: the two sides differ in the last step",
		 name_of(w, number, name, sizeof(name)), w->world->name);
	used = steps_print(w->world, &w->best, r->text, sizeof(r->text));
	if (used < sizeof(r->text))
		snprintf(r->text + used, sizeof(r->text) - used, "%s", both);
}

static bool give_up(struct worker *w, enum world_end end, const char *why)
{
	w->result->end = end;
	snprintf(w->result->what, sizeof(w->result->what), "%.390s", why);
	return false;
}

/* The sequence that is now in w->script; false: that was the last. */
static bool do_sequence(struct worker *w, u64 number)
{
	struct world_result *r = w->result;

	/* What differs is to differ every time: somebody may have looked at the real processes. */
	for (unsigned i = 0; i < TIMES_TO_DIFFER; i++) {
		do_script(w, &w->script);
		switch (w->trial.verdict) {
		case VERDICT_SAME:
			r->unsteady += i != 0;
			count(r, &w->script, &w->trial);
			return true;
		case VERDICT_DISTURBED:
			r->disturbed++;
			return true;
		case VERDICT_TROUBLE:
			return give_up(w, WORLD_TROUBLE, w->trial.text);
		case VERDICT_DIFFERS:
			break;
		}
	}
	tell_mismatch(w, number);
	return false;
}

/* Disturbed sequences count for nothing: a run that has nothing else comes to its end, too. */
static bool get_script(struct worker *w, u64 number)
{
	const struct world_run *o = w->options;
	u64 tried = number - o->first;

	if (o->replayed) {
		if (number >= o->nr_replayed)
			return false;
		w->script = o->replayed[number];
		return true;
	}
	if (w->result->operations >= o->operations)
		return false;
	if (tried >= 1000 && w->result->disturbed > tried / 2)
		return give_up(w, WORLD_TROUBLE, "too much else is going on in this kernel");
	memset(&w->script, 0, sizeof(w->script));
	seed_chance(o->seed, number);
	w->world->generate(&w->script);
	return true;
}

static void tell_progress(struct worker *w)
{
	double now = now_seconds();

	if (!w->options->progress || w->options->replayed || now < w->told + 1)
		return;
	w->told = now;
	fprintf(stderr, "\r%s: %llu of %llu operations ", w->world->name,
		(unsigned long long)w->result->operations,
		(unsigned long long)w->options->operations);
}

static void work(struct worker *w)
{
	const char *missing = w->world->open ? w->world->open(w->options->engine_only) : NULL;
	u64 number = w->options->replayed ? 0 : w->options->first;

	if (missing) {
		give_up(w, WORLD_SKIPPED, missing);
		return;
	}
	w->told = now_seconds();
	while (get_script(w, number) && do_sequence(w, number)) {
		tell_progress(w);
		number++;
	}
	if (w->told > 0 && w->options->progress)
		fprintf(stderr, "\r%60s\r", "");
}

/* ---- around it ---- */

static volatile pid_t working;
static volatile sig_atomic_t told_to_end;

/* The worker ends, and with that the keeper gives all back. */
static void on_end(int sig)
{
	told_to_end = sig;
	if (working > 0)
		kill(working, SIGKILL);
}

static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
enum { NR_ENDING = sizeof(ending) / sizeof(*ending) };

static pid_t start_worker(const struct oracle_world *world, const struct world_run *o,
			  struct world_result *result)
{
	pid_t parent = getpid(), pid;
	struct worker *w;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < NR_ENDING; i++)
		signal(ending[i], SIG_DFL);
	w = calloc(1, sizeof(*w));
	if (!w || getppid() != parent)
		_exit(1);
	w->world = world;
	w->options = o;
	w->result = result;
	work(w);
	_exit(0);
}

static void run_worker(const struct oracle_world *world, const struct world_run *o,
		       struct world_result *result)
{
	int status = 0;

	working = start_worker(world, o, result);
	while (working > 0 && waitpid(working, &status, 0) < 0 && errno == EINTR)
		;
	if (working < 0 || status) {
		result->end = WORLD_TROUBLE;
		snprintf(result->what, sizeof(result->what),
			 "the process that compares ended badly (wait status 0x%x)", status);
	}
	working = 0;
}

static void run_kept(const struct oracle_world *world, const struct world_run *o,
		     struct world_result *result)
{
	char why[KEEPER_WHY];
	struct keeper keeper = { .hold = -1 };

	if (!o->engine_only && !keeper_start(&keeper, world, why)) {
		result->end = WORLD_SKIPPED;
		snprintf(result->what, sizeof(result->what), "%s", why);
		return;
	}
	if (!told_to_end)
		run_worker(world, o, result);
	if (keeper_end(&keeper))
		return;
	result->end = WORLD_TROUBLE;
	snprintf(result->what, sizeof(result->what),
		 "the kernel is not as it was: see /proc/swaps, vm.page-cluster, vm.nr_hugepages");
}

void world_run(const struct oracle_world *world, const struct world_run *o,
	       struct world_result *result)
{
	struct world_result *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sigaction act = { .sa_handler = on_end }, old[NR_ENDING];
	double start = now_seconds();

	memset(result, 0, sizeof(*result));
	if (shared == MAP_FAILED) {
		result->end = WORLD_TROUBLE;
		snprintf(result->what, sizeof(result->what), "out of memory");
		return;
	}
	for (unsigned i = 0; i < NR_ENDING; i++)
		sigaction(ending[i], &act, &old[i]);
	run_kept(world, o, shared);
	*result = *shared;
	result->seconds = now_seconds() - start;
	munmap(shared, sizeof(*shared));
	for (unsigned i = 0; i < NR_ENDING; i++)
		sigaction(ending[i], &old[i], NULL);
	if (told_to_end)
		raise(told_to_end);
}
