/* SPDX-License-Identifier: MIT */
#include "machine/linux/thread.h"
#include "engine/mmu/pte.h"
#include "machine/linux/arena.h"
#include "machine/linux/signals.h"
#include "machine/linux/sys.h"

#include <errno.h>
#include <link.h>
#include <sched.h>

/* Room below the thread pointer, where libraries expect their initial-exec variables: at least, and
 * at most. */
#define LEAST_BELOW PAGE_SIZE
#define MOST_BELOW  (64 * 1024)

static u64 tls_below = LEAST_BELOW;

_Static_assert(sizeof(struct agent_thread) <= PAGE_SIZE, "a page is what thread_new() allocates");

/* Those that a library has from the start are below the thread pointer. */
static int measure(struct dl_phdr_info *info, size_t size, void *arg)
{
	u64 self = (u64)__builtin_thread_pointer(), at = (u64)info->dlpi_tls_data;

	(void)size, (void)arg;
	if (at && at < self && self - at <= MOST_BELOW)
		tls_below = max_of(tls_below, (u64)PAGE_ALIGN(self - at));
	return 0;
}

void thread_measure_libcs(void)
{
	dl_iterate_phdr(measure, NULL);
}

bool thread_is_like_libcs(void)
{
	u64 self = (u64)__builtin_thread_pointer(), at = (u64)&errno;

	return at < self && self - at <= tls_below;
}

struct agent_thread *thread_new(void)
{
	char *block = arena_alloc(tls_below + PAGE_SIZE);
	struct agent_thread *t;

	if (!block)
		return NULL;
	t = (struct agent_thread *)(block + tls_below);
	t->stack = arena_alloc(AGENT_STACK);
	if (!t->stack)
		return NULL;
	t->self = t->self_too = t;
	return t;
}

/* clone(flags, stack, tls) and, in the child, fn(arg) and exit. */
long clone_thread(unsigned long flags, void *stack, void *tls, void (*fn)(struct agent_thread *),
		  void *arg);
__asm__(".text\n"
	".type clone_thread, @function\n"
	".hidden clone_thread\n"
	"clone_thread:\n"
	"	sub $16, %rsi\n"
	"	mov %rcx, (%rsi)\n"
	"	mov %r8, 8(%rsi)\n"
	"	mov %rdx, %r8\n"
	"	xor %edx, %edx\n"
	"	xor %r10d, %r10d\n"
	"	mov $56, %eax\n" /* clone */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	ret\n"
	"1:	xor %ebp, %ebp\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	call *%rax\n"
	"	xor %edi, %edi\n"
	"	mov $60, %eax\n" /* exit: of this thread */
	"	syscall\n"
	"	hlt\n"
	".size clone_thread, . - clone_thread\n");

long thread_start(struct agent_thread *t, void (*fn)(struct agent_thread *t))
{
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			      CLONE_SYSVSEM | CLONE_SETTLS;
	u64 mask = signals_block();
	long tid;

	tid = clone_thread(flags, (char *)t->stack + AGENT_STACK, t, fn, t);
	signals_restore(mask);
	if (tid > 0)
		t->tid = (int)tid;
	return tid;
}

void stack_switch(void *stack_top, void (*fn)(void));
__asm__(".text\n"
	".type stack_switch, @function\n"
	".hidden stack_switch\n"
	"stack_switch:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	mov %rdi, %rsp\n"
	"	call *%rsi\n"
	"	mov %rbp, %rsp\n"
	"	pop %rbp\n"
	"	ret\n"
	".size stack_switch, . - stack_switch\n");

void thread_on_stack(void *stack_top, void (*fn)(void))
{
	stack_switch(stack_top, fn);
}
