/* SPDX-License-Identifier: MIT */
#include "systems/fluidmem/fluidmem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/errno.h"
#include "engine/machine.h"
#include "engine/userfault/userfault.h"

enum state { UNSEEN, RESIDENT, MOVING, ZEROS, WRITING, STORED };

struct fm_page {
	struct list_head
		link; /* RESIDENT: fm->lru; WRITING and not taken by the writer: fm->writes */
	struct fluidmem_space *space;
	u64 va;
	enum state state;
	u64 slot;		  /* STORED */
	struct fm_buffer *buffer; /* WRITING */
};

/* Bytes on their way to the store.  The page has one use of them, and
 * the writer, while it writes them. */
struct fm_buffer {
	unsigned users;
	_Alignas(u64) u8 bytes[PAGE_SIZE]; /* stores look at words */
};

struct fm_region {
	struct fm_region *next;
	u64 start, nr;
	struct fm_page pages[];
};

struct fluidmem_space {
	struct list_head link; /* fm->spaces */
	struct fluidmem *fm;
	struct mm *mm;
	struct userfaultfd_ctx *ctx, *stage_ctx;
	u64 stage;		    /* a page that evicted ones pass through */
	pthread_mutex_t stage_lock; /* outside fm->lock; guards the stage */
	fluidmem_read_fn read;
	void *arg;
	pthread_t handler;
	struct fm_region *regions;
	bool leaving; /* its pages stay */
};

struct fluidmem {
	pthread_mutex_t lock;	/* guards all below */
	pthread_cond_t changed; /* a page is not MOVING any more, the write list got shorter */
	pthread_cond_t work;	/* there is something to write, or the end has come */
	struct fluidmem_config config;
	struct list_head lru, writes, spaces;
	u64 *free_slots, nr_free_slots;
	u64 nr_unwritten;	       /* of buffers, with the one that is being written */
	const struct fm_page *in_hand; /* what the writer writes, its own or stolen; or NULL */
	bool end;
	pthread_t writer;
	struct fluidmem_stats stats;
};

/* ---- timing ---- */

/* fm->lock held. */
static void note_time(struct fluidmem *fm, enum fluidmem_bucket bucket, u64 since)
{
	struct fluidmem_timing *t = &fm->stats.timing[bucket];
	u64 ns = machine_now_ns() - since;

	t->count++;
	t->total_ns += ns;
	if (ns > t->max_ns)
		t->max_ns = ns;
}

static void note_time_unlocked(struct fluidmem *fm, enum fluidmem_bucket bucket, u64 since)
{
	pthread_mutex_lock(&fm->lock);
	note_time(fm, bucket, since);
	pthread_mutex_unlock(&fm->lock);
}

/* ---- pages in and out of userfaultfd's hands; fm->lock not held ---- */

static int zero_in(struct fm_page *p)
{
	u64 since = machine_now_ns();
	s64 done;
	int err = userfaultfd_zeropage(p->space->ctx, p->va, PAGE_SIZE, 0, &done);

	note_time_unlocked(p->space->fm, UFFD_ZEROPAGE, since);
	return err;
}

static int copy_in(struct fm_page *p, const void *bytes)
{
	u64 since = machine_now_ns();
	s64 done;
	int err = userfaultfd_copy(p->space->ctx, NULL, p->va, (u64)(uintptr_t)bytes, PAGE_SIZE, 0,
				   &done);

	note_time_unlocked(p->space->fm, UFFD_COPY, since);
	return err;
}

/* The page goes, and its last bytes are in *bytes.  0, or why it stays. */
static int move_out(struct fm_page *p, void *bytes)
{
	struct fluidmem_space *s = p->space;
	u64 since = machine_now_ns();
	s64 done;
	int err;

	pthread_mutex_lock(&s->stage_lock);
	err = userfaultfd_move(s->stage_ctx, s->mm, s->stage, p->va, PAGE_SIZE,
			       UAPI_UFFDIO_MODE_DONTWAKE, &done);
	note_time_unlocked(s->fm, UFFD_MOVE, since);
	if (!err) {
		if (!s->read(s->arg, s->stage, bytes))
			machine_panic("fluidmem: a page on the stage cannot be read");
		vm_advise(s->mm, s->stage, PAGE_SIZE, VADV_DONTNEED);
	}
	pthread_mutex_unlock(&s->stage_lock);
	return err;
}

/* ---- lists; fm->lock held ---- */

static void buffer_put(struct fm_buffer *b)
{
	if (!--b->users)
		free(b);
}

static void settle(struct fluidmem *fm, struct fm_page *p, enum state state)
{
	p->state = state;
	if (state == RESIDENT) {
		list_add_tail(&p->link, &fm->lru);
		fm->stats.resident++;
	}
	pthread_cond_broadcast(&fm->changed);
}

