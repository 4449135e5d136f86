/* SPDX-License-Identifier: MIT */
/* The error code that the CPU pushes with vector 14 (Intel SDM vol. 3A, 4.7). */
#ifndef VMF_MMU_ERROR_CODE_H
#define VMF_MMU_ERROR_CODE_H

#include "engine/base/types.h"

enum pf_error_code {
	PF_PROT = 1u << 0,  /* P: 0 not present, 1 protection */
	PF_WRITE = 1u << 1, /* W/R */
	PF_USER = 1u << 2,  /* U/S */
	PF_RSVD = 1u << 3,  /* a reserved bit was set in an entry */
	PF_INSTR = 1u << 4, /* I/D: instruction fetch */
	PF_PK = 1u << 5,    /* protection key */
	PF_SHSTK = 1u << 6, /* shadow-stack access */
	PF_SGX = 1u << 15,  /* SGX's access control */
};

/*
 * The code in words, such as "user write: page not present", "kernel fetch: protection" or
 * "user read: reserved bit set".  At most size - 1 characters and a NUL; 64 bytes are enough.
 * Returns buf.
 */
const char *pf_error_text(u32 code, char *buf, size_t size);

#endif
