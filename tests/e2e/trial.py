# SPDX-License-Identifier: MIT
"""One run of a program, bare or under `vmfault run`: what the files of programs/ and rules/ use."""
import json
import os
import signal
import subprocess

import watch

MIB = 1 << 20


class Failure(Exception):
    """The trial did not show what it should; the text says what."""


def expect(condition, why):
    if not condition:
        raise Failure(why)


class Process:
    """A started program. `pid` is that of the command: for a managed one, of `vmfault`."""

    def __init__(self, trial, argv, limit, stdin=None, cwd=None, env=None, stdout=None):
        self.trial = trial
        self.stats_file = None
        self.managed = limit is not None
        if self.managed:
            trial.started += 1
            self.stats_file = os.path.join(trial.dir, "stats-%d.json" % trial.started)
            argv = [trial.vmfault, "run", "--memory", str(limit),
                    "--stats", self.stats_file, *trial.options, "--", *argv]
        allowed = limit * 105 // 100 + 16 * MIB if self.managed else None
        self.stderr = open(os.path.join(trial.dir, "stderr"), "ab+")
        self.popen = subprocess.Popen(
            argv, cwd=cwd or trial.dir, stderr=self.stderr,
            stdin=open(stdin, "rb") if stdin else subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE, start_new_session=True,
            env=dict(os.environ, LC_ALL="C", TMPDIR=trial.dir, **(env or {})))
        self.pid = self.popen.pid
        self.watch = watch.Watch(self.pid, self.managed, allowed)

    def program(self):
        """The pid of the program itself."""
        if not self.managed:
            return self.pid
        below = watch.children(self.pid)
        expect(below, "vmfault has no child: %s" % self.trial.errors())
        return below[0]

    def wait(self, timeout=None):
        """Its exit status as a shell tells it, and what it wrote to stdout."""
        try:
            out, _ = self.popen.communicate(timeout=timeout or self.trial.timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("did not end in %d s%s" % (timeout or self.trial.timeout,
                                                     self.trial.errors()))
        except BaseException:
            self.kill()
            raise
        finally:
            self.watch.stop()
            self.stderr.close()
        status = self.popen.returncode
        self.trial.seen(self)
        return 128 - status if status < 0 else status, out

    def kill(self):
        """End it and all below it; for when something went wrong."""
        self.watch.stop()
        for pid in [*watch.descendants(self.pid), self.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.popen.wait()

    def stats(self):
        try:
            with open(self.stats_file, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError) as error:
            raise Failure("no statistics: %s%s" % (error, self.trial.errors())) from None


class Trial:
    """What a program's file is given.

    dir     a folder for this run, empty        full    real size wanted, not the small one
    inputs  a folder kept for all its runs      managed under vmfault now, or bare
    """

    def __init__(self, directory, inputs, full, vmfault, limit=None, timeout=120, options=()):
        self.dir, self.inputs, self.full = directory, inputs, full
        self.vmfault, self.limit, self.timeout = vmfault, limit, timeout
        self.options = list(options)
        self.managed = limit is not None
        self.started = self.peak = self.agent = self.evicted = 0
        self.over = None
        self.said = []  # the notes of the statistics, and what was not managed

    def start(self, argv, **more):
        """Start it, under vmfault if this is a managed trial."""
        return Process(self, argv, self.limit, **more)

    def run(self, argv, timeout=None, **more):
        """Start it and wait: exit status and stdout."""
        return self.start(argv, **more).wait(timeout)

    def run_bare(self, argv, **more):
        """A helper beside it, never under vmfault."""
        return Process(self, argv, None, **more)

    def input(self, name, make):
        """A file in `inputs`, made by make(file) on first use, in binary."""
        path = os.path.join(self.inputs, name)
        if not os.path.exists(path):
            with open(path + ".part", "wb") as file:
                make(file)
            os.rename(path + ".part", path)
        return path

    def read(self, name):
        with open(os.path.join(self.dir, name), "rb") as file:
            return file.read()

    def errors(self):
        """The end of what went to stderr, for a message."""
        try:
            text = self.read("stderr").decode(errors="replace").strip()
        except OSError:
            return ""
        return "; stderr ends: ..." + text[-600:] if text else ""

    def seen(self, process):
        """Take over what a process that ended has shown."""
        if process.managed != self.managed:
            return
        self.peak = max(self.peak, process.watch.peak)
        self.agent = max(self.agent, process.watch.agent)
        self.over = self.over or process.watch.over
        if process.managed:
            stats = process.stats()
            expect(stats["exit_status"] == process.popen.returncode,
                   "the statistics say exit status %s, it was %s" % (
                       stats["exit_status"], process.popen.returncode))
            self.evicted += sum(stats["evicted"].values())
            self.said += [note["text"] for note in stats.get("notes", [])]
            self.said += [memory["why"] for memory in stats["unmanaged"]]