/* A resident page is in our hands. */
static void take_off(struct fluidmem *fm, struct fm_page *p)
{
	list_del(&p->link);
	p->state = MOVING;
	fm->stats.resident--;
}

/* Once it is in nobody's hands. */
static void wait_until_settled(struct fluidmem *fm, const struct fm_page *p)
{
	while (p->state == MOVING)
		pthread_cond_wait(&fm->changed, &fm->lock);
}

/* ---- in ---- */

/* The bytes of a page that is on the write list are the caller's now. */
static struct fm_buffer *steal(struct fluidmem *fm, struct fm_page *p)
{
	struct fm_buffer *b = p->buffer;

	/* Otherwise the writer has it just now, and finds out that its work was for nothing. */
	if (!list_empty(&p->link)) {
		list_del(&p->link);
		fm->nr_unwritten--;
	}
	p->buffer = NULL;
	fm->stats.writing--;
	fm->stats.stolen++;
	return b;
}

/* From the store.  fm->lock not held. */
static int fetch(struct fluidmem *fm, struct fm_page *p)
{
	struct store *store = fm->config.store;
	u8 bytes[PAGE_SIZE];
	u64 since = machine_now_ns();
	int err = store->ops->load(store, p->slot, bytes);

	note_time_unlocked(fm, READ_PAGE, since);
	return err ? -EIO : copy_in(p, bytes);
}

/*
 * Bring the page in, which is out.  fm->lock held, dropped in between.  -EIO: the store has lost
 * it, and it is as it was.  (Other operations fail only where the program has unmapped the page: it
 * counts as resident until it would go, and is found to be nothing.)
 */
static int bring_in(struct fluidmem *fm, struct fm_page *p, enum fluidmem_bucket *how)
{
	enum state was = p->state;
	struct fm_buffer *b = was == WRITING ? steal(fm, p) : NULL;
	int err;

	p->state = MOVING;
	pthread_mutex_unlock(&fm->lock);
	if (was == STORED) {
		*how = HANDLE_USERFAULT_COPY;
		err = fetch(fm, p);
		if (err != -EIO)
			fm->config.store->ops->drop(fm->config.store, p->slot);
	} else if (was == WRITING) {
		*how = HANDLE_USERFAULT_STEAL;
		err = copy_in(p, b->bytes);
	} else {
		*how = HANDLE_USERFAULT_ZERO;
		err = zero_in(p);
	}
	pthread_mutex_lock(&fm->lock);
	if (b)
		buffer_put(b);
	if (err == -EIO) {
		fm->stats.store_errors++;
		settle(fm, p, STORED);
		return err;
	}
	if (was == STORED) {
		fm->free_slots[fm->nr_free_slots++] = p->slot;
		fm->stats.stored--;
	}
	settle(fm, p, RESIDENT);
	return 0;
}

/* ---- out ---- */

static bool all_zeros(const u8 *bytes)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, PAGE_SIZE - 1);
}

/* Send the page away, which is MOVING and off the list.  fm->lock held, dropped in between. */
static void evict(struct fluidmem *fm, struct fm_page *p)
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
		settle(fm, p, zeros ? ZEROS : RESIDENT);
	} else {
		b->users = 1;
		p->buffer = b;
		list_add_tail(&p->link, &fm->writes);
		fm->nr_unwritten++;
		fm->stats.writing++;
		settle(fm, p, WRITING);
		pthread_cond_signal(&fm->work);
	}
	fm->stats.evictions += !err;
	note_time(fm, EVICT_TO_EXTERNRAM, begin);
}

/* fm->lock held, dropped in between. */
static void evict_if_needed(struct fluidmem *fm)
{
	u64 tries = 2 * fm->stats.resident + 8; /* some may be refused */

	while (fm->stats.resident > fm->config.capacity && tries--) {
		struct fm_page *p = list_first_entry(&fm->lru, struct fm_page, link);

		if (p->space->leaving) {
			list_move_tail(&p->link, &fm->lru);
			continue;
		}
		take_off(fm, p);
		evict(fm, p);
	}
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

	if (!fm->nr_free_slots)
		machine_panic("fluidmem: the store has too few slots");
	slot = fm->free_slots[--fm->nr_free_slots];
	list_del(&p->link);
	b->users++;
	fm->in_hand = p;
	pthread_mutex_unlock(&fm->lock);
	err = store->ops->save(store, slot, b->bytes);
	pthread_mutex_lock(&fm->lock);
	note_time(fm, WRITE_PAGE, since);
	fm->in_hand = NULL;
	stolen = p->buffer != b;
	if (!stolen && err >= 0) {
		p->slot = slot;
		p->buffer = NULL;
		buffer_put(b);
		fm->stats.writing--;
		fm->stats.stored++;
		settle(fm, p, STORED);
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
	buffer_put(b);
	pthread_cond_broadcast(&fm->changed);
}

static void *writer(void *arg)
{
	struct fluidmem *fm = arg;

	pthread_mutex_lock(&fm->lock);
	while (!fm->end) {
		if (list_empty(&fm->writes))
			pthread_cond_wait(&fm->work, &fm->lock);
		else
			write_page(fm, list_first_entry(&fm->writes, struct fm_page, link));
	}
	pthread_mutex_unlock(&fm->lock);
	return NULL;
}

/* ---- faults ---- */

static struct fm_page *find_page(struct fluidmem_space *s, u64 va)
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
		struct fm_page *next = find_page(p->space, p->va + i * PAGE_SIZE);

		if (!next || next->state != STORED || bring_in(fm, next, &how))
			break;
		fm->stats.prefetched++;
	}
	if (n)
		note_time(fm, PREFETCH, since);
}

