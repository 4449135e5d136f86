/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

#include "tests/differential/worlds/swap_area.h"

/* So that a page comes back alone: the setting as it was, to be restored. */
#define PAGE_CLUSTER "/proc/sys/vm/page-cluster"
static char page_cluster[16];

static int zram = -1; /* its number */
static bool swapping;
static char node[32];

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

bool swap_area_remove(void)
{
	char path[64], number[16];

	bool ok = true;

	/* EINVAL: whoever turned it off for a moment has died meanwhile. */
	if (swapping && swapoff(node) && errno != EINVAL)
		ok = false;
	swapping = false;
	if (*page_cluster && !write_text(PAGE_CLUSTER, page_cluster))
		ok = false;
	if (zram < 0)
		return ok;
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", zram);
	snprintf(number, sizeof(number), "%d", zram);
	if (!write_text(path, "1") || !write_text("/sys/class/zram-control/hot_remove", number))
		ok = false;
	zram = -1;
	return ok;
}

static bool make_swap_header(void)
{
	static struct {
		char boot[1024];
		uint32_t version, last_page, nr_bad;
		char rest[4096 - 1024 - 12 - 10];
		char magic[10];
	} __attribute__((packed))
	header = { .version = 1, .last_page = 16383, .magic = "SWAPSPACE2" };
	int fd = open(node, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, &header, sizeof(header)) == (ssize_t)sizeof(header) &&
		  !fsync(fd);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool read_alone(void)
{
	int fd = open(PAGE_CLUSTER, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && read(fd, page_cluster, sizeof(page_cluster) - 1) > 0;

	if (fd >= 0)
		close(fd);
	return ok && write_text(PAGE_CLUSTER, "0");
}

bool swap_area_find(void)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[256];
	bool found;

	found = f && fgets(line, sizeof(line), f) && fgets(line, sizeof(line), f) &&
		sscanf(line, "%31s", node) == 1;
	if (f)
		fclose(f);
	return found;
}

int swap_area_swapoff(void)
{
	return swapoff(node) ? -errno : 0;
}

int swap_area_swapon(void)
{
	return swapon(node, 0) ? -errno : 0;
}

const char *swap_area_make(void)
{
	char path[64], number[16] = "";
	int fd;

	if (geteuid())
		return "not root";
	if (swap_area_find())
		return "somebody else's swap is on";
	fd = open("/sys/class/zram-control/hot_add", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return "the kernel has no zram";
	if (read(fd, number, sizeof(number) - 1) <= 0)
		number[0] = 0;
	close(fd);
	if (!*number)
		return "the kernel makes no zram device";
	zram = atoi(number);
	snprintf(node, sizeof(node), "/dev/zram%d", zram);
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", zram);
	if (!write_text(path, "64M") || !make_swap_header())
		return "the zram device cannot be set up";
	if (!read_alone())
		return "vm.page-cluster cannot be set";
	if (swapon(node, 0))
		return "swapon refuses the zram device";
	swapping = true;
	return NULL;
}
