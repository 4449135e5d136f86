/* SPDX-License-Identifier: MIT */
/*
 * Random operations on two files (one on a disk, one of shared memory) that two spaces map, shared
 * and private, against a model of bytes.
 *
 *   files [OPERATIONS [SEED]]
 *
 * After every operation all invariants are checked; results and bytes must be the model's.  A
 * sequence that fails is shrunk and printed, as tests/random/main.c does it.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "machine/soft/host.h"
#include "tests/unit/world.h"

enum { FILES = 2, FILE_PAGES = 64, SPACES = 2, PAGES = 120 };

#define WINDOW (WORLD_LOW + 0x1e0000) /* across a table's end */
#define SHARED (VM_SHARED | VM_MAYSHARE)

enum kind {
	OP_FWRITE,
	OP_FREAD,
	OP_TRUNCATE,
	OP_PUNCH,
	OP_SYNC,
	OP_EVICT,
	OP_MAP,
	OP_UNMAP,
	OP_PROTECT,
	OP_MOVE,
	OP_READ,
	OP_WRITE,
	OP_DONTNEED,
	OP_PAGEOUT,
	OP_RECLAIM,
	OP_INJECT,
	OP_FORK,
	NR_KINDS
};

static const char *const names[NR_KINDS] = {
	"OP_FWRITE",   "OP_FREAD",   "OP_TRUNCATE", "OP_PUNCH",	 "OP_SYNC", "OP_EVICT",
	"OP_MAP",      "OP_UNMAP",   "OP_PROTECT",  "OP_MOVE",	 "OP_READ", "OP_WRITE",
	"OP_DONTNEED", "OP_PAGEOUT", "OP_RECLAIM",  "OP_INJECT", "OP_FORK",
};

struct op {
	enum kind kind;
	unsigned file, space, page, n, to, value; /* what each needs of them */
	unsigned pos, len;			  /* bytes of the file */
};

/* ---- the model ---- */

struct model_file {
	unsigned size;
	unsigned char bytes[FILE_PAGES * PAGE_SIZE]; /* zeros behind the end */
};

struct model_page {
	bool mapped, shared, copied;
	unsigned char file, prot, index;
	unsigned char copy[PAGE_SIZE];
};

static struct {
	struct model_file files[FILES];
	struct model_page pages[SPACES][PAGES];
} model;

static struct world world;
static struct mm *spaces[SPACES];
static struct file *files[FILES];
static jmp_buf failed;
static char why[512];

static void fail(const char *text)
{
	snprintf(why, sizeof(why), "%s", text);
	longjmp(failed, 1);
}

#define EXPECT(what, ...)                                                                          \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			char text_[400];                                                           \
			snprintf(text_, sizeof(text_), __VA_ARGS__);                               \
			fail(text_);                                                               \
		}                                                                                  \
	} while (0)

static u64 va_of(unsigned page)
{
	return WINDOW + (u64)page * PAGE_SIZE;
}

static bool behind_end(const struct model_page *p)
{
	return (unsigned)p->index * PAGE_SIZE >= model.files[p->file].size;
}

static enum fault_reason expect_access(const struct model_page *p, u32 need)
{
	if (!p->mapped)
		return FAULT_MAPERR;
	if (!(p->prot & need))
		return FAULT_ACCERR;
	return behind_end(p) ? FAULT_BUS : FAULT_OK;
}

static unsigned char *bytes_of(struct model_page *p)
{
	return p->copied ? p->copy : model.files[p->file].bytes + p->index * PAGE_SIZE;
}

/* ---- one operation on both ---- */

static void run_fwrite(const struct op *o)
{
	struct model_file *f = &model.files[o->file];
	static unsigned char buf[FILE_PAGES * PAGE_SIZE];

	for (unsigned i = 0; i < o->len; i++)
		buf[i] = o->value + i * (o->value & 7);
	EXPECT(file_write(files[o->file], o->pos, buf, o->len) == o->len, "fwrite failed");
	memcpy(f->bytes + o->pos, buf, o->len);
	if (o->len && o->pos + o->len > f->size)
		f->size = o->pos + o->len;
}

static void run_fread(unsigned file, unsigned pos, unsigned len)
{
	struct model_file *f = &model.files[file];
	unsigned want = pos >= f->size ? 0 : len < f->size - pos ? len : f->size - pos;
	static unsigned char buf[FILE_PAGES * PAGE_SIZE];
	s64 got = file_read(files[file], pos, buf, len);

	EXPECT(got == want, "fread of file %u at %u: %ld, not %u", file, pos, (long)got, want);
	for (unsigned i = 0; i < want; i++)
		EXPECT(buf[i] == f->bytes[pos + i], "file %u: byte %u is %02x, not %02x", file,
		       pos + i, buf[i], f->bytes[pos + i]);
}

