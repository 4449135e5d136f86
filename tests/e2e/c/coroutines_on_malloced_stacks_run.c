/* SPDX-License-Identifier: MIT */
/* Rule: coroutines whose stacks are malloc'ed, hence evicted, run and keep what is on their stacks.
 */
#include "check.h"
#include <ucontext.h>

#define STACK (256 * 1024)

static ucontext_t scheduler, *contexts;
static int *done;

static void body(int which)
{
	uint64_t room[STACK / 16];

	for (size_t i = 0; i < STACK / 16; i++)
		room[i] = mix(which + i);
	for (int turn = 0; turn < 3; turn++) {
		swapcontext(&contexts[which], &scheduler);
		for (size_t i = 0; i < STACK / 16; i++)
			EXPECT(room[i] == mix(which + i + turn));
		for (size_t i = 0; i < STACK / 16; i++)
			room[i] = mix(which + i + turn + 1);
	}
	done[which] = 1;
}

int main(int argc, char **argv)
{
	int many = size_from(argc, argv) / STACK;

	contexts = calloc(many, sizeof(*contexts));
	done = calloc(many, sizeof(*done));
	EXPECT(contexts && done);
	for (int i = 0; i < many; i++) {
		char *stack = malloc(STACK);

		EXPECT(stack && getcontext(&contexts[i]) == 0);
		contexts[i].uc_stack.ss_sp = stack;
		contexts[i].uc_stack.ss_size = STACK;
		contexts[i].uc_link = &scheduler;
		makecontext(&contexts[i], (void (*)(void))body, 1, i);
	}
	for (int turn = 0; turn < 4; turn++)
		for (int i = 0; i < many; i++)
			EXPECT(swapcontext(&scheduler, &contexts[i]) == 0);
	for (int i = 0; i < many; i++)
		EXPECT(done[i]);
	return passed();
}
