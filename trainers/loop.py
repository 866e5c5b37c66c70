"""The training loop: pay for a block of steps, sample, release, step, keep a checkpoint."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dpigu.dpcore import NoiseSource, Reads, States
from dpigu.dpcore.claim import CalibratedPlan, Ending
from dpigu.dpcore.stages import evaluates
from dpigu.trainers.calibration import affordable
from dpigu.trainers.lineage import Lineage
from dpigu.trainers.phase import Observer, RunningPhase
from dpigu.trainers.prepare import PreparedRun
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs import checkpoint
from dpigu.trainers.runs.checkpoint import INITIAL, Checkpoint
from dpigu.trainers.runs.folder import RunFolder
from dpigu.trainers.runs.ledger_file import LedgerFile
from dpigu.trainers.runs.report import evaluated
from dpigu.trainers.settings import OptimizerFactory
from dpigu.trainers.spending import Spending
from torch import Tensor, nn

Stop = Callable[[Mapping[str, Any]], bool]
"""Told the metrics of an evaluation; True ends the run there."""
BLOCKS = 50
"""A kill costs at most one block: what is paid for is as far as the next checkpoint."""


@dataclass(frozen=True)
class Session:
    """A run at work: what is trained, what pays for it, and where it is kept.

    Args:
        prepared: plan, data, model.
        ledger: pays for every step before it runs.
        folder: where checkpoints and metrics go, or None.
        make: makes the optimizer.
        noise: where the kernel's normal draws come from.
        observer: watches the releases, and may add rows.
        stop: asked after every evaluation whether to end the run.
        spending: the run's part of a budget that it shares with other runs, or None.
        lineage: the runs that the weights came from.
    """

    prepared: PreparedRun
    ledger: LedgerFile
    folder: RunFolder | None
    make: OptimizerFactory
    noise: NoiseSource
    observer: Observer | None = None
    stop: Stop | None = None
    spending: Spending | None = None
    lineage: Lineage = ()


class Loop:
    """Runs every phase of a session from where its checkpoint left off."""

    def __init__(self, session: Session, bar: Progress) -> None:
        prepared = session.prepared
        self._session, self._bar = session, bar
        self._plan, self._settings = prepared.plan, prepared.settings
        self._parameters = {n: p for n, p in prepared.model.named_parameters() if p.requires_grad}
        self._tensors = {**self._parameters, **dict(prepared.model.named_buffers())}
        self._optimizer = session.make(list(self._parameters.values()))
        self._point = self._start()
        _copy(self._point.weights, self._tensors)
        self._optimizer.load_state_dict(dict(self._point.optimizer))
        self._average = self._settings.averager(self._point.weights)
        self._stops = stops(self._plan, self._settings.evaluations)
        self._marks = marks(self._plan.steps, self._settings.evaluations)
        self._past: tuple[States, ...] = self._point.states[: self._point.phase]
        self.reached = sum(p.steps for p in self._plan.phases[: self._point.phase])
        self.reached += self._point.step
        self.ahead = self._ahead()

    def run(self) -> Ending:
        """Take every step that the plan has left and the budget pays for; how it ended."""
        left, earlier = sum(self.ahead), dict[str, Any]()
        for i, phase in enumerate(self._plan.phases):
            running = self._running(i, earlier)
            if i < self._point.phase:
                earlier = dict(running.pipeline.views(self._past[i]))
                continue
            states, first = self._entered(i, running)
            for step in range(first, phase.steps):
                if self._session.ledger.prepaid == 0:
                    block = min(self._until_stop(), left)
                    if block == 0:
                        return self._settled("budget")
                    self._session.ledger.pay(phase.name, block)
                    left -= block
                states = self._step(running, states, step)
                if self._session.ledger.prepaid == 0 and self._stands(i, step + 1, states, left):
                    return self._settled("choice")
            self._past = (*self._past, states)
            earlier = dict(running.pipeline.views(states))
        return self._settled("plan")

    def statistics(self) -> dict[str, Any]:
        """What the phases that are over report of their statistics, from releases alone."""
        found = {}
        for phase, states in zip(self._plan.phases, self._past, strict=False):
            for placed in phase.pipeline.of("statistic"):
                if (report := getattr(placed.stage, "reported", None)) is not None:
                    found[phase.name] = report(states[placed.name], self._plan.sampler)
        return found

    def _start(self) -> Checkpoint:
        """The folder's checkpoint, or the state before the first step."""
        weights = initial_weights(self._session.prepared)
        start = Checkpoint(0, 0, weights, (), self._optimizer.state_dict())
        folder, ledger = self._session.folder, self._session.ledger.ledger
        if folder is None:
            return start
        path = folder.public / checkpoint.FILE
        return checkpoint.load(path, start, ledger, self._session.prepared.device)

    def _running(self, i: int, earlier: Reads) -> RunningPhase:
        session = self._session
        return RunningPhase(
            session.prepared, self._plan.phases[i], earlier, session.noise, session.observer
        )

    def _entered(self, i: int, running: RunningPhase) -> tuple[States, int]:
        """A phase's stage states and its first step, with what it inherits in place."""
        if i == self._point.phase and self._point.step > 0:
            states = self._point.states[i]
            self._check_states(running.begin(self._parameters), states)
            return states, self._point.step
        inherits = self._plan.phases[i].inherits
        if i > 0 and "weights" not in inherits:
            _copy({n: self._point.weights[INITIAL + n] for n in self._parameters}, self._parameters)
            self._average.reset()
        if i > 0 and "optimizer" not in inherits:
            self._optimizer = self._session.make(list(self._parameters.values()))
        if evaluates(self._plan.phases[i].pipeline.statistic):
            self._average.settle(self._parameters)
        return running.begin(self._parameters), 0

    def _check_states(self, expected: States, got: States) -> None:
        assert self._session.folder is not None
        path = self._session.folder.public / checkpoint.FILE
        for name in expected.keys() | got.keys():
            checkpoint.check_shapes(path, name, got.get(name, {}), expected.get(name, {}))

    def _step(self, running: RunningPhase, states: States, step: int) -> States:
        """One step that is paid for: release, update, notes."""
        session, overall = self._session, self.reached
        session.ledger.begin_step()
        session.prepared.model.train(not evaluates(running.phase.pipeline.statistic))
        began = time.monotonic()
        release, states = running.step(states, step, self._parameters)
        self._settings.set_learning_rate(self._optimizer, overall, self._plan.steps)
        kept = running.update(self._optimizer, self._parameters, states, release)
        self._average.see(self._parameters, overall, self._plan.steps)
        self.reached = overall + 1
        self._bar.advance(self.reached)
        if session.folder is not None:
            if running.phase.selective_update is not None:
                session.folder.decision(overall, kept)
            seconds = round(time.monotonic() - began, 4)
            session.folder.note_privately("times.jsonl", {"step": overall, "seconds": seconds})
        return states

    def _stands(self, phase: int, step: int, states: States, left: int) -> bool:
        """Evaluate and keep a checkpoint at the end of a block; whether to stop here."""
        session, metrics = self._session, None
        if self.reached in self._marks or left == 0:
            with self._average.applied(self._parameters):
                metrics = evaluated(session.prepared, session.ledger.ledger, self.reached)
            self._bar.show(metrics)
        if session.folder is not None:
            if metrics is not None:
                session.folder.metric(metrics)
            weights = {n: t.detach() for n, t in self._tensors.items()} | self._average.state()
            weights |= {n: t for n, t in self._point.weights.items() if n.startswith(INITIAL)}
            optimizer = self._optimizer.state_dict()
            here = Checkpoint(phase, step, weights, (*self._past, states), optimizer)
            path = session.folder.public / checkpoint.FILE
            checkpoint.write(path, here, session.ledger.ledger)
        if metrics is None or session.stop is None or self.reached == self._plan.steps:
            return False
        return session.stop(metrics)

    def _settled(self, how: Ending) -> Ending:
        self._average.settle(self._parameters)
        return how

    def _ahead(self) -> list[int]:
        """The steps of each phase that the run may still take: left in the plan, and affordable."""
        point, phases = self._point, self._plan.phases
        ahead = [phase.steps if i >= point.phase else 0 for i, phase in enumerate(phases)]
        ahead[point.phase] -= point.step
        left = affordable(self._plan, self._session.ledger.ledger.charged, ahead)
        for i, steps in enumerate(ahead):
            ahead[i] = min(steps, left)
            left -= ahead[i]
        return ahead

    def _until_stop(self) -> int:
        return self._stops[bisect_right(self._stops, self.reached)] - self.reached


