/* SPDX-License-Identifier: MIT */
/*
 * What a malicious program can try on any system: it has no handles to forge and no calls of its
 * own, only its addresses and the calls that every program makes.
 */
#ifndef VMF_SYSTEMS_PROGRAM_ATTACKS_H
#define VMF_SYSTEMS_PROGRAM_ATTACKS_H

#include "systems/system.h"

#define NR_PROGRAM_ATTACKS 7
extern const struct system_attack program_attacks[NR_PROGRAM_ATTACKS];

/* For attacks of a system's own: two pages of the first process, of which the first is there. */
void attack_map_two_pages(struct system *s, u64 at);

#endif
