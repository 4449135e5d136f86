/* SPDX-License-Identifier: MIT */
/* What calls there are, their arguments, and the names of flags; see op.h. */
#include <linux/mman.h>
#include <sys/mman.h>

#include "tests/differential/op.h"

static const struct {
	const char *name;
	u8 args[NR_ARGS];
} calls[NR_CALLS] = {
	[CALL_MMAP] = { "mmap",
			{ ARG_ADDRESS, ARG_SIZE, ARG_PROT, ARG_MAP_FLAGS, ARG_FILE, ARG_SIZE } },
	[CALL_MUNMAP] = { "munmap", { ARG_ADDRESS, ARG_SIZE } },
	[CALL_MPROTECT] = { "mprotect", { ARG_ADDRESS, ARG_SIZE, ARG_PROT } },
	[CALL_MREMAP] = { "mremap",
			  { ARG_ADDRESS, ARG_SIZE, ARG_SIZE, ARG_REMAP_FLAGS, ARG_ADDRESS } },
	[CALL_BRK] = { "brk", { ARG_ADDRESS } },
	[CALL_MADVISE] = { "madvise", { ARG_ADDRESS, ARG_SIZE, ARG_ADVICE } },
	[CALL_MLOCK] = { "mlock", { ARG_ADDRESS, ARG_SIZE } },
	[CALL_MLOCK2] = { "mlock2", { ARG_ADDRESS, ARG_SIZE, ARG_LOCK_FLAGS } },
	[CALL_MUNLOCK] = { "munlock", { ARG_ADDRESS, ARG_SIZE } },
	[CALL_MLOCKALL] = { "mlockall", { ARG_LOCKALL_FLAGS } },
	[CALL_MUNLOCKALL] = { "munlockall", { ARG_NONE } },
	[CALL_MSYNC] = { "msync", { ARG_ADDRESS, ARG_SIZE, ARG_SYNC_FLAGS } },
	[CALL_MINCORE] = { "mincore", { ARG_ADDRESS, ARG_SIZE } },
	[CALL_MINCORE_TO] = { "mincore_to", { ARG_ADDRESS, ARG_SIZE, ARG_ADDRESS } },
	[CALL_MSEAL] = { "mseal", { ARG_ADDRESS, ARG_SIZE, ARG_VALUE } },
	[CALL_MBIND] = { "mbind",
			 { ARG_ADDRESS, ARG_SIZE, ARG_POLICY, ARG_VALUE, ARG_VALUE,
			   ARG_BIND_FLAGS } },
	[CALL_SET_MEMPOLICY] = { "set_mempolicy", { ARG_POLICY, ARG_VALUE, ARG_VALUE } },
	[CALL_GET_MEMPOLICY] = { "get_mempolicy", { ARG_ADDRESS, ARG_VALUE, ARG_POLICY_FLAGS } },
	[CALL_MOVE_PAGES] = { "move_pages", { ARG_ADDRESS, ARG_VALUE, ARG_BIND_FLAGS } },
	[CALL_READ] = { "read", { ARG_ADDRESS } },
	[CALL_WRITE] = { "write", { ARG_ADDRESS, ARG_VALUE } },
	[CALL_EXEC] = { "exec", { ARG_ADDRESS } },
	[CALL_GETUSER] = { "getuser", { ARG_ADDRESS } },
	[CALL_PUTUSER] = { "putuser", { ARG_ADDRESS } },
	[CALL_PREAD] = { "pread", { ARG_FILE, ARG_SIZE, ARG_ADDRESS, ARG_SIZE } },
	[CALL_PWRITE] = { "pwrite", { ARG_FILE, ARG_SIZE, ARG_ADDRESS, ARG_SIZE } },
	[CALL_FTRUNCATE] = { "ftruncate", { ARG_FILE, ARG_SIZE } },
	[CALL_PUNCH] = { "punch", { ARG_FILE, ARG_SIZE, ARG_SIZE } },
	[CALL_ADD_SEALS] = { "add_seals", { ARG_FILE, ARG_SEALS } },
	[CALL_GET_SEALS] = { "get_seals", { ARG_FILE } },
	[CALL_FORK] = { "fork", { ARG_PROCESS } },
	[CALL_REAP] = { "reap", { ARG_PROCESS } },
	[CALL_LIMIT] = { "limit", { ARG_LIMIT, ARG_VALUE } },
	[CALL_BALLAST] = { "ballast", { ARG_VALUE } },
	[CALL_CHECK] = { "check", { ARG_NONE } },
};

