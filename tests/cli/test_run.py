#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `vmfault run` promises of itself: words, exit statuses, signals, figures.

VMFAULT names the command, FAKE_AGENT_LIBRARY the library that stands for the agent.
"""
import ctypes
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

from oneline import OneLine

VMFAULT = os.path.abspath(os.environ["VMFAULT"])
AGENT = os.path.abspath(os.environ["FAKE_AGENT_LIBRARY"])
ROOT = os.geteuid() == 0
MIB = 1 << 20

KEYS = ["exit_status", "wall_seconds", "memory_limit_bytes", "peak_resident_bytes", "agent_bytes",
        "faults", "fault_latency_ns", "evicted", "store", "unmanaged"]


def environment(story="paging", **more):
    env = dict(os.environ, VMFAULT_AGENT=AGENT, LC_ALL="C")
    for name in ("LD_PRELOAD", "FAKE_AGENT"):
        env.pop(name, None)
    if story:
        env["FAKE_AGENT"] = story
    return {**env, **more}


def run(*words, story="paging", env=None, **more):
    return subprocess.run([VMFAULT, *words], env=env or environment(story), text=True, timeout=60,
                          capture_output=True, **more)


def heed_signals():
    """Who runs in a shell's background ignores these two, and so would a shell that we start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def start(*words, story="paging", **more):
    return subprocess.Popen([VMFAULT, *words], env=environment(story), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            **{"preexec_fn": heed_signals, **more})


class Case(OneLine):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, content, mode=0o755):
        with open(self.path(name), "wb") as file:
            file.write(content)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def refused(self, status, words, *command, **more):
        """One clear line that has all the words, nothing on stdout, this status."""
        self.assert_refused(run(*command, **more), status, words)


