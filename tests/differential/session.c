/* SPDX-License-Identifier: MIT */
/*
 * Jobs: each is a process with a pair of sides of its own, that takes every n-th sequence.  They
 * share one struct for what they came to; the first mismatch stops all.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/differential/generate.h"
#include "tests/differential/session.h"

#define TIMES_TO_DIFFER 3

struct shared {
	_Atomic u64 operations; /* of all jobs */
	_Atomic u32 stop;
	_Atomic u32 failed; /* a job has taken the right to say what failed */
	struct session_result results[];
};

struct job {
	const struct session_options *options;
	struct shared *shared;
	struct session_result *result;
	unsigned number;
	struct pair pair;
	bool open; /* the pair is */
	struct sequence sequence;
};

static double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The first to fail stops the others. */
static bool claim_failure(struct job *j, enum session_end end)
{
	atomic_store(&j->shared->stop, 1);
	if (atomic_exchange(&j->shared->failed, 1))
		return false;
	j->result->end = end;
	return true;
}

static void trouble(struct job *j, const char *why)
{
	if (claim_failure(j, SESSION_TROUBLE))
		snprintf(j->result->what, sizeof(j->result->what), "%s", why);
}

static const char *name_of(const struct job *j, u64 number, char *buf, size_t size)
{
	if (j->options->replayed)
		snprintf(buf, size, "%s", j->options->names[number]);
	else
		snprintf(buf, size, "seed %llu, sequence %llu",
			 (unsigned long long)j->options->seed, (unsigned long long)number);
	return buf;
}

static void mismatch(struct job *j, u64 number, struct mismatch *m)
{
	struct session_result *r = j->result;
	char name[300];

	if (!claim_failure(j, SESSION_MISMATCH))
		return;
	r->number = number;
	shrink(&j->pair, &j->sequence, m, j->options->shrink_seconds);
	snprintf(r->what, sizeof(r->what), "%.250s: %s: %.300s",
		 name_of(j, number, name, sizeof(name)), call_name(j->sequence.ops[m->op].call),
		 m->text);
	failure_print(&j->sequence, m, r->text, sizeof(r->text));
}

/* The sequence of this number; false: there are no more. */
static bool get_sequence(struct job *j, u64 number)
{
	const struct session_options *o = j->options;

	if (atomic_load(&j->shared->stop))
		return false;
	if (o->replayed) {
		if (number >= o->nr_replayed)
			return false;
		j->sequence = o->replayed[number];
		return true;
	}
	if (atomic_load(&j->shared->operations) >= o->operations)
		return false;
	generate(&j->sequence, o->seed, number, pair_can, &j->pair);
	return true;
}

static bool all_can(const struct job *j)
{
	for (unsigned i = 0; i < j->sequence.n; i++)
		if (!pair_can(&j->pair, &j->sequence.ops[i]))
			return false;
	return true;
}

/*
 * Somebody who looks at the real processes through /proc just then can hold a space beyond the end
 * of its process, and swap or memory pressure can take pages.  What differs is to differ every
 * time.
 */
static bool differs(struct job *j, struct mismatch *m)
{
	for (unsigned i = 0; i < TIMES_TO_DIFFER; i++)
		if (trial(&j->pair, &j->sequence, m)) {
			j->result->unsteady += i != 0;
			return false;
		}
	return true;
}

static void open_sides(struct job *j)
{
	char why[160];

	j->open = pair_open(&j->pair, why);
	if (j->open)
		j->result->support = j->pair.support;
	else
		trouble(j, why);
}

static void close_sides(struct job *j)
{
	struct session_result *r = j->result;

	if (!j->open)
		return;
	r->real_ns += j->pair.real_ns;
	r->engine_ns += j->pair.engine_ns;
	for (unsigned i = 0; i < MAX_MASKS; i++)
		r->masked[i] += j->pair.masked[i];
	pair_close(&j->pair);
	j->open = false;
}

/* The system is not what it was when the sides were opened: there is swap by now, or a pool of huge
 * pages.  They are opened anew. */
static bool system_has_changed(struct job *j)
{
	struct support now;
	char why[160];

	if (support_probe(&now, why) && !memcmp(&now, &j->pair.support, sizeof(now)))
		return false;
	close_sides(j);
	open_sides(j);
	return true;
}

static void run_sequences(struct job *j)
{
	struct session_result *r = j->result;
	struct mismatch m;

	for (u64 number = j->options->first + j->number; j->open && get_sequence(j, number);
	     number += j->options->jobs) {
		if (!all_can(j)) { /* of a file: this kernel, or the engine, has not all of it */
			r->undone++;
			continue;
		}
		if (differs(j, &m)) {
			if (!system_has_changed(j)) {
				mismatch(j, number, &m);
				return;
			}
			r->unsteady++;
			continue;
		}
		coverage_count(&r->coverage, &j->pair.support, &j->sequence, j->pair.traced,
			       j->pair.made);
		r->sequences++;
		atomic_fetch_add(&j->shared->operations, j->sequence.n);
	}
}

static void job_main(struct job *j)
{
	open_sides(j);
	run_sequences(j);
	close_sides(j);
}

static pid_t start_job(const struct session_options *o, struct shared *shared, unsigned number)
{
	pid_t parent = getpid(), pid = fork();
	static struct job job;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	job = (struct job){
		.options = o, .shared = shared, .result = &shared->results[number], .number = number
	};
	job_main(&job);
	_exit(0);
}

static void add_result(struct session_result *to, const struct session_result *from)
{
	if (from->end != SESSION_SAME && to->end == SESSION_SAME) {
		to->end = from->end;
		to->number = from->number;
		memcpy(to->what, from->what, sizeof(to->what));
		memcpy(to->text, from->text, sizeof(to->text));
	}
	to->sequences += from->sequences;
	to->undone += from->undone;
	to->unsteady += from->unsteady;
	to->real_ns += from->real_ns;
	to->engine_ns += from->engine_ns;
	for (unsigned i = 0; i < MAX_MASKS; i++)
		to->masked[i] += from->masked[i];
	coverage_add(&to->coverage, &from->coverage);
	if (from->support.major)
		to->support = from->support;
}

static void wait_jobs(pid_t *pids, unsigned n, struct session_result *result)
{
	for (unsigned i = 0; i < n; i++) {
		int status = 0;

		if (pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i] && !status)
			continue;
		if (result->end == SESSION_SAME)
			snprintf(result->what, sizeof(result->what),
				 "a process of the tester ended badly (wait status 0x%x)", status);
		result->end = SESSION_TROUBLE;
	}
}

void session_run(const struct session_options *o, struct session_result *result)
{
	size_t size = sizeof(struct shared) + o->jobs * sizeof(struct session_result);
	struct shared *shared = mmap(NULL, size, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pid_t pids[MAX_JOBS];
	double start = now_seconds();

	memset(result, 0, sizeof(*result));
	if (shared == MAP_FAILED) {
		result->end = SESSION_TROUBLE;
		snprintf(result->what, sizeof(result->what), "out of memory");
		return;
	}
	fflush(NULL);
	for (unsigned i = 0; i < o->jobs; i++)
		pids[i] = start_job(o, shared, i);
	wait_jobs(pids, o->jobs, result);
	for (unsigned i = 0; i < o->jobs; i++)
		add_result(result, &shared->results[i]);
	result->seconds = now_seconds() - start;
	munmap(shared, size);
}
