# SPDX-License-Identifier: MIT
"""A program that rests and then fills memory, from two threads that leave no CPU to others, is held
to its limit wherever it rested: below all marks, just below that where paging is made ready (where
two at once compete for the CPUs while it is), just below that where it begins, and above."""
import os
import signal

from trial import MIB, expect

LIMIT = 64  # MiB
PAIRS = [(23, 23)] * 4 + [(8, 34), (47, 60)]


def grow(t, level, process):
    status, out = process.wait()
    expect(status == 0, "%d MiB: status %d%s" % (level, status, t.errors()))
    resident = int(out) - process.stats()["agent_bytes"]
    expect(resident <= t.limit * 105 // 100 + 16 * MIB,
           "%d MiB were resident, after a rest at %d%s" % (resident // MIB, level, t.errors()))
    return resident // MIB


def run(t):
    program = t.compile(t.here + "/outrun.c")
    t.limit = LIMIT * MIB
    most = 0
    for levels in PAIRS:
        processes = [t.start([program, str(2 * LIMIT), str(level)]) for level in levels]
        try:
            for process in processes:
                expect(process.popen.stdout.readline() == b"rests\n",
                       "it did not start" + t.errors())
            for process in processes:
                os.kill(process.program(), signal.SIGUSR1)
            most = max(most, *[grow(t, *each) for each in zip(levels, processes)])
        except BaseException:
            for process in processes:
                process.kill()
            raise
    return "at most %d MiB of %d" % (most, LIMIT)
