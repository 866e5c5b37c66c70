"""The most memory that steps of a large model hold: a perceptron of so many trainable parameters.

    python -m benchmarks.counts.memory --parameters 1e8 [--preset adadpigu]

A session takes `--steps` steps of `--batch` expected records; told is the most that the process
held resident (`getrusage`), imports and model included, after the first step, which compares
engines, and at the end.
"""

from __future__ import annotations

import argparse
import math
import resource
import time

import torch
from dpigu.mechanisms import PRESETS
from torch import nn

import dpigu

INPUTS, CLASSES, RECORDS, HELD_OUT = 784, 10, 256, 8


def perceptron(parameters: float) -> nn.Module:
    """Two hidden layers of one width w: w² + (inputs + classes + 2) w + classes parameters."""
    half = (INPUTS + CLASSES + 2) / 2
    width = round(math.sqrt(half**2 + parameters) - half)
    layers = (nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def peak_gib() -> float:
    """What this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, default=1e8)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="dpsgd")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2, help="at least 2, one a phase")
    given = parser.parse_args()
    x = torch.randn((RECORDS + HELD_OUT, INPUTS), generator=torch.Generator().manual_seed(0))
    y = torch.arange(len(x)) % CLASSES
    data = dpigu.data_from(
        train=(x[HELD_OUT:], y[HELD_OUT:]),
        test=(x[:HELD_OUT], y[:HELD_OUT]),
        records=RECORDS,
        classes=CLASSES,
    )
    model = perceptron(given.parameters)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {given.preset}")
    settings = dpigu.Settings(
        noise_multiplier=1.0, expected_batch=given.batch, accountant="rdp", evaluations=1
    )
    plan, began = PRESETS[given.preset].plan(given.steps), time.perf_counter()
    with dpigu.Session(plan, data, model, settings) as session:
        for step in session:
            step.apply()
            took, began = time.perf_counter() - began, time.perf_counter()
            print(f"step {step.number}, {took:.0f} s: {peak_gib():.2f} GiB at most", flush=True)


if __name__ == "__main__":
    main()
