#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares `vmfault run` with the kernel's zram swap (lz4) under the same memory limit.

Interleaved in one run, round after round, and told as medians:

  sweep   bench/sweep.c over 512 MiB at 256 MiB, one thread and two
  sort    300 MB of lines, at half of its own peak (--percent for others)
  redis   300 MB of keys: fill, reads, a BGSAVE under writes, at half of its peak
  below   programs that have less memory than their limit, bare and under vmfault
  floor   what the kernel and lz4 take for a page, with nothing else
  soft    the engine on the soft machine beside the running kernel (bench/soft.py)

Without root, zram or a memory cgroup the kernel's rows are left out, and it says so.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TOP, "tests/e2e"))
sys.path.insert(0, os.path.join(TOP, "tests/e2e/programs"))
sys.path.insert(0, HERE)

import resp  # noqa: E402
import soft  # noqa: E402
import sort as sort_input  # noqa: E402
import watch  # noqa: E402
import zram  # noqa: E402

MIB = 1 << 20
# ratio (ours over zram's) that each is held against
TARGETS = {"sweep 1 thread": 0.7, "sweep 2 threads": 0.7, "sort": 1.0, "redis": 1.0, "p99": 0.5,
           "below": 1.03}


# The kernel kills a program in a group whose memory it cannot free fast enough, now and then even
# with swap left. Such a run is tried again; after so many without one that ended, it is given up.
MOST_KILLS = 3
LONGEST = 600  # seconds: what takes longer is given up


class Killed(Exception):
    """The kernel's out-of-memory killer ended the program."""


