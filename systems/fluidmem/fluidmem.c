/* SPDX-License-Identifier: MIT */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/errno.h"
#include "engine/machine.h"
#include "systems/fluidmem/internal.h"

/* ---- timing ---- */

const char *const fluidmem_bucket_names[NR_FLUIDMEM_BUCKETS] = {
	[HANDLE_USERFAULT_ZERO] = "HANDLE_USERFAULT_ZERO",
	[HANDLE_USERFAULT_COPY] = "HANDLE_USERFAULT_COPY",
	[HANDLE_USERFAULT_STEAL] = "HANDLE_USERFAULT_STEAL",
	[EVICT_TO_EXTERNRAM] = "EVICT_TO_EXTERNRAM",
	[READ_PAGE] = "READ_PAGE",
	[WRITE_PAGE] = "WRITE_PAGE",
	[UFFD_ZEROPAGE] = "UFFD_ZEROPAGE",
	[UFFD_COPY] = "UFFD_COPY",
	[UFFD_MOVE] = "UFFD_MOVE",
	[ZEROPAGE_COMPARE] = "ZEROPAGE_COMPARE",
	[PREFETCH] = "PREFETCH",
};

/* fm->lock held. */
static void note_time(struct fluidmem *fm, enum fluidmem_bucket bucket, u64 since)
{
	timing_note(&fm->stats.timing[bucket], machine_now_ns() - since);
}

static void note_time_unlocked(struct fluidmem *fm, enum fluidmem_bucket bucket, u64 since)
{
	pthread_mutex_lock(&fm->lock);
	note_time(fm, bucket, since);
	pthread_mutex_unlock(&fm->lock);
}

/* ---- what somebody who watches is told ---- */

void fm_called(struct fluidmem *fm, enum fluidmem_call call)
{
	if (fm->config.watch)
		fm->config.watch->called(fm->config.watch, call);
}

void fm_returned(struct fluidmem *fm, enum fluidmem_call call)
{
	if (fm->config.watch)
		fm->config.watch->returned(fm->config.watch, call);
}

static void begin_thread(struct fluidmem *fm)
{
	if (fm->config.watch)
		fm->config.watch->begin(fm->config.watch);
}

/* ---- pages in and out of userfaultfd's hands; fm->lock not held ---- */

static int zero_in(struct fm_page *p)
{
	u64 since = machine_now_ns();
	s64 done;
	int err;

	fm_called(p->space->fm, FLUIDMEM_ZEROPAGE);
	err = userfaultfd_zeropage(p->space->ctx, p->va, PAGE_SIZE, 0, &done);
	fm_returned(p->space->fm, FLUIDMEM_ZEROPAGE);
	note_time_unlocked(p->space->fm, UFFD_ZEROPAGE, since);
	return err;
}

static int copy_in(struct fm_page *p, const void *bytes)
{
	u64 since = machine_now_ns();
	s64 done;
	int err;

	fm_called(p->space->fm, FLUIDMEM_COPY);
	err = userfaultfd_copy(p->space->ctx, NULL, p->va, (u64)(uintptr_t)bytes, PAGE_SIZE, 0,
			       &done);
	fm_returned(p->space->fm, FLUIDMEM_COPY);
	note_time_unlocked(p->space->fm, UFFD_COPY, since);
	return err;
}

static void wake(struct fm_page *p)
{
	fm_called(p->space->fm, FLUIDMEM_WAKE);
	userfaultfd_wake(p->space->ctx, p->va, PAGE_SIZE);
	fm_returned(p->space->fm, FLUIDMEM_WAKE);
}

static void poison(struct fm_page *p)
{
	s64 done;

	fm_called(p->space->fm, FLUIDMEM_POISON);
	userfaultfd_poison(p->space->ctx, p->va, PAGE_SIZE, 0, &done);
	fm_returned(p->space->fm, FLUIDMEM_POISON);
}

/* The kernel serves the page, which is zeros, from now on, and says itself why it cannot. */
static void give_up(struct fm_page *p)
{
	fm_called(p->space->fm, FLUIDMEM_UNREGISTER);
	userfaultfd_unregister(p->space->ctx, p->va, PAGE_SIZE);
	fm_returned(p->space->fm, FLUIDMEM_UNREGISTER);
}

