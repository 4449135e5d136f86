/* SPDX-License-Identifier: MIT */
/* Rule: large static data (.data and .bss) keeps its contents. */
#include "check.h"

static char bss[16 * MIB] __attribute__((aligned(4096)));
static char data[2 * MIB] __attribute__((aligned(4096))) = { 1 };

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);

	EXPECT(is_zero(bss, sizeof(bss)));
	EXPECT(data[0] == 1);
	fill(bss, sizeof(bss), 1);
	fill(data, sizeof(data), 2);
	press(size);
	verify(bss, sizeof(bss), 1);
	verify(data, sizeof(data), 2);
	return passed();
}
