"""What ranks do in the tests: the same functions run in one process alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from dpigu.audits.mechanism.audit import audit_mechanism
from dpigu.audits.mechanism.report import MechanismAudit
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    Kernel,
    Phase,
    Pipeline,
    Plan,
    Ranks,
    Release,
    Rows,
    States,
    StepContext,
    SystemNoise,
)
from dpigu.dpcore.randomness import system_words
from dpigu.mechanisms import BufferedToeplitz, Flat, Gaussian
from dpigu.trainers import (
    Callback,
    Data,
    DataSpec,
    Run,
    Session,
    Settings,
    Step,
    Tensors,
    build_model,
    recipe_for,
    resume,
    train,
)
from dpigu.trainers.data import Scaling
from dpigu.trainers.distributed import here
from dpigu.trainers.lifecycle.prepare import prepare
from dpigu.trainers.phases.phase import RunningPhase
from dpigu.trainers.runs import RunFolder, disk
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.mutants.test_core_mutants import plant
from tests.support.depth import BRIEF
from tests.support.dpigu_command import dpigu
from tests.support.laws.data import linear, points, settings_of
from tests.support.laws.strategies import opened


def ranks() -> Ranks:
    """This process's ranks, one group for all cases of the kernel alone."""
    return _ranks_of(os.getpid())


@cache
def _ranks_of(process: int) -> Ranks:
    return here()


@dataclass
class OwnShare:
    """A rank's share of a noise that a seed fixes; a process alone draws all of it."""

    seed: int
    rank: int
    size: int
    private: bool = False
    calls: int = field(default=0, init=False)

    def words(self, count: int) -> NDArray[np.uint64]:
        self.calls += 1
        bits = np.random.PCG64([self.seed, self.calls])
        return bits.random_raw(count * self.size)[self.rank * count :][:count]


def release(plan: Plan, step: int, g_BD: Tensor, owner_B: Tensor, seed: int = 0) -> dict[str, Any]:
    """What a step releases of these gradients, each of which its owner's rank has."""
    all_ranks, at = ranks(), opened(plan, step)
    kernel = Kernel(
        at.pipeline,
        expected_batch=4.0,
        relative_error=2.0**-50,
        noise=OwnShare(seed, all_ranks.rank, all_ranks.size),
        ranks=all_ranks,
    )
    own_BD = g_BD[owner_B % all_ranks.size == all_ranks.rank]
    made, states = kernel.release(at.states, at.context, at.pieces(own_BD, 2))
    released = {"noised": made.noised, **made.queries}
    kept = {f"{stage} {key}": t for stage, s in states.items() for key, t in s.items()}
    return {
        **{f"released {name}": vector.value for name, vector in released.items()},
        **{f"std {name}": vector.variance.sqrt() for name, vector in released.items()},
        **kept,
    }


def releases(plan: Plan, batches: list[Tensor], seed: int = 0) -> Tensor:
    """What one kernel releases in some steps, of rows that are dealt to the ranks in turn."""
    all_ranks, at = ranks(), opened(plan)
    kernel = Kernel(
        at.pipeline,
        expected_batch=4.0,
        relative_error=2.0**-50,
        noise=OwnShare(seed, all_ranks.rank, all_ranks.size),
        ranks=all_ranks,
    )
    states, released = at.states, []
    for t, g_BD in enumerate(batches):
        context = at.pipeline.open(states, Clock(t, len(batches)))
        own_BD = g_BD[all_ranks.rank :: all_ranks.size]
        made, states = kernel.release(states, context, at.pieces(own_BD, 2))
        released.append(made.noised.value)
    return torch.stack(released)


def releases_of_other_buffers(plan: Plan, batches: list[Tensor]) -> Tensor:
    """`releases`, where the search for the buffers ends elsewhere on every rank."""
    found, rank = BufferedToeplitz.buffers, ranks().rank

    def moved(self: BufferedToeplitz, steps: int) -> tuple[tuple[float, float], ...]:
        return tuple((omega * (1 - rank / 8), theta) for omega, theta in found(self, steps))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BufferedToeplitz, "buffers", moved)
        return releases(plan, batches)


