/* SPDX-License-Identifier: MIT */
/*
 * The link-time half of the machine contract for programs that run the engine on a host: time,
 * CPU, sleep and wake by the host's futex, messages on stderr, and panic as abort().
 */
#ifndef VMF_SOFT_HOST_H
#define VMF_SOFT_HOST_H

/*
 * Tests that expect a panic or a message: called with the text in place of the usual.  A panic
 * hook must not return (siglongjmp, _exit).  NULL: the usual again.  For all threads.
 */
void host_on_panic(void (*hook)(const char *text));
void host_on_message(void (*hook)(const char *text));

#endif