/* The page goes, and its last bytes are in *bytes.  0, or why it stays. */
static int move_out(struct fm_page *p, void *bytes)
{
	struct fluidmem_space *s = p->space;
	u64 since = machine_now_ns();
	s64 done;
	int err;

	pthread_mutex_lock(&s->stage_lock);
	fm_called(s->fm, FLUIDMEM_MOVE);
	err = userfaultfd_move(s->stage_ctx, s->mm, s->stage, p->va, PAGE_SIZE,
			       UAPI_UFFDIO_MODE_DONTWAKE, &done);
	fm_returned(s->fm, FLUIDMEM_MOVE);
	note_time_unlocked(s->fm, UFFD_MOVE, since);
	if (!err) {
		if (!s->read(s->arg, s->stage, bytes))
			machine_panic("fluidmem: a page on the stage cannot be read");
		fm_called(s->fm, FLUIDMEM_DROP);
		vm_advise(s->mm, s->stage, PAGE_SIZE, VADV_DONTNEED);
		fm_returned(s->fm, FLUIDMEM_DROP);
	}
	pthread_mutex_unlock(&s->stage_lock);
	return err;
}

/* ---- lists; fm->lock held ---- */

void fm_buffer_put(struct fm_buffer *b)
{
	if (!--b->users)
		free(b);
}

void fm_settle(struct fluidmem *fm, struct fm_page *p, enum fm_state state)
{
	p->state = state;
	if (state == RESIDENT || state == ZEROS)
		p->poisoned = false;
	if (state == RESIDENT) {
		list_add_tail(&p->link, &fm->lru);
		fm->stats.resident++;
	}
	pthread_cond_broadcast(&fm->changed);
}

/* A resident page is in our hands. */
void fm_take_off(struct fluidmem *fm, struct fm_page *p)
{
	list_del(&p->link);
	p->state = MOVING;
	fm->stats.resident--;
}

/* Once it is in nobody's hands. */
void fm_wait_until_settled(struct fluidmem *fm, const struct fm_page *p)
{
	while (p->state == MOVING)
		pthread_cond_wait(&fm->changed, &fm->lock);
}

/* ---- in ---- */

/* The bytes of a page that is on the write list are the caller's now. */
struct fm_buffer *fm_steal(struct fluidmem *fm, struct fm_page *p)
{
	struct fm_buffer *b = p->buffer;

	/* Otherwise the writer has it just now, and finds out that its work was for nothing. */
	if (!list_empty(&p->link)) {
		list_del(&p->link);
		list_init(&p->link);
		fm->nr_unwritten--;
	}
	p->buffer = NULL;
	fm->stats.writing--;
	return b;
}

/* To the write list, with bytes that are the page's. */
void fm_put_back(struct fluidmem *fm, struct fm_page *p, struct fm_buffer *b)
{
	p->buffer = b;
	list_add_tail(&p->link, &fm->writes);
	fm->nr_unwritten++;
	fm->stats.writing++;
	fm_settle(fm, p, WRITING);
	pthread_cond_signal(&fm->work);
}

void fm_drop_slot(struct fluidmem *fm, struct fm_page *p)
{
	struct store *store = fm->config.store;

	fm->stats.stored--;
	p->poisoned = false;
	if (--fm->slot_users[p->slot])
		return;
	/* Nobody has the slot, and it is not free yet. */
	store->ops->drop(store, p->slot);
	fm->free_slots[fm->nr_free_slots++] = p->slot;
}

/* From the store.  fm->lock not held. */
static int fetch(struct fluidmem *fm, struct fm_page *p)
{
	struct store *store = fm->config.store;
	u8 bytes[PAGE_SIZE];
	u64 since = machine_now_ns();
	int err;

	fm_called(fm, FLUIDMEM_STORE_READ);
	err = store->ops->load(store, p->slot, bytes);
	fm_returned(fm, FLUIDMEM_STORE_READ);
	note_time_unlocked(fm, READ_PAGE, since);
	return err ? -EIO : copy_in(p, bytes);
}

/* What is there was `was`; b: its bytes, of a page that was on the write list.  fm->lock not held.
 */
static int fill(struct fluidmem *fm, struct fm_page *p, enum fm_state was,
		const struct fm_buffer *b, bool write)
{
	static const u8 zeros[PAGE_SIZE];

	if (was == STORED)
		return fetch(fm, p);
	if (was == WRITING)
		return copy_in(p, b->bytes);
	/* The shared page of zeros would only be written to, which is another fault. */
	return write ? copy_in(p, zeros) : zero_in(p);
}