def initial_weights(prepared: PreparedRun) -> dict[str, Tensor]:
    """What a checkpoint holds before the first step: parameters and buffers.

    The parameters are there twice if a later phase starts from them.
    """
    model = prepared.model
    parameters = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    found = parameters | {n: b.detach().clone() for n, b in model.named_buffers()}
    if any("weights" not in phase.inherits for phase in prepared.plan.phases[1:]):
        found |= {INITIAL + name: weights for name, weights in parameters.items()}
    return found


def marks(steps: int, evaluations: int) -> set[int]:
    """The steps after which ε and held-out metrics are taken: evenly spread, the last too."""
    count = max(1, min(evaluations, steps))
    return {round(steps * (k + 1) / count) for k in range(count)}


def longest_block(steps: int) -> int:
    """The most steps that are paid for at once: a public number, whatever the clock says."""
    return max(1, steps // BLOCKS)


def stops(plan: CalibratedPlan, evaluations: int) -> list[int]:
    """The steps after which a block ends: every checkpoint, evaluation and phase."""
    ends = {sum(phase.steps for phase in plan.phases[: i + 1]) for i in range(len(plan.phases))}
    regular = set(range(0, plan.steps, longest_block(plan.steps))) - {0}
    return sorted(ends | regular | marks(plan.steps, evaluations))


def _copy(values: Mapping[str, Tensor], tensors: Mapping[str, Tensor | nn.Parameter]) -> None:
    for name, tensor in tensors.items():
        tensor.data.copy_(values[name])
