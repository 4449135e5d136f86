# SPDX-License-Identifier: MIT
"""Samples the anonymous resident memory of a command's processes from /proc while it runs.

The agent's own memory in a managed process is not the program's: it lies in a region of address
space of its own (machine/linux/arena.h), and is told apart by that.
"""
import os
import threading
import time

MIB = 1 << 20
# ARENA_BASE and ARENA_SIZE of machine/linux/arena.h.
ARENA = range(0x600000000000, 0x600000000000 + (256 << 30))


def children(pid):
    found = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def descendants(pid):
    """All processes below pid, without pid itself."""
    found, todo = [], [pid]
    while todo:
        more = children(todo.pop())
        found += more
        todo += more
    return found


def rss_anon(pid):
    """RssAnon of a process in bytes: cheap. 0 if it is gone."""
    try:
        with open("/proc/%d/status" % pid) as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return 0


def split_anon(pid):
    """(program's, agent's) anonymous resident bytes, by mapping: not so cheap."""
    program = agent = 0
    ours = False
    try:
        with open("/proc/%d/smaps" % pid) as file:
            for line in file:
                if line.startswith("Anonymous:"):
                    size = int(line.split()[1]) * 1024
                    if ours:
                        agent += size
                    else:
                        program += size
                elif "-" in line[:20] and line[0] in "0123456789abcdef":
                    ours = int(line.split("-", 1)[0], 16) in ARENA
    except (OSError, IndexError, ValueError):
        pass
    return program, agent


def surely_over(pid, allowed):
    """Is the program beyond `allowed`, by a count that cannot be torn?

    smaps is counted page by page: if the reader is interrupted, pages that left behind its back and
    pages that came before it are both counted. RssAnon is one number; from it goes the most that
    the agent had before and after. Bytes if it is over, else 0.
    """
    before = split_anon(pid)[1]
    resident = rss_anon(pid)
    program = resident - max(before, split_anon(pid)[1])
    return program if program > allowed else 0


class Watch:
    """Watches the processes of one command until stopped.

    managed: the command is `vmfault run`, whose children are the program; otherwise the command
    is itself the program. `peak` is the most that any one process had, the agent left out;
    `over` the first finding beyond `allowed`.
    """

    def __init__(self, pid, managed, allowed=None, interval=0.01):
        self.pid, self.managed, self.allowed, self.interval = pid, managed, allowed, interval
        self.peak = self.agent = self.samples = 0
        self.over = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopped.set()
        self.thread.join()

    def work(self):
        last_split = 0.0
        while not self.stopped.wait(self.interval):
            processes = descendants(self.pid)
            if not self.managed:
                processes.append(self.pid)
            now = time.monotonic()
            split_due = now - last_split > 0.5
            for pid in processes:
                resident = rss_anon(pid)
                if self.managed and resident > self.peak:
                    # What of it is the agent's? Only asked for when it matters, for it is dear.
                    if split_due or self.allowed is not None and resident > self.allowed:
                        last_split = now
                        resident, agent = split_anon(pid)
                        self.agent = max(self.agent, agent)
                        if self.allowed is not None and resident > self.allowed:
                            resident = surely_over(pid, self.allowed)
                            if resident and not self.over:
                                self.over = "process %d had %.1f MiB resident, %.1f are allowed" % (
                                    pid, resident / MIB, self.allowed / MIB)
                    else:
                        continue
                self.peak = max(self.peak, resident)
            self.samples += 1