/* The page was resident, and faults: two had asked for it; or the program has dropped it, and it is
 * zeros.  fm->lock held, dropped in between. */
static void look_again(struct fluidmem *fm, struct fm_page *p)
{
	int err;

	take_off(fm, p);
	pthread_mutex_unlock(&fm->lock);
	err = zero_in(p);
	if (err)
		userfaultfd_wake(p->space->ctx, p->va, PAGE_SIZE);
	pthread_mutex_lock(&fm->lock);
	settle(fm, p, RESIDENT);
}

static void serve(struct fluidmem_space *s, u64 va)
{
	struct fluidmem *fm = s->fm;
	u64 since = machine_now_ns();
	enum fluidmem_bucket how;
	struct fm_page *p;
	s64 done;

	pthread_mutex_lock(&fm->lock);
	fm->stats.faults++;
	p = find_page(s, va & PAGE_MASK); /* what is registered is in a region */
	wait_until_settled(fm, p);
	if (p->state == RESIDENT) {
		look_again(fm, p);
	} else if (bring_in(fm, p, &how)) {
		/* Nobody has the bytes: better no page than a wrong one. */
		userfaultfd_poison(s->ctx, p->va, PAGE_SIZE, 0, &done);
	} else {
		note_time(fm, how, since);
		if (how == HANDLE_USERFAULT_COPY)
			prefetch(fm, p);
	}
	evict_if_needed(fm);
	pthread_mutex_unlock(&fm->lock);
}

static void *handler(void *arg)
{
	struct fluidmem_space *s = arg;
	struct userfault_msg msg;

	while (userfaultfd_read(s->ctx, &msg, 1, false) == 1)
		serve(s, msg.arg.pagefault.address);
	return NULL;
}

/* ---- set-up ---- */

int fluidmem_create(const struct fluidmem_config *config, struct fluidmem **out)
{
	struct fluidmem *fm;

	if (!config->capacity || !config->store)
		return -EINVAL;
	fm = calloc(1, sizeof(*fm));
	if (!fm)
		return -ENOMEM;
	fm->free_slots = calloc(config->store->nr_slots, sizeof(u64));
	if (!fm->free_slots) {
		free(fm);
		return -ENOMEM;
	}
	for (u64 i = config->store->nr_slots; i--;)
		fm->free_slots[fm->nr_free_slots++] = i;
	fm->config = *config;
	list_init(&fm->lru);
	list_init(&fm->writes);
	list_init(&fm->spaces);
	pthread_mutex_init(&fm->lock, NULL);
	pthread_cond_init(&fm->changed, NULL);
	pthread_cond_init(&fm->work, NULL);
	if (pthread_create(&fm->writer, NULL, writer, fm)) {
		free(fm->free_slots);
		free(fm);
		return -ENOMEM;
	}
	*out = fm;
	return 0;
}

void fluidmem_destroy(struct fluidmem *fm)
{
	pthread_mutex_lock(&fm->lock);
	fm->end = true;
	pthread_cond_broadcast(&fm->work);
	pthread_mutex_unlock(&fm->lock);
	pthread_join(fm->writer, NULL);
	free(fm->free_slots);
	free(fm);
}

static int open_context(struct mm *mm, struct userfaultfd_ctx **ctx)
{
	u64 features = 0, ioctls;
	int err = userfaultfd_create(mm, 0, ctx);

	return err ? err : userfaultfd_api(*ctx, UAPI_UFFD_API, &features, &ioctls);
}

static int make_stage(struct fluidmem_space *s)
{
	s64 at = vm_map(s->mm, 0, PAGE_SIZE, VM_READ | VM_WRITE, 0, 0);
	u64 ioctls;

	if (at < 0)
		return (int)at;
	s->stage = (u64)at;
	return userfaultfd_register(s->stage_ctx, s->stage, PAGE_SIZE,
				    UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls);
}

