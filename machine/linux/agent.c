/* SPDX-License-Identifier: MIT */
/* Start-up of the agent: options, the report, the keeper.  See agent.h for what it is. */
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/extension.h"
#include "machine/linux/hooks.h"
#include "machine/linux/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct agent agent;

void agent_warn(const char *text)
{
	char *why = agent.slot->why;

	if (why[0])
		return;
	for (unsigned i = 0; i < sizeof agent.slot->why - 1 && text[i]; i++)
		why[i] = text[i];
}

/* "key=value,key=value"; the command wrote it, so what is not understood is ignored. */
static void parse_options(const char *text)
{
	struct agent_options *o = &agent.options;
	char copy[256], *save = NULL;

	strncpy(copy, text, sizeof copy - 1);
	copy[sizeof copy - 1] = 0;
	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		char *value = strchr(p, '=');

		if (!value)
			continue;
		*value++ = 0;
		if (!strcmp(p, "limit"))
			o->limit = strtoull(value, NULL, 10);
		else if (!strcmp(p, "compress"))
			compression_parse(value, &o->compress);
		else if (!strcmp(p, "threads"))
			o->handlers = (unsigned)strtoul(value, NULL, 10);
		else if (!strcmp(p, "prefetch"))
			o->prefetch = (unsigned)strtoul(value, NULL, 10);
		else if (!strcmp(p, "policy"))
			o->policy = policy_find(value);
		else if (!strcmp(p, "huge"))
			o->keep_huge = !strcmp(value, "keep");
	}
	if (o->prefetch < 1)
		o->prefetch = 1;
	if (o->prefetch > MMU_BATCH)
		o->prefetch = MMU_BATCH;
}

static int map_report(const char *path)
{
	struct report_header *header;
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -ENOENT;
	if (fstat(fd, &st) < 0 || st.st_size < (off_t)(PAGE_SIZE + REPORT_SLOT_SIZE)) {
		close(fd);
		return -EINVAL;
	}
	header = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (header == MAP_FAILED || header->magic != REPORT_MAGIC)
		return -EINVAL;
	agent.report = header;
	return 0;
}

void agent_set_state(enum agent_state state)
{
	agent.state = state;
	agent.slot->state = state;
}

void agent_new_slot(void)
{
	struct report_header *header = agent.report;
	u32 i = atomic_fetch_add(&header->next_slot, 1);
	struct report_slot *old = agent.slot, *s;

	/* More processes than slots: the last slot is shared, its counters a sum. */
	s = report_slot(header, i < header->nr_slots ? i : header->nr_slots - 1);
	agent.slot = s;
	if (agent.paging)
		agent.engine.stats = &s->stats;
	s->pid = agent.pid = (s32)sys(getpid);
	s->parent = (s32)sys(getppid);
	s->limit_bytes = agent.options.limit;
	if (old)
		memcpy(s->program, old->program, sizeof s->program);
	else
		strncpy(s->program, program_invocation_short_name, sizeof s->program - 1);
	agent_set_state(old ? agent.state : AGENT_WATCHING);
}

__attribute__((constructor)) static void agent_load(void)
{
	const char *options = getenv("VMFAULT_OPTIONS"), *report = getenv("VMFAULT_REPORT");
	const char *extension = getenv("VMFAULT_EXTENSION");

	if (!options || !report)
		return;
	agent.options.compress = COMPRESS_LZ4;
	agent.options.prefetch = 12;
	parse_options(options);
	if (!agent.options.limit || map_report(report) < 0)
		return;
	agent_new_slot();
	exec_remember(environ);
	hooks_install();
	clone_hooks_install();
	if (arena_init() < 0) {
		agent_warn("no address space for the agent; the program runs unmanaged");
		agent_set_state(AGENT_STOPPED);
		return;
	}
	thread_measure_libcs();
	if (extension && *extension)
		agent_extension_load(extension);
	if (fork_init() < 0 || keeper_start() < 0) {
		agent_warn("the agent's thread could not be started; the program runs unmanaged");
		agent_set_state(AGENT_STOPPED);
		return;
	}
	hooks_look();
}
