/* SPDX-License-Identifier: MIT */
/* Extensions that a user loads into SPIN: paging policies and memory objects. */
#include "engine/base/errno.h"
#include "systems/lab.h"
#include "systems/spin/internal.h"
#include "tests/unit/unit.h"

static struct lab_result result;

/* A workload with a script loaded, or (NULL) none. */
static void run(const char *text, const char *script)
{
	struct workload w = { .name = "it", .text = text };
	struct system_extension x = { .name = "it.lua" };

	if (script) {
		x.text = script;
		x.size = strlen(script);
	}
	assert_int_equal(
		lab_run_extended(&spin_system, &w, 1, script ? &x : NULL, NULL, NULL, &result), 0);
}

static void run_well(const char *text, const char *script)
{
	run(text, script);
	if (result.verdict != LAB_OK || result.says[0])
		fail_msg("%s %s", result.message, result.says);
}

#define FIFO "return { reclaim = function(pages) return pages:oldest() end }"
#define MRU  "return { reclaim = function(pages) return pages:newest() end }"

static void the_last_used_is_the_one_to_go_in_a_loop(void **state)
{
	const char *loop = workload_find("loop")->text;
	u64 usual, fifo;

	(void)state;
	run_well(loop, NULL);
	usual = result.counts[PAID_IO_READS];
	run_well(loop, FIFO);
	fifo = result.counts[PAID_IO_READS];
	assert_true(usual >= 7 * 96);
	assert_true(fifo >= 7 * 96);
	run_well(loop, MRU);
	assert_true(result.counts[PAID_IO_READS] < fifo / 2);
}

/* SPIN's kernel does not page itself out: that workload is not for it. */
static bool is_well(const struct workload *w)
{
	return result.verdict == LAB_OK ||
	       (result.verdict == LAB_NOT_OFFERED && !strcmp(w->name, "kernel-fault"));
}

/* Every conformance program has the results it has to have, whatever goes. */
static void no_policy_changes_a_result(void **state)
{
	static const char *const policies[] = {
		FIFO,
		MRU,
		"return { neighbours = true, reclaim = function(pages) return pages:newest() end }",
		"local kept return { reclaim = function(pages)\n"
		"  local last = kept kept = pages:oldest() return last end }",
		"return { reclaim = function(pages) if pages:count() % 2 == 0 then error('x') end "
		"end }",
		"return { reclaim = function() while true do end end }",
		"return { repossess = function(a) return a.b end }",
	};

	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++)
		for (unsigned k = 0; k < ARRAY_SIZE(policies); k++) {
			run(workloads[i].text, policies[k]);
			if (!is_well(&workloads[i]))
				fail_msg("%s with %s: %s", workloads[i].name, policies[k],
					 result.message);
		}
}

static void a_memory_object_computes_its_bytes(void **state)
{
	(void)state;
	run_well("map any 4P rw as A\n"
		 "read A 1P 0x07\n"
		 "write A 1 9\n"
		 "read A 1 9\n"
		 "read A+1 4095 0x07\n"
		 "read A+1P 1P 0x08\n"
		 "pageout A 4P\n"
		 "read A 1 9\n" /* what was written stays */
		 "read A+1P 1P 0x08\n"
		 "advise A 1P dontneed\n"
		 "read A 1P 0x07\n" /* and what was forgotten is computed again */
		 "fork as P\n"
		 "process P\n"
		 "read A+2P 1P 0x09\n"	 /* also in a child */
		 "copyin A+3P 1P 0x0a\n" /* and for the kernel */
		 "exit P\n"
		 "check\n",
		 "local first return { fault = function(a)\n"
		 "  first = first or a\n"
		 "  return string.char(7 + (a - first) // 4096):rep(4096)\n"
		 "end }");
}

