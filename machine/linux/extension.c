/* SPDX-License-Identifier: MIT */
/* See extension.h. */
#include "machine/linux/extension.h"
#include "extensions/extension.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <unistd.h>

/* The interpreter's calls nest up to 200 deep. */
#define INTERPRETER_STACK (1024 * 1024)
/* Pages that came last and stay: what one fault brings, and what threads need at once. */
#define FRESH_PAGES (2 * MMU_BATCH)

static struct {
	struct extension *extension; /* NULL: there is none */
	struct reclaim_chooser chooser;
	locale_t c;
	char *stack;
	/* What is being asked, of which there is one at a time (lru->aging). */
	struct lruvec *pages;
	struct page_handle *next;
	bool *neighbours;
	int answer;
} user;

/* ---- asking ---- */

static void ask(void)
{
	user.answer = extension_reclaim(user.extension, user.pages, user.next, user.neighbours);
}

static void tell(const char *says)
{
	const char *const parts[] = { "--extension ", says, "; the default goes on" };
	char text[EXTENSION_SAYS + 48];
	size_t n = 0;

	if (!*says || agent.slot->why[0])
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		for (const char *c = parts[i]; *c && n + 1 < sizeof(text); c++)
			text[n++] = *c;
	text[n] = '\0';
	agent_warn(text);
}

static unsigned choose(struct reclaim_chooser *c, struct lruvec *v, struct page_handle *next,
		       bool *neighbours)
{
	struct agent_thread *t = thread_self();

	(void)c;
	if (!t->has_locale) {
		uselocale(user.c); /* sets variables of the thread's, and nothing else */
		t->has_locale = true;
	}
	user.pages = v;
	user.next = next;
	user.neighbours = neighbours;
	thread_on_stack(user.stack + INTERPRETER_STACK, ask);
	tell(extension_says(user.extension));
	return (unsigned)max_of(user.answer, 0);
}

int agent_extension_begin(struct engine *e)
{
	user.chooser.choose = choose;
	user.chooser.fresh = FRESH_PAGES;
	return chosen_begin(e, &user.chooser);
}

bool agent_extension_is_there(void)
{
	return user.extension != NULL;
}

/* ---- loading ---- */

/* Bytes read into the arena's `text`, or a negative errno. */
static s64 read_file(const char *path, char *text, u64 size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	u64 done = 0;
	s64 n = 1;

	if (fd < 0)
		return -errno;
	while (done < size && n > 0) {
		n = read(fd, text + done, size - done);
		done += (u64)max_of(n, (s64)0);
	}
	if (n < 0)
		n = -errno;
	close(fd);
	return n < 0 ? n : (s64)done;
}

/* The C locale is a constant of libc's; what lies in the program's memory may not be used. */
static bool find_locale(void)
{
	Dl_info info;

	user.c = newlocale(LC_ALL_MASK, "C", NULL);
	return user.c && dladdr(user.c, &info);
}

void agent_extension_load(const char *path)
{
	char *text = arena_alloc(EXTENSION_TEXT + 1), says[EXTENSION_SAYS];
	s64 n;

	user.stack = arena_alloc(INTERPRETER_STACK);
	if (!text || !user.stack || !thread_is_like_libcs() || !find_locale()) {
		agent_warn("--extension cannot be used in this program; the default goes on");
		return;
	}
	n = read_file(path, text, EXTENSION_TEXT + 1);
	if (n < 0)
		tell("cannot be read");
	else if (extension_load(&arena_memory, path, text, (size_t)n, &user.extension, says))
		tell(*says ? says : "there is no memory for it");
	arena_free(text, EXTENSION_TEXT + 1);
}
