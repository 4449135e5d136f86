/* SPDX-License-Identifier: MIT */
#include "systems/common/program_attacks.h"

#include "engine/base/errno.h"

#define AT     0x20000000ULL
#define KERNEL 0xffff888000000000ULL
#define SECRET 0x5ec2e7ULL

/* What the program is told, as the errno that says the same. */
static int told(enum fault_reason reason)
{
	return reason == FAULT_OK ? 0 : reason == FAULT_ACCERR ? -EACCES : -EFAULT;
}

static int touch(struct system *s, u64 va, u32 access, u64 *word)
{
	return told(s->program->ops->access(s->program, 0, va, access, word, sizeof(*word)));
}

/* A page with the secret in it, and in the TLB. */
static int map_secret(struct system *s)
{
	struct program_map a = { .addr = AT,
				 .len = PAGE_SIZE,
				 .prot = VM_READ | VM_WRITE,
				 .flags = VMAP_FIXED,
				 .file = -1 };
	s64 at = s->program->ops->map(s->program, 0, &a);
	u64 word = SECRET;

	return at < 0 ? (int)at : touch(s, AT, PF_WRITE, &word);
}

static int read_the_kernel(struct system *s)
{
	u64 word;

	return touch(s, KERNEL, 0, &word);
}

static int write_to_the_kernel(struct system *s)
{
	u64 word = 0;

	return touch(s, KERNEL, PF_WRITE, &word);
}

static int map_over_the_kernel(struct system *s)
{
	struct program_map a = { .addr = KERNEL,
				 .len = PAGE_SIZE,
				 .prot = VM_READ | VM_WRITE,
				 .flags = VMAP_FIXED,
				 .file = -1 };

	return (int)min_of(s->program->ops->map(s->program, 0, &a), (s64)0);
}

static int use_what_is_unmapped(struct system *s)
{
	u64 word = 0;
	int err = map_secret(s);

	if (err || s->program->ops->unmap(s->program, 0, AT, PAGE_SIZE))
		return 1;
	err = touch(s, AT, 0, &word);
	return word == SECRET ? 1 : err;
}

static int write_what_is_read_only(struct system *s)
{
	u64 word = 0;
	int err = map_secret(s);

	if (err || s->program->ops->protect(s->program, 0, AT, PAGE_SIZE, VM_READ))
		return 1;
	err = touch(s, AT, PF_WRITE, &word);
	return touch(s, AT, 0, &word) || word != SECRET ? 1 : err;
}

static int execute_data(struct system *s)
{
	u64 word;
	int err = map_secret(s);

	return err ? 1 : touch(s, AT, PF_INSTR, &word);
}

/* The program's own page has gone through another's hands: nothing of it may be left. */
static int look_for_what_others_left(struct system *s)
{
	u64 word = 0;
	int err = map_secret(s);

	if (err || s->program->ops->unmap(s->program, 0, AT, PAGE_SIZE))
		return 1;
	for (unsigned i = 0; i < 64; i++) {
		struct program_map a = { .addr = AT + i * PAGE_SIZE,
					 .len = PAGE_SIZE,
					 .prot = VM_READ | VM_WRITE,
					 .flags = VMAP_FIXED,
					 .file = -1 };
		u64 zero = 0;

		if (s->program->ops->map(s->program, 0, &a) < 0)
			return 1;
		/* The first write brings a frame, and what is beside it is what was there. */
		if (touch(s, a.addr + 8, PF_WRITE, &zero) || touch(s, a.addr, 0, &word))
			return 1;
		if (word == SECRET)
			return 0;
	}
	return -ENOENT;
}

const struct system_attack program_attacks[NR_PROGRAM_ATTACKS] = {
	{ "a program reads the kernel's memory", read_the_kernel, -EFAULT },
	{ "a program writes to the kernel's memory", write_to_the_kernel, -EFAULT },
	{ "a program maps a page over the kernel", map_over_the_kernel, -ENOMEM },
	{ "a program uses a page that it has unmapped", use_what_is_unmapped, -EFAULT },
	{ "a program writes to what it may only read", write_what_is_read_only, -EACCES },
	{ "a program executes its data", execute_data, -EACCES },
	{ "a program looks for what others left in frames", look_for_what_others_left, -ENOENT },
};

void attack_map_two_pages(struct system *s, u64 at)
{
	struct program_map map = { .addr = at,
				   .len = 2 * PAGE_SIZE,
				   .prot = VM_READ | VM_WRITE,
				   .flags = VMAP_FIXED,
				   .file = -1 };
	u8 byte = 1;

	s->program->ops->map(s->program, 0, &map);
	s->program->ops->access(s->program, 0, at, PF_WRITE, &byte, 1);
}
