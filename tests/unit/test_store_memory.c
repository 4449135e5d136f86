/* SPDX-License-Identifier: MIT */
/* The memory store gives back what it was given, says when it cannot, and loses no room. */
#include <pthread.h>

#include "engine/base/errno.h"
#include "stores/blob.h"
#include "stores/checksum.h"
#include "stores/memory.h"
#include "stores/pack.h"
#include "tests/unit/unit.h"

#define THREADS 4

/* ---- the machine's memory, counted, and refused on demand ---- */

static _Atomic s64 allocated;
static _Atomic s64 allocations_left = INT64_MAX;

static void *counted_alloc(void *ctx, u64 bytes)
{
	void *p = NULL;

	(void)ctx;
	if (atomic_fetch_sub(&allocations_left, 1) <= 0)
		return NULL;
	if (posix_memalign(&p, 64, bytes ? bytes : 64))
		return NULL;
	memset(p, 0, bytes);
	atomic_fetch_add(&allocated, bytes);
	return p;
}

static void counted_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	assert_non_null(p);
	atomic_fetch_sub(&allocated, bytes);
	free(p);
}

static const struct engine_memory memory = { .alloc = counted_alloc, .free = counted_free };

static struct store *make(enum compression how, u64 nr_slots, u64 capacity)
{
	struct store *s = NULL;

	assert_int_equal(memory_store_create(&memory, how, nr_slots, capacity, THREADS, &s), 0);
	assert_int_equal(s->nr_slots, nr_slots);
	return s;
}

static void destroy(struct store *s)
{
	memory_store_destroy(s);
	assert_int_equal(atomic_load(&allocated), 0);
}

static int save(struct store *s, u64 slot, const void *page)
{
	return s->ops->save(s, slot, page);
}

static int load(struct store *s, u64 slot, void *page)
{
	return s->ops->load(s, slot, page);
}

static bool same(struct store *s, u64 slot, const void *page)
{
	return s->ops->same(s, slot, page);
}

static void drop(struct store *s, u64 slot)
{
	s->ops->drop(s, slot);
}

static u64 stored(struct store *s)
{
	return atomic_load(&s->stats.stored_bytes);
}

static u64 raw(struct store *s)
{
	return atomic_load(&s->stats.raw_bytes);
}

/* ---- pages ---- */

static u64 next_random(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A page of which `random` bytes out of PAGE_SIZE do not compress. */
static void make_page(u8 *page, u64 seed, unsigned random)
{
	u64 state = seed * 2654435761u + 88172645463325252ull;

	for (unsigned i = 0; i < PAGE_SIZE; i++)
		page[i] = i < random ? (u8)(next_random(&state) >> 24) : "vmfault "[i % 8];
}

static const enum compression kinds[] = { COMPRESS_NONE, COMPRESS_LZ4, COMPRESS_ZSTD };

/* ---- tests ---- */

static void compression_names_are_lz4_zstd_none(void **state)
{
	enum compression how = COMPRESS_NONE;
	static const char *const wrong[] = { "", "lz", "lz44", "LZ4", "gzip" };

	(void)state;
	assert_int_equal(compression_parse("lz4", &how), 0);
	assert_int_equal(how, COMPRESS_LZ4);
	assert_int_equal(compression_parse("zstd", &how), 0);
	assert_int_equal(how, COMPRESS_ZSTD);
	assert_int_equal(compression_parse("none", &how), 0);
	assert_int_equal(how, COMPRESS_NONE);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(compression_parse(wrong[i], &how), -EINVAL);
}

static void create_refuses_nonsense(void **state)
{
	struct store *s;

	(void)state;
	assert_int_equal(memory_store_create(&memory, 17, 10, 0, 1, &s), -EINVAL);
	assert_int_equal(memory_store_create(&memory, COMPRESS_LZ4, 0, 0, 1, &s), -EINVAL);
	assert_int_equal(memory_store_create(&memory, COMPRESS_LZ4, 10, 0, 0, &s), -EINVAL);
	assert_int_equal(atomic_load(&allocated), 0);
}

static void load_gives_back_what_was_saved(void **state)
{
	static const unsigned random[] = { 1, 64, 500, 1000, 2048, 3000, 3900, 4032, 4095, 4096 };
	u8 page[PAGE_SIZE], back[PAGE_SIZE];

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct store *s = make(kinds[k], ARRAY_SIZE(random), 0);

		for (unsigned i = 0; i < ARRAY_SIZE(random); i++) {
			make_page(page, i + 1, random[i]);
			assert_int_equal(save(s, i, page), 0);
		}
		assert_int_equal(raw(s), ARRAY_SIZE(random) * PAGE_SIZE);
		assert_true(stored(s) > 0);
		for (unsigned i = 0; i < ARRAY_SIZE(random); i++) {
			make_page(page, i + 1, random[i]);
			memset(back, 0xaa, sizeof(back));
			assert_int_equal(load(s, i, back), 0);
			assert_memory_equal(page, back, PAGE_SIZE);
			assert_int_equal(load(s, i, back), 0);
		}
		assert_int_equal(atomic_load(&s->stats.saved), ARRAY_SIZE(random));
		assert_int_equal(atomic_load(&s->stats.loaded), 2 * ARRAY_SIZE(random));
		assert_int_equal(atomic_load(&s->stats.same_filled), 0);
		assert_int_equal(s->ops->flush(s), 0);
		destroy(s);
	}
}

