# SPDX-License-Identifier: MIT
"""Pages are written out on CPUs where nobody faults, if there is a handler for one."""
import os

from trial import MIB, expect

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def written(t, program, *options):
    t.limit, t.options = 32 * MIB, list(options)
    process = t.start([program, "64", "1"])
    status, _ = process.wait()
    expect(status == 0, "status %d%s" % (status, t.errors()))
    stats = process.stats()
    by = {who: share["pages"] for who, share in stats["reclaim"]["written"].items()}
    evicted = stats["evicted"]["clean"] + stats["evicted"]["dirty"] + stats["evicted"]["same_filled"]
    expect(evicted > 10000, "only %d pages were evicted" % evicted)
    # What was unmapped on its way out is freed, and was not evicted.
    expect(sum(by.values()) >= evicted, "%d pages evicted, and written out: %s" % (evicted, by))
    return by


def run(t):
    program = t.compile(os.path.join(ROOT, "bench", "sweep.c"))
    by = written(t, program, "--threads", "1")
    expect(by["spare"] == 0, "one handler only, and a spare one wrote out: %s" % by)
    expect(by["after_fault"] > 0, "the one handler wrote nothing out: %s" % by)
    if len(os.sched_getaffinity(0)) == 1:
        return "one CPU only"
    by = written(t, program)
    expect(by["spare"] > 0, "no spare handler wrote out: %s" % by)
    return "spare %d of %d pages" % (by["spare"], sum(by.values()))
