/* SPDX-License-Identifier: MIT */
/*
 * Accesses that may raise a signal.  The handler notes what came and goes on behind the access.
 */
#include <signal.h>
#include <ucontext.h>

#include "machine/linux/sys.h"
#include "tests/differential/runner.h"

/* No instruction of these moves the stack pointer, so that all may leave by the one `ret`.  A fetch
 * that succeeds meets HLT, or zeros: ADD %al,(%rax), with an address in %rax that is not canonical.
 * Both raise a general protection fault at the address fetched from. */
__asm__(".text\n"
	".p2align 12\n"
	"oracle_load: mov (%rdi), %rax\n"
	"	ret\n"
	"oracle_store: mov %rsi, (%rdi)\n"
	"	ret\n"
	"oracle_fetch: movabs $0x8000000000000000, %rax\n"
	"	jmp *%rdi\n"
	"oracle_out: ret\n"
	"oracle_restore: mov $15, %eax\n" /* rt_sigreturn */
	"	syscall\n");

u64 oracle_load(u64 addr);
void oracle_store(u64 addr, u64 value);
void oracle_fetch(u64 addr);
void oracle_out(void);
void oracle_restore(void);

static struct scratch *handler_scratch;

static void handler(int number, siginfo_t *info, void *context)
{
	struct scratch *s = handler_scratch;
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;

	if (!s->touching)
		sys(exit_group, 128 + number);
	s->touching = 0;
	s->touch_ip = regs[REG_RIP];
	s->signal.number = number;
	s->signal.code = info->si_code;
	s->signal.address = (u64)info->si_addr;
	s->signal.trap = regs[REG_TRAPNO];
	s->signal.error = regs[REG_ERR];
	s->signal.cr2 = regs[REG_CR2];
	regs[REG_RIP] = (greg_t)oracle_out;
}

void touch_init(struct scratch *scratch)
{
	/* The kernel's own layout: libc's handlers may be wrapped by a sanitizer. */
	struct {
		void (*handler)(int, siginfo_t *, void *);
		unsigned long flags;
		void (*restore)(void);
		u64 mask;
	} action = { handler, SA_SIGINFO | SA_ONSTACK | 0x04000000, oracle_restore, 0 };
	stack_t stack = { .ss_sp = scratch->signal_stack,
			  .ss_size = sizeof(scratch->signal_stack) };

	handler_scratch = scratch;
	sys(sigaltstack, &stack, NULL);
	sys(rt_sigaction, SIGSEGV, &action, NULL, sizeof(u64));
	sys(rt_sigaction, SIGBUS, &action, NULL, sizeof(u64));
}

static void begin(struct scratch *s)
{
	s->signal.number = 0;
	s->touching = 1;
	__asm__ volatile("" ::: "memory");
}

static void end(struct scratch *s)
{
	__asm__ volatile("" ::: "memory");
	s->touching = 0;
}

u64 touch_read(struct scratch *s, u64 addr)
{
	u64 value;

	begin(s);
	value = oracle_load(addr);
	end(s);
	return s->signal.number ? 0 : value;
}

void touch_write(struct scratch *s, u64 addr, u64 value)
{
	begin(s);
	oracle_store(addr, value);
	end(s);
}

void touch_exec(struct scratch *s, u64 addr)
{
	s64 upper = (s64)addr >> 47;

	begin(s);
	oracle_fetch(addr);
	end(s);
	if (s->signal.trap == 13 && s->touch_ip == addr && (upper == 0 || upper == -1))
		s->signal.number = 0;
}
