/* SPDX-License-Identifier: MIT */
/*
 * Hooks in libc's text.
 *
 * libc's malloc calls mmap inside itself, where no preloaded symbol is seen; so the functions
 * themselves are replaced, by a jump at their start.  They are bare system calls, so ours do all
 * that they did.
 *
 * New writable memory is counted against a credit.  Who uses it up waits for the keeper's next
 * scan, which puts all new areas under management, or (before paging begins) wires them: that
 * bounds how far a program that maps and fills memory in many threads can get beyond its limit.
 */
#include "machine/linux/hooks.h"
#include "machine/linux/agent.h"
#include "machine/linux/proc.h"
#include "machine/linux/signals.h"
#include "machine/linux/sys.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define CREDIT	  (2ULL << 20) /* bytes of new memory between two scans */
#define MAX_WIPED 64
#define MADV_WIPE 18
#define MADV_KEEP 19
#define JUMP_SIZE 13

static struct {
	_Atomic u64 grown;	 /* bytes since the last scan began */
	_Atomic u32 moving;	 /* threads in mremap() */
	_Atomic u32 held;	 /* a futex: moves wait for a fork */
	_Atomic u32 asked;	 /* somebody waits for one */
	_Atomic u32 begun, done; /* scans; done is a futex */
	void **curbrk;
	spinlock_t lock; /* guards the ranges */
	u64 unwire_start, unwire_len;
	unsigned nr_wiped;
	struct {
		u64 start, end;
	} wiped[MAX_WIPED];
} hooks;

void hooks_reset(void)
{
	hooks.moving = hooks.held = hooks.asked = 0;
	changes_reset();
	spin_init(&hooks.lock);
}

/* ---- growth ---- */

bool hooks_scan_asked(void)
{
	return atomic_load(&hooks.asked);
}

void hooks_scan_begins(void)
{
	atomic_store(&hooks.asked, 0);
	atomic_store(&hooks.grown, 0);
	atomic_fetch_add(&hooks.begun, 1);
}

void hooks_scan_done(void)
{
	atomic_store(&hooks.done, atomic_load(&hooks.begun));
	sys(futex, &hooks.done, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 0x7fffffff);
}

/* Until a scan that began after now is done.  Not in a process that has no keeper of its own: a
 * child of vfork(). */
static void wait_for_scan(void)
{
	struct timespec most = { .tv_nsec = 20 * 1000 * 1000 };
	u32 done, want = atomic_load(&hooks.begun) + 1;
	long pid = sys(getpid);

	while (agent.state != AGENT_STOPPED && agent.pid == (s32)pid &&
	       (s32)((done = atomic_load(&hooks.done)) - want) < 0) {
		atomic_store(&hooks.asked, 1);
		keeper_wake();
		sys(futex, &hooks.done, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, done, &most);
	}
}

u64 hooks_grown(void)
{
	return atomic_load(&hooks.grown);
}

static void grown(u64 bytes)
{
	u64 room = agent.armed ? CREDIT : keeper_room();

	if (room != ~0ULL && atomic_fetch_add(&hooks.grown, bytes) + bytes > room)
		wait_for_scan();
}

void hooks_look(void)
{
	if (keeper_is_urgent())
		wait_for_scan();
}

/* ---- moves and forks ---- */

void hooks_hold_moves(void)
{
	atomic_store(&hooks.held, 1);
	while (atomic_load(&hooks.moving))
		sys(sched_yield);
}

void hooks_release_moves(void)
{
	atomic_store(&hooks.held, 0);
	sys(futex, &hooks.held, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 0x7fffffff);
}

static void move_begins(void)
{
	for (;;) {
		atomic_fetch_add(&hooks.moving, 1);
		if (!atomic_load(&hooks.held))
			return;
		atomic_fetch_sub(&hooks.moving, 1);
		sys(futex, &hooks.held, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, 0);
	}
}

static void move_ends(void)
{
	atomic_fetch_sub(&hooks.moving, 1);
}

bool hooks_moving(void)
{
	return atomic_load(&hooks.moving);
}

/* ---- advice ---- */

/* With signals blocked: a handler may give such advice, too, or fork. */
static u64 lock(void)
{
	u64 mask = signals_block();

	spin_lock(&hooks.lock);
	return mask;
}

static void unlock(u64 mask)
{
	spin_unlock(&hooks.lock);
	signals_restore(mask);
}

bool hooks_wiped_on_fork(u64 va)
{
	bool wiped = false;

	spin_lock(&hooks.lock);
	for (unsigned i = 0; i < hooks.nr_wiped; i++)
		wiped |= va >= hooks.wiped[i].start && va < hooks.wiped[i].end;
	spin_unlock(&hooks.lock);
	return wiped;
}

void hooks_each_wiped(void (*fn)(u64 start, u64 end))
{
	for (unsigned i = 0; i < hooks.nr_wiped; i++)
		fn(hooks.wiped[i].start, hooks.wiped[i].end);
}

