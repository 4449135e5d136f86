/* SPDX-License-Identifier: MIT */
/*
 * Text for people, made without a C library.
 */
#ifndef VMF_BASE_TEXT_H
#define VMF_BASE_TEXT_H

#include <stdarg.h>

#include "engine/base/types.h"

/*
 * As snprintf: write at most size - 1 characters and a final NUL (nothing if size is 0), return
 * the length that the whole text has.  Knows %s %c %d %i %u %x %p %%, the lengths l, ll and z, a
 * width, and the flags 0 and -.  Anything else is copied as it stands.
 */
__attribute__((format(printf, 3, 4))) size_t text_format(char *buf, size_t size, const char *format,
							 ...);
size_t text_vformat(char *buf, size_t size, const char *format, va_list args);

/* machine_message() and machine_panic() with a text made so; cut at 255 characters. */
__attribute__((format(printf, 1, 2))) void vmf_message(const char *format, ...);
__attribute__((format(printf, 1, 2))) _Noreturn void vmf_panic(const char *format, ...);

#endif
