/* SPDX-License-Identifier: MIT */
/*
 * See spawn.h.
 *
 * The program stays in the command's process group, so that it may read from the terminal and the
 * shell's job control works on both.  Signals, then:
 *
 *   sent by a process to the command (kill, timeout, a supervisor)   passed on
 *   sent by the terminal or another part of the kernel (^C, ^Z, ^\,  not passed on: the kernel
 *   window size)                                                     sends them to the whole group,
 *                                                                    the program has its own
 *   hang-up, when the command leads the session                      passed on: the kernel tells
 *                                                                    the leader only
 *   ignored when the command was started (nohup, & in a script)      stay ignored in both
 *
 * The kernel's own are told by si_code == SI_KERNEL.  A process that signals the whole group
 * (kill 0) reaches the program twice; that cannot be told apart from one that means the command.
 *
 * When ^Z stops the program, the command stops, too, so that the shell sees it; `fg` continues
 * both.  The command never ends before the program, except by SIGKILL, which takes the program
 * along (PR_SET_PDEATHSIG).
 *
 * All those signals are blocked and fetched one by one: no handler runs, nothing is interrupted.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/say.h"
#include "tools/spawn.h"
#include "tools/verbs.h"

/* What the command changes in itself and the program must not see. */
struct inherited {
	sigset_t mask;
	struct sigaction child, pipe;
};

/* Faults of the command itself, and what nobody can catch. */
static bool never_passed_on(int sig)
{
	switch (sig) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGSYS:
	case SIGKILL:
	case SIGSTOP:
	case SIGCHLD:
	case SIGPIPE:
	case SIGTTIN:
	case SIGTTOU:
		return true;
	default:
		return false;
	}
}

static bool ignored(int sig)
{
	struct sigaction action;

	return sigaction(sig, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static void signals_take(struct inherited *before, sigset_t *waited)
{
	struct sigaction usual = { .sa_handler = SIG_DFL }, none = { .sa_handler = SIG_IGN };

	sigaction(SIGCHLD, &usual, &before->child);
	sigaction(SIGPIPE, &none, &before->pipe);
	sigemptyset(waited);
	sigaddset(waited, SIGCHLD);
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		if (!never_passed_on(sig) && !ignored(sig))
			sigaddset(waited, sig);
	sigprocmask(SIG_BLOCK, waited, &before->mask);
}

static void signals_restore(const struct inherited *before)
{
	sigaction(SIGCHLD, &before->child, NULL);
	sigaction(SIGPIPE, &before->pipe, NULL);
	sigprocmask(SIG_SETMASK, &before->mask, NULL);
}

/* A file of no known kind is the shell's, as execvp() has it. */
static void exec_by_shell(const char *path, char **argv, char **environment)
{
	char **with_shell;
	size_t n = 0;

	while (argv[n])
		n++;
	with_shell = calloc(n + 2, sizeof(*with_shell));
	if (!with_shell)
		return;
	with_shell[0] = "/bin/sh";
	with_shell[1] = (char *)path;
	for (size_t i = 1; i < n; i++)
		with_shell[i + 1] = argv[i];
	execve(with_shell[0], with_shell, environment);
}

static _Noreturn void become_program(const char *path, char **argv, char **environment,
				     const struct inherited *before, pid_t command, int failed)
{
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != command)
		_exit(EXIT_TROUBLE);
	signals_restore(before);
	execve(path, argv, environment);
	if (errno == ENOEXEC)
		exec_by_shell(path, argv, environment);
	n = write(failed, &errno, sizeof(errno));
	_exit(n > 0 ? EXIT_TROUBLE : EXIT_NOT_EXECUTABLE);
}

/* The terminal's foreground job is this one. */
static bool in_foreground(void)
{
	int tty = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bool yes;

	if (tty < 0)
		return false;
	yes = tcgetpgrp(tty) == getpgrp();
	close(tty);
	return yes;
}

static bool stopped_by_terminal(int status)
{
	int sig = WSTOPSIG(status);

	return (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU) && in_foreground();
}

/* The child's end, if that is what SIGCHLD was about. */
static bool child_ended(pid_t pid, int *status)
{
	for (;;) {
		pid_t got = waitpid(pid, status, WNOHANG | WUNTRACED);

		if (got != pid)
			return false;
		if (!WIFSTOPPED(*status))
			return true;
		if (stopped_by_terminal(*status))
			kill(getpid(), SIGSTOP);
	}
}

static void pass_on(pid_t pid, const siginfo_t *info)
{
	bool has_its_own = info->si_code == SI_KERNEL;

	if (info->si_signo == SIGHUP && getsid(0) == getpid())
		has_its_own = false;
	if (has_its_own)
		return;
	if (info->si_code == SI_QUEUE)
		sigqueue(pid, info->si_signo, info->si_value);
	else
		kill(pid, info->si_signo);
}

static int wait_for(pid_t pid, const sigset_t *waited)
{
	siginfo_t info;
	int status;

	for (;;) {
		if (sigwaitinfo(waited, &info) < 0)
			continue;
		if (info.si_signo != SIGCHLD)
			pass_on(pid, &info);
		else if (child_ended(pid, &status))
			return status;
	}
}

static int exec_failed(const char *path, int err)
{
	if (err == ENOENT) {
		say("%.500s: no such program, or its interpreter is missing", path);
		return EXIT_NOT_FOUND;
	}
	say("%.500s cannot be executed: %s", path, strerror(err));
	return EXIT_NOT_EXECUTABLE;
}

static double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int spawn_and_wait(const char *path, char **argv, char **environment, struct outcome *out)
{
	struct inherited before;
	sigset_t waited;
	pid_t command = getpid();
	int failed[2], err = 0, status;
	double began;

	if (pipe2(failed, O_CLOEXEC)) {
		say("pipe: %s", strerror(errno));
		return EXIT_TROUBLE;
	}
	signals_take(&before, &waited);
	began = now_seconds();
	out->pid = fork();
	if (out->pid < 0) {
		say("fork: %s", strerror(errno));
		return EXIT_TROUBLE;
	}
	if (out->pid == 0)
		become_program(path, argv, environment, &before, command, failed[1]);
	close(failed[1]);
	if (read(failed[0], &err, sizeof(err)) == sizeof(err)) {
		waitpid(out->pid, NULL, 0);
		return exec_failed(path, err);
	}
	close(failed[0]);
	status = wait_for(out->pid, &waited);
	out->wall_seconds = now_seconds() - began;
	out->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	out->status = out->signal ? EXIT_SIGNAL + out->signal : WEXITSTATUS(status);
	return 0;
}
