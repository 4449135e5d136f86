/* SPDX-License-Identifier: MIT */
/* The agent's own pow() and fmod() beside those of libm. */
#include <math.h>

#include "tests/unit/unit.h"

#define pow  own_pow
#define fmod own_fmod
#include "machine/linux/numbers.c"
#undef pow
#undef fmod

static const double corners[] = { 0.0, -0.0, 1,	    -1,	    0.5,    -0.5,     2,	 -2,
				  3,   -3,   1e300, -1e300, 5e-324, INFINITY, -INFINITY, NAN };

static bool same(double a, double b)
{
	if (isnan(a) || isnan(b))
		return isnan(a) && isnan(b);
	if (a == b)
		return signbit(a) == signbit(b);
	return fabs(a - b) <= fabs(b) * 4.5e-16;
}

static void powers_are(double x, double y)
{
	if (!same(own_pow(x, y), pow(x, y)))
		fail_msg("pow(%a, %a) is %a, not %a", x, y, own_pow(x, y), pow(x, y));
}

static void remainders_are(double x, double y)
{
	if (!same(own_fmod(x, y), fmod(x, y)))
		fail_msg("fmod(%a, %a) is %a, not %a", x, y, own_fmod(x, y), fmod(x, y));
}

static void corners_are_what_libm_has(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(corners) / sizeof(corners[0]); i++)
		for (unsigned k = 0; k < sizeof(corners) / sizeof(corners[0]); k++) {
			powers_are(corners[i], corners[k]);
			remainders_are(corners[i], corners[k]);
		}
}

static void numbers_are_what_libm_has(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		double x = ldexp((double)(int64_t)rnd_next(&seed), (int)rnd_below(&seed, 80) - 100);
		double y = ldexp((double)(int64_t)rnd_next(&seed), (int)rnd_below(&seed, 20) - 70);

		powers_are(fabs(x), y);
		powers_are(x, (double)((int)rnd_below(&seed, 40) - 20));
		remainders_are(x, y);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(corners_are_what_libm_has),
		cmocka_unit_test(numbers_are_what_libm_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