/* Is the page not in, and as it was? */
static bool stays_out(int err)
{
	return err == -EIO || err == -EAGAIN || err == -ENOMEM;
}

/*
 * Bring the page in, which is out, for a write or another access.  fm->lock held, dropped in
 * between.  It is as it was: -EIO: the store has lost it; -EAGAIN: the layout is changing, which
 * the handler will be told; -ENOMEM: the kernel has no frame.  (Other operations fail only where
 * the program has unmapped the page: it counts as resident until it would go, and is found to be
 * nothing.)
 */
int fm_bring_in(struct fluidmem *fm, struct fm_page *p, bool write, enum fluidmem_bucket *how)
{
	enum fm_state was = p->state;
	struct fm_buffer *b = was == WRITING ? fm_steal(fm, p) : NULL;
	int err;

	*how = was == STORED	? HANDLE_USERFAULT_COPY
	       : was == WRITING ? HANDLE_USERFAULT_STEAL
				: HANDLE_USERFAULT_ZERO;
	p->state = MOVING;
	pthread_mutex_unlock(&fm->lock);
	err = fill(fm, p, was, b, write);
	pthread_mutex_lock(&fm->lock);
	fm->stats.store_errors += err == -EIO;
	if (stays_out(err)) {
		if (b)
			fm_put_back(fm, p, b);
		else
			fm_settle(fm, p, was);
		return err;
	}
	if (b) {
		fm->stats.stolen++;
		fm_buffer_put(b);
	}
	if (was == STORED)
		fm_drop_slot(fm, p);
	fm_settle(fm, p, RESIDENT);
	return 0;
}

/* ---- out ---- */

static bool all_zeros(const u8 *bytes)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, PAGE_SIZE - 1);
}

/* Send the page away, which is MOVING and off the list.  fm->lock held, dropped in between. */
void fm_evict(struct fluidmem *fm, struct fm_page *p)
{
	u64 begin = machine_now_ns(), since;
	struct fm_buffer *b = malloc(sizeof(*b));
	bool zeros = false;
	int err = b ? 0 : -ENOMEM;

	pthread_mutex_unlock(&fm->lock);
	if (!err)
		err = move_out(p, b->bytes);
	since = machine_now_ns();
	if (!err)
		zeros = all_zeros(b->bytes);
	pthread_mutex_lock(&fm->lock);
	note_time(fm, ZEROPAGE_COMPARE, since);
	if (err || zeros) {
		free(b);
		if (err == -ENOENT)
			zeros = true; /* the program has dropped it, or unmapped it */
		if (zeros)
			fm->stats.zeros++;
		fm_settle(fm, p, zeros ? ZEROS : RESIDENT);
	} else {
		b->users = 1;
		fm_put_back(fm, p, b);
	}
	fm->stats.evictions += !err;
	note_time(fm, EVICT_TO_EXTERNRAM, begin);
}

/* May one more page go to the write list?  Waits for the writer; if the store does not work, for
 * one more try.  fm->lock held, dropped in between. */
bool fm_room_to_write(struct fluidmem *fm)
{
	u64 most = fm->config.max_unwritten;
	bool tried = false;

	while (most && fm->nr_unwritten >= most) {
		if (fm->store_down && tried)
			return false;
		tried |= fm->store_down;
		fm->store_down = false;
		pthread_cond_signal(&fm->work);
		pthread_cond_wait(&fm->changed, &fm->lock);
	}
	return true;
}

/* `keep` (or NULL) was asked for just now, and is not to go before it was used: where most of the
 * others are shared with a child it would be the only one that can.  fm->lock held, dropped in
 * between. */
static void evict_down_to(struct fluidmem *fm, u64 pages, const struct fm_page *keep)
{
	u64 tries = 2 * fm->stats.resident + 8; /* some may be refused */

	while (fm->stats.resident > pages && tries-- && fm_room_to_write(fm)) {
		struct fm_page *p;

		if (list_empty(&fm->lru))
			break;
		p = list_first_entry(&fm->lru, struct fm_page, link);
		if (p == keep || p->space->leaving) {
			list_move_tail(&p->link, &fm->lru);
			continue;
		}
		fm_take_off(fm, p);
		fm_evict(fm, p);
	}
}

