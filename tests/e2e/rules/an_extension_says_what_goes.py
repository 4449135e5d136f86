# SPDX-License-Identifier: MIT
"""A policy of one's own: for a loop larger than memory what came last goes first; and one that does
wrong is told of in one line, is not asked again, and costs no byte."""
import os

from trial import MIB, expect

SIZE, LIMIT = 48, 32  # MiB

WRONG = {"while true do end": "took too many steps",
         "local function f() pcall(f) return f() end return f()": "took too many steps",
         "local s = 'x' while true do s = s .. s end": "took too much memory",
         "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) "
         "return t[1]": "overflow",
         "return 0xffff888000000000": "not a page",
         "return { pages:newest(), {} }": "a table among its pages",
         "error('at ' .. 1.5 / 4 .. ' ' .. 2 ^ 10 .. ' ' .. 7.25 % 2.5)": ":3: at 0.375 1024.0 2.25",
         "kept = kept or pages:newest() return kept": "a page that is gone"}


def go_around(t, program, extension, rounds=8, *words):
    t.limit = LIMIT * MIB
    t.options = ["--prefetch", "0", "--extension", extension]
    process = t.start([program, str(SIZE), str(rounds), *words])
    status, out = process.wait()
    expect((status, out) == (0, b"ok\n"),
           "%s: status %d, wrote %r%s" % (extension, status, out, t.errors()))
    expect(not t.over, "%s: %s" % (extension, t.over))
    return process.stats()


def run(t):
    program = t.compile(os.path.join(t.here, "around.c"))
    examples = os.path.join(t.here, "..", "..", "examples", "extensions")
    fifo = go_around(t, program, os.path.join(examples, "fifo.lua"))
    mru = go_around(t, program, os.path.join(examples, "mru.lua"))
    before, after = fifo["faults"]["major"], mru["faults"]["major"]
    expect(after < before // 2, "major faults: %d by fifo, %d by mru" % (before, after))
    expect(mru["policy"] == "extension", "the policy is %s" % mru["policy"])
    go_around(t, program, os.path.join(examples, "mru.lua"), 2, "fork")
    # It copies from page to page: both must be there at once, whatever the policy says.
    copies = t.compile(os.path.join(t.here, "c", "malloc_and_realloc_keep_contents.c"))
    t.limit = 16 * MIB
    t.options = ["--extension", os.path.join(examples, "mru.lua")]
    status, out = t.start([copies, "32"]).wait(timeout=60)
    expect((status, out) == (0, b"ok\n"), "copying: status %d, wrote %r" % (status, out))
    for number, (script, says) in enumerate(WRONG.items()):
        path = os.path.join(t.dir, "wrong%d.lua" % number)
        with open(path, "w", encoding="utf-8") as file:
            file.write("local asked, kept = 0, nil\nreturn { reclaim = function(pages) "
                       "asked = asked + 1\nif asked > 20 then %s end\n"
                       "return pages:newest() end }\n" % script)
        notes = [note["text"] for note in go_around(t, program, path, 2)["notes"]]
        expect(len(notes) == 1 and says in notes[0] and "wrong%d.lua" % number in notes[0],
               "%s: it says %s" % (script, notes))
    return "%d major faults by fifo, %d by mru; %d that do wrong" % (before, after, len(WRONG))
