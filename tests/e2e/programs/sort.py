# SPDX-License-Identifier: MIT
"""sort, with all the memory it likes, in as many threads as it likes."""
import hashlib
import random

NEEDS = ["sort"]


def lines(size):
    def make(file):
        rng = random.Random(1)
        done = 0
        while done < size:
            chunk = b"".join(b"%012d some words to sort by %08x\n" % (
                rng.getrandbits(39), rng.getrandbits(32)) for _ in range(20000))
            file.write(chunk)
            done += len(chunk)
    return make


def run(t):
    size = 300 if t.full else 40
    path = t.input("lines-%d" % size, lines(size * 1000000))
    status, out = t.run(["sort", "-S", "100%", "-o", "sorted", path])
    digest = hashlib.sha256()
    with open(t.dir + "/sorted", "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return [status, out, digest.hexdigest()]
