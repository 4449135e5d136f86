/* SPDX-License-Identifier: MIT */
/* Extensions in Lua: what they choose, and what comes of those that do wrong. */
#include "engine/base/errno.h"
#include "extensions/extension.h"
#include "tests/unit/one_world.h"

static struct extension *x;
static char says[EXTENSION_SAYS];

static int load(const char *text)
{
	return extension_load(&world_memory, "dir/it.lua", text, strlen(text), &x, says);
}

static void load_well(const char *text)
{
	if (load(text))
		fail_msg("%s", says);
}

static void unload(void)
{
	extension_free(x);
	x = NULL;
}

/* ---- loading ---- */

static void refused(const char *text, int err, const char *why)
{
	assert_int_equal(load(text), err);
	if (!strstr(says, why))
		fail_msg("'%s' says '%s'", text, says);
	assert_null(strchr(says, '\n'));
	assert_memory_equal(says, "it.lua:", 7);
}

static void what_is_no_extension_is_refused_in_one_line(void **state)
{
	(void)state;
	refused("return {\n  reclaim = 1 +\n}", -EINVAL, "it.lua:3:");
	refused("", -EINVAL, "returns a nil");
	refused("return 7", -EINVAL, "returns a number");
	refused("return {}", -EINVAL, "no handler");
	refused("return { neighbours = true }", -EINVAL, "no handler");
	refused("return { recliam = function() end }", -EINVAL, "'recliam'");
	refused("return { reclaim = 3 }", -EINVAL, "'reclaim'");
	refused("return { function() end }", -EINVAL, "without a name");
	refused("error('no\\n\\27[1mway')", -EINVAL, "it.lua:1: no  [1mway");
	refused("error({})", -EINVAL, "no text");
	refused("\033Lua", -EINVAL, "binary");
	refused("while true do end", -ETIMEDOUT, "too many steps");
	refused("local t = {} for i = 1, 1e9 do t[i] = {} end", -ENOMEM, "too much memory");
}

static void there_is_nothing_of_the_process(void **state)
{
	static const char *const names[] = {
		"io",	       "os",	    "load",	      "loadfile",
		"dofile",      "require",   "package",	      "debug",
		"coroutine",   "print",	    "collectgarbage", "string.format",
		"string.gsub", "table.move"
	};
	char text[96];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(text, sizeof(text),
			 "assert(not %s, 'there it is') return { fault = function() end }",
			 names[i]);
		load_well(text);
		unload();
	}
}

/* Asked for the page at 0x5000, does it give `n` bytes that are these, and zeros? */
static void bytes_are(const char *script, const void *bytes, size_t n)
{
	u8 page[PAGE_SIZE];

	load_well(script);
	memset(page, 0xaa, sizeof(page));
	assert_int_equal(extension_fault(x, 0x5123, true, page), 1);
	assert_memory_equal(page, bytes, n);
	for (size_t i = n; i < PAGE_SIZE; i++)
		assert_int_equal(page[i], 0);
	unload();
}

static void it_computes_bytes(void **state)
{
	static const u8 word[8] = { 0, 0x50 };

	(void)state;
	bytes_are("return { fault = function(a) return string.word(a) end }", word, 8);
	bytes_are("return { fault = function(a, w) assert(w) return ('ab'):rep(2) end }", "abab",
		  4);
	bytes_are("return { fault = function() return table.concat({ 'x', ('yz'):sub(-1), "
		  "string.char(65, 66), tostring(12), tostring({}), math.floor(7.5) }) end }",
		  "xzAB12table7", 12);
	bytes_are("local t = {} table.insert(t, 'a') table.insert(t, 'b') "
		  "local last = table.remove(t) "
		  "return { fault = function() return last .. #t .. select('#', 1, 2) .. "
		  "select(2, 'p', 'q') .. math.max(3, 9, 4) .. math.min(3, 9) .. math.abs(-5) .. "
		  "('z'):byte() .. tonumber('0x10') end }",
		  "b12q93512216", 12);
	bytes_are("local ok, why = pcall(function() error('bad') end) "
		  "local sum = 0 for k, v in pairs({ a = 1, b = 2 }) do sum = sum + v end "
		  "for i, v in ipairs({ 5, 6 }) do sum = sum + i * v end "
		  "return { fault = function() return tostring(ok) .. sum .. why end }",
		  "false20it.lua:1: bad", 20);
	load_well("return { fault = function() end }");
	assert_int_equal(extension_fault(x, 0, false, says), 0);
	assert_int_equal(extension_repossess(x, 0), -ENOENT);
	assert_false(extension_has_failed(x));
	unload();
}

