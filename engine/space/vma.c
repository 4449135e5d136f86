/* SPDX-License-Identifier: MIT */
/*
 * The set of VMAs of a space: a red-black tree by address, augmented with the largest hole below
 * each node, and a list in the same order.
 *
 * The hole of a VMA is the free space between it and the VMA below (or mm->low); the hole above the
 * last VMA belongs to none and is looked at apart.  Linking, unlinking and moving an end change the
 * hole of at most two VMAs.
 *
 * All functions here need mmap_lock for writing, except the lookups, for which reading is enough.
 */
#include "engine/base/check.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

#define node_vma(n) container_of(n, struct vma, node)

static void update_hole(struct rb_node *node)
{
	struct vma *vma = node_vma(node);
	u64 largest = vma->hole_before;

	if (node->left)
		largest = max_of(largest, node_vma(node->left)->largest_hole);
	if (node->right)
		largest = max_of(largest, node_vma(node->right)->largest_hole);
	vma->largest_hole = largest;
}

struct vma *vma_new(struct mm *mm, u64 start, u64 end, u64 pgoff, u32 flags)
{
	struct engine *e = mm->engine;
	struct vma *vma = e->memory.alloc(e->memory.ctx, sizeof(*vma));

	if (!vma)
		return NULL;
	vma->mm = mm;
	vma->start = start;
	vma->end = end;
	vma->pgoff = pgoff;
	vma->flags = flags;
	rwsem_init_class(&vma->lock, LOCK_VMA);
	atomic_init(&vma->refcount, 1);
	vma->detached = true;
	vma->anon_vma = NULL;
	list_init(&vma->link);
	return vma;
}

void vma_put(struct vma *vma)
{
	struct engine *e = vma->mm->engine;

	if (atomic_fetch_sub_explicit(&vma->refcount, 1, memory_order_acq_rel) == 1)
		e->memory.free(e->memory.ctx, vma, sizeof(*vma));
}

void vma_drain(struct vma *vma)
{
	down_write(&vma->lock);
	up_write(&vma->lock);
}

struct vma *vma_next(const struct vma *vma)
{
	if (vma->link.next == &vma->mm->vmas)
		return NULL;
	return list_entry(vma->link.next, struct vma, link);
}

struct vma *vma_prev(const struct vma *vma)
{
	if (vma->link.prev == &vma->mm->vmas)
		return NULL;
	return list_entry(vma->link.prev, struct vma, link);
}

struct vma *find_vma(const struct mm *mm, u64 addr)
{
	struct rb_node *node = mm->tree.node;
	struct vma *found = NULL;

