/* SPDX-License-Identifier: MIT */
/* The kernel's side as the tester sees it; runner.h has the processes behind it. */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/differential/runner.h"
#include "tests/differential/side.h"

/* A sequence takes milliseconds. */
#define PATIENCE_SECONDS 20
#define SLICES_A_SECOND	 10

struct real_side {
	struct side side;
	struct real_control *control;
	struct scratch *scratch;
	struct support support;
	pid_t zygote; /* 0: none */
};

static struct real_side *real_of(struct side *side)
{
	return container_of(side, struct real_side, side);
}

static bool start_zygote(struct real_side *r)
{
	r->zygote = fork();
	if (!r->zygote)
		zygote_main(r->control, r->scratch);
	if (r->zygote < 0)
		r->zygote = 0;
	else
		setpgid(r->zygote, r->zygote); /* whoever of the two is first */
	return r->zygote;
}

static void end_zygote(struct real_side *r)
{
	if (!r->zygote)
		return;
	kill(-r->zygote, SIGKILL);
	kill(r->zygote, SIGKILL);
	waitpid(r->zygote, NULL, 0);
	r->zygote = 0;
}

static void real_start(struct side *side, const struct sequence *sequence)
{
	struct real_side *r = real_of(side);
	struct real_control *c = r->control;

	if (!r->zygote)
		start_zygote(r);
	c->sequence.n = sequence->n;
	memcpy(c->sequence.ops, sequence->ops, sequence->n * sizeof(struct op));
	memset(c->trace.records, 0, sequence->n * sizeof(struct record));
	c->trace.used = 0;
	c->trace.failure[0] = '\0';
	atomic_fetch_add(&c->go, 1);
	syscall(SYS_futex, &c->go, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Nobody wakes the tester if the zygote dies: it looks now and then. */
static bool wait_done(struct real_side *r)
{
	struct timespec slice = { .tv_nsec = 1000000000 / SLICES_A_SECOND };
	_Atomic u32 *done = &r->control->done;
	u32 go = atomic_load(&r->control->go), now;
	unsigned slices = 0;

	while ((now = atomic_load(done)) != go) {
		if (!syscall(SYS_futex, done, FUTEX_WAIT, now, &slice, NULL, 0) ||
		    errno != ETIMEDOUT)
			continue;
		if (++slices == PATIENCE_SECONDS * SLICES_A_SECOND ||
		    waitpid(r->zygote, NULL, WNOHANG) == r->zygote)
			return false;
	}
	return true;
}

static const struct trace *real_finish(struct side *side)
{
	struct real_side *r = real_of(side);
	struct real_control *c = r->control;
	char *failure = side->failure;

	failure[0] = '\0';
	if (!r->zygote || !wait_done(r)) {
		snprintf(failure, sizeof(side->failure),
			 "the real processes did not come to an end");
		end_zygote(r);
		atomic_store(&c->done, atomic_load(&c->go));
		return NULL;
	}
	if (c->status) {
		snprintf(failure, sizeof(side->failure),
			 "the real process ended early, with wait status 0x%x", c->status);
		return NULL;
	}
	if (c->trace.failure[0]) {
		snprintf(failure, sizeof(side->failure), "%s", c->trace.failure);
		return NULL;
	}
	return &c->trace;
}

static bool real_can(const struct side *side, const struct op *op)
{
	const struct real_side *r = container_of(side, const struct real_side, side);

	return support_has(&r->support, op);
}

static void real_close(struct side *side)
{
	struct real_side *r = real_of(side);

	end_zygote(r);
	munmap(r->control, sizeof(*r->control));
	munmap(r->scratch, sizeof(*r->scratch));
	free(r);
}

static void *map(size_t size, int how)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);

	return p == MAP_FAILED ? NULL : p;
}

struct side *real_open(const struct support *support, char *why)
{
	struct real_side *r = calloc(1, sizeof(*r));

	if (!r || !(r->control = map(sizeof(*r->control), MAP_SHARED)) ||
	    !(r->scratch = map(sizeof(*r->scratch), MAP_PRIVATE))) {
		snprintf(why, 160, "out of memory");
		return NULL;
	}
	r->support = *support;
	r->control->max_map_count = support->max_map_count;
	r->side = (struct side){ .name = "kernel",
				 .start = real_start,
				 .finish = real_finish,
				 .close = real_close,
				 .can = real_can };
	if (!start_zygote(r)) {
		snprintf(why, 160, "no process can be started");
		return NULL;
	}
	return &r->side;
}
