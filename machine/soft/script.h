/* SPDX-License-Identifier: MIT */
/*
 * A small language of operations on an address space of the soft machine, for tests: what a program
 * does, and what is to come of it.  One operation a line; '#' begins a comment.
 *
 *   map ADDR LEN PROT [fixed|noreplace] [locked] [as X]     any: no address asked for
 *   unmap ADDR LEN
 *   protect ADDR LEN PROT
 *   remap ADDR LEN NEWLEN [maymove] [to ADDR] [keep] [as X]
 *   advise ADDR LEN dontneed|free
 *   read ADDR LEN [BYTE]        every byte is readable (and is BYTE)
 *   write ADDR LEN BYTE         fill
 *   touch ADDR LEN r|w|x        one access to each page; leaves its bytes as they are
 *   pageout ADDR LEN            reclaim what can be
 *   cpu N                       the operations from here on are done on this CPU
 *   check                       every invariant of engine and TLBs
 *   expect COUNTER N            minor major rss swapped maps
 *
 * ADDR: a number, or the name given by `as` with an offset (X, X+4K); names are A to Z.
 * Numbers: 123, 0x7b, with a suffix K, M, G or P (pages).  PROT: none, r, rw, rx, rwx, w, x, wx.
 *
 * Each line may end with what is to come of it; without, it is to succeed:
 *
 *   -> ok | -> ADDR (map and remap) | -> segv maperr | -> segv accerr | -> bus | -> oom
 *   -> einval | -> enomem | -> eexist | -> efault
 */
#ifndef VMF_SOFT_SCRIPT_H
#define VMF_SOFT_SCRIPT_H

#include "machine/soft/soft.h"

struct script;

/* Long enough for every message of the two below. */
#define SCRIPT_MESSAGE 160

/*
 * Understand a whole script before anything is run.  0; -ENOMEM; -EINVAL: `message` (at least
 * SCRIPT_MESSAGE bytes) says what is wrong in one line, as in "line 3: unknown operation 'mop'".
 */
int script_parse(const char *text, struct script **script, char *message);
void script_free(struct script *script);

/*
 * Run it on a space that is loaded on every CPU it uses.  0; -ERANGE: a line's outcome is not the
 * one that was expected, and message says so: "line 4: read: expected segv accerr, got ok".
 */
int script_run(const struct script *script, struct soft_machine *m, struct mm *mm, char *message);

#endif
