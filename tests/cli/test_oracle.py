#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `vmfault oracle` promises of itself: words, exit statuses, JSON; that nothing is left behind.

VMFAULT names the command.
"""
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from oneline import OneLine

VMFAULT = os.path.abspath(os.environ["VMFAULT"])
SEQUENCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../differential/sequences")
SEQUENCE = "0 mmap a 1p read|write private|anonymous|fixed none 0\n0 write a 1\n0 check\nend\n"


def oracle(*words):
    return subprocess.run([VMFAULT, "oracle", *words], text=True, timeout=300, capture_output=True)


def processes_of(group):
    """The processes whose ancestor is in the session of `group`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="utf-8") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == group and fields[0] != "Z":
                found.append(int(name))
    return found


class Words(OneLine):
    def refused(self, words, *command):
        self.assert_refused(oracle(*command), 125, words)

    def test_help_lists_the_options(self):
        done = oracle("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--operations", "--seed", "--replay", "--json", "exit status"):
            self.assertIn(word, done.stdout)

    def test_bad_options_are_refused_in_one_line(self):
        self.refused(["--operation"], "--operation", "3")
        self.refused(["needs a value", "--seed"], "--seed")
        self.refused(["--operations", "0"], "--operations", "0")
        self.refused(["--operations", "many"], "--operations=many")
        self.refused(["--seed", "18446744073709551616"], "--seed", "18446744073709551616")
        self.refused(["--jobs", "65"], "--jobs", "65")
        self.refused(["--jobs", "plain"], "--world", "huge", "--jobs", "2")
        self.refused(["--seed", "-1"], "--seed", "-1")
        self.refused(["file"], "file")


class Worlds(unittest.TestCase):
    def test_a_world_alone_counts_its_operations(self):
        for world in ("huge", "hugetlb", "userfault", "userfaultswap", "pageout", "systems"):
            done = oracle("--world", world, "--engine", "--operations", "200", "--seed", "3", "--json")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            (found,) = json.loads(done.stdout)["worlds"]
            self.assertEqual(found["world"], world)
            self.assertIsNone(found["mismatch"])
            self.assertGreaterEqual(found["operations"], 200)
            self.assertEqual(
                found["operations"], sum(call["operations"] for call in found["calls"].values())
            )

    @unittest.skipIf(os.geteuid(), "only root can become somebody else")
    def test_what_takes_root_is_skipped_for_others(self):
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        if subprocess.run(["test", "-x", VMFAULT], **nobody).returncode:
            self.skipTest("others cannot run the command where it is")
        with open("/proc/sys/vm/unprivileged_userfaultfd", encoding="ascii") as setting:
            allowed = setting.read().strip() == "1"
        for world in ("huge", "hugeswap", "hugetlb", "userfault", "userfaultswap", "pageout"):
            done = subprocess.run([VMFAULT, "oracle", "--world", world, "--operations", "100"],
                                  text=True, capture_output=True, **nobody)
            if not (allowed and world in ("huge", "userfault")):
                self.assertEqual(done.returncode, 77, world + ": " + done.stdout + done.stderr)
                self.assertRegex(done.stdout, "world %s: skipped: .*(root|allowed|huge)" % world)

    def test_every_system_does_as_the_kernel(self):
        done = oracle("--world", "systems", "--operations", "2000", "--seed", "1", "--json")
        (found,) = json.loads(done.stdout)["worlds"]
        if found["skipped"]:
            self.assertEqual(done.returncode, 77)
            self.skipTest(found["skipped"])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIsNone(found["mismatch"])
        self.assertGreaterEqual(found["operations"], 2000)
        self.assertEqual(found["rows"]["not_reached"], [])

    def test_unknown_worlds_and_words_are_refused(self):
        done = oracle("--world", "flat")
        self.assertEqual(done.returncode, 125)
        self.assertIn("none of plain", done.stderr)
        self.assertEqual(oracle("--engine").returncode, 125)

    def test_a_sequence_of_a_world_is_replayed(self):
        text = "world huge\nmap n=2048 prot=3\nadvise n=512 advice=14\nwrite page=3 byte=7\nend\n"
        for wrong in ("", "read page=2048\n", "reed page=1\n", "read pages=1\n"):
            with tempfile.NamedTemporaryFile("w", suffix=".ops") as file:
                file.write(text.replace("end\n", wrong + "end\n"))
                file.flush()
                done = oracle("--engine", "--replay", file.name)
            if wrong:
                self.assertEqual(done.returncode, 125)
                self.assertIn("line 5 is no step of the world huge", done.stderr)
            else:
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("3 operations in 1 sequences", done.stdout)


