# SPDX-License-Identifier: MIT
"""As much of a Redis client as the tests and the benchmark need."""
import os
import random
import shutil
import socket
import time


def server_program(directory):
    """A path to run redis-server by: Debian's redis-tools holds it under another name."""
    path = os.path.join(directory, "redis-server")
    if not os.path.exists(path):
        os.symlink(shutil.which("redis-check-rdb"), path)
    return path


def server_command(directory, *more):
    return [server_program(directory), "--port", "0", "--unixsocket",
            os.path.join(directory, "socket"), "--save", "", "--dir", directory,
            "--loglevel", "warning", *more]


class Client:
    def __init__(self, path, patience=30):
        end = time.monotonic() + patience
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.file = self.socket.makefile("rb")
        while self.call("PING") != b"PONG":  # it may still be loading
            time.sleep(0.05)

    @staticmethod
    def encode(words):
        out = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            out += [b"$%d\r\n" % len(word), word, b"\r\n"]
        return b"".join(out)

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.file.read(size + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind not in (b"+", b"-"):
            raise OSError("redis-server is gone")
        return rest

    def call(self, *words):
        self.socket.sendall(self.encode(words))
        return self.answer()

    def pipeline(self, commands):
        self.socket.sendall(b"".join(map(self.encode, commands)))
        return [self.answer() for _ in commands]

    def wait_for_save(self):
        """The status of the background save that runs now or ran last."""
        while True:
            info = self.call("INFO", "persistence").decode()
            if "rdb_bgsave_in_progress:0" in info:
                return "ok" if "rdb_last_bgsave_status:ok" in info else "failed"
            time.sleep(0.05)


VALUE = 2000


def value_of(number):
    """What key number holds: half of it random, half one letter."""
    return random.Random(number).randbytes(VALUE // 2) + b"%c" % (97 + number % 26) * (VALUE // 2)


def fill(client, keys):
    for first in range(0, keys, 500):
        answers = client.pipeline([("SET", "mine:%d" % i, value_of(i))
                                   for i in range(first, min(first + 500, keys))])
        if any(answer != b"OK" for answer in answers):
            raise OSError("SET was refused: %r" % answers[0])


def wrong_keys(client, keys):
    """How many keys do not hold what was put there."""
    wrong = 0
    for first in range(0, keys, 500):
        numbers = range(first, min(first + 500, keys))
        answers = client.pipeline([("GET", "mine:%d" % i) for i in numbers])
        wrong += sum(answer != value_of(i) for i, answer in zip(numbers, answers))
    return wrong
