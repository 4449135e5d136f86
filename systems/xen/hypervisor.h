/* SPDX-License-Identifier: MIT */
/*
 * Xen itself, for one paravirtualised guest: traps that bounce into it, and the hypercalls by which
 * it asks for what it must not do.
 *
 * The guest's kernel and its programs are both in ring 3, in two address spaces: Xen goes from one
 * to the other by a load of CR3.  The soft CPU keeps one set of tables for both, of which the upper
 * half is the guest kernel's, and runs that kernel in supervisor mode; the load, and with it the
 * loss of all translations, is made all the same.
 */
#ifndef VMF_SYSTEMS_XEN_HYPERVISOR_H
#define VMF_SYSTEMS_XEN_HYPERVISOR_H

#include "machine/soft/soft.h"
#include "systems/ledger.h"
#include "systems/xen/frames.h"

/* Xen's own addresses in every space. */
#define XEN_START 0xffff800000000000ULL
#define XEN_END	  0xffff880000000000ULL

#define XEN_TRAPS      32
#define XEN_TRAP_PAGE  14
#define XEN_TRAP_MASKS 4 /* flag of a trap: events are masked when its handler begins */

/* Xen runs in whichever space was there when it was entered. */
extern const struct ledger_actor xen_in_program, xen_in_guest, xen_guest;

struct xen;

/* What Xen puts on the guest kernel's stack, from the lowest address on. */
struct xen_bounce_frame {
	u64 rcx, r11, error, rip, cs, rflags, rsp, ss;
};
#define XEN_CS_USER    0xe033ULL /* its lowest two bits say who goes on after iret */
#define XEN_CS_KERNEL  0xe030ULL
#define XEN_CS_MASKED  (1ULL << 32) /* events were masked */
#define XEN_RFLAGS_IF  (1ULL << 9)  /* events were not */
#define XEN_USER_STACK 0x7ffffffff000ULL

/* A handler that the guest has registered: it ends with xen_iret(). */
typedef struct fault_result (*xen_handler_fn)(struct xen *x, struct soft_cpu *cpu, u32 code);

struct xen_trap {
	u8 vector, flags; /* XEN_TRAP_* */
	xen_handler_fn address;
};

/* A store of the guest kernel's that is being executed: what Xen decodes at its RIP. */
struct xen_store {
	u64 va, value;
	unsigned bytes; /* 0: the kernel executes none */
	int result;	/* of Xen's emulation */
	pte_t old;	/* what was there before */
	bool emulated;
};

/* One virtual CPU.  Of the thread that drives the CPU, but for what both share. */
struct xen_vcpu {
	/* Shared with the guest (struct vcpu_info). */
	u64 cr2;
	bool upcall_mask, upcall_pending;
	/* Xen's. */
	u64 kernel_sp; /* where the guest kernel's stack begins */
	u64 sp;	       /* of who runs now */
	bool in_kernel;
	bool storing;	     /* Xen stores to the guest's stack: a fault there is Xen's own */
	_Atomic u64 base;    /* the frame in CR3 */
	_Atomic u64 flushed; /* frames.clock when it last dropped all translations */
	struct xen_store store;
};

struct xen {
	struct soft_machine *machine;
	struct frames frames;
	struct xen_trap traps[XEN_TRAPS];
	xen_handler_fn event; /* the guest's callback for event channels */
	bool writable_tables; /* VM_ASSIST: stores to L1 tables are emulated */
	bool crashed;	      /* the domain */
	struct xen_vcpu vcpus[SOFT_MAX_CPUS];
};

/* All frames are the guest's, but for two more without bytes: Xen's, and another domain's.  Every
 * vCPU is in user mode and has no base.  0, -ENOMEM. */
int xen_init(struct xen *x, struct soft_machine *m);
void xen_fini(struct xen *x);
#define XEN_OWN_FRAME(x)     ((x)->frames.nr - 2)
#define XEN_FOREIGN_FRAME(x) ((x)->frames.nr - 1)

/* The CPU whose vCPU this thread is. */
unsigned xen_cpu(const struct xen *x);

/* The CPU that this thread drives, if it runs the guest's kernel; NULL. */
struct soft_cpu *xen_running_cpu(struct xen *x);

/* ---- hypercalls; the first three are free of charge, as they are made once ---- */

/* 0, -EINVAL (no such vector). */
int xen_set_trap_table(struct xen *x, const struct xen_trap *traps, unsigned n);
void xen_set_callbacks(struct xen *x, xen_handler_fn event);
int xen_stack_switch(struct xen *x, unsigned cpu, u64 sp);

/* One hypercall with so many operations begins; xen_return() ends it.  What an operation does is
 * one of the functions below it, as many as were said. */
void xen_hypercall(const char *what, u64 operations);
void xen_return(void);

/* update_va_mapping: the leaf of va, in the tables that the CPU has loaded.  As frames_update();
 * -EINVAL: there is no table for it. */
int xen_update_va(struct xen *x, unsigned cpu, u64 va, pte_t pte, pte_t *old);
/* mmu_update: the entry at a machine address.  -EINVAL: it is not aligned. */
int xen_mmu_update(struct xen *x, u64 address, pte_t pte, bool keep, pte_t *old);
/* mmuext_op: NEW_BASEPTR.  The table is held as a root, what was there is let go. */
int xen_new_baseptr(struct xen *x, unsigned cpu, u64 pfn);

/* The return from a handler: the frame on the guest's stack says to where; `what`: it, in words.
 * -EFAULT: there is none; the domain has crashed. */
int xen_iret(struct xen *x, struct soft_cpu *cpu, const char *what);

/* ---- events and the scheduler ---- */

/* An event is pending; if the vCPU, which runs the guest's kernel, does not mask it, the guest's
 * callback runs, and has returned.  Else it will when it is not masked any more. */
bool xen_raise_event(struct xen *x, struct soft_cpu *cpu);
/* The guest has events come again: those that are pending do.  A hypercall if there are. */
void xen_unmask_events(struct xen *x, struct soft_cpu *cpu);
/* The CPU goes to another domain, or comes back. */
void xen_switch_domain(struct xen *x, struct soft_cpu *cpu);

/* ---- from the hardware ---- */

/* #PF. */
struct fault_result xen_page_fault(struct xen *x, struct soft_cpu *cpu, u64 cr2, u32 code);
/* The program's syscall: the guest's kernel runs when this returns.  0, -EFAULT (the domain has
 * crashed). */
int xen_syscall(struct xen *x, struct soft_cpu *cpu, const char *what);

/* The guest kernel's own store to its memory; with writable_tables an L1 table may be there.  0,
 * -EFAULT (it faults), or why what is stored is refused, as frames_update(); -EINVAL, too, if it
 * is no aligned store of 8, 4, 2 or 1 bytes. */
int xen_guest_store(struct xen *x, struct soft_cpu *cpu, u64 va, u64 value, unsigned bytes);
/* The same of a whole entry of an L1 table that is not to be written otherwise; *old: what was
 * there.
 */
int xen_guest_exchange(struct xen *x, struct soft_cpu *cpu, u64 va, pte_t pte, pte_t *old);

#endif
