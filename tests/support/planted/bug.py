"""What a planted bug is, and the ways in which one is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import dpigu.audits.mechanism.audit as mechanism
import numpy as np
import pytest
import torch
from dpigu.audits.conformance import ConformanceError, checks_for
from dpigu.audits.mechanism.adversary import SITUATIONS
from dpigu.audits.mechanism.noise import audit_noise
from dpigu.audits.mechanism.sampling import audit_sampler
from dpigu.audits.replay import audit_replay
from dpigu.dpcore import DpiguError, Kernel, Plan, PoissonSampler, SystemNoise
from dpigu.dpcore.kernel import guarded_factors
from dpigu.dpcore.registry import entries as registry
from dpigu.trainers import Data, Run

from benchmarks.audits.canary_weights import PLANTED as POOLS
from benchmarks.audits.canary_weights import observed
from tests.mutants.table import MUTANTS as STAGES
from tests.support.depth import BRIEF
from tests.support.zoo import kernels as zoo
from tests.support.zoo.bad_samplers import SAMPLERS

RARE = 1e-5
"""A p-value that chance gives in one of a hundred thousand tries."""
Train = Callable[[Data, Path], Run]
Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """A bug, and who stops it first.

    Args:
        name: in words.
        stopper: a heading of the table.
        says: what stops it there: a message, a law, a check, a test; or why nobody can.
        stopped: plants it and returns what it was stopped by; None where another test of the
            suite plants it, or where it is argued that nobody can see it.
        dear: whether that takes more than a second.
    """

    name: str
    stopper: str
    says: str
    stopped: Callable[[], str] | None = None
    dear: bool = False


BUILD, GUARD, LAW, CONFORMANCE = "refused at build", "kernel guard", "law", "conformance"
NOISE, KERNEL, SAMPLER = (f"mechanism audit: {part}" for part in ("noise", "kernel", "sampler"))
REPLAY, CANARIES, NOBODY = "replay", "canaries", "nobody"


def refused(name: str, make: Callable[[], object], says: str) -> Bug:
    """It cannot be built: the error says why."""

    def stopped() -> str:
        try:
            make()
        except DpiguError as error:
            return str(error)
        return ""

    return Bug(name, BUILD, says, stopped)


def guarded(name: str, factor: float) -> Bug:
    """A clipper's factor that the kernel cuts to the bound, or to nothing."""

    class Clipper:
        groups = "all"

        def factors(self, state: object, norms_G: torch.Tensor) -> torch.Tensor:
            return torch.full_like(norms_G, factor)

    def stopped() -> str:
        norms_BG = torch.tensor([[1e-3], [1.0], [1e9]], dtype=torch.float64)
        bound = torch.tensor(1.0, dtype=torch.float64)
        c_BG, _ = guarded_factors(Clipper(), {}, norms_BG, bound)  # type: ignore[arg-type]
        return "cut to the bound" if bool((c_BG * norms_BG).abs().max() <= 1) else ""

    return Bug(name, GUARD, "cut to the bound", stopped)


def against_law(name: str, law: str) -> Bug:
    """`tests/mutants/test_core_mutants.py` plants it in the core's source."""
    return Bug(name, LAW, law)


def broken_stage(name: str, cls: type, *, beside: tuple[type, ...] = ()) -> Bug:
    """A stage that conformance rejects; `tests/mutants/test_stages.py` plants the table's."""
    (mutant,) = (m for m in STAGES if m.cls is cls)
    return Bug(name, CONFORMANCE, mutant.by)


def unseen_stage(name: str, kind: str, stage: type, by: str) -> Bug:
    """A broken stage that is not in the mutants' table."""

    def stopped() -> str:
        with mock.patch.object(registry, "_registered", dict(registry._registered)):
            registry.register(kind, f"planted/{stage.__name__.lower()}")(stage)
            made = stage()
            for check in checks_for(made):
                if check.name != by:
                    continue
                try:
                    check(made)
                except ConformanceError as error:
                    return error.check
        return ""

    return Bug(name, CONFORMANCE, by, stopped, dear=True)


def noise(name: str, kernel: type[Kernel], says: str, *, steps: int = 20) -> Bug:
    """Noise that the mechanism audit's walk through a phase sees by itself."""

    def stopped() -> str:
        audit = audit_noise(zoo.plan(steps=steps), steps=8, kernel=kernel, noise=SystemNoise())
        if audit.p_value > RARE:
            return ""
        few = RARE / len(audit.tests)
        return "; ".join(test.name for test in audit.tests if test.p_value < few)

    return Bug(name, NOISE, says, stopped)


def kernel(
    name: str,
    make: type[Kernel],
    situation: str,
    says: str,
    *,
    plan: Plan | None = None,
) -> Bug:
    """A kernel that the mechanism audit contradicts, here in one situation of its twelve."""
    plan = plan if plan is not None else zoo.plan(steps=2)
    tried = tuple(s for s in SITUATIONS if s.name == situation)
    assert tried, situation

    def stopped() -> str:
        effort = replace(BRIEF, walk=2)
        with (
            mock.patch.object(mechanism, "QUICK", effort),
            mock.patch.object(mechanism, "SITUATIONS", tried),
        ):
            audit = mechanism.audit_mechanism(plan, kernel=make, quick=True)
        few = RARE
        return "; ".join(test.name for test in audit.tests if test.p_value < few)

    return Bug(name, KERNEL, f"{says} ({situation})", stopped, dear=True)


def sampler(draw: str, says: str, name: str = "") -> Bug:
    """Batches that the sampler's test contradicts."""

    def stopped() -> str:
        audit = audit_sampler(PoissonSampler(0.1, 320), draws=1000, draw=SAMPLERS[draw]())
        return "; ".join(test.name for test in audit.tests if test.p_value < RARE / 10)

    return Bug(name or draw, SAMPLER, says, stopped)


def replayed(
    name: str, says: str, train: Train, few: Callable[[], Data], plant: Plant | None = None
) -> Bug:
    """A trainer whose replay publishes something that its releases do not say."""

    def stopped() -> str:
        with pytest.MonkeyPatch.context() as patch:
            if plant is not None:
                plant(patch)
            return "; ".join(leak.what for leak in audit_replay(train, few()).leaks)

    return Bug(name, REPLAY, says, stopped, dear=True)


def told_by_canaries(name: str, pool: str) -> Bug:
    """A training whose canaries' observations hold too little noise."""

    def stopped() -> str:
        seen, _ = observed(np.random.default_rng(), POOLS[pool])
        return "the observations' spread" if seen.spread_p_value() < RARE else ""

    return Bug(name, CANARIES, "the observations' spread", stopped)


def invisible(name: str, why: str) -> Bug:
    """A bug that no test of what is published can see."""
    return Bug(name, NOBODY, why)
