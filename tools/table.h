/* SPDX-License-Identifier: MIT */
/* The figures of a run for a person, on stderr. */
#ifndef VMF_TOOLS_TABLE_H
#define VMF_TOOLS_TABLE_H

#include "tools/figures.h"

void table_print(const struct figures *f);

#endif