static void note_wiped(u64 start, u64 end)
{
	u64 mask = lock();

	if (hooks.nr_wiped < MAX_WIPED) {
		hooks.wiped[hooks.nr_wiped].start = start;
		hooks.wiped[hooks.nr_wiped].end = end;
		hooks.nr_wiped++;
	} else {
		agent_warn("more MADV_WIPEONFORK areas than can be remembered");
	}
	unlock(mask);
}

static void note_kept(u64 start, u64 end)
{
	u64 mask = lock();

	for (unsigned i = 0; i < hooks.nr_wiped; i++) {
		u64 s = hooks.wiped[i].start, e = hooks.wiped[i].end;

		if (s >= end || e <= start)
			continue;
		/* What is left of it before, and after. */
		hooks.wiped[i].end = max_of(min_of(e, start), s);
		if (e > end && hooks.nr_wiped < MAX_WIPED) {
			hooks.wiped[hooks.nr_wiped].start = end;
			hooks.wiped[hooks.nr_wiped].end = e;
			hooks.nr_wiped++;
		}
	}
	unlock(mask);
}

/* ---- the replacements ---- */

static long result(long r)
{
	if ((unsigned long)r <= -4096UL)
		return r;
	errno = (int)-r;
	return -1;
}

/* Nothing that was known of these addresses is true any more. */
static void is_new(u64 at, u64 len, bool stack)
{
	if (hooks.nr_wiped)
		note_kept(at, at + PAGE_ALIGN(len));
	if (stack)
		stacks_mapped(at, at + PAGE_ALIGN(len));
	else
		stacks_unmapped(at, at + PAGE_ALIGN(len));
}

static void *our_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	int mine = MAP_PRIVATE | MAP_ANONYMOUS;
	long at = sys(mmap, addr, len, prot, flags, fd, offset);

	if ((unsigned long)at > -4096UL)
		return (void *)result(at);
	is_new((u64)at, len, flags & MAP_STACK);
	if ((flags & mine) == mine && (prot & PROT_WRITE))
		grown(len);
	return (void *)result(at);
}

static int our_brk(void *addr)
{
	u64 old = (u64)*hooks.curbrk, new = (u64)sys(brk, addr);

	*hooks.curbrk = (void *)new;
	if (new < (u64)addr) {
		errno = ENOMEM;
		return -1;
	}
	if (old && new > old)
		grown(new - old);
	return 0;
}

static int our_mprotect(void *addr, size_t len, int prot)
{
	long err = sys(mprotect, addr, len, prot);
	u64 from, to;

	if (!err && (prot & PROT_WRITE) && !stacks_overlap((u64)addr, (u64)addr + len, &from, &to))
		grown(len);
	return (int)result(err);
}

/*
 * An area that was being enlarged or put together while it was registered may be two areas for the
 * kernel now, of which mremap() would say EFAULT.  The next scan heals that, unless both have got
 * pages of their own meanwhile: then the parts are moved one by one.
 */
#define MAX_PARTS 16

struct parts {
	u64 start, end; /* the range wanted */
	u64 upto;	/* found without a gap up to here */
	unsigned nr;
	u64 at[MAX_PARTS + 1];
};

static int part_of(const struct proc_area *a, void *ctx)
{
	struct parts *p = ctx;

	if (a->end <= p->start || a->start >= p->end)
		return 0;
	if (a->start > p->upto || p->nr == MAX_PARTS || !a->anonymous || !a->private)
		return -EFAULT;
	p->at[p->nr++] = p->upto;
	p->upto = min_of(a->end, p->end);
	p->at[p->nr] = p->upto;
	return 0;
}

