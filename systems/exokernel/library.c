/* SPDX-License-Identifier: MIT */
/* The library's calls of the kernel, and its answers to it; see library.h. */
#include <sched.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/migrate/migrate.h"
#include "systems/exokernel/library.h"

const struct ledger_actor library_actor = { .name = "the library OS", .ring = 3, .domain = 1 };

/* Frames that go back with one call. */
#define GIVEN_AT_ONCE 64
/* Times that it looks for another. */
#define SPARE_TRIES 50
/* Times that a page is tried whose frame is lost and that somebody is at. */
#define REPAIR_TRIES 8

void library_call(const char *what, u64 operations)
{
	ledger_cross(&library_actor, &lab_kernel, BY_SYSTEM_CALL, what);
	ledger_add(PAID_OPERATIONS, operations);
}

void library_returns(void)
{
	ledger_cross(&lab_kernel, &library_actor, BY_RETURN, "the call returns");
}

/* ---- entries ---- */

unsigned library_env(const struct library *l, const struct mm *mm)
{
	const struct xok *x = l->xok;
	unsigned i = 0;

	while (i < XOK_ENVS && (!x->envs[i].used || x->envs[i].mm != mm))
		i++;
	return i;
}

bool library_lost(const struct library *l, u64 pfn)
{
	const struct xok_holder *h = &l->xok->holders[l->resource];
	u64 first = l->xok->machine->nr_table;

	return atomic_load(&h->nr_vector) && pfn - first < l->xok->nr_frames &&
	       atomic_load(&h->vector[pfn - first]);
}

/* Was it killed, as this thread runs in it? */
static bool is_killed(const struct library *l, unsigned env)
{
	return env == XOK_ENVS || !l->xok->envs[env].used;
}

/* It must not refuse its own library, but for frames that it has taken away, and an environment
 * that has been killed (-ESRCH). */
static int must(const struct library *l, unsigned env, int result, u64 va, pte_t pte)
{
	if (result == -EACCES && library_lost(l, pte_pfn(pte)))
		return -EAGAIN;
	if (result == -EBADF && is_killed(l, env))
		return -ESRCH;
	if (result == -EBADF || result == -EACCES || result == -EINVAL)
		vmf_panic("exokernel: the kernel refuses the library an entry at %lx: %d",
			  (unsigned long)va, result);
	return result;
}

static const pte_t *lost_one(const struct library *l, const pte_t *ptes, unsigned n)
{
	unsigned i = 0;

	while (i < n - 1 && !library_lost(l, pte_pfn(ptes[i])))
		i++;
	return &ptes[i];
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	struct library *l = library_of(mm);
	unsigned env = library_env(l, mm);
	int done;

	library_call("insert_pte: here is the capability for the frame", n);
	done = xok_insert_pte(l->xok, env, LIBRARY_CAP, env, va, ptep, ptes, pages, n);
	done = must(l, env, done, va, *lost_one(l, ptes, n));
	ledger_step(&lab_kernel, "checks the capability against the frame, and writes the entry",
		    va);
	library_returns();
	return done;
}

/* One that is refused, because the frame is lost, stays as the kernel left it: nobody may access
 * it, and the fault that comes of it finds the vector read. */
static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct library *l = library_of(mm);
	unsigned env = library_env(l, mm);

	library_call("mod_pte: the entry is to allow this", 1);
	must(l, env, xok_mod_pte(l->xok, env, LIBRARY_CAP, env, va, ptep, pte), va, pte);
	ledger_step(&lab_kernel, "checks the capability against the frame, and writes the entry",
		    va);
	library_returns();
}

/* A call that takes n entries away from the table.  A child that is no environment yet has them
 * from nobody but its parent's library. */
static struct library *removes(struct mm *mm, u64 va, const char *what, unsigned n)
{
	struct library *l = library_of(mm);
	unsigned env = library_env(l, mm);

	library_call(what, n);
	if (env < XOK_ENVS)
		must(l, env, xok_check_removal(l->xok, env, LIBRARY_CAP, env), va, (pte_t){ 0 });
	return l;
}

static pte_t clean(struct mm *mm, u64 va, pte_t *ptep)
{
	struct library *l = removes(mm, va, "mod_pte: the entry is to be read-only and clean", 1);
	pte_t old = l->xok->hardware.clean(mm, va, ptep);

	library_returns();
	return old;
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	struct library *l = removes(mm, va, "mod_pte: the entry is to go", 1);
	pte_t old = l->xok->hardware.clear(mm, va, ptep, left);

	library_returns();
	return old;
}

