# SPDX-License-Identifier: MIT
"""xz -9 in two threads, then back.

The small form has a preset that looks for matches in less memory: -9 touches a page for each byte.
"""
import random

NEEDS = ["xz"]


def text(size):
    def make(file):
        rng = random.Random(9)
        words = [b"%x" % rng.getrandbits(rng.randrange(8, 40)) for _ in range(5000)]
        done = 0
        while done < size:
            chunk = b" ".join(words[int(rng.paretovariate(0.3)) % 5000] for _ in range(20000))
            file.write(chunk)
            done += len(chunk)
    return make


def run(t):
    size, block, preset = (48, 24, "-9") if t.full else (4, 2, "-2")
    path = t.input("text-%d" % size, text(size << 20))
    status, out = t.run(["xz", preset, "-T2", "--block-size=%dMiB" % block, "-c", path])
    with open(t.dir + "/text.xz", "wb") as file:
        file.write(out)
    again, text_again = t.run(["xz", "-d", "-c", "text.xz"])
    with open(path, "rb") as file:
        same = file.read() == text_again
    return [status, out, again, same]