static void run_truncate(const struct op *o)
{
	struct model_file *f = &model.files[o->file];

	EXPECT(!file_truncate(files[o->file], o->pos), "truncate failed");
	if (o->pos < f->size)
		memset(f->bytes + o->pos, 0, f->size - o->pos);
	f->size = o->pos;
	for (unsigned s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++)
			if (model.pages[s][i].file == o->file && behind_end(&model.pages[s][i]))
				model.pages[s][i].copied = false;
}

static void run_punch(const struct op *o)
{
	EXPECT(file_punch_hole(files[o->file], o->pos, o->len) == (o->len ? 0 : -EINVAL),
	       "punch failed");
	memset(model.files[o->file].bytes + o->pos, 0, o->len);
}

static void run_map(const struct op *o)
{
	bool shared = o->value & 1;
	u32 prot = o->value & 2 ? VM_READ : VM_READ | VM_WRITE;
	unsigned index = o->to % (FILE_PAGES - o->n + 1);
	s64 got = vm_map_file(spaces[o->space], va_of(o->page), o->n * PAGE_SIZE, prot, VMAP_FIXED,
			      shared ? SHARED : 0, files[o->file], index);

	EXPECT(got == (s64)va_of(o->page), "map: %ld", (long)got);
	for (unsigned i = 0; i < o->n; i++)
		model.pages[o->space][o->page + i] = (struct model_page){ .mapped = true,
									  .shared = shared,
									  .file = o->file,
									  .prot = prot,
									  .index = index + i };
}

static void run_protect(const struct op *o)
{
	u32 prot = (unsigned[]){ VM_READ, VM_READ | VM_WRITE, VM_READ | VM_WRITE, 0 }[o->value & 3];
	int want = 0, got;

	for (unsigned i = 0; i < o->n && !want; i++) {
		struct model_page *p = &model.pages[o->space][o->page + i];

		if (p->mapped)
			p->prot = prot;
		else
			want = -ENOMEM;
	}
	got = vm_protect(spaces[o->space], va_of(o->page), o->n * PAGE_SIZE, prot);
	EXPECT(got == want, "protect: %d, not %d", got, want);
}

static void run_move(const struct op *o)
{
	static struct model_page moved[PAGES];
	struct model_page *from = &model.pages[o->space][o->page];
	s64 got;

	if (o->page < o->to + o->n && o->to < o->page + o->n)
		return;
	for (unsigned i = 0; i < o->n; i++)
		if (!from[i].mapped)
			return;
	got = vm_remap(spaces[o->space], va_of(o->page), o->n * PAGE_SIZE, o->n * PAGE_SIZE,
		       VREMAP_MAYMOVE | VREMAP_FIXED, va_of(o->to));
	EXPECT(got == (s64)va_of(o->to), "move: %ld", (long)got);
	memcpy(moved, from, o->n * sizeof(*moved));
	memset(from, 0, o->n * sizeof(*moved));
	memcpy(&model.pages[o->space][o->to], moved, o->n * sizeof(*moved));
}

static void run_read(unsigned space, unsigned page)
{
	struct model_page *p = &model.pages[space][page];
	enum fault_reason want = expect_access(p, VM_READ), got;
	unsigned char buf[PAGE_SIZE];

	got = soft_read(&world.m->cpus[space], va_of(page), buf, PAGE_SIZE);
	EXPECT(got == want, "read of page %u:%u: %d, not %d", space, page, got, want);
	for (unsigned i = 0; got == FAULT_OK && i < PAGE_SIZE; i++)
		EXPECT(buf[i] == bytes_of(p)[i], "page %u:%u: byte %u is %02x, not %02x", space,
		       page, i, buf[i], bytes_of(p)[i]);
}

static void run_write(const struct op *o, unsigned page)
{
	struct model_page *p = &model.pages[o->space][page];
	enum fault_reason want = expect_access(p, VM_WRITE), got;
	unsigned offset = o->value * 61 % PAGE_SIZE, len = 1 + o->value % 48;
	unsigned char buf[48];

	if (want == FAULT_OK && p->shared) {
		/* Not behind the end: what is there is nobody's. */
		unsigned left = model.files[p->file].size - p->index * PAGE_SIZE;

		if (offset >= left)
			offset = left - 1;
		if (len > left - offset)
			len = left - offset;
	}
	if (len > PAGE_SIZE - offset)
		len = PAGE_SIZE - offset;
	memset(buf, o->value * 7 + page, sizeof(buf));
	got = soft_write(&world.m->cpus[o->space], va_of(page) + offset, buf, len);
	EXPECT(got == want, "write of page %u:%u: %d, not %d", o->space, page, got, want);
	if (got != FAULT_OK)
		return;
	if (!p->shared && !p->copied) {
		memcpy(p->copy, bytes_of(p), PAGE_SIZE);
		p->copied = true;
	}
	memcpy(bytes_of(p) + offset, buf, len);
}