class Words(Case):
    def test_no_verb(self):
        self.refused(125, ["verb", "--help"])

    def test_unknown_verb(self):
        self.refused(125, ["'walk'"], "walk")

    def test_help(self):
        for words in (["--help"], ["run", "--help"]):
            done = run(*words)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("Usage: vmfault", done.stdout)

    def test_version(self):
        done = run("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^vmfault \d+\.\d+\.\d+\n$")

    def test_no_program(self):
        self.refused(125, ["no program"], "run")
        self.refused(125, ["no program"], "run", "--memory", "64M")
        self.refused(125, ["no program"], "run", "--memory", "64M", "--")

    def test_unknown_option(self):
        self.refused(125, ["'--fast'"], "run", "--fast", "true")
        self.refused(125, ["'--mem'"], "run", "--mem", "64M", "true")
        self.refused(125, ["'-m'"], "run", "-m", "64M", "true")

    def test_value_missing_or_too_many(self):
        self.refused(125, ["--memory", "value"], "run", "--memory")
        self.refused(125, ["--json", "value"], "run", "--json=yes", "true")

    def test_memory_that_is_no_size(self):
        for size in ("", "M", "abc", "64Q", "64MM", "-1", "-64M", "6 4M", "64M ", "1.5G", "0x10M",
                     "99999999999999999999", "99999999999999T", "64KB%"):
            self.refused(125, ["--memory", "no size"], "run", "--memory", size, "true")

    def test_memory_too_little(self):
        for size in ("0", "1", "0M", "4096", "16383K", "15M"):
            self.refused(125, ["--memory", "at least 16M"], "run", "--memory", size, "true")

    def test_memory_too_much(self):
        self.refused(125, ["--memory", "at most"], "run", "--memory", "65T", "true")

    def test_sizes(self):
        for size, value in (("16777216", 16 * MIB), ("64M", 64 * MIB), ("64m", 64 * MIB),
                            ("64MiB", 64 * MIB), ("65536K", 64 * MIB), ("1G", 1024 * MIB),
                            ("1gib", 1024 * MIB), ("1T", MIB * MIB), ("33554432B", 32 * MIB)):
            done = run("run", "--json", "--memory", size, "true")
            self.assertEqual(json.loads(done.stderr)["memory_limit_bytes"], value, size)
            done = run("run", "--json", "--memory=" + size, "true")
            self.assertEqual(json.loads(done.stderr)["memory_limit_bytes"], value, size)

    def test_other_values(self):
        self.refused(125, ["--compress", "'gzip'", "zstd"], "run", "--compress", "gzip", "true")
        for n in ("0", "65", "-1", "two", "", "1x", "99999999999999999999999"):
            self.refused(125, ["--threads", "1 to 64"], "run", "--threads", n, "true")
        for n in ("65", "-1", "many", ""):
            self.refused(125, ["--prefetch", "0 to 64"], "run", "--prefetch", n, "true")

        for name in ("mru", "LRU", ""):
            self.refused(125, ["--policy", "lru, gen, clock, fifo"], "run", "--policy", name, "true")

    def test_an_extension_is_tried_first(self):
        def extension(text):
            return self.write("it.lua", text, 0o644)

        good = b"return { reclaim = function(pages) return pages:oldest() end }"
        for text, words in ((b"return { reclaim = }", ["it.lua:1:"]),
                            (b"return 7", ["it.lua", "a number"]),
                            (b"return { fault = function() end }", ["'reclaim'"]),
                            (b"return { reclaim = function() end, x = 1 }", ["'x'"]),
                            (b"while true do end", ["too many steps"]),
                            (b"\x1bLua", ["binary"])):
            self.refused(125, ["--extension", *words], "run", "--extension", extension(text), "true")
        self.refused(125, ["/no/such"], "run", "--extension", "/no/such", "true")
        self.refused(125, ["one of them"], "run", "--extension", extension(good), "--policy", "gen",
                     "true")
        self.refused(125, ["needs a value"], "run", "--extension")
        show = ["sh", "-c", 'echo "$VMFAULT_EXTENSION"']
        done = run("run", "--memory", "64M", "--extension", extension(good), *show)
        self.assertEqual(done.stdout, os.path.realpath(self.path("it.lua")) + "\n")
        done = run("run", *show, env=environment(VMFAULT_EXTENSION="/of/before.lua"))
        self.assertEqual(done.stdout, "\n")

        for name in ("yes", "KEEP", ""):
            self.refused(125, ["--huge-pages", "keep, split"], "run", "--huge-pages", name, "true")

    def test_how_pages_go_is_asked_only_where_any_do(self):
        path = self.write("it.lua", b"return { reclaim = function() end }", 0o644)
        for words in (("--policy", "gen"), ("--policy", "lru"), ("--extension", path),
                      ("--huge-pages", "split")):
            self.refused(125, [words[0], "--memory", "watched"], "run", *words, "true")
            self.assertEqual(run("run", *words, "--memory", "64M", "true").returncode, 0)

    def test_options_end_at_the_program(self):
        done = run("run", "echo", "--memory", "--help")
        self.assertEqual(done.stdout, "--memory --help\n")
        done = run("run", "--memory", "64M", "--", "echo", "--", "-x")
        self.assertEqual(done.stdout, "-- -x\n")

    def test_what_the_agent_is_told(self):
        show = ["sh", "-c", 'echo "$VMFAULT_OPTIONS"']
        done = run("run", "--memory", "64M", *show)
        self.assertEqual(done.stdout,
                         "limit=67108864,compress=lz4,threads=0,prefetch=12,policy=lru,huge=split\n")
        done = run("run", "--memory", "1G", "--compress", "zstd", "--threads", "3", "--prefetch",
                   "0", "--policy", "gen", "--huge-pages", "keep", "--verbose", *show)
        self.assertEqual(done.stdout,
                         "limit=1073741824,compress=zstd,threads=3,prefetch=1,policy=gen,huge=keep\n")

    def test_ld_preload_of_before_stays(self):
        done = run("run", "sh", "-c", 'echo "$LD_PRELOAD"',
                   env=environment(LD_PRELOAD="libm.so.6",
                                   ASAN_OPTIONS="verify_asan_link_order=0"))
        self.assertEqual(done.stdout, AGENT + ":libm.so.6\n")