class Bench:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.zram_missing = "--no-zram" if options.no_zram else zram.why_not()
        self.have_ours = os.access(options.vmfault, os.X_OK) and not options.no_ours
        self.results = {}

    def contenders(self):
        return ((["zram"] if not self.zram_missing else []) +
                (["ours"] if self.have_ours else []))

    # --- one run of one contender ---

    def measure(self, who, limit, argv, drive=None):
        """Run argv bare, in a zram group or under vmfault; drive(process) works with it meanwhile.

        Gives wall seconds, what drive gave or stdout, and memory figures."""
        if who == "zram":
            with zram.Zram(limit) as group:
                found = self.one(group.command(argv), drive, False)
                found.update(group.figures())
                return found
        if who == "bare":
            return self.one(argv, drive, False)
        stats = os.path.join(self.scratch, "stats.json")
        found = self.one([self.options.vmfault, "run", "--memory", str(limit), "--stats", stats,
                          *self.options.option, "--", *argv], drive, True)
        with open(stats, encoding="utf-8") as file:
            found["stats"] = json.load(file)
        return found

    def one(self, argv, drive, managed):
        errors = open(os.path.join(self.scratch, "stderr"), "wb+")
        start = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=errors, cwd=self.scratch,
                                   env=dict(os.environ, LC_ALL="C", TMPDIR=self.scratch))
        # A slow beat: the watching must cost neither side anything.
        seen = watch.Watch(process.pid, managed, None, 0.25 if drive != "peak" else 0.01)
        driven = None
        try:
            if callable(drive):
                try:
                    driven = drive()
                except (OSError, subprocess.CalledProcessError) as error:
                    # It cannot be reached: was it killed?
                    if process.wait(10) == -9:
                        raise Killed() from error
                    raise
            out, _ = process.communicate(timeout=LONGEST)
        except BaseException as error:
            for pid in [*watch.descendants(process.pid), process.pid]:
                try:
                    os.kill(pid, 9)
                except OSError:
                    pass
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise RuntimeError("did not end in %d s" % error.timeout) from error
            raise
        finally:
            seen.stop()
        seconds = time.monotonic() - start
        if process.returncode == -9:
            raise Killed()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError("%s: status %d: %s" % (
                " ".join(argv), process.returncode, errors.read()[-500:].decode(errors="replace")))
        errors.close()
        return {"seconds": seconds, "out": driven if callable(drive) else out,
                "peak_bytes": seen.peak, "agent_bytes": seen.agent}

    def rounds(self, name, contenders, once, times=1):
        """Each contender once a round; once(who) gives a figure's dictionary."""
        found = {who: [] for who in contenders}
        for number in range(self.options.runs * times):
            # Who comes first changes, so that neither always finds the machine as the other left it.
            order = contenders if number % 2 == 0 else contenders[::-1]
            for who in order:
                result = self.until_it_ends(who, once, found)
                if not result:
                    continue
                found[who].append(result)
                print("  %-22s round %d  %-5s %8.3f s" % (name, number + 1, who, result["seconds"]),
                      file=sys.stderr, flush=True)
        self.results[name] = found
        return found

    @staticmethod
    def until_it_ends(who, once, found):
        killed = found.setdefault("killed", {})
        while found[who] or killed.get(who, 0) < MOST_KILLS:
            try:
                return once(who)
            except Killed:
                killed[who] = killed.get(who, 0) + 1
                print("  %s: killed by the kernel, out of memory" % who, file=sys.stderr)
            except RuntimeError as error:
                # What went wrong with one must not hide the others' figures.
                killed[who] = MOST_KILLS
                found.setdefault("failed", {}).setdefault(who, str(error))
                print("  %s FAILED: %s" % (who, error), file=sys.stderr)
                if found[who]:
                    return None
        return None

    # --- the workloads ---

    def sweep(self):
        program = self.built("bench/sweep")
        for threads in 1, 2:
            def once(who, threads=threads):
                found = self.measure(who, 256 * MIB, [program, "512", str(threads)])
                found["sweep"] = json.loads(found.pop("out"))
                found["seconds"] = found["sweep"]["seconds"]["total"]
                return found
            self.rounds("sweep %d thread%s" % (threads, "s" * (threads > 1)), self.contenders(),
                        once)

    def sort(self):
        path = os.path.join(self.scratch, "lines")
        with open(path, "wb") as file:
            sort_input.lines(300 * 1000000)(file)
        command = ["sort", "-S", "100%", "-o", "sorted", path]
        peak = self.measure("bare", None, command, "peak")["peak_bytes"]
        shutil.copy(os.path.join(self.scratch, "sorted"), os.path.join(self.scratch, "right"))
        for percent in self.options.percent:
            def once(who, percent=percent):
                found = self.measure(who, peak * percent // 100, command)
                del found["out"]
                subprocess.run(["cmp", "sorted", "right"], cwd=self.scratch, check=True)
                return found
            self.rounds("sort at %d %%" % percent, ["bare", *self.contenders()], once)
        for name in "lines", "sorted", "right":
            os.unlink(os.path.join(self.scratch, name))

    def redis(self):
        keys = 140000
        payloads = [b"".join(resp.Client.encode(["SET", "key:%012d" % i, resp.value_of(i)])
                             for i in range(first, first + 500)) for first in range(0, keys, 500)]
        socket = os.path.join(self.scratch, "socket")
        command = resp.server_command(self.scratch)

        def load(*argv):
            done = subprocess.run(["redis-benchmark", "-s", socket, "-r", str(keys), "-q", "--csv",
                                   *argv], stdout=subprocess.PIPE, check=True)
            return done.stdout.decode().splitlines()[-1]

        def drive():
            client = resp.Client(socket)
            start = time.monotonic()
            parts = {}

            def part(name):
                parts[name] = time.monotonic() - start - sum(parts.values())

            for payload in payloads:
                client.socket.sendall(payload)
                for _ in range(500):
                    if client.answer() != b"OK":
                        raise RuntimeError("SET was refused")
            part("fill")
            reads = load("-n", "200000", "-c", "20", "GET", "key:__rand_int__")
            part("reads")
            client.call("BGSAVE")
            writes = load("-n", "100000", "-c", "20", "SETRANGE", "key:__rand_int__", "100",
                          "written")
            part("writes")
            saved = client.wait_for_save()
            part("rest_of_save")
            if saved != "ok":
                raise RuntimeError("BGSAVE failed")
            size = client.call("DBSIZE")
            if size != keys:
                raise RuntimeError("%s keys, not %d" % (size, keys))
            client.socket.sendall(client.encode(["SHUTDOWN", "NOSAVE"]))
            return {"parts": parts, "reads_csv": reads, "writes_csv": writes,
                    "total": sum(parts.values())}

        def once(who, limit):
            found = self.measure(who, limit, command, drive)
            found["redis"] = found.pop("out")
            found["seconds"] = found["redis"]["total"]
            return found

        peak = once("bare", None)["peak_bytes"]
        for percent in self.options.percent:
            self.rounds("redis at %d %%" % percent, ["bare", *self.contenders()],
                        lambda who, percent=percent: once(who, peak * percent // 100))

    def below(self):
        """What it costs a program that stays below its limit: little, so there are more rounds."""
        if not self.have_ours:
            return
        path = os.path.join(self.scratch, "lines")
        with open(path, "wb") as file:
            sort_input.lines(100 * 1000000)(file)
        programs = {
            "sort": ["sort", "-S", "100%", "-o", "sorted", path],
            "sweep": [self.built("bench/sweep"), "256", "2"],
            "python": ["python3", "-c", "print(sum(len(str(x)) for x in "
                                        "sorted(range(3000000), key=lambda x: -x)))"]}
        for name, command in programs.items():
            self.rounds("below: " + name, ["bare", "ours"],
                        lambda who, command=command: self.strip(
                            self.measure(who, 2048 * MIB, command)), times=3)
        os.unlink(path)

    @staticmethod
    def strip(found):
        del found["out"]
        return found

    def floor(self):
        done = subprocess.run([self.built("bench/floor")], stdout=subprocess.PIPE, check=False)
        if done.returncode == 0:
            self.results["floor"] = json.loads(done.stdout)

    def soft(self):
        self.results["soft"] = soft.measure(os.path.dirname(self.built("bench/soft_hit")),
                                            self.options.soft_runs)

    def built(self, name):
        return os.path.join(os.path.dirname(os.path.dirname(self.options.vmfault)), name)


# --- the report ---

def median(runs, *path):
    values = []
    for run in runs:
        for key in path:
            run = run.get(key) if isinstance(run, dict) else None
        if run is not None:
            values.append(run)
    return statistics.median(values) if values else None


def cell(value, form="%.3f"):
    return "-" if value is None else form % value


def summary(results):
    """One row a comparison: name, bare, zram, ours, ratio, target."""
    rows = []

    def row(name, target, form, *values):
        bare, kernel, ours = values
        base = bare if kernel is None and name.startswith("below") else kernel
        ratio = ours / base if ours is not None and base else None
        rows.append({"name": name, "bare": bare, "zram": kernel, "ours": ours, "ratio": ratio,
                     "target": target, "form": form})

    for name, found in results.items():
        if name in ("floor", "soft"):
            continue
        target = TARGETS.get(name) or TARGETS.get(name.split()[0].rstrip(":"))
        three = [found.get(who, []) for who in ("bare", "zram", "ours")]
        row(name + ", s", target, "%.3f", *(median(runs, "seconds") for runs in three))
        rows[-1]["killed"] = {who: times for who, times in found.get("killed", {}).items()
                              if who not in found.get("failed", {})}
        rows[-1]["failed"] = found.get("failed", {})
        if name.startswith("sweep"):
            for phase in ("fill", "sequential_1", "sequential_2", "random_reads", "random_writes"):
                row("  %s, s" % phase, None, "%.3f",
                    *(median(runs, "sweep", "seconds", phase) for runs in three))
            for point, target in (("p50", None), ("p99", TARGETS["p99"]), ("p999", None),
                                  ("max", None)):
                row("  touches over 1.5 us, %s, us" % point, target, "%.1f",
                    *(micro(median(runs, "sweep", "latency", "all", point)) for runs in three))
            row("  touches over 1.5 us, thousands", None, "%.0f",
                *(micro(median(runs, "sweep", "latency", "all", "slow")) for runs in three))
        if name.startswith("redis"):
            for part in "fill", "reads", "writes", "rest_of_save":
                row("  %s, s" % part, None, "%.3f",
                    *(median(runs, "redis", "parts", part) for runs in three))
        if not name.startswith("below"):
            bare, kernel, ours = three
            row("  peak resident, MiB", None, "%.1f", mib(median(bare, "peak_bytes")),
                mib(median(kernel, "group_peak_bytes")), mib(median(ours, "peak_bytes")))
            row("  beside it (zram's data, agent), MiB", None, "%.1f", None,
                mib(median(kernel, "store_peak_bytes")),
                mib(median(ours, "stats", "agent_bytes")))
            if median(kernel, "rescues"):
                row("  saved from the out-of-memory killer", None, "%.0f", None,
                    median(kernel, "rescues"), None)
    return rows


def micro(value):
    return None if value is None else value / 1000


def mib(value):
    return None if value is None else value / MIB


def print_table(rows):
    print("%-40s %9s %9s %9s %7s  %s" % ("", "bare", "zram", "ours", "ratio", "target"))
    for row in rows:
        verdict = ""
        if row["target"] and row["ratio"] is not None:
            verdict = "<= %.2f  %s" % (row["target"],
                                       "met" if row["ratio"] <= row["target"] else "NOT MET")
        print("%-40s %9s %9s %9s %7s  %s" % (
            row["name"], cell(row["bare"], row["form"]), cell(row["zram"], row["form"]),
            cell(row["ours"], row["form"]), cell(row["ratio"], "%.2f"), verdict))
        for who, times in row.get("killed", {}).items():
            print("    %s: killed by the kernel, out of memory, %d times" % (who, times))
        for who, why in row.get("failed", {}).items():
            print("    %s: FAILED: %s" % (who, why))


def print_floor(floor):
    print("\nThe floor, us a page: lz4 alone %.2f to compress, %.2f to decompress;" % (
        floor["lz4_compress_ns"] / 1000, floor["lz4_decompress_ns"] / 1000))
    for way in "copy", "move":
        print("  UFFDIO_%s %.2f; with one lz4 decompression %.2f, in batches of 32 %.2f" % (
            way.upper(), floor[way + "_ns"] / 1000, floor[way + "_lz4_ns"] / 1000,
            floor[way + "_lz4_32_ns"] / 1000))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["floor", "soft", "sweep", "sort", "redis", "below"]
    parser.add_argument("what", nargs="*", metavar="|".join(names), help="all if none is given")
    parser.add_argument("--runs", type=int, default=5, help="rounds (5)")
    parser.add_argument("--soft-runs", type=int, default=11, metavar="RUNS",
                        help="rounds of each contest on the soft machine (11)")
    parser.add_argument("--percent", type=int, action="append",
                        help="of the peak, for sort and redis (50); may be repeated")
    parser.add_argument("--vmfault", default=os.path.join(TOP, "build/tools/vmfault"))
    parser.add_argument("--option", action="append", default=[], metavar="OPTION",
                        help="a further option of vmfault run, as --option=--prefetch=0")
    parser.add_argument("--no-zram", action="store_true")
    parser.add_argument("--no-ours", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="every round's figures")
    options = parser.parse_args()
    options.vmfault = os.path.abspath(options.vmfault)
    options.percent = options.percent or [50]
    for name in options.what:
        if name not in names:
            parser.error("no such part: " + name)

    # Whatever ends us, swap and cgroup are taken down on the way out.
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda *_: sys.exit(1))
    scratch = tempfile.mkdtemp(prefix="vmfault-bench-")
    bench = Bench(options, scratch)
    if bench.zram_missing:
        print("without the kernel's zram: %s" % bench.zram_missing, file=sys.stderr)
    if not bench.have_ours:
        print("without vmfault: %s" % ("--no-ours" if options.no_ours else
                                       "no " + options.vmfault), file=sys.stderr)
    try:
        for name in options.what or names:
            start = time.monotonic()
            getattr(bench, name)()
            print("  %s took %.0f s" % (name, time.monotonic() - start), file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        rows = summary(bench.results)
        on_soft = soft.rows(bench.results.get("soft", []))
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump({"rounds": bench.results, "summary": rows + on_soft}, file, indent=1)
    if rows:
        print_table(rows)
    if on_soft:
        soft.print_table(on_soft)
    if "floor" in bench.results:
        print_floor(bench.results["floor"])
    missed = [row["name"].strip() for row in rows
              if row["target"] and row["ratio"] is not None and row["ratio"] > row["target"]]
    missed += [row["name"] for row in on_soft if row["target"] and not row["met"]]
    if missed:
        print("\ntargets not met: " + "; ".join(missed))
    return 1 if any("ours" in row.get("failed", {}) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
