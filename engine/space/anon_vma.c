/* SPDX-License-Identifier: MIT */
/*
 * Where the pages of anonymous memory are mapped: one anon_vma for VMAs that were one once, and in
 * it an interval tree of these VMAs by linear index; a family of them for VMAs that came by fork
 * (see struct anon_vma).
 *
 * The memory of an anon_vma is never used for anything else until the engine goes.  So a pointer
 * that a page still carries after its VMA went leads to a working lock (if to another family's),
 * and the look at the page's map count and at the root under that lock tells that it leads nowhere
 * (see rmap_begin()).
 *
 * A family's anon_vmas go from the leaves to the root or all at once: who is linked into one is
 * linked into its parent, so the parent cannot be without VMAs before its child is.
 */
#include "engine/base/check.h"
#include "engine/space/internal.h"

#define ANON_VMAS_PER_CHUNK 64

struct anon_vma_chunk {
	struct anon_vma_chunk *next;
	struct anon_vma anon_vmas[ANON_VMAS_PER_CHUNK];
};

static void set_root(struct anon_vma *av, struct anon_vma *root, struct anon_vma *parent)
{
	__atomic_store_n(&av->root, root, __ATOMIC_RELAXED);
	av->parent = parent;
}

/* A root that nothing is linked into. */
static struct anon_vma *anon_vma_alloc(struct engine *e)
{
	struct anon_vma_chunk *chunk;
	struct anon_vma *av;

	spin_lock(&e->anon_vma_lock);
	av = e->anon_vma_free;
	if (av)
		e->anon_vma_free = av->next;
	spin_unlock(&e->anon_vma_lock);
	if (av) {
		set_root(av, av, av);
		return av;
	}

	chunk = e->memory.alloc(e->memory.ctx, sizeof(*chunk));
	if (!chunk)
		return NULL;
	for (unsigned i = 0; i < ANON_VMAS_PER_CHUNK; i++)
		rwsem_init_class(&chunk->anon_vmas[i].lock, LOCK_ANON_VMA);
	for (unsigned i = 1; i + 1 < ANON_VMAS_PER_CHUNK; i++)
		chunk->anon_vmas[i].next = &chunk->anon_vmas[i + 1];
	spin_lock(&e->anon_vma_lock);
	chunk->anon_vmas[ANON_VMAS_PER_CHUNK - 1].next = e->anon_vma_free;
	e->anon_vma_free = &chunk->anon_vmas[1];
	chunk->next = e->anon_vma_chunks;
	e->anon_vma_chunks = chunk;
	spin_unlock(&e->anon_vma_lock);
	set_root(&chunk->anon_vmas[0], &chunk->anon_vmas[0], &chunk->anon_vmas[0]);
	return &chunk->anon_vmas[0];
}

