/* SPDX-License-Identifier: MIT */
/* The words of the counted pages and of the files; threads.h. */
#include "engine/backing/page_cache.h"
#include "tests/soak/threads.h"

u64 word_at(const struct worker *k, u64 page_va)
{
	return page_va + 8 * k->number;
}

enum fault_reason store(struct worker *k, u64 va, u64 old, u64 word)
{
	enum fault_reason reason;
	u64 was;

	if (word & 1)
		return soft_write_u64(k->cpu, va, word);
	reason = soft_add_u64(k->cpu, va, word - old, &was);
	if (reason == FAULT_OK && was != old)
		DIE(k, "%lx held %lx, not %lx", (unsigned long)va, (unsigned long)was,
		    (unsigned long)old);
	return reason;
}

void expect_word(struct worker *k, const char *where, u64 va, u64 word, u64 want)
{
	if (word != want)
		DIE(k, "%s: %lx holds %lx, not %lx", where, (unsigned long)va, (unsigned long)word,
		    (unsigned long)want);
}

/* ---- counted pages ---- */

void check_counted(struct worker *k, const struct known *known, unsigned page)
{
	u64 va = word_at(k, COUNTED + P(page)), word;
	enum fault_reason reason = soft_read_u64(k->cpu, va, &word);

	if (reason == FAULT_ACCERR)
		k->refused++;
	else if (reason != FAULT_OK)
		DIE(k, "read of counted page %u: reason %d", page, reason);
	else
		expect_word(k, "counted", va, word, known->counted[page]);
}

void count(struct worker *k, struct known *known)
{
	unsigned page = below(k, COUNTED_PAGES);
	u64 va = word_at(k, COUNTED + P(page)), word = rnd_next(&k->rnd);
	enum fault_reason reason;

	check_counted(k, known, page);
	if (below(k, 2))
		return;
	reason = store(k, va, known->counted[page], word);
	if (reason == FAULT_OK)
		known->counted[page] = word;
	else if (reason == FAULT_ACCERR)
		k->refused++;
	else
		DIE(k, "write of counted page %u: reason %d", page, reason);
}

void guard(struct worker *k)
{
	struct mm *mm = spaces[k->space];
	unsigned page = below(k, COUNTED_PAGES), n = 1 + below(k, COUNTED_PAGES - page);
	u64 va = COUNTED + P(page);

	if (do_mprotect(mm, va, P(n), below(k, 2) ? UAPI_PROT_READ : UAPI_PROT_NONE))
		DIE(k, "guard of %u pages at %u", n, page);
	if (do_mprotect(mm, va, P(n), RW))
		DIE(k, "end of the guard of %u pages at %u", n, page);
}

/* ---- files ---- */

void count_in_file(struct worker *k)
{
	unsigned f = below(k, FILES), page = below(k, KEPT_PAGES);
	u64 va = word_at(k, FILE_AT(f) + P(page)), word;

	if (soft_read_u64(k->cpu, va, &word) != FAULT_OK)
		DIE(k, "read of page %u of file %u", page, f);
	expect_word(k, "file", va, word, k->in_files[f][page]);
	if (below(k, 2))
		return;
	word = rnd_next(&k->rnd);
	if (store(k, va, k->in_files[f][page], word) != FAULT_OK)
		DIE(k, "write to page %u of file %u", page, f);
	k->in_files[f][page] = word;
}

void drop_file_pages(struct worker *k)
{
	unsigned page = below(k, FILE_PAGES), n = 1 + below(k, FILE_PAGES - page);

	if (do_madvise(spaces[k->space], FILE_AT(below(k, FILES)) + P(page), P(n),
		       UAPI_MADV_DONTNEED))
		DIE(k, "DONTNEED of %u pages of a file at %u", n, page);
}

void cut(struct worker *k)
{
	struct file *file = files[below(k, FILES)];
	u64 at = P(KEPT_PAGES) + 8 * below(k, P(FILE_PAGES - KEPT_PAGES) / 8);
	u64 tag = ~0ULL - k->number;
	int err = 0;

	switch (below(k, 3)) {
	case 0:
		err = file_punch_hole(file, at, 8 + 8 * below(k, PAGE_SIZE));
		break;
	case 1:
		err = file_truncate(file, at);
		break;
	default:
		at = word_at(k, at & PAGE_MASK);
		if (file_write(file, at, &tag, 8) != 8)
			err = -EIO;
	}
	if (err)
		DIE(k, "cut: %d", err);
}

void clean(struct worker *k)
{
	struct file *file = files[below(k, FILES)];
	u64 from = P(below(k, FILE_PAGES));

	if (vfs_fsync_range(file, from, from + P(below(k, FILE_PAGES))))
		DIE(k, "fsync");
	invalidate_mapping_pages(file->mapping, 0, ~0ULL);
}
