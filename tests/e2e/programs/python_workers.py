# SPDX-License-Identifier: MIT
"""python3 forks workers that read what they inherited and build more (multiprocessing).

The small form has fewer words, which are longer: as many pages, touched less often.
"""
NEEDS = ["python3"]

PROGRAM = """
import hashlib, multiprocessing, random, sys
count, bits = map(int, sys.argv[1:])
rng = random.Random(3)
words = ["%x" % rng.getrandbits(bits) for _ in range(count)]

def work(part):
    mine = sorted(words[part::8], key=lambda word: word[::-1])
    joined = "".join(mine)
    table = {word: i for i, word in enumerate(mine)}
    again = "".join(sorted(table, key=table.get, reverse=True))
    return part, hashlib.sha256((joined + again).encode()).hexdigest()

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    with multiprocessing.Pool(4) as pool:
        for part, digest in sorted(pool.map(work, range(8), chunksize=1)):
            print(part, digest)
    print(hashlib.sha256("".join(words).encode()).hexdigest())
"""


def run(t):
    count, bits = (4000000, 64) if t.full else (22000, 4096)
    with open(t.dir + "/program.py", "w", encoding="utf-8") as file:
        file.write(PROGRAM)
    return list(t.run(["python3", "program.py", str(count), str(bits)]))
