/* SPDX-License-Identifier: MIT */
/* Rule: streams and datagrams received into evicted memory, by recv and recvmsg, are whole; none is
 * lost. */
#include "check.h"
#include <sys/socket.h>
#include <sys/uio.h>

#define MESSAGE (8 * PAGE)

static void one_message(int send_to, int receive_from, char *from, char *to, int by_msg)
{
	struct iovec out[2] = { { from, PAGE }, { from + PAGE, MESSAGE - PAGE } };
	struct iovec in[2] = { { to, 3 * PAGE }, { to + 3 * PAGE, MESSAGE - 3 * PAGE } };
	struct msghdr send_head = { .msg_iov = out, .msg_iovlen = 2 };
	struct msghdr receive_head = { .msg_iov = in, .msg_iovlen = 2 };

	if (by_msg) {
		EXPECT(sendmsg(send_to, &send_head, 0) == MESSAGE);
		EXPECT(recvmsg(receive_from, &receive_head, MSG_WAITALL) == MESSAGE);
	} else {
		EXPECT(send(send_to, from, MESSAGE, 0) == MESSAGE);
		EXPECT(recv(receive_from, to, MESSAGE, MSG_WAITALL) == MESSAGE);
	}
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size) / MESSAGE * MESSAGE;
	char *from = map(part), *to = map(part);
	int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };

	fill(from, part, 1);
	for (int i = 0; i < 6; i++) {
		int ends[2];

		EXPECT(socketpair(AF_UNIX, types[i % 3], 0, ends) == 0);
		fill(to, part, 2);
		press(size - 2 * part);
		for (size_t at = 0; at < part; at += MESSAGE)
			one_message(ends[0], ends[1], from + at, to + at, i / 3);
		verify(to, part, 1);
		close(ends[0]);
		close(ends[1]);
	}
	return passed();
}