def trained(
    plan: Plan, settings: Settings, out: Path | None, seed: int | None = None, **given: Any
) -> dict[str, Any]:
    """A run of `train` on points in the plane: its weights, its summary and where it lies."""
    noise = None
    if seed is not None:
        rank = dist.get_rank() if dist.is_initialized() else 0
        size = dist.get_world_size() if dist.is_initialized() else 1
        noise = OwnShare(seed, rank, size)
    with no_pictures():
        run = train(
            plan, points(), linear(), settings, out=out, noise=noise, progress=False, **given
        )
    return _told(run)


def resumed(out: Path) -> dict[str, Any]:
    """The run goes on."""
    with no_pictures():
        return _told(resume(out, data=points(), model=linear(), progress=False))


def _told(run: Run) -> dict[str, Any]:
    weights_D = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    return {"weights": weights_D, "summary": dict(run.summary), "folder": run.folder}


@contextmanager
def no_pictures() -> Iterator[None]:
    """Pictures take longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpigu.trainers.runs.report.drawn", lambda *_: b"no picture")
        yield


@dataclass
class RaisesAt:
    """Noise that fails in one rank, at its n-th call."""

    rank: int
    call: int
    error: BaseException | None = None
    private: bool = True

    def words(self, count: int) -> NDArray[np.uint64]:
        if dist.get_rank() == self.rank:
            self.call -= 1
            if self.call == 0:
                if self.error is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                else:
                    raise self.error
        return system_words(count)


def failing(plan: Plan, settings: Settings, out: Path, noise: RaisesAt) -> Any:
    """A run in which a rank fails, or dies, while it draws noise."""
    return train(plan, points(), linear(), settings, out=out, noise=noise, progress=False)


def stopped_by(rank: int, after: int, plan: Plan, settings: Settings, out: Path) -> int:
    """A loop of one's own that one rank stops; how many steps this rank has taken."""
    taken, seen = 0, Seen()
    with no_pictures(), session(plan, settings, out, callbacks=[seen]) as ours:
        for step in ours:
            step.apply()
            taken += 1
            if dist.get_rank() == rank and taken == after:
                ours.stop()
    assert seen.steps == (taken if dist.get_rank() == 0 else 0)
    assert ours.summary["stopped_early"]
    return taken


def session(plan: Plan, settings: Settings, out: Path | None, **given: Any) -> Session:
    return Session(plan, points(), linear(), settings, out=out, **given)


