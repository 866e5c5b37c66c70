"""Which audit contradicts which planted bug, and what it reaches.

    python -m benchmarks.audits.bug_zoo [--full]

Every bug of `tests/support/zoo` is audited by `dpaudit mechanism`'s function, as a plugin's author
would, at σ = 1 and without training; quickly, or with full effort. Prints the table of
docs/audits.md. The correct twins stand at its end.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dpigu.audits.mechanism import audit_mechanism
from dpigu.audits.mechanism.report import MechanismAudit
from dpigu.audits.mechanism.sampling import audit_sampler
from dpigu.dpcore import Kernel, Plan, PoissonSampler
from numpy.typing import NDArray

from tests.support.zoo import kernels as zoo
from tests.support.zoo.bad_samplers import SAMPLERS

DRAWS = 1000
SAMPLER = PoissonSampler(0.1, 320)
DPSGD = zoo.plan()


@dataclass(frozen=True)
class Planted:
    """A bug: a kernel that is wrong, or a plan whose stages are."""

    name: str
    kernel: type[Kernel] = Kernel
    plan: Plan = DPSGD


PLANTED = (
    Planted("noise divided by the batch twice", zoo.DividedTwice),
    Planted("noise of σC/B for each record, then averaged", zoo.PerRecordAveraged),
    Planted("noise scaled to one layer's bound, no guard", zoo.NoGuard, zoo.ONE_LAYERS_NOISE),
    Planted("missing clip", zoo.MissingClip),
    Planted("clip of the mean", zoo.ClipsTheMean),
    Planted("noise reused between steps", zoo.ReusedNoise),
    Planted("statistics from un-noised gradients", plan=zoo.UN_NOISED_STATISTICS),
    Planted("scores from un-noised gradients", plan=zoo.UN_NOISED_SCORES),
    Planted("noise on the coordinates that records kept", zoo.SupportOfTheRecords),
    Planted("divisor of the realised batch", zoo.RealisedDivisor),
    Planted("noise for each microbatch that came", zoo.PerMicrobatch),
    Planted("a row with NaN reaches the sum", zoo.NaNReachesTheSum),
    Planted("noise 15% too small", zoo.TooLittle),
    Planted("(right) DP-SGD"),
    Planted("(right) noise for four padded microbatches", zoo.PerPublicMicrobatch),
    Planted("(right) one layer's bound, behind the guard", plan=zoo.ONE_LAYERS_NOISE),
)


def kernel_rows(quick: bool) -> Iterator[tuple[str, ...]]:
    """One line a planted bug of the kernel or its stages."""
    for planted in PLANTED:
        audit = audit_mechanism(planted.plan, kernel=planted.kernel, quick=quick)
        best = audit.strongest
        yield (
            planted.name,
            f"{best.name}: {best.situation}",
            _p(audit.p_value),
            f"μ ≥ {_down(best.mu_bound)} of {best.mu:.2f}",
            f"ε ≥ {_down(max(test.epsilon_bound for test in audit.tests))}",
            _verdict(audit),
        )


def sampler_rows() -> Iterator[tuple[str, ...]]:
    """One line a planted sampler."""
    draws: dict[str, Callable[[int], NDArray]] = {  # type: ignore[type-arg]  # of any integers
        **{name: make() for name, make in SAMPLERS.items()},
        "(right) Poisson": SAMPLER.draw,
    }
    for name, draw in draws.items():
        audit = audit_sampler(SAMPLER, draws=DRAWS, draw=draw)
        worst = audit.worst
        found = f"{worst.observed:,} where chance gives {worst.expected:,.0f}"
        verdict = "contradicted" if audit.p_value < 0.01 else "passes"
        yield name, worst.name, _p(audit.p_value), found, verdict


def _verdict(audit: MechanismAudit) -> str:
    return {0: "passes", 1: "contradicted", 3: "no verdict"}[audit.exit_status]


def _p(p_value: float) -> str:
    return "< 1e-12" if p_value < 1e-12 else f"{p_value:.1g}"


def _down(bound: float) -> str:
    return f"{math.floor(100 * bound) / 100:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="as without --quick; minutes")
    given = parser.parse_args()
    print("| bug | seen by | p-value | reached, of what the event allows | by counting | verdict |")
    print("|---|---|---|---|---|---|")
    for row in kernel_rows(quick=not given.full):
        print(f"| {' | '.join(row)} |", flush=True)
    print("\n| sampler | seen by | p-value | counted | verdict |")
    print("|---|---|---|---|---|")
    for row in sampler_rows():
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
