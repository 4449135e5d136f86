/* SPDX-License-Identifier: MIT */
/* Policies: what programs say, and which node a page comes from by that; see mempolicy.h. */
#include "engine/space/mempolicy.h"

#include "engine/backing/shared_policy.h"
#include "engine/backing/shmem.h"
#include "engine/fault/fault.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"
#include "engine/space/uapi.h"

/* ---- which node ---- */

struct shared_policy *vma_shared_policy(const struct vma *vma)
{
	return vma_is_shmem(vma) ? shmem_policy(vma->file->mapping) : NULL;
}

/* What mbind() has said of the page at va; default: nothing. */
static struct mempolicy vma_own_policy(const struct vma *vma, u64 va)
{
	struct shared_policy *shared = vma_shared_policy(vma);

	return shared ? shared_policy_lookup(shared, vma_page_index(vma, va)) : vma->policy;
}

/* Another thread may be setting it. */
static struct mempolicy space_policy(struct mm *mm)
{
	struct mempolicy policy;

	spin_lock(&mm->policy_lock);
	policy = mm->policy;
	spin_unlock(&mm->policy_lock);
	return policy;
}

struct mempolicy vma_policy(const struct vma *vma, u64 va)
{
	struct mempolicy policy = vma_own_policy(vma, va);

	return policy.mode != UAPI_MPOL_DEFAULT ? policy : space_policy(vma->mm);
}

static struct mm *current_mm(const struct engine *e)
{
	return e->mmu->current_mm ? e->mmu->current_mm(e) : NULL;
}

struct mempolicy task_policy(const struct engine *e)
{
	struct mm *mm = current_mm(e);

	return mm ? space_policy(mm) : (struct mempolicy){ 0 };
}

struct mempolicy vma_call_policy(const struct vma *vma, u64 va)
{
	struct mempolicy policy = vma_own_policy(vma, va);

	return policy.mode != UAPI_MPOL_DEFAULT ? policy : task_policy(vma->mm->engine);
}

static unsigned nth_node(nodemask_t nodes, u64 n)
{
	for (n %= nodes_weight(nodes); n; n--)
		nodes &= nodes - 1;
	return first_node(nodes);
}

static unsigned weight_of(const struct engine *e, unsigned nid)
{
	return max_of((unsigned)atomic_load_explicit(&e->numa.weight[nid], memory_order_relaxed),
		      1u);
}

static unsigned weighted_node(const struct engine *e, nodemask_t nodes, u64 n)
{
	nodemask_t left;
	u64 sum = 0;

	for (left = nodes; left; left &= left - 1)
		sum += weight_of(e, first_node(left));
	n %= sum;
	for (left = nodes; n >= weight_of(e, first_node(left)); left &= left - 1)
		n -= weight_of(e, first_node(left));
	return first_node(left);
}

static bool interleaves(const struct mempolicy *p)
{
	return p->mode == UAPI_MPOL_INTERLEAVE || p->mode == UAPI_MPOL_WEIGHTED_INTERLEAVE;
}

struct node_choice policy_choice(const struct engine *e, const struct mempolicy *p, u64 index)
{
	struct node_choice c = { .nid = numa_node_id(e), .allowed = NODE_MASK_ALL };

	switch (p->mode) {
	case UAPI_MPOL_PREFERRED:
		c.nid = first_node(p->nodes);
		break;
	case UAPI_MPOL_BIND:
		c.allowed = p->nodes;
		c.nid = (unsigned)nearest_node(e, c.nid, p->nodes);
		break;
	case UAPI_MPOL_PREFERRED_MANY:
		c.first = p->nodes;
		c.nid = (unsigned)nearest_node(e, c.nid, p->nodes);
		break;
	case UAPI_MPOL_INTERLEAVE:
		c.nid = nth_node(p->nodes, index);
		break;
	case UAPI_MPOL_WEIGHTED_INTERLEAVE:
		c.nid = weighted_node(e, p->nodes, index);
		break;
	default:
		break;
	}
	return c;
}

static struct page *alloc_by_choice(struct engine *e, const struct node_choice *c, unsigned order,
				    unsigned flags)
{
	struct page *page = NULL;

	if (c->first)
		page = page_alloc_nodes(e, order, (flags | ALLOC_NORECLAIM) & ~ALLOC_COMPACT,
					c->nid, c->first);
	return page ? page : page_alloc_nodes(e, order, flags, c->nid, c->allowed);
}

struct page *policy_alloc_page(struct engine *e, const struct mempolicy *p, u64 index,
			       unsigned order, unsigned flags)
{
	const struct node_choice c = policy_choice(e, p, index);

	return alloc_by_choice(e, &c, order, flags);
}

struct page *task_alloc_page(struct engine *e, unsigned order, unsigned flags)
{
	struct mempolicy policy;
	struct mm *mm;
	u64 turn = 0;

	if (likely(e->numa.nr == 1))
		return page_alloc(e, ZONE_USER, order, flags);
	mm = current_mm(e);
	policy = task_policy(e);
	if (mm && interleaves(&policy))
		turn = atomic_fetch_add_explicit(&mm->policy_turn, 1, memory_order_relaxed);
	return policy_alloc_page(e, &policy, turn, order, flags);
}