static void free_space(struct fluidmem_space *s)
{
	struct fm_region *r;

	if (s->ctx)
		userfaultfd_ctx_put(s->ctx);
	if (s->stage_ctx)
		userfaultfd_release(s->stage_ctx);
	if (s->stage)
		vm_unmap(s->mm, s->stage, PAGE_SIZE);
	while ((r = s->regions)) {
		s->regions = r->next;
		free(r);
	}
	free(s);
}

int fluidmem_attach(struct fluidmem *fm, struct mm *mm, fluidmem_read_fn read, void *arg,
		    struct fluidmem_space **out)
{
	struct fluidmem_space *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->fm = fm;
	s->mm = mm;
	s->read = read;
	s->arg = arg;
	pthread_mutex_init(&s->stage_lock, NULL);
	err = open_context(mm, &s->ctx);
	if (!err)
		err = open_context(mm, &s->stage_ctx);
	if (!err)
		err = make_stage(s);
	if (!err && pthread_create(&s->handler, NULL, handler, s))
		err = -ENOMEM;
	if (err) {
		free_space(s);
		return err;
	}
	userfaultfd_ctx_get(s->ctx); /* the handler's, while it reads */
	pthread_mutex_lock(&fm->lock);
	list_add_tail(&s->link, &fm->spaces);
	pthread_mutex_unlock(&fm->lock);
	*out = s;
	return 0;
}

int fluidmem_add_region(struct fluidmem_space *s, u64 start, u64 len)
{
	u64 nr = len >> PAGE_SHIFT, ioctls;
	struct fm_region *r = calloc(1, sizeof(*r) + nr * sizeof(struct fm_page));
	int err;

	if (!r)
		return -ENOMEM;
	r->start = start;
	r->nr = nr;
	for (u64 i = 0; i < nr; i++) {
		r->pages[i].space = s;
		r->pages[i].va = start + i * PAGE_SIZE;
		list_init(&r->pages[i].link);
	}
	/* Its faults can come as soon as it is registered: they wait for the lock. */
	pthread_mutex_lock(&s->fm->lock);
	err = userfaultfd_register(s->ctx, start, len, UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls);
	if (!err) {
		r->next = s->regions;
		s->regions = r;
	}
	pthread_mutex_unlock(&s->fm->lock);
	if (err)
		free(r);
	return err;
}

/* Every page that is out comes in.  fm->lock held, dropped in between. */
static int bring_all_in(struct fluidmem_space *s)
{
	enum fluidmem_bucket how;
	int err = 0;

	for (struct fm_region *r = s->regions; r && !err; r = r->next)
		for (u64 i = 0; i < r->nr && !err; i++) {
			struct fm_page *p = &r->pages[i];

			wait_until_settled(s->fm, p);
			if (p->state == STORED || p->state == WRITING)
				err = bring_in(s->fm, p, &how);
		}
	return err;
}

int fluidmem_detach(struct fluidmem_space *s)
{
	struct fluidmem *fm = s->fm;
	int err;

	pthread_mutex_lock(&fm->lock);
	s->leaving = true;
	err = bring_all_in(s);
	if (err)
		s->leaving = false;
	pthread_mutex_unlock(&fm->lock);
	if (err)
		return err;
	/* What is out now was never anything but zeros, as it will be without us. */
	userfaultfd_release(s->ctx);
	pthread_join(s->handler, NULL);
	pthread_mutex_lock(&fm->lock);
	for (struct fm_region *r = s->regions; r; r = r->next)
		for (u64 i = 0; i < r->nr; i++)
			if (r->pages[i].state == RESIDENT)
				take_off(fm, &r->pages[i]);
	/* The writer looks at a page once more, though it was stolen. */
	while (fm->in_hand && fm->in_hand->space == s)
		pthread_cond_wait(&fm->changed, &fm->lock);
	list_del(&s->link);
	pthread_mutex_unlock(&fm->lock);
	free_space(s);
	return 0;
}

void fluidmem_resize(struct fluidmem *fm, u64 capacity)
{
	pthread_mutex_lock(&fm->lock);
	fm->config.capacity = capacity ? capacity : 1;
	evict_if_needed(fm);
	pthread_mutex_unlock(&fm->lock);
}

void fluidmem_flush(struct fluidmem *fm)
{
	pthread_mutex_lock(&fm->lock);
	while (fm->nr_unwritten)
		pthread_cond_wait(&fm->changed, &fm->lock);
	pthread_mutex_unlock(&fm->lock);
}

void fluidmem_stats(struct fluidmem *fm, struct fluidmem_stats *stats)
{
	pthread_mutex_lock(&fm->lock);
	*stats = fm->stats;
	pthread_mutex_unlock(&fm->lock);
}