static void run_dontneed(const struct op *o)
{
	int want = 0, got;

	for (unsigned i = 0; i < o->n; i++) {
		struct model_page *p = &model.pages[o->space][o->page + i];

		p->copied = false;
		if (!p->mapped)
			want = -ENOMEM;
	}
	got = vm_advise(spaces[o->space], va_of(o->page), o->n * PAGE_SIZE, VADV_DONTNEED);
	EXPECT(got == want, "dontneed: %d, not %d", got, want);
}

/* One space becomes the child of the other. */
static void run_fork(const struct op *o)
{
	unsigned child = o->space, parent = !child;

	soft_load_mm(&world.m->cpus[child], NULL);
	mm_destroy(spaces[child]);
	EXPECT(!mm_fork(spaces[parent], &spaces[child]), "fork failed");
	soft_load_mm(&world.m->cpus[child], spaces[child]);
	memcpy(model.pages[child], model.pages[parent], sizeof(model.pages[child]));
}

static void run_op(const struct op *o)
{
	switch (o->kind) {
	case OP_FWRITE:
		run_fwrite(o);
		break;
	case OP_FREAD:
		run_fread(o->file, o->pos, o->len);
		break;
	case OP_TRUNCATE:
		run_truncate(o);
		break;
	case OP_PUNCH:
		run_punch(o);
		break;
	case OP_SYNC:
		vfs_fsync_range(files[o->file], o->pos, o->pos + o->len);
		break;
	case OP_EVICT:
		invalidate_mapping_pages(files[o->file]->mapping, 0, ~0ULL);
		break;
	case OP_MAP:
		run_map(o);
		break;
	case OP_UNMAP:
		EXPECT(!vm_unmap(spaces[o->space], va_of(o->page), o->n * PAGE_SIZE), "unmap");
		memset(&model.pages[o->space][o->page], 0, o->n * sizeof(struct model_page));
		break;
	case OP_PROTECT:
		run_protect(o);
		break;
	case OP_MOVE:
		run_move(o);
		break;
	case OP_READ:
		for (unsigned i = 0; i < o->n; i++)
			run_read(o->space, o->page + i);
		break;
	case OP_WRITE:
		for (unsigned i = 0; i < o->n; i++)
			run_write(o, o->page + i);
		break;
	case OP_DONTNEED:
		run_dontneed(o);
		break;
	case OP_PAGEOUT:
		reclaim_range(spaces[o->space], va_of(o->page), va_of(o->page + o->n));
		break;
	case OP_RECLAIM:
		reclaim_direct(world.e, o->n);
		break;
	case OP_INJECT:
		world.m->inject.stage_again_every = o->value & 1 ? 3 : 0;
		world.m->inject.set_again_every = o->value & 2 ? 4 : 0;
		world.m->inject.take_busy_every = o->value & 4 ? 5 : 0;
		ramfile_fail(files[0], RAMFILE_WRITE, o->page % FILE_PAGES, o->n,
			     o->value & 8 ? -EIO : 0);
		break;
	case OP_FORK:
		run_fork(o);
		break;
	default:
		break;
	}
}

static void check_all_bytes(void)
{
	for (unsigned f = 0; f < FILES; f++)
		run_fread(f, 0, FILE_PAGES * PAGE_SIZE);
	for (unsigned s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++)
			run_read(s, i);
}

/* ---- sequences ---- */

static struct world_options options;
static struct engine_stats stats; /* of the last run that went well */

static void begin(void)
{
	memset(&model, 0, sizeof(model));
	if (world_create(&world, options) || mm_create(world.e, WORLD_LOW, WORLD_HIGH, &spaces[1]))
		abort();
	spaces[0] = world.mm;
	soft_load_mm(&world.m->cpus[1], spaces[1]);
	files[0] = ramfile_create(world.e, FILE_READ | FILE_WRITE, ~0ULL);
	files[1] = shmem_file_setup(world.e, 0);
	if (!files[0] || !files[1])
		abort();
}

static void end(void)
{
	stats = *world.e->stats;
	soft_load_mm(&world.m->cpus[1], NULL);
	mm_destroy(spaces[1]);
	mm_destroy(spaces[0]);
	soft_load_mm(world.cpu, NULL);
	world.mm = NULL;
	for (unsigned f = 0; f < FILES; f++)
		file_put(files[f]);
	world_destroy(&world);
}