static const struct word prots[] = {
	{ "read", PROT_READ }, { "write", PROT_WRITE },		{ "exec", PROT_EXEC },
	{ "sem", 8 },	       { "growsdown", PROT_GROWSDOWN }, { "growsup", PROT_GROWSUP },
	{ NULL, 0 },
};

/* shared_validate is both of the first two. */
static const struct word map_flags[] = {
	{ "shared", MAP_SHARED },
	{ "private", MAP_PRIVATE },
	{ "droppable", 8 },
	{ "fixed", MAP_FIXED },
	{ "anonymous", MAP_ANONYMOUS },
	{ "32bit", MAP_32BIT },
	{ "growsdown", MAP_GROWSDOWN },
	{ "denywrite", MAP_DENYWRITE },
	{ "executable", MAP_EXECUTABLE },
	{ "locked", MAP_LOCKED },
	{ "noreserve", MAP_NORESERVE },
	{ "populate", MAP_POPULATE },
	{ "nonblock", MAP_NONBLOCK },
	{ "stack", MAP_STACK },
	{ "hugetlb", MAP_HUGETLB },
	{ "sync", MAP_SYNC },
	{ "noreplace", MAP_FIXED_NOREPLACE },
	{ "uninitialized", 0x4000000 },
	{ NULL, 0 },
};

static const struct word remap_flags[] = {
	{ "maymove", MREMAP_MAYMOVE },
	{ "fixed", MREMAP_FIXED },
	{ "dontunmap", MREMAP_DONTUNMAP },
	{ NULL, 0 },
};

static const struct word advices[] = {
	{ "normal", 0 },	   { "random", 1 },
	{ "sequential", 2 },	   { "willneed", 3 },
	{ "dontneed", 4 },	   { "free", 8 },
	{ "remove", 9 },	   { "dontfork", 10 },
	{ "dofork", 11 },	   { "mergeable", 12 },
	{ "unmergeable", 13 },	   { "hugepage", 14 },
	{ "nohugepage", 15 },	   { "dontdump", 16 },
	{ "dodump", 17 },	   { "wipeonfork", 18 },
	{ "keeponfork", 19 },	   { "cold", 20 },
	{ "pageout", 21 },	   { "populate_read", 22 },
	{ "populate_write", 23 },  { "collapse", 25 },
	{ "dontneed_locked", 24 }, { "guard_install", 102 },
	{ "guard_remove", 103 },   { "hwpoison", 100 },
	{ "soft_offline", 101 },   { NULL, 0 },
};

