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
 * Raising takes no lock: a binding is never freed while the dispatcher lives, and who takes one
 * away waits until nobody runs it.  Installing and taking away: any thread, one at a time, and not
 * from within a handler.
 */
#ifndef VMF_SPIN_DISPATCHER_H
#define VMF_SPIN_DISPATCHER_H

#include "engine/fault/fault.h"

#define SPIN_BINDINGS 256 /* at most, of all events */
#define SPIN_KERNEL   0	  /* the extension that is trusted: the kernel's own modules */
#define SPIN_ANY_KEY  0	  /* for every address space */

/* What a fault raises: the reference names them Trap.InvalidTranslation ... */
enum spin_event {
	SPIN_INVALID_TRANSLATION,
	SPIN_PROTECTION_FAULT,
	SPIN_ACCESS_VIOLATION,
	NR_SPIN_EVENTS
};

enum spin_order { SPIN_FIRST, SPIN_NORMAL, SPIN_LAST, NR_SPIN_ORDERS };

/* The arguments of all three. */
struct spin_fault {
	unsigned cpu;
	u64 key; /* the address space, 1 and up */
	u64 va;
	u32 code;		    /* the hardware's error code */
	bool done;		    /* a handler has dealt with it */
	struct fault_result result; /* if done: what came of it; if not: why not */
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
/* Take one's own away; when it returns nobody runs it.  0, -EBADF (no such handle, or not any
 * more), -EACCES (another's). */
int spin_uninstall(struct spin_dispatcher *d, u32 extension, s64 handle);
/* How many handlers ran. */
unsigned spin_raise(struct spin_dispatcher *d, enum spin_event event, struct spin_fault *fault);

#endif
