/* SPDX-License-Identifier: MIT */
/* Rule: pages of one repeated word, of zeros written over, and with one byte different come back
 * exactly. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), pages = size / PAGE;
	uint64_t(*p)[PAGE / 8] = map(size);

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < pages; i++) {
			uint64_t word = i % 3 ? mix(i) : 0;

			for (size_t j = 0; j < PAGE / 8; j++)
				p[i][j] = word;
			if (i % 5 == 0)
				((char *)p[i])[mix(i) % PAGE] ^= 1;
		}
		for (size_t i = 0; i < pages; i++) {
			uint64_t want[PAGE / 8], word = i % 3 ? mix(i) : 0;

			for (size_t j = 0; j < PAGE / 8; j++)
				want[j] = word;
			if (i % 5 == 0)
				((char *)want)[mix(i) % PAGE] ^= 1;
			EXPECT(!memcmp(p[i], want, PAGE));
		}
	}
	return passed();
}