static void rights_are_kept(void **state)
{
	(void)state;
	run_well("map any 1P r as A\n"
		 "read A 1P 0x61\n"
		 "write A 1 1 -> segv accerr\n"
		 "read A 1P 0x61\n"
		 "map any 1P none as B\n"
		 "touch B 1P r -> segv accerr\n"
		 "protect B 1P r\n"
		 "read B 1P 0x61\n"
		 "read 0x10000 1 -> segv maperr\n"
		 "file f 1P 5\n"
		 "map any 1P r file f 0 shared as C\n"
		 "read C 1P 5\n" /* a file's bytes are the file's */
		 "check\n",
		 "return { fault = function(a) return ('a'):rep(4096) end }");
}

static void a_memory_object_that_fails_leaves_zeros(void **state)
{
	(void)state;
	run("map any 3P rw as A\nread A 1P 0x61\nread A+1P 1P 0\nread A+2P 1P 0\nread A 1P 0x61\n",
	    "local n = 0 return { fault = function(a)\n"
	    "  n = n + 1\n"
	    "  if n > 1 then error('no more') end\n"
	    "  return ('a'):rep(4096)\n"
	    "end }");
	assert_int_equal(result.verdict, LAB_OK);
	assert_string_equal(result.says, "it.lua:3: no more");
}

static void repossess_tells_what_went(void **state)
{
	(void)state;
	run("map 0x20000000 8P rw fixed as A\nwrite A 8P 1\npageout A+2P 1P\nread A 8P 1\n",
	    "return { repossess = function(a) error('gone ' .. a // 4096 % 16) end }");
	assert_int_equal(result.verdict, LAB_OK);
	assert_string_equal(result.says, "it.lua:1: gone 2");
}

static void reclaim_has_a_default_handler(void **state)
{
	(void)state;
	run_well(workload_find("pressure")->text, NULL);
	/* One handler for each page that is asked for, one when it was written out. */
	assert_true(result.counts[PAID_HANDLERS] > 2 * result.counts[PAID_EXCEPTIONS]);
}

static void on_several_cpus_nothing_is_lost(void **state)
{
	struct system_extension x = { .name = "mru.lua", .text = MRU, .size = strlen(MRU) };

	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++) {
		assert_int_equal(
			lab_run_extended(&spin_system, &workloads[i], 4, &x, NULL, NULL, &result),
			0);
		if (!is_well(&workloads[i]))
			fail_msg("%s: %s", workloads[i].name, result.message);
	}
}

/* ---- the memory services ---- */

/* A memory object of one page for each space; `fault` with range, frame and space. */
#define OBJECT(fault)                                                                              \
	"local ranges, frame = {}\n"                                                               \
	"return { begin = function(space) ranges[space.id] = VirtAddr.Allocate(space, 2) end,\n"   \
	"  fault = function(address, write, space)\n"                                              \
	"    if not space then return nil end\n"                                                   \
	"    local range = ranges[space.id]\n" fault "\n"                                          \
	"  end }"
#define MAPS  "return Translation.AddMapping(space, frame, range, 0, 'rw')"
#define RANGE "0xffff800000000000"

static void it_maps_frames_of_its_own(void **state)
{
	(void)state;
	run_well("read " RANGE " 1P 0x61\n"
		 "write " RANGE " 1 9\n"
		 "read " RANGE " 1 9\n"
		 "map any 1P rw as A\n"
		 "read A 1P 0\n" /* which it leaves to others */
		 "fork as P\n"
		 "process P\n"
		 "read " RANGE " 1P 0x61\n" /* a child has a range of its own */
		 "exit P\n"
		 "read " RANGE " 1 9\n"
		 "check\n",
		 OBJECT("frame = PhysAddr.Allocate()\n"
			"assert(PhysAddr.Write(frame, 0, ('a'):rep(4096)))\n" MAPS));
}

