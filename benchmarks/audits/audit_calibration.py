"""How often the mechanism audit contradicts what is true, and how far it reaches.

    python -m benchmarks.audits.audit_calibration [--seeds 20] [--quick] [--sigma 1]

Every private preset, over fixed seeds. The number of contradictions among all audits is at most
the one that a correct audit passes once in a thousand repetitions of the whole.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from dpigu.audits.mechanism import audit_mechanism
from dpigu.audits.mechanism.report import MechanismAudit
from dpigu.audits.verdict import Verdict
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


def audits(
    seeds: Iterable[int], *, quick: bool, sigma: float = 1.0, presets: Iterable[str] = PRIVATE
) -> Iterator[tuple[str, int, MechanismAudit]]:
    """One audit of every preset for every seed."""
    for name in presets:
        for seed in seeds:
            with repeatable(seed, PRIVATE.index(name)):
                plan = PRESETS[name].plan(STEPS).scaled_noise(sigma)
                yield name, seed, audit_mechanism(plan, confidence=CONFIDENCE, quick=quick)


def allowed(count: int) -> int:
    """The least k with P[Bin(count, 5%) > k] ≤ 1/1000."""
    return int(binom.isf(RARE, count, 1 - CONFIDENCE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--preset", action="append", choices=PRIVATE)
    given = parser.parse_args()
    presets = given.preset or PRIVATE
    found: dict[str, list[MechanismAudit]] = {name: [] for name in presets}
    began = time.process_time()
    for name, seed, audit in audits(
        range(given.seeds), quick=given.quick, sigma=given.sigma, presets=presets
    ):
        found[name].append(audit)
        reach = audit.tests[0].reach
        print(f"{name:15} seed {seed:2}  p {audit.p_value:.3f}  reach {reach:.3f}", flush=True)
    count = sum(map(len, found.values()))
    contradicted = sum(a.verdict is Verdict.CONTRADICTED for all_ in found.values() for a in all_)
    for name, all_ in found.items():
        reaches = sorted(a.tests[0].reach for a in all_)
        print(f"{name:15} reach: least {reaches[0]:.3f}, median {reaches[len(reaches) // 2]:.3f}")
    seconds = (time.process_time() - began) / count
    print(f"{contradicted} of {count} contradicted, {allowed(count)} allowed; {seconds:.1f} s each")


if __name__ == "__main__":
    main()
