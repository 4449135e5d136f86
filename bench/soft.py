# SPDX-License-Identifier: MIT
"""The engine on the soft machine beside the running kernel: what the soft_* programs say.

Each program runs the two sides in turns and prints a line of JSON for each contest (bench/
soft_bench.h); here they become medians, ratios and a table.
"""
import json
import os
import statistics
import subprocess

PROGRAMS = ("soft_hit", "soft_anon", "soft_areas", "soft_file", "soft_fork", "soft_scale")


def measure(directory, rounds):
    """The contests of all programs, with every round's figures."""
    found = []
    for name in PROGRAMS:
        done = subprocess.run([os.path.join(directory, name), str(rounds)],
                              stdout=subprocess.PIPE, check=True)
        found += [json.loads(line) for line in done.stdout.decode().splitlines()]
    return found


def rows(contests):
    """One row a contest, of the form that run.py's summary has.  What has no kernel's side is held
    against so many of its unit."""
    found = []
    for contest in contests:
        ours = statistics.median(contest["ours"])
        kernel = statistics.median(contest["kernel"]) if "kernel" in contest else None
        found.append({"name": contest["name"], "unit": contest["unit"], "kernel": kernel,
                      "ours": ours, "best": min(contest["ours"]),
                      "best_kernel": min(contest["kernel"]) if kernel else None,
                      "ratio": ours / kernel if kernel else None,
                      "target": contest["target"] or None,
                      "met": held_against(kernel, ours) <= contest["target"]
                      if contest["target"] else None,
                      "more": contest.get("more")})
    return found


def held_against(kernel, ours):
    return ours / kernel if kernel else ours


def print_table(found):
    print("\n%-50s %9s %9s %7s  %s" % ("soft machine", "kernel", "ours", "ratio", "target"))
    for row in found:
        target = ""
        if row["target"]:
            target = "<= %.2f%s  %s" % (row["target"], "" if row["kernel"] else " " + row["unit"],
                                        "met" if row["met"] else "NOT MET")
        print("%-50s %9s %9.1f %7s  %s" % (
            "%s, %s" % (row["name"], row["unit"]),
            "-" if row["kernel"] is None else "%.1f" % row["kernel"], row["ours"],
            "-" if row["ratio"] is None else "%.2f" % row["ratio"], target))
        for name, value in (row["more"] or {}).items():
            print("    %s: %s" % (name, value))
