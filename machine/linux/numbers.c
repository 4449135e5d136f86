/* SPDX-License-Identifier: MIT */
/*
 * Two functions that the interpreter of extensions wants of libm.  They are here so that the agent
 * needs no library but libc, which a program has anyway; nobody else sees them.
 */
#include <math.h>
#include <stdbool.h>

#define TINY_EXPONENT 16400 /* of a long double, and more */

/* x - n * y with the sign of x, exactly. */
double fmod(double x, double y)
{
	long double rest = x;
	unsigned short status;

	do {
		__asm__("fprem; fnstsw %1" : "+t"(rest), "=a"(status) : "u"((long double)y));
	} while (status & 0x400); /* not reduced as far as it goes */
	return (double)rest;
}

/* 2 to the power of it. */
static long double power_of_two(long double exponent)
{
	long double whole, part;

	if (exponent > TINY_EXPONENT)
		return (long double)INFINITY;
	if (exponent < -TINY_EXPONENT)
		return 0;
	__asm__("frndint" : "=t"(whole) : "0"(exponent));
	__asm__("f2xm1" : "=t"(part) : "0"(exponent - whole));
	__asm__("fscale" : "=t"(part) : "0"(part + 1), "u"(whole));
	return part;
}

static long double logarithm(long double x)
{
	long double log;

	__asm__("fyl2x" : "=t"(log) : "0"(x), "u"(1.0L) : "st(1)");
	return log;
}

/* Within the accuracy of a long double; what C says of its corners. */
double pow(double x, double y)
{
	bool whole = __builtin_fabs(y) >= 0x1p53 || y == (double)(long long)y;
	bool odd = whole && __builtin_fabs(y) < 0x1p53 && (long long)y & 1;
	long double size;

	if (y == 0 || x == 1)
		return 1;
	if (__builtin_isnan(x) || __builtin_isnan(y) || (x < 0 && !__builtin_isinf(x) && !whole))
		return (double)NAN;
	if (x == -1 && __builtin_isinf(y))
		return 1;
	if (x == 0)
		size = y > 0 ? 0 : (long double)INFINITY;
	else
		size = power_of_two((long double)y * logarithm(__builtin_fabsl((long double)x)));
	return (double)(__builtin_signbit(x) && odd ? -size : size);
}
