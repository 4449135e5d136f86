# SPDX-License-Identifier: MIT
"""python3 builds, sorts and writes as JSON very many objects.

The small form has fewer of them with longer names: as many pages, touched less often.
"""
import hashlib

NEEDS = ["python3"]

PROGRAM = """
import json, random, sys
count, times = map(int, sys.argv[1:])
rng = random.Random(7)
things = [{"id": i, "key": rng.random(), "name": "thing %d" % rng.randrange(count) * times,
           "tags": [rng.randrange(100) for _ in range(3)]} for i in range(count)]
by_name = {}
for thing in things:
    by_name.setdefault(thing["name"], []).append(thing["id"])
things.sort(key=lambda thing: (thing["name"], thing["key"]))
sys.stdout.write(json.dumps(things))
sys.stdout.write(json.dumps(by_name, sort_keys=True))
"""


def run(t):
    count, times = (2000000, 1) if t.full else (22000, 60)
    status, out = t.run(["python3", "-c", PROGRAM, str(count), str(times)])
    return [status, len(out), hashlib.sha256(out).hexdigest()]