static const struct word lock_flags[] = { { "onfault", 1 }, { NULL, 0 } };
static const struct word lockall_flags[] = {
	{ "current", MCL_CURRENT },
	{ "future", MCL_FUTURE },
	{ "onfault", 4 },
	{ NULL, 0 },
};
static const struct word sync_flags[] = {
	{ "async", MS_ASYNC },
	{ "invalidate", MS_INVALIDATE },
	{ "sync", MS_SYNC },
	{ NULL, 0 },
};
/* F_SEAL_SEAL and so on, which older headers do not all have. */
static const struct word seals[] = {
	{ "seal", 1 },		{ "shrink", 2 }, { "grow", 4 }, { "write", 8 },
	{ "future_write", 16 }, { "exec", 32 },	 { NULL, 0 },
};
/* MPOL_DEFAULT and so on, which older headers do not all have; modes have flags beside them. */
static const struct word policies[] = {
	{ "default", 0 }, { "preferred", 1 }, { "bind", 2 },	 { "interleave", 3 },
	{ "local", 4 },	  { "many", 5 },      { "weighted", 6 }, { NULL, 0 },
};
static const struct word bind_flags[] = {
	{ "strict", 1 },
	{ "move", 2 },
	{ "move_all", 4 },
	{ NULL, 0 },
};
static const struct word policy_flags[] = {
	{ "node", 1 },
	{ "address", 2 },
	{ "allowed", 4 },
	{ NULL, 0 },
};
static const struct word files[] = {
	{ "none", FILE_NONE },
	{ "file0", FILE_0 },
	{ "file0r", FILE_0_READ_ONLY },
	{ "file0w", FILE_0_WRITE_ONLY },
	{ "file1", FILE_1 },
	{ "sealed", FILE_SEALED },
	{ "directory", FILE_DIRECTORY },
	{ "pipe", FILE_PIPE },
	{ "closed", FILE_CLOSED },
	{ NULL, 0 },
};
static const struct word limits[] = {
	{ "as", LIMIT_AS },
	{ "data", LIMIT_DATA },
	{ "stack", LIMIT_STACK },
	{ "memlock", LIMIT_MEMLOCK },
	{ NULL, 0 },
};

static const struct word *const words[NR_ARG_KINDS] = {
	[ARG_PROT] = prots,
	[ARG_MAP_FLAGS] = map_flags,
	[ARG_REMAP_FLAGS] = remap_flags,
	[ARG_ADVICE] = advices,
	[ARG_LOCK_FLAGS] = lock_flags,
	[ARG_LOCKALL_FLAGS] = lockall_flags,
	[ARG_SYNC_FLAGS] = sync_flags,
	[ARG_SEALS] = seals,
	[ARG_POLICY] = policies,
	[ARG_BIND_FLAGS] = bind_flags,
	[ARG_POLICY_FLAGS] = policy_flags,
	[ARG_FILE] = files,
	[ARG_LIMIT] = limits,
};

const char *call_name(enum call call)
{
	return calls[call].name;
}

const u8 *call_args(enum call call)
{
	return calls[call].args;
}

int call_arg(enum call call, enum arg_kind kind)
{
	for (int i = 0; i < NR_ARGS; i++)
		if (calls[call].args[i] == kind)
			return i;
	return -1;
}

const struct word *arg_words(enum arg_kind kind)
{
	return words[kind];
}

bool arg_is_flags(enum arg_kind kind)
{
	switch (kind) {
	case ARG_PROT:
	case ARG_MAP_FLAGS:
	case ARG_REMAP_FLAGS:
	case ARG_LOCK_FLAGS:
	case ARG_LOCKALL_FLAGS:
	case ARG_SYNC_FLAGS:
	case ARG_SEALS:
	case ARG_BIND_FLAGS:
	case ARG_POLICY_FLAGS:
		return true;
	default:
		return false;
	}
}

/* ---- containment ---- */

/* Rounded up to pages; what overflows is 0, as the kernel has it. */
static u64 rounded(u64 len)
{
	return PAGE_ALIGN(len);
}

static bool fails_as_range(u64 addr, u64 len)
{
	return !PAGE_ALIGNED(addr) || !rounded(len) || rounded(len) > USER_END ||
	       addr > USER_END - rounded(len);
}

/* May the kernel make pages for all of it without harm? */
static bool small_or_impossible(u64 len)
{
	return rounded(len) <= ARENA_SIZE || rounded(len) > USER_END;
}

/* A hint leads nowhere, for the pool is empty; but what is at a fixed address goes first. */
static const char *huge_refusal(const struct op *op)
{
	u64 addr = op->arg[0], len = op->arg[1], flags = op->arg[3];
	u64 huge = 1ULL << (flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK ?: HUGE_SHIFT);

	len = (len + huge - 1) & ~(huge - 1);
	if (!(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) || addr % huge ||
	    fails_as_range(addr, len))
		return NULL;
	return in_arena(addr, 0) && len <= ARENA_END + ARENA_MARGIN - addr
		       ? NULL
		       : "fixed huge pages outside of the arena";
}

