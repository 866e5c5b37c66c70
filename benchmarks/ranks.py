"""What a step costs on several ranks of one machine: time, and the bytes that a rank sends.

    python -m benchmarks.ranks --net mlp --batch 512 --ranks 1 2

The groups of ranks take turns, so that what else the machine does falls on all of them. A step is a
session's: sampled rows, norms, clipped sums, their reduction, noise of a rank's own coordinates,
the noised vector gathered, optimizer and ledger. One thread a rank.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
from dpigu.trainers.distributed import Processes

import dpigu
from benchmarks.nets import NETS

SENT = {"bytes": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=sorted(NETS), default="mlp")
    parser.add_argument("--batch", type=int, default=512, help="the expected batch of all ranks")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    context, groups = get_context("fork"), {}
    with tempfile.TemporaryDirectory() as folder:
        for size in args.ranks:
            pipes = [context.Pipe() for _ in range(size)]
            where = Path(folder) / str(size)
            for rank, (_, theirs) in enumerate(pipes):
                given = (rank, size, where, theirs, args.net, args.batch)
                context.Process(target=work, args=given, daemon=True).start()
            groups[size] = [ours for ours, _ in pipes]
        told: dict[int, list[tuple[float, int]]] = {size: [] for size in groups}
        for _ in range(args.rounds + 1):
            for size, ends in groups.items():
                for end in ends:
                    end.send("step")
                told[size].append(max(end.recv() for end in ends))
    for size, found in told.items():
        seconds = statistics.median(took for took, _ in found[1:])
        print(f"{args.net}, batch {args.batch}, ranks {size}: {seconds * 1e3:.0f} ms a step, "
              f"{found[-1][1] / 2**20:.2f} MiB sent by a rank")  # fmt: skip


def work(rank: int, size: int, where: Path, end: Connection, net: str, batch: int) -> None:
    """A rank's life: a step whenever it is asked, and how long it took."""
    torch.set_num_threads(1)
    if size > 1:
        address = f"file://{where}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    count_bytes()
    x, y = NETS[net].batch(4 * batch)
    held_out, targets = NETS[net].batch(4 * batch + 2)
    public = held_out[-2:], targets[-2:]
    data = dpigu.data_from(train=(x, y), test=public, records=4 * batch, classes=10)
    pipeline = dpigu.Pipeline(dpigu.Flat(bound=1.0), dpigu.Gaussian())
    plan = dpigu.Plan((dpigu.Phase("main", pipeline, 1000),))
    settings = dpigu.Settings(
        noise_multiplier=1.0, expected_batch=batch, accountant="rdp", device="cpu", evaluations=1
    )
    model = NETS[net].make()
    with contextlib.suppress(EOFError), dpigu.Session(plan, data, model, settings) as session:
        steps = iter(session)
        while end.recv():
            SENT["bytes"], began = 0, time.perf_counter()
            next(steps).apply()
            end.send((time.perf_counter() - began, SENT["bytes"]))


def count_bytes() -> None:
    """Count what a rank sends of each vector: all but its own share, there and back."""
    summed, joined = Processes.summed, Processes.joined

    def counted_sum(self: Processes, sum_K: torch.Tensor) -> torch.Tensor:
        own_S = summed(self, sum_K)
        SENT["bytes"] += own_S.nbytes * (self.size - 1)
        return own_S

    def counted_join(self: Processes, own_S: torch.Tensor, size: int) -> torch.Tensor:
        SENT["bytes"] += own_S.nbytes * (self.size - 1)
        return joined(self, own_S, size)

    Processes.summed, Processes.joined = counted_sum, counted_join  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
