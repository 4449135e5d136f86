/* SPDX-License-Identifier: MIT */
/*
 * A monitor for each process: a thread that serves some of its pages by userfaultfd.
 *
 * It gives what is missing (known bytes, or zeros), takes pages out to a stage and moves them back
 * when they are missed, and write-protects; the process does all that it does elsewhere, and drops
 * pages, which the monitor is told of.  A page that the monitor has given and not taken is never
 * missed again; if one is, it was lost.
 */
#include <sched.h>

#include "engine/userfault/userfault.h"
#include "tests/soak/nopagelost.h"

struct served {
	pthread_t thread;
	struct worker *process;
	struct mm *mm;
	struct soft_cpu *cpu;
	struct userfaultfd_ctx *ctx, *stage;
	u64 rnd;
	/* Held by the process while it drops pages: what is taken out then would come back. */
	pthread_mutex_t dropping;
	enum { FRESH, THERE, STAGED } where[SERVED_PAGES]; /* the monitor's */
	u64 buf[PAGE_SIZE / 8];
};

static struct {
	_Atomic u64 given, zeros, back, copied_back, out, protected, unprotected, dropped, poisoned,
		ranges;
} count;

static bool is_dying(const struct served *s)
{
	return mm_is_oom_victim(s->mm);
}

#define AGAIN(err, operation)                                                                      \
	do {                                                                                       \
		while ((err = (operation)) == -EAGAIN || err == -ENOMEM) {                         \
			if (is_dying(s))                                                           \
				break;                                                             \
			sched_yield();                                                             \
		}                                                                                  \
	} while (0)

static void must_serve(struct served *s, int err, const char *what, unsigned page)
{
	if (err && !is_dying(s))
		DIE(s->process, "%s of page %u that a monitor serves: %d", what, page, err);
}

/* ---- giving ---- */

static int give_fresh(struct served *s, unsigned page)
{
	u32 version = fresh_version(SERVED_FIRST + page);
	u64 wp = rnd_below(&s->rnd, 4) ? 0 : UAPI_UFFDIO_COPY_MODE_WP, va = SERVED + P(page);
	s64 done;
	int err;

	if (!version && rnd_below(&s->rnd, 4)) {
		AGAIN(err, userfaultfd_zeropage(s->ctx, va, PAGE_SIZE, 0, &done));
		atomic_fetch_add(&count.zeros, 1);
		return err;
	}
	make_words(s->process, SERVED_FIRST + page, version, s->buf, PAGE_SIZE / 8);
	AGAIN(err,
	      userfaultfd_copy(s->ctx, NULL, va, (u64)(uintptr_t)s->buf, PAGE_SIZE, wp, &done));
	atomic_fetch_add(&count.given, 1);
	return err;
}

static void clear_stage(struct served *s, unsigned page)
{
	int err = vm_advise(s->mm, STAGE + P(page), PAGE_SIZE, VADV_DONTNEED);

	must_serve(s, err, "clearing the stage", page);
}

/* The page on the stage does not move: it was shared with a child once, or the area that it was
 * swapped out to could not be read when it was turned off. */
static int copy_back(struct served *s, unsigned page)
{
	u64 from = STAGE + P(page), to = SERVED + P(page);
	enum fault_reason reason = FAULT_BUS;
	s64 done;
	int err;

	for (unsigned i = 0; i < 50 && reason == FAULT_BUS; i++)
		reason = soft_read(s->cpu, from, s->buf, PAGE_SIZE);
	if (reason == FAULT_OK) {
		AGAIN(err, userfaultfd_copy(s->ctx, NULL, to, (u64)(uintptr_t)s->buf, PAGE_SIZE, 0,
					    &done));
		atomic_fetch_add(&count.copied_back, 1);
	} else if (reason == FAULT_BUS && atomic_load(&failed_loads)) {
		AGAIN(err, userfaultfd_poison(s->ctx, to, PAGE_SIZE, 0, &done));
		atomic_fetch_add(&count.poisoned, 1);
	} else {
		if (!is_dying(s))
			DIE(s->process, "page %u on the stage: reason %d", page, reason);
		err = -EFAULT;
	}
	if (!err)
		clear_stage(s, page);
	return err;
}

static int give_back(struct served *s, unsigned page)
{
	s64 done;
	int err;

	AGAIN(err, userfaultfd_move(s->ctx, s->mm, SERVED + P(page), STAGE + P(page), PAGE_SIZE, 0,
				    &done));
	atomic_fetch_add(&count.back, 1);
	return err == -EBUSY || err == -EFAULT ? copy_back(s, page) : err;
}