static int find_parts(struct parts *p)
{
	long maps = sys(openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	int err;

	if (maps < 0)
		return -EFAULT;
	p->upto = p->start;
	err = proc_areas((int)maps, part_of, p);
	sys(close, maps);
	return err || p->upto != p->end ? -EFAULT : 0;
}

static long mremap_split(u64 old, size_t old_len, size_t new_len, int flags)
{
	struct parts p = { .start = old, .end = old + PAGE_ALIGN(old_len) };
	int prot = PROT_READ | PROT_WRITE;
	long to;

	if (flags != MREMAP_MAYMOVE || new_len < old_len || find_parts(&p) < 0)
		return -EFAULT;
	to = sys(mmap, NULL, new_len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if ((unsigned long)to > -4096UL)
		return -ENOMEM;
	changes_await();
	for (unsigned i = 0; i < p.nr; i++) {
		u64 len = p.at[i + 1] - p.at[i];
		long at = sys(mremap, p.at[i], len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			      (u64)to + (p.at[i] - old));

		/* In the middle of it there is no way back; nothing is lost, but nobody would find
		 * it. */
		if ((unsigned long)at > -4096UL && i)
			machine_panic("an area in parts could not be moved as a whole");
		if ((unsigned long)at > -4096UL) {
			sys(munmap, to, new_len);
			return at;
		}
	}
	return to;
}

/*
 * Where the kernel is to choose the new place, it chooses it for a mapping that holds it until all
 * that happened there before is told (order.c has why).
 *
 * If the move then fails for want of memory, the kernel may have given the place away or not; it is
 * left as it is, because it may be another thread's by now.
 */
static long move_elsewhere(u64 old, size_t old_len, size_t new_len, int flags)
{
	long to = sys(mmap, NULL, new_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		      -1, 0);
	long at;

	if ((unsigned long)to > -4096UL)
		return -ENOMEM;
	changes_await();
	at = sys(mremap, old, old_len, new_len, flags | MREMAP_FIXED, to);
	/* It needs a place of another kind, as huge pages do: it is no memory of ours. */
	return at == -EINVAL ? sys(mremap, old, old_len, new_len, flags, 0) : at;
}

static long ordered_mremap(u64 old, size_t old_len, size_t new_len, int flags, u64 to)
{
	long at;

	/* Without a length it makes a second mapping of shared memory. */
	if (!agent.paging || !(flags & MREMAP_MAYMOVE) || !old_len)
		return sys(mremap, old, old_len, new_len, flags, to);
	if (flags & MREMAP_FIXED) {
		changes_await();
		return sys(mremap, old, old_len, new_len, flags, to);
	}
	if (!(flags & MREMAP_DONTUNMAP)) {
		at = sys(mremap, old, old_len, new_len, flags & ~MREMAP_MAYMOVE, 0);
		if (at != -ENOMEM)
			return at;
	}
	return move_elsewhere(old, old_len, new_len, flags);
}

bool hooks_unwire_asked(u64 *start, u64 *len)
{
	spin_lock(&hooks.lock);
	*start = hooks.unwire_start;
	*len = hooks.unwire_len;
	hooks.unwire_len = 0;
	spin_unlock(&hooks.lock);
	return *len;
}

/* A piece that was let go of its wires is an area of its own for the kernel, too. */
static void unwire(u64 start, u64 len)
{
	spin_lock(&hooks.lock);
	hooks.unwire_start = start;
	hooks.unwire_len = len;
	spin_unlock(&hooks.lock);
	wait_for_scan();
}

/* Signals wait: a handler that forks, or moves memory itself, would wait for its own thread. */
static void *our_mremap(void *old, size_t old_len, size_t new_len, int flags, void *to)
{
	u64 mask = signals_block();
	bool wired = keeper_has_wired();
	long at;

	move_begins();
	at = ordered_mremap((u64)old, old_len, new_len, flags, (u64)to);
	if (at == -EFAULT && wired) {
		unwire((u64)old, PAGE_ALIGN(old_len));
		at = ordered_mremap((u64)old, old_len, new_len, flags, (u64)to);
	}
	move_ends();
	if (at == -EFAULT && (agent.armed || wired)) {
		wait_for_scan();
		move_begins();
		at = ordered_mremap((u64)old, old_len, new_len, flags, (u64)to);
		if (at == -EFAULT)
			at = mremap_split((u64)old, old_len, new_len, flags);
		move_ends();
	}
	signals_restore(mask);
	if ((unsigned long)at <= -4096UL && (u64)at != (u64)old)
		is_new((u64)at, new_len, false);
	/* What moves loses its wires. */
	if ((unsigned long)at <= -4096UL && (new_len > old_len || wired))
		grown(wired ? new_len : new_len - old_len);
	return (void *)result(at);
}

long hooks_mremap(long nr, long old, long old_len, long new_len, long flags, long to)
{
	(void)nr;
	return (long)our_mremap((void *)old, (size_t)old_len, (size_t)new_len, (int)flags,
				(void *)to);
}

static int our_madvise(void *addr, size_t len, int advice)
{
	long err = sys(madvise, addr, len, advice);

	if (!err && advice == MADV_WIPE)
		note_wiped((u64)addr, (u64)addr + PAGE_ALIGN(len));
	if (!err && advice == MADV_KEEP)
		note_kept((u64)addr, (u64)addr + PAGE_ALIGN(len));
	return (int)result(err);
}

/* ---- installation ---- */

/* movabs $to, %r11; jmp *%r11 */
static void write_jump(char *at, void *to)
{
	memcpy(at, "\x49\xbb", 2);
	memcpy(at + 2, &to, 8);
	memcpy(at + 10, "\x41\xff\xe3", 3);
}

void hooks_replace(const char *name, void *with)
{
	char *fn = dlsym(RTLD_NEXT, name);
	Dl_info where;
	u64 start, len;

	/* Only glibc's own, whose functions are known to be long enough and to do no more. */
	if (!fn || !dladdr(fn, &where) || !strstr(where.dli_fname, "libc.so.6"))
		return;
	start = (u64)fn & PAGE_MASK;
	len = PAGE_ALIGN((u64)fn + JUMP_SIZE) - start;
	if (sys(mprotect, start, len, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
		return;
	write_jump(fn, with);
	sys(mprotect, start, len, PROT_READ | PROT_EXEC);
}

void hooks_install(void)
{
	spin_init(&hooks.lock);
	hooks.curbrk = dlsym(RTLD_DEFAULT, "__curbrk");
	hooks_replace("mmap", our_mmap);
	if (hooks.curbrk)
		hooks_replace("brk", our_brk);
	hooks_replace("mprotect", our_mprotect);
	hooks_replace("mremap", our_mremap);
	hooks_replace("madvise", our_madvise);
}
