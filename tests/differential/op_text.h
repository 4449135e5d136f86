/* SPDX-License-Identifier: MIT */
/* Sequences as text; op.h has the language.  What is printed reads back as what it was. */
#ifndef VMF_DIFFERENTIAL_OP_TEXT_H
#define VMF_DIFFERENTIAL_OP_TEXT_H

#include "tests/differential/op.h"

/* Long enough for every complaint, and for every line. */
#define COMPLAINT_SIZE 200
#define LINE_SIZE      256

/*
 * Read a whole text of `size` bytes, which may hold anything.  False: `complaint` says where and
 * what, as in "line 3, column 8: no call is named 'mop'".
 */
bool sequence_parse(const char *text, size_t size, struct sequence *sequence, char *complaint);

/* One operation without a newline; returns buf. */
const char *op_print(const struct op *op, char buf[LINE_SIZE]);
/* A number as an address (in the arena, if it is). At least 40 bytes; returns buf. */
const char *address_print(u64 addr, char *buf, size_t size);

#endif
