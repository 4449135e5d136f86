# SPDX-License-Identifier: MIT
"""qemu-system-x86_64 (its own translator, no KVM) boots a guest that fills and checks memory."""
import os
import subprocess

NEEDS = ["qemu-system-x86_64", "as", "ld"]


def run(t):
    megabytes = 300 if t.full else 48
    guest = os.path.join(t.inputs, "guest-%d" % megabytes)
    if not os.path.exists(guest):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "qemu.S")
        subprocess.run(["as", "--32", "--defsym", "MEGABYTES=%d" % megabytes,
                        "-o", guest + ".o", source], check=True)
        subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x100000", "-o", guest, guest + ".o"],
                       check=True)
    return list(t.run([
        "qemu-system-x86_64", "-accel", "tcg", "-m", "%d" % (megabytes + 32), "-nodefaults",
        "-display", "none", "-no-reboot", "-debugcon", "stdio", "-kernel", guest,
        "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]))
