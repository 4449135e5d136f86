/* SPDX-License-Identifier: MIT */
/*
 * The floor: what the kernel and lz4 take for one page when nobody decides anything.
 *
 * Decompresses a half-random page and places it with UFFDIO_COPY, or with UFFDIO_MOVE, one by one
 * and in batches of 32, with no fault, no thread and no table of ours in between. Prints one line
 * of JSON, ns a page, the best of five rounds.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <lz4.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096UL
#define PAGES 8192UL
#define BATCH 32UL

/* Newer than some distributions' headers. */
struct move {
	uint64_t dst, src, len, mode;
	int64_t move;
};
#define MOVE	     _IOWR(0xaa, 0x05, struct move)
#define FEATURE_MOVE (1ULL << 16)

static int uffd;
static char *area, *window;
static char packed[LZ4_COMPRESSBOUND(PAGE)];
static int packed_bytes;

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static char *map(size_t bytes)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static int arm(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_MOVE };
	struct uffdio_register area_register = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0)
		die("userfaultfd");
	if (ioctl(uffd, UFFDIO_API, &api) < 0)
		return -1;
	area_register.range.start = (uintptr_t)area;
	area_register.range.len = PAGES * PAGE;
	if (ioctl(uffd, UFFDIO_REGISTER, &area_register) < 0)
		die("UFFDIO_REGISTER");
	return 0;
}

static void unpack(char *to)
{
	if (LZ4_decompress_safe(packed, to, packed_bytes, PAGE) != (int)PAGE)
		die("lz4");
}

static void copy(size_t page, size_t many)
{
	struct uffdio_copy c = { .dst = (uintptr_t)area + page * PAGE,
				 .src = (uintptr_t)window,
				 .len = many * PAGE };

	if (ioctl(uffd, UFFDIO_COPY, &c) < 0)
		die("UFFDIO_COPY");
}

static void move(size_t page, size_t many)
{
	struct move m = { .dst = (uintptr_t)area + page * PAGE,
			  .src = (uintptr_t)window,
			  .len = many * PAGE };

	if (ioctl(uffd, MOVE, &m) < 0)
		die("UFFDIO_MOVE");
}

/* ns a page to bring PAGES pages in; with_lz4: decompressed each into the window first. */
static double bring_in(void (*place)(size_t, size_t), size_t many, int with_lz4)
{
	double best = 1e12;

	for (int round = 0; round < 5; round++) {
		uint64_t start, took = 0;

		if (madvise(area, PAGES * PAGE, MADV_DONTNEED) < 0)
			die("madvise");
		for (size_t page = 0; page < PAGES; page += many) {
			/* A moved page leaves a hole: filling it is part of the price. */
			if (!with_lz4)
				for (size_t i = 0; i < many; i++)
					window[i * PAGE] = 1;
			start = now_ns();
			if (with_lz4)
				for (size_t i = 0; i < many; i++)
					unpack(window + i * PAGE);
			place(page, many);
			took += now_ns() - start;
		}
		if ((double)took / PAGES < best)
			best = (double)took / PAGES;
	}
	return best;
}

static double lz4_alone(void)
{
	uint64_t start = now_ns();

	for (size_t i = 0; i < PAGES; i++)
		unpack(window);
	return (double)(now_ns() - start) / PAGES;
}

static double compress_alone(const char *page)
{
	uint64_t start = now_ns();

	for (size_t i = 0; i < PAGES; i++)
		packed_bytes = LZ4_compress_default(page, packed, PAGE, sizeof(packed));
	return (double)(now_ns() - start) / PAGES;
}

int main(void)
{
	static char page[PAGE];
	uint64_t x = 88172645463325252ULL;
	double compression;
	int has_move;

	for (size_t i = 0; i < PAGE / 16; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		((uint64_t *)page)[i] = x;
	}
	area = map(PAGES * PAGE);
	window = map(BATCH * PAGE);
	memset(window, 1, BATCH * PAGE);
	compression = compress_alone(page);
	has_move = !arm();
	if (!has_move) {
		fprintf(stderr, "floor: this kernel has no UFFDIO_MOVE\n");
		return 1;
	}
	printf("{\"lz4_compress_ns\": %.0f, \"lz4_decompress_ns\": %.0f", compression, lz4_alone());
	printf(", \"copy_ns\": %.0f", bring_in(copy, 1, 0));
	printf(", \"copy_lz4_ns\": %.0f", bring_in(copy, 1, 1));
	printf(", \"copy_lz4_32_ns\": %.0f", bring_in(copy, BATCH, 1));
	printf(", \"move_ns\": %.0f", bring_in(move, 1, 0));
	printf(", \"move_lz4_ns\": %.0f", bring_in(move, 1, 1));
	printf(", \"move_lz4_32_ns\": %.0f}\n", bring_in(move, BATCH, 1));
	return 0;
}
