/* SPDX-License-Identifier: MIT */
/* The figures of a run for a person, on stderr. */
#ifndef VMF_TOOLS_TABLE_H
#define VMF_TOOLS_TABLE_H

#include "tools/figures.h"

void table_print(const struct figures *f);

/* "1.5 us" and the like; returns text. */
#define TIME_TEXT 32
const char *time_text(char text[TIME_TEXT], double ns);

#endif