static void a_page_of_one_word_takes_no_room(void **state)
{
	u64 page[PAGE_SIZE / 8], back[PAGE_SIZE / 8];
	static const u64 words[] = { 0, ~0ull, 0x0123456789abcdefull };

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct store *s = make(kinds[k], ARRAY_SIZE(words), 0);

		for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
			for (unsigned j = 0; j < PAGE_SIZE / 8; j++)
				page[j] = words[i];
			assert_int_equal(save(s, i, page), 1);
			assert_int_equal(load(s, i, back), 0);
			assert_memory_equal(page, back, PAGE_SIZE);
			assert_true(same(s, i, page));
			page[PAGE_SIZE / 8 - 1] ^= 1ull << 63;
			assert_false(same(s, i, page));
		}
		assert_int_equal(stored(s), 0);
		assert_int_equal(raw(s), ARRAY_SIZE(words) * PAGE_SIZE);
		assert_int_equal(atomic_load(&s->stats.same_filled), ARRAY_SIZE(words));
		destroy(s);
	}
}

static void same_is_true_for_the_very_bytes_only(void **state)
{
	u8 page[PAGE_SIZE];

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct store *s = make(kinds[k], 4, 0);

		make_page(page, 7, 2000);
		assert_false(same(s, 0, page));
		assert_int_equal(save(s, 0, page), 0);
		assert_true(same(s, 0, page));
		for (unsigned i = 0; i < PAGE_SIZE; i += 97) {
			page[i] ^= 1;
			assert_false(same(s, 0, page));
			page[i] ^= 1;
		}
		assert_true(same(s, 0, page));
		assert_false(same(s, 1, page));
		assert_false(same(s, 4, page));
		drop(s, 0);
		assert_false(same(s, 0, page));
		destroy(s);
	}
}

static void what_was_never_saved_is_not_there(void **state)
{
	u8 page[PAGE_SIZE];
	struct store *s = make(COMPRESS_LZ4, 4, 0);

	(void)state;
	assert_int_equal(load(s, 0, page), -ENOENT);
	assert_int_equal(load(s, 4, page), -ENOENT);
	assert_int_equal(load(s, UINT64_MAX, page), -ENOENT);
	drop(s, 0);
	drop(s, 4);
	make_page(page, 1, 100);
	assert_int_equal(save(s, 4, page), -EIO);
	assert_int_equal(save(s, 3, page), 0);
	assert_int_equal(save(s, 3, page), -EIO); /* a slot is never rewritten */
	drop(s, 3);
	drop(s, 3);
	assert_int_equal(load(s, 3, page), -ENOENT);
	assert_int_equal(atomic_load(&s->stats.dropped), 1);
	destroy(s);
}

