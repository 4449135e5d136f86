/* SPDX-License-Identifier: MIT */
/* Seals, as Linux 6.18 has them; see memfd.h. */
#include "engine/backing/memfd.h"

#include "engine/backing/page_cache.h"
#include "engine/backing/shmem.h"
#include "engine/base/errno.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/mm.h"

#define SEALS_BYTES (MEMFD_SEAL_WRITE | MEMFD_SEAL_FUTURE_WRITE)

static u32 seals_of(const struct address_space *m)
{
	return atomic_load_explicit(&m->seals, memory_order_acquire);
}

struct file *memfd_alloc_file(struct engine *e, u32 flags)
{
	u32 seals = MEMFD_SEAL_SEAL;
	struct file *file;

	if (flags & MEMFD_NOEXEC_SEAL)
		seals = MEMFD_SEAL_EXEC;
	else if (flags & MEMFD_ALLOW_SEALING)
		seals = 0;
	if (flags & MEMFD_HUGETLB) {
		struct hstate *h = hstate_sizelog(e, flags >> MEMFD_HUGE_SHIFT & MEMFD_HUGE_MASK);

		return h ? hugetlb_file_setup(h, 0, seals) : NULL;
	}
	file = shmem_file_setup(e, 0);
	if (file)
		atomic_store(&file->mapping->seals, seals);
	return file;
}

/* i_rwsem held for writing. */
static int add_seals(struct address_space *m, u32 seals)
{
	u32 has = seals_of(m);
	int err;

	if (has & MEMFD_SEAL_SEAL)
		return -EPERM;
	/* Who has no such seal yet may be executed.  Then what is executed stays what it is. */
	if ((seals & MEMFD_SEAL_EXEC) && !(has & MEMFD_SEAL_EXEC))
		seals |= SEALS_BYTES | MEMFD_SEAL_SHRINK | MEMFD_SEAL_GROW;
	if ((seals & MEMFD_SEAL_WRITE) && !(has & MEMFD_SEAL_WRITE)) {
		err = mapping_deny_writable(m);
		if (err)
			return err;
	}
	atomic_store_explicit(&m->seals, has | seals, memory_order_release);
	return 0;
}

int memfd_add_seals(struct file *file, u32 seals)
{
	struct address_space *m = file->mapping;
	int err;

	if (!(file->mode & FILE_WRITE))
		return -EPERM;
	if ((seals & ~MEMFD_ALL_SEALS) || !m || !m->ops->may_be_sealed)
		return -EINVAL;
	down_write(&m->i_rwsem);
	err = add_seals(m, seals);
	up_write(&m->i_rwsem);
	return err;
}

int memfd_get_seals(const struct file *file)
{
	const struct address_space *m = file->mapping;

	return m && m->ops->may_be_sealed ? (int)seals_of(m) : -EINVAL;
}

int memfd_check_mmap(const struct address_space *m, u32 *vm_flags)
{
	if (likely(!(seals_of(m) & SEALS_BYTES)) || !(*vm_flags & VM_SHARED))
		return 0;
	if (*vm_flags & VM_WRITE)
		return -EPERM;
	*vm_flags &= ~(u32)VM_MAYWRITE;
	return 0;
}

int memfd_check_write(const struct address_space *m, u64 pos, u64 len)
{
	u32 seals = seals_of(m);

	if (likely(!(seals & (SEALS_BYTES | MEMFD_SEAL_GROW))))
		return 0;
	return (seals & SEALS_BYTES) || pos + len > mapping_size(m) ? -EPERM : 0;
}

int memfd_check_truncate(const struct address_space *m, u64 size)
{
	u32 seals = seals_of(m);
	u64 old = mapping_size(m);

	if (size < old)
		return seals & MEMFD_SEAL_SHRINK ? -EPERM : 0;
	return size > old && (seals & MEMFD_SEAL_GROW) ? -EPERM : 0;
}

int memfd_check_punch(const struct address_space *m)
{
	return seals_of(m) & SEALS_BYTES ? -EPERM : 0;
}
