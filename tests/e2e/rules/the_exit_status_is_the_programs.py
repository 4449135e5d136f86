# SPDX-License-Identifier: MIT
"""Exit statuses: the program's own, 128 + signal, the shell's 126 and 127, and 125 for our own."""
import os
import subprocess

from trial import expect


def status_of(t, *words, managed=True):
    """Without --stats: not all of these write any."""
    prefix = [t.vmfault, "run", "--memory", "32M"] if managed else [t.vmfault]
    done = subprocess.run([*prefix, *words], cwd=t.dir, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, check=False)
    return done.returncode, done.stderr.decode(errors="replace")


def run(t):
    plain, static = t.dir + "/plain", t.dir + "/static"
    with open(plain, "w", encoding="ascii") as file:
        file.write("not a program\n")
    with open(t.dir + "/a.c", "w", encoding="ascii") as file:
        file.write("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-static", "-o", static, t.dir + "/a.c"], check=True)

    for words, wanted in [
            (["--", "sh", "-c", "exit 0"], 0), (["--", "sh", "-c", "exit 7"], 7),
            (["--", "sh", "-c", "kill -TERM $$"], 143), (["--", "sh", "-c", "kill -9 $$"], 137),
            (["--", "no-such-program-anywhere"], 127), (["--", "/no/such/program"], 127),
            (["--", plain], 126), (["--", t.dir], 126), (["--", static], 125)]:
        status, text = status_of(t, *words)
        expect(status == wanted, "%s: %d, not %d; %s" % (words[1:], status, wanted, text))
        if wanted in (125, 126, 127):
            lines = text.strip().splitlines()
            expect(len(lines) == 1 and lines[0].strip(),
                   "%s: not one clear line but %r" % (words[1:], text))

    for words in [["run", "--memory", "0", "--", "true"], ["run", "--memory", "many", "--", "true"],
                  ["run", "--memory", "1", "--", "true"], ["run", "--memory", "64M"],
                  ["run", "--memory", "64M", "--"], ["run", "--no-such-option", "--", "true"],
                  ["run", "--memory", "64M", "--compress", "rle", "--", "true"],
                  ["run", "--memory", "-5M", "--", "true"], ["no-such-verb"]]:
        status, text = status_of(t, *words, managed=False)
        expect(status not in (0, 126, 127) and text.strip(), "%s: %d, %r" % (words, status, text))
        expect(len(text.strip().splitlines()) <= 3, "%s: too many words: %s" % (words, text))

    setuid = t.dir + "/setuid"
    subprocess.run(["cp", "/bin/true", setuid], check=True)
    if os.getuid() == 0:
        os.chmod(setuid, 0o4755)
        status, text = status_of(t, "--", setuid)
        expect(status == 125, "setuid: %d, not 125; %s" % (status, text))