static const char *mmap_refusal(const struct op *op)
{
	u64 addr = op->arg[0], len = op->arg[1], flags = op->arg[3];

	if (flags & MAP_HUGETLB)
		return huge_refusal(op);
	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (!fails_as_range(addr, len) && !in_arena(addr, rounded(len)) &&
		    (addr || rounded(len) > 16 * PAGE_SIZE))
			return "a fixed mapping outside of the arena";
	} else if (in_arena(addr & PAGE_MASK, 0) && rounded(len) > ARENA_END - (addr & PAGE_MASK) &&
		   rounded(len) <= USER_END) {
		return "the mapping would reach beyond the arena";
	}
	if ((flags & (MAP_POPULATE | MAP_LOCKED)) && !small_or_impossible(len))
		return "too much memory would be populated";
	return NULL;
}

static const char *mremap_refusal(const struct op *op)
{
	u64 old = op->arg[0], old_len = rounded(op->arg[1]), new_len = rounded(op->arg[2]);
	u64 flags = op->arg[3], to = op->arg[4];

	/* What ends behind all of user space is refused by the kernel itself. */
	if (PAGE_ALIGNED(old) && !in_arena(old, old_len) && !(old < 16 * PAGE_SIZE && !old_len) &&
	    !(in_arena(old, 0) && old_len > USER_END - old))
		return "the old range is not in the arena";
	if (new_len && new_len <= USER_END && !in_arena(old & PAGE_MASK, new_len))
		return "the new size would reach beyond the arena";
	if ((flags & MREMAP_FIXED) && PAGE_ALIGNED(to) && !in_arena(to, new_len) &&
	    new_len <= USER_END && to <= USER_END - new_len)
		return "the new range is not in the arena";
	return NULL;
}

/* Below the heap's start it stays as it is; behind user space it cannot be. */
static const char *brk_refusal(u64 addr)
{
	return addr <= ARENA_END || addr >= USER_END ? NULL
						     : "the heap would reach beyond the arena";
}

/* Calls that stop at the first hole: the page above the arena is one. */
static const char *prefix_refusal(u64 addr)
{
	if (in_arena(addr & PAGE_MASK, 0) || addr < PAGE_SIZE || addr >= USER_END)
		return NULL;
	return "the range does not begin in the arena";
}

/* Calls that go on after holes. */
static const char *range_refusal(u64 addr, u64 len)
{
	if (!PAGE_ALIGNED(addr) || (len && !rounded(len)) || addr + rounded(len) < addr)
		return NULL;
	return in_arena(addr, rounded(len)) ? NULL : "the range is not in the arena";
}

/* Never mapped: the first pages, the end of user space, and the kernel's half without the page of
 * the old system calls.  An address that is not canonical is never mapped either. */
static bool nowhere(u64 addr)
{
	if (addr < 16 * PAGE_SIZE)
		return true;
	return addr >= USER_END && (addr & PAGE_MASK) != 0xffffffffff600000ULL &&
	       (addr & PAGE_MASK) != 0xffffffffff5ff000ULL;
}

static const char *access_refusal(const struct op *op)
{
	u64 addr = op->arg[0];

	if (op->call != CALL_READ && addr % 8)
		return "the address is not aligned to 8 bytes";
	/* The kernel looks at so many bytes of an instruction that it has to answer for. */
	if (op->call == CALL_EXEC && in_arena(addr, 8) && addr % PAGE_SIZE > PAGE_SIZE - 16)
		return "the instruction could reach into the next page";
	if (!in_arena(addr, 8) && !nowhere(addr))
		return "the address is not in the arena";
	return NULL;
}

