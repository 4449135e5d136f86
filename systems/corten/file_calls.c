/* SPDX-License-Identifier: MIT */
/* The calls that have to do with files, and what they take out of spaces. */
#include "engine/base/errno.h"
#include "systems/corten/calls.h"

/* The call's CPU, if it is one of this machine's. */
static unsigned here(const struct corten *c)
{
	return ledger_current() == c->system.ledger ? ledger_cpu() : c->machine->nr_cpus;
}

int corten_do_file_create(struct program *p, int file, bool in_memory)
{
	struct corten *c = corten_of_program(p);

	c->files[file] = corten_file_new(&c->memory, in_memory);
	return c->files[file] ? 0 : -ENOMEM;
}

/* In as many parts as there is memory for at once. */
static s64 file_bytes(struct program *p, int file, u64 pos, char *bytes, u64 n, bool write)
{
	struct corten *c = corten_of_program(p);
	struct corten_file *f = c->files[file];
	unsigned cpu = here(c);
	u64 done = 0;
	s64 part;

	do {
		part = write ? corten_file_write(f, cpu, pos + done, bytes + done, n - done)
			     : corten_file_read(f, cpu, pos + done, bytes + done, n - done);
		done += max_of(part, (s64)0);
	} while (done < n && (part > 0 || (part == -ENOMEM && corten_make_room(c, cpu))));
	return done ? (s64)done : part;
}

s64 corten_do_file_read(struct program *p, int file, u64 pos, void *bytes, u64 n)
{
	return file_bytes(p, file, pos, bytes, n, false);
}

s64 corten_do_file_write(struct program *p, int file, u64 pos, const void *bytes, u64 n)
{
	return file_bytes(p, file, pos, (char *)bytes, n, true);
}

struct cut {
	struct corten *c;
	const struct corten_file *file;
	u64 start, end; /* pages of it that are gone */
	bool copies;	/* and private copies, too */
};

static int cut_page(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		    struct corten_meta *meta)
{
	struct cut *cut = arg;

	if (meta->kind != CORTEN_FILE || meta->file != cut->file || meta->page < cut->start ||
	    meta->page >= cut->end)
		return 0;
	if (cut->copies)
		corten_drop_whole(cut->c, cur, va, ptep, meta);
	else
		corten_drop_file_page(cut->c, cur, va, n, ptep, meta);
	return 0;
}

/* They leave every space that there is.  The file has given them up before: who has found one has
 * locked the entry for it, and is waited for here. */
static void cut_pages(struct cut *cut)
{
	struct corten_cursor cur;

	for (unsigned i = 0; cut->start < cut->end && i < PROGRAM_PROCESSES; i++) {
		struct corten_space *s = cut->c->spaces[i];

		if (!s)
			continue;
		corten_lock(&cur, s, here(cut->c), CORTEN_LOW, CORTEN_HIGH);
		corten_walk(&cur, CORTEN_LOW, CORTEN_HIGH, false, cut_page, cut);
		corten_unlock(&cur);
	}
}

int corten_do_file_truncate(struct program *p, int file, u64 size)
{
	struct corten *c = corten_of_program(p);
	struct corten_file *f = c->files[file];
	struct cut cut = { c, f, PAGE_ALIGN(size) >> PAGE_SHIFT, 0, true };
	int err;

	spin_lock(&f->resizing);
	cut.end = PAGE_ALIGN(f->size) >> PAGE_SHIFT;
	do
		err = corten_file_truncate(f, size);
	while (err == -ENOMEM && corten_make_room(c, here(c)));
	if (!err)
		cut_pages(&cut);
	spin_unlock(&f->resizing);
	return err;
}

int corten_do_file_punch(struct program *p, int file, u64 pos, u64 len)
{
	struct corten *c = corten_of_program(p);
	struct corten_file *f = c->files[file];
	struct cut cut = { c, f, PAGE_ALIGN(pos) >> PAGE_SHIFT, (pos + len) >> PAGE_SHIFT, false };
	int err;

	if (!len || pos + len < pos)
		return -EINVAL;
	spin_lock(&f->resizing);
	do
		err = corten_file_punch(f, pos, pos + len);
	while (err == -ENOMEM && corten_make_room(c, here(c)));
	if (!err)
		cut_pages(&cut);
	spin_unlock(&f->resizing);
	return err;
}

int corten_do_file_sync(struct program *p, int file)
{
	return corten_file_sync(corten_of_program(p)->files[file]);
}

void corten_do_file_evict(struct program *p, int file)
{
	corten_file_evict(corten_of_program(p)->files[file]);
}

int corten_do_file_fail(struct program *p, int file, enum ramfile_io io, int err)
{
	struct corten_file *f = corten_of_program(p)->files[file];

	if (f->in_memory)
		return -EINVAL;
	atomic_store(&f->error[io], err);
	return 0;
}

void corten_do_file_close(struct program *p, int file)
{
	corten_file_refer(corten_of_program(p)->files[file], -1);
	corten_of_program(p)->files[file] = NULL;
}