/* An entry that is put down where it was, or at its new address. */
static void put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct library *l = library_of(mm);
	unsigned env = library_env(l, mm);
	int err;

	library_call("insert_pte: the entry is here now", 1);
	err = xok_put_pte(l->xok, env, LIBRARY_CAP, env, va, ptep, pte);
	if (must(l, env, err, va, pte)) /* lost: what is to be moved is still to be found */
		xok_put_pte(l->xok, env, LIBRARY_CAP, env, va, ptep,
			    pte_with(pte_without(pte, PTE_PRESENT), PTE_GLOBAL));
	library_returns();
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct library *l = removes(mm, takes[0].va, "mod_pte_range: these entries are to go", n);
	unsigned taken = l->xok->hardware.take(mm, takes, n);

	library_returns();
	return taken;
}

void library_ask_for_entries(struct library *l, unsigned env)
{
	struct mm *mm = l->xok->envs[env].mm;
	pte_t pte;
	u64 n = 0;

	ledger_cross(&library_actor, &lab_kernel, BY_SYSTEM_CALL,
		     "mod_pte_range: the child's entries, as the parent has them");
	for (u64 va = mm->low; engine_system_next_entry(mm, &va, &pte); va += PAGE_SIZE, n++)
		must(l, env, xok_check_pte(l->xok, env, LIBRARY_CAP, env, va, pte), va, pte);
	ledger_add(PAID_OPERATIONS, n);
	ledger_add(PAID_ENTRY_WRITES, n);
	library_returns();
}

/* The bytes of a page whose frame is lost are where the kernel wrote them. */
static void *bytes(struct engine *e, struct page *page)
{
	const struct library *l = container_of(e->mmu, struct library, mmu);
	u64 pfn = page_pfn(e, page), first = l->xok->machine->nr_table;
	char *block = NULL;

	if (library_lost(l, pfn))
		block = atomic_load(&l->xok->holders[l->resource].vector[pfn - first]);
	return block ? block : l->xok->hardware.bytes(e, page);
}

/* ---- frames go, and come ---- */

/* The engine counts them as a device's: they are not its own to use.  Lock held. */
static void add_to_balloon(struct library *l, struct page *page)
{
	l->balloon[l->nr_balloon++] = page;
	atomic_fetch_add(&l->engine->nr_device_pages, 1);
}

static struct page *out_of_balloon(struct library *l, u64 i)
{
	struct page *page = l->balloon[i];

	l->balloon[i] = l->balloon[--l->nr_balloon];
	atomic_fetch_sub(&l->engine->nr_device_pages, 1);
	return page;
}

static void into_the_balloon(struct library *l, struct page **pages, u64 n)
{
	spin_lock(&l->lock);
	for (u64 i = 0; i < n; i++)
		add_to_balloon(l, pages[i]);
	spin_unlock(&l->lock);
}

/* A frame that is not lost itself; one that is, is nobody's from now on.  NULL: there is none. */
static struct page *sound_frame(const struct library *l)
{
	struct engine *e = l->engine;
	struct page *page;

	while ((page = page_alloc(e, ZONE_USER, 0, 0)) && library_lost(l, page_pfn(e, page))) {
		page_set_hwpoison(e, page);
		page_put(e, page);
	}
	return page;
}

/* A frame to give back; NULL: it can spare none.  The program's faults want what comes free, too.
 */
static struct page *spare_frame(const struct library *l)
{
	struct page *page = sound_frame(l);

	for (unsigned i = 0; !page && i < SPARE_TRIES; i++) {
		sched_yield();
		reclaim_balance(l->engine);
		page = sound_frame(l);
	}
	return page;
}

/* Some frames, at most GIVEN_AT_ONCE, go back.  How many. */
static u64 give_some(struct library *l, u64 n)
{
	struct page *pages[GIVEN_AT_ONCE];
	u64 pfns[GIVEN_AT_ONCE], k;
	int err;

	for (k = 0; k < min_of(n, (u64)GIVEN_AT_ONCE); k++) {
		pages[k] = spare_frame(l);
		if (!pages[k])
			break;
		pfns[k] = page_pfn(l->engine, pages[k]);
	}
	if (!k)
		return 0;
	library_call("give_frames: these are yours again", k);
	err = xok_give_frames(l->xok, l->env, LIBRARY_CAP, pfns, k);
	library_returns();
	if (err)
		vmf_panic("exokernel: the kernel does not take frames back: %d", err);
	into_the_balloon(l, pages, k);
	return k;
}

