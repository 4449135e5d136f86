# SPDX-License-Identifier: MIT
"""redis-server under redis-benchmark, a BGSAVE in the middle; its dump loads with every key right."""
import os
import subprocess

from trial import expect
import resp

NEEDS = ["redis-check-rdb", "redis-benchmark"]


def run(t):
    keys = 140000 if t.full else 28000
    socket = t.dir + "/socket"
    server = t.start(resp.server_command(t.dir))
    try:
        client = resp.Client(socket)
        resp.fill(client, keys)
        load = subprocess.Popen(
            ["redis-benchmark", "-s", socket, "-t", "set,get", "-n", str(keys * 2), "-r", "10000",
             "-d", "500", "-P", "8", "-q"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        saving = client.call("BGSAVE")
        wrong_during = resp.wrong_keys(client, keys)
        benchmark = load.communicate(timeout=t.timeout)[0]
        expect(load.returncode == 0, "redis-benchmark: %s" % benchmark.decode()[-200:])
        saved = client.wait_for_save()
        wrong_after = resp.wrong_keys(client, keys)
        count = client.call("DBSIZE")
        client.socket.sendall(client.encode(["SHUTDOWN", "NOSAVE"]))
        status, _ = server.wait()
    except BaseException:
        server.kill()
        raise

    # Another server, bare, loads what this one saved.
    os.unlink(t.dir + "/redis-server")
    loader = t.run_bare(resp.server_command(t.dir))
    try:
        client = resp.Client(socket)
        wrong_loaded = resp.wrong_keys(client, keys)
    finally:
        loader.kill()
    return [status, saving, saved, wrong_during, wrong_after, wrong_loaded, count > keys]
