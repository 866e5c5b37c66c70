"""A training step of ours in another checkout and in this one, old against new in one run.

    python -m benchmarks.versus OTHER_CHECKOUT --net mnist --batch 256 [--rounds 30]

Each checkout's step runs in a process and an environment (`.venv`) of its own, by turns: a round
times one step of either, in processor time, and the first of them changes from round to round. The
ratio is new over old, the median over rounds; beside it stands the spread of its middle half.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
STEP = """
import sys, time, torch
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.nets import NETS
net, batch, microbatch, pipeline = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
ours = [c for c in CONTENDERS if c.library == "dpigu" and c.pipeline == pipeline]
step = next(c for c in ours if not c.matrices).prepare(NETS[net], batch)
for line in sys.stdin:
    start = time.process_time()
    step(microbatch)
    print(time.process_time() - start, flush=True)
"""


class Checkout:
    """One checkout's step, in a process that waits to be told."""

    def __init__(self, root: Path, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [root / ".venv/bin/python", "-c", STEP, *arguments],
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self) -> float:
        """Seconds of processor time that one step takes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the root of the other checkout, the old one")
    parser.add_argument("--net", required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--microbatch", type=int, default=128)
    parser.add_argument("--pipeline", default="dpsgd")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    arguments = [given.net, str(given.batch), str(given.microbatch), given.pipeline]
    old, new = Checkout(given.other.resolve(), arguments), Checkout(HERE, arguments)
    for _ in range(3):
        old.step(), new.step()
    ratios, times = [], []
    for turn in range(given.rounds):
        first, second = (old, new) if turn % 2 else (new, old)
        took = first.step(), second.step()
        before, after = took if turn % 2 else took[::-1]
        times.append((before, after))
        ratios.append(after / before)
    old.close()
    new.close()
    low, middle, high = statistics.quantiles(ratios, n=4)
    olds, news = (statistics.median(t) for t in zip(*times, strict=True))
    print(
        f"{given.net}, batch {given.batch} in {given.microbatch}s, {given.pipeline}: "
        f"old {olds * 1e3:.1f} ms, new {news * 1e3:.1f} ms, "
        f"new / old {middle:.3f} (middle half {low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
