# SPDX-License-Identifier: MIT
"""kill -9 of the program, or of the command and then of the program: no process, file or shared memory stays."""
import os
import signal
import time

from trial import expect
import watch


def traces():
    """What could be left behind outside: names in shared places, and System V segments."""
    found = set()
    for place in "/dev/shm", "/tmp", "/var/tmp", "/run":
        found |= {place + "/" + name for name in os.listdir(place) if "vmfault" in name}
    with open("/proc/sysvipc/shm", encoding="ascii") as file:
        found |= {"shm " + line.split()[1] for line in file.readlines()[1:]}
    return found


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def end_one(t, program, which):
    command = t.start([program, "256"])
    time.sleep(1.0)
    below = watch.descendants(command.pid)
    expect(below, "it ended by itself%s" % t.errors())
    os.kill(command.program() if which == "program" else command.pid, signal.SIGKILL)
    status = command.popen.wait(t.timeout)
    command.watch.stop()
    command.popen.stdout.close()
    if which == "program":
        expect(status == 137, "kill -9 of the program gives %d, not 137" % status)
    else:
        # Like any other that starts a program (nice, timeout), it takes none with it.
        for pid in filter(alive, below):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + t.timeout
    while any(map(alive, below)) and time.monotonic() < end:
        time.sleep(0.05)
    expect(not any(map(alive, below)), "after kill -9 of the %s the process lives on" % which)


def run(t):
    program = t.compile(t.here + "/forever.c")
    before = traces()
    for which in "program", "command":
        end_one(t, program, which)
        left = traces() - before
        expect(not left, "kill -9 of the %s left %s" % (which, ", ".join(sorted(left))))