static const char *io_refusal(const struct op *op)
{
	if (!in_arena(op->arg[2], op->arg[3]) && !nowhere(op->arg[2]))
		return "the buffer is not in the arena";
	if (op->arg[3] > ARENA_SIZE)
		return "too many bytes";
	return op->call == CALL_PWRITE && op->arg[1] > 256 * PAGE_SIZE
		       ? "the file would be too long"
		       : NULL;
}

/* In the arena it is within a word, behind the word's first two bytes: they are an instruction to
 * whoever fetches there, and stay the one that runner_touch.c knows. */
static bool fits_in_word(u64 vec, u64 len)
{
	u64 pages = rounded(len) >> PAGE_SHIFT;

	return vec % 8 >= 2 && pages <= 8 - vec % 8;
}

static const char *mincore_refusal(const struct op *op)
{
	if (!small_or_impossible(op->arg[1]))
		return "too many pages to tell of";
	if (op->call == CALL_MINCORE_TO && !nowhere(op->arg[2]) &&
	    (!in_arena(op->arg[2], 8) || !fits_in_word(op->arg[2], op->arg[1])))
		return "the vector is not within a word of the arena, from its third byte on";
	return prefix_refusal(op->arg[0]);
}

static const char *file_refusal(const struct op *op)
{
	/* Sizes that no file can have are fine: they are refused. */
	if (op->call == CALL_FTRUNCATE && op->arg[1] > 256 * PAGE_SIZE && op->arg[1] < 1ULL << 63)
		return "the file would be too long";
	return NULL;
}

/* Values that there are only some of. */
static const char *value_refusal(const struct op *op)
{
	const u8 *kinds = call_args(op->call);

	if (op->process >= NR_PROCESSES)
		return "no such process";
	for (unsigned i = 0; i < NR_ARGS; i++) {
		if (kinds[i] == ARG_FILE && op->arg[i] >= NR_TEST_FILES)
			return "no such file";
		if (kinds[i] == ARG_LIMIT && op->arg[i] >= NR_TEST_LIMITS)
			return "no such limit";
		if (kinds[i] == ARG_PROCESS && (!op->arg[i] || op->arg[i] >= NR_PROCESSES))
			return "no such process";
		if (kinds[i] == ARG_VALUE && op->arg[i] >> 32)
			return "the value is too great";
		if (kinds[i] == ARG_NONE && op->arg[i])
			return "an argument too many";
	}
	return NULL;
}

const char *op_refusal(const struct op *op)
{
	const char *refusal = value_refusal(op);
	u64 addr = op->arg[0], len = op->arg[1];

	if (refusal)
		return refusal;
	switch ((enum call)op->call) {
	case CALL_MMAP:
		return mmap_refusal(op);
	case CALL_MUNMAP:
		if (fails_as_range(addr, len))
			return NULL;
		return range_refusal(addr, len);
	case CALL_MREMAP:
		return mremap_refusal(op);
	case CALL_BRK:
		return brk_refusal(addr);
	case CALL_MPROTECT:
	case CALL_MLOCK:
	case CALL_MLOCK2:
	case CALL_MUNLOCK:
	case CALL_MSEAL:
		return prefix_refusal(addr);
	case CALL_MINCORE:
	case CALL_MINCORE_TO:
		return mincore_refusal(op);
	case CALL_MADVISE:
	case CALL_MSYNC:
	case CALL_MBIND:
		return range_refusal(addr, len);
	case CALL_GET_MEMPOLICY:
	case CALL_MOVE_PAGES:
		return in_arena(addr, 0) || !addr ? NULL : "the address is not in the arena";
	case CALL_READ:
	case CALL_WRITE:
	case CALL_EXEC:
	case CALL_GETUSER:
	case CALL_PUTUSER:
		return access_refusal(op);
	case CALL_PREAD:
	case CALL_PWRITE:
		return io_refusal(op);
	case CALL_FTRUNCATE:
	case CALL_PUNCH:
		return file_refusal(op);
	case CALL_FORK:
	case CALL_REAP:
		return op->arg[0] == op->process ? "a process cannot be its own child" : NULL;
	default:
		return NULL;
	}
}
