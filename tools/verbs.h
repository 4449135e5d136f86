/* SPDX-License-Identifier: MIT */
/* The verbs of the vmfault command: one function each, called with the words after `vmfault`. */
#ifndef VMF_TOOLS_VERBS_H
#define VMF_TOOLS_VERBS_H

/* Exit statuses that are the command's own, as of env(1), nohup(1) and timeout(1). */
enum {
	EXIT_TROUBLE = 125,	   /* the command could not do its part */
	EXIT_NOT_EXECUTABLE = 126, /* the program is there but cannot be run */
	EXIT_NOT_FOUND = 127,	   /* there is no such program */
	EXIT_SIGNAL = 128,	   /* plus the number of the signal that ended the program */
};

/* argv[0] is the verb.  The exit status. */
int verb_run(int argc, char **argv);
int verb_oracle(int argc, char **argv);
int verb_lab(int argc, char **argv);

#endif