static void a_flipped_byte_is_noticed(void **state)
{
	static const unsigned random[] = { 300, 2000, 4096 };
	u8 page[PAGE_SIZE], back[PAGE_SIZE];

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (unsigned r = 0; r < ARRAY_SIZE(random); r++) {
			struct store *s = make(kinds[k], 1, 0);
			unsigned length = 0;
			u8 *kept;

			make_page(page, r, random[r]);
			assert_int_equal(save(s, 0, page), 0);
			kept = memory_store_blob(s, 0, &length);
			assert_in_range(length, 1, PAGE_SIZE);
			for (unsigned i = 0; i < length; i++) {
				/* Another way of writing the same bytes is no corruption. */
				kept[i] ^= 0x10;
				if (load(s, 0, back) != -EBADMSG)
					assert_memory_equal(page, back, PAGE_SIZE);
				kept[i] ^= 0x10;
			}
			kept[0] ^= 1;
			assert_int_equal(load(s, 0, back), -EBADMSG);
			kept[0] ^= 1;
			assert_int_equal(load(s, 0, back), 0);
			assert_memory_equal(page, back, PAGE_SIZE);
			destroy(s);
		}
	}
}

static void a_flipped_bit_of_a_same_filled_page_is_noticed(void **state)
{
	u8 page[PAGE_SIZE] = { 0 };
	struct store *s = make(COMPRESS_LZ4, 1, 0);
	unsigned length;
	u8 *kept;

	(void)state;
	assert_int_equal(save(s, 0, page), 1);
	kept = memory_store_blob(s, 0, &length);
	assert_int_equal(length, 8);
	kept[3] ^= 1;
	assert_int_equal(load(s, 0, page), -EBADMSG);
	destroy(s);
}

static void accounting_returns_to_zero(void **state)
{
	u8 page[PAGE_SIZE];
	const unsigned n = 3000;

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct store *s = make(kinds[k], n, 0);
		u64 full;

		for (unsigned round = 0; round < 3; round++) {
			for (unsigned i = 0; i < n; i++) {
				make_page(page, i, i % PAGE_SIZE + 1);
				assert_int_equal(save(s, i, page), 0);
			}
			assert_int_equal(raw(s), n * PAGE_SIZE);
			full = stored(s);
			/* Headers and slack, but never more than the pages and a chunk a class. */
			assert_true(full <= n * (PAGE_SIZE + 32) + BLOB_CLASSES * BLOB_CHUNK);
			for (unsigned i = 0; i < n; i++)
				drop(s, i * 7 % n);
			assert_int_equal(stored(s), 0);
			assert_int_equal(raw(s), 0);
		}
		destroy(s);
	}
}

/* Room of one size that is given back serves another size, and the machine gets its memory back. */
static void room_is_reused_across_sizes(void **state)
{
	struct store *s = make(COMPRESS_LZ4, 8192, 0);
	u8 page[PAGE_SIZE];
	s64 peak, empty = atomic_load(&allocated);

	(void)state;
	for (unsigned i = 0; i < 4096; i++) {
		make_page(page, i, 4096);
		assert_int_equal(save(s, i, page), 0);
	}
	peak = atomic_load(&allocated);
	for (unsigned i = 0; i < 4096; i++)
		drop(s, i);
	assert_int_equal(stored(s), 0);
	assert_true(atomic_load(&allocated) <= empty + (s64)BLOB_EXTENT);
	for (unsigned i = 0; i < 8192; i++) {
		make_page(page, i, 1900);
		assert_int_equal(save(s, i, page), 0);
	}
	assert_true(atomic_load(&allocated) <= peak);
	destroy(s);
}

static void a_full_store_says_so_and_loses_nothing(void **state)
{
	u8 page[PAGE_SIZE], back[PAGE_SIZE];
	const unsigned n = 4096;

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		const u64 capacity = 2 << 20;
		struct store *s = make(kinds[k], n, capacity);
		unsigned kept = 0;
		int err = 0;

		while (kept < n) {
			make_page(page, kept, 3000);
			err = save(s, kept, page);
			if (err)
				break;
			kept++;
		}
		assert_int_equal(err, -ENOSPC);
		assert_in_range(kept, 400, n - 1);
		assert_true(stored(s) <= capacity + kept * 32);
		assert_int_equal(raw(s), (u64)kept * PAGE_SIZE);
		assert_int_equal(load(s, kept, back), -ENOENT);
		memset(back, 0, sizeof(back));
		assert_int_equal(save(s, kept, back), 1); /* needs no room */
		drop(s, kept);
		for (unsigned i = 0; i < kept; i++) {
			make_page(page, i, 3000);
			assert_int_equal(load(s, i, back), 0);
			assert_memory_equal(page, back, PAGE_SIZE);
		}
		drop(s, 0);
		make_page(page, kept, 3000);
		assert_int_equal(save(s, kept, page), 0);
		destroy(s);
	}
}

