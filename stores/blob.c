/* SPDX-License-Identifier: MIT */
/*
 * See blob.h.
 *
 * A chunk is in one of three states:
 *   in the pool       listed there, no blob in use;
 *   partial           listed in its class, with room for another blob;
 *   full              on no list; the first blob freed puts it at the head of its class, so that
 *                     the fullest chunks are filled first and the emptier ones can run empty.
 *
 * blob_bytes() takes no lock: whoever names a blob got it from blob_alloc(), after the chunk's
 * extent had its memory, and an extent that has a blob in use keeps its memory.
 */
#include "stores/blob.h"

#include "engine/base/errno.h"

static unsigned class_bytes(unsigned class)
{
	return (class + 1) * BLOB_STEP;
}

static unsigned blobs_a_chunk(unsigned class)
{
	return BLOB_CHUNK / class_bytes(class);
}

static struct blob_chunk *chunk_of(const struct blobs *b, u32 number)
{
	return &b->chunks[number - 1];
}

static struct blob_extent *extent_of(const struct blobs *b, u32 number)
{
	return &b->extents[(number - 1) / CHUNKS_A_EXTENT];
}

static u8 *chunk_memory(const struct blobs *b, u32 number)
{
	return (u8 *)extent_of(b, number)->memory + (number - 1) % CHUNKS_A_EXTENT * BLOB_CHUNK;
}

static void list_push(struct blobs *b, u32 *head, u32 number)
{
	struct blob_chunk *chunk = chunk_of(b, number);

	chunk->prev = 0;
	chunk->next = *head;
	if (*head)
		chunk_of(b, *head)->prev = number;
	*head = number;
	chunk->listed = true;
}

static void list_remove(struct blobs *b, u32 *head, u32 number)
{
	struct blob_chunk *chunk = chunk_of(b, number);

	if (chunk->prev)
		chunk_of(b, chunk->prev)->next = chunk->next;
	else
		*head = chunk->next;
	if (chunk->next)
		chunk_of(b, chunk->next)->prev = chunk->prev;
	chunk->next = chunk->prev = 0;
	chunk->listed = false;
}

int blobs_init(struct blobs *b, const struct engine_memory *memory, u64 max_bytes, u64 capacity,
	       _Atomic u64 *taken)
{
	u64 nr = (max_bytes + BLOB_EXTENT - 1) / BLOB_EXTENT;

	if (nr > UINT32_MAX / CHUNKS_A_EXTENT)
		nr = UINT32_MAX / CHUNKS_A_EXTENT;
	b->memory = memory;
	b->nr_extents = nr;
	b->taken = taken;
	b->capacity = capacity ? capacity : UINT64_MAX;
	spin_init(&b->lock);
	for (unsigned i = 0; i < BLOB_CLASSES; i++)
		spin_init(&b->classes[i].lock);
	b->chunks = memory->alloc(memory->ctx, nr * CHUNKS_A_EXTENT * sizeof(*b->chunks));
	b->extents = memory->alloc(memory->ctx, nr * sizeof(*b->extents));
	return b->chunks && b->extents ? 0 : -ENOMEM;
}

void blobs_fini(struct blobs *b)
{
	const struct engine_memory *m = b->memory;

	for (u32 i = 0; i < b->extents_used; i++)
		if (b->extents[i].memory)
			m->free(m->ctx, b->extents[i].memory, BLOB_EXTENT);
	if (b->chunks)
		m->free(m->ctx, b->chunks,
			(u64)b->nr_extents * CHUNKS_A_EXTENT * sizeof(*b->chunks));
	if (b->extents)
		m->free(m->ctx, b->extents, b->nr_extents * sizeof(*b->extents));
}

/* Another extent, its chunks into the pool.  Pool locked. */
static bool extent_get(struct blobs *b)
{
	struct blob_extent *extent;
	u32 n = b->extents_gone ? b->extents_gone - 1 : b->extents_used;

	if (n >= b->nr_extents)
		return false;
	extent = &b->extents[n];
	extent->memory = b->memory->alloc(b->memory->ctx, BLOB_EXTENT);
	if (!extent->memory)
		return false;
	if (b->extents_gone)
		b->extents_gone = extent->next;
	else
		b->extents_used++;
	extent->nr_free = CHUNKS_A_EXTENT;
	for (u32 i = CHUNKS_A_EXTENT; i > 0; i--)
		list_push(b, &b->pool, n * CHUNKS_A_EXTENT + i);
	return true;
}

/* An extent whose chunks are all in the pool goes back to the machine.  Pool locked. */
static void extent_put(struct blobs *b, u32 n)
{
	struct blob_extent *extent = &b->extents[n];

	for (u32 i = 1; i <= CHUNKS_A_EXTENT; i++)
		list_remove(b, &b->pool, n * CHUNKS_A_EXTENT + i);
	b->memory->free(b->memory->ctx, extent->memory, BLOB_EXTENT);
	extent->memory = NULL;
	extent->next = b->extents_gone;
	b->extents_gone = n + 1;
}

