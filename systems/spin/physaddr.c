/* SPDX-License-Identifier: MIT */
/*
 * PhysAddr: the frames, who has each, and what state it is in.  See services.h for the states.
 *
 * The allocator below is the engine's, which tells of each frame that leaves it and comes back.  So
 * a frame that AddressSpace has without PhysAddr's knowledge, or that is given twice, does not go
 * unseen: this file panics.
 */
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/spin/memory.h"

#define STAMP_SHIFT 32
#define STAMP_MASK  0x7fffffffU

static const struct ledger_actor phys_addr = { .name = "PhysAddr", .ring = 0, .domain = 1 };

/* What this thread raises Reclaim or Repossess for: a handler that allocates gets what there is. */
static _Thread_local bool raising;

static enum spin_frame_state state_of(const struct spin_frame *f)
{
	return atomic_load_explicit(&f->state, memory_order_acquire);
}

static void set_state(struct spin_frame *f, enum spin_frame_state state)
{
	atomic_store_explicit(&f->state, state, memory_order_release);
}

static u32 stamp_of(const struct spin_frame *f)
{
	return atomic_load_explicit(&f->stamp, memory_order_relaxed) & STAMP_MASK;
}

static u32 owner_of(const struct spin_frame *f)
{
	return atomic_load_explicit(&f->owner, memory_order_relaxed);
}

struct spin_frame *spin_frame_at(struct spin_services *m, u64 pfn)
{
	return pfn >= m->first && pfn - m->first < m->nr ? &m->frames[pfn - m->first] : NULL;
}

u64 spin_frame_pfn(const struct spin_services *m, const struct spin_frame *f)
{
	return m->first + (u64)(f - m->frames);
}

static struct page *page_of(struct spin_services *m, const struct spin_frame *f)
{
	return pfn_page(m->engine, spin_frame_pfn(m, f));
}

/* ---- handles ---- */

static s64 handle_of(const struct spin_services *m, const struct spin_frame *f)
{
	return (s64)stamp_of(f) << STAMP_SHIFT | (s64)(f - m->frames + 1);
}

/* The frame that the handle was made for, whoever has it by now; *gone: it is not that any more.
 * NULL: no handle. */
static struct spin_frame *named_by(struct spin_services *m, s64 handle, bool *gone)
{
	u64 index = (u64)handle & ((1ULL << STAMP_SHIFT) - 1);
	struct spin_frame *f;

	if (handle <= 0 || !index || index > m->nr)
		return NULL;
	f = &m->frames[index - 1];
	/* Of the future: made up. */
	if ((u64)handle >> STAMP_SHIFT > stamp_of(f))
		return NULL;
	*gone = (u64)handle >> STAMP_SHIFT < stamp_of(f) || state_of(f) == SPIN_FREE;
	return f;
}

struct spin_frame *spin_frame_of(struct spin_services *m, u32 extension, s64 handle, int *err)
{
	bool gone = false;
	struct spin_frame *f = named_by(m, handle, &gone);

	ledger_count(PAID_CAPABILITIES);
	*err = !f || gone ? -EBADF : owner_of(f) != extension ? -EACCES : 0;
	return *err ? NULL : f;
}

/* ---- from the allocator, and to it ---- */

void spin_phys_claimed(struct spin_services *m, u64 pfn)
{
	struct spin_frame *f = spin_frame_at(m, pfn);

	if (!f || state_of(f) != SPIN_FREE)
		vmf_panic("spin: frame %lx is given out, and is not free", (unsigned long)pfn);
	atomic_store_explicit(&f->owner, SPIN_ADDRESS_SPACE, memory_order_relaxed);
	set_state(f, SPIN_ACTIVE);
	ledger_step(&phys_addr, "Allocate: the frame is Active from now on", 0);
}

void spin_phys_released(struct spin_services *m, u64 pfn)
{
	struct spin_frame *f = spin_frame_at(m, pfn);

	if (!f || state_of(f) == SPIN_FREE)
		vmf_panic("spin: frame %lx comes back, and is free", (unsigned long)pfn);
	atomic_store_explicit(&f->owner, SPIN_KERNEL, memory_order_relaxed);
	atomic_fetch_add_explicit(&f->stamp, 1, memory_order_relaxed);
	set_state(f, SPIN_FREE);
}

/* ---- allocation ---- */

/* Half of all is for programs in any case. */
static bool may_have_more(struct spin_services *m)
{
	bool may;

	spin_lock(&m->lock);
	may = m->nr_held < m->nr / 2;
	m->nr_held += may;
	spin_unlock(&m->lock);
	return may;
}

static void has_one_less(struct spin_services *m)
{
	spin_lock(&m->lock);
	m->nr_held--;
	spin_unlock(&m->lock);
}

