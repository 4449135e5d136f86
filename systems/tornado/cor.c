/* SPDX-License-Identifier: MIT */
/*
 * The COR.  Its representatives have nothing that changes: a server's worker on the client's own
 * CPU does what is asked, with what came in the call.
 */
#include "engine/base/errno.h"
#include "systems/tornado/objects.h"

static const struct ledger_actor in_kernel = { .name = "the COR", .ring = 0, .domain = 1 };
static const struct ledger_actor server = { .name = "the file server", .ring = 3, .domain = 2 };

struct cor {
	struct co_root root;
};

struct cor_rep {
	struct co_rep rep;
	_Atomic u64 fills; /* that it has started */
};

static unsigned miss(struct co_root *root, unsigned cpu)
{
	(void)root;
	return cpu;
}

const struct co_type cor_type = {
	.name = "COR",
	.size = sizeof(struct cor),
	.rep_size = sizeof(struct cor_rep),
	.miss = miss,
};

struct cor *cor_create(struct co_system *s, unsigned cpu)
{
	struct co_root *root = co_create(s, &cor_type, cpu);

	return root ? container_of(root, struct cor, root) : NULL;
}

co_ref cor_ref(const struct cor *c)
{
	return c->root.ref;
}

int cor_start_fill(struct co_system *s, unsigned cpu, co_ref ref, u64 offset, bool stored)
{
	struct co_rep *rep;
	int err = co_call(s, cpu, ref, &cor_type, &rep);

	if (err)
		return err;
	if (!stored) {
		ledger_step(&cor_object, "the object has no such page: PAGE_NOT_FOUND",
			    offset << PAGE_SHIFT);
		return COR_PAGE_NOT_FOUND;
	}
	atomic_fetch_add_explicit(&container_of(rep, struct cor_rep, rep)->fills, 1,
				  memory_order_relaxed);
	ledger_cross(&in_kernel, &server, BY_MESSAGE,
		     "calls its server, a worker on this CPU (PPC), to fill the page");
	ledger_cross(&server, &in_kernel, BY_RETURN, "the I/O is under way: a fault id above 0");
	return COR_STARTED;
}
