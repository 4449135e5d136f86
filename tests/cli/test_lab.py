#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `vmfault lab` promises: words, exit statuses, the same counts in every format and every run.

VMFAULT names the command.
"""
import csv
import io
import json
import os
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

from oneline import OneLine

VMFAULT = os.path.abspath(os.environ["VMFAULT"])
EXAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "extensions")
WORKLOADS = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "workloads")


def lab(*words):
    return subprocess.run([VMFAULT, "lab", *words], text=True, timeout=300, capture_output=True)


class Case(OneLine):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def example(self, name):
        return os.path.join(EXAMPLES, name)

    def refused(self, words, *command):
        self.assert_refused(lab(*command), 125, words)


class Words(Case):
    def test_help_lists_systems_and_workloads(self):
        done = lab("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--systems", "--walk", "linux", "01-zero-fill", "minor-fault", "exit status"):
            self.assertIn(word, done.stdout)

    def test_bad_options_are_refused_in_one_line(self):
        self.refused(["--system"], "--system", "linux")
        self.refused(["minix", "linux"], "--systems", "minix")
        self.refused(["minix"], "--systems", "linux,minix")
        self.refused(["0", "16"], "--cpus", "0")
        self.refused(["many"], "--cpus=many")
        self.refused(["17"], "--cpus", "17")
        self.refused(["pdf", "html"], "--format", "pdf")
        self.refused(["needs a value"], "--workload")
        self.refused(["--walk needs"], "--walk", "linux")
        self.refused(["one system"], "--walk", "linux,linux-old", "minor-fault")
        self.refused(["--svg"], "--svg", "x.svg")
        self.refused(["/no/such"], "--workload", "/no/such")
        self.refused(["cannot be read"], "--workload", self.directory.name)
        self.refused(["/no/such"], "--beside", "/no/such")
        self.refused(["--beside", "linux", "one program"], "--beside", "loop", "--systems", "linux")
        self.refused(["different systems"], "--beside", "loop",
                     "--extension", self.example("fifo.lua"))

    def test_a_bad_extension_is_refused_in_one_line(self):
        self.refused(["/no/such"], "--extension", "/no/such")
        self.refused(["x.lua:2", "near"], "--extension", self.write("x.lua", "return {\n  x = = 1 }"))
        self.refused(["x.lua", "recliam"], "--extension",
                     self.write("x.lua", "return { recliam = function() end }"))
        self.refused(["too long"], "--extension", self.write("x.lua", "--" + "x" * 70000))
        self.refused(["too many steps"], "--extension", self.write("x.lua", "while true do end"))
        self.refused(["linux", "takes none"], "--extension", self.example("fifo.lua"),
                     "--systems", "spin,linux")

    def test_a_bad_workload_is_told_with_its_line(self):
        self.refused(["line 2", "mop"], "--workload", self.write("bad", "# bad\nmop 1\n"))
        self.refused(["beside it", "line 2", "mop"], "--beside", self.path("bad"), "--workload", "loop")
        for text, words in (("# frames 0\n", ["line 1", "frames '0'", "1 to"]),
                            ("# a\n# frames -1\n", ["line 2", "'-1'"]),
                            ("# frames 99999999999\n", ["line 1", "'99999999999'"]),
                            ("# a\n#\n# cpus 999\n", ["line 3", "'999'", "256"]),
                            ("# cpus 4x\n", ["'4x'"]), ("# cpus many\n", ["'many'"])):
            self.refused(words, "--workload", self.write("needs", text + "check\n"))
        path = self.write("prose", "# cpus are one\n# frames of memory: few\ncheck\n")
        self.assertEqual(lab("--workload", path, "--systems", "linux").returncode, 0)
        with open(self.path("zero"), "wb") as file:
            file.write(b"check\0check\n")
        self.refused(["zero byte"], "--workload", self.path("zero"))


class Results(Case):
    def test_all_is_well(self):
        done = lab("--format", "json")
        self.assertEqual(done.returncode, 0, done.stdout[-2000:])
        report = json.loads(done.stdout)
        self.assertTrue(report["all_well"])
        programs = [name for name in report["workloads"] if name[0].isdigit()]
        self.assertEqual(len(programs), 15)
        for name in programs:
            for system, result in report["workloads"][name].items():
                self.assertEqual(result["verdict"], "ok", (name, system))
        for attack in report["attacks"]:
            self.assertTrue(attack["refused"], attack)

    def test_what_differs_is_said(self):
        path = self.write("wrong", "map any 1P rw as A\nwrite A 1P 1\nread A 1P 2\n")
        done = lab("--workload", path, "--systems", "linux")
        self.assertEqual(done.returncode, 1)
        self.assertIn("DIFFERS", done.stdout)
        self.assertIn("line 3: read:", done.stdout)

    def test_a_machine_that_is_too_small_is_said(self):
        path = self.write("small", "# frames 1\nmap any 1P rw as A\nwrite A 1P 1\n")
        for words in ((), ("--format", "json"), ("--format", "html")):
            done = lab("--workload", path, "--systems", "linux", *words)
            self.assertEqual(done.returncode, 1)
            self.assertIn("no machine of 1 frames", done.stdout)

    def test_every_format_has_the_same_counts(self):
        words = ("--workload", "minor-fault", "--systems", "linux")
        counts = json.loads(lab(*words, "--format", "json").stdout)
        counts = counts["workloads"]["minor-fault"]["linux"]["counts"]
        self.assertEqual(counts["crossings"], 2)
        row, = csv.DictReader(io.StringIO(lab(*words, "--format", "csv").stdout))
        table = lab(*words).stdout
        for name, n in counts.items():
            self.assertEqual(int(row[name]), n)
            self.assertEqual(bool(n), "  %s " % name in table, name)
        page = lab(*words, "--format", "html").stdout
        HTMLParser().feed(page)
        self.assertIn("<td>walk_reads<td>%d" % counts["walk_reads"], page)
        self.assertEqual(lab(*words).stdout, table)

    def test_a_walk_is_told_and_drawn(self):
        done = lab("--walk", "linux", "minor-fault", "--svg", self.path("walk.svg"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("  1  the program -> the kernel, by exception", done.stdout)
        texts = [e.text for e in xml.parse(self.path("walk.svg")).getroot().iter() if e.text]
        self.assertIn("the program", texts)
        self.assertIn("fills it with zeros", texts)
        path = self.write("calm", "map any 1P rw as A\nwrite A 1 1\nmeasure\nread A 1 1\n")
        done = lab("--walk", "linux", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("measure", done.stdout)
        done = lab("--walk", "linux", path, "--svg", self.path("calm.svg"))
        self.assertFalse(os.path.exists(self.path("calm.svg")))
        self.refused_late("--walk", "linux", "minor-fault", "--svg", self.path("no/walk.svg"))

    def test_a_walk_of_several_cpus_says_whose_step_it_is(self):
        path = self.write("two", "# cpus 2\nmap any 2P rw as A\nmeasure\nwrite A 1 1\n"
                                 "cpu 1\nwrite A+1P 1 1\n")
        told = lab("--walk", "linux", path).stdout
        for cpu in range(2):
            self.assertIn("CPU %d: the program -> the kernel, by exception" % cpu, told)
        self.assertIn("beside them: the monitor", lab("--walk", "userfault", path).stdout)
        self.assertNotIn("CPU 0", lab("--walk", "linux", "minor-fault").stdout)
        self.assertNotIn("beside them", lab("--walk", "userfault", "minor-fault").stdout)

    def test_a_walk_that_is_too_long_says_so(self):
        done = lab("--walk", "linux", "loop", "--svg", self.path("loop.svg"))
        self.assertIn("no more than 4096 steps", done.stdout)
        texts = self.texts_of("loop.svg")
        self.assertIn("steps 401 to 4096 are not drawn; the walk as text has them, "
                      "and what came after them is not kept", texts)
        self.assertFalse([text for text in texts if text.startswith("CPU ")])

    def test_a_drawing_of_several_cpus_says_whose_step_it_is(self):
        path = self.write("two", "# cpus 2\nmap any 90P rw as A\nmeasure\nwrite A 1 1\n"
                                 "cpu 1\nwrite A+1P 89P 1\n")
        told = lab("--walk", "userfault", path, "--svg", self.path("two.svg")).stdout
        texts, steps = self.texts_of("two.svg"), told.count("\n") // 2
        self.assertIn("steps 401 to %d are not drawn; the walk as text has them" % steps, texts)
        whose = [text for text in texts if text.startswith("CPU ") or text == "beside"]
        self.assertEqual(len(whose), 400)
        self.assertEqual(set(whose), {"CPU 0", "CPU 1", "beside"})
        lab("--walk", "userfault", "minor-fault", "--svg", self.path("one.svg"))
        self.assertFalse({"CPU 0", "beside"} & set(self.texts_of("one.svg")))

    def texts_of(self, name):
        return [e.text for e in xml.parse(self.path(name)).getroot().iter() if e.text]

    def expectations(self, workload, system):
        words = ("--workload", workload, "--systems", system)
        result = json.loads(lab(*words, "--format", "json").stdout)
        result = result["workloads"][workload][system]
        return result, lab(*words).stdout, lab(*words, "--format", "html").stdout

    def test_every_format_tells_what_was_expected(self):
        result, table, page = self.expectations("minor-fault", "fluidmem")
        HTMLParser().feed(page)
        differ = [x for x in result["expected"] if x["expected"] != x["counted"]]
        self.assertEqual([x["counter"] for x in differ], ["pages_copied"])
        self.assertIn("copies zeros", differ[0]["why"])
        self.assertIn("pages_copied is expected to be 0; %s\n" % differ[0]["why"], table)
        self.assertIn("<tr><td>fluidmem<td>pages_copied<td>0<td>1<td class=why>%s\n"
                      % differ[0]["why"], page)
        n = len(result["expected"])
        self.assertIn("%d of %d counts are as expected" % (n - 1, n), table)
        self.assertIn("%d of %d counts are as expected" % (n - 1, n), page)
        for x in result["expected"]:
            self.assertEqual(x["counted"], result["counts"][x["counter"]])
            if x not in differ:
                self.assertIsNone(x["why"])
                self.assertIn("<tr><td>fluidmem<td>%s<td>%d<td>%d\n"
                              % (x["counter"], x["expected"], x["counted"]), page)

    def test_what_is_expected_is_for_one_workload(self):
        for system, workload in (("tornado", "in-core"), ("windows", "kernel-fault")):
            result, table, page = self.expectations(workload, system)
            self.assertFalse([x for x in result["expected"] if x["expected"] != x["counted"]])
            self.assertIn("are as expected", table)
            self.assertIn("are as expected", page)
            result, table, page = self.expectations("minor-fault", system)
            self.assertNotIn("expected", result)
            self.assertNotIn("as expected", table)
            self.assertNotIn("As expected", page)

    def test_names_of_files_are_what_they_are_in_every_format(self):
        text = "map any 1P rw as A\nwrite A 1 1\n"
        path = self.write('a,"b.vmf', text)
        row, = csv.DictReader(io.StringIO(lab("--workload", path, "--systems", "linux",
                                              "--format", "csv").stdout))
        self.assertEqual((row["workload"], row["verdict"]), (path, "ok"))
        path = os.path.join(os.fsencode(self.directory.name), b"x\xff.vmf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        report = json.loads(lab("--workload", path, "--systems", "linux", "--format",
                                "json").stdout)
        (name, results), = report["workloads"].items()
        self.assertTrue(name.endswith("x?.vmf"))
        self.assertEqual(results["linux"]["verdict"], "ok")

    def test_what_is_not_done_has_no_counts(self):
        words = ("--workload", "dirty", "--systems", "linux,spin")
        rows = list(csv.DictReader(io.StringIO(lab(*words, "--format", "csv").stdout)))
        self.assertEqual([row["verdict"] for row in rows], ["not offered", "ok"])
        self.assertEqual(rows[0]["crossings"], "0")
        self.assertNotIn("  crossings", lab(*words).stdout)

    def refused_late(self, *command):
        done = lab(*command)
        self.assertEqual(done.returncode, 125)
        self.assertIn("cannot be written", done.stderr)


class Beside(Case):
    """Two library operating systems on one exokernel."""

    def words(self, name):
        return os.path.join(WORKLOADS, name)

    def test_each_is_shown_apart_in_every_format(self):
        words = ("--workload", self.words("early.vmf"), "--beside", self.words("late.vmf"))
        report = json.loads(lab(*words, "--format", "json").stdout)
        one, = report["workloads"].values()
        self.assertEqual(list(one), ["xok-two"])
        self.assertEqual(one["xok-two"]["verdict"], "ok")
        fifo, mru = (one["xok-two"]["parts"][name] for name in ("fifo", "mru"))
        self.assertEqual(fifo, one["xok-two"]["counts"])
        rows = list(csv.DictReader(io.StringIO(lab(*words, "--format", "csv").stdout)))
        self.assertEqual([row["system"] for row in rows],
                         ["xok-two", "xok-two/fifo", "xok-two/mru"])
        table, page = lab(*words).stdout, lab(*words, "--format", "html").stdout
        HTMLParser().feed(page)
        for name in ("exceptions", "revocations", "frames_given", "frames_taken"):
            self.assertEqual([int(row[name]) for row in rows],
                             [fifo[name], fifo[name], mru[name]])
            self.assertRegex(table, r"%s +%d +%d\n" % (name, fifo[name], mru[name]))
            self.assertIn("<td>%s<td>%d<td>%d\n" % (name, fifo[name], mru[name]), page)
        # The early one got what the late one could spare, and gave some back.
        self.assertGreater(mru["frames_given"], mru["frames_taken"])
        self.assertGreater(fifo["frames_given"], 0)
        self.assertEqual(fifo["frames_given"] + mru["frames_given"],
                         fifo["frames_taken"] + mru["frames_taken"])
        self.assertEqual(lab(*words).stdout, table)

    def test_a_walk_tells_who_gave_the_frame(self):
        done = lab("--walk", "xok-two", self.words("handover.vmf"))
        self.assertEqual(done.returncode, 0, done.stderr)
        order = ["want_frames", "-> the other library OS, by upcall", "give_frames", "take_frames",
                 "insert_pte"]
        at = [done.stdout.find(word) for word in order]
        self.assertEqual(at, sorted(at))
        self.assertGreater(at[0], 0)
        self.assertNotIn("CPU 0", done.stdout)  # it has one, and the other library's is not told of

    def test_what_differs_beside_is_said(self):
        path = self.write("wrong", "map any 1P rw as A\nread A 1P 2\n")
        done = lab("--workload", "loop", "--beside", path)
        self.assertEqual(done.returncode, 1)
        self.assertIn("loop on xok-two: mru: line 2: read:", done.stdout)


class Times(Case):
    """How long the host took for what FluidMem's monitor does, by its own buckets."""

    def test_they_are_shown_in_every_format(self):
        words = ("--systems", "fluidmem", "--workload", "pressure")
        result = json.loads(lab(*words, "--format", "json").stdout)["workloads"]["pressure"]["fluidmem"]
        counts, times = result["counts"], result["timings"]
        self.assertEqual(len(times), 11)
        self.assertEqual(times["READ_PAGE"]["count"], counts["io_reads"])
        self.assertEqual(times["WRITE_PAGE"]["count"], counts["io_writes"])
        faults = [times[name]["count"] for name in times if name.startswith("HANDLE_USERFAULT_")]
        self.assertEqual(sum(faults), counts["exceptions"])
        for name, t in times.items():
            self.assertEqual(sum(t["below_ns"].values()), t["count"], name)
            self.assertLessEqual(t["p50_ns"], t["p99_ns"])
            self.assertLessEqual(t["p99_ns"], t["max_ns"])
        table, page = lab(*words).stdout, lab(*words, "--format", "html").stdout
        HTMLParser().feed(page)
        for name in times:
            n = times[name]["count"]
            self.assertEqual("<td>%s<td>%d<td>" % (name, n) in page, n > 0, name)
            self.assertEqual(name in table, n > 0, name)
        self.assertRegex(table, r"READ_PAGE +256( +[0-9.]+ [num]?s){5}\n")

    def test_only_what_is_measured_is_timed(self):
        result = json.loads(lab("--systems", "fluidmem", "--workload", "major-fault", "--format",
                                "json").stdout)["workloads"]["major-fault"]["fluidmem"]
        times = {name: t["count"] for name, t in result["timings"].items() if t["count"]}
        self.assertEqual(times, {"HANDLE_USERFAULT_COPY": 1, "READ_PAGE": 1, "UFFD_COPY": 1})

    def test_who_times_nothing_shows_nothing(self):
        self.assertNotIn("how long", lab("--systems", "linux", "--workload", "pressure").stdout)


