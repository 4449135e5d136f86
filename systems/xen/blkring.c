/* SPDX-License-Identifier: MIT */
#include "systems/xen/blkring.h"
#include "engine/base/errno.h"

static const struct ledger_actor driver = { .name = "the driver's domain", .ring = 3, .domain = 3 };
static const struct ledger_actor xen_in_driver = { .name = "Xen", .ring = 0, .domain = 3 };

/* ---- grants ---- */

int blkring_grant(struct blkring *r, u64 pfn, u32 rights)
{
	for (u32 i = 0; i < BLK_GRANTS; i++) {
		if (r->grants[i].rights)
			continue;
		r->grants[i] = (struct xen_grant){ .rights = rights, .pfn = pfn };
		return (int)i;
	}
	return -ENOSPC;
}

int blkring_end_grant(struct blkring *r, u32 grant)
{
	if (r->grants[grant].maps)
		return -EBUSY;
	r->grants[grant].rights = 0;
	return 0;
}

static enum frame_type held_for(bool write)
{
	return write ? FRAME_WRITABLE : FRAME_NONE;
}

int xen_grant_map(struct blkring *r, u32 grant, bool write, u64 *pfn)
{
	struct xen_grant *g = &r->grants[grant % BLK_GRANTS];
	int err;

	if (grant >= BLK_GRANTS || !g->rights)
		return -ENOENT;
	if (write && !(g->rights & GRANT_WRITE))
		return -EACCES;
	*pfn = g->pfn;
	err = frames_hold(&r->xen->frames, XEN_GUEST, *pfn, held_for(write));
	if (!err)
		g->maps++;
	return err;
}

void xen_grant_unmap(struct blkring *r, u32 grant, bool write, u64 pfn)
{
	r->grants[grant].maps--;
	frames_let_go(&r->xen->frames, pfn, held_for(write));
}

/* ---- the driver's domain ---- */

static void driver_calls(const char *what)
{
	ledger_cross(&driver, &xen_in_driver, BY_HYPERCALL, what);
	ledger_count(PAID_OPERATIONS);
}

static void driver_returns(void)
{
	ledger_cross(&xen_in_driver, &driver, BY_RETURN, "the hypercall returns");
}

static int transfer(struct blkring *r, const struct blk_entry *request, char *bytes)
{
	ledger_step(&driver, "does what the request says", 0);
	return request->op == BLK_READ ? r->disk->load(r->store, request->slot, bytes)
				       : r->disk->save(r->store, request->slot, bytes);
}

static int serve(struct blkring *r, const struct blk_entry *request)
{
	bool reads = request->op == BLK_READ;
	u64 pfn = 0;
	int status;

	if (request->op > BLK_WRITE || request->slot >= r->store->nr_slots)
		return -EINVAL;
	driver_calls("grant_table_op: map the frame that is granted");
	status = xen_grant_map(r, request->grant, reads, &pfn);
	driver_returns();
	if (status)
		return status;
	status = transfer(r, request, r->xen->machine->memory + (pfn << PAGE_SHIFT));
	driver_calls("grant_table_op: unmap it");
	xen_grant_unmap(r, request->grant, reads, pfn);
	driver_returns();
	return status;
}

unsigned blkring_serve(struct blkring *r)
{
	u32 requests = r->page->requests; /* once: the guest may change it */
	unsigned n = 0;

	/* A guest that says more than there is room for is not believed. */
	if (requests - r->taken > BLK_ENTRIES)
		return 0;
	for (; r->taken != requests; n++) {
		struct blk_entry e = r->page->entries[r->taken++ % BLK_ENTRIES];

		e.status = serve(r, &e);
		r->page->entries[r->page->responses % BLK_ENTRIES] = e;
		r->page->responses++;
	}
	return n;
}

/* It has waited for the guest's event. */
static void driver_runs(struct blkring *r)
{
	r->driver_event = false;
	if (!blkring_serve(r))
		return;
	driver_calls("event_channel_op: send, to the guest");
	driver_returns();
}

/* ---- the guest ---- */

int blkring_request(struct blkring *r, const struct blk_entry *request)
{
	struct blk_page *page = r->page;

	if (page->requests - r->seen >= BLK_ENTRIES)
		return -EAGAIN;
	page->entries[page->requests % BLK_ENTRIES] = *request;
	page->requests++;
	return 0;
}

void blkring_responses(struct blkring *r)
{
	while (r->seen != r->page->responses) {
		const struct blk_entry *e = &r->page->entries[r->seen++ % BLK_ENTRIES];

		if (e->id == r->waiting_for)
			r->status = e->status;
	}
}

/* The CPU is another domain's for a while; then the guest's event is pending. */
static void wait_for_the_driver(struct blkring *r)
{
	struct soft_cpu *cpu = xen_running_cpu(r->xen);

	xen_hypercall(cpu ? "sched_op: block until there is an event"
			  : "sched_op: poll the channel until there is an event",
		      0);
	ledger_cross(&xen_in_guest, &driver, BY_SWITCH, "runs the driver's domain: its event");
	if (cpu)
		xen_switch_domain(r->xen, cpu);
	driver_runs(r);
	ledger_cross(&driver, &xen_in_driver, BY_HYPERCALL, "sched_op: block");
	ledger_cross(&xen_in_driver, &xen_in_guest, BY_SWITCH, "runs the guest: its event");
	if (cpu)
		xen_switch_domain(r->xen, cpu);
	if (!cpu || !xen_raise_event(r->xen, cpu))
		xen_return();
}

/* One page, from or to the store.  0 or more, or a negative errno. */
static int do_io(struct blkring *r, enum blk_op op, u64 slot, const void *bytes)
{
	u64 pfn = (u64)((const char *)bytes - r->xen->machine->memory) >> PAGE_SHIFT;
	struct blk_entry request = { .slot = slot, .op = op };
	int grant, status;

	spin_lock(&r->lock);
	r->waiting_for = request.id = ++r->next_id;
	r->status = -EIO;
	grant = blkring_grant(r, pfn, op == BLK_READ ? GRANT_READ | GRANT_WRITE : GRANT_READ);
	request.grant = (u32)grant;
	status = grant < 0 ? grant : blkring_request(r, &request);
	if (!status) {
		ledger_step(&xen_guest, "grants the frame, and puts a request into the ring", 0);
		xen_hypercall("event_channel_op: send, to the driver's domain", 1);
		r->driver_event = true;
		xen_return();
		wait_for_the_driver(r);
		blkring_responses(r); /* if no handler of the event has */
		status = r->status;
	}
	if (grant >= 0)
		blkring_end_grant(r, (u32)grant);
	spin_unlock(&r->lock);
	return status;
}

/* ---- as the engine's store ---- */

static struct blkring *ring_of(struct store *store)
{
	return container_of((struct store_ops *)store->ops, struct blkring, ops);
}

static int save(struct store *store, u64 slot, const void *bytes)
{
	return do_io(ring_of(store), BLK_WRITE, slot, bytes);
}

static int load(struct store *store, u64 slot, void *bytes)
{
	return do_io(ring_of(store), BLK_READ, slot, bytes);
}

void blkring_init(struct blkring *r, struct xen *x, void *page, struct store *store)
{
	*r = (struct blkring){
		.xen = x, .page = page, .store = store, .disk = store->ops, .ops = *store->ops
	};
	spin_init(&r->lock);
	r->ops.save = save;
	r->ops.load = load;
	store->ops = &r->ops;
}

void blkring_fini(struct blkring *r)
{
	if (r->disk)
		r->store->ops = r->disk;
}
