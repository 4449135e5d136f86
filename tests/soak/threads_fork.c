/* SPDX-License-Identifier: MIT */
/* Children: what they have of what is known, their life and their end. */
#include "tests/soak/threads.h"

void inherit(struct known *child, const struct known *parent)
{
	*child = *parent;
	for (unsigned i = 0; i < OWN_PAGES; i++) {
		struct own *o = &child->own[i];

		if (o->not_forked)
			*o = (struct own){ 0 };
		else if (o->wiped)
			o->word = 0;
	}
}

void check_known(struct worker *k, const struct known *known)
{
	for (unsigned i = 0; i < COUNTED_PAGES; i++)
		check_counted(k, known, i);
	for (unsigned i = 0; i < OWN_PAGES; i++)
		check_own(k, known, i);
}

/* Everybody's words of the counted pages, as they are in a child that is ours alone: they stay as
 * they were when it was made, whatever their owners go on to write in the parent. */
struct snapshot {
	bool taken[COUNTED_PAGES];
	u64 words[COUNTED_PAGES][CPUS];
};

static void take_snapshot(struct worker *k, struct snapshot *s)
{
	for (unsigned page = 0; page < COUNTED_PAGES; page++)
		s->taken[page] = soft_read(k->cpu, COUNTED + P(page), s->words[page],
					   sizeof(s->words[page])) == FAULT_OK;
}

static void check_snapshot(struct worker *k, const struct snapshot *s)
{
	u64 words[CPUS];

	for (unsigned page = 0; page < COUNTED_PAGES; page++) {
		u64 va = COUNTED + P(page);

		if (!s->taken[page])
			continue;
		if (soft_read(k->cpu, va, words, sizeof(words)) != FAULT_OK)
			DIE(k, "read of counted page %u in a child", page);
		for (unsigned i = 0; i < CPUS; i++)
			if (i != k->number)
				expect_word(k, "another's word in a child", va + 8 * i, words[i],
					    s->words[page][i]);
	}
}

/* A child, its life, at times a child of its own, and its end. */
static void fork_and_live(struct worker *k, struct mm *parent, const struct known *known,
			  unsigned depth)
{
	struct snapshot others;
	struct known mine;
	struct mm *child;

	if (mm_fork(parent, &child))
		DIE(k, "fork");
	inherit(&mine, known);
	soft_load_mm(k->cpu, child);
	take_snapshot(k, &others);
	if (below(k, 2))
		check_known(k, &mine);
	for (unsigned i = 0; i < 20; i++) {
		count(k, &mine);
		touch_own(k, &mine);
	}
	if (depth && below(k, 2)) {
		fork_and_live(k, child, &mine, depth - 1);
		soft_load_mm(k->cpu, child);
	}
	check_known(k, &mine);
	check_snapshot(k, &others);
	soft_load_mm(k->cpu, NULL);
	mm_destroy(child);
}

void fork_space(struct worker *k)
{
	fork_and_live(k, spaces[k->space], &k->known[k->space], 1);
	soft_load_mm(k->cpu, spaces[k->space]);
	check_known(k, &k->known[k->space]);
}
