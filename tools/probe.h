/* SPDX-License-Identifier: MIT */
/* Whether this kernel can do what managing a program takes, and lets us. */
#ifndef VMF_TOOLS_PROBE_H
#define VMF_TOOLS_PROBE_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/types.h"

/* True, or false after one line that names the feature, the sysctl or the capability missing. */
bool probe_userfaultfd(void);

/* The same for huge pages that are put together (MADV_COLLAPSE). */
bool probe_huge_pages(void);

/* The names of the needed features that `features` has not, separated by ", ", into `names`;
 * how many they are. */
unsigned missing_features(u64 features, char *names, size_t size);

#endif