/* ---- doing wrong ---- */

/* It is put away with that error, and says so in one line; another answer is not asked for. */
static void fails_at_a_fault(const char *handler, int err, const char *why)
{
	char text[1024];
	u8 page[PAGE_SIZE];

	snprintf(text, sizeof(text), "return { fault = function(a) %s end }", handler);
	load_well(text);
	assert_int_equal(extension_fault(x, 0x5000, false, page), err);
	assert_true(extension_has_failed(x));
	if (!strstr(extension_says(x), why))
		fail_msg("'%s' says '%s'", handler, extension_says(x));
	assert_int_equal(extension_fault(x, 0x5000, false, page), -ENOENT);
	unload();
}

static void what_runs_for_ever_is_ended(void **state)
{
	(void)state;
	fails_at_a_fault("while true do end", -ETIMEDOUT, "it.lua: took too many steps");
	fails_at_a_fault("local function f() return f() end return f()", -ETIMEDOUT, "steps");
	fails_at_a_fault("while true do pcall(function() while true do end end) end", -ETIMEDOUT,
			 "steps");
	fails_at_a_fault("local function f() pcall(f) return f() end return f()", -ETIMEDOUT,
			 "steps");
	fails_at_a_fault("for i = 1, 1e18 do local c <close> = setmetatable({}, { __close = "
			 "function() while true do end end }) end",
			 -ETIMEDOUT, "steps");
	fails_at_a_fault("local s = ('x'):rep(1e5) while true do local t = s .. 'y' end",
			 -ETIMEDOUT, "steps");
	fails_at_a_fault("return ('x'):rep(1e18)", -EINVAL, "too long");
	fails_at_a_fault("(''):rep(1e18) while true do end", -ETIMEDOUT, "steps");
	fails_at_a_fault("setmetatable({}, { __gc = function() while true do end end })", -EINVAL,
			 "__gc");
	fails_at_a_fault("local t = setmetatable({}, { __index = function(t, k) return t[k + 1] "
			 "end }) return t[1]",
			 -EINVAL, "overflow");
}

static void what_takes_all_memory_is_ended(void **state)
{
	(void)state;
	fails_at_a_fault("local t = {} for i = 1, 1e9 do t[i] = i end", -ENOMEM,
			 "it.lua: took too much memory");
	fails_at_a_fault("local s = 'xy' while true do s = s .. s end", -ENOMEM, "memory");
}

static void nonsense_is_no_answer(void **state)
{
	(void)state;
	fails_at_a_fault("return 7", -EINVAL, "a number, not the bytes");
	fails_at_a_fault("return {}", -EINVAL, "a table");
	fails_at_a_fault("return ('x'):rep(4097)", -EINVAL, "longer than a page");
	fails_at_a_fault("return a.b.c", -EINVAL, "it.lua:1:");
	fails_at_a_fault("return string.char('x')", -EINVAL, "integer");
	fails_at_a_fault("return a:rep(2)", -EINVAL, "it.lua:1:");
	fails_at_a_fault("error()", -EINVAL, "no text");
	fails_at_a_fault("return PhysAddr.Allocate()", -EINVAL, "nobody offers memory services");
}

/* ---- choosing ---- */

static struct reclaim_chooser chooser;
static int last_answer;

static unsigned choose(struct reclaim_chooser *c, struct lruvec *v, struct page_handle *next,
		       bool *neighbours)
{
	(void)c;
	last_answer = extension_reclaim(x, v, next, neighbours);
	return (unsigned)max_of(last_answer, 0);
}

