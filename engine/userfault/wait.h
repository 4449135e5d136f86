/* SPDX-License-Identifier: MIT */
/* What waits in the lists of a context. */
#ifndef VMF_USERFAULT_WAIT_H
#define VMF_USERFAULT_WAIT_H

#include "engine/userfault/userfault.h"

/* A faulting thread, or one that has changed the layout; on its stack. */
struct userfault_wait {
	struct list_head link; /* ctx->lock */
	struct userfault_msg msg;
	bool read;	    /* of an event: ctx->lock */
	_Atomic u32 asleep; /* 0: it may go on; set under ctx->lock */
};

#endif
