"""Runs every benchmark, one after the other: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import subprocess
import sys

for benchmark in ("appending", "relaying", "loading", "rebuilding", "fulfilment", "serving"):
    print(f"\n{benchmark}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{benchmark}"], check=True)