static s64 allocate(struct spin_services *m, u32 extension, u32 flags)
{
	struct spin_frame *f;
	struct page *page;
	s64 handle;

	if (!may_have_more(m))
		return -ENOMEM;
	page = page_alloc(m->engine, ZONE_USER, 0, flags);
	if (!page) {
		has_one_less(m);
		return -ENOMEM;
	}
	/* It was somebody's: no extension sees another's bytes. */
	memset(page_direct(m->engine, page), 0, PAGE_SIZE);
	ledger_count(PAID_FRAMES_ALLOCATED);
	ledger_count(PAID_PAGES_ZEROED);
	/* On none of the engine's lists, as a device's. */
	atomic_fetch_add(&m->engine->nr_device_pages, 1);
	spin_lock(&m->lock);
	f = spin_frame_at(m, page_pfn(m->engine, page));
	atomic_store_explicit(&f->owner, extension, memory_order_relaxed);
	list_init(&f->mappings);
	list_add_tail(&f->link, &m->held);
	handle = handle_of(m, f);
	spin_unlock(&m->lock);
	return handle;
}

s64 spin_phys_allocate(struct spin_services *m, u32 extension)
{
	return allocate(m, extension, raising ? ALLOC_NORECLAIM : 0);
}

s64 spin_phys_allocate_free(struct spin_services *m, u32 extension)
{
	return allocate(m, extension, ALLOC_NORECLAIM);
}

static void unmap_all(struct spin_services *m, struct spin_frame *f)
{
	while (!list_empty(&f->mappings))
		spin_mapping_remove(m, list_first_entry(&f->mappings, struct spin_mapping, link));
}

/* Its mappings go with it.  Lock held; nobody finds it any more. */
static void let_go(struct spin_services *m, struct spin_frame *f)
{
	set_state(f, SPIN_ZOMBIE);
	unmap_all(m, f);
	list_del(&f->link);
	m->nr_held--;
	atomic_fetch_sub(&m->engine->nr_device_pages, 1);
	page_put(m->engine, page_of(m, f));
}

int spin_phys_deallocate(struct spin_services *m, u32 extension, s64 frame)
{
	struct spin_frame *f;
	bool gone = false;
	int err = 0;

	spin_lock(&m->lock);
	ledger_count(PAID_CAPABILITIES);
	f = named_by(m, frame, &gone);
	if (!f)
		err = -EBADF;
	else if (!gone && owner_of(f) != extension)
		err = -EACCES;
	else if (!gone)
		let_go(m, f);
	spin_unlock(&m->lock);
	return err;
}

/* ---- state, rights, bytes ---- */

int spin_phys_state(struct spin_services *m, u32 extension, s64 frame)
{
	struct spin_frame *f;
	int err;

	spin_lock(&m->lock);
	f = spin_frame_of(m, extension, frame, &err);
	err = f ? (int)state_of(f) : err;
	spin_unlock(&m->lock);
	return err;
}

/* Lock held. */
static int change_state(struct spin_services *m, struct spin_frame *f, enum spin_frame_state to)
{
	enum spin_frame_state from = state_of(f);

	if (to != SPIN_ACTIVE && to != SPIN_RECLAIMED)
		return -EACCES;
	if (from == SPIN_TRANSIENT || from == SPIN_ZOMBIE)
		return -EBUSY;
	if (from == to || (from != SPIN_ACTIVE && from != SPIN_RECLAIMED))
		return -EINVAL;
	set_state(f, to);
	if (to == SPIN_RECLAIMED)
		unmap_all(m, f);
	return 0;
}

int spin_phys_change_state(struct spin_services *m, u32 extension, s64 frame,
			   enum spin_frame_state state)
{
	struct spin_frame *f;
	int err;

	spin_lock(&m->lock);
	f = spin_frame_of(m, extension, frame, &err);
	if (f)
		err = change_state(m, f, state);
	spin_unlock(&m->lock);
	return err;
}

int spin_phys_change_protection(struct spin_services *m, u32 extension, s64 frame, u32 prot)
{
	struct spin_mapping *at;
	struct spin_frame *f;
	int err;

	if (!(prot & VM_READ) || prot & ~(u32)(VM_READ | VM_WRITE | VM_EXEC))
		return -EINVAL;
	spin_lock(&m->lock);
	f = spin_frame_of(m, extension, frame, &err);
	if (f)
		list_for_each_entry (at, &f->mappings, link)
			spin_mapping_change(m, at, prot);
	spin_unlock(&m->lock);
	return err;
}

/* `to` or `from` is the caller's. */
static int copy(struct spin_services *m, u32 extension, s64 frame, u64 at, void *to,
		const void *from, u64 n)
{
	struct spin_frame *f;
	int err;

	if (at > PAGE_SIZE || n > PAGE_SIZE - at)
		return -EINVAL;
	spin_lock(&m->lock);
	f = spin_frame_of(m, extension, frame, &err);
	if (f) {
		char *bytes = (char *)page_direct(m->engine, page_of(m, f)) + at;

		if (to)
			memcpy(to, bytes, n);
		else if (state_of(f) == SPIN_ACTIVE || state_of(f) == SPIN_RECLAIMED)
			memcpy(bytes, from, n);
		else
			err = -ESTALE;
	}
	spin_unlock(&m->lock);
	return err;
}

