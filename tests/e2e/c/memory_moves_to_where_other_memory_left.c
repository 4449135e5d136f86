/* SPDX-License-Identifier: MIT */
/* Rule: memory that mremap() moves to addresses that other memory has just left stays what it was,
 * whichever of the two threads comes to run again first.
 *
 * Both threads share a CPU, and one runs only when the other does not want to: so between its
 * call's change of the layout and the end of that call there is often a whole call of the other. */
#include "check.h"

#include <sched.h>

#define MOVES 300

static size_t bytes;
static volatile int over;

/* Two pieces of one size, each with a page after it that keeps it from growing where it is. */
static char *piece(uint64_t seed)
{
	char *p = map(bytes + PAGE);

	EXPECT(mprotect(p + bytes, PAGE, PROT_NONE) == 0);
	fill(p, bytes, seed);
	return p;
}

static char *move(char *p)
{
	char *to = mremap(p, bytes, bytes + PAGE, MREMAP_MAYMOVE);

	EXPECT(to != MAP_FAILED && to != p);
	EXPECT(mprotect(to + bytes, PAGE, PROT_NONE) == 0);
	EXPECT(munmap(p + bytes, PAGE) == 0);
	return to;
}

static void *move_when_idle(void *p)
{
	struct sched_param none = { 0 };

	EXPECT(sched_setscheduler(0, SCHED_IDLE, &none) == 0);
	while (!over)
		p = move(p);
	verify(p, bytes, 2);
	return NULL;
}

static void share_a_cpu(void)
{
	cpu_set_t cpus, one;
	int cpu = 0;

	EXPECT(sched_getaffinity(0, sizeof(cpus), &cpus) == 0);
	while (!CPU_ISSET(cpu, &cpus))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	EXPECT(sched_setaffinity(0, sizeof(one), &one) == 0);
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	pthread_t thread;
	char *p, *other;

	bytes = size / 32;
	p = piece(1);
	other = piece(2);
	press(size / 2);
	share_a_cpu();
	EXPECT(pthread_create(&thread, NULL, move_when_idle, other) == 0);
	for (int i = 0; i < MOVES; i++) {
		usleep(i * 37 % 500);
		p = move(p);
	}
	over = 1;
	EXPECT(pthread_join(thread, NULL) == 0);
	verify(p, bytes, 1);
	return passed();
}
