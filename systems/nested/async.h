/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous page faults, as between KVM and its guests: the guest touches a page that the host
 * has put away.  Instead of stopping the vCPU until it is back, the hypervisor gives it vector 14
 * with a token where the address would be; the guest's kernel parks the task and runs another; when
 * the page is there, an interrupt tells the token, and the task goes on.
 *
 * Both sides share an area in the guest's memory of two words:
 *
 *   the fault      host: flags = 1, CR2 = token        guest: reads flags and resets it, before it
 *                                                      may fault again; parks the task by the token
 *   the page       host: token, and the interrupt      guest: reads token and resets it, says so to
 *                                                      the host (ACK), wakes the task
 *
 * So the host writes neither word before the guest has reset it.  The page may come before the task
 * sleeps: then the guest keeps the token, and who comes to sleep by it does not.
 *
 * All by the thread of the vCPU, but for async_complete(), which may be another's, in turn.
 */
#ifndef VMF_NESTED_ASYNC_H
#define VMF_NESTED_ASYNC_H

#include "systems/nested/host.h"

/* The MSR by which the guest says what it can. */
#define ASYNC_ENABLED (1u << 0)
#define ASYNC_KERNEL  (1u << 1) /* it may come while the guest's kernel runs, too */

#define ASYNC_PAGES	  16
#define ASYNC_NOT_PRESENT 1u	      /* area.flags */
#define ASYNC_WAKE_ALL	  0xffffffffu /* a token: all that sleep on this vCPU */

struct async_area {
	u32 flags, token;
};

/* The hypervisor's, of one vCPU. */
struct async_host {
	u32 msr;
	struct async_area *area; /* in the guest */
	u32 sequence;
	bool unacknowledged; /* an interrupt was sent */
	unsigned n;
	struct {
		u32 token;
		u64 page; /* of the monitor's memory */
		bool done;
	} pages[ASYNC_PAGES];
};

/* The guest's kernel's, of one vCPU. */
struct async_guest {
	struct async_area area;
	unsigned n;
	struct {
		u32 token;
		bool came;	   /* before anybody slept */
	} tokens[2 * ASYNC_PAGES]; /* those on the way, and those told of */
};

/* The page, which is away, is brought by somebody else, and the guest is told *token.  False: the
 * vCPU has to wait for it: the guest does not want it, or not in its kernel, has not read the last,
 * sleeps for this page already, or for too many. */
bool async_begin(struct async_host *h, u64 page, bool user, u32 *token);
/* The host reads what was asked for, all of it.  How many pages came. */
unsigned async_complete(struct async_host *h, struct host_memory *memory);
/* A page has come, and the guest can be told: the area says which, and an interrupt is due. */
bool async_deliver(struct async_host *h);
/* The guest has migrated, or its monitor gives up: all that sleep are to look for themselves. */
void async_wake_all(struct async_host *h);
/* The guest's ACK.  -EINVAL: nothing was sent, or the area is not reset. */
int async_acknowledge(struct async_host *h);

/* Vector 14 in the guest.  1: the task sleeps by the token; 0: the page is there already; -ENOENT:
 * the area says that it is an ordinary fault; -EEXIST: somebody sleeps by this token; -ENOSPC. */
int async_guest_fault(struct async_guest *g, u32 cr2);
/* The interrupt in the guest: 1: *token's task goes on (or all); 0: it does not sleep yet; -ENOENT:
 * there is no token; -ENOSPC. */
int async_guest_ready(struct async_guest *g, u32 *token);

#endif