class Seen(Callback):
    """Counts the steps that it is told of."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, session: Session, step: Step) -> None:
        self.steps += 1


def other_data(out: Path) -> None:
    """The second rank has other records."""
    data = points(seed=7 + dist.get_rank())
    Session(training_plan(1), data, linear(), settings_of(), out=out)


def training_plan(steps: int) -> Plan:
    return Plan((Phase("main", Pipeline(Flat(bound=1.0), Gaussian()), steps),))


def unit_vectors(declared: int, present: int, rate: float) -> RunningPhase:
    """A phase whose rows are unit vectors, unclipped and without noise: a sum says who is in it."""
    x, y = torch.eye(present), torch.zeros(present, dtype=torch.int64)
    spec = DataSpec("unit vectors", declared, 2, (present,), Scaling())
    data = Data(spec, Tensors(x, y), Tensors(-x[:1], y[:1]))
    settings = Settings(noise_multiplier=0.0, rate=rate, accountant="rdp", device="cpu")
    plan = Plan((Phase("main", Pipeline(Flat(bound=2.0), Gaussian(noise_multiplier=0.0)), 9),))
    model = nn.Linear(present, 2, bias=False)
    run = prepare(plan, data, model, settings, lambda out, _: out[0, 0], {}, ranks=ranks())
    return RunningPhase(run, run.plan.phases[0], {}, SystemNoise(), None)


def summed(declared: int, present: int, rate: float) -> Tensor:
    """How often each record is in the sum of a step."""
    running = unit_vectors(declared, present, rate)
    parameters = {"weight": torch.zeros(2, present)}
    release, _ = running.step(running.begin(parameters), 0, parameters)
    return release.noised.value[:present] * rate * declared


def sampled(declared: int, present: int, rate: float, draws: int) -> Tensor:
    """Which records this rank samples, T × N."""
    batches = unit_vectors(declared, present, rate)._batches
    found_TN = torch.zeros(draws, present)
    for joins_N in found_TN:
        for at_B, valid_B in batches.slots.sample(batches.sampler, 4, torch.device("cpu")):
            joins_N.index_add_(0, at_B[valid_B], torch.ones(int(valid_B.sum())))
    return found_TN


def unpaid_steps(out: Path) -> int:
    """How many steps this rank opened before the disk said that they were paid for; the first
    rank's disk is slow."""
    release, append, opened, unpaid = Kernel.release, disk.append, 0, 0

    def watched(self: Kernel, *given: Any) -> Any:
        nonlocal opened, unpaid
        opened += 1
        unpaid += RunFolder(out).ledger().steps < opened
        return release(self, *given)

    def slow(*given: Any, **options: Any) -> None:
        time.sleep(0.05)
        append(*given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "release", watched)
        patch.setattr(disk, "append", slow)
        trained(training_plan(4), settings_of(), out)
    return unpaid


def commanded(arguments: list[str]) -> tuple[int, str, str]:
    """The status of `dpigu …` on this rank, what it prints, and its errors."""
    with no_pictures():
        result = dpigu(*arguments)
    return result.exit_code, result.stdout, result.stderr


def commanded_otherwise(each: list[list[str]]) -> tuple[int, str, str]:
    """What `dpigu` says to the arguments of this rank, and its exit code."""
    return commanded(each[dist.get_rank()])


def with_bug(bug: str, case: Callable[..., Any], *given: Any) -> Any:
    """A case on ranks that all have a bug planted."""
    from tests.trainers.distributed.test_mutants import MUTANTS

    mutant = next(m for m in MUTANTS if m.bug == bug)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, mutant)
        return case(*given)


class PartKernel(Kernel):
    """The kernel of ranks, each of which takes its own part of a batch that all are given."""

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        at, size = self.ranks.rank, self.ranks.size
        own = [replace(rows, z_BK=rows.z_BK[at::size]) for rows in batch]
        return super().release(states, context, own)


def audited(plan: Plan) -> MechanismAudit:
    """The audit of a mechanism on this rank: all ranks make the same runs together."""

    def kernel(pipeline: BoundPipeline, **given: Any) -> Kernel:
        return PartKernel(pipeline, **{**given, "ranks": ranks()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpigu.audits.mechanism.audit.QUICK", BRIEF)
        return audit_mechanism(plan, quick=True, kernel=kernel)


def preset(name: str) -> dict[str, Tensor]:
    """Three steps of a preset on digits: every tensor that a checkpoint holds, on this rank."""
    noise = {} if name == "non-private" else {"noise_multiplier": 2.0}
    recipe = recipe_for(name, "digits", steps=3, accountant="rdp", evaluations=1, **noise)
    data = recipe.load_data(progress=False)
    model = build_model(recipe.model_for(data.spec), data.spec, dist.get_rank())
    public = recipe.load_public(data.spec, progress=False)
    with Session(recipe.plan, data, model, recipe.settings, public=public) as ours:
        for step in ours:
            step.apply()
    states = ours._loop._past
    kept = {
        f"{i} {stage} {key}": tensor
        for i, phase in enumerate(states)
        for stage, state in phase.items()
        for key, tensor in state.items()
    }
    return {**{n: t.detach() for n, t in model.state_dict().items()}, **kept}
