/* SPDX-License-Identifier: MIT */
/*
 * Where the laboratory's systems put pages that must leave memory: kept as they are, each transfer
 * counted in the ledger, failing when told to.
 */
#ifndef VMF_SYSTEMS_LAB_STORE_H
#define VMF_SYSTEMS_LAB_STORE_H

#include "engine/backing/ramfile.h"
#include "engine/backing/store.h"
#include "systems/ledger.h"

struct lab_store {
	struct store store;
	_Atomic int error[NR_RAMFILE_IO]; /* what reading and writing give; 0: they work */
	char **pages;			  /* [nr_slots]; NULL: the slot is empty */
	const struct ledger_actor *const
		*who; /* whose transfers they are; NULL: nobody's to tell */
};

/* 0, -ENOMEM. */
int lab_store_init(struct lab_store *s, u64 slots);
void lab_store_fini(struct lab_store *s);
/* From now on; err 0: it works again. */
void lab_store_fail(struct lab_store *s, enum ramfile_io io, int err);

#endif