static void revoke(void *arg, u64 n)
{
	struct library *l = arg;
	u64 given;

	ledger_step(&library_actor, "lets its policy choose pages, and writes them out", 0);
	do {
		given = give_some(l, n);
		n -= given;
	} while (given && n);
}

/* A frame of the balloon's that nobody has; NULL: there is none.  Lock held. */
static struct page *free_one(struct library *l, u64 *i)
{
	for (; *i < l->nr_balloon; (*i)++) {
		u64 pfn = page_pfn(l->engine, l->balloon[*i]);

		/* Everybody may read who has which frame. */
		if (atomic_load(xok_owner(l->xok, pfn)) == XOK_KERNEL)
			return out_of_balloon(l, *i);
	}
	return NULL;
}

static u64 find_free(struct library *l, struct page **pages, u64 *pfns, u64 most)
{
	u64 n = 0, i = 0;

	spin_lock(&l->lock);
	while (n < most && (pages[n] = free_one(l, &i))) {
		pfns[n] = page_pfn(l->engine, pages[n]);
		n++;
	}
	spin_unlock(&l->lock);
	return n;
}

u64 library_ask(struct library *l, u64 n)
{
	struct page *pages[GIVEN_AT_ONCE];
	u64 pfns[GIVEN_AT_ONCE], got = 0, k;
	int err;

	while (got < n) {
		k = find_free(l, pages, pfns, min_of(n - got, (u64)GIVEN_AT_ONCE));
		if (!k)
			break;
		library_call("take_frames: these, which nobody has", k);
		err = xok_take_list(l->xok, l->env, LIBRARY_CAP, pfns, k);
		library_returns();
		if (err) { /* somebody else was faster */
			into_the_balloon(l, pages, k);
			break;
		}
		for (u64 i = 0; i < k; i++)
			page_put(l->engine, pages[i]);
		got += k;
	}
	return got;
}

/* The engine is about to evict, and has not been refused in this slice. */
static bool is_short(const struct library *l)
{
	return l->wish && !atomic_load(&l->refused) &&
	       zone_free_pages(l->engine, ZONE_USER) < l->engine->config.marks.low;
}

/* Before its own pages go, others' may. */
static void want_frames(struct library *l)
{
	s64 came_free;

	if (likely(!is_short(l)) || library_ask(l, l->wish))
		return;
	library_call("want_frames: who can spare some?", l->wish);
	came_free = xok_want_frames(l->xok, l->env, LIBRARY_CAP, l->wish);
	library_returns();
	if (came_free <= 0 || !library_ask(l, (u64)came_free))
		atomic_store(&l->refused, true);
}

/* ---- the repossession vector ---- */

static struct page *sound_frame_for(struct engine *e, const struct page *from, void *arg)
{
	(void)e, (void)from;
	return sound_frame(arg);
}

/* The page moves to another frame, with its bytes from the block. */
static void move_page(struct library *l, struct page *page)
{
	const struct migrate_target target = { .get = sound_frame_for, .arg = l };
	int status;

	if (migrate_get(l->engine, page))
		migrate_pages(l->engine, &page, 1, &target, MIGRATE_SYNC, &status);
	else /* on its way out: then it goes */
		reclaim_write_out(l->engine, MMU_BATCH);
}

/* The engine never uses the frame again.  False: it still does, for somebody is at its page. */
static bool leave_frame(struct library *l, u64 pfn)
{
	struct page *page = pfn_page(l->engine, pfn);

	for (unsigned i = 0; i < REPAIR_TRIES; i++) {
		if (page_test(page, PG_HWPOISON) || page_take_free(l->engine, page))
			return true;
		move_page(l, page);
	}
	return false;
}

void library_read_vector(struct library *l)
{
	const struct xok_holder *h = &l->xok->holders[l->resource];
	u64 first = l->xok->machine->nr_table;

	if (likely(!atomic_load(&h->nr_vector)))
		return;
	spin_lock(&l->repairing);
	for (u64 i = 0; atomic_load(&h->nr_vector) && i < l->xok->nr_frames; i++) {
		if (!atomic_load(&h->vector[i]) || !leave_frame(l, first + i))
			continue;
		library_call("forget: the block is free", 1);
		xok_forget(l->xok, l->env, LIBRARY_CAP, first + i);
		library_returns();
	}
	spin_unlock(&l->repairing);
}

static void repossessed(void *arg)
{
	library_read_vector(arg);
}