int spin_phys_read(struct spin_services *m, u32 extension, s64 frame, u64 at, void *bytes, u64 n)
{
	return copy(m, extension, frame, at, bytes, NULL, n);
}

int spin_phys_write(struct spin_services *m, u32 extension, s64 frame, u64 at, const void *bytes,
		    u64 n)
{
	return copy(m, extension, frame, at, NULL, bytes, n);
}

/* ---- memory is short ---- */

u64 spin_phys_held(struct spin_services *m)
{
	u64 n;

	spin_lock(&m->lock);
	n = m->nr_held;
	spin_unlock(&m->lock);
	return n;
}

static bool used_since(struct spin_services *m, struct spin_frame *f)
{
	struct spin_mapping *at;
	bool used = false;

	list_for_each_entry (at, &f->mappings, link)
		used |= spin_mapping_used(m, at);
	return used;
}

/* Lock held.  NULL: none can go just now. */
static struct spin_frame *victim(struct spin_services *m)
{
	struct spin_frame *f, *next;
	u64 look = m->nr_held;

	list_for_each_entry (f, &m->held, link)
		if (state_of(f) == SPIN_RECLAIMED)
			return f;
	list_for_each_entry_safe (f, next, &m->held, link) {
		if (!look--)
			break;
		if (state_of(f) == SPIN_ACTIVE && !used_since(m, f))
			return f;
		list_move_tail(&f->link, &m->held); /* a second chance */
	}
	list_for_each_entry (f, &m->held, link)
		if (state_of(f) == SPIN_ACTIVE)
			return f;
	return NULL;
}

static void raise_for(struct spin_services *m, enum spin_event event, u32 owner,
		      struct spin_fault *f)
{
	bool was = raising;

	raising = true;
	f->cpu = ledger_cpu();
	f->key = spin_frames_of(owner);
	spin_raise(m->spin->dispatcher, event, f);
	raising = was;
}

/* The owner is asked: this frame, or which?  The answer, if it is a frame of its own that may go;
 * otherwise the one asked for, if that is still there.  Lock held, dropped and taken again. */
static struct spin_frame *ask(struct spin_services *m, struct spin_frame *f)
{
	u32 owner = owner_of(f);
	s64 asked = handle_of(m, f);
	struct spin_fault event = { .frame = asked };
	s64 answers[2];
	int err;

	spin_unlock(&m->lock);
	raise_for(m, SPIN_RECLAIM, owner, &event);
	spin_lock(&m->lock);
	answers[0] = event.frame;
	answers[1] = asked;
	for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
		f = spin_frame_of(m, owner, answers[i], &err);
		if (f && (state_of(f) == SPIN_ACTIVE || state_of(f) == SPIN_RECLAIMED))
			return f;
	}
	return NULL;
}

/* Mapped nowhere, its owner sees it once more, and it is free.  Lock held, dropped between. */
static void repossess(struct spin_services *m, struct spin_frame *f)
{
	u32 owner = owner_of(f);
	struct spin_fault event = { .frame = handle_of(m, f) };
	int err;

	set_state(f, SPIN_TRANSIENT);
	unmap_all(m, f);
	spin_unlock(&m->lock);
	raise_for(m, SPIN_REPOSSESS, owner, &event);
	spin_lock(&m->lock);
	f = spin_frame_of(m, owner, event.frame, &err);
	if (f) /* it may have been given back by the handler */
		let_go(m, f);
}

unsigned spin_phys_take_back(struct spin_services *m, unsigned n)
{
	unsigned got;

	spin_lock(&m->lock);
	for (got = 0; got < n; got++) {
		struct spin_frame *f = victim(m);

		if (f && state_of(f) == SPIN_ACTIVE)
			f = ask(m, f);
		if (!f)
			break;
		repossess(m, f);
	}
	spin_unlock(&m->lock);
	return got;
}

/* ---- its end, and checks ---- */

void spin_phys_end(struct spin_services *m)
{
	spin_lock(&m->lock);
	while (!list_empty(&m->held))
		let_go(m, list_first_entry(&m->held, struct spin_frame, link));
	spin_unlock(&m->lock);
}

void spin_phys_check(struct spin_services *m)
{
	for (u64 i = 0; i < m->nr; i++) {
		struct spin_frame *f = &m->frames[i];
		const struct page *page = page_of(m, f);
		bool in_use = atomic_load(&page->refcount);

		if (in_use == (state_of(f) == SPIN_FREE))
			vmf_panic("spin: frame %lu has %u references and state %u",
				  (unsigned long)i, atomic_load(&page->refcount), state_of(f));
		if (in_use && owner_of(f) == SPIN_ADDRESS_SPACE && page_mapcount(page) &&
		    state_of(f) != SPIN_ACTIVE)
			vmf_panic("spin: frame %lu is mapped, and its state is %u",
				  (unsigned long)i, state_of(f));
	}
}