class Percent(Case):
    def test_of_an_earlier_run(self):
        stats = self.path("stats.json")
        run("run", "--stats", stats, "true")
        done = run("run", "--json", "--stats", stats, "--memory", "50%", "true")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stderr)["memory_limit_bytes"], 30 * MIB)
        with open(stats, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["memory_limit_bytes"], 30 * MIB)

    def test_without_stats(self):
        self.refused(125, ["--stats"], "run", "--memory", "50%", "true")

    def test_without_the_file(self):
        self.refused(125, ["--stats", "No such file"], "run", "--memory", "50%", "--stats",
                     self.path("none"), "true")

    def test_of_another_file(self):
        for content in (b"", b"hello", b"[1]", b"{}", b'{"peak_resident_bytes": "much"}',
                        b'{"peak_resident_bytes": 0}', b'{"peak_resident_bytes": -5}'):
            stats = self.write("other", content)
            self.refused(125, ["--stats", "earlier run"], "run", "--memory", "50%", "--stats",
                         stats, "true")
            with open(stats, "rb") as file:
                self.assertEqual(file.read(), content)

    def test_out_of_range(self):
        for percent in ("0%", "101%", "1000%"):
            self.refused(125, ["1% to 100%"], "run", "--memory", percent, "--stats", "x", "true")

    def test_too_little(self):
        stats = self.write("stats", b'{"peak_resident_bytes": 33554430}')
        self.refused(125, ["at least 16M"], "run", "--memory", "50%", "--stats", stats, "true")


class Programs(Case):
    def test_not_found(self):
        for name in ("no-such-program", "/no/such/program", "", self.path("x")):
            self.refused(127, ["no such program"], "run", name)

    def test_not_executable(self):
        for name in (self.write("plain", b"text", 0o644), self.directory.name, "/dev/null"):
            self.refused(126, ["cannot be executed"], "run", name)
        env = environment(PATH=self.directory.name)
        self.refused(126, ["plain"], "run", "plain", env=env)

    def test_interpreter_missing(self):
        script = self.write("script", b"#!/no/such/interpreter\n")
        self.refused(127, [script], "run", script)

    def test_static(self):
        source = self.write("static.c", b"int main(void) { return 0; }\n")
        binary = self.path("static")
        for flag in ("-static", "-static-pie"):
            subprocess.run(["cc", flag, "-o", binary, source], check=True)
            self.refused(125, [binary, "statically linked"], "run", binary)
        script = self.write("script", b"#! " + binary.encode() + b" -x\n")
        self.refused(125, [binary, "statically linked"], "run", script)

    def test_setuid(self):
        with open("/bin/true", "rb") as file:
            binary = self.write("setuid", file.read())
        for bits in (stat.S_ISUID, stat.S_ISGID):
            os.chmod(binary, 0o755 | bits)
            self.refused(125, [binary, "setuid"], "run", binary)

    def test_of_another_machine(self):
        with open("/bin/true", "rb") as file:
            content = bytearray(file.read())
        content[18:20] = (183).to_bytes(2, "little")  # aarch64
        self.refused(125, ["64-bit x86"], "run", self.write("arm", content))

    def test_scripts_run(self):
        shell = self.write("shell", b"#!/bin/sh\necho $1 $0\n")
        self.assertEqual(run("run", shell, "a").stdout, "a " + shell + "\n")
        plain = self.write("plain", b"echo plain $1\n")
        self.assertEqual(run("run", plain, "b").stdout, "plain b\n")
        env = self.write("env", b"#!/usr/bin/env -S python3 -B\nprint('python')\n")
        self.assertEqual(run("run", env).stdout, "python\n")

    def test_argv0_is_what_was_said(self):
        done = run("run", "sh", "-c", "cat /proc/$$/cmdline")
        self.assertTrue(done.stdout.startswith("sh\0"))

    def test_agent_missing(self):
        self.refused(125, ["VMFAULT_AGENT", "/no/agent.so"], "run", "true",
                     env=environment(VMFAULT_AGENT="/no/agent.so"))

    def test_agent_in_a_directory_with_a_space(self):
        place = self.path("a b:c")
        os.mkdir(place)
        os.symlink(AGENT, os.path.join(place, "link.so"))
        with open(AGENT, "rb") as file:
            copy = self.write("a b:c/agent.so", file.read())
        done = run("run", "--json", "true", env=environment(VMFAULT_AGENT=copy))
        self.assertEqual(json.loads(done.stderr)["processes"]["seen"], 1)


