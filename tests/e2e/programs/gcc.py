# SPDX-License-Identifier: MIT
"""gcc -O2 compiles a large generated file: forks, execs, pipes, and a big cc1."""
import random

NEEDS = ["gcc"]


def source(functions):
    def make(file):
        rng = random.Random(5)
        file.write(b"#include <stdint.h>\n")
        for i in range(functions):
            a, b, c = (rng.randrange(1, 1 << 20) for _ in range(3))
            callee = rng.randrange(i) if i else 0
            call = "f%d(y ^ %d, t)" % (callee, c) if i else "y"
            file.write(("""
uint64_t f%d(uint64_t x, uint64_t *t)
{
	uint64_t y = x * %dULL + %d, i;

	for (i = 0; i < (x & 63); i++) {
		t[(i * %d) & 1023] += y >> (i & 31);
		if (t[i & 1023] & %d)
			y ^= t[(y + i) & 1023] * %d;
		else
			y += %s;
	}
	switch (y & 7) {
	case 0: y += t[1]; break;
	case 1: y -= t[2] * %d; break;
	case 3: y ^= t[y & 15]; break;
	case 6: t[y & 255] = i; break;
	}
	return y;
}
""" % (i, a, b, c, a, b, call, c)).encode())
    return make


def run(t):
    functions = 8000 if t.full else 400
    path = t.input("big-%d.c" % functions, source(functions))
    status, out = t.run(["gcc", "-O2", "-pipe", "-c", "-o", "big.o", path])
    return [status, out, t.read("big.o")]
