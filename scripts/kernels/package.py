"""Kernel packages of Debian, fetched and unpacked beside the build, never installed.

apt is asked with a list of sources, indices and a cache of our own: the machine's are only read, to learn which mirror of
Debian it uses. Signatures and sums are checked by apt as always (apt-secure(8)). What was fetched once is used again;
removing the folder asks for the newest one.
"""

import shutil
import subprocess
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NoKernel(Exception):
    """A kernel that cannot be had, and why."""


class Kernel:
    """An unpacked kernel package."""

    def __init__(self, folder):
        self.image = only(folder, "boot/vmlinuz-*")
        self.modules = only(folder, "lib/modules/*", "usr/lib/modules/*")
        self.release = self.modules.name


def only(folder, *patterns):
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    if len(found) != 1:
        raise NoKernel(f"not exactly one {' or '.join(patterns)} in {folder}: {[str(path) for path in found]}")
    return found[0]


def run(*command, **options):
    """The standard output of a command; its standard error is told if it fails."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    except FileNotFoundError:
        raise NoKernel(f"there is no {command[0]}: kernels are fetched with Debian's package tools") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NoKernel(f"{command[0]} {command[-1]} failed:\n    " + "\n    ".join(said[-20:]))
    return done.stdout


def mirror():
    """The mirror of Debian that this machine uses; the project's own elsewhere, on Ubuntu for example."""
    listed = run("apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages")
    for line in listed.splitlines():
        if line.startswith("Debian|Debian|"):
            return line.rpartition("|")[2]
    return MIRROR


def fetch(package, suite, folder):
    """The kernel that `package`, a metapackage of Debian's `suite`, depends on; kept in `folder`."""
    unpacked = folder / "package"
    if not unpacked.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("sources", "lists/partial", "cache/archives/partial", "unpacking"):
            (folder / part).mkdir(parents=True)
        apt = own_apt(suite, folder)
        run("apt-get", *apt, "--error-on=any", "update")
        named = run("apt-cache", *apt, "depends", "--important", package)
        kernels = [line.split()[-1] for line in named.splitlines() if "Depends: linux-image-" in line]
        if len(kernels) != 1:
            raise NoKernel(f"{package} of {suite} does not depend on one kernel, but on {kernels}")
        run("apt-get", *apt, "download", kernels[0], cwd=folder)
        run("dpkg-deb", "--extract", only(folder, "linux-image-*.deb"), folder / "unpacking")
        for part in ("sources", "lists", "cache"):
            shutil.rmtree(folder / part)
        (folder / "unpacking").rename(unpacked)
    return Kernel(unpacked)


def own_apt(suite, folder):
    """The options with which apt knows nothing but this suite."""
    if not KEYRING.exists():
        raise NoKernel(f"{KEYRING} is missing: install debian-archive-keyring")
    (folder / "sources/debian.sources").write_text(
        f"Types: deb\nURIs: {mirror()}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\nSigned-By: {KEYRING}\n"
    )
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": folder.resolve() / "sources",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::status": "/dev/null",
        "Dir::State::Lists": folder.resolve() / "lists",
        "Dir::Cache": folder.resolve() / "cache",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Retries": "3",
        # The build's folder need not be readable for apt's own user.
        "APT::Sandbox::User": "root",
    }
    return ["-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
