/* SPDX-License-Identifier: MIT */
/* Page-fault error codes in words; see error_code.h. */
#include "engine/mmu/error_code.h"
#include "engine/base/text.h"

static const char *access_word(u32 code)
{
	if (code & PF_INSTR)
		return "fetch";
	if (code & PF_SHSTK)
		return code & PF_WRITE ? "shadow-stack write" : "shadow-stack read";
	return code & PF_WRITE ? "write" : "read";
}

static const char *cause_word(u32 code)
{
	if (!(code & PF_PROT))
		return "page not present";
	if (code & PF_RSVD)
		return "reserved bit set";
	if (code & PF_PK)
		return "protection key";
	if (code & PF_SGX)
		return "SGX access control";
	return "protection";
}

const char *pf_error_text(u32 code, char *buf, size_t size)
{
	text_format(buf, size, "%s %s: %s", code & PF_USER ? "user" : "kernel", access_word(code),
		    cause_word(code));
	return buf;
}
