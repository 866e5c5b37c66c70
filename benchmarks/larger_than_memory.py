"""A run on a memory map that is several times what the process may hold, under a limit.

    python -m benchmarks.larger_than_memory --gigabytes 4 --limit 1.5

The records are made and written first, then a second process trains with its data segment limited
(`RLIMIT_DATA`: what it allocates for itself; pages of a mapped file are the system's). It prints
the size of the map, the limit, and the most memory of its own that the process held.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WIDTH, BLOCK = 1024, 2**16
HELD_OUT = 256


def main() -> None:
    """Write the records, and train on them in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--limit", type=float, default=1.5, help="gigabytes of its own")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.folder is not None:
        _train(options.folder, options.limit)
        return
    with tempfile.TemporaryDirectory() as name:
        count = _written(Path(name), options.gigabytes)
        print(f"{count} records of {WIDTH} floats: {4 * count * WIDTH / 1e9:.2f} GB on the disk")
        command = [sys.executable, "-m", "benchmarks.larger_than_memory", "--folder", name]
        subprocess.run([*command, "--limit", str(options.limit)], check=True)


def _written(folder: Path, gigabytes: float) -> int:
    """Write records whose label is the sign of their first number; how many there are."""
    count = int(gigabytes * 1e9 / (4 * WIDTH))
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (count, WIDTH))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int64, (count,))
    draw = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        piece = draw.standard_normal((min(BLOCK, count - start), WIDTH), dtype=np.float32)
        x[start : start + BLOCK], y[start : start + BLOCK] = piece, piece[:, 0] > 0
    return count


def _train(folder: Path, limit: float) -> None:
    """Five steps under the limit."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e9),) * 2)
    import torch
    from dpigu.mechanisms import dpsgd

    import dpigu

    torch.set_num_threads(1)
    x, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "y"))
    data = dpigu.data_from(
        train=(x[HELD_OUT:], y[HELD_OUT:]),
        test=(x[:HELD_OUT], y[:HELD_OUT]),
        records=len(x),
        classes=2,
    )
    settings = dpigu.Settings(
        noise_multiplier=1.0, expected_batch=512, accountant="rdp", evaluations=1
    )
    run = dpigu.train(dpsgd(5), data, torch.nn.Linear(WIDTH, 2), settings, progress=False)
    held = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own = int(held["RssAnon"].split()[0]) / 1e6
    print(f"limit {limit:.2f} GB, own memory at the end {own:.2f} GB, {run.summary['steps']} steps")


if __name__ == "__main__":
    main()
