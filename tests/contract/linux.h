/* SPDX-License-Identifier: MIT */
/* What the linux machine under the contract test can do beside the contract: for linux_cases.c. */
#ifndef VMF_TESTS_CONTRACT_LINUX_H
#define VMF_TESTS_CONTRACT_LINUX_H

#include "tests/contract/contract_machine.h"

/* From now on nobody reads what the kernel tells of the program's layout, so that whoever changes
 * it waits, and the change stays under way. */
void linux_stop_reading(void);
void linux_go_on_reading(void);
/* Wait until what was told before this call has been read and applied. */
void linux_wait_read(void);

/* What the kernel's page table has at va. */
enum linux_page { LINUX_ABSENT, LINUX_PRESENT, LINUX_SWAPPED };
enum linux_page linux_page(u64 va);

/* Every segment of the agent's window is in use, until the i-th < WINDOW_SEGMENTS is given back. */
void linux_window_hold(void);
void linux_window_give(unsigned i);

/* Warnings of the agent since the machine was made.  One that a test has not asked after when it
 * ends is an error. */
unsigned linux_warnings(void);

#endif
