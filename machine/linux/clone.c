/* SPDX-License-Identifier: MIT */
/*
 * The other ways to fork: _Fork(), clone() and the bare system calls through libc's syscall().
 *
 * pthread_atfork() hears of none of them, so the same steps are taken here, around the call.  What
 * shares the parent's memory (CLONE_VM: threads, vfork) needs none.  A program that makes the
 * system call with an instruction of its own is beyond us: fork.c has what becomes of its child.
 */
#include "machine/linux/agent.h"
#include "machine/linux/hooks.h"
#include "machine/linux/sys.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

PUBLIC pid_t _Fork(void)
{
	static pid_t (*real)(void);
	pid_t pid;
	int err;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "_Fork");
	if (!agent.keeper)
		return real();
	fork_prepare();
	pid = real();
	err = errno;
	if (!pid)
		fork_in_child();
	else
		fork_in_parent();
	errno = err;
	return pid;
}

/* ---- clone() ---- */

struct start {
	int (*fn)(void *);
	void *arg;
};

/* In the child, on the stack it was given; `p` lies in its copy of the parent's. */
static int clone_child(void *p)
{
	struct start start = *(struct start *)p;

	fork_in_child();
	return start.fn(start.arg);
}

PUBLIC int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	static int (*real)(int (*)(void *), void *, int, void *, ...);
	struct start start = { .fn = fn, .arg = arg };
	void *parent_tid, *tls, *child_tid;
	va_list more;
	int pid, err;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "clone");
	va_start(more, arg);
	parent_tid = va_arg(more, void *);
	tls = va_arg(more, void *);
	child_tid = va_arg(more, void *);
	va_end(more);
	if ((flags & CLONE_VM) || !fn || !stack || !agent.keeper)
		return real(fn, stack, flags, arg, parent_tid, tls, child_tid);
	fork_prepare();
	pid = real(clone_child, stack, flags, &start, parent_tid, tls, child_tid);
	err = errno;
	fork_in_parent();
	errno = err;
	return pid;
}

/* ---- syscall(SYS_fork), syscall(SYS_clone), syscall(SYS_clone3) ---- */

/* Called by the code below, with what syscall() was called with. */
__attribute__((used)) static long fork_by_number(long nr, long a, long b, long c, long d, long e)
{
	long pid;

	fork_prepare();
	pid = sys6(nr, a, b, c, d, e, 0);
	if (!pid)
		fork_in_child();
	else
		fork_in_parent();
	if ((unsigned long)pid <= -4096UL)
		return pid;
	errno = (int)-pid;
	return -1;
}

__attribute__((used)) static long syscall_failed(long err)
{
	errno = (int)-err;
	return -1;
}

/*
 * libc's syscall(), instruction by instruction (some system calls look at the stack they are made
 * on), but for mremap and the calls that fork: fork; clone and clone3 with memory and stack of
 * their own.
 */
long our_syscall(long nr, ...);
__asm__(".text\n"
	".type our_syscall, @function\n"
	".hidden our_syscall\n"
	"our_syscall:\n"
	"	cmp $25, %rdi\n" /* mremap */
	"	je hooks_mremap\n"
	"	cmp $57, %rdi\n" /* fork */
	"	je fork_by_number\n"
	"	cmp $56, %rdi\n" /* clone(flags, stack, ...) */
	"	je 1f\n"
	"	cmp $435, %rdi\n" /* clone3(args, size) */
	"	je 2f\n"
	"0:	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmp $-4095, %rax\n"
	"	jae 3f\n"
	"	ret\n"
	"1:	test $0x100, %esi\n" /* CLONE_VM */
	"	jnz 0b\n"
	"	test %rdx, %rdx\n"
	"	jnz 0b\n"
	"	jmp fork_by_number\n"
	"2:	test %rsi, %rsi\n"
	"	jz 0b\n"
	"	cmp $64, %rdx\n"
	"	jb 0b\n"
	"	testl $0x100, (%rsi)\n" /* flags: CLONE_VM */
	"	jnz 0b\n"
	"	cmpq $0, 40(%rsi)\n" /* stack */
	"	jne 0b\n"
	"	jmp fork_by_number\n"
	"3:	mov %rax, %rdi\n"
	"	jmp syscall_failed\n"
	".size our_syscall, . - our_syscall\n");

void clone_hooks_install(void)
{
	hooks_replace("syscall", (void *)our_syscall);
}
