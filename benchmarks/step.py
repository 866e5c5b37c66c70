"""How long one training step takes: ours beside the non-private step and the peers.

    python -m benchmarks.step --net cifar --batch 1000 --json

Every contender runs the batch in one piece and in microbatches of 50, 100 and 250, in paired
rounds in one process: a round times each contender once, and a row has the median over rounds
of its fastest size. `ratio` is to the non-private step in one piece, `ratio_best` to its best.
Peak memory is that of a process of its own which takes two steps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.contenders import CONTENDERS, Contender, Step
from benchmarks.nets import NETS

SIZES = (50, 100, 250)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(step: Step, clock: Callable[[], float]) -> float:
    start = clock()
    step()
    return clock() - start


def peak_bytes(net: str, batch: int, contender: int, microbatch: int) -> int:
    """The most memory that two steps held, beyond what imports, the net and the batch take."""
    command = [sys.executable, "-m", "benchmarks.step", "--net", net, "--batch", str(batch)]
    command += ["--peak-of", str(contender), "--microbatch", str(microbatch)]
    command += ["--threads", str(torch.get_num_threads())]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(out.splitlines()[-1])


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_peak(net: str, batch: int, contender: Contender, microbatch: int) -> int:
    step = contender.prepare(NETS[net], batch, microbatch)
    before = resident()
    for _ in range(2):
        step()
    return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def rows(
    net: str,
    batch: int,
    microbatches: Sequence[int],
    rounds: int,
    only: Sequence[str],
    clock: Callable[[], float],
    memory: bool,
) -> list[dict[str, object]]:
    """One row a contender, at its fastest microbatch."""
    taking = [
        (at, c)
        for at, c in enumerate(CONTENDERS)
        if c.installed and (not only or c.library in only)
    ]
    times: dict[tuple[int, int], list[float]] = {}
    sizes = (*(size for size in microbatches if size < batch), batch)
    for size in sizes:
        steps = [(at, c.prepare(NETS[net], batch, size)) for at, c in taking]
        for _, step in steps:
            step()
        for _ in range(rounds):
            for at, step in steps:
                times.setdefault((at, size), []).append(seconds(step, clock))
    median = {key: statistics.median(values) for key, values in times.items()}
    best = {at: min(sizes, key=lambda size: median[at, size]) for at, _ in taking}
    whole, quickest = median[0, batch], median[0, best[0]]
    return [
        {
            "pipeline": contender.pipeline,
            "engine": contender.engine,
            "library": contender.library,
            "physical_batch": best[at],
            "seconds": median[at, best[at]],
            "ratio": median[at, best[at]] / whole,
            "ratio_best": median[at, best[at]] / quickest,
            "peak_bytes": peak_bytes(net, batch, at, best[at]) if memory else None,
        }
        for at, contender in taking
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=sorted(NETS), required=True)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", default=(), help="libraries, torch among them")
    parser.add_argument("--microbatches", nargs="*", type=int, default=SIZES)
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="cpu counts this process alone: for a machine that others use, with one thread",
    )
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--microbatch", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of is not None:
        contender = CONTENDERS[given.peak_of]
        print(measure_peak(given.net, given.batch, contender, given.microbatch))
        return
    clock = CLOCKS[given.clock]
    table = rows(
        given.net,
        given.batch,
        given.microbatches,
        given.rounds,
        given.only,
        clock,
        not given.no_memory,
    )
    if given.json:
        print(json.dumps(table, indent=1))
        return
    print(f"{given.net}, batch {given.batch}, torch {torch.__version__}, {given.threads} threads")
    for row in table:
        peak = row["peak_bytes"]
        print(
            f"{row['pipeline']:12} {row['library']:10} {row['engine']:16}"
            f" {row['physical_batch']:>5} {row['seconds']:8.3f} s"
            f" {row['ratio']:6.2f} {row['ratio_best']:6.2f}"
            + ("" if peak is None else f" {int(peak) / 2**20:8.0f} MiB")
        )


if __name__ == "__main__":
    main()
