/* SPDX-License-Identifier: MIT */
/* Rule: a futex word on an evicted page works: wait with the wrong value, time out, wake, mutex,
 * condition. */
#include "check.h"
#include <linux/futex.h>
#include <time.h>

struct shared {
	_Atomic uint32_t word __attribute__((aligned(4096)));
	pthread_mutex_t mutex __attribute__((aligned(4096)));
	pthread_cond_t condition __attribute__((aligned(4096)));
	int turn;
};

static struct shared *s;
static size_t size;

static long futex(_Atomic uint32_t *word, int op, uint32_t value, struct timespec *limit)
{
	return syscall(SYS_futex, word, op, value, limit, NULL, 0);
}

static void *other(void *unused)
{
	while (s->word != 1)
		futex(&s->word, FUTEX_WAIT_PRIVATE, 7, NULL);
	for (int i = 1; i < 40; i += 2) {
		EXPECT(pthread_mutex_lock(&s->mutex) == 0);
		while (s->turn != i)
			EXPECT(pthread_cond_wait(&s->condition, &s->mutex) == 0);
		s->turn++;
		EXPECT(pthread_cond_signal(&s->condition) == 0);
		EXPECT(pthread_mutex_unlock(&s->mutex) == 0);
	}
	return unused;
}

int main(int argc, char **argv)
{
	struct timespec soon = { 0, 1000000 };
	pthread_t thread;

	size = size_from(argc, argv);
	s = map(sizeof(*s));
	s->word = 7;
	press(size);
	EXPECT(futex(&s->word, FUTEX_WAIT_PRIVATE, 8, NULL) == -1 && errno == EAGAIN);
	press(size);
	EXPECT(futex(&s->word, FUTEX_WAIT, 8, NULL) == -1 && errno == EAGAIN);
	press(size);
	EXPECT(futex(&s->word, FUTEX_WAIT_PRIVATE, 7, &soon) == -1 && errno == ETIMEDOUT);

	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->condition, NULL);
	EXPECT(pthread_create(&thread, NULL, other, NULL) == 0);
	press(size);
	s->word = 1;
	futex(&s->word, FUTEX_WAKE_PRIVATE, 1, NULL);
	for (int i = 0; i < 40; i += 2) {
		if (i % 8 == 0)
			press(size);
		EXPECT(pthread_mutex_lock(&s->mutex) == 0);
		while (s->turn != i)
			EXPECT(pthread_cond_wait(&s->condition, &s->mutex) == 0);
		s->turn++;
		EXPECT(pthread_cond_signal(&s->condition) == 0);
		EXPECT(pthread_mutex_unlock(&s->mutex) == 0);
	}
	EXPECT(pthread_join(thread, NULL) == 0);
	EXPECT(s->turn == 40);
	return passed();
}
