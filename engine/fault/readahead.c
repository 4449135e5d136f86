/* SPDX-License-Identifier: MIT */
/*
 * Streams: faults that go through neighbouring pages, up or down.
 *
 * A small table remembers where the latest streams will fault next.  A fault that comes there
 * doubles the stream's window, up to config.prefetch pages; one that comes a little further on
 * (pages between were resident) keeps it; any other begins a stream of its own in the place of the
 * one that was used least recently.
 */
#include "engine/fault/internal.h"

static struct readahead_stream *find_stream(struct engine *e, const struct mm *mm, u64 va)
{
	struct readahead_stream *near = NULL;

	for (unsigned i = 0; i < NR_STREAMS; i++) {
		struct readahead_stream *s = &e->streams[i];
		u64 ahead;

		if (!s->window || s->mm != mm)
			continue;
		if (s->next == va)
			return s;
		ahead = s->down ? s->next - va : va - s->next;
		if (s->window > 1 && ahead < 2 * s->window * PAGE_SIZE)
			near = s;
		/* Two faults, the second just below the first: it goes down. */
		if (s->window == 1 && !s->down && s->next == va + 2 * PAGE_SIZE) {
			s->down = true;
			s->next = va;
			return s;
		}
	}
	return near;
}

static struct readahead_stream *oldest_stream(struct engine *e)
{
	struct readahead_stream *oldest = &e->streams[0];

	for (unsigned i = 0; i < NR_STREAMS; i++) {
		struct readahead_stream *s = &e->streams[i];

		if (!s->window)
			return s;
		if (e->streams_clock - s->used > e->streams_clock - oldest->used)
			oldest = s;
	}
	return oldest;
}

/* Cut the run to the VMA and to the table of the page asked for. */
static void clip(struct run *run, const struct vma *vma, u64 va)
{
	u64 low = max_of(vma->start, va & PMD_MASK);
	u64 high = min_of(vma->end, (va & PMD_MASK) + PMD_SIZE);

	if (run->down)
		run_shrink(run, min_of((u64)run->n, ((va - low) >> PAGE_SHIFT) + 1));
	else
		run_shrink(run, min_of((u64)run->n, (high - va) >> PAGE_SHIFT));
}

static void expect(struct readahead_stream *s, const struct run *run)
{
	s->next = run->down ? run->start - PAGE_SIZE : run->start + run->n * PAGE_SIZE;
}

struct run readahead_plan(struct vm_fault_info *vmf)
{
	struct engine *e = vmf->vma->mm->engine;
	struct run run = { .start = vmf->address, .n = 1, .stream = -1 };
	struct readahead_stream *s;
	unsigned most = e->config.prefetch;

	if (most <= 1 || unlikely(vmf->vma->flags & VM_UFFD))
		return run;
	spin_lock(&e->streams_lock);
	s = find_stream(e, vmf->vma->mm, vmf->address);
	if (!s) {
		s = oldest_stream(e);
		s->mm = vmf->vma->mm;
		s->window = 1;
		s->down = false;
	} else if (s->next == vmf->address) {
		s->window = min_of(2 * s->window, most);
	}
	s->used = ++e->streams_clock;
	run.down = s->down;
	run.n = s->window;
	if (run.down) {
		run.asked = run.n - 1;
		run.start -= run.asked * PAGE_SIZE;
	}
	clip(&run, vmf->vma, vmf->address);
	expect(s, &run);
	run.stream = s - e->streams;
	run.clock = s->used;
	spin_unlock(&e->streams_lock);
	return run;
}

void readahead_done(struct engine *e, const struct run *run)
{
	struct readahead_stream *s;

	if (run->stream < 0)
		return;
	s = &e->streams[run->stream];
	spin_lock(&e->streams_lock);
	if (s->used == run->clock)
		expect(s, run);
	spin_unlock(&e->streams_lock);
}
