# SPDX-License-Identifier: MIT
"""With --huge-pages keep what is hot becomes huge again after it was paged; with split it does not."""
import os

from trial import MIB, expect

HOT, COLD = 64, 96  # MiB


def huge(t, program, how, want):
    t.limit, t.options = 96 * MIB, ["--huge-pages", how]
    process = t.start([program, str(HOT), str(COLD), str(want)])
    status, output = process.wait()
    expect(status == 0, "%s: status %d %s%s" % (how, status, output, t.errors()))
    expect(not t.over, "%s: %s" % (how, t.over))
    return int(output.split()[0]), process.stats()["huge_pages"]


def run(t):
    program = t.compile(os.path.join(t.here, "hot_and_cold.c"))
    size, counts = huge(t, program, "split", 0)
    expect(counts == {"how": "split", "made": 0, "split": 0}, "split: %s" % counts)
    expect(size == 0, "split: %d MiB are huge" % size)
    size, counts = huge(t, program, "keep", HOT // 2)
    expect(size > HOT // 2, "keep: only %d MiB are huge" % size)
    expect(counts["made"] >= size // 2 - 1, "keep: %d MiB are huge, and %s" % (size, counts))
    return "%d MiB huge; %d made, %d split again" % (size, counts["made"], counts["split"])
