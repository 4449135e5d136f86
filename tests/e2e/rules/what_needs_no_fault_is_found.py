# SPDX-License-Identifier: MIT
"""Memory that comes without a fault is held to the limit, too: what was read before it was written, so
that the page of zeros was there, and what was given up and written to again."""
import os

from trial import MIB, expect

SIZE = 256  # MiB: more than a program may be above four times less


def run(t):
    most = []
    for name in "untouched_memory_reads_zero", "freed_memory_is_old_or_zero":
        program = t.compile(os.path.join(t.here, "c", name + ".c"))
        t.limit = SIZE // 4 * MIB
        process = t.start([program, str(SIZE)])
        status, _ = process.wait()
        expect(status == 0, "%s: status %d%s" % (name, status, t.errors()))
        expect(not t.over, "%s: %s" % (name, t.over))
        most.append("%d" % (process.stats()["peak_resident_bytes"] // MIB))
    expect(t.evicted, "nothing was evicted")
    return "at most %s MiB" % ", ".join(most)