class Extensions(Case):
    def counts(self, *words):
        done = lab("--systems", "spin", "--format", "json", *words)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")
        workloads = json.loads(done.stdout)["workloads"]
        return {name: one["spin"]["counts"] for name, one in workloads.items()}

    def test_the_policy_that_suits_a_loop(self):
        usual = self.counts("--workload", "loop")["loop"]["io_reads"]
        fifo = self.counts("--workload", "loop", "--extension", self.example("fifo.lua"))
        mru = self.counts("--workload", "loop", "--extension", self.example("mru.lua"))
        self.assertGreater(usual, 7 * 96)
        self.assertGreater(fifo["loop"]["io_reads"], 7 * 96)
        self.assertLess(mru["loop"]["io_reads"], 4 * 96)

    def test_every_example_passes_every_workload(self):
        for name in ("fifo.lua", "mru.lua", "clock.lua"):
            self.assertGreater(len(self.counts("--extension", self.example(name))), 15, name)

    def test_a_memory_object(self):
        path = self.write("numbers.vmf", "map any 3P rw as A\nread A 1P 0\nread A+1P 1P 1\n"
                                         "write A+2P 1 9\nread A+2P 1 9\nread A+8193 9 2\n")
        self.counts("--workload", path, "--extension", self.example("numbers.lua"))

    def test_a_memory_object_with_frames_of_its_own(self):
        path = os.path.join(WORKLOADS, "object.vmf")
        self.counts("--workload", path, "--extension", self.example("object.lua"))
        report = json.loads(lab("--systems", "spin", "--format", "json",
                                "--extension", self.example("object.lua")).stdout)
        wrong = [name for name, one in report["workloads"].items()
                 if one["spin"]["verdict"] == "differs"]
        self.assertEqual(wrong, ["13-malicious"])  # which wants nobody to have the range's address
        # Without it nobody has those addresses.
        done = lab("--workload", path, "--systems", "spin")
        self.assertEqual(done.returncode, 1)
        self.assertIn("expected ok, got segv maperr", done.stdout)

    def test_what_goes_wrong_is_said_once_and_the_default_goes_on(self):
        for script, words in (("while true do end", "too many steps"),
                              ("local s = 'x' while true do s = s .. s end", "too much memory"),
                              ("return 0xffff888000000000", "not a page"),
                              ("return pages.x.y", "wrong.lua:1:")):
            path = self.write("wrong.lua", "return { reclaim = function(pages) %s end }" % script)
            done = lab("--extension", path, "--systems", "spin", "--format", "csv")
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn(words, done.stderr)
            self.assertIn("the default handler goes on", done.stderr)


if __name__ == "__main__":
    unittest.main()
