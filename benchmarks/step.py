"""How long one training step takes: ours beside the non-private step and the peers.

    python -m benchmarks.step --net cifar --batch 1000 --json

Every contender first runs the batch in microbatches of 50, 100 and 250 and in one piece, each
once. Sizes that were near its fastest then run in paired rounds in one process: a round times each
contender at each of them once. A row has the median of its fastest size, and the median over
rounds of its time over the non-private step's: `ratio` to the one in one piece, `ratio_best` to
the fastest one. Peak memory is that of a process of its own, from after the imports to the end of
two steps, net and batch included. It tells on stderr what it does, and stops within `--minutes`: a
third of them goes to the first runs, in equal shares, of which a slow contender tries fewer sizes;
rounds (two at least) begin in the first half, peaks in the first nine tenths.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.machine import available_bytes, describe_machine, memory_of_this_process
from benchmarks.nets import NETS
from benchmarks.peers.contenders import CONTENDERS, Contender

SIZES = (50, 100, 250)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SMALL = 5
NEAR = 1.3
"""Sizes that took longer than their contender's fastest by more than this run no rounds."""


def timed(step: Callable[[int], None], size: int, clock: Callable[[], float]) -> float:
    start = clock()
    step(size)
    return clock() - start


def peak_bytes(net: str, batch: int, contender: int, microbatch: int) -> int:
    """The most memory that the contender held in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.step", "--net", net, "--batch", str(batch)]
    command += ["--peak-of", str(contender), "--microbatches", str(microbatch)]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def measure_peak(net: str, batch: int, contender: Contender, microbatch: int) -> int:
    """A small step first, which loads what a library loads late; then two real ones."""
    contender.prepare(NETS[net], 2)(2)
    before, _ = memory_of_this_process(reset=True)
    step = contender.prepare(NETS[net], batch)
    for _ in range(2):
        step(microbatch)
    _, peak = memory_of_this_process()
    return peak - before


def estimate(net: str, contender: Contender, batch: int, clock: Callable[[], float]) -> float:
    """Seconds a step, on the line through two small batches."""
    took = []
    for small in (SMALL, 2 * SMALL):
        step = contender.prepare(NETS[net], small)
        step(small)
        took.append(timed(step, small, clock))
    return took[1] + max(0.0, took[1] - took[0]) * (batch / SMALL - 2)


def sizes_of(
    contender: Contender, batch: int, microbatches: Sequence[int], matrix: int
) -> list[int]:
    """The microbatches whose B × D matrices fit into a third of the free memory."""
    room = available_bytes() / 3
    sizes = (*(size for size in microbatches if size < batch), batch)
    whole = contender.library != "jax_privacy"  # it takes divisors of the batch only
    return [
        size
        for size in sizes
        if (whole or batch % size == 0) and contender.matrices * size * matrix <= room
    ]


def race(
    net: str,
    batch: int,
    microbatches: Sequence[int],
    rounds: int,
    limit: float,
    only: Sequence[str],
    clock: Callable[[], float],
    seconds: float,
) -> tuple[dict[tuple[int, int], list[float]], list[str]]:
    """Times by contender and size, one a round; and who was left out, with the reason.

    First runs take two thirds of the seconds, in equal shares; no round but the second begins
    after the last.
    """
    until, share = time.monotonic() + seconds, seconds * 2 / 3 / len(CONTENDERS)
    matrix = 4 * sum(p.numel() for p in NETS[net].make().parameters())
    steps: dict[int, tuple[Callable[[int], None], list[int]]] = {}
    left_out = []
    for at, contender in enumerate(CONTENDERS):
        if not contender.takes(net) or (only and contender.library not in only):
            continue
        name = named(contender)
        if contender.matrices and estimate(net, contender, batch, clock) > limit:
            left_out.append(f"{name}: a step would pass {limit:.0f} s")
            continue
        sizes = sizes_of(contender, batch, microbatches, matrix)
        if not sizes:
            left_out.append(f"{name}: no microbatch fits into memory")
            continue
        steps[at] = contender.prepare(NETS[net], batch), sizes
    first: dict[tuple[int, int], float] = {}
    for at, (step, sizes) in steps.items():
        began = time.monotonic()
        for size in sizes:
            late = time.monotonic() - began > share
            if late and size != sizes[0] and (at, size) != (0, batch):
                continue
            step(size)
            first[at, size] = timed(step, size, clock)
            say(f"{named(CONTENDERS[at])} in {size}: {first[at, size]:.3f} s")
    times: dict[tuple[int, int], list[float]] = {key: [] for key in near(first, batch)}
    for done in range(rounds):
        if done >= 2 and time.monotonic() > until:
            break
        for at, size in times:
            times[at, size].append(timed(steps[at][0], size, clock))
        say(f"round {done + 1} of {rounds}")
    return times, left_out


def near(first: Mapping[tuple[int, int], float], batch: int) -> list[tuple[int, int]]:
    """Every contender's sizes that took about as long as its fastest, and the yardstick in one
    piece."""
    best: dict[int, float] = {}
    for (at, _), took in first.items():
        best[at] = min(took, best.get(at, took))
    return [key for key, took in first.items() if took <= NEAR * best[key[0]] or key == (0, batch)]


def named(contender: Contender) -> str:
    return f"{contender.pipeline}, {contender.library} {contender.engine}"


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def rows(
    net: str, batch: int, times: Mapping[tuple[int, int], Sequence[float]], until: float
) -> Iterator[dict[str, object]]:
    """One row a contender, at its fastest microbatch; memory as long as `until` lies ahead."""
    best: dict[int, int] = {}
    for at, size in sorted(times, key=lambda key: statistics.median(times[key]), reverse=True):
        best[at] = size

    def ratio(at: int, to: int) -> float:
        pairs = zip(times[at, best[at]], times[0, to], strict=True)
        return statistics.median(own / other for own, other in pairs)

    for at in sorted(best):
        contender = CONTENDERS[at]
        yield {
            "pipeline": contender.pipeline,
            "engine": contender.engine,
            "library": contender.library,
            "physical_batch": best[at],
            "seconds": statistics.median(times[at, best[at]]),
            "ratio": ratio(at, batch),
            "ratio_best": ratio(at, best[0]),
            "peak_bytes": peak_bytes(net, batch, at, best[at])
            if time.monotonic() < until
            else None,
        }


def line(row: Mapping[str, object]) -> str:
    peak = row["peak_bytes"]
    return (
        f"{row['pipeline']:12} {row['library']:12} {row['engine']:16}"
        f" {row['physical_batch']:>5} {row['seconds']:8.3f} s"
        f" {row['ratio']:6.2f} {row['ratio_best']:6.2f}"
        + ("" if not isinstance(peak, int) else f" {peak / 2**20:8.0f} MiB")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=sorted(NETS), required=True)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", default=(), help="libraries, torch among them")
    parser.add_argument("--microbatches", nargs="*", type=int, default=SIZES)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds that a step may take")
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="cpu counts this process alone: for a machine that others use, with one thread",
    )
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--out", type=Path, help="write rows, machine and versions to this file")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])  # for jax's threads
    if given.peak_of is not None:
        size = given.microbatches[0]
        print(measure_peak(given.net, given.batch, CONTENDERS[given.peak_of], size))
        return
    began, clock, start = os.getloadavg()[0], CLOCKS[given.clock], time.monotonic()
    half, end = 30 * given.minutes, start + 54 * given.minutes
    times, left_out = race(
        given.net,
        given.batch,
        given.microbatches,
        given.rounds,
        given.limit,
        given.only,
        clock,
        half,
    )
    table = []
    for row in rows(given.net, given.batch, times, start if given.no_memory else end):
        table.append(row)
        if not given.json:
            print(line(row), flush=True)
    if given.out is not None:
        command = " ".join(sys.argv[1:]).replace(f" --out {given.out}", "")
        about = {
            "command": f"python -m benchmarks.step {command}",
            "net": given.net,
            "batch": given.batch,
            "rounds": len(next(iter(times.values()))),
            "clock": given.clock,
            "machine": describe_machine(given.threads),
            "load": [round(began, 2), round(os.getloadavg()[0], 2)],
            "left_out": left_out,
            "rows": table,
        }
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    if given.json:
        print(json.dumps(table, indent=1))
        return
    print(f"{given.net}, batch {given.batch}, torch {torch.__version__}, {given.threads} threads")
    for reason in left_out:
        print(f"left out: {reason}")


if __name__ == "__main__":
    main()