void fm_evict_if_needed(struct fluidmem *fm)
{
	evict_down_to(fm, fm->config.capacity, NULL);
}

/* ---- the writer ---- */

/* fm->lock held, dropped in between. */
static void write_page(struct fluidmem *fm, struct fm_page *p)
{
	struct store *store = fm->config.store;
	struct fm_buffer *b = p->buffer;
	u64 slot, since = machine_now_ns();
	bool stolen;
	int err;

	if (!fm->nr_free_slots) { /* as if it had said so */
		fm->store_down = true;
		fm->stats.store_errors++;
		pthread_cond_broadcast(&fm->changed);
		return;
	}
	slot = fm->free_slots[--fm->nr_free_slots];
	list_del(&p->link);
	list_init(&p->link);
	b->users++;
	fm->in_hand = p;
	pthread_mutex_unlock(&fm->lock);
	fm_called(fm, FLUIDMEM_STORE_WRITE);
	err = store->ops->save(store, slot, b->bytes);
	fm_returned(fm, FLUIDMEM_STORE_WRITE);
	pthread_mutex_lock(&fm->lock);
	note_time(fm, WRITE_PAGE, since);
	fm->in_hand = NULL;
	stolen = p->buffer != b || !list_empty(&p->link); /* put back: to be written again */
	fm->store_down = err < 0;
	if (!stolen && err >= 0) {
		p->slot = slot;
		fm->slot_users[slot] = 1;
		p->buffer = NULL;
		fm_buffer_put(b);
		fm->stats.writing--;
		fm->stats.stored++;
		fm_settle(fm, p, STORED);
	} else {
		if (err >= 0)
			store->ops->drop(store, slot);
		fm->free_slots[fm->nr_free_slots++] = slot;
	}
	if (!stolen && err < 0) {
		fm->stats.store_errors++;
		list_add_tail(&p->link, &fm->writes); /* it is ours until it is taken */
	} else {
		fm->nr_unwritten--;
	}
	fm_buffer_put(b);
	pthread_cond_broadcast(&fm->changed);
}

/* Enough for a batch, or somebody waits for it? */
bool fm_has_work(const struct fluidmem *fm)
{
	u64 most = fm->config.max_unwritten;

	if (list_empty(&fm->writes) || fm->store_down)
		return false;
	return fm->flushing || fm->nr_unwritten >= fm->config.batch ||
	       (most && fm->nr_unwritten >= most);
}

/* A batch at a time, unless the store fails. */
void *fm_writer(void *arg)
{
	struct fluidmem *fm = arg;
	unsigned left;

	begin_thread(fm);
	pthread_mutex_lock(&fm->lock);
	while (!fm->end) {
		if (!fm_has_work(fm)) {
			fm->writer_sleeps = true;
			pthread_cond_broadcast(&fm->changed);
			pthread_cond_wait(&fm->work, &fm->lock);
			fm->writer_sleeps = false;
			continue;
		}
		left = max_of(fm->config.batch, 1u);
		do {
			write_page(fm, list_first_entry(&fm->writes, struct fm_page, link));
		} while (--left && !list_empty(&fm->writes) && !fm->store_down && !fm->end);
	}
	pthread_mutex_unlock(&fm->lock);
	return NULL;
}

/* ---- faults ---- */

struct fm_page *fm_find_page(struct fluidmem_space *s, u64 va)
{
	for (struct fm_region *r = s->regions; r; r = r->next)
		if (va - r->start < r->nr * PAGE_SIZE)
			return &r->pages[(va - r->start) >> PAGE_SHIFT];
	return NULL;
}

/* Pages that follow one that came from the store, as far as they are there, too. */
static void prefetch(struct fluidmem *fm, struct fm_page *p)
{
	unsigned n = fm->config.prefetch;
	u64 since = machine_now_ns();
	enum fluidmem_bucket how;

	if (n > fm->config.capacity / 2)
		n = (unsigned)(fm->config.capacity / 2);
	for (unsigned i = 1; i <= n; i++) {
		struct fm_page *next = fm_find_page(p->space, p->va + i * PAGE_SIZE);

		if (!next || next->state != STORED || fm_bring_in(fm, next, false, &how))
			break;
		fm->stats.prefetched++;
	}
	if (n)
		note_time(fm, PREFETCH, since);
}