/* One after the other, in the words that the script gets. */
static void each_service_says_what_came_of_it(void **state)
{
	(void)state;
	run_well("read " RANGE " 1P 0x62\n",
		 OBJECT("frame = PhysAddr.Allocate()\n"
			"local function is(want, got, why) assert(got == want[1] and why == "
			"want[2],\n"
			"  tostring(got) .. ' ' .. tostring(why)) end\n"
			"local P, T, first = PhysAddr, Translation, VirtAddr.Address(range)\n"
			"assert(first == address and frame == frame and frame ~= range)\n"
			"is({ 'active' }, P.State(frame))\n"
			"is({ true }, P.Write(frame, 4095, 'b'))\n"
			"is({ nil, 'not possible' }, P.Write(frame, 4095, 'bb'))\n"
			"is({ nil, 'not possible' }, P.Read(frame, -1, 1))\n"
			"is({ nil, 'not possible' }, P.Read(frame, 0, 5000))\n"
			"is({ '\\0b' }, P.Read(frame, 4094, 2))\n"
			"is({ nil, 'not yours' }, P.ChangeState(frame, 'pinned'))\n"
			"is({ nil, 'nothing there' }, T.ExamineMapping(space, first))\n"
			"is({ nil, 'nothing there' }, T.RemoveMapping(space, range, 1))\n"
			"is({ nil, 'not possible' }, T.AddMapping(space, frame, range, 2, 'r'))\n"
			"is({ true }, T.AddMapping(space, frame, range, 1, 'r'))\n"
			"is({ nil, 'taken' }, T.AddMapping(space, frame, range, 1, 'r'))\n"
			"is({ true }, T.ChangeMapping(space, range, 1, 'rx'))\n"
			"is({ 'rx', false }, T.ExamineMapping(space, first + 4096))\n"
			"is({ true }, P.ChangeProtection(frame, 'r'))\n"
			"is({ 'r', false }, T.ExamineMapping(space, first + 4096))\n"
			"is({ true }, P.ChangeState(frame, 'reclaimed'))\n"
			"is({ nil, 'stale' }, T.AddMapping(space, frame, range, 0, 'r'))\n"
			"is({ nil, 'nothing there' }, T.ExamineMapping(space, first + 4096))\n"
			"is({ true }, P.ChangeState(frame, 'active'))\n"
			"is({ true }, P.Deallocate(frame))\n"
			"is({ true }, P.Deallocate(frame))\n" /* twice is once */
			"is({ nil, 'gone' }, P.State(frame))\n"
			"is({ nil, 'gone' }, T.AddMapping(space, frame, range, 0, 'r'))\n"
			"local other = VirtAddr.Allocate(space, 1)\n"
			"is({ true }, VirtAddr.Deallocate(other))\n"
			"is({ nil, 'gone' }, VirtAddr.Address(other))\n"
			"is({ nil, 'not possible' }, VirtAddr.Allocate(space, 0))\n"
			"frame = PhysAddr.Allocate()\n"
			"PhysAddr.Write(frame, 0, ('b'):rep(4096))\n" MAPS));
}

/* An error of the script's; the program gets a signal, and goes on. */
static void is_refused(const char *handler, const char *why)
{
	char script[1024];

	snprintf(script, sizeof(script), OBJECT("frame = PhysAddr.Allocate()\n%s"), handler);
	run("map any 2P rw as A\nwrite A 2P 1\ntouch " RANGE " 1 r -> segv maperr\n"
	    "read A 2P 1\nwrite A 2P 2\nread A 2P 2\ncheck\n",
	    script);
	assert_int_equal(result.verdict, LAB_OK);
	if (!strstr(result.says, why))
		fail_msg("%s: %s", handler, result.says);
}