/* With no chunk to be had for a size, room of a larger size is used. */
static void a_full_store_uses_larger_room(void **state)
{
	struct store *s = make(COMPRESS_LZ4, 64, 2 * BLOB_CHUNK);
	u8 page[PAGE_SIZE], back[PAGE_SIZE];
	unsigned i;

	(void)state;
	make_page(page, 0, 4096);
	assert_int_equal(save(s, 0, page), 0);
	for (i = 1; i < 16; i++) {
		make_page(page, i, 1000);
		assert_int_equal(save(s, i, page), 0);
		assert_int_equal(load(s, i, back), 0);
		assert_memory_equal(page, back, PAGE_SIZE);
	}
	destroy(s);
}

static void no_memory_at_any_moment_is_survived(void **state)
{
	u8 page[PAGE_SIZE], back[PAGE_SIZE];
	int err = -ENOMEM;

	(void)state;
	for (unsigned allowed = 0; err; allowed++) {
		struct store *s;

		atomic_store(&allocations_left, allowed);
		err = memory_store_create(&memory, COMPRESS_LZ4, 64, 0, 1, &s);
		if (err) {
			assert_int_equal(err, -ENOMEM);
			assert_int_equal(atomic_load(&allocated), 0);
			continue;
		}
		/* Enough for the store, not for a blob. */
		make_page(page, 1, 4096);
		assert_int_equal(save(s, 0, page), -ENOSPC);
		assert_int_equal(stored(s), 0);
		atomic_store(&allocations_left, 1);
		assert_int_equal(save(s, 0, page), 0);
		assert_int_equal(load(s, 0, back), 0);
		assert_memory_equal(page, back, PAGE_SIZE);
		destroy(s);
	}
	atomic_store(&allocations_left, INT64_MAX);
}

/* Random saves, loads and drops of pages that pack to all sizes, against a plain copy. */
static void random_operations_agree_with_a_model(void **state)
{
	enum { N = 512 };
	static u8 model[N][PAGE_SIZE];
	static bool there[N];
	u64 seed = 42;
	u8 back[PAGE_SIZE];

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct store *s = make(kinds[k], N, 3 << 19);
		u64 count = 0;

		memset(there, 0, sizeof(there));
		for (unsigned op = 0; op < 30000; op++) {
			u64 r = next_random(&seed);
			unsigned i = r % N;
			int err;

			if (!there[i]) {
				make_page(model[i], r, (r >> 20) % (PAGE_SIZE + 1));
				err = save(s, i, model[i]);
				if (err == -ENOSPC)
					continue;
				assert_in_range(err, 0, 1);
				there[i] = true;
				count++;
			} else if ((r >> 10) % 4 == 0) {
				drop(s, i);
				there[i] = false;
				count--;
			} else {
				assert_int_equal(load(s, i, back), 0);
				assert_memory_equal(back, model[i], PAGE_SIZE);
				assert_true(same(s, i, model[i]));
			}
			assert_int_equal(raw(s), count * PAGE_SIZE);
		}
		for (unsigned i = 0; i < N; i++)
			drop(s, i);
		assert_int_equal(stored(s), 0);
		destroy(s);
	}
}

/* ---- threads ---- */

enum { THREAD_SLOTS = 128, THREAD_ROUNDS = 8 };

struct worker {
	struct store *store;
	unsigned number;
	unsigned wrong;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	u8 page[PAGE_SIZE], back[PAGE_SIZE];

	for (unsigned round = 0; round < THREAD_ROUNDS; round++) {
		for (unsigned i = 0; i < THREAD_SLOTS; i++) {
			make_page(page, w->number * 1000 + i, (i * 37 + round * 501) % 4097);
			w->wrong += save(w->store, w->number * THREAD_SLOTS + i, page) < 0;
		}
		for (unsigned i = 0; i < THREAD_SLOTS; i++) {
			u64 slot = w->number * THREAD_SLOTS + i;

			make_page(page, w->number * 1000 + i, (i * 37 + round * 501) % 4097);
			w->wrong += load(w->store, slot, back) != 0;
			w->wrong += memcmp(page, back, PAGE_SIZE) != 0;
			w->wrong += !same(w->store, slot, page);
			drop(w->store, slot);
		}
	}
	return NULL;
}

