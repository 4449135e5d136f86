# SPDX-License-Identifier: MIT
"""A program that leaves no CPU to anybody else while it fills memory stays near its limit."""
from trial import MIB, expect


def run(t):
    program = t.compile(t.here + "/outrun.c")
    most = []
    for limit in 16, 96, 256:
        t.limit = limit * MIB
        process = t.start([program, str(3 * limit)])
        status, out = process.wait()
        expect(status == 0, "status %d%s" % (status, t.errors()))
        resident = int(out) - process.stats()["agent_bytes"]
        expect(resident <= t.limit * 105 // 100 + 16 * MIB,
               "%d MiB were resident with a limit of %d" % (resident // MIB, limit))
        most.append("%d" % (resident // MIB))
    expect(t.evicted, "nothing was evicted")
    return "at most %s MiB" % ", ".join(most)
