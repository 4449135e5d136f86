/* SPDX-License-Identifier: MIT */
/* The figures of a run for programs: docs/json.md says what each key means. */
#ifndef VMF_TOOLS_JSON_H
#define VMF_TOOLS_JSON_H

#include <stdbool.h>

#include "engine/base/types.h"

struct figures;

/* On stderr. */
bool json_print(const struct figures *f);
/* Text of other programs may be no UTF-8, which JSON must be: s if it is, or `plain` (size bytes),
 * with '?' for what is not. */
const char *json_plain(const char *s, char *plain, size_t size);
/* Into a file, which is there whole or not at all.  False: one line has been said. */
bool json_write(const struct figures *f, const char *path);
/* Can json_write() be expected to work?  False: one line has been said. */
bool json_writable(const char *path);
/* peak_resident_bytes of an earlier run's file.  False: one line has been said. */
bool json_read_peak(const char *path, u64 *peak);

#endif