/* The page was resident, and faults: two had asked for it; or the kernel has dropped it, as it may
 * with MADV_FREE, and it is zeros.  fm->lock held, dropped in between. */
static void look_again(struct fluidmem *fm, struct fm_page *p)
{
	int err;

	fm_take_off(fm, p);
	pthread_mutex_unlock(&fm->lock);
	err = zero_in(p);
	if (err == -ENOMEM)
		give_up(p);
	else if (err)
		wake(p);
	pthread_mutex_lock(&fm->lock);
	fm_settle(fm, p, RESIDENT);
}

/* It is out, and stays out.  fm->lock held, dropped in between. */
static void refuse(struct fluidmem *fm, struct fm_page *p, int err)
{
	enum fm_state was = p->state;

	p->poisoned = (was == STORED || was == WRITING) && err != -EAGAIN;
	pthread_mutex_unlock(&fm->lock);
	if (err == -EAGAIN)
		wake(p); /* it asks again, when we have been told what has changed */
	else if (was == STORED || was == WRITING)
		poison(p); /* nobody has the bytes: better no page than a wrong one */
	else
		give_up(p);
	pthread_mutex_lock(&fm->lock);
}

/* In an area that has grown, or is gone by now.  What is there is not ours to send away. */
static void serve_unknown(struct fluidmem_space *s, u64 va)
{
	struct fm_page p = { .space = s, .va = va };
	int err = zero_in(&p);

	if (err == -ENOMEM)
		give_up(&p);
	else if (err)
		wake(&p);
}

static void serve_page(struct fluidmem *fm, struct fm_page *p, bool write)
{
	u64 since = machine_now_ns();
	enum fluidmem_bucket how;
	int err;

	fm_wait_until_settled(fm, p);
	if (p->state == RESIDENT) {
		look_again(fm, p);
		return;
	}
	err = fm_bring_in(fm, p, write, &how);
	if (err == -ENOMEM && fm->stats.resident) {
		evict_down_to(fm, fm->stats.resident - 1, NULL);
		fm_wait_until_settled(fm, p);
		err = p->state == RESIDENT ? 0 : fm_bring_in(fm, p, write, &how);
	}
	if (err) {
		refuse(fm, p, err);
		return;
	}
	note_time(fm, how, since);
	if (how == HANDLE_USERFAULT_COPY)
		prefetch(fm, p);
}

static void serve(struct fluidmem_space *s, const struct userfault_msg *msg)
{
	u64 va = msg->arg.pagefault.address & PAGE_MASK;
	bool write = msg->arg.pagefault.flags & UAPI_UFFD_PAGEFAULT_FLAG_WRITE;
	struct fluidmem *fm = s->fm;
	struct fm_page *p;

	pthread_mutex_lock(&fm->lock);
	fm->stats.faults++;
	p = fm_find_page(s, va);
	if (p) {
		serve_page(fm, p, write);
		evict_down_to(fm, fm->config.capacity, p);
	}
	pthread_mutex_unlock(&fm->lock);
	if (!p)
		serve_unknown(s, va);
}

/* The next message.  `sleeps` is set only when nothing was there to be read: who has been answered
 * finds it unset until all that was read is done.  False: there will be none. */
static bool read_message(struct fluidmem_space *s, struct userfault_msg *msg)
{
	s64 n;

	fm_called(s->fm, FLUIDMEM_READ);
	for (;;) {
		n = userfaultfd_read(s->ctx, msg, 1, true);
		if (n != -EAGAIN)
			break;
		atomic_store(&s->sleeps, true);
		userfaultfd_wait(s->ctx);
		atomic_store(&s->sleeps, false);
	}
	if (n == 1)
		fm_returned(s->fm, msg->event == UAPI_UFFD_EVENT_PAGEFAULT ? FLUIDMEM_READ
									   : FLUIDMEM_READ_EVENT);
	return n == 1;
}

void *fm_handler(void *arg)
{
	struct fluidmem_space *s = arg;
	struct userfault_msg msg;

	begin_thread(s->fm);
	fm_returned(s->fm, FLUIDMEM_BEGIN);
	while (read_message(s, &msg)) {
		if (msg.event == UAPI_UFFD_EVENT_PAGEFAULT)
			serve(s, &msg);
		else
			fm_follow(s, &msg);
	}
	atomic_store(&s->sleeps, true);
	return NULL;
}