struct page *vma_alloc_page(const struct vma *vma, u64 va, unsigned order, unsigned flags)
{
	struct engine *e = vma->mm->engine;
	struct mempolicy policy;

	if (likely(e->numa.nr == 1))
		return page_alloc(e, ZONE_USER, order, flags);
	policy = vma_policy(vma, va);
	return policy_alloc_page(e, &policy, vma_page_index(vma, va) >> order, order, flags);
}

/* Is it the node that is asked first that matters, more than the size of what it has? */
static bool wants_one_node(const struct engine *e, const struct mempolicy *p)
{
	if (interleaves(p) || p->mode == UAPI_MPOL_PREFERRED_MANY)
		return false;
	/* Of nodes that are all away from here each will do. */
	return p->mode != UAPI_MPOL_BIND || node_isset(numa_node_id(e), p->nodes);
}

struct page *vma_alloc_huge_page(const struct vma *vma, u64 va, unsigned flags)
{
	struct engine *e = vma->mm->engine;
	u64 index = vma_page_index(vma, va & PMD_MASK) >> HUGE_ORDER;
	struct mempolicy policy;
	struct node_choice c;

	if (likely(e->numa.nr == 1))
		return page_alloc(e, ZONE_USER, HUGE_ORDER, flags);
	policy = vma_policy(vma, va);
	c = policy_choice(e, &policy, index);
	if (wants_one_node(e, &policy)) {
		struct page *page = page_alloc_nodes(e, HUGE_ORDER, flags, c.nid, 1u << c.nid);

		if (page || !(flags & ALLOC_COMPACT))
			return page;
	}
	return alloc_by_choice(e, &c, HUGE_ORDER, flags);
}

struct page *vma_alloc_page_for_call(const struct vma *vma, u64 va, unsigned flags)
{
	struct engine *e = vma->mm->engine;
	struct mempolicy policy;

	if (likely(e->numa.nr == 1))
		return page_alloc(e, ZONE_USER, 0, flags);
	policy = vma_call_policy(vma, va);
	return policy_alloc_page(e, &policy, vma_page_index(vma, va), 0, flags);
}

/* ---- what programs say ---- */

int mpol_check_mode(u64 mode_flags)
{
	u32 flags = (u32)mode_flags & UAPI_MPOL_MODE_FLAGS, mode = (u32)mode_flags & ~flags;
	const u32 exclusive = UAPI_MPOL_F_STATIC_NODES | UAPI_MPOL_F_RELATIVE_NODES;

	if (mode >= UAPI_NR_MPOL || (flags & exclusive) == exclusive)
		return -EINVAL;
	if ((flags & UAPI_MPOL_F_NUMA_BALANCING) && mode != UAPI_MPOL_BIND &&
	    mode != UAPI_MPOL_PREFERRED_MANY)
		return -EINVAL;
	return 0;
}

/* Bit n of what is given means the n-th of the nodes that there are, going around. */
static nodemask_t relative_nodes(u64 given, nodemask_t there)
{
	nodemask_t nodes = 0;

	for (unsigned i = 0; i < 64; i++) {
		nodemask_t left = there;

		if (!(given >> i & 1))
			continue;
		for (unsigned n = i % nodes_weight(there); n; n--)
			left &= left - 1;
		nodes |= left & -left;
	}
	return nodes;
}

int mpol_parse(const struct engine *e, u64 mode_flags, u64 given, struct mempolicy *policy)
{
	u32 flags = (u32)mode_flags & UAPI_MPOL_MODE_FLAGS, mode = (u32)mode_flags & ~flags;
	bool follows = flags & (UAPI_MPOL_F_STATIC_NODES | UAPI_MPOL_F_RELATIVE_NODES);
	int err = mpol_check_mode(mode_flags);

	*policy = (struct mempolicy){ 0 };
	if (err)
		return err;
	if (mode == UAPI_MPOL_DEFAULT)
		return given ? -EINVAL : 0;
	if (mode == UAPI_MPOL_PREFERRED && !given)
		mode = UAPI_MPOL_LOCAL;
	if (mode == UAPI_MPOL_LOCAL) {
		policy->mode = mode;
		return given || follows ? -EINVAL : 0;
	}
	policy->mode = mode;
	policy->flags = flags;
	policy->given = flags ? given : 0; /* any of them: so does Linux */
	policy->nodes = flags & UAPI_MPOL_F_RELATIVE_NODES ? relative_nodes(given, node_states(e))
							   : (nodemask_t)given & node_states(e);
	if (mode == UAPI_MPOL_PREFERRED)
		policy->nodes &= -policy->nodes;
	return policy->nodes ? 0 : -EINVAL;
}

/* More than so many bits are not even looked at. */
#define MOST_BITS (PAGE_SIZE * 8)
/* Linux's MAX_NUMNODES: no node has such a number. */
#define NO_NODE_BIT 1024

