#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""End-to-end tests: real programs and system calls, bare and under `vmfault run`.

Three kinds, one file each:

  programs/*.py  a real program: run bare, its peak anonymous memory measured, then run at 50 % and
                 at 25 % of that. Output and exit status must be the same, and resident memory,
                 sampled all the while, within the limit + 5 % + 16 MiB.
  c/*.c          a self-checking program that states one rule about memory and system calls:
                 run bare, then with a quarter of its size as the limit.
  rules/*.py     what the command promises: signals, ends, many at once.
"""
import argparse
import fnmatch
import glob
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from trial import MIB, Failure, Trial, expect

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SKIPPED = 77
# The least limit that vmfault takes.
LEAST = 16 * MIB
# Documented exceptions from the limit (docs/run.md): what the statistics must then say, as a note or
# as memory that was not managed.
UNMANAGED = {"dropped_privileges_are_survived": "a forked child could not page on",
             "protections_survive_the_end_of_paging": "a forked child could not page on",
             "forks_without_privileges_lose_no_write": "a forked child could not page on",
             "locked_memory_beyond_the_limit_stays_and_goes": "locked"}


class Skip(Exception):
    pass


def load(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Runner:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.results = []
        self.number = 0

    def trial(self, name, limit=None):
        self.number += 1
        directory = os.path.join(self.scratch, "%d" % self.number)
        inputs = os.path.join(self.scratch, "inputs-" + name)
        for path in directory, inputs:
            os.makedirs(path, exist_ok=True)
        return Trial(directory, inputs, self.options.full, self.options.vmfault, limit,
                     self.options.timeout, self.options.option)

    def record(self, name, function):
        """Run one test and tell what came of it."""
        start = time.monotonic()
        why, result, notes = "", "passed", ""
        try:
            notes = function() or ""
        except Failure as failure:
            result, why = "failed", str(failure)
        except Skip as skip:
            result, why = "skipped", str(skip)
        except Exception as error:  # pylint: disable=broad-except # a test must not stop the rest
            result, why = "failed", "%s: %s" % (type(error).__name__, error)
        seconds = time.monotonic() - start
        mark = {"passed": "ok     ", "failed": "FAILED ", "skipped": "skipped"}[result]
        print("%s %-52s %6.1f s  %s" % (mark, name, seconds, notes or why), flush=True)
        self.results.append({"name": name, "result": result, "why": why, "notes": notes,
                             "seconds": round(seconds, 2)})
        return result == "passed"

    # --- real programs ---

    def program(self, path):
        name = os.path.basename(path)[:-3]
        bare = {}

        def run_bare():
            module = load(path)
            for tool in getattr(module, "NEEDS", []):
                if not shutil.which(tool):
                    raise Skip("%s is not installed" % tool)
            trial = self.trial(name)
            start = time.monotonic()
            bare["result"] = module.run(trial)
            bare["seconds"] = time.monotonic() - start
            bare["module"], bare["peak"] = module, trial.peak
            self.clean(trial)
            return "%.2f s, peak %.1f MiB" % (bare["seconds"], trial.peak / MIB)

        if not self.record(name + " bare", run_bare) or self.options.bare:
            return
        for percent in 50, 25:
            self.record("%s at %d %%" % (name, percent),
                        lambda percent=percent: self.paged(name, bare, percent))

    def paged(self, name, bare, percent):
        limit = max(bare["peak"] * percent // 100, LEAST)
        trial = self.trial(name, limit)
        start = time.monotonic()
        result = bare["module"].run(trial)
        seconds = time.monotonic() - start
        expect(len(result) == len(bare["result"]), "another number of results than bare")
        for i, (here, there) in enumerate(zip(result, bare["result"])):
            expect(here == there, "result %d differs: bare %s, paged %s%s" % (
                i, short(there), short(here), trial.errors()))
        self.within(trial)
        if bare["peak"] > limit * 3 // 2:
            expect(trial.evicted, "nothing was evicted: it was not paged at all")
        self.clean(trial)
        return self.notes(trial, seconds, bare["seconds"])

    @staticmethod
    def notes(trial, seconds, bare_seconds):
        return "limit %5.1f MiB, peak %5.1f, agent %5.1f; %6.2f s, bare %.2f; %d evicted" % (
            trial.limit / MIB, trial.peak / MIB, trial.agent / MIB, seconds, bare_seconds,
            trial.evicted)

    @staticmethod
    def within(trial, name=None):
        if name in UNMANAGED:
            expect(any(UNMANAGED[name] in text for text in trial.said),
                   "the statistics do not say: %s" % UNMANAGED[name])
            return
        expect(not trial.over, "memory: %s" % trial.over)

    def clean(self, trial):
        if not self.options.keep:
            shutil.rmtree(trial.dir, ignore_errors=True)

    # --- self-checking programs ---

    def compile(self, path, more=()):
        out = os.path.join(self.scratch, os.path.basename(path)[:-2])
        done = subprocess.run(
            ["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-g",
             "-pthread", *more, "-I", os.path.join(HERE, "c"), "-o", out, path],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        expect(done.returncode == 0, "does not compile: %s" % done.stdout.decode())
        return out

    def rule_in_c(self, path):
        name = os.path.basename(path)[:-2]
        size = self.options.size

        def run():
            program = self.compile(path)
            trial = self.trial(name)
            start = time.monotonic()
            status, bare_out = trial.run([program, str(size)])
            bare_seconds = time.monotonic() - start
            if status == SKIPPED:
                raise Skip(bare_out.decode().strip())
            expect(status == 0, "fails bare already, status %d%s" % (status, trial.errors()))
            self.clean(trial)
            if self.options.bare:
                return "%.2f s" % bare_seconds
            peak = trial.peak

            trial = self.trial(name, size * MIB // 4)
            start = time.monotonic()
            status, out = trial.run([program, str(size)])
            seconds = time.monotonic() - start
            expect(status == 0, "status %d%s" % (status, trial.errors()))
            expect(out == bare_out, "wrote %s, not %s%s" % (
                short(out), short(bare_out), trial.errors()))
            self.within(trial, name)
            # A daemon is evicted after the command has told its figures.
            if peak > trial.limit * 3 // 2 and "daemon" not in name:
                expect(trial.evicted, "nothing was evicted: it was not paged at all")
            self.clean(trial)
            return self.notes(trial, seconds, bare_seconds)

        self.record(name, run)

    # --- what the command promises ---

    def rule(self, path):
        name = os.path.basename(path)[:-3]
        if self.options.bare:
            return

        def run():
            trial = self.trial(name, 16 * MIB)
            trial.compile = self.compile
            trial.here = HERE
            notes = load(path).run(trial)
            self.clean(trial)
            return notes

        self.record(name, run)


def short(result):
    text = repr(result)
    return text if len(text) <= 120 else text[:120] + "..."


def wanted(path, only):
    name = os.path.splitext(os.path.basename(path))[0]
    return not only or any(fnmatch.fnmatch(name, pattern) for pattern in only)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a few seconds each (the default)")
    parser.add_argument("--full", action="store_true", help="the real sizes")
    parser.add_argument("--only", action="append", metavar="NAME", help="these; may be a pattern")
    parser.add_argument("--vmfault", default=os.path.join(TOP, "build/tools/vmfault"))
    parser.add_argument("--option", action="append", default=[], metavar="OPTION",
                        help="a further option of vmfault run, as --option=--verbose")
    parser.add_argument("--size", type=int, help="MiB for the self-checking programs")
    parser.add_argument("--bare", action="store_true", help="only bare: checks the tests")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--timeout", type=int, help="seconds for one run")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.small and options.full:
        parser.error("--small or --full")
    options.vmfault = os.path.abspath(options.vmfault)
    options.size = options.size or (256 if options.full else 64)
    options.timeout = options.timeout or (1800 if options.full else 300)

    kinds = [("rule_in_c", sorted(glob.glob(HERE + "/c/*.c")) + [HERE + "/threads64.c"]),
             ("rule", sorted(glob.glob(HERE + "/rules/*.py"))),
             ("program", sorted(glob.glob(HERE + "/programs/*.py")))]
    chosen = [(kind, path) for kind, paths in kinds for path in paths
              if wanted(path, options.only)]
    if options.list:
        for _, path in chosen:
            print(os.path.splitext(os.path.basename(path))[0])
        return 0
    if not chosen:
        parser.error("nothing is called that; --list tells the names")
    if not options.bare and not os.access(options.vmfault, os.X_OK):
        print("no %s: build it first, with make" % options.vmfault, file=sys.stderr)
        return 2

    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda *_: sys.exit(1))
    scratch = tempfile.mkdtemp(prefix="vmfault-e2e-")
    os.chmod(scratch, 0o755)
    runner = Runner(options, scratch)
    try:
        for _ in range(options.repeat):
            for kind, path in chosen:
                getattr(runner, kind)(path)
    finally:
        if options.keep:
            print("kept: " + scratch)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(runner.results, file, indent=1)
    count = {word: sum(r["result"] == word for r in runner.results)
             for word in ("passed", "failed", "skipped")}
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % count)
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
