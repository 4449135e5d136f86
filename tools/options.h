/* SPDX-License-Identifier: MIT */
/* What the user asks of `vmfault run`. */
#ifndef VMF_TOOLS_OPTIONS_H
#define VMF_TOOLS_OPTIONS_H

#include "engine/base/types.h"
#include "engine/machine.h"

/* With less, a program's own working set of a single system call and the agent's batches do not
 * fit side by side. */
#define MIN_MEMORY	 (16ULL << 20)
#define MAX_MEMORY	 (1ULL << 46)
#define MAX_THREADS	 64
#define DEFAULT_THREADS	 0 /* one for each CPU */
#define MAX_PREFETCH	 MMU_BATCH
#define DEFAULT_PREFETCH 12

struct run_options {
	u64 memory;		/* bytes; never 0 after options_parse() */
	unsigned percent;	/* of an earlier run's peak; 0: memory was given in bytes */
	const char *compress;	/* "lz4", "zstd" or "none" */
	const char *policy;	/* "lru", "gen", "clock" or "fifo" */
	const char *extension;	/* file, or NULL; then policy is "extension" */
	const char *huge_pages; /* "keep" or "split" */
	bool policy_asked;	/* by --policy or --extension */
	unsigned threads;
	unsigned prefetch;
	const char *stats; /* file, or NULL */
	bool watch;	   /* no limit was asked for: memory is all that the machine has */
	bool json;
	bool verbose;
	bool help;
	char **program; /* its name and arguments, NULL at the end */
};

/*
 * Read the words after `run` (argv[0] is the verb), and with `--memory N%` the earlier run's file.
 * False: one line has been said.
 */
bool options_parse(struct run_options *o, int argc, char **argv);
void options_help(void);

/* "64M" and the like; false if it is no size or does not fit. */
bool size_parse(const char *text, u64 *bytes);

#endif