class Statuses(Case):
    def test_the_programs_own(self):
        for status in (0, 1, 42, 125, 126, 127, 255):
            self.assertEqual(run("run", "sh", "-c", "exit %d" % status).returncode, status)

    def test_128_and_the_signal(self):
        for sig in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT):
            done = run("run", "sh", "-c", "ulimit -c 0; kill -%d $$" % sig)
            self.assertEqual(done.returncode, 128 + sig)
            self.assertIn("signal %d" % sig, done.stderr)

    def test_streams_are_the_programs(self):
        done = run("run", "sh", "-c", "cat; echo err >&2", input="through\n")
        self.assertEqual(done.stdout, "through\n")
        self.assertTrue(done.stderr.startswith("err\n"))

    def test_closed_streams_stay_closed(self):
        done = subprocess.run(["sh", "-c", 'exec "$0" run sh -c "ls /proc/self/fd" <&-', VMFAULT],
                              env=environment(), capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("10", done.stdout.split())

    def test_no_descriptor_of_the_commands(self):
        bare = subprocess.run(["sh", "-c", "ls /proc/self/fd"], capture_output=True, text=True,
                              check=True)
        self.assertEqual(run("run", "sh", "-c", "ls /proc/self/fd").stdout, bare.stdout)


class Signals(Case):
    LOOP = "echo ready; while :; do sleep 0.05; done"

    def setUp(self):
        super().setUp()
        self.unread = {}  # by terminal

    def ready(self, process):
        self.assertEqual(process.stdout.readline(), "ready\n")

    def ended(self, process):
        out, err = process.communicate(timeout=20)
        return process.returncode, out, err

    def test_reach_the_program(self):
        for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM", "CONT", "TSTP"):
            process = start("run", "sh", "-c", "trap 'echo got; exit 7' %s; %s" % (name, self.LOOP))
            self.ready(process)
            process.send_signal(getattr(signal, "SIG" + name))
            status, out, _ = self.ended(process)
            self.assertEqual((status, out), (7, "got\n"), name)

    def test_end_the_program_that_lets_them(self):
        process = start("run", "sh", "-c", "ulimit -c 0; " + self.LOOP)
        self.ready(process)
        process.send_signal(signal.SIGTERM)
        status, _, err = self.ended(process)
        self.assertEqual(status, 128 + 15)
        self.assertIn("signal 15", err)

    def test_value_of_a_queued_signal(self):
        code = ("import signal; s = signal.SIGRTMIN + 3; signal.pthread_sigmask(0, [s]); "
                "print('ready', flush=True); print(signal.sigwaitinfo([s]).si_signo - s)")
        process = start("run", sys.executable, "-c", code)
        self.ready(process)
        process.send_signal(signal.SIGRTMIN + 3)
        self.assertEqual(self.ended(process)[:2], (0, "0\n"))

    def test_ignored_stay_ignored(self):
        process = start("run", "sh", "-c", "grep SigIgn /proc/self/status; " + self.LOOP,
                        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.assertEqual(int(process.stdout.readline().split()[1], 16) & 1, 1)
        self.ready(process)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.ended(process)[0], 128 + 15)

    def test_mask_is_as_it_was(self):
        done = run("run", "grep", "SigBlk", "/proc/self/status")
        self.assertEqual(int(done.stdout.split()[1], 16), 0)

    def test_kill_9_of_the_command_takes_the_program(self):
        process = start("run", "sh", "-c", "echo $$; exec sleep 60")
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
        for _ in range(100):
            try:
                with open("/proc/%d/stat" % pid, encoding="utf-8") as file:
                    if file.read().split()[2] == "Z":
                        break
            except OSError:
                break
            time.sleep(0.05)
        else:
            self.fail("the program lives")
        process.stdout.close()
        process.stderr.close()

    def test_kill_9_of_the_program_leaves_nothing(self):
        def files():
            return set(os.listdir("/dev/shm")) | set(os.listdir(self.directory.name))

        before = files()
        process = start("run", "sh", "-c", "echo $$; exec sleep 60", cwd=self.directory.name)
        os.kill(int(process.stdout.readline()), signal.SIGKILL)
        status, _, err = self.ended(process)
        self.assertEqual(status, 128 + 9)
        self.assertIn("signal 9", err)
        self.assertEqual(files(), before)

    def in_terminal(self, *program):
        """The command in the foreground of a terminal of its own; the child and the terminal."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(environment())
            os.execv(VMFAULT, [VMFAULT, "run", *program])
        self.addCleanup(os.close, terminal)
        return pid, terminal

    def read_until(self, terminal, text):
        seen = self.unread.pop(terminal, b"")
        end = time.monotonic() + 20
        while text not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    seen += os.read(terminal, 4096)
                except OSError:
                    break
        self.assertIn(text, seen)
        # What came with it is for the next who reads.
        self.unread[terminal] = seen[seen.index(text) + len(text):]

    def test_keyboard_interrupt_arrives_once(self):
        code = ("import signal, time; n = 0\n"
                "def got(*_):\n    global n; n += 1\n"
                "signal.signal(signal.SIGINT, got); print('ready', flush=True)\n"
                "end = time.monotonic() + 1\n"
                "while time.monotonic() < end: time.sleep(0.05)\n"
                "print('got', n, 'times', flush=True)")
        pid, terminal = self.in_terminal(sys.executable, "-c", code)
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        self.read_until(terminal, b"got 1 times")
        self.read_until(terminal, b"status 0")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_hang_up_reaches_the_program(self):
        mark = self.path("hung-up")
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(environment())
            script = "trap 'echo got > %s; exit' HUP; %s" % (mark, self.LOOP)
            os.execv(VMFAULT, [VMFAULT, "run", "sh", "-c", script])
        self.read_until(terminal, b"ready")
        os.close(terminal)
        os.waitpid(pid, 0)
        self.assertTrue(os.path.exists(mark))

    def test_stop_from_the_keyboard_stops_both(self):
        # A shell with job control, as people have it.
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(environment(PS1="prompt> "))
            os.execvp("bash", ["bash", "--norc", "-i"])
        self.read_until(terminal, b"prompt> ")
        program = self.write("program", b"import time\nprint('ready', flush=True)\n"
                             b"time.sleep(1)\nprint('done', flush=True)\nexit(3)\n")
        os.write(terminal, ("%s run %s %s\n" % (VMFAULT, sys.executable, program)).encode())
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x1a")
        self.read_until(terminal, b"Stopped")
        os.write(terminal, b"fg\n")
        self.read_until(terminal, b"done")
        self.read_until(terminal, b"status 3")
        os.write(terminal, b"exit 0\n")
        os.close(terminal)
        os.waitpid(pid, 0)


class Figures(Case):
    def figures(self, *words, **more):
        done = run("run", "--json", *words, **more)
        return json.loads(done.stderr)

    def test_keys_and_their_order(self):
        keys = list(self.figures("--memory", "64M", "true"))
        self.assertEqual(keys[:len(KEYS)], KEYS)

    def test_values(self):
        f = self.figures("--memory", "64M", "--compress", "zstd", "sh", "-c", "exit 9")
        self.assertEqual(f["exit_status"], 9)
        self.assertGreater(f["wall_seconds"], 0)
        self.assertEqual(f["memory_limit_bytes"], 64 * MIB)
        self.assertEqual(f["peak_resident_bytes"], 60 * MIB)
        self.assertEqual(f["end_resident_bytes"], 30 * MIB)
        self.assertEqual(f["agent_bytes"], 3 * MIB)
        self.assertEqual(f["faults"], {"minor": 1000, "major": 200, "zero": 30,
                                       "second_chance": 4, "prefetched": 5})
        self.assertEqual(f["evicted"], {"clean": 60, "dirty": 70, "same_filled": 8})
        self.assertEqual(f["store"], {"kind": "zstd", "raw_bytes": 8 * MIB,
                                      "stored_bytes": 2 * MIB, "kept_bytes": 0})
        self.assertEqual(f["unmanaged"], [{"why": "stack", "bytes": 132 << 10},
                                          {"why": "locked", "bytes": 4096}])
        self.assertEqual(f["reclaim"]["written"], {
            "spare": {"pages": 70, "ns": 250000}, "after_fault": {"pages": 15, "ns": 0},
            "waiting": {"pages": 5, "ns": 0}, "direct": {"pages": 10, "ns": 1500000}})
        latency = f["fault_latency_ns"]
        for key, ns in (("p50", 1000), ("p99", 8000), ("p999", 100000)):
            self.assertTrue(ns <= latency[key] <= ns * 1.07, (key, latency))
        self.assertEqual(latency["max"], 123456)

    def test_policy(self):
        self.assertEqual(self.figures("true")["policy"], "lru")
        for name in ("lru", "gen", "clock", "fifo"):
            self.assertEqual(self.figures("--memory", "64M", "--policy", name, "true")["policy"], name)
        path = self.write("it.lua", b"return { reclaim = function() end }", 0o644)
        self.assertEqual(self.figures("--memory", "64M", "--extension", path, "true")["policy"],
                         "extension")

    def test_huge_pages(self):
        self.assertEqual(self.figures("true")["huge_pages"], {"how": "split", "made": 0, "split": 0})
        self.assertEqual(self.figures("--memory", "64M", "--huge-pages", "keep", "true")["huge_pages"]["how"],
                         "keep")

    def test_sums_over_processes(self):
        f = self.figures("sh", "-c", "/bin/true; /bin/true; exit 0")
        self.assertEqual(f["processes"]["seen"], 3)
        self.assertEqual(f["faults"]["major"], 600)
        self.assertEqual(f["peak_resident_bytes"], 60 * MIB)

    def test_more_processes_than_slots(self):
        f = self.figures("sh", "-c", "i=0; while [ $i -lt 1030 ]; do /bin/true; i=$((i+1)); done")
        self.assertEqual(f["processes"]["seen"], 1031)
        self.assertEqual(f["processes"]["untold"], 7)

    def test_stopped_paging_says_why(self):
        f = self.figures("true", story="stopped")
        self.assertEqual(f["processes"]["stopped"], 1)
        self.assertEqual(f["notes"][0]["text"], "the layout could not be followed")
        done = run("run", "true", story="stopped")
        self.assertIn("went on without paging: the layout could not be followed", done.stderr)

    def test_table(self):
        done = run("run", "--memory", "64M", "sh", "-c", "exit 3")
        for text in ("sh ended with status 3", "64.0 MiB", "peak 60.0 MiB", "at the end 30.0 MiB",
                     "3.0 MiB", "minor 1,000", "major 200", "p99.9", "clean 60", "same-filled 8",
                     "8.0 MiB as 2.0 MiB (25 %, lz4)", "1.5 ms", "stack 132.0 KiB"):
            self.assertIn(text, done.stderr)
        self.assertNotIn("policy", done.stderr)

    def test_the_table_names_the_policy_that_was_asked_for(self):
        done = run("run", "--memory", "64M", "--policy", "gen", "true")
        self.assertIn("\n  policy          gen\n", done.stderr)
        path = self.write("it.lua", b"return { reclaim = function() end }", 0o644)
        done = run("run", "--memory", "64M", "--extension", path, "true")
        self.assertIn("\n  policy          %s\n" % path, done.stderr)

    def test_without_a_limit_the_program_is_watched(self):
        done = run("run", "true", story="watching")
        self.assertIn("none (--memory sets one)", done.stderr)
        self.assertIn("peak 60.0 MiB", done.stderr)

    def test_below_the_limit(self):
        done = run("run", "--memory", "64M", "true", story="watching")
        self.assertIn("stayed below its limit; nothing was paged", done.stderr)

    def test_agent_not_loaded(self):
        done = run("run", "true", story=None)
        self.assertEqual(done.returncode, 0)
        self.assertIn("the agent was never loaded", done.stderr)

    def test_stats_file(self):
        stats = self.path("stats.json")
        done = run("run", "--stats", stats, "sh", "-c", "exit 4")
        self.assertEqual(done.returncode, 4)
        self.assertIn("ended with status 4", done.stderr)
        with open(stats, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["exit_status"], 4)
        self.assertEqual(os.listdir(self.directory.name), ["stats.json"])
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual(stat.S_IMODE(os.stat(stats).st_mode), 0o666 & ~mask)

    def test_stats_file_to_a_stream(self):
        done = run("run", "--stats", "/dev/stdout", "true")
        self.assertEqual(json.loads(done.stdout)["exit_status"], 0)

    def test_stats_file_that_cannot_be(self):
        for name in (self.directory.name, self.path("no/file"), "/proc/file", "x" * 300):
            self.refused(125, ["--stats", "cannot be written"], "run", "--stats", name, "true")
        self.assertEqual(os.listdir(self.directory.name), [])

    def test_stats_file_lost_on_the_way(self):
        place = self.path("place")
        os.mkdir(place)
        done = run("run", "--stats", place + "/stats", "sh", "-c", "rmdir " + place + "; exit 5")
        self.assertEqual(done.returncode, 5)
        self.assertIn("cannot be written", done.stderr)


# ---- a kernel that cannot ----

def filter_userfaultfd(error):
    """From now on userfaultfd() fails with this error, by a seccomp filter."""
    def program(*rows):
        return b"".join(code.to_bytes(2, "little") + bytes([jt, jf]) + k.to_bytes(4, "little")
                        for code, jt, jf, k in rows)

    hide_device()
    rules = ctypes.create_string_buffer(program((0x20, 0, 0, 0), (0x15, 0, 1, 323),
                                                (0x06, 0, 0, 0x50000 | error),
                                                (0x06, 0, 0, 0x7fff0000)), 32)

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, ctypes.byref(Program(4, ctypes.addressof(rules))), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def hide_device():
    """From now on /dev/userfaultfd, the other way in, is /dev/null."""
    libc = ctypes.CDLL(None, use_errno=True)
    device = b"/dev/userfaultfd"
    if os.path.exists(device) and (
            libc.unshare(0x20000) or  # CLONE_NEWNS
            libc.mount(None, b"/", None, 0x44000, None) or  # MS_REC | MS_PRIVATE
            libc.mount(b"/dev/null", device, None, 0x1000, None)):  # MS_BIND
        raise OSError(ctypes.get_errno(), "hiding /dev/userfaultfd")


@unittest.skipUnless(ROOT, "takes root")
class Kernels(Case):
    def test_without_userfaultfd(self):
        self.refused(125, ["no userfaultfd", "CONFIG_USERFAULTFD"], "run", "true",
                     preexec_fn=lambda: filter_userfaultfd(38))

    def test_filtered(self):
        self.refused(125, ["seccomp"], "run", "true", preexec_fn=lambda: filter_userfaultfd(1))

    def test_without_permission(self):
        def drop():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

        with open("/proc/sys/vm/unprivileged_userfaultfd", encoding="utf-8") as file:
            allowed = file.read().strip() == "1"
        words = ["CAP_SYS_PTRACE"] + ([] if allowed else ["vm.unprivileged_userfaultfd"])
        copy = self.path("vmfault")
        os.chmod(self.directory.name, 0o755)
        with open(VMFAULT, "rb") as file:
            self.write("vmfault", file.read())
        done = subprocess.run([copy, "run", "true"], env=environment(), text=True,
                              capture_output=True, preexec_fn=drop, timeout=60)
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        for word in words:
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    # Who was begun by nohup ignores it, and so would all that is begun here.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    unittest.main()
