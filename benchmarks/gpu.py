"""`make gpu`: on a GPU, the tests of a device, then private steps are timed; the table is written.

Meant for less than 8 minutes. Without a GPU it says so and does nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Session, Settings, build_model
from dpigu.trainers.data import SPECS
from dpigu.trainers.data.making import data_from

TESTS = ["-m", "pytest", "-x", "-q", "tests/device/test_on_a_gpu.py"]
NETS = {"mnist": "paper-mnist-cnn", "cifar10": "paper-cifar-cnn"}
STEPS, BATCH = 20, 1000
OUT = Path("benchmarks/results/gpu.json")


def main(available: Callable[[], bool] = torch.cuda.is_available) -> int:
    """The exit status: 0 if the tests pass and every net was timed, 2 without a GPU."""
    if not available():
        print("make gpu needs a CUDA device, and torch sees none here.", file=sys.stderr)
        return 2
    if subprocess.run([sys.executable, *TESTS], timeout=180).returncode:
        return 1
    rows = [
        timed(net, preset, "cuda", STEPS, BATCH) for net in NETS for preset in ("dpsgd", "adadpigu")
    ]
    OUT.write_text(json.dumps({"gpu": torch.cuda.get_device_name(), "rows": rows}, indent=1))
    for row in rows:
        print(f"{row['net']:10} {row['preset']:10} {1000 * row['seconds']:.1f} ms a step")
    return 0


def timed(net: str, preset: str, device: str, steps: int, batch: int) -> Mapping[str, Any]:
    """Seconds a step of a data set's own net on made-up records, after the first half of them."""
    spec, draw = SPECS[net], torch.Generator().manual_seed(0)
    x = torch.randn((2 * batch + 8, *spec.shape), generator=draw)
    y = torch.randint(10, (2 * batch + 8,), generator=draw)
    cut = 2 * batch
    data = data_from(train=(x[:cut], y[:cut]), test=(x[cut:], y[cut:]), records=cut, classes=10)
    settings = Settings(
        noise_multiplier=1.0, expected_batch=batch, device=device, evaluations=1, accountant="rdp"
    )
    plan, began = PRESETS[preset].plan(steps), 0.0
    with Session(plan, data, build_model(NETS[net], spec, 0), settings) as session:
        for step in session:
            step.apply()
            if step.number in (steps // 2, steps):
                _finish(device)
                now = time.monotonic()
                elapsed, began = now - began, now
    return {"net": net, "preset": preset, "seconds": elapsed / (steps - steps // 2)}


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
