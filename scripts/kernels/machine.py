"""A machine that qemu makes in software alone: two serial lines, no disk, no network.

The first line is the kernel's console. On the second, init says `up RELEASE`, and for each run of a program `begin NUMBER`,
its output as lines that start with `| `, and `end NUMBER STATUS`; the last word is `done`. A machine that ends, or must be
ended, without having said that has failed.
"""

import re
import select
import subprocess
import time

QEMU = "qemu-system-x86_64"
# As fast as the host makes them.
FREE = ["-accel", "tcg", "-smp", "2"]
# A machine to measure on: idle, always equally fast, and with a clock that knows nothing of the host. An instruction takes a
# nanosecond, nothing else takes any time, and a time that all wait for comes at once.
COUNTED = ["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off"]
# What the kernel says when it is the kernel that is wrong.
COMPLAINT = re.compile(r"\b(BUG:|WARNING:|Oops|Kernel panic|general protection|INFO: task .* blocked|rcu_.*stall)")


class Broken(Exception):
    """The machine itself failed, not a test."""


def boot(kernel, initramfs, console, patience, processors=FREE):
    """Starts the machine and yields the lines of the second serial line; `patience` is for all of it, in seconds."""
    command = [
        # A plain processor: what it can do more only costs when it is software. Without RDRAND the first who wants a
        # random number would wait for a long time.
        QEMU, "-machine", "q35", *processors, "-cpu", "qemu64,+rdrand", "-m", "1G",
        "-no-reboot", "-nodefaults", "-display", "none",
        "-kernel", kernel.image, "-initrd", initramfs,
        # Warnings go to the console, news does not. No processor is there to be guarded against its own guessing.
        "-append", "console=ttyS0 panic=-1 loglevel=5 mitigations=off",
        "-serial", f"file:{console}", "-serial", "stdio",
    ]
    end = time.monotonic() + patience
    with open(console.with_suffix(".qemu"), "w+") as errors:
        machine = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            finished = False
            for line in lines(machine.stdout, end):
                finished = line == "done"
                if not finished:
                    yield line
            if not finished:
                status = machine.wait()
                errors.seek(0)
                raise Broken(f"the machine ended early, with status {status} of qemu: {errors.read().strip()}")
        finally:
            machine.kill()
            machine.wait()


def lines(stream, end):
    """The lines of a stream up to its end; `Broken` if that does not come before the time `end`."""
    rest = b""
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise Broken("the machine took too long")
        more = stream.read1(65536)
        if not more:
            return
        *whole, rest = (rest + more).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)


def complaints(console):
    """The lines in which the kernel complains."""
    return [line for line in console.read_text(errors="replace").splitlines() if COMPLAINT.search(line)]
