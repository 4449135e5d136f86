/* SPDX-License-Identifier: MIT */
/* The test files on the engine's side: shared memory, as the kernel's are. */
#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/base/errno.h"
#include "tests/differential/engine_side.h"

static bool make_file(struct engine_side *s, enum test_file file, unsigned seen, u64 size)
{
	struct file *f = memfd_alloc_file(&s->machine->engine, MEMFD_ALLOW_SEALING);

	s->files[file] = f;
	if (!f || file_truncate(f, size))
		return false;
	for (u64 page = 0; page * PAGE_SIZE < size; page++) {
		u64 word = file_word(seen, page);

		if (page != 5 && page != 6 &&
		    file_write(f, page * PAGE_SIZE, &word, sizeof(word)) != sizeof(word))
			return false;
	}
	return true;
}

bool engine_make_files(struct engine_side *s)
{
	if (!make_file(s, FILE_0, SEEN_FILE_0, FILE_0_SIZE) ||
	    !make_file(s, FILE_1, SEEN_FILE_1, 0) ||
	    !make_file(s, FILE_SEALED, SEEN_SEALED, FILE_SEALED_SIZE) ||
	    memfd_add_seals(s->files[FILE_SEALED], FILE_SEALED_SEALS))
		return false;
	s->files[FILE_0_READ_ONLY] = file_open(s->files[FILE_0]->mapping, FILE_READ);
	s->files[FILE_0_WRITE_ONLY] = file_open(s->files[FILE_0]->mapping, FILE_WRITE);
	return s->files[FILE_0_READ_ONLY] && s->files[FILE_0_WRITE_ONLY];
}

void engine_close_files(struct engine_side *s)
{
	for (unsigned i = 0; i < NR_TEST_FILES; i++) {
		if (s->files[i])
			file_put(s->files[i]);
		s->files[i] = NULL;
	}
}

unsigned engine_object_of(const struct engine_side *s, struct engine_objects *objects,
			  const struct vma *vma)
{
	unsigned i;

	if (!vma->file)
		return SEEN_ANONYMOUS;
	if (vma->file->mapping == s->files[FILE_0]->mapping)
		return SEEN_FILE_0;
	if (vma->file->mapping == s->files[FILE_1]->mapping)
		return SEEN_FILE_1;
	if (vma->file->mapping == s->files[FILE_SEALED]->mapping)
		return SEEN_SEALED;
	for (i = 0; i < objects->n; i++)
		if (objects->mappings[i] == vma->file->mapping)
			break;
	if (i == objects->n)
		objects->mappings[objects->n++] = vma->file->mapping;
	return min_of(SEEN_OBJECT + i, 255u);
}
