# SPDX-License-Identifier: MIT
"""More processes one after the other than there is room for in the report: all are paged and right,
and the table says how many it does not tell of."""
from trial import MIB, expect

PROCESSES = 1040


def run(t):
    program = t.compile(t.here + "/many_children.c")
    process = t.start([program, str(PROCESSES)])
    status, out = process.wait()
    expect((status, out) == (0, b"ok\n"), "status %d, wrote %r%s" % (status, out, t.errors()))
    seen = process.stats()["processes"]
    expect(seen["seen"] == PROCESSES + 1, "it tells of %s processes" % seen)
    expect(seen["untold"] > 0, "none is left out: %s; the test needs more processes" % seen)
    return "%(seen)d processes, %(untold)d of them untold" % seen