/* A chunk's room is taken from what may be taken.  False: none is left. */
static bool charge_chunk(struct blobs *b)
{
	u64 before = atomic_fetch_add_explicit(b->taken, BLOB_CHUNK, memory_order_relaxed);

	if (before + BLOB_CHUNK <= b->capacity)
		return true;
	atomic_fetch_sub_explicit(b->taken, BLOB_CHUNK, memory_order_relaxed);
	return false;
}

/* A chunk for a class, on no list; 0: none to be had. */
static u32 pool_get(struct blobs *b, unsigned class)
{
	struct blob_chunk *chunk;
	struct blob_extent *extent;
	u32 number;

	if (!charge_chunk(b))
		return 0;
	spin_lock(&b->lock);
	if (!b->pool && !extent_get(b)) {
		spin_unlock(&b->lock);
		atomic_fetch_sub_explicit(b->taken, BLOB_CHUNK, memory_order_relaxed);
		return 0;
	}
	number = b->pool;
	list_remove(b, &b->pool, number);
	extent = extent_of(b, number);
	extent->nr_free--;
	if (b->spare == (number - 1) / CHUNKS_A_EXTENT + 1)
		b->spare = 0;
	spin_unlock(&b->lock);

	chunk = chunk_of(b, number);
	*chunk = (struct blob_chunk){ .class = class };
	return number;
}

/* A chunk without blobs, on no list, comes back. */
static void pool_put(struct blobs *b, u32 number)
{
	u32 n = (number - 1) / CHUNKS_A_EXTENT;
	struct blob_extent *extent = &b->extents[n];

	spin_lock(&b->lock);
	list_push(b, &b->pool, number);
	if (++extent->nr_free == CHUNKS_A_EXTENT) {
		if (b->spare)
			extent_put(b, n);
		else
			b->spare = n + 1;
	}
	spin_unlock(&b->lock);
	atomic_fetch_sub_explicit(b->taken, BLOB_CHUNK, memory_order_relaxed);
}

/* The next blob of the class's first chunk with room.  Class locked; it has one. */
static struct blob take_from(struct blobs *b, struct blob_class *c)
{
	u32 number = c->partial;
	struct blob_chunk *chunk = chunk_of(b, number);
	struct blob blob = { .chunk = number };

	if (chunk->first_free) {
		blob.index = chunk->first_free - 1;
		memcpy(&chunk->first_free, blob_bytes(b, blob), sizeof(chunk->first_free));
	} else {
		blob.index = chunk->nr_cut++;
	}
	if (++chunk->nr_used == blobs_a_chunk(chunk->class))
		list_remove(b, &c->partial, number);
	return blob;
}

static bool take_partial(struct blobs *b, unsigned class, struct blob *out)
{
	struct blob_class *c = &b->classes[class];
	bool found;

	spin_lock(&c->lock);
	found = c->partial != 0;
	if (found)
		*out = take_from(b, c);
	spin_unlock(&c->lock);
	return found;
}

int blob_alloc(struct blobs *b, unsigned length, struct blob *out)
{
	unsigned class = (length - 1) / BLOB_STEP;
	struct blob_class *c = &b->classes[class];
	u32 number;

	if (take_partial(b, class, out))
		return 0;
	number = pool_get(b, class);
	if (number) {
		spin_lock(&c->lock);
		list_push(b, &c->partial, number);
		*out = take_from(b, c);
		spin_unlock(&c->lock);
		return 0;
	}
	/* No new chunk: a larger blob wastes room that nobody else could use now. */
	while (++class < BLOB_CLASSES)
		if (take_partial(b, class, out))
			return 0;
	out->chunk = 0;
	return -ENOSPC;
}

void blob_free(struct blobs *b, struct blob blob)
{
	struct blob_chunk *chunk = chunk_of(b, blob.chunk);
	struct blob_class *c = &b->classes[chunk->class];
	bool empty;

	spin_lock(&c->lock);
	memcpy(blob_bytes(b, blob), &chunk->first_free, sizeof(chunk->first_free));
	chunk->first_free = blob.index + 1;
	empty = --chunk->nr_used == 0;
	if (empty && chunk->listed)
		list_remove(b, &c->partial, blob.chunk);
	else if (!empty && !chunk->listed)
		list_push(b, &c->partial, blob.chunk);
	spin_unlock(&c->lock);
	if (empty)
		pool_put(b, blob.chunk);
}

void *blob_bytes(const struct blobs *b, struct blob blob)
{
	return chunk_memory(b, blob.chunk) +
	       blob.index * class_bytes(chunk_of(b, blob.chunk)->class);
}
