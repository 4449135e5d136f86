/* SPDX-License-Identifier: MIT */
/*
 * See memory.h.
 *
 * save() asks in this order: are all words the same (kept in the slot itself); does it get small
 * (kept compressed); else kept as it is.  The slot is written last, when nothing can fail any
 * more, so that a save that found no room has changed nothing.
 *
 * The checksum is one of the page's own bytes, 128 bits long.  It serves twice: load() proves that
 * what comes out is what went in, whatever happened to the blob, the slot or the decompressor; and
 * same() compares a page with its copy without unpacking that.  At 128 bits two different pages of
 * one program do not meet by chance; XXH3 does not withstand somebody who makes them meet, who
 * would have to be the program itself, spoiling its own memory.
 *
 * A slot has no lock: the caller does not touch one slot twice at once (engine/backing/store.h).
 */
#include "engine/base/errno.h"
#include "stores/blob.h"
#include "stores/checksum.h"
#include "stores/memory.h"
#include "stores/pack.h"

#define PAGE_WORDS (PAGE_SIZE / sizeof(u64))
/* Blobs may take this many times the pages' own size before the store calls itself full. */
#define BLOB_OVERHEAD 2

enum slot_kind { SLOT_EMPTY, SLOT_SAME, SLOT_RAW, SLOT_PACKED };

struct slot {
	union {
		struct blob blob; /* SLOT_RAW, SLOT_PACKED */
		u64 word;	  /* SLOT_SAME */
	};
	u16 length; /* of the blob */
	u8 kind;    /* enum slot_kind */
	struct checksum checksum;
};
_Static_assert(sizeof(struct slot) == 32, "a slot is small");

struct memory_store {
	struct store store;
	struct engine_memory memory;
	struct slot *slots; /* [store.nr_slots], zeroed, touched as they are used */
	struct blobs blobs;
	struct packer packer;
};

static struct memory_store *of(struct store *s)
{
	return container_of(s, struct memory_store, store);
}

