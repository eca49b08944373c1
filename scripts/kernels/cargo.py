"""Programs of the workspace for the test machines, where there are no libraries: cargo links them statically."""

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TRIPLE = "x86_64-unknown-linux-gnu"


def build(*words):
    """Builds by a command of cargo's that would run what it builds, and returns what cargo says of each program."""
    done = subprocess.run(
        [os.environ.get("CARGO", "cargo"), *words, "--no-run", "--locked", "--target", TRIPLE,
         "--message-format", "json-render-diagnostics"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE,
        env=os.environ | {f"CARGO_TARGET_{TRIPLE.upper().replace('-', '_')}_RUSTFLAGS": "-C target-feature=+crt-static"},
    )
    return [built for built in map(json.loads, done.stdout.splitlines()) if built.get("executable")]
