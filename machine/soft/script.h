/* SPDX-License-Identifier: MIT */
/*
 * A small language of operations on address spaces of the soft machine, for tests: what a program
 * does, and what is to come of it.  One operation a line; '#' begins a comment.
 *
 *   map ADDR LEN PROT [fixed|noreplace] [locked] [dontcopy] [wipeonfork] [stack]
 *       [file F OFFSET shared|private] [as X]
 *                               any: no address asked for; fixed is understood for a file
 *   unmap ADDR LEN
 *   protect ADDR LEN PROT
 *   remap ADDR LEN NEWLEN [maymove] [to ADDR] [keep] [as X]
 *   advise ADDR LEN dontneed|free
 *   read ADDR LEN [BYTE]        every byte is readable (and is BYTE)
 *   write ADDR LEN BYTE         fill
 *   touch ADDR LEN r|w|x        one access to each page; leaves its bytes as they are
 *   together ADDR LEN r|w|x     the same, by all CPUs at once, of which each runs a thread of this
 *                               process; who faults on a page waits until all have come to it
 *   copyin ADDR LEN [BYTE]      the kernel reads it for the program, as in write(2)
 *   copyout ADDR LEN BYTE       the kernel fills it, as in read(2)
 *   kmap LEN as X               the kernel takes memory of its own that can be paged out
 *   kread ADDR LEN [BYTE]       the kernel's own code reads it, for nobody, within no call
 *   kwrite ADDR LEN BYTE        the same, fills it
 *   dirty ADDR LEN 0|1          each page has a translation, by which it was written to, or not
 *   pageout ADDR LEN            reclaim what can be and is mapped once
 *   reclaim N                   reclaim N pages of whoever, if there are so many
 *   file F SIZE [BYTE]          a new file F (a to z), open for reading and writing: a hole, or
 *                               SIZE times BYTE
 *   shmem F SIZE [BYTE]         the same, of shared memory
 *   fread F OFFSET LEN [BYTE]   as pread(): LEN bytes come (and are BYTE)
 *   fwrite F OFFSET LEN BYTE    as pwrite()
 *   truncate F SIZE
 *   punch F OFFSET LEN          a hole
 *   sync F                      as fsync()
 *   evict F                     what is clean and not mapped leaves the page cache
 *   fail F read|write eio|enospc|none     what its disk does from now on
 *   fail swap read|write eio|enospc|none  what the swap area does from now on
 *   close F                     mappings of it stay
 *   fork as P                   the process that runs here gets a child
 *   process P|first             it runs on this CPU from here on
 *   exit P                      it ends; where it ran, the first runs
 *   cpu N                       the operations from here on are done on this CPU, by the process
 *                               that runs there
 *   measure                     whoever counts begins here
 *   check                       every invariant of engine and TLBs
 *   expect COUNTER N            minor major rss swapped maps
 *   expect FCOUNTER F N         cached dirty away (pages of the file: in the cache, in swap slots)
 *
 * ADDR: a number, or the name given by `as` with an offset (X, X+4K); names are A to Z, those of
 * processes apart from those of addresses.  The first process is there from the beginning and does
 * not exit; it runs on all CPUs.
 * Numbers: 123, 0x7b, with a suffix K, M, G or P (pages).  PROT: none, r, rw, rx, rwx, w, x, wx.
 *
 * Each line may end with what is to come of it; without, it is to succeed:
 *
 *   -> ok | -> ADDR (map and remap) | -> segv maperr | -> segv accerr | -> bus | -> oom
 *   -> einval | -> enomem | -> eexist | -> efault | -> eio | -> enospc
 */
#ifndef VMF_SOFT_SCRIPT_H
#define VMF_SOFT_SCRIPT_H

#include "machine/soft/program.h"
#include "machine/soft/soft.h"

struct script;

/* Long enough for every message of the two below. */
#define SCRIPT_MESSAGE 160

/*
 * Understand a whole script, `size` bytes that may be any, before anything is run.  0; -ENOMEM;
 * -EINVAL: `message` (at least SCRIPT_MESSAGE bytes) says what is wrong in one line, as in
 * "line 3, column 1: unknown operation 'mop'".
 */
int script_parse(const char *text, size_t size, struct script **script, char *message);
void script_free(struct script *script);

/*
 * Run it on the engine, on a space that is loaded on every CPU it uses, which it is in the end,
 * too; the children that it made are gone.  0; -ERANGE: a line's outcome is not the one that was
 * expected, and message says so: "line 4: read: expected segv accerr, got ok".
 */
int script_run(const struct script *script, struct soft_machine *m, struct mm *mm, char *message);
/* The same on any program.  What it does not offer fails with -ENOSYS: "line 4: fork: not offered".
 * Processes that the script made and did not end are ended, and its files closed. */
int script_run_on(const struct script *script, struct program *program, char *message);

#endif