static void count(_Atomic u64 *counter, u64 by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static void uncount(_Atomic u64 *counter, u64 by)
{
	atomic_fetch_sub_explicit(counter, by, memory_order_relaxed);
}

/* Are all words of the page the same?  Most pages that are not say so in their first words. */
static bool same_filled(const void *bytes)
{
	const u64 *words = bytes;
	const u64 first = words[0];

	for (unsigned i = 0; i < PAGE_WORDS; i += 8) {
		u64 differ = 0;

		for (unsigned j = 0; j < 8; j++)
			differ |= words[i + j] ^ first;
		if (differ)
			return false;
	}
	return true;
}

static void fill(void *bytes, u64 word)
{
	u64 *words = bytes;

	for (unsigned i = 0; i < PAGE_WORDS; i++)
		words[i] = word;
}

static int save_same(struct memory_store *m, struct slot *slot, u64 word)
{
	slot->word = word;
	slot->length = 0;
	slot->checksum = checksum_of(&word, sizeof(word));
	slot->kind = SLOT_SAME;
	count(&m->store.stats.same_filled, 1);
	return 1;
}

/* Put `length` bytes away for a slot.  0, -ENOSPC. */
static int save_blob(struct memory_store *m, struct slot *slot, const void *bytes, unsigned length)
{
	struct blob blob;
	int err = blob_alloc(&m->blobs, length, &blob);

	if (err)
		return err;
	memcpy(blob_bytes(&m->blobs, blob), bytes, length);
	slot->blob = blob;
	slot->length = length;
	count(&m->store.stats.stored_bytes, sizeof(*slot));
	return 0;
}

static int save_bytes(struct memory_store *m, struct slot *slot, const void *bytes)
{
	struct pack_state *state;
	unsigned length;
	int err;

	if (m->packer.how != COMPRESS_NONE) {
		state = pack_begin(&m->packer);
		length = pack(&m->packer, state, bytes);
		err = length ? save_blob(m, slot, state->out, length) : 0;
		pack_end(state);
		if (err)
			return err;
		if (length) {
			slot->checksum = checksum_of(bytes, PAGE_SIZE);
			slot->kind = SLOT_PACKED;
			return 0;
		}
	}
	err = save_blob(m, slot, bytes, PAGE_SIZE);
	if (err)
		return err;
	slot->checksum = checksum_of(bytes, PAGE_SIZE);
	slot->kind = SLOT_RAW;
	return 0;
}

static int memory_save(struct store *s, u64 nr, const void *bytes)
{
	struct memory_store *m = of(s);
	struct slot *slot;
	int result;

	if (nr >= s->nr_slots || m->slots[nr].kind != SLOT_EMPTY)
		return -EIO;
	slot = &m->slots[nr];
	if (same_filled(bytes))
		result = save_same(m, slot, *(const u64 *)bytes);
	else
		result = save_bytes(m, slot, bytes);
	if (result < 0)
		return result;
	count(&s->stats.saved, 1);
	count(&s->stats.raw_bytes, PAGE_SIZE);
	return result;
}

static bool load_slot(struct memory_store *m, const struct slot *slot, void *bytes)
{
	switch (slot->kind) {
	case SLOT_SAME:
		if (!checksum_is(&slot->word, sizeof(slot->word), slot->checksum))
			return false;
		fill(bytes, slot->word);
		return true;
	case SLOT_RAW:
		memcpy(bytes, blob_bytes(&m->blobs, slot->blob), PAGE_SIZE);
		break;
	default:
		if (!unpack(&m->packer, blob_bytes(&m->blobs, slot->blob), slot->length, bytes))
			return false;
	}
	return checksum_is(bytes, PAGE_SIZE, slot->checksum);
}

static int memory_load(struct store *s, u64 nr, void *bytes)
{
	struct memory_store *m = of(s);

	if (nr >= s->nr_slots || m->slots[nr].kind == SLOT_EMPTY)
		return -ENOENT;
	if (!load_slot(m, &m->slots[nr], bytes))
		return -EBADMSG;
	count(&s->stats.loaded, 1);
	return 0;
}

static bool memory_same(struct store *s, u64 nr, const void *bytes)
{
	struct memory_store *m = of(s);
	const struct slot *slot;

	if (nr >= s->nr_slots)
		return false;
	slot = &m->slots[nr];
	if (slot->kind == SLOT_EMPTY)
		return false;
	if (slot->kind == SLOT_SAME)
		return *(const u64 *)bytes == slot->word && same_filled(bytes);
	return checksum_is(bytes, PAGE_SIZE, slot->checksum);
}

static void memory_drop(struct store *s, u64 nr)
{
	struct memory_store *m = of(s);
	struct slot *slot;

	if (nr >= s->nr_slots || m->slots[nr].kind == SLOT_EMPTY)
		return;
	slot = &m->slots[nr];
	if (slot->kind != SLOT_SAME) {
		blob_free(&m->blobs, slot->blob);
		uncount(&s->stats.stored_bytes, sizeof(*slot));
	}
	slot->kind = SLOT_EMPTY;
	uncount(&s->stats.raw_bytes, PAGE_SIZE);
	count(&s->stats.dropped, 1);
}

static int memory_flush(struct store *s)
{
	(void)s;
	return 0;
}

/* One table for each name. */
#define MEMORY_OPS(name)                                                                           \
	{                                                                                          \
		.kind = name, .save = memory_save, .load = memory_load, .same = memory_same,       \
		.drop = memory_drop, .flush = memory_flush,                                        \
	}
static const struct store_ops memory_ops[] = {
	[COMPRESS_NONE] = MEMORY_OPS("none"),
	[COMPRESS_LZ4] = MEMORY_OPS("lz4"),
	[COMPRESS_ZSTD] = MEMORY_OPS("zstd"),
};

static bool text_is(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

int compression_parse(const char *name, enum compression *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(memory_ops); i++) {
		if (text_is(name, memory_ops[i].kind)) {
			*out = i;
			return 0;
		}
	}
	return -EINVAL;
}

int memory_store_create(const struct engine_memory *memory, enum compression how, u64 nr_slots,
			u64 capacity_bytes, unsigned threads, struct store **out)
{
	struct memory_store *m;
	u64 max_bytes = BLOB_OVERHEAD * nr_slots * PAGE_SIZE + BLOB_CLASSES * BLOB_CHUNK;
	int err;

	if ((unsigned)how >= ARRAY_SIZE(memory_ops) || !nr_slots || nr_slots > 1ULL << 40)
		return -EINVAL;
	m = memory->alloc(memory->ctx, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->memory = *memory;
	m->store.ops = &memory_ops[how];
	m->store.nr_slots = nr_slots;
	m->slots = memory->alloc(memory->ctx, nr_slots * sizeof(*m->slots));
	err = m->slots ? 0 : -ENOMEM;
	if (!err)
		err = packer_init(&m->packer, &m->memory, how, threads);
	if (!err)
		err = blobs_init(&m->blobs, &m->memory, max_bytes, capacity_bytes,
				 &m->store.stats.stored_bytes);
	if (err) {
		memory_store_destroy(&m->store);
		return err;
	}
	*out = &m->store;
	return 0;
}

void memory_store_destroy(struct store *s)
{
	struct memory_store *m = of(s);
	const struct engine_memory memory = m->memory;

	blobs_fini(&m->blobs);
	packer_fini(&m->packer);
	if (m->slots)
		memory.free(memory.ctx, m->slots, s->nr_slots * sizeof(*m->slots));
	memory.free(memory.ctx, m, sizeof(*m));
}

void *memory_store_blob(struct store *s, u64 nr, unsigned *length)
{
	struct memory_store *m = of(s);
	struct slot *slot = &m->slots[nr];

	switch (slot->kind) {
	case SLOT_EMPTY:
		return NULL;
	case SLOT_SAME:
		*length = sizeof(slot->word);
		return &slot->word;
	default:
		*length = slot->length;
		return blob_bytes(&m->blobs, slot->blob);
	}
}
