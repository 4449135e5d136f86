/* SPDX-License-Identifier: MIT */
/* Rule: io_uring reads into evicted memory, and memory that is registered with it (pinned) stays
 * the same memory. */
#include "check.h"
#include <linux/io_uring.h>
#include <sys/uio.h>

struct ring {
	int fd;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static int ring_open(struct ring *r)
{
	struct io_uring_params p = { 0 };
	char *sq, *cq;

	r->fd = syscall(SYS_io_uring_setup, 8, &p);
	if (r->fd < 0)
		return -1;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED,
		  r->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		       MAP_SHARED, r->fd, IORING_OFF_SQES);
	EXPECT(sq != MAP_FAILED && cq != MAP_FAILED && r->sqes != MAP_FAILED);
	r->sq_tail = (void *)(sq + p.sq_off.tail);
	r->sq_mask = (void *)(sq + p.sq_off.ring_mask);
	r->sq_array = (void *)(sq + p.sq_off.array);
	r->cq_head = (void *)(cq + p.cq_off.head);
	r->cq_tail = (void *)(cq + p.cq_off.tail);
	r->cq_mask = (void *)(cq + p.cq_off.ring_mask);
	r->cqes = (void *)(cq + p.cq_off.cqes);
	return 0;
}

static int ring_do(struct ring *r, int op, int fd, void *p, unsigned bytes, uint64_t offset)
{
	unsigned tail = *r->sq_tail, at = tail & *r->sq_mask;
	struct io_uring_sqe *sqe = &r->sqes[at];
	int result;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = op;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)p;
	sqe->len = bytes;
	sqe->off = offset;
	r->sq_array[at] = at;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	EXPECT(syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
	EXPECT(__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) != *r->cq_head);
	result = r->cqes[*r->cq_head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, *r->cq_head + 1, __ATOMIC_RELEASE);
	return result;
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size), chunk = 16 * PAGE;
	char *plain = map(part), *pinned = map(4 * MIB);
	struct iovec vec = { pinned, 4 * MIB };
	int fd = nameless_file();
	struct ring ring;

	if (ring_open(&ring) < 0)
		skip("no io_uring here");
	fill(plain, part, 1);
	press(size - part);
	for (size_t at = 0; at < part; at += chunk)
		EXPECT(ring_do(&ring, IORING_OP_WRITE, fd, plain + at, chunk, at) == (int)chunk);
	fill(plain, part, 2);
	press(size - part);
	for (size_t at = 0; at < part; at += chunk)
		EXPECT(ring_do(&ring, IORING_OP_READ, fd, plain + at, chunk, at) == (int)chunk);
	verify(plain, part, 1);

	/* Pinned while evicted; then a read through the pinned pages must be seen by the program.
	 */
	fill(pinned, 4 * MIB, 3);
	press(size - part);
	if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &vec, 1) < 0)
		skip("no buffers can be registered");
	verify(pinned, 4 * MIB, 3);
	press(size - part);
	EXPECT(ring_do(&ring, IORING_OP_WRITE_FIXED, fd, pinned, 1 * MIB, 0) == (int)MIB);
	fill(pinned, 4 * MIB, 4);
	press(size - part);
	EXPECT(ring_do(&ring, IORING_OP_READ_FIXED, fd, pinned, 1 * MIB, 0) == (int)MIB);
	verify(pinned, 1 * MIB, 3);
	for (size_t i = MIB / PAGE; i < 4 * MIB / PAGE; i++)
		EXPECT(page_is(pinned + i * PAGE, 4, i));
	return passed();
}
