/* SPDX-License-Identifier: MIT */
/*
 * What the contract test needs from a machine beside its struct mmu_ops: a machine with an engine
 * and one space, and somebody who touches its memory as the program would.  One source file for
 * each machine implements it (soft.c, linux.c); contract.c is the same for all.
 */
#ifndef VMF_TESTS_CONTRACT_MACHINE_H
#define VMF_TESTS_CONTRACT_MACHINE_H

#include "engine/engine.h"

enum contract_mode {
	/* Nobody serves faults: the test calls the operations itself, and the program touches only
	 * pages that are present. */
	CONTRACT_BARE,
	/* The engine serves the program's faults, as in life. */
	CONTRACT_SERVED,
};

struct contract {
	struct engine *engine;
	struct mm *mm;
	u64 base;      /* of one area of private anonymous memory, readable and writable */
	u64 pages;     /* its length; none is present */
	void *machine; /* the implementation's own */
};

/* How many of the program's threads there are, numbered from 0; each is used by one thread of the
 * test at a time. */
#define CONTRACT_THREADS 4

/* Why this machine cannot be had here, in which case the tests are skipped; NULL: it can.  Called
 * before anything else. */
const char *contract_missing(void);

/* An engine with `frames` frames for the program, and the area.  0, or a negative errno. */
int contract_create(struct contract *c, enum contract_mode mode, u64 pages, u64 frames);
/* The area is unmapped; no frame of it is in use any more. */
void contract_destroy(struct contract *c);

/* The program reads and writes a byte.  With CONTRACT_BARE the page is present (and writable). */
u8 program_read(struct contract *c, unsigned thread, u64 va);
void program_write(struct contract *c, unsigned thread, u64 va, u8 byte);
/* Would the program's read go through without a fault?  CONTRACT_BARE only. */
bool program_present(struct contract *c, u64 va);
/* And its write of `byte`, by this thread?  CONTRACT_BARE, and where pages are shared, only. */
bool program_can_write(struct contract *c, unsigned thread, u64 va, u8 byte);

/* The program gives up its pages of [va, va + n pages), of which the engine is about to hear: what
 * comes before mmu_ops.clear() in life.  Nothing, where it is the engine that does it. */
void program_unmap(struct contract *c, u64 va, unsigned n);
/* The page goes behind the engine's back; its entry is ptep. */
void program_loses_page(struct contract *c, u64 va, pte_t *ptep);
/* A page of zeros comes behind the engine's back.  False where that cannot be. */
bool program_gains_page(struct contract *c, u64 va);

#endif
