/* SPDX-License-Identifier: MIT */
#include "engine/engine.h"

struct engine_config engine_default_config(u64 nr_user)
{
	return (struct engine_config){
		.prefetch = 32,
		.segment = MMU_BATCH,
		.kept_slots = nr_user,
		.marks = { .min = 32, .low = 64, .high = 128 },
	};
}
