/* SPDX-License-Identifier: MIT */
/* For compilers without libFuzzer, and for every `make test`: a fuzzer's function over all files of
 * a directory. */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_SIZE (1u << 20)

static int replay(const char *path, uint8_t *data)
{
	FILE *f = fopen(path, "rbe");
	size_t size;

	if (!f) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, MAX_SIZE, f);
	fclose(f);
	return LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
	uint8_t *data = malloc(MAX_SIZE);
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	char path[PATH_MAX];
	int n = 0, failed = !data || !dir;

	while (!failed && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		failed = replay(path, data);
		n++;
	}
	if (dir)
		closedir(dir);
	free(data);
	printf("%d files\n", n);
	return failed || !n;
}