/* More threads than compression states, too. */
static void threads_do_not_disturb_one_another(void **state)
{
	enum { N = THREADS + 2 };

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct store *s = make(kinds[k], N * THREAD_SLOTS, 0);
		struct worker workers[N];
		pthread_t threads[N];

		for (unsigned i = 0; i < N; i++) {
			workers[i] = (struct worker){ .store = s, .number = i };
			assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
		}
		for (unsigned i = 0; i < N; i++) {
			pthread_join(threads[i], NULL);
			assert_int_equal(workers[i].wrong, 0);
		}
		assert_int_equal(stored(s), 0);
		assert_int_equal(raw(s), 0);
		assert_int_equal(atomic_load(&s->stats.saved), N * THREAD_SLOTS * THREAD_ROUNDS);
		destroy(s);
	}
}

/* ---- blobs alone ---- */

struct checksum checksum_sse2(const void *bytes, u64 length);
struct checksum checksum_avx2(const void *bytes, u64 length);

static void checksums_are_the_same_on_every_cpu(void **state)
{
	u8 page[PAGE_SIZE];

	(void)state;
	if (!__builtin_cpu_supports("avx2"))
		skip();
	for (unsigned n = 0; n < 100; n++) {
		u64 length = n % 3 ? PAGE_SIZE : n + 8;
		struct checksum sse2, avx2;

		make_page(page, n, 3000);
		sse2 = checksum_sse2(page, length);
		avx2 = checksum_avx2(page, length);
		assert_true(sse2.low == avx2.low && sse2.high == avx2.high);
		assert_true(checksum_is(page, length, sse2));
		page[n] ^= 1;
		assert_false(checksum_is(page, length, sse2));
	}
}

static void blobs_do_not_overlap(void **state)
{
	enum { N = 2000 };
	static struct blob kept[N];
	static unsigned length[N];
	_Atomic u64 taken = 0;
	struct blobs *b = counted_alloc(NULL, sizeof(*b));
	u64 seed = 1;

	(void)state;
	assert_int_equal(blobs_init(b, &memory, N * PAGE_SIZE * 2, 0, &taken), 0);
	for (unsigned op = 0; op < 20000; op++) {
		unsigned i = next_random(&seed) % N;

		if (!kept[i].chunk) {
			length[i] = next_random(&seed) % PAGE_SIZE + 1;
			assert_int_equal(blob_alloc(b, length[i], &kept[i]), 0);
			assert_int_equal((uintptr_t)blob_bytes(b, kept[i]) % BLOB_STEP, 0);
			memset(blob_bytes(b, kept[i]), i & 0xff, length[i]);
		} else {
			const u8 *p = blob_bytes(b, kept[i]);

			for (unsigned j = 0; j < length[i]; j++)
				assert_int_equal(p[j], i & 0xff);
			blob_free(b, kept[i]);
			kept[i].chunk = 0;
		}
	}
	for (unsigned i = 0; i < N; i++)
		if (kept[i].chunk)
			blob_free(b, kept[i]);
	assert_int_equal(atomic_load(&taken), 0);
	blobs_fini(b);
	counted_free(NULL, b, sizeof(*b));
	assert_int_equal(atomic_load(&allocated), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compression_names_are_lz4_zstd_none),
		cmocka_unit_test(create_refuses_nonsense),
		cmocka_unit_test(load_gives_back_what_was_saved),
		cmocka_unit_test(a_page_of_one_word_takes_no_room),
		cmocka_unit_test(same_is_true_for_the_very_bytes_only),
		cmocka_unit_test(what_was_never_saved_is_not_there),
		cmocka_unit_test(a_flipped_byte_is_noticed),
		cmocka_unit_test(a_flipped_bit_of_a_same_filled_page_is_noticed),
		cmocka_unit_test(accounting_returns_to_zero),
		cmocka_unit_test(room_is_reused_across_sizes),
		cmocka_unit_test(a_full_store_says_so_and_loses_nothing),
		cmocka_unit_test(a_full_store_uses_larger_room),
		cmocka_unit_test(no_memory_at_any_moment_is_survived),
		cmocka_unit_test(random_operations_agree_with_a_model),
		cmocka_unit_test(threads_do_not_disturb_one_another),
		cmocka_unit_test(checksums_are_the_same_on_every_cpu),
		cmocka_unit_test(blobs_do_not_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
