/* SPDX-License-Identifier: MIT */
/* vmfault: the command.  Finds the verb and leaves the rest to it. */
#include <stdio.h>
#include <string.h>

#include "tools/say.h"
#include "tools/verbs.h"

static const struct verb {
	const char *name;
	int (*call)(int argc, char **argv);
	const char *what;
} verbs[] = {
	{ "run", verb_run, "run a program with its memory held to a limit" },
	{ "lab", verb_lab, "have different systems field the same faults, and compare them" },
	{ "oracle", verb_oracle, "compare the engine with the running kernel" },
};

enum { NR_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void help(void)
{
	printf("Usage: vmfault VERB [OPTIONS] ...\n"
	       "\n"
	       "Verbs:\n");
	for (unsigned i = 0; i < NR_VERBS; i++)
		printf("  %-8s %s\n", verbs[i].name, verbs[i].what);
	printf("\n"
	       "  vmfault VERB --help   what the verb takes\n"
	       "  vmfault --version     which vmfault this is\n"
	       "\n"
	       "Example: vmfault run --memory 64M -- sort -S 100%% -o sorted.txt big.txt\n");
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : NULL;

	if (!verb) {
		say("no verb; try: vmfault run --memory 64M -- PROGRAM, or vmfault --help");
		return EXIT_TROUBLE;
	}
	if (!strcmp(verb, "--help") || !strcmp(verb, "-h")) {
		help();
		return 0;
	}
	if (!strcmp(verb, "--version")) {
		printf("vmfault %s\n", VMFAULT_VERSION);
		return 0;
	}
	for (unsigned i = 0; i < NR_VERBS; i++)
		if (!strcmp(verb, verbs[i].name))
			return verbs[i].call(argc - 1, argv + 1);
	say("'%s' is no verb of vmfault; see vmfault --help", verb);
	return EXIT_TROUBLE;
}
