# SPDX-License-Identifier: MIT
"""The kernel's own answer, to compare with: zram swap (lz4) under a memory cgroup.

    with Zram(limit) as zram:
        zram.command(["program"])   # argv that runs the program in the group

Needs root, zram in the kernel and a memory controller; `why_not()` says what is missing. What was
set up is always taken down again.

A group that touches memory fast in two threads can run into the kernel's out-of-memory killer
although there is swap left. A cgroup v1 can be told to let its tasks wait instead; then they are
helped on with a little more room for a moment, and `rescues` counts how often.
"""
import os
import shutil
import subprocess
import sys
import threading
import time

CONTROL = "/sys/class/zram-control"
V1 = "/sys/fs/cgroup/memory"
DISK = 8 << 30
RESCUE = 4 << 20


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(text))


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def v2_root():
    """Where a cgroup2 hierarchy with the memory controller is mounted, or None."""
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            place, kind = line.split()[1:3]
            if kind == "cgroup2" and "memory" in read(place + "/cgroup.controllers").split():
                return place
    return None


def why_not():
    """None if it can be done here, else one line that says why not."""
    if os.getuid() != 0:
        return "not root"
    if not os.path.exists(CONTROL):
        subprocess.run(["modprobe", "zram"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=False)
    if not os.path.exists(CONTROL):
        return "the kernel has no zram"
    if not os.path.exists(V1 + "/memory.limit_in_bytes") and not v2_root():
        return "no memory cgroup here"
    if not shutil.which("mkswap", path="/usr/sbin:/sbin:" + os.environ["PATH"]):
        return "no mkswap"
    try:
        with Zram(64 << 20):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return None


class Zram:
    def __init__(self, limit):
        self.limit = limit
        self.device = self.group = None
        self.swapping = False
        self.rescues = 0
        self.rescuer = None
        self.done = threading.Event()

    def __enter__(self):
        try:
            self.set_up()
        except BaseException:
            self.take_down()
            raise
        return self

    def __exit__(self, *_):
        self.take_down()

    def set_up(self):
        self.device = int(read(CONTROL + "/hot_add"))
        write("/sys/block/zram%d/comp_algorithm" % self.device, "lz4")
        write("/sys/block/zram%d/disksize" % self.device, DISK)
        node = "/dev/zram%d" % self.device
        self.sbin("mkswap", node)
        self.sbin("swapon", "-p", "32000", node)
        self.swapping = True
        name = "vmfault-bench-%d" % os.getpid()
        root = v2_root()
        if root:
            try:
                write(root + "/cgroup.subtree_control", "+memory")
            except OSError:
                pass  # it may be on already
            self.group = root + "/" + name
            os.mkdir(self.group)
            write(self.group + "/memory.max", self.limit)
        else:
            self.group = V1 + "/" + name
            os.mkdir(self.group)
            write(self.group + "/memory.limit_in_bytes", self.limit)
            write(self.group + "/memory.oom_control", 1)
            self.rescuer = threading.Thread(target=self.rescue, daemon=True)
            self.rescuer.start()

    def rescue(self):
        """While tasks wait for memory that reclaim did not find: give some, and take it back."""
        while not self.done.wait(0.005):
            if "under_oom 1" not in read(self.group + "/memory.oom_control"):
                continue
            self.rescues += 1
            write(self.group + "/memory.limit_in_bytes", self.limit + RESCUE)
            time.sleep(0.001)
            try:
                write(self.group + "/memory.limit_in_bytes", self.limit)
            except OSError:
                pass  # still too full; the next round tries again

    @staticmethod
    def sbin(*argv):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                       env=dict(os.environ, PATH="/usr/sbin:/sbin:" + os.environ["PATH"]))

    def command(self, argv):
        """The shell enters the group and becomes the program."""
        return ["sh", "-c", "echo $$ > %s/cgroup.procs && exec \"$@\"" % self.group, "sh", *argv]

    def figures(self):
        """Peak of the group, and the most that zram's compressed data took, in bytes."""
        peaks = [name for name in ("memory.max_usage_in_bytes", "memory.peak")
                 if os.path.exists(self.group + "/" + name)]
        # orig_data_size compr_data_size mem_used_total mem_limit mem_used_max ...
        columns = read("/sys/block/zram%d/mm_stat" % self.device).split()
        return {"group_peak_bytes": int(read(self.group + "/" + peaks[0])) if peaks else None,
                "store_peak_bytes": int(columns[4]), "rescues": self.rescues}

    def take_down(self):
        self.done.set()
        if self.rescuer:
            self.rescuer.join()
        if self.group and os.path.isdir(self.group):
            for pid in read(self.group + "/cgroup.procs").split():
                try:
                    os.kill(int(pid), 9)
                except OSError:
                    pass
            for _ in range(100):
                try:
                    os.rmdir(self.group)
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                print("could not remove %s" % self.group, file=sys.stderr)
        if self.swapping:
            self.sbin("swapoff", "/dev/zram%d" % self.device)
        if self.device is not None:
            write("/sys/block/zram%d/reset" % self.device, "1")
            write(CONTROL + "/hot_remove", self.device)
        self.group = self.device = None
        self.swapping = False
