# SPDX-License-Identifier: MIT
"""Signals sent to the command reach the program; stdin and stdout are the program's alone."""
import json
import os
import signal
import subprocess
import time

from trial import expect

SCRIPT = """
trap 'echo got TERM; exit 5' TERM
trap 'echo got HUP' HUP
trap 'echo got USR1' USR1
echo ready
while :; do sleep 0.05; done
"""


def run(t):
    command = t.start(["sh", "-c", SCRIPT])
    out = command.popen.stdout
    expect(out.readline() == b"ready\n", "it did not start%s" % t.errors())
    for name in "HUP", "USR1", "TERM":
        os.kill(command.pid, getattr(signal, "SIG" + name))
        said = out.readline()
        expect(said == b"got %s\n" % name.encode(), "after %s it wrote %r" % (name, said))
        time.sleep(0.05)
    status, rest = command.wait()
    expect((status, rest) == (5, b""), "status %d, wrote %r" % (status, rest))

    text = os.urandom(1 << 20)
    done = subprocess.run([t.vmfault, "run", "--memory", "32M", "--", "cat"], input=text,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, check=False)
    expect(done.stdout == text, "cat gave %d bytes of %d back" % (len(done.stdout), len(text)))
    expect(done.stderr, "no table on stderr")

    # --json: the keys that are promised, and no other place for them than stderr.
    done = subprocess.run([t.vmfault, "run", "--memory", "32M", "--json", "--", "echo", "here"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, check=False)
    expect(done.stdout == b"here\n", "stdout holds %r" % done.stdout)
    found = json.loads(done.stderr)
    for key, parts in {
            "exit_status": (), "wall_seconds": (), "memory_limit_bytes": (),
            "peak_resident_bytes": (), "agent_bytes": (), "unmanaged": (),
            "faults": ("minor", "major", "zero", "second_chance", "prefetched"),
            "fault_latency_ns": ("p50", "p99", "p999", "max"),
            "evicted": ("clean", "dirty", "same_filled"),
            "store": ("kind", "raw_bytes", "stored_bytes")}.items():
        expect(key in found, "no %s in the JSON" % key)
        for part in parts:
            expect(part in found[key], "no %s.%s in the JSON" % (key, part))
    expect(found["memory_limit_bytes"] == 32 << 20, "limit %s" % found["memory_limit_bytes"])