static void what_is_no_handle_is_refused(void **state)
{
	static const char *const frames[] = { "1",   "frame.id", "'frame'", "{}",
					      "nil", "range",	 "space",   "print" };
	char text[128];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
		snprintf(text, sizeof(text), "return PhysAddr.Read(%s, 0, 8)", frames[i]);
		is_refused(text, "a frame is needed here, not a");
		snprintf(text, sizeof(text),
			 "return Translation.AddMapping(space, %s, range, 0, 'rw')", frames[i]);
		is_refused(text, "a frame is needed here, not a");
	}
	is_refused("return VirtAddr.Allocate(1, 1)", "a space is needed here, not a number");
	is_refused("return VirtAddr.Address(range.id)", "a range is needed here, not a number");
	is_refused("setmetatable(frame, {})", "a table is needed here, not a userdata");
	is_refused("assert(getmetatable(frame) == nil) frame.id = 7", "it.lua:");
	is_refused("return frame.bytes", "nothing but an id");
	is_refused("return Translation.AddMapping(space, frame, range, 0, 'w')", "no rights");
	is_refused("return PhysAddr.ChangeState(frame, 'mine')", "no state");
	is_refused("return 'bytes'", "not whether a frame is mapped");
}

/* A space that ended is not to be had by the handle that was given for it. */
static void a_space_s_handle_ends_with_it(void **state)
{
	(void)state;
	run_well("fork as P\nexit P\nfork as Q\nread " RANGE " 1P 0x67\n",
		 "local spaces, range = {}\n"
		 "return { begin = function(space)\n"
		 "    range = range or VirtAddr.Allocate(space, 1)\n"
		 "    table.insert(spaces, space)\n"
		 "  end,\n"
		 "  fault = function(address, write, space)\n"
		 "    local r, why = VirtAddr.Allocate(spaces[2], 1)\n"
		 "    assert(not r and why == 'gone' and VirtAddr.Allocate(spaces[3], 1))\n"
		 "    assert(spaces[1] == space and spaces[2] ~= spaces[3])\n"
		 "    local frame = PhysAddr.Allocate()\n"
		 "    PhysAddr.Write(frame, 0, ('g'):rep(4096))\n"
		 "    return Translation.AddMapping(space, frame, range, 0, 'r')\n"
		 "  end }");
}

/* It gets half of all, and whoever has more gives them back. */
static void frames_that_are_kept_for_good_are_not(void **state)
{
	(void)state;
	run_well("# frames 64\nread " RANGE " 1P 0x63\n"
		 "map any 128P rw as A\nwrite A 128P 1\nread A 128P 1\ncheck\n",
		 OBJECT("local all = {}\n"
			"repeat frame = PhysAddr.Allocate() table.insert(all, frame)\n"
			"until not frame\n"
			"assert(#all > 8 and #all <= 32)\n"
			"frame = all[1]\n"
			"PhysAddr.Write(frame, 0, ('c'):rep(4096))\n" MAPS));
}

/* One of them maps the page, and the others find it. */
static void several_cpus_fault_in_its_range(void **state)
{
	(void)state;
	run_well("# cpus 4\n# frames 64\n"
		 "together " RANGE " 24P w\n"
		 "read " RANGE " 24P 0x65\n"
		 "map any 64P rw as A\n"
		 "write " RANGE " 24P 5\n"
		 "together A 64P w\n"
		 "together " RANGE " 24P r\n"
		 "together A 64P r\n"
		 "read " RANGE " 24P 5\ncheck\n",
		 "local range, first, pages, kept = nil, 0, {}, {}\n"
		 "return {\n"
		 "  begin = function(space)\n"
		 "    range = VirtAddr.Allocate(space, 24)\n"
		 "    first = VirtAddr.Address(range)\n"
		 "  end,\n"
		 "  transient = function(frame)\n"
		 "    local page = pages[frame.id]\n"
		 "    if page then kept[page] = PhysAddr.Read(frame, 0, 4096) end\n"
		 "  end,\n"
		 "  fault = function(address, write, space)\n"
		 "    if not space then return nil end\n"
		 "    local page, frame = (address - first) // 4096, PhysAddr.Allocate()\n"
		 "    if not frame then return false end\n"
		 "    PhysAddr.Write(frame, 0, kept[page] or ('e'):rep(4096))\n"
		 "    local ok, why = Translation.AddMapping(space, frame, range, page, 'rw')\n"
		 "    if ok then pages[frame.id] = page else PhysAddr.Deallocate(frame) end\n"
		 "    return ok or why == 'taken'\n"
		 "  end }");
}