static void serve(struct served *s, const struct userfault_msg *msg)
{
	unsigned page = (unsigned)((msg->arg.pagefault.address - SERVED) >> PAGE_SHIFT);
	u64 va = SERVED + P(page);
	int err = 0;

	if (page >= SERVED_PAGES)
		va = msg->arg.pagefault.address & PAGE_MASK;
	if (page >= SERVED_PAGES && !(msg->arg.pagefault.flags & UAPI_UFFD_PAGEFAULT_FLAG_WP))
		DIE(s->process, "a page is missing elsewhere");
	if (msg->arg.pagefault.flags & UAPI_UFFD_PAGEFAULT_FLAG_WP) {
		AGAIN(err, userfaultfd_writeprotect(s->ctx, va, PAGE_SIZE, 0));
		must_serve(s, err, "unprotecting", page);
		atomic_fetch_add(&count.unprotected, 1);
	} else {
		if (s->where[page] == FRESH)
			err = give_fresh(s, page);
		else if (s->where[page] == STAGED)
			err = give_back(s, page);
		else if (!is_dying(s))
			DIE(s->process, "page %u was given, and is missing", page);
		must_serve(s, err, "giving", page);
		s->where[page] = THERE;
	}
	/* Whatever became of it, who is being killed finds out. */
	if (is_dying(s))
		userfaultfd_wake(s->ctx, va, PAGE_SIZE);
}

/* ---- taking ---- */

static void take_out(struct served *s)
{
	unsigned page = rnd_below(&s->rnd, SERVED_PAGES);
	s64 done;
	int err;

	if (s->where[page] != THERE || pthread_mutex_trylock(&s->dropping))
		return;
	err = userfaultfd_move(s->stage, s->mm, STAGE + P(page), SERVED + P(page), PAGE_SIZE, 0,
			       &done);
	if (!err) {
		s->where[page] = STAGED;
		atomic_fetch_add(&count.out, 1);
	} else if (err != -EBUSY && err != -EAGAIN && err != -ENOMEM && err != -EFAULT) {
		must_serve(s, err, "taking out", page);
	}
	pthread_mutex_unlock(&s->dropping);
}

static void protect_some(struct served *s)
{
	unsigned page = rnd_below(&s->rnd, SERVED_PAGES);
	unsigned n = 1 + rnd_below(&s->rnd, min_of(SERVED_PAGES - page, 8u));
	int err = userfaultfd_writeprotect(s->ctx, SERVED + P(page), P(n),
					   UAPI_UFFDIO_WRITEPROTECT_MODE_WP);

	if (err != -EAGAIN)
		must_serve(s, err, "write-protecting", page);
	atomic_fetch_add(&count.protected, 1);
}

/* The process, which waits for us to read of it, is about to drop them. */
static void forget_dropped(struct served *s, const struct userfault_msg *msg)
{
	unsigned first = (unsigned)((msg->arg.remove.start - SERVED) >> PAGE_SHIFT);
	unsigned last = (unsigned)((msg->arg.remove.end - SERVED) >> PAGE_SHIFT);

	/* Elsewhere nothing is given. */
	for (unsigned page = first; page < last && last <= SERVED_PAGES; page++) {
		if (s->where[page] == STAGED)
			clear_stage(s, page);
		s->where[page] = FRESH;
	}
	atomic_fetch_add(&count.dropped, 1);
}

static void *monitor(void *arg)
{
	struct served *s = arg;
	struct userfault_msg msg;

	soft_load_mm(s->cpu, s->mm);
	while (userfaultfd_read(s->ctx, &msg, 1, false) == 1) {
		pthread_rwlock_rdlock(&quiet);
		if (msg.event == UAPI_UFFD_EVENT_PAGEFAULT)
			serve(s, &msg);
		else
			forget_dropped(s, &msg);
		for (unsigned n = rnd_below(&s->rnd, 4); n; n--)
			take_out(s);
		if (!rnd_below(&s->rnd, 4))
			protect_some(s);
		pthread_rwlock_unlock(&quiet);
	}
	soft_load_mm(s->cpu, NULL);
	userfaultfd_ctx_put(s->ctx);
	return NULL;
}

/* ---- its life ---- */

static struct userfaultfd_ctx *open_ctx(struct worker *k, u64 at, u64 features, u64 mode)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED, ioctls;
	struct userfaultfd_ctx *ctx;

	if (do_mmap(k->mm, at, P(SERVED_PAGES), RW, flags, NULL, 0) != (s64)at ||
	    userfaultfd_create(k->mm, 0, &ctx) ||
	    userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls) ||
	    userfaultfd_register(ctx, at, P(SERVED_PAGES), mode, &ioctls))
		DIE(k, "it has no userfaultfd");
	return ctx;
}

void start_served(struct worker *k)
{
	struct served *s = calloc(1, sizeof(*s));

	if (!s)
		DIE(k, "no memory for a monitor");
	s->process = k;
	s->mm = k->mm;
	s->cpu = k->cpu + 1;
	s->rnd = rnd_next(&k->rnd) | 1;
	pthread_mutex_init(&s->dropping, NULL);
	s->ctx = open_ctx(k, SERVED, UAPI_UFFD_FEATURE_EVENT_REMOVE,
			  UAPI_UFFDIO_REGISTER_MODE_MISSING | UAPI_UFFDIO_REGISTER_MODE_WP);
	s->stage = open_ctx(k, STAGE, 0, UAPI_UFFDIO_REGISTER_MODE_MISSING);
	userfaultfd_ctx_get(s->ctx);
	if (pthread_create(&s->thread, NULL, monitor, s))
		DIE(k, "no thread for a monitor");
	k->served = s;
}

