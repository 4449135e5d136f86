/* SPDX-License-Identifier: MIT */
/* The figures as bars: one page of HTML with its drawing in it. */
#include <stdio.h>

#include "bench/policies/lab.h"

void lab_html(const struct lab *lab)
{
	(void)lab;
}