class Files(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def write(self, name, text):
        path = os.path.join(self.directory.name, name)
        with open(path, "wb") as file:
            file.write(text)
        return path

    def test_a_sequence_is_replayed(self):
        done = oracle("--replay", self.write("a.ops", SEQUENCE.encode()))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("3 operations in 1 sequences", done.stdout)

    def test_a_directory_is_replayed(self):
        self.write("a.ops", SEQUENCE.encode())
        self.write("b.ops", SEQUENCE.encode())
        self.write("other", b"?")
        done = oracle("--replay", self.directory.name)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("6 operations in 2 sequences", done.stdout)

    def test_what_is_no_sequence_is_refused_with_line_and_column(self):
        for text, where in ((b"", "line 1, column 1"),
                            (SEQUENCE[:-4].encode(), "line 4, column 1"),
                            (b"0 munmap a 99999999999999999999\nend\n", "line 1, column 12"),
                            (b"0 check\n0 munmap 0x400000 1p\nend\n", "line 2, column 1"),
                            (b"\0\xff\n\n", "line 1, column 1"),
                            (b"0 check\n" * 300, "line 257, column 1")):
            done = oracle("--replay", self.write("bad.ops", text))
            self.assertEqual(done.returncode, 125)
            self.assertIn(where, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_what_cannot_be_read_is_told(self):
        for path in (os.path.join(self.directory.name, "none"), self.directory.name):
            done = oracle("--replay", path)
            self.assertEqual(done.returncode, 125)
            self.assertIn("cannot be read", done.stderr)


class Runs(unittest.TestCase):
    def test_json_has_what_it_promises(self):
        done = oracle("--operations", "2000", "--seed", "5", "--json")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        result = json.loads(done.stdout)
        self.assertIsNone(result["mismatch"])
        self.assertEqual(result["seed"], 5)
        self.assertGreaterEqual(result["operations"], 2000)
        self.assertGreater(result["calls"]["mmap"]["results"]["ok"], 0)
        self.assertGreater(len(result["signals"]), 0)
        self.assertGreater(len(result["rows"]["reached"]), 0)
        for mask in result["masks"]:
            self.assertTrue(mask["name"] and mask["why"])

    def test_the_sequences_of_the_source_reach_all_that_is_known_of_linux(self):
        release = tuple(int(n) for n in os.uname().release.split(".")[:2])
        if release < (6, 18):
            self.skipTest("an older kernel has not all that the sequences do")
        done = oracle("--replay", SEQUENCES, "--json")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = json.loads(done.stdout)["rows"]
        self.assertEqual(rows["not_reached"], [])
        self.assertGreaterEqual(len(rows["reached"]) + len(rows["not_here"]), 370)

    def test_the_seed_is_named_and_gives_the_same_run(self):
        counts = []
        for _ in range(2):
            done = oracle("--operations", "1500", "--seed", "77", "--jobs", "1", "--json")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            result = json.loads(done.stdout)
            counts.append((result["operations"], result["calls"], result["signals"]))
        self.assertEqual(counts[0], counts[1])

    def test_killed_it_leaves_no_process_behind(self):
        for number in (signal.SIGINT, signal.SIGKILL):
            child = subprocess.Popen([VMFAULT, "oracle", "--operations", "100000000"],
                                     stdout=subprocess.DEVNULL, start_new_session=True)
            time.sleep(1)
            self.assertGreater(len(processes_of(child.pid)), 1)
            child.send_signal(number)
            child.wait(timeout=30)
            for _ in range(100):
                left = processes_of(child.pid)
                if not left:
                    break
                time.sleep(0.5)
            self.assertEqual(left, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