/* Nobody is asked for a frame that a script wants: that would be itself. */
static void it_gets_the_frames_that_are_free(void **state)
{
	(void)state;
	run_well("# frames 64\nmap any 128P rw as A\nwrite A 128P 1\n"
		 "read " RANGE " 1P 0x64\nread A 128P 1\ncheck\n",
		 "local range\n"
		 "return { reclaim = function(pages) return pages:oldest() end,\n"
		 "  begin = function(space) range = VirtAddr.Allocate(space, 1) end,\n"
		 "  fault = function(address, write, space)\n"
		 "    if not space then return nil end\n"
		 "    local frame, n, another, why = PhysAddr.Allocate(), 0\n"
		 "    repeat another, why = PhysAddr.Allocate() n = n + 1 until not another\n"
		 "    assert(why == 'none left' and n < 31)\n"
		 "    PhysAddr.Write(frame, 0, ('d'):rep(4096))\n"
		 "    return Translation.AddMapping(space, frame, range, 0, 'rw')\n"
		 "  end }");
}

/* What was written is in the script's hands before the frame is another's. */
#define GOES                                                                                       \
	"# frames 64\nwrite " RANGE " 32P 7\n"                                                     \
	"map any 128P rw as A\nwrite A 128P 1\nread A 128P 1\n"                                    \
	"read " RANGE " 32P 7\ncheck\n"
#define KEEPS(kept)                                                                                \
	"local range, first, pages, kept = nil, 0, {}, {}\n"                                       \
	"return {\n"                                                                               \
	"  begin = function(space)\n"                                                              \
	"    range = VirtAddr.Allocate(space, 32)\n"                                               \
	"    first = VirtAddr.Address(range)\n"                                                    \
	"  end,\n"                                                                                 \
	"  transient = function(frame)\n"                                                          \
	"    assert(PhysAddr.State(frame) == 'transient')\n"                                       \
	"    assert(not PhysAddr.Write(frame, 0, 'x'))\n"                                          \
	"    kept[pages[frame.id]] = " kept "\n"                                                   \
	"  end,\n"                                                                                 \
	"  fault = function(address, write, space)\n"                                              \
	"    if not space then return nil end\n"                                                   \
	"    local page, frame = (address - first) // 4096, PhysAddr.Allocate()\n"                 \
	"    PhysAddr.Write(frame, 0, kept[page] or '')\n"                                         \
	"    pages[frame.id] = page\n"                                                             \
	"    return Translation.AddMapping(space, frame, range, page, 'rw')\n"                     \
	"  end }"

static void it_reads_a_frame_that_goes(void **state)
{
	(void)state;
	run_well(GOES, KEEPS("PhysAddr.Read(frame, 0, 4096)"));
	/* They are gone if the script does not. */
	run(GOES, KEEPS("nil"));
	assert_int_equal(result.verdict, LAB_DIFFERS);
	assert_non_null(strstr(result.message, "holds 0, not 7"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_used_is_the_one_to_go_in_a_loop),
		cmocka_unit_test(no_policy_changes_a_result),
		cmocka_unit_test(a_memory_object_computes_its_bytes),
		cmocka_unit_test(rights_are_kept),
		cmocka_unit_test(a_memory_object_that_fails_leaves_zeros),
		cmocka_unit_test(repossess_tells_what_went),
		cmocka_unit_test(reclaim_has_a_default_handler),
		cmocka_unit_test(on_several_cpus_nothing_is_lost),
		cmocka_unit_test(it_maps_frames_of_its_own),
		cmocka_unit_test(each_service_says_what_came_of_it),
		cmocka_unit_test(what_is_no_handle_is_refused),
		cmocka_unit_test(a_space_s_handle_ends_with_it),
		cmocka_unit_test(frames_that_are_kept_for_good_are_not),
		cmocka_unit_test(several_cpus_fault_in_its_range),
		cmocka_unit_test(it_gets_the_frames_that_are_free),
		cmocka_unit_test(it_reads_a_frame_that_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