/* NULL, or why it failed; *at is then the operation. */
static const char *run(const struct op *ops, const bool *skip, unsigned n, unsigned *at)
{
	volatile unsigned *pos = at;

	begin();
	host_on_panic(fail);
	if (setjmp(failed))
		return why; /* the world is left as it lies */
	for (unsigned i = 0; i < n; i++) {
		*pos = i;
		if (skip && skip[i])
			continue;
		run_op(&ops[i]);
		soft_check(world.m);
		if (i % 500 == 499)
			check_all_bytes();
	}
	*pos = n;
	check_all_bytes();
	end();
	host_on_panic(NULL);
	return NULL;
}

static u64 state;

static unsigned below(unsigned n)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dULL >> 33) % n;
}

static struct op random_op(void)
{
	static const unsigned char weights[NR_KINDS] = { 8, 4,	6,  4, 4, 3, 10, 4, 10,
							 5, 16, 24, 4, 6, 4, 1,	 2 };
	static const unsigned sizes[] = { 1, 2, 5, 16, 40 };
	unsigned sum = 0, r, size = sizes[below(ARRAY_SIZE(sizes))];
	struct op o = { 0 };

	for (unsigned i = 0; i < NR_KINDS; i++)
		sum += weights[i];
	for (r = below(sum); r >= weights[o.kind]; o.kind++)
		r -= weights[o.kind];
	o.file = below(FILES);
	o.space = below(SPACES);
	o.page = below(PAGES);
	o.n = 1 + below(size);
	if (o.page + o.n > PAGES)
		o.n = PAGES - o.page;
	o.to = below(PAGES);
	if (o.to + o.n > PAGES)
		o.to = PAGES - o.n;
	o.value = below(256);
	o.pos = below(3) ? below(FILE_PAGES * PAGE_SIZE) : below(FILE_PAGES) * PAGE_SIZE;
	o.len = below(2) ? below(3 * PAGE_SIZE) : below(200);
	if (o.pos + o.len > FILE_PAGES * PAGE_SIZE)
		o.len = FILE_PAGES * PAGE_SIZE - o.pos;
	return o;
}

static unsigned count(const bool *skip, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++)
		kept += !skip[i];
	return kept;
}

/* Leave out ever smaller parts while it still fails. */
static void shrink(const struct op *ops, bool *skip, unsigned n)
{
	time_t until = time(NULL) + 60;
	unsigned at;

	for (unsigned part = n / 2; part; part /= 2)
		for (unsigned from = 0; from < n && time(NULL) < until; from += part) {
			bool before[n];
			bool any = false;

			memcpy(before, skip, n);
			for (unsigned i = from; i < n && i < from + part; i++) {
				any |= !skip[i];
				skip[i] = true;
			}
			if (any && !run(ops, skip, n, &at))
				memcpy(skip, before, n);
		}
}

static void print_op(const struct op *o)
{
	printf("\t{ %s, %u, %u, %u, %u, %u, %u, %u, %u },\n", names[o->kind], o->file, o->space,
	       o->page, o->n, o->to, o->value, o->pos, o->len);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? strtoul(argv[1], NULL, 0) : 5000, at;
	u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (u64)time(NULL);
	struct op *ops = calloc(n, sizeof(*ops));
	bool *skip = calloc(n, sizeof(*skip));
	const char *reason;

	state = seed * 0x9e3779b97f4a7c15ULL + 1;
	options = (struct world_options){
		.frames = 110,
		.cpus = SPACES,
		.prefetch = (unsigned[]){ 1, 4, 16 }[below(3)],
		.segment = (unsigned[]){ 1, 7, 16, 64 }[below(4)],
		.kept = (unsigned[]){ 0, 20, 4096 }[below(3)],
		.compress = COMPRESS_LZ4,
	};
	for (unsigned i = 0; i < n; i++)
		ops[i] = random_op();
	printf("files: seed %lu, %u operations, prefetch %u, segment %u, kept %lu\n",
	       (unsigned long)seed, n, options.prefetch, options.segment,
	       (unsigned long)options.kept);
	fflush(stdout);
	reason = run(ops, NULL, n, &at);
	if (!reason) {
		printf("files: %lu minor, %lu major; evicted %lu clean, %lu dirty\n", stats.minor,
		       stats.major, stats.evicted_clean, stats.evicted_dirty);
	} else {
		printf("FAILED at operation %u: %s\n", at, reason);
		fflush(stdout);
		n = at < n ? at + 1 : n;
		shrink(ops, skip, n);
		reason = run(ops, skip, n, &at);
		printf("the shortest of %u operations: %s\n", count(skip, n),
		       reason ? reason : "?");
		for (unsigned i = 0; i < n; i++)
			if (!skip[i])
				print_op(&ops[i]);
	}
	free(ops);
	free(skip);
	return reason != NULL;
}
