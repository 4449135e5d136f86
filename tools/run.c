/* SPDX-License-Identifier: MIT */
/* vmfault run: what is asked, whether it can be done, doing it, telling what happened. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tools/environment.h"
#include "tools/figures.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/probe.h"
#include "tools/program.h"
#include "tools/say.h"
#include "tools/spawn.h"
#include "tools/table.h"
#include "tools/verbs.h"

static void tell(const struct run_options *o, const void *report, const struct outcome *outcome)
{
	static struct figures figures;

	figures_sum(&figures, report, o, outcome);
	if (o->json)
		json_print(&figures);
	else
		table_print(&figures);
	if (o->stats)
		json_write(&figures, o->stats);
}

static int run(const struct run_options *o, const char *program)
{
	char agent[PATH_MAX];
	struct outcome outcome;
	char **environment;
	void *report;
	int fd, status;

	if (!probe_userfaultfd() || !agent_find(agent) ||
	    (!strcmp(o->huge_pages, "keep") && !probe_huge_pages()))
		return EXIT_TROUBLE;
	report = report_create(&fd);
	if (!report)
		return EXIT_TROUBLE;
	environment = environment_make(o, agent, fd);
	if (!environment) {
		say("out of memory");
		return EXIT_TROUBLE;
	}
	if (o->verbose)
		say("running %s with %llu bytes, agent %s", program, (unsigned long long)o->memory,
		    agent);
	status = spawn_and_wait(program, o->program, environment, &outcome);
	if (status)
		return status;
	tell(o, report, &outcome);
	return outcome.status;
}

int verb_run(int argc, char **argv)
{
	char program[PATH_MAX];
	struct run_options options;
	int status;

	if (!options_parse(&options, argc, argv))
		return EXIT_TROUBLE;
	if (options.help) {
		options_help();
		return 0;
	}
	if (options.stats && !json_writable(options.stats))
		return EXIT_TROUBLE;
	status = program_find(options.program[0], program);
	return status ? status : run(&options, program);
}
