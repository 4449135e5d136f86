/* SPDX-License-Identifier: MIT */
/* What the user asks of `vmfault oracle`, and its result as JSON. */
#ifndef VMF_TOOLS_ORACLE_H
#define VMF_TOOLS_ORACLE_H

#include "tests/differential/session.h"

struct oracle_options {
	struct session_options session;
	struct sequence *sequences; /* of the files to replay */
	char **names;		    /* of the files: each is ours */
	unsigned n;
	bool json, help;
};

/* One object on stdout. */
void oracle_json_print(const struct session_options *options, const struct session_result *result);

#endif
