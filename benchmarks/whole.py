"""The whole training step over the engine alone (`python -m benchmarks.whole --net mnist`).

The whole step is what `trainers.train` does: sampling, gathering the batch, rows, guard, noise,
stages, optimizer and the ledger on disk. It is the time of a run of 3·S steps less that of a run
of S, over 2·S: what a run does once cancels. The engine alone forms the norms and the clipped sum
of a batch of the expected size, in the same microbatches. Rounds are paired; medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Settings, Tensors, train
from dpigu.trainers.data import SPECS, Data
from dpigu.trainers.engines import GhostEngine, norms_of, trainable
from dpigu.trainers.engines.microbatch import automatic, evened
from dpigu.trainers.tasks.losses import cross_entropy

from benchmarks.nets import NETS
from benchmarks.peers.contenders import last_phase, pieces
from benchmarks.step import CLOCKS

PRESET, RECORDS, BATCH = "adadpigu", 10_000, 1000
Clock = Callable[[], float]
DATA = {"mnist": "mnist", "cifar": "cifar10"}
"""The nets whose step is taken apart, and the data whose shape they have."""


def made_up(net: str) -> Data:
    spec = SPECS[DATA[net]]
    x, y = NETS[net].batch(RECORDS)
    return Data(replace(spec, records=RECORDS), Tensors(x, y), Tensors(x[:10] + 1.0, y[:10]))


def run_seconds(net: str, data: Data, steps: int, microbatch: int, clock: Clock) -> float:
    """A run of so many steps, folder and ledger included."""
    settings = Settings(
        noise_multiplier=1.0,
        expected_batch=BATCH,
        physical_batch=microbatch,
        evaluations=1,
        accountant="rdp",
        device="cpu",
    )
    plan = PRESETS[PRESET].plan(steps)
    with tempfile.TemporaryDirectory() as folder:
        start = clock()
        train(plan, data, NETS[net].make(), settings, out=Path(folder) / "run", progress=False)
        return clock() - start


def engine_alone(net: str, microbatch: int) -> Callable[[], None]:
    """Norms and clipped sum of a batch under the transform of the preset's last phase."""
    model = NETS[net].make()
    x, y = NETS[net].batch(BATCH)
    bound = last_phase(PRESET, model)
    engine = GhostEngine(model, cross_entropy, norms_of(bound.pipeline), microbatch)
    weights = {name: p.detach() for name, p in trainable(model).items()}

    def once() -> None:
        context = bound.pipeline.open(bound.states, bound.clock)
        for x_B, y_B in pieces(x, y, microbatch):
            valid_B = torch.ones(len(x_B), dtype=torch.bool)
            rows = engine.rows(weights, x_B, y_B, valid_B, context.transform)
            norms_BG = rows.norm_upper_bounds()
            rows.weighted_sum((0.5 / norms_BG).clamp(max=1))

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=sorted(DATA), required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net, clock, few = given.net, CLOCKS[given.clock], given.steps
    model, data = NETS[net].make(), made_up(net)
    size = sum(p.numel() for p in model.parameters())
    records = automatic(model, NETS[net].batch(1)[0], size, fast=True)
    microbatch = evened(records, BATCH)
    alone = engine_alone(net, microbatch)
    alone()
    run_seconds(net, data, few, microbatch, clock)
    whole, engine, ratios = [], [], []
    for _ in range(given.rounds):
        long = run_seconds(net, data, 3 * few, microbatch, clock)
        whole.append((long - run_seconds(net, data, few, microbatch, clock)) / (2 * few))
        start = clock()
        for _ in range(few):
            alone()
        engine.append((clock() - start) / few)
        ratios.append(whole[-1] / engine[-1])
    print(
        f"{net}, {PRESET}, expected batch {BATCH}, microbatches of {microbatch}: whole step "
        f"{1e3 * statistics.median(whole):.1f} ms, engine alone "
        f"{1e3 * statistics.median(engine):.1f} ms, ratio {statistics.median(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
