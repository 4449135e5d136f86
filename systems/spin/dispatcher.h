/* SPDX-License-Identifier: MIT */
/*
 * SPIN's dispatcher: events, and the handlers that extensions have installed for them (Bershad et
 * al., SOSP 1995).
 *
 * An event is raised; each handler installed for it whose guards allow it runs, those installed
 * First before others, those installed Last after them.  Whoever owns an event authorizes each
 * installation, and may impose a guard: then the handler runs only for one key (an address space),
 * whatever its own guard says.  A handler looks whether `done` is set already, and sets it; guards
 * cannot say "it is mine" for good, for guard and handler are not one step.
 *
 * Extensions name what they installed by handles, which are checked, and never by pointers.
 *
 * Raising takes no lock: it runs who was installed when it began and is installed still.  A binding
 * is never freed while the dispatcher lives; who takes one away waits until nobody runs it, but not
 * for ever: a handler that does not end is not run again, and keeps its binding until it does.
 * Installing and taking away: any thread, one at a time, and not from within a handler.
 */
#ifndef VMF_SPIN_DISPATCHER_H
#define VMF_SPIN_DISPATCHER_H

#include "engine/fault/fault.h"
#include "engine/reclaim/chosen.h"

#define SPIN_BINDINGS 256  /* at most, of all events */
#define SPIN_PATIENCE 1000 /* ms that a handler is waited for */
#define SPIN_KERNEL   0	   /* the extension that is trusted: the kernel's own modules */
#define SPIN_ANY_KEY  0	   /* for every address space */

/* The reference names them Trap.InvalidTranslation ... and PhysAddr.Reclaim ... */
enum spin_event {
	SPIN_INVALID_TRANSLATION, /* what a fault raises */
	SPIN_PROTECTION_FAULT,
	SPIN_ACCESS_VIOLATION,
	SPIN_RECLAIM,	/* memory is short: a page has to go */
	SPIN_REPOSSESS, /* a page has been written out, its frame is free */
	NR_SPIN_EVENTS
};

#define NR_SPIN_TRAPS SPIN_RECLAIM /* events that are an address space's */

enum spin_order { SPIN_FIRST, SPIN_NORMAL, SPIN_LAST, NR_SPIN_ORDERS };

/* Of Reclaim: the pages there are, and those that are to go. */
struct spin_reclaim {
	struct lruvec *pages;
	struct page_handle *next; /* room for MMU_BATCH */
	unsigned n;
	bool neighbours; /* they may take those around them along */
};

/* The key of Reclaim and Repossess of the frames that an extension has from PhysAddr. */
static inline u64 spin_frames_of(u32 extension)
{
	return 1ULL << 63 | extension;
}

/* The arguments of all. */
struct spin_fault {
	unsigned cpu;
	u64 key;   /* the address space, 1 and up; SPIN_ANY_KEY: the event is no space's */
	u64 va;	   /* of the fault; of the page that went */
	u32 code;  /* of a fault: the hardware's error code */
	bool done; /* a handler has dealt with it */
	struct fault_result result; /* of a fault, if done: what came of it; if not: why not */
	/* Reclaim and Repossess are about pages of spaces (reclaim, va), or about a frame of an
	 * extension's own: its handle; a handler of Reclaim may name another instead. */
	struct spin_reclaim *reclaim;
	s64 frame;
};

typedef void (*spin_handler_fn)(void *closure, struct spin_fault *fault);
/* Has no effects. */
typedef bool (*spin_guard_fn)(void *closure, const struct spin_fault *fault);

struct spin_installation {
	u32 extension; /* who asks */
	enum spin_event event;
	enum spin_order order;
	spin_handler_fn handler;
	spin_guard_fn guard; /* NULL: none of its own */
	void *closure;
	u64 key; /* the space it is for, or SPIN_ANY_KEY */
};

/* May it be installed?  0, or -EACCES.  *imposed: the key it is held to from now on. */
typedef int (*spin_authorizer_fn)(void *arg, const struct spin_installation *i, u64 *imposed);

struct spin_dispatcher;

/* 0, -ENOMEM. */
int spin_dispatcher_create(spin_authorizer_fn authorizer, void *arg, struct spin_dispatcher **d);
void spin_dispatcher_destroy(struct spin_dispatcher *d);

/* A handle, > 0; -EACCES (the authorizer refuses), -EINVAL (no such event or order), -ENOSPC. */
s64 spin_install(struct spin_dispatcher *d, const struct spin_installation *i);
/* Take one's own away; when it returns 0 nobody runs it.  -EBADF (no such handle, or not any more),
 * -EACCES (another's), -EBUSY: nobody comes to run it any more, but who does has not ended within
 * SPIN_PATIENCE; its closure must stay, and the same may be asked again. */
int spin_uninstall(struct spin_dispatcher *d, u32 extension, s64 handle);
/* How many handlers ran. */
unsigned spin_raise(struct spin_dispatcher *d, enum spin_event event, struct spin_fault *fault);

#endif
