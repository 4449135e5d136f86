/* SPDX-License-Identifier: MIT */
/*
 * Where the pages of anonymous memory are mapped: one anon_vma for VMAs that were one once, and in
 * it an interval tree of these VMAs by linear index.
 *
 * The memory of an anon_vma is never used for anything else until the engine goes.  So a pointer
 * that a page still carries after its VMA went leads to a working lock, and the look at the page's
 * map count under that lock tells that it leads nowhere (see rmap_lock_vma()).
 */
#include "engine/base/check.h"
#include "engine/space/internal.h"

#define ANON_VMAS_PER_CHUNK 64

struct anon_vma_chunk {
	struct anon_vma_chunk *next;
	struct anon_vma anon_vmas[ANON_VMAS_PER_CHUNK];
};

static struct anon_vma *anon_vma_alloc(struct engine *e)
{
	struct anon_vma_chunk *chunk;
	struct anon_vma *av;

	spin_lock(&e->anon_vma_lock);
	av = e->anon_vma_free;
	if (av)
		e->anon_vma_free = av->next;
	spin_unlock(&e->anon_vma_lock);
	if (av)
		return av;

	chunk = e->memory.alloc(e->memory.ctx, sizeof(*chunk));
	if (!chunk)
		return NULL;
	for (unsigned i = 0; i < ANON_VMAS_PER_CHUNK; i++)
		rwsem_init(&chunk->anon_vmas[i].lock);
	for (unsigned i = 1; i + 1 < ANON_VMAS_PER_CHUNK; i++)
		chunk->anon_vmas[i].next = &chunk->anon_vmas[i + 1];
	spin_lock(&e->anon_vma_lock);
	chunk->anon_vmas[ANON_VMAS_PER_CHUNK - 1].next = e->anon_vma_free;
	e->anon_vma_free = &chunk->anon_vmas[1];
	chunk->next = e->anon_vma_chunks;
	e->anon_vma_chunks = chunk;
	spin_unlock(&e->anon_vma_lock);
	return &chunk->anon_vmas[0];
}

static void anon_vma_free(struct engine *e, struct anon_vma *av)
{
	spin_lock(&e->anon_vma_lock);
	av->next = e->anon_vma_free;
	e->anon_vma_free = av;
	spin_unlock(&e->anon_vma_lock);
}

void anon_vma_fini(struct engine *e)
{
	struct anon_vma_chunk *chunk = e->anon_vma_chunks, *next;

	for (; chunk; chunk = next) {
		next = chunk->next;
		e->memory.free(e->memory.ctx, chunk, sizeof(*chunk));
	}
	e->anon_vma_chunks = NULL;
	e->anon_vma_free = NULL;
}

/* ---- the interval tree ---- */

#define anon_vma_of(n) container_of(n, struct vma, anon_node)

static void update_end(struct rb_node *node)
{
	struct vma *vma = anon_vma_of(node);
	u64 end = vma_pgoff_end(vma);

	if (node->left)
		end = max_of(end, anon_vma_of(node->left)->anon_end);
	if (node->right)
		end = max_of(end, anon_vma_of(node->right)->anon_end);
	vma->anon_end = end;
}

void anon_vma_insert(struct anon_vma *av, struct vma *vma)
{
	struct rb_node **link = &av->vmas.node, *parent = NULL;

	VMF_ASSERT(rwsem_is_write_locked(&av->lock));
	while (*link) {
		parent = *link;
		link = vma->pgoff < anon_vma_of(parent)->pgoff ? &parent->left : &parent->right;
	}
	vma->anon_end = vma_pgoff_end(vma);
	rb_insert(&av->vmas, &vma->anon_node, parent, link, update_end);
	av->nr_vmas++;
}

void anon_vma_remove(struct anon_vma *av, struct vma *vma)
{
	rb_erase(&av->vmas, &vma->anon_node, update_end);
	av->nr_vmas--;
}

/* The lowest VMA of the subtree that holds index. */
static struct vma *subtree_first(struct rb_node *node, u64 index)
{
	while (node) {
		struct vma *vma = anon_vma_of(node);

		if (node->left && anon_vma_of(node->left)->anon_end > index) {
			node = node->left;
			continue;
		}
		if (vma->pgoff > index)
			return NULL;
		if (vma_pgoff_end(vma) > index)
			return vma;
		node = node->right;
		if (node && anon_vma_of(node)->anon_end <= index)
			return NULL;
	}
	return NULL;
}

struct vma *anon_vma_first(struct anon_vma *av, u64 index)
{
	if (!av->vmas.node || anon_vma_of(av->vmas.node)->anon_end <= index)
		return NULL;
	return subtree_first(av->vmas.node, index);
}

struct vma *anon_vma_next(struct vma *vma, u64 index)
{
	struct rb_node *node = &vma->anon_node, *from;

	for (;;) {
		if (node->right && anon_vma_of(node->right)->anon_end > index) {
			struct vma *found = subtree_first(node->right, index);

			if (found)
				return found;
		}
		do {
			from = node;
			node = node->parent;
			if (!node)
				return NULL;
		} while (node->right == from);
		vma = anon_vma_of(node);
		if (vma->pgoff > index)
			return NULL;
		if (vma_pgoff_end(vma) > index)
			return vma;
	}
}

/* ---- joining and leaving ---- */

void anon_vma_leave(struct vma *vma)
{
	struct anon_vma *av = vma->anon_vma;
	bool last;

	if (!av)
		return;
	down_write(&av->lock);
	anon_vma_remove(av, vma);
	vma->anon_vma = NULL;
	last = av->nr_vmas == 0;
	up_write(&av->lock);
	if (last)
		anon_vma_free(vma->mm->engine, av);
}

/* Might the two be one VMA after an mprotect()?  Then they had better share an anon_vma. */
static bool anon_vma_compatible(const struct vma *below, const struct vma *above)
{
	return below->end == above->start && !((below->flags ^ above->flags) & ~VM_ACCESS) &&
	       vma_pgoff_end(below) == above->pgoff;
}

static struct anon_vma *find_mergeable_anon_vma(struct vma *vma)
{
	struct vma *near = vma_next(vma);
	struct anon_vma *av;

	if (near && anon_vma_compatible(vma, near)) {
		av = vma_anon(near);
		if (av)
			return av;
	}
	near = vma_prev(vma);
	if (near && anon_vma_compatible(near, vma))
		return vma_anon(near);
	return NULL;
}

int anon_vma_prepare(struct vma *vma)
{
	struct engine *e = vma->mm->engine;
	struct anon_vma *av, *fresh = NULL;
	bool joined = false;

	if (vma_anon(vma))
		return 0;
	/* Neighbours cannot go, nor lose their anon_vma, while mmap_lock is held. */
	av = find_mergeable_anon_vma(vma);
	if (!av) {
		av = fresh = anon_vma_alloc(e);
		if (!av)
			return -ENOMEM;
	}
	down_write(&av->lock);
	spin_lock(&vma->mm->table_lock); /* of two faults in this VMA one joins */
	if (!vma_anon(vma)) {
		anon_vma_insert(av, vma);
		__atomic_store_n(&vma->anon_vma, av, __ATOMIC_RELEASE);
		joined = true;
	}
	spin_unlock(&vma->mm->table_lock);
	up_write(&av->lock);
	if (fresh && !joined)
		anon_vma_free(e, fresh);
	return 0;
}
