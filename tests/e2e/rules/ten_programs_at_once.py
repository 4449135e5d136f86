# SPDX-License-Identifier: MIT
"""Ten managed programs at once are each right."""
from trial import expect


def run(t):
    program = t.compile(t.here + "/c/anonymous_memory_keeps_its_contents.c")
    running = [t.start([program, "64"]) for _ in range(10)]
    for i, process in enumerate(running):
        status, out = process.wait()
        expect((status, out) == (0, b"ok\n"), "number %d: status %d, wrote %r%s" % (
            i, status, out, t.errors()))
    expect(not t.over, "memory: %s" % t.over)
    expect(t.evicted, "nothing was evicted")