static struct page *page_at(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, AT(page), &ptl);
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	return pte_mapped(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

/* Pages 0 .. n - 1, and the script chooses from them; up to `segment` go at once. */
static void choose_from_segments(unsigned n, const char *script, unsigned segment)
{
	start((struct world_options){ .segment = segment, .policy = &policy_chosen });
	load_well(script);
	assert_int_equal(chosen_begin(w.e, &chooser), 0);
	chooser.choose = choose;
	map(0, 100, RW);
	for (unsigned i = 0; i < n; i++)
		put(i, i);
}

static void choose_from(unsigned n, const char *script)
{
	choose_from_segments(n, script, 1);
}

/* Pages that go with the next one; the one with the lowest number in *first. */
static unsigned take(unsigned *first)
{
	bool before[100];
	unsigned n = 0;
	struct taken t;

	for (unsigned i = 0; i < 100; i++)
		before[i] = page_at(i);
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	for (unsigned i = 100; i-- > 0;)
		if (before[i] && !page_at(i)) {
			*first = i;
			n++;
		}
	assert_int_equal(n, t.taken);
	return n;
}

static void next_is(unsigned page)
{
	unsigned first;

	assert_int_equal(take(&first), 1);
	assert_int_equal(first, page);
}

static void end_choosing(void)
{
	chosen_end(w.e);
	unload();
	engine_check(w.e);
}

static void it_chooses_what_goes(void **state)
{
	(void)state;
	choose_from(8, "return { reclaim = function(pages) return pages:newest() end }");
	next_is(7);
	next_is(6);
	put(8, 8);
	next_is(8);
	next_is(5);
	end_choosing();
	next_is(0); /* nobody chooses any more: the oldest */
	next_is(1);
}

static void it_goes_from_page_to_page(void **state)
{
	(void)state;
	choose_from(8, "return { reclaim = function(pages)\n"
		       "  local p = pages:oldest():newer():newer()\n"
		       "  assert(p:older() == pages:oldest():newer() and p.there and not p.file)\n"
		       "  assert(p ~= pages:oldest() and not pages:newest():newer())\n"
		       "  assert(pages:newest().stamp > p.stamp and not pages:oldest():older())\n"
		       "  assert(p.address == p.index * 4096 and p.address > 0x10000000)\n"
		       "  return p\n"
		       "end }");
	next_is(2);
	next_is(3);
	next_is(4);
	if (extension_has_failed(x))
		fail_msg("%s", extension_says(x));
	end_choosing();
}

/* An access may need several pages, of which the first must not go for the second. */
static void what_came_just_now_is_not_chosen(void **state)
{
	(void)state;
	chooser.fresh = 3;
	choose_from(8, "return { reclaim = function(pages)\n"
		       "  assert(not pages:newest():newer())\n"
		       "  return pages:newest()\n"
		       "end }");
	next_is(4);
	put(8, 8);
	next_is(5);
	next_is(3);
	if (extension_has_failed(x))
		fail_msg("%s", extension_says(x));
	end_choosing();
	chooser.fresh = 0;
}

static void several_go_in_the_order_of_the_answer(void **state)
{
	(void)state;
	choose_from(8, "return { reclaim = function(pages)\n"
		       "  return { pages:newest():older(), pages:oldest(), pages:newest() }\n"
		       "end }");
	next_is(6);
	next_is(0);
	next_is(7);
	next_is(4);
	end_choosing();
}

static void neighbours_come_along_if_it_says_so(void **state)
{
	unsigned first;

	(void)state;
	choose_from_segments(8,
			     "return { neighbours = true,\n"
			     "  reclaim = function(pages) return pages:newest() end }",
			     16);
	assert_true(take(&first) > 1);
	end_choosing();
	teardown(NULL);
	choose_from_segments(8, "return { reclaim = function(pages) return pages:newest() end }",
			     16);
	next_is(7);
	end_choosing();
}

static void it_sees_what_is_used(void **state)
{
	(void)state;
	choose_from(8, "return { reclaim = function(pages)\n"
		       "  local p = pages:oldest()\n"
		       "  while p:used() do p = p:newer() or pages:oldest() end\n"
		       "  return p\n"
		       "end }");
	next_is(0); /* all were, when they came */
	soft_load_mm(w.cpu, NULL);
	w.e->mmu->flush(mm, WORLD_LOW, WORLD_HIGH);
	soft_load_mm(w.cpu, mm);
	get(1);
	get(2);
	next_is(3);
	end_choosing();
}

/* The default goes on, and nothing is lost. */
static void default_after(const char *script, int answered, const char *why)
{
	choose_from(8, script);
	next_is(0);
	assert_int_equal(last_answer, answered);
	if (!strstr(extension_says(x), why))
		fail_msg("says '%s'", extension_says(x));
	next_is(1);
	end_choosing();
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(i), i);
	teardown(NULL);
}