void stop_served(struct worker *k)
{
	struct served *s = k->served;

	userfaultfd_release(s->ctx);
	pthread_join(s->thread, NULL);
	userfaultfd_release(s->stage);
	pthread_mutex_destroy(&s->dropping);
	free(s);
	k->served = NULL;
}

/* ---- the process ---- */

static enum end drop(struct worker *k)
{
	unsigned page = rnd_below(&k->rnd, SERVED_PAGES);
	unsigned n = 1 + rnd_below(&k->rnd, min_of(SERVED_PAGES - page, 8u));
	s64 err;

	pthread_mutex_lock(&k->served->dropping);
	err = do_madvise(k->mm, SERVED + P(page), P(n), UAPI_MADV_DONTNEED);
	pthread_mutex_unlock(&k->served->dropping);
	forget(k, SERVED_FIRST + page, n);
	return must(k, !err, "dropping of what is served", err);
}

enum end operate_on_served(struct worker *k)
{
	unsigned page = rnd_below(&k->rnd, SERVED_PAGES);
	s64 err;

	switch (rnd_below(&k->rnd, 16)) {
	case 0:
		return drop(k);
	case 1:
		err = do_madvise(k->mm, SERVED + P(page), PAGE_SIZE, UAPI_MADV_PAGEOUT);
		return must(k, !err, "paging out of what is served", err);
	case 2:
		err = do_madvise(k->mm, STAGE, P(SERVED_PAGES), UAPI_MADV_PAGEOUT);
		return must(k, !err, "paging out of the stage", err);
	default:
		return own_page(k, SERVED_FIRST + page, rnd_below(&k->rnd, 2));
	}
}

/* ---- ranges that may be huge ---- */

void watch(struct worker *k, u64 va, u64 len, bool on)
{
	struct userfaultfd_ctx *ctx = k->served->ctx;
	u64 ioctls;
	s64 err = on ? userfaultfd_register(ctx, va, len, UAPI_UFFDIO_REGISTER_MODE_WP, &ioctls)
		     : userfaultfd_unregister(ctx, va, len);

	must(k, !err, "watching over a range", err);
}

void write_protect(struct worker *k, u64 va, u64 len)
{
	int err =
		userfaultfd_writeprotect(k->served->ctx, va, len, UAPI_UFFDIO_WRITEPROTECT_MODE_WP);

	if (err != -ENOENT)
		must(k, !err, "write-protecting a range", err);
	atomic_fetch_add(&count.protected, !err);
}

/* Bytes moved. */
static u64 move_all(struct worker *k, u64 to, u64 from, u64 len)
{
	u64 moved = 0;
	s64 done;
	int err = -EAGAIN;

	while (err == -EAGAIN && moved < len && !mm_is_oom_victim(k->mm)) {
		err = userfaultfd_move(k->served->stage, k->mm, to + moved, from + moved,
				       len - moved, UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES, &done);
		moved += done > 0 ? (u64)done : 0;
	}
	/* Shared with a child once, poisoned, in several areas. */
	if (err && err != -EAGAIN && err != -EBUSY && err != -EFAULT && err != -EINVAL)
		must(k, false, "moving a range", err);
	return moved;
}

bool move_range(struct worker *k, u64 to, u64 from, u64 len)
{
	struct userfaultfd_ctx *stage = k->served->stage;
	u64 ioctls, mode = UAPI_UFFDIO_REGISTER_MODE_MISSING, moved;

	/* Nobody serves there; nobody touches it, either. */
	if (userfaultfd_register(stage, from, len, mode, &ioctls) ||
	    userfaultfd_register(stage, to, len, mode, &ioctls))
		DIE(k, "a range that is to move cannot be registered");
	moved = move_all(k, to, from, len);
	if (moved < len && move_all(k, from, to, moved) < moved)
		must(k, false, "moving a range back", (s64)moved);
	if (userfaultfd_unregister(stage, from, len) || userfaultfd_unregister(stage, to, len))
		DIE(k, "a range that has moved cannot be let go");
	atomic_fetch_add(&count.ranges, moved == len);
	return moved == len;
}

#define ul(x) ((unsigned long)atomic_load(&(x)))

void print_served(void)
{
	printf("nopagelost: monitors gave %lu pages and %lu of zeros, took %lu out, moved %lu back "
	       "(%lu by a copy), write-protected %lu times, unprotected %lu, were told of %lu "
	       "drops, poisoned %lu; %lu ranges moved\n",
	       ul(count.given), ul(count.zeros), ul(count.out), ul(count.back),
	       ul(count.copied_back), ul(count.protected), ul(count.unprotected), ul(count.dropped),
	       ul(count.poisoned), ul(count.ranges));
}

bool served_enough(void)
{
	return ul(count.given) && ul(count.zeros) && ul(count.out) && ul(count.back) &&
	       ul(count.copied_back) && ul(count.unprotected) && ul(count.dropped);
}