	while (node) {
		struct vma *vma = node_vma(node);

		if (addr < vma->end) {
			found = vma;
			if (addr >= vma->start)
				break;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return found;
}

bool range_is_free(const struct mm *mm, u64 start, u64 end)
{
	struct vma *vma;

	if (start < mm->low || end > mm->high || start >= end)
		return false;
	vma = find_vma(mm, start);
	return !vma || vma->start >= end;
}

/* The hole below vma changed. */
static void set_hole(struct vma *vma, u64 below_end)
{
	vma->hole_before = vma->start - below_end;
	rb_propagate(&vma->node, update_hole);
}

/* All but the file's tree. */
static void __vma_link(struct mm *mm, struct vma *vma)
{
	struct rb_node **link = &mm->tree.node, *parent = NULL;
	struct list_head *before = &mm->vmas; /* link in front of this one */
	struct vma *next, *prev;

	while (*link) {
		parent = *link;
		if (vma->start < node_vma(parent)->start) {
			before = &node_vma(parent)->link;
			link = &parent->left;
		} else {
			link = &parent->right;
		}
	}
	list_add_tail(&vma->link, before);
	prev = vma_prev(vma);
	next = vma_next(vma);
	VMF_ASSERT(rwsem_is_write_locked(&mm->mmap_lock));
	VMF_ASSERT(!prev || prev->end <= vma->start);
	VMF_ASSERT(!next || vma->end <= next->start);
	vma->hole_before = vma->start - (prev ? prev->end : mm->low);
	vma->largest_hole = vma->hole_before;
	rb_insert(&mm->tree, &vma->node, parent, link, update_hole);
	if (next)
		set_hole(next, vma->end);
	vma->detached = false;
	mm->map_count++;
}

void vma_link(struct mm *mm, struct vma *vma)
{
	__vma_link(mm, vma);
	i_mmap_add(vma);
}

void vma_unlink(struct mm *mm, struct vma *vma)
{
	struct vma *prev = vma_prev(vma), *next = vma_next(vma);

	VMF_ASSERT(rwsem_is_write_locked(&mm->mmap_lock) && !rwsem_is_locked(&vma->lock));
	if (is_vm_hugetlb(vma))
		hugetlb_vma_close(vma);
	anon_vma_leave(vma);
	i_mmap_del(vma);
	rb_erase(&mm->tree, &vma->node, update_hole);
	list_del(&vma->link);
	if (next)
		set_hole(next, prev ? prev->end : mm->low);
	vma->detached = true;
	mm->map_count--;
	if (vma->file)
		file_put(vma->file);
	vma->file = NULL;
	vma_put(vma);
}

/* Change the end of a VMA that is linked, and the hole above with it. */
static void __vma_set_end(struct vma *vma, u64 end)
{
	struct vma *next = vma_next(vma);

	vma->end = end;
	if (next)
		set_hole(next, end);
}

void vma_set_end(struct vma *vma, u64 end)
{
	vma_drain(vma);
	i_mmap_begin(vma);
	anon_vma_lock_write(vma);
	anon_vma_remove(vma);
	__vma_set_end(vma, end);
	anon_vma_insert(vma);
	anon_vma_unlock_write(vma);
	i_mmap_end(vma, NULL);
}

void vma_set_start(struct vma *vma, u64 start)
{
	struct vma *prev = vma_prev(vma);

	vma_drain(vma);
	anon_vma_lock_write(vma);
	anon_vma_remove(vma);
	vma->pgoff -= (vma->start - start) >> PAGE_SHIFT;
	vma->start = start;
	set_hole(vma, prev ? prev->end : vma->mm->low);
	anon_vma_insert(vma);
	anon_vma_unlock_write(vma);
	if (prev && vma_mergeable(prev, vma))
		vma->mm->unmerged = true; /* until either is changed: so does Linux */
}

struct vma *vma_split(struct vma *vma, u64 addr)
{
	struct mm *mm = vma->mm;
	struct vma *upper;

	upper = vma_new(mm, addr, vma->end, vma->pgoff + ((addr - vma->start) >> PAGE_SHIFT),
			vma->flags);
	if (!upper)
		return NULL;
	if (anon_vma_clone(upper, vma)) {
		vma_put(upper);
		return NULL;
	}
	if (vma->file)
		upper->file = file_get(vma->file);
	upper->uffd = vma->uffd;
	if (is_vm_hugetlb(vma))
		hugetlb_vma_split(upper, vma);
	upper->policy = vma->policy;
	vma_inherit_guard(upper, vma);
	vma_drain(vma);
	/* No huge page lies across the cut, and no fault makes one any more. */
	if ((addr & ~PMD_MASK) && !is_vm_hugetlb(vma))
		split_huge_pmd(mm, addr);
	i_mmap_begin(vma);
	anon_vma_lock_write(vma);
	anon_vma_remove(vma);
	vma->end = addr;
	__vma_link(mm, upper);
	anon_vma_insert(vma);
	anon_vma_insert(upper);
	anon_vma_unlock_write(vma);
	i_mmap_end(vma, upper);
	return upper;
}

/* One of the two that has no anon_vma takes the other's, but not one that came by fork: pages of
 * the first would have all the family's VMAs to look through. */
static bool anon_vma_mergeable(const struct vma *a, const struct vma *b)
{
	if (a->anon_vma == b->anon_vma)
		return true;
	if (a->anon_vma && b->anon_vma)
		return false;
	return !vma_is_fork_child(a) && !vma_is_fork_child(b);
}

/* But for their anon_vmas they could be one. */
static bool continues(const struct vma *below, const struct vma *above)
{
	return below->end == above->start && below->flags == above->flags &&
	       !(below->flags & VM_DONTEXPAND) && below->file == above->file &&
	       below->uffd == above->uffd && mpol_equal(&below->policy, &above->policy) &&
	       vma_pgoff_end(below) == above->pgoff;
}

bool vma_mergeable(const struct vma *below, const struct vma *above)
{
	return continues(below, above) && anon_vma_mergeable(below, above);
}

/* `below` takes over the range of `above`, which goes. */
static void merge_pair(struct vma *below, struct vma *above)
{
	struct mm *mm = below->mm;
	struct file *file = above->file;
	u64 end = above->end;

	vma_drain(below);
	vma_drain(above);
	i_mmap_begin(below);
	i_mmap_absorb(above);
	above->file = NULL;
	vma_inherit_guard(below, above);
	anon_vma_lock_write(below->anon_vma ? below : above);
	anon_vma_remove(below);
	anon_vma_remove(above);
	if (!below->anon_vma)
		anon_vma_clone(below, above); /* one link at most: nothing to allocate */
	anon_vma_unlink(above);
	vma_unlink(mm, above);
	__vma_set_end(below, end);
	anon_vma_insert(below);
	anon_vma_unlock_write(below);
	i_mmap_end(below, NULL);
	if (file)
		file_put(file); /* not the last: `below` has one */
}

void vma_merge_grown(struct vma *vma)
{
	struct vma *next = vma_next(vma);

	if (next && continues(vma, next) && (!next->anon_vma || anon_vma_mergeable(vma, next)))
		merge_pair(vma, next);
}

int vma_may_split(const struct vma *vma, u64 addr)
{
	return is_vm_hugetlb(vma) && !hugetlb_may_split(vma, addr) ? -EINVAL : 0;
}

int vma_may_modify(struct vma *vma, u64 start, u64 end)
{
	int err = 0;

	if (likely(!is_vm_hugetlb(vma)))
		return 0;
	if (start > vma->start)
		err = vma_may_split(vma, start);
	if (!err && end < vma->end) {
		err = vma_may_split(vma, end);
		/* It stays cut at start, as Linux leaves it. */
		if (err && start > vma->start && !vma_split(vma, start))
			err = -ENOMEM;
	}
	return err;
}

struct vma *vma_isolate(struct vma *vma, u64 start, u64 end)
{
	struct vma *whole = vma;

	if (start > vma->start) {
		vma = vma_split(vma, start);
		if (!vma)
			return NULL;
	}
	if (end < vma->end && !vma_split(vma, end)) {
		vma_merge(whole);
		return NULL;
	}
	return vma;
}

/* Would [start, end) of it become part of a neighbour with these flags and this policy? */
static bool merges_as(const struct vma *vma, u64 start, u64 end, u32 flags, struct mempolicy policy)
{
	const struct vma *prev = vma_prev(vma), *next = vma_next(vma);
	struct vma part = { .start = start,
			    .end = end,
			    .flags = flags,
			    .pgoff = vma->pgoff + ((start - vma->start) >> PAGE_SHIFT),
			    .file = vma->file,
			    .uffd = vma->uffd,
			    .policy = policy,
			    .anon_vma = vma->anon_vma,
			    .anon_vma_chain = vma->anon_vma_chain };

	return (prev && start == vma->start && vma_mergeable(prev, &part)) ||
	       (next && end == vma->end && vma_mergeable(&part, next));
}

/* One VMA more. */
static struct vma *split_within_limit(struct vma *vma, u64 addr)
{
	struct mm *mm = vma->mm;

	return mm->map_count >= mm->limits.map_count ? NULL : vma_split(vma, addr);
}

struct vma *vma_modify_flags(struct vma *vma, u64 start, u64 end, u32 flags)
{
	return vma_modify(vma, start, end, flags, vma->policy);
}

struct vma *vma_modify(struct vma *vma, u64 start, u64 end, u32 flags, struct mempolicy policy)
{
	start = max_of(vma->start, start);
	end = min_of(vma->end, end);
	if (merges_as(vma, start, end, flags, policy)) {
		vma = vma_isolate(vma, start, end);
	} else {
		bool cut = start > vma->start;

		if (cut)
			vma = split_within_limit(vma, start);
		if (vma && end < vma->end && !split_within_limit(vma, end)) {
			/* One too many: it stays cut at start, as Linux leaves it. */
			if (vma->mm->map_count >= vma->mm->limits.map_count)
				vma->mm->unmerged |= cut;
			else
				vma_merge(vma);
			vma = NULL;
		}
	}
	if (!vma)
		return NULL;
	vma_drain(vma);
	/* Reclaim looks at VM_LOCKED. */
	__atomic_store_n(&vma->flags, flags, __ATOMIC_RELAXED);
	vma->policy = policy;
	return vma;
}

struct vma *vma_merge(struct vma *vma)
{
	struct vma *prev = vma_prev(vma), *next;

	if (prev && vma_mergeable(prev, vma)) {
		merge_pair(prev, vma);
		vma = prev;
	}
	next = vma_next(vma);
	if (next && vma_mergeable(vma, next))
		merge_pair(vma, next);
	return vma;
}

/* ---- holes ---- */

/* The VMA with the highest address below `node`'s subtree whose hole is at least len. */
static struct rb_node *rightmost_hole(struct rb_node *node, u64 len)
{
	for (;;) {
		if (node->right && node_vma(node->right)->largest_hole >= len)
			node = node->right;
		else if (node_vma(node)->hole_before >= len)
			return node;
		else
			node = node->left;
	}
}

/* From node (itself included) downwards in address: the first whose hole is at least len. */
static struct rb_node *hole_at_or_below(struct rb_node *node, u64 len)
{
	while (node) {
		if (node_vma(node)->hole_before >= len)
			return node;
		if (node->left && node_vma(node->left)->largest_hole >= len)
			return rightmost_hole(node->left, len);
		while (node->parent && node == node->parent->left)
			node = node->parent;
		node = node->parent;
	}
	return NULL;
}

u64 vma_find_hole(const struct mm *mm, u64 len, u64 below)
{
	struct vma *above, *prev;
	struct rb_node *node;
	u64 bottom;

	below = min_of(below, mm->high) & PAGE_MASK;
	if (!len || below < mm->low || len > below - mm->low)
		return 0;

	/* The hole that `below` itself cuts. */
	above = find_vma(mm, below);
	if (above && above->start < below) {
		below = above->start;
		if (len > below - mm->low)
			return 0;
	}
	if (above)
		prev = vma_prev(above);
	else
		prev = list_empty(&mm->vmas) ? NULL : list_last_entry(&mm->vmas, struct vma, link);
	bottom = prev ? prev->end : mm->low;
	if (below > bottom && below - bottom >= len)
		return below - len;
	if (!prev)
		return 0;

	node = hole_at_or_below(&prev->node, len);
	return node ? node_vma(node)->start - len : 0;
}

u64 vma_pte_bits(const struct vma *vma)
{
	u64 bits = PTE_USER;

	bits |= vma->flags & VM_ACCESS ? PTE_PRESENT : PTE_GLOBAL;
	if (vma->flags & VM_WRITE)
		bits |= PTE_WRITE;
	if (!(vma->flags & VM_EXEC))
		bits |= PTE_NX;
	return bits;
}

/* ---- per-VMA lock ---- */

/* All its pages are the file's. */
static bool needs_no_anon_vma(const struct vma *vma)
{
	return vma->file && (vma->flags & (VM_SHARED | VM_HUGETLB));
}

struct vma *lock_vma(struct mm *mm, u64 addr)
{
	struct vma *vma;

	if (!down_read_trylock(&mm->mmap_lock))
		return NULL;
	vma = find_vma(mm, addr);
	if (vma && (vma->start > addr || (!vma_anon(vma) && !needs_no_anon_vma(vma)) ||
		    !down_read_trylock(&vma->lock)))
		vma = NULL;
	if (vma)
		atomic_fetch_add_explicit(&vma->refcount, 1, memory_order_relaxed);
	up_read(&mm->mmap_lock);
	return vma;
}

void unlock_vma(struct vma *vma)
{
	up_read(&vma->lock);
	vma_put(vma);
}
