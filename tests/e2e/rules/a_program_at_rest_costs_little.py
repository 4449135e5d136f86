# SPDX-License-Identifier: MIT
"""While a program's memory stays as it is the agent takes less than 1 % of a CPU, however full it
is."""
import os
import time

from trial import MIB, expect

LIMIT = 64  # MiB
# Far below all marks; just below that where paging is made ready, and where it begins; just above
# that; and all but full.
LEVELS = 8, 23, 34, 47, 49, 60
SETTLES, SECONDS = 1.0, 5.0
MOST_PERCENT = 1.0


def agent_ns(pid):
    """CPU time of all threads but the program's only one."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        if int(task) != pid:
            with open("/proc/%d/task/%s/schedstat" % (pid, task), encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total


def shares(pids):
    """Percent of a CPU for each. Time on a CPU, so it matters little what else runs."""
    time.sleep(SETTLES)
    began, before = time.monotonic(), [agent_ns(pid) for pid in pids]
    time.sleep(SECONDS)
    after = [agent_ns(pid) for pid in pids]
    expect(all(before), "no thread of the agent was found")
    return [(b - a) / 1e7 / (time.monotonic() - began) for a, b in zip(before, after)]


def run(t):
    program = t.compile(t.here + "/outrun.c")
    t.limit = LIMIT * MIB
    processes = [t.start([program, str(2 * LIMIT), str(level)]) for level in LEVELS]
    try:
        for process in processes:
            expect(process.popen.stdout.readline() == b"rests\n", "it did not start" + t.errors())
        pids = [process.program() for process in processes]
        found = shares(pids)
        for level, share in zip(LEVELS, found):
            expect(share <= MOST_PERCENT, "%.2f %% of a CPU at %d of %d MiB" % (share, level, LIMIT))
    finally:
        for process in processes:
            process.kill()
    return "%% of a CPU at MiB of %d: %s" % (
        LIMIT, ", ".join("%.2f at %d" % each for each in zip(found, LEVELS)))
