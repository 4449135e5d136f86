/* SPDX-License-Identifier: MIT */
/* The windows that are one thread's: only it changes them, and it knows all that is in them. */
#include "tests/soak/threads.h"

static u64 own_at(const struct worker *k, unsigned page)
{
	return OWN + P(k->number * OWN_PAGES + page);
}

static u64 own_word(const struct worker *k, const struct own *o)
{
	return o->of_file && !o->copied ? k->in_files[o->file][o->index] : o->word;
}

static enum fault_reason refusal(const struct own *o, bool allowed)
{
	if (!o->mapped)
		return FAULT_MAPERR;
	return allowed ? FAULT_OK : FAULT_ACCERR;
}

void check_own(struct worker *k, const struct known *known, unsigned page)
{
	const struct own *o = &known->own[page];
	u64 va = word_at(k, own_at(k, page)), word;
	enum fault_reason reason = soft_read_u64(k->cpu, va, &word);

	if (reason != refusal(o, o->readable))
		DIE(k, "read of own page %u at %lx: reason %d, not %d", page, (unsigned long)va,
		    reason, refusal(o, o->readable));
	if (reason == FAULT_OK)
		expect_word(k, "own", va, word, own_word(k, o));
}

static void write_own(struct worker *k, struct known *known, unsigned page)
{
	struct own *o = &known->own[page];
	u64 va = word_at(k, own_at(k, page)), word = rnd_next(&k->rnd);
	enum fault_reason reason = store(k, va, own_word(k, o), word);

	if (reason != refusal(o, o->writable))
		DIE(k, "write of own page %u at %lx: reason %d, not %d", page, (unsigned long)va,
		    reason, refusal(o, o->writable));
	if (reason == FAULT_OK) {
		o->word = word;
		o->copied = o->of_file;
	}
}

void touch_own(struct worker *k, struct known *known)
{
	unsigned page = below(k, OWN_PAGES);

	check_own(k, known, page);
	if (below(k, 2))
		write_own(k, known, page);
}

void map_own(struct worker *k, unsigned page, unsigned n)
{
	struct own *own = &k->known[k->space].own[page];
	bool of_file = below(k, 3) == 0;
	unsigned f = below(k, FILES), index = below(k, KEPT_PAGES);
	u64 flags = UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;

	if (of_file)
		n = min_of(n, KEPT_PAGES - index);
	else
		flags |= UAPI_MAP_ANONYMOUS;
	if (do_mmap(spaces[k->space], own_at(k, page), P(n), RW, flags, of_file ? files[f] : NULL,
		    of_file ? P(index) : 0) != (s64)own_at(k, page))
		DIE(k, "map of %u own pages at %u", n, page);
	for (unsigned i = 0; i < n; i++)
		own[i] = (struct own){ .mapped = true,
				       .readable = true,
				       .writable = true,
				       .of_file = of_file,
				       .file = f,
				       .index = index + i };
}

void unmap_own(struct worker *k, unsigned page, unsigned n)
{
	if (vm_unmap(spaces[k->space], own_at(k, page), P(n)))
		DIE(k, "unmap of %u own pages at %u", n, page);
	memset(&k->known[k->space].own[page], 0, n * sizeof(struct own));
}

void protect_own(struct worker *k, unsigned page, unsigned n)
{
	struct own *own = &k->known[k->space].own[page];
	u64 prot = (u64[]){ RW, RW, UAPI_PROT_READ, UAPI_PROT_NONE }[below(k, 4)];
	s64 want = 0, got;

	for (unsigned i = 0; i < n && !want; i++) {
		if (!own[i].mapped) {
			want = -ENOMEM;
			continue;
		}
		own[i].readable = prot & UAPI_PROT_READ;
		own[i].writable = prot & UAPI_PROT_WRITE;
	}
	got = do_mprotect(spaces[k->space], own_at(k, page), P(n), prot);
	if (got != want)
		DIE(k, "protect of %u own pages at %u: %ld, not %ld", n, page, (long)got,
		    (long)want);
	/* Nothing stale is used once it is back. */
	check_own(k, &k->known[k->space], page);
	write_own(k, &k->known[k->space], page);
}

void move_own(struct worker *k, unsigned page, unsigned n)
{
	struct own *own = k->known[k->space].own;
	unsigned to = below(k, OWN_PAGES - n + 1);
	s64 got;

	if (page < to + n && to < page + n)
		return;
	for (unsigned i = 0; i < n; i++)
		if (!own[page + i].mapped)
			return;
	got = do_mremap(spaces[k->space], own_at(k, page), P(n), P(n),
			UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, own_at(k, to));
	if (got != (s64)own_at(k, to))
		DIE(k, "move of %u own pages from %u to %u: %ld", n, page, to, (long)got);
	memcpy(&own[to], &own[page], n * sizeof(*own));
	memset(&own[page], 0, n * sizeof(*own));
	check_own(k, &k->known[k->space], page);
	check_own(k, &k->known[k->space], to);
}

void advise_own(struct worker *k, unsigned page)
{
	struct own *o = &k->known[k->space].own[page];
	struct mm *mm = spaces[k->space];
	u64 va = own_at(k, page);
	s64 got = 0;

	if (!o->mapped)
		return;
	switch (below(k, 4)) {
	case 0:
		if (o->of_file)
			return;
		o->wiped = !o->wiped;
		got = do_madvise(mm, va, PAGE_SIZE,
				 o->wiped ? UAPI_MADV_WIPEONFORK : UAPI_MADV_KEEPONFORK);
		break;
	case 1:
		o->not_forked = !o->not_forked;
		got = do_madvise(mm, va, PAGE_SIZE,
				 o->not_forked ? UAPI_MADV_DONTFORK : UAPI_MADV_DOFORK);
		break;
	default:
		got = do_madvise(mm, va, PAGE_SIZE, UAPI_MADV_DONTNEED);
		o->copied = false;
		o->word = 0;
	}
	if (got)
		DIE(k, "advice for own page %u: %ld", page, (long)got);
}
