"""The initramfs of a test machine: busybox, the kernel's modules for networks, and the programs that run there.

They lie where they lie on the host, as some know the path of a program that was built beside them.
"""

import lzma
import shutil
import subprocess
from pathlib import Path

INIT = Path(__file__).resolve().parent / "init"
# Of the tree of modules what a network and the tests' private mounts may need; the kernel loads it on demand.
MODULES = ["net", "lib", "crypto", "arch", "drivers/net", "fs/overlayfs"]
# Where the commands of the tests' scripts and of the kernel (modprobe) are looked for.
COMMANDS = ["bin", "sbin"]


class Run:
    """One run of a program; `limit` is how many seconds it may take, by the machine's clock."""

    def __init__(self, program, folder, limit, *arguments):
        self.program, self.folder, self.limit, self.arguments = program, folder, limit, arguments

    def line(self, number):
        """As init reads it."""
        return f"{number}\t{self.limit}\t{self.folder}\t{self.program}\t{' '.join(self.arguments)}\n"


def pack(kernel, programs, runs, has, folder, without=()):
    """Makes the initramfs and returns its path.

    init works through the `runs`; `has` is what the kernel must have, in words that the tests know; modules whose names are
    in `without` are left out.
    """
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    for part in ("proc", "sys", "dev", "tmp", "scratch", "run", "root", "etc", "var", "usr", *COMMANDS):
        (root / part).mkdir(parents=True)
    busybox = shutil.which("busybox")
    shutil.copy(busybox, root / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("/bin/busybox")
    (root / "sbin/modprobe").symlink_to("/bin/busybox")
    for part in COMMANDS:
        (root / "usr" / part).symlink_to(f"/{part}")
    shutil.copy(INIT, root / "init")
    (root / "runs").write_text("".join(run.line(number) for number, run in enumerate(runs)))
    (root / "has").write_text(" ".join(has))
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/resolv.conf").write_text("")
    add_modules(kernel, root, without)
    for program in programs:
        inside = root / program.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        # Without what a debugger wants they are a tenth of the size.
        subprocess.run(["strip", "--strip-debug", "-o", inside, program], check=True)
    image = folder / "initramfs"
    names = "".join(f"{path.relative_to(root)}\n" for path in sorted(root.rglob("*")))
    with open(image, "wb") as file:
        subprocess.run(
            [busybox, "cpio", "-o", "-H", "newc", "-R", "0:0"],
            cwd=root, input=names.encode(), stdout=file, stderr=subprocess.DEVNULL, check=True,
        )
    return image


def add_modules(kernel, root, without):
    """Copies the modules, unpacked, as busybox cannot read xz there, and writes down what depends on what."""
    target = root / "lib/modules" / kernel.release
    for part in MODULES:
        for module in sorted((kernel.modules / "kernel" / part).rglob("*.ko*")):
            inside = target / module.relative_to(kernel.modules)
            if "ethernet" in inside.parts or module.name.partition(".")[0] in without:
                continue
            inside.parent.mkdir(parents=True, exist_ok=True)
            if module.suffix == ".xz":
                inside.with_suffix("").write_bytes(lzma.decompress(module.read_bytes()))
            else:
                shutil.copy(module, inside)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(kernel.modules / name, target / name)
    subprocess.run(["busybox", "depmod", "-b", root.resolve(), kernel.release], check=True)
