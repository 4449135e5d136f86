/* SPDX-License-Identifier: MIT */
/* Rule: code that a program wrote into anonymous memory runs after that memory was evicted, as in
 * every JIT. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	unsigned char code[] = { 0xb8, 0, 0, 0, 0, 0xc3 }; /* mov eax, imm32; ret */
	char *p = map(part);

	for (uint32_t i = 0; i < part / PAGE; i++) {
		memcpy(code + 1, &i, 4);
		memcpy(p + i * PAGE + i % 64, code, sizeof(code));
	}
	press(size - part);
	for (int round = 0; round < 2; round++) {
		int prot = PROT_READ | PROT_EXEC | (round ? PROT_WRITE : 0);

		if (mprotect(p, part, prot) < 0)
			skip("memory cannot be made executable");
		press(size - part);
		for (uint32_t i = 0; i < part / PAGE; i++) {
			uint32_t (*function)(void) = (void *)(p + i * PAGE + i % 64);

			EXPECT(function() == i);
		}
	}
	return passed();
}