static void a_handler_that_does_wrong_leaves_it_to_the_default(void **state)
{
	(void)state;
	default_after("return { reclaim = function() end }", 0, "");
	default_after("return { reclaim = function() while true do end end }", -ETIMEDOUT, "steps");
	default_after("return { reclaim = function() return 42 end }", -EINVAL, "not a page");
	default_after("return { reclaim = function() return { 1 } end }", -EINVAL, "among");
	default_after("return { reclaim = function(pages) return pages end }", -EINVAL,
		      "a userdata, not a page");
	default_after("return { reclaim = function(pages) return setmetatable({}, "
		      "getmetatable(pages:newest()) or { there = true }) end }",
		      0, "");
	default_after("return { reclaim = function(pages) pages:newest().pfn = 1 end }", -EINVAL,
		      "it.lua:1:");
	default_after("return { reclaim = function(pages) return pages:newest().older({}) end }",
		      -EINVAL, "a page is needed");
	default_after("return { reclaim = function(pages) return pages:newest().color end }",
		      -EINVAL, "no 'color'");
	default_after("local kept return { reclaim = function(pages)\n"
		      "  local last = kept kept = pages:oldest()\n"
		      "  if last then assert(not last.there and not last:newer() and "
		      "not last.address and last:used() == nil) end\n"
		      "  return last\n"
		      "end }",
		      0, "");
}

/* A handle whose page has gone names nothing, also when another has its frame. */
static void a_handle_is_good_as_long_as_its_page(void **state)
{
	unsigned first;

	(void)state;
	choose_from(8, "local kept return { reclaim = function(pages)\n"
		       "  kept = kept or pages:newest()\n"
		       "  return kept\n"
		       "end }");
	next_is(7);
	next_is(0);
	assert_int_equal(last_answer, -EBADF);
	assert_non_null(strstr(extension_says(x), "a page that is gone"));
	assert_false(extension_has_failed(x));
	for (unsigned i = 8; i < 100; i++)
		put(i, i); /* in every frame */
	assert_true(take(&first));
	assert_int_equal(last_answer, -EBADF);
	end_choosing();
}

static void handles_that_are_made_up_name_nothing(void **state)
{
	struct page_handle h = { .pfn = 1ULL << 60, .stamp = 1 }, next;
	struct page_facts facts;

	(void)state;
	choose_from(2, "return { reclaim = function() end }");
	assert_int_equal(chosen_look(&w.e->lru.nodes[0], &h, &facts), -EBADF);
	assert_int_equal(chosen_newer(&w.e->lru.nodes[0], &h, &next), -EBADF);
	assert_int_equal(chosen_used(&w.e->lru.nodes[0], &h), -EBADF);
	assert_int_equal(chosen_oldest(&w.e->lru.nodes[0], &h), 0);
	h.stamp++;
	assert_int_equal(chosen_look(&w.e->lru.nodes[0], &h, &facts), -EBADF);
	h.stamp--;
	assert_int_equal(chosen_look(&w.e->lru.nodes[0], &h, &facts), 0);
	assert_int_equal(chosen_older(&w.e->lru.nodes[0], &h, &next), -ENOENT);
	end_choosing();
	assert_int_equal(chosen_look(&w.e->lru.nodes[0], &h, &facts), -EBADF);
}

#define in_world(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_extension_is_refused_in_one_line),
		cmocka_unit_test(there_is_nothing_of_the_process),
		cmocka_unit_test(it_computes_bytes),
		cmocka_unit_test(what_runs_for_ever_is_ended),
		cmocka_unit_test(what_takes_all_memory_is_ended),
		cmocka_unit_test(nonsense_is_no_answer),
		in_world(it_chooses_what_goes),
		in_world(it_goes_from_page_to_page),
		in_world(what_came_just_now_is_not_chosen),
		in_world(several_go_in_the_order_of_the_answer),
		in_world(neighbours_come_along_if_it_says_so),
		in_world(it_sees_what_is_used),
		in_world(a_handle_is_good_as_long_as_its_page),
		in_world(handles_that_are_made_up_name_nothing),
		cmocka_unit_test(a_handler_that_does_wrong_leaves_it_to_the_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