int get_nodes(u64 *nodes, const u64 *nmask, u64 maxnode)
{
	*nodes = 0;
	if (--maxnode == 0 || !nmask)
		return 0;
	if (maxnode > MOST_BITS)
		return -EINVAL;
	for (u64 i = 0; i < (maxnode + 63) / 64; i++) {
		u64 left = maxnode - 64 * i, word = nmask[i];

		if (left < 64)
			word &= (1ULL << left) - 1;
		if (word && 64 * i >= NO_NODE_BIT)
			return -EINVAL;
		*nodes |= !i ? word : word ? 1ULL << 63 : 0;
	}
	return 0;
}

int do_set_mempolicy(struct mm *mm, u64 mode, const u64 *nmask, u64 maxnode)
{
	struct mempolicy policy;
	u64 nodes;
	int err = mpol_check_mode(mode);

	err = err ?: get_nodes(&nodes, nmask, maxnode);
	err = err ?: mpol_parse(mm->engine, mode, nodes, &policy);
	if (err)
		return err;
	down_write(&mm->mmap_lock);
	spin_lock(&mm->policy_lock);
	mm->policy = policy;
	atomic_store_explicit(&mm->policy_turn, 0, memory_order_relaxed);
	spin_unlock(&mm->policy_lock);
	up_write(&mm->mmap_lock);
	return 0;
}

/* The node of the page that is mapped at addr, or -EFAULT.  The zero page is one of those that only
 * who may read finds. */
static int node_now(struct mm *mm, u64 addr, bool may_read)
{
	/* Of a huge page, too; a frame's node does not change. */
	pte_t pte = pte_peek(mm, addr);

	if (pte_present(pte) && (may_read || !pte_special(pte)))
		return (int)page_nid(pfn_page(mm->engine, pte_pfn(pte)));
	return -EFAULT;
}

/* The node of the page at addr, which is brought in.  As in Linux, what may not be read is not
 * brought in, but what is there and may be written to or executed is found. */
static int node_of_page(struct mm *mm, u64 addr)
{
	for (;;) {
		struct vma *vma = find_vma(mm, addr);
		int err, nid;

		if (!vma || vma->start > addr || !(vma->flags & (VM_READ | VM_WRITE | VM_EXEC)))
			return -EFAULT;
		nid = node_now(mm, addr, vma->flags & VM_READ);
		if (nid >= 0 || !(vma->flags & VM_READ))
			return nid;
		err = faultin_page(vma, addr, false);
		if (err == -EAGAIN)
			down_read(&mm->mmap_lock);
		else if (err)
			return err == -EHWPOISON ? -EFAULT : err;
	}
}

/* What MPOL_F_NODE asks for: the page's, or the next that the space's interleaving takes. */
static int which_node(struct mm *mm, const struct mempolicy *policy, u64 addr, u64 flags)
{
	if (flags & UAPI_MPOL_F_ADDR)
		return node_of_page(mm, addr & PAGE_MASK);
	if (!interleaves(policy))
		return -EINVAL;
	return (int)policy_choice(mm->engine, policy,
				  atomic_load_explicit(&mm->policy_turn, memory_order_relaxed))
		.nid;
}

static int look_up(struct mm *mm, int *mode, u64 *nodes, u64 addr, u64 flags)
{
	struct mempolicy found = mm->policy;

	if (flags & UAPI_MPOL_F_ADDR) {
		const struct vma *vma = find_vma(mm, addr);

		if (!vma || vma->start > addr)
			return -EFAULT;
		found = vma_own_policy(vma, addr);
	}
	*nodes = (found.given ? found.given : found.nodes) & ~(1ULL << 63);
	*mode = found.mode | found.flags;
	if (flags & UAPI_MPOL_F_NODE)
		*mode = which_node(mm, &found, addr, flags);
	return *mode < 0 ? *mode : 0;
}

int do_get_mempolicy(struct mm *mm, int *mode, u64 *nmask, u64 maxnode, u64 addr, u64 flags)
{
	const u64 known = UAPI_MPOL_F_NODE | UAPI_MPOL_F_ADDR | UAPI_MPOL_F_MEMS_ALLOWED;
	u64 nodes = node_states(mm->engine);
	int found = 0, err = 0;

	if (nmask && maxnode < mm->engine->numa.nr)
		return -EINVAL;
	if (flags & ~known)
		return -EINVAL;
	if (flags & UAPI_MPOL_F_MEMS_ALLOWED) {
		if (flags & (UAPI_MPOL_F_NODE | UAPI_MPOL_F_ADDR))
			return -EINVAL;
	} else {
		if (addr && !(flags & UAPI_MPOL_F_ADDR))
			return -EINVAL;
		down_read(&mm->mmap_lock);
		err = look_up(mm, &found, &nodes, addr, flags);
		up_read(&mm->mmap_lock);
	}
	if (err)
		return err;
	if (mode)
		*mode = found;
	if (nmask && maxnode > MOST_BITS)
		return -EINVAL;
	for (u64 i = 0; nmask && i < (maxnode + 62) / 64; i++)
		nmask[i] = i ? 0 : nodes;
	return 0;
}
