/* SPDX-License-Identifier: MIT */
/* One line on stderr for the person at the terminal. */
#ifndef VMF_TOOLS_SAY_H
#define VMF_TOOLS_SAY_H

/* "vmfault: ", the text and a newline, written at once. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