static void anon_vma_free(struct engine *e, struct anon_vma *av)
{
	VMF_ASSERT(!av->nr_vmas && !av->nr_active && !av->nr_children);
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

#define link_of(n) container_of(n, struct anon_vma_chain, node)

static u64 pgoff(const struct anon_vma_chain *link)
{
	return link->vma->pgoff;
}

static u64 pgoff_end(const struct anon_vma_chain *link)
{
	return vma_pgoff_end(link->vma);
}

static void update_end(struct rb_node *node)
{
	struct anon_vma_chain *link = link_of(node);
	u64 end = pgoff_end(link);

	if (node->left)
		end = max_of(end, link_of(node->left)->end);
	if (node->right)
		end = max_of(end, link_of(node->right)->end);
	link->end = end;
}

static void tree_insert(struct anon_vma_chain *new)
{
	struct anon_vma *av = new->anon_vma;
	struct rb_node **link = &av->vmas.node, *parent = NULL;

	VMF_ASSERT(rwsem_is_write_locked(&av->root->lock));
	while (*link) {
		parent = *link;
		link = pgoff(new) < pgoff(link_of(parent)) ? &parent->left : &parent->right;
	}
	new->end = pgoff_end(new);
	rb_insert(&av->vmas, &new->node, parent, link, update_end);
	av->nr_vmas++;
	if (av == new->vma->anon_vma)
		av->nr_active++;
}

static void tree_remove(struct anon_vma_chain *link)
{
	struct anon_vma *av = link->anon_vma;

	VMF_ASSERT(rwsem_is_write_locked(&av->root->lock));
	rb_erase(&av->vmas, &link->node, update_end);
	av->nr_vmas--;
	if (av == link->vma->anon_vma)
		av->nr_active--;
}

/* The lowest of the subtree that holds index. */
static struct anon_vma_chain *subtree_first(struct rb_node *node, u64 index)
{
	while (node) {
		struct anon_vma_chain *link = link_of(node);

		if (node->left && link_of(node->left)->end > index) {
			node = node->left;
			continue;
		}
		if (pgoff(link) > index)
			return NULL;
		if (pgoff_end(link) > index)
			return link;
		node = node->right;
		if (node && link_of(node)->end <= index)
			return NULL;
	}
	return NULL;
}

struct anon_vma_chain *anon_vma_first(struct anon_vma *av, u64 index)
{
	if (!av->vmas.node || link_of(av->vmas.node)->end <= index)
		return NULL;
	return subtree_first(av->vmas.node, index);
}

struct anon_vma_chain *anon_vma_next(struct anon_vma_chain *link, u64 index)
{
	struct rb_node *node = &link->node, *from;

	for (;;) {
		if (node->right && link_of(node->right)->end > index) {
			struct anon_vma_chain *found = subtree_first(node->right, index);

			if (found)
				return found;
		}
		do {
			from = node;
			node = node->parent;
			if (!node)
				return NULL;
		} while (node->right == from);
		link = link_of(node);
		if (pgoff(link) > index)
			return NULL;
		if (pgoff_end(link) > index)
			return link;
	}
}

/* ---- the links of a VMA ---- */

/* One that is not in the chain yet. */
static struct anon_vma_chain *link_alloc(struct vma *vma)
{
	struct engine *e = vma->mm->engine;
	struct anon_vma_chain *link = &vma->first_link;

	if (link->anon_vma)
		link = e->memory.alloc(e->memory.ctx, sizeof(*link));
	if (link)
		link->vma = vma;
	return link;
}

static void link_free(struct anon_vma_chain *link)
{
	struct engine *e = link->vma->mm->engine;

	if (link == &link->vma->first_link)
		link->anon_vma = NULL;
	else
		e->memory.free(e->memory.ctx, link, sizeof(*link));
}

static void link_append(struct anon_vma_chain *link, struct anon_vma *av)
{
	struct anon_vma_chain **end = &link->vma->anon_vma_chain;

	while (*end)
		end = &(*end)->next;
	link->anon_vma = av;
	link->next = NULL;
	*end = link;
}

void anon_vma_unlink(struct vma *vma)
{
	struct anon_vma_chain *link = vma->anon_vma_chain, *next;

	for (; link; link = next) {
		next = link->next;
		link_free(link);
	}
	vma->anon_vma_chain = NULL;
	vma->anon_vma = NULL;
}

void anon_vma_lock_write(const struct vma *vma)
{
	if (vma->anon_vma)
		down_write(&vma->anon_vma->root->lock);
}

void anon_vma_unlock_write(const struct vma *vma)
{
	if (vma->anon_vma)
		up_write(&vma->anon_vma->root->lock);
}

void anon_vma_insert(struct vma *vma)
{
	for (struct anon_vma_chain *link = vma->anon_vma_chain; link; link = link->next)
		tree_insert(link);
}

void anon_vma_remove(struct vma *vma)
{
	for (struct anon_vma_chain *link = vma->anon_vma_chain; link; link = link->next)
		tree_remove(link);
}

/* ---- joining and leaving ---- */

int anon_vma_clone(struct vma *dst, const struct vma *src)
{
	VMF_ASSERT(!dst->anon_vma_chain);
	for (const struct anon_vma_chain *l = src->anon_vma_chain; l; l = l->next) {
		struct anon_vma_chain *link = link_alloc(dst);

		if (!link) {
			anon_vma_unlink(dst);
			return -ENOMEM;
		}
		link_append(link, l->anon_vma);
	}
	dst->anon_vma = src->anon_vma;
	return 0;
}

/*
 * An ancestor's, none of whose VMAs is left and which has one child at most: the pages that it has
 * are the child's already.  So a program that forks and ends, and whose child does the same, for
 * ever, has no chain that grows for ever.  A root is left alone: it is for what all share.
 */
static struct anon_vma *find_reusable(const struct vma *vma)
{
	for (struct anon_vma_chain *l = vma->anon_vma_chain; l; l = l->next) {
		struct anon_vma *av = l->anon_vma;

		if (av->root != av && !av->nr_active && av->nr_children < 2)
			return av;
	}
	return NULL;
}

int anon_vma_fork(struct vma *vma, const struct vma *parent)
{
	struct engine *e = vma->mm->engine;
	struct anon_vma *from = parent->anon_vma, *own = NULL;
	struct anon_vma_chain *link = NULL;

	if (!from)
		return 0;
	if (anon_vma_clone(vma, parent))
		return -ENOMEM;
	own = anon_vma_alloc(e);
	if (own)
		link = link_alloc(vma);
	if (!link) {
		if (own)
			anon_vma_free(e, own);
		anon_vma_unlink(vma);
		return -ENOMEM;
	}
	down_write(&from->root->lock);
	vma->anon_vma = find_reusable(vma);
	if (!vma->anon_vma) {
		set_root(own, from->root, from);
		from->nr_children++;
		link_append(link, own);
		vma->anon_vma = own;
		own = NULL;
	}
	anon_vma_insert(vma);
	up_write(&from->root->lock);
	if (own) {
		link_free(link);
		anon_vma_free(e, own);
	}
	return 0;
}

void anon_vma_leave(struct vma *vma)
{
	struct anon_vma *dead = NULL, *av, *root;

	if (!vma->anon_vma)
		return;
	root = vma->anon_vma->root;
	down_write(&root->lock);
	for (struct anon_vma_chain *link = vma->anon_vma_chain; link; link = link->next) {
		av = link->anon_vma;
		tree_remove(link);
		if (av->nr_vmas)
			continue;
		if (av->parent != av)
			av->parent->nr_children--;
		av->next = dead;
		dead = av;
	}
	up_write(&root->lock);
	anon_vma_unlink(vma);
	while ((av = dead)) {
		dead = av->next;
		anon_vma_free(vma->mm->engine, av);
	}
}

/* Might the two be one VMA after an mprotect()?  Then they had better share an anon_vma.  With
 * other policies they could not, whatever mbind() does to them later. */
static bool anon_vma_compatible(const struct vma *below, const struct vma *above)
{
	return below->end == above->start && below->file == above->file &&
	       mpol_equal(&below->policy, &above->policy) &&
	       !((below->flags ^ above->flags) & ~VM_ACCESS) &&
	       vma_pgoff_end(below) == above->pgoff;
}

static struct anon_vma *reusable_anon_vma(struct vma *near)
{
	struct anon_vma *av = vma_anon(near);

	return av && vma_is_fork_child(near) ? NULL : av;
}

static struct anon_vma *find_mergeable_anon_vma(struct vma *vma)
{
	struct vma *near = vma_next(vma);
	struct anon_vma *av;

	if (near && anon_vma_compatible(vma, near)) {
		av = reusable_anon_vma(near);
		if (av)
			return av;
	}
	near = vma_prev(vma);
	if (near && anon_vma_compatible(near, vma))
		return reusable_anon_vma(near);
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
	VMF_ASSERT(av->root == av); /* who is linked into one only is linked into a root */
	down_write(&av->lock);
	spin_lock(&vma->mm->table_lock); /* of two faults in this VMA one joins */
	if (!vma_anon(vma)) {
		link_append(link_alloc(vma), av); /* its first: nothing to allocate */
		tree_insert(vma->anon_vma_chain);
		av->nr_active++;
		__atomic_store_n(&vma->anon_vma, av, __ATOMIC_RELEASE);
		joined = true;
	}
	spin_unlock(&vma->mm->table_lock);
	up_write(&av->lock);
	if (fresh && !joined)
		anon_vma_free(e, fresh);
	return 0;
}