static struct fault_result fault(void *arg, struct mm *mm, const struct xok_trap_frame *f)
{
	library_read_vector(arg);
	want_frames(arg);
	return resolve_fault(mm, f->va, (u32)f->code, FAULT_FLAG_USER);
}

const struct xok_entries library_entries = { .revoke = revoke, .repossessed = repossessed };

/* ---- its life ---- */

/* Pages that the engine counts as a device's, as those of the balloon: no program has them. */
int library_give_stack(struct library *l, unsigned env)
{
	struct page **pages = l->stacks[env - l->env];
	pte_t ptes[XOK_STACK_PAGES];
	unsigned n = l->xok->stack_pages;
	int err;

	for (unsigned i = 0; i < n; i++) {
		pages[i] = sound_frame(l);
		if (!pages[i]) {
			library_free_stack(l, env);
			return -ENOMEM;
		}
		atomic_fetch_add(&l->engine->nr_device_pages, 1);
		ptes[i] = pte_make(page_pfn(l->engine, pages[i]),
				   PTE_PRESENT | PTE_USER | PTE_WRITE | PTE_NX);
	}
	library_call("set_stack: faults are to be handled on these pages", n);
	err = xok_set_stack(l->xok, env, LIBRARY_CAP, env, LIBRARY_STACK, ptes, n);
	library_returns();
	if (err)
		vmf_panic("exokernel: the kernel refuses a library its exception stack: %d", err);
	return 0;
}

void library_free_stack(struct library *l, unsigned env)
{
	struct page **pages = l->stacks[env - l->env];

	for (unsigned i = 0; i < XOK_STACK_PAGES && pages[i]; i++) {
		atomic_fetch_sub(&l->engine->nr_device_pages, 1);
		page_put(l->engine, pages[i]);
		pages[i] = NULL;
	}
}

static bool is_own(const struct library *l, const struct page *page)
{
	return atomic_load(xok_owner(l->xok, page_pfn(l->engine, page))) == l->resource;
}

/* What it has not got goes into the balloon: all is taken, and its own is freed. */
static void fill_balloon(struct library *l)
{
	struct page *page;
	u64 i;

	if (atomic_load(&l->xok->holders[l->resource].frames) == l->xok->nr_frames)
		return;
	while ((page = page_alloc(l->engine, ZONE_USER, 0, ALLOC_NORECLAIM | ALLOC_RESERVE)))
		add_to_balloon(l, page);
	for (i = 0; i < l->nr_balloon;)
		if (is_own(l, l->balloon[i]))
			page_put(l->engine, out_of_balloon(l, i));
		else
			i++;
}

/* The page of zeros, which the engine has chosen before it knew which frames are its own. */
static int own_zero_page(struct library *l)
{
	struct engine *e = l->engine;
	struct page *page = pfn_page(e, e->zero_pfn);

	if (!is_own(l, page)) {
		add_to_balloon(l, page);
		page = page_alloc(e, ZONE_USER, 0, ALLOC_NORECLAIM);
		if (!page)
			return -ENOMEM;
		memset(page_direct(e, page), 0, PAGE_SIZE);
		e->zero_pfn = page_pfn(e, page);
	}
	return xok_guarantee(l->xok, l->env, LIBRARY_CAP, e->zero_pfn);
}

int library_init(struct library *l, struct engine *e, struct xok *x, unsigned env,
		 const struct mmu_ops *mmu)
{
	int err;

	l->engine = e;
	l->xok = x;
	l->env = env;
	l->resource = x->envs[env].caps[LIBRARY_CAP].resource;
	spin_init(&l->lock);
	spin_init(&l->repairing);
	l->mmu = *mmu;
	l->mmu.set = set;
	l->mmu.change = change;
	l->mmu.clean = clean;
	l->mmu.clear = clear;
	l->mmu.put_back = put_back;
	l->mmu.take = take;
	l->mmu.bytes = bytes;
	l->balloon = calloc(x->nr_frames, sizeof(*l->balloon));
	if (!l->balloon)
		return -ENOMEM;
	e->mmu = &l->mmu;
	e->config.thp = THP_NEVER; /* the kernel has no call for such an entry */
	err = xok_set_handler(x, env, LIBRARY_CAP, env, fault, l);
	if (!err)
		err = xok_hold(x, l->resource, &library_entries, l);
	if (err)
		return err;
	fill_balloon(l);
	err = own_zero_page(l);
	return err ? err : library_give_stack(l, env);
}

void library_fini(struct library *l)
{
	free(l->balloon);
}
