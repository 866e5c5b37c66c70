"""How often the mechanism audit contradicts what is true, and how far it reaches.

    python -m benchmarks.audits.audit_calibration [--seeds 20] [--quick] [--sigma 1] [--out FILE]

Every private preset, or those given, over fixed seeds; the presets take turns. With --out each
audit is a line of a file, and a second start goes on where the first one stopped. The number of
contradictions among all audits is at most the one that a correct audit passes once in a thousand
repetitions of the whole.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from dpigu.audits.mechanism import audit_mechanism
from dpigu.audits.mechanism.report import MechanismAudit
from dpigu.mechanisms import PRESETS
from scipy.stats import binom

PRIVATE = tuple(name for name, preset in PRESETS.items() if preset.plan(2).private)
STEPS = 100
CONFIDENCE = 0.95
RARE = 1e-3


@contextmanager
def repeatable(*seed: int) -> Iterator[None]:
    """The operating system's entropy replaced by a seed, for noise and for sampling."""
    generator = np.random.PCG64(seed)
    with patch("dpigu.dpcore.randomness.system_words", generator.random_raw):
        yield


def audited(name: str, seed: int, *, quick: bool, sigma: float = 1.0) -> MechanismAudit:
    """One audit of a preset at a seed."""
    with repeatable(seed, PRIVATE.index(name)):
        plan = PRESETS[name].plan(STEPS).scaled_noise(sigma)
        return audit_mechanism(plan, confidence=CONFIDENCE, quick=quick)


def allowed(count: int) -> int:
    """The least k with P[Bin(count, 5%) > k] ≤ 1/1000."""
    return int(binom.isf(RARE, count, 1 - CONFIDENCE))


def done(out: Path | None) -> list[dict[str, Any]]:
    """The audits that a file already holds; a line cut short counts for nothing."""
    if out is None or not out.exists():
        return []
    lines = [line for line in out.read_text().splitlines() if line.endswith("}")]
    return [json.loads(line) for line in lines]


def told(found: list[dict[str, Any]]) -> Iterator[str]:
    """A line for every preset, and one for all: audits, contradictions, and how far they reach."""
    for name in sorted({row["preset"] for row in found}):
        own = [row for row in found if row["preset"] == name]
        reaches = sorted(row["reach"] for row in own)
        wrong = sum(row["p"] < 1 - CONFIDENCE for row in own)
        yield (
            f"{name:22} {wrong:2} of {len(own):3} contradicted; reach: least {reaches[0]:.3f}, "
            f"median {reaches[len(own) // 2]:.3f}"
        )
    wrong = sum(row["p"] < 1 - CONFIDENCE for row in found)
    seconds = sum(row["seconds"] for row in found) / max(1, len(found))
    all_told = f"{wrong} of {len(found)} contradicted, {allowed(len(found))} allowed"
    yield f"{all_told}; {seconds:.1f} s each"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--preset", action="append", choices=PRIVATE)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = done(given.out)
    known = {(row["preset"], row["seed"]) for row in found}
    for seed in range(given.seeds):
        for name in given.preset or PRIVATE:
            if (name, seed) in known:
                continue
            began = time.process_time()
            audit = audited(name, seed, quick=given.quick, sigma=given.sigma)
            row = {
                "preset": name,
                "seed": seed,
                "p": audit.p_value,
                "reach": audit.tests[0].reach,
                "tests": {test.name: test.p_value for test in audit.tests},
                "sampler": audit.sampler.p_value,
                "noise": audit.noise.p_value,
                "seconds": time.process_time() - began,
            }
            found.append(row)
            print(f"{name:22} seed {seed:3}  p {audit.p_value:.3f}", flush=True)
            if given.out is not None:
                with given.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print("\n".join(told(found)))


if __name__ == "__main__":
    main()
