/* SPDX-License-Identifier: MIT */
/*
 * See pack.h.  Only those functions of lz4 and zstd are used that work in memory they are given:
 * this runs inside programs whose own memory is paged, where malloc may not be called.
 */
#define LZ4_STATIC_LINKING_ONLY
#define ZSTD_STATIC_LINKING_ONLY
#include <lz4.h>
#include <zstd.h>

#include "engine/base/errno.h"
#include "stores/pack.h"

/*
 * Higher is faster and packs less.  4 saves a third of the time on text (7.6 to 4.7 us a page) and
 * a quarter on heaps (4.0 to 3.0), but stores text a quarter larger (0.66 to 0.81) and heaps a
 * seventh (0.44 to 0.51), and its runs of short offsets unpack slower.
 */
#define PACK_LZ4_ACCELERATION 1
#define PACK_ZSTD_LEVEL	      1

#define ROUND_UP(bytes) (((bytes) + 63) & ~63ULL)

static u64 compress_bytes(enum compression how)
{
	if (how == COMPRESS_LZ4)
		return ROUND_UP(sizeof(LZ4_stream_t));
	if (how == COMPRESS_ZSTD)
		return ROUND_UP(ZSTD_estimateCCtxSize_usingCParams(
			ZSTD_getCParams(PACK_ZSTD_LEVEL, PAGE_SIZE, 0)));
	return 0;
}

static u64 decompress_bytes(enum compression how)
{
	return how == COMPRESS_ZSTD ? ROUND_UP(ZSTD_estimateDCtxSize()) : 0;
}

/* A context for pages: no size, no checksum and no magic number in the frame, all known here. */
static ZSTD_CCtx *zstd_compressor(void *room, u64 bytes)
{
	ZSTD_CCtx *c = ZSTD_initStaticCCtx(room, bytes);

	if (!c)
		return NULL;
	if (ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, PACK_ZSTD_LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_format, ZSTD_f_zstd1_magicless)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0)))
		return NULL;
	return c;
}

static ZSTD_DCtx *zstd_decompressor(void *room, u64 bytes)
{
	ZSTD_DCtx *d = ZSTD_initStaticDCtx(room, bytes);

	if (!d || ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_format, ZSTD_f_zstd1_magicless)))
		return NULL;
	return d;
}

static int state_init(const struct packer *p, struct pack_state *state, u8 *room)
{
	u64 compress = compress_bytes(p->how);

	spin_init(&state->busy);
	state->out = room;
	room += PAGE_SIZE;
	switch (p->how) {
	case COMPRESS_LZ4:
		state->compress = LZ4_initStream(room, compress);
		return state->compress ? 0 : -EINVAL;
	case COMPRESS_ZSTD:
		state->compress = zstd_compressor(room, compress);
		state->decompress = zstd_decompressor(room + compress, decompress_bytes(p->how));
		return state->compress && state->decompress ? 0 : -EINVAL;
	default:
		return 0;
	}
}

int packer_init(struct packer *p, const struct engine_memory *memory, enum compression how,
		unsigned threads)
{
	u64 each = PAGE_SIZE + compress_bytes(how) + decompress_bytes(how);
	int err = 0;

	if (threads == 0 || threads > 4096)
		return -EINVAL;
	p->memory = memory;
	p->how = how;
	p->nr = threads;
	p->room_bytes = each * threads;
	p->states = memory->alloc(memory->ctx, threads * sizeof(*p->states));
	p->room = memory->alloc(memory->ctx, p->room_bytes);
	if (!p->states || !p->room)
		return -ENOMEM;
	for (unsigned i = 0; i < threads && !err; i++)
		err = state_init(p, &p->states[i], p->room + i * each);
	return err;
}

void packer_fini(struct packer *p)
{
	if (p->states)
		p->memory->free(p->memory->ctx, p->states, p->nr * sizeof(*p->states));
	if (p->room)
		p->memory->free(p->memory->ctx, p->room, p->room_bytes);
}

struct pack_state *pack_begin(struct packer *p)
{
	unsigned first = machine_cpu() % p->nr;

	for (unsigned i = 0; i < p->nr; i++) {
		struct pack_state *state = &p->states[(first + i) % p->nr];

		if (spin_trylock(&state->busy))
			return state;
	}
	spin_lock(&p->states[first].busy);
	return &p->states[first];
}

void pack_end(struct pack_state *state)
{
	spin_unlock(&state->busy);
}

unsigned pack(const struct packer *p, struct pack_state *state, const void *page)
{
	size_t n;

	switch (p->how) {
	case COMPRESS_LZ4:
		return LZ4_compress_fast_extState(state->compress, page, (char *)state->out,
						  PAGE_SIZE, PACK_MAX, PACK_LZ4_ACCELERATION);
	case COMPRESS_ZSTD:
		n = ZSTD_compress2(state->compress, state->out, PACK_MAX, page, PAGE_SIZE);
		return ZSTD_isError(n) ? 0 : n;
	default:
		return 0;
	}
}

bool unpack(struct packer *p, const void *bytes, unsigned length, void *page)
{
	struct pack_state *state;
	size_t n;

	switch (p->how) {
	case COMPRESS_LZ4:
		return LZ4_decompress_safe(bytes, page, length, PAGE_SIZE) == (int)PAGE_SIZE;
	case COMPRESS_ZSTD:
		state = pack_begin(p);
		n = ZSTD_decompressDCtx(state->decompress, page, PAGE_SIZE, bytes, length);
		pack_end(state);
		return n == PAGE_SIZE;
	default:
		return false;
	}
}
