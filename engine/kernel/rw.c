/* SPDX-License-Identifier: MIT */
/* pread(2) and pwrite(2); rw.h. */
#include "engine/kernel/rw.h"

#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/base/errno.h"

#define MOST_POSITION 0x7fffffffffffffffULL

/* What of [pos, pos + n) lies in its first page. */
static u64 part_of(u64 pos, u64 n)
{
	return min_of(n, PAGE_SIZE - (pos & ~PAGE_MASK));
}

static int check(const struct file *file, u32 mode, u64 address, u64 n, u64 pos)
{
	if (pos > MOST_POSITION)
		return -EINVAL;
	if (!(file->mode & mode))
		return -EBADF;
	if (!access_ok(address, n))
		return -EFAULT;
	return n > MOST_POSITION - pos ? -EINVAL : 0;
}

/*
 * The program's memory may be a mapping of the very page that is read or written, at another place
 * in it.  Then a byte of the source that lies where an earlier one has been copied to is that one:
 * copies go upwards.  Here they are two, and the first has taken the old bytes.
 */

/* Is the page of the file at pos mapped at address? */
static bool is_same_page(struct mm *mm, u64 address, const struct address_space *m, u64 pos)
{
	spinlock_t *ptl;
	pte_t *ptep;
	bool same = false;

	down_read(&mm->mmap_lock);
	ptep = pte_find(mm, address, &ptl);
	if (ptep) {
		pte_t pte;

		spin_lock(ptl);
		pte = pte_read(ptep);
		if (pte_present(pte) && !pte_special(pte)) {
			const struct page *page = pfn_page(mm->engine, pte_pfn(pte));

			same = page_test(page, PG_FILE) && page->mapping == m &&
			       page->index == pos >> PAGE_SHIFT;
		}
		spin_unlock(ptl);
	}
	up_read(&mm->mmap_lock);
	return same;
}

/* [source, source + n) was copied to bytes, and lies (from `begin` to `end`) in the same page as
 * what it is to be copied to, at `target`; all four as offsets in that page. */
static void copy_upwards(char *bytes, s64 source, u64 n, s64 target, s64 begin, s64 end)
{
	for (s64 k = 0; k < (s64)n; k++) {
		s64 at = source + k, earlier = at - target;

		if (at >= begin && at < end && earlier >= 0 && earlier < k)
			bytes[k] = bytes[earlier];
	}
}

/* The program's memory is in at most two pages, and the file's in one. */
static void write_upwards(struct mm *mm, const struct address_space *m, char *bytes, u64 from,
			  u64 n, u64 pos)
{
	s64 in_file = (s64)(pos & ~PAGE_MASK);

	for (u64 page = from & PAGE_MASK; page < from + n; page += PAGE_SIZE)
		if (is_same_page(mm, page, m, pos))
			copy_upwards(bytes, (s64)(from - page), n, in_file, 0, PAGE_SIZE);
}

static bool read_upwards(struct mm *mm, const struct address_space *m, char *bytes, u64 to, u64 n,
			 u64 pos)
{
	s64 in_file = (s64)(pos & ~PAGE_MASK);
	bool any = false;

	for (u64 page = to & PAGE_MASK; page < to + n; page += PAGE_SIZE) {
		s64 target = (s64)(to - page);

		if (!is_same_page(mm, page, m, pos))
			continue;
		copy_upwards(bytes, in_file, n, target, max_of(target, (s64)0), PAGE_SIZE);
		any = true;
	}
	return any;
}

s64 vfs_read(const struct uaccess *u, struct file *file, u64 to, u64 n, u64 pos)
{
	char bytes[PAGE_SIZE];
	u64 done = 0, left = 0;
	s64 got = check(file, FILE_READ, to, n, pos);

	if (got)
		return got;
	while (done < n && !left) {
		got = file_read(file, pos + done, bytes, part_of(pos + done, n - done));
		if (got <= 0)
			break;
		left = copy_to_user(u, to + done, bytes, (u64)got);
		/* Only now is it there to be looked at. */
		if (read_upwards(u->current->mm, file->mapping, bytes, to + done, (u64)got,
				 pos + done))
			copy_to_user(u, to + done, bytes, (u64)got - left);
		done += (u64)got - left;
		if (left)
			got = -EFAULT;
	}
	return done ? (s64)done : got;
}

/* What can be copied without a fault: bytes. */
static u64 copy_inatomic(const struct uaccess *u, void *to, u64 from, u64 n)
{
	u64 left;

	pagefault_disable(u->current);
	left = copy_from_user(u, to, from, n);
	pagefault_enable(u->current);
	return n - left;
}

/* Bring in what there is of it.  False: nothing at its beginning. */
static bool fault_in_readable(const struct uaccess *u, u64 from, u64 n)
{
	u64 end = from + n, byte;
	bool any = false;

	while (from < end && !get_user(u, &byte, from, 1)) {
		any = true;
		from = (from & PAGE_MASK) + PAGE_SIZE;
	}
	return any;
}

/*
 * generic_perform_write(), as it is since Linux 6.16: first the file's page, then a copy without
 * faults, and only if that copied nothing is the program's memory brought in.
 */
s64 vfs_write(const struct uaccess *u, struct file *file, u64 from, u64 n, u64 pos)
{
	char bytes[PAGE_SIZE];
	u64 done = 0;
	s64 got = check(file, FILE_WRITE, from, n, pos);

	if (got)
		return got;
	while (done < n) {
		u64 part = part_of(pos + done, n - done);
		u64 copied;

		/* Of what is sealed no part is written, however much could be copied. */
		got = memfd_check_write(file->mapping, pos + done, part);
		if (got < 0)
			break;
		copied = copy_inatomic(u, bytes, from + done, part);
		write_upwards(u->current->mm, file->mapping, bytes, from + done, copied,
			      pos + done);
		if (copied)
			got = file_write(file, pos + done, bytes, copied);
		else
			got = file_begin_write(file, pos + done);
		if (got < 0)
			break;
		done += (u64)got;
		if (!copied && !fault_in_readable(u, from + done, part)) {
			got = -EFAULT;
			break;
		}
	}
	return done ? (s64)done : got;
}
