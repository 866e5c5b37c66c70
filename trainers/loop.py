"""The training loop: pay for a block of steps, sample, release, hand over, keep a checkpoint."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from dpigu.dpcore import Reads, Release, States
from dpigu.dpcore.claim import CalibratedPlan, Ending
from dpigu.dpcore.grammar.stages import evaluates
from dpigu.trainers.calibration import affordable
from dpigu.trainers.distributed import replicated, sharded_as
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.lifecycle.run import OpenRun
from dpigu.trainers.optim import HeldOptimizer
from dpigu.trainers.phases.phase import RunningPhase
from dpigu.trainers.runs import checkpoint
from dpigu.trainers.runs.checkpoint import INITIAL, Checkpoint
from dpigu.trainers.runs.report import evaluated, shown
from dpigu.trainers.step import Step
from torch import Tensor, nn

BLOCKS = 50
"""A kill costs at most one block: what is paid for is as far as the next checkpoint."""


class Loop:
    """Every step of a run, from where its checkpoint left off.

    Args:
        run: what is trained, and what pays.
        told: given the metrics of every evaluation.
    """

    def __init__(self, run: OpenRun, told: Callable[[Mapping[str, Any]], None]) -> None:
        prepared = run.prepared
        self._run, self._told, self._ranks = run, told, prepared.ranks
        self._plan, self._settings = prepared.plan, prepared.settings
        self._parameters = {n: p for n, p in prepared.model.named_parameters() if p.requires_grad}
        self._tensors = {**self._parameters, **dict(prepared.model.named_buffers())}
        self.optimizer = HeldOptimizer(run.optimizer, prepared.model)
        self._point = self._start()
        _copy(self._point.weights, self._tensors)
        self.optimizer.resume(self._point.optimizer)
        self._average = self._settings.averager(self._point.weights)
        self._stops = stops(self._plan, self._settings.evaluations)
        self._marks = marks(self._plan.steps, self._settings.evaluations)
        self._past: tuple[States, ...] = self._point.states[: self._point.phase]
        self.reached = sum(p.steps for p in self._plan.phases[: self._point.phase])
        self.reached += self._point.step
        self.ahead = self._ahead()
        self.ending: Ending = "choice"
        self.stopping = False
        self._kept: bool | None = None
        self._released: Release | None = None

    def steps(self) -> Iterator[Step]:
        """Every step that the plan has left and the budget pays for, until it is stopped.

        A step is paid for before it is taken, and is over when the next is asked for.
        """
        left, earlier = sum(self.ahead), dict[str, Any]()
        for i, phase in enumerate(self._plan.phases):
            running = self._running(i, earlier)
            if i < self._point.phase:
                earlier = dict(running.pipeline.views(self._past[i]))
                continue
            states, first = self._entered(i, running)
            for number in range(first, phase.steps):
                if self._is_over():
                    return self._stands(i, number, states, left)
                if self._run.ledger.prepaid == 0:
                    block = min(self._until_stop(), left)
                    if block == 0:
                        self.ending = "budget"
                        return
                    self._run.ledger.pay(phase.name, block)
                    left -= block
                began = time.monotonic()
                step, states = self._taken(running, states, number)
                yield step
                self._finished(step, time.monotonic() - began)
                if self._is_over() or self._run.ledger.prepaid == 0:
                    self._stands(i, number + 1, states, left)
                    if self._is_over() and self.reached < self._plan.steps:
                        return
            self._past = (*self._past, states)
            earlier = dict(running.pipeline.views(states))
        self.ending = "plan"

    def settle(self) -> None:
        """Training is over: the model's weights are those that are kept."""
        self._average.settle(self._parameters)

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
        weights = initial_weights(self._run.prepared)
        start = Checkpoint(0, 0, weights, (), self.optimizer.state())
        body = self._ranks.agreed(self._stored)
        if body is None:
            return start
        found = checkpoint.fitting(self._path, body, start, self._run.prepared.device)
        return found._replace(weights=_sharded(found.weights, self._tensors))

    def _stored(self) -> bytes | None:
        if self._run.folder is None:
            return None
        return checkpoint.read(self._path, self._run.ledger.ledger)

    @property
    def _path(self) -> Path:
        """Where the checkpoint lies; its name alone on a rank that has no folder."""
        folder = self._run.folder
        return Path(checkpoint.FILE) if folder is None else folder.public / checkpoint.FILE

    def _running(self, i: int, earlier: Reads) -> RunningPhase:
        run = self._run
        return RunningPhase(run.prepared, self._plan.phases[i], earlier, run.noise, run.observer)

    def _entered(self, i: int, running: RunningPhase) -> tuple[States, int]:
        """A phase's stage states and its first step, with what it inherits in place."""
        if i == self._point.phase and self._point.step > 0:
            states, begun = self._point.states[i], running.begin(self._parameters)
            self._check_states(begun, states)
            return _placed_as(begun, states), self._point.step
        inherits = self._plan.phases[i].inherits
        if i > 0 and "weights" not in inherits:
            _copy({n: self._point.weights[INITIAL + n] for n in self._parameters}, self._parameters)
            self._average.reset()
        if i > 0 and "optimizer" not in inherits:
            self.optimizer.restart()
        if evaluates(self._plan.phases[i].pipeline.statistic):
            self._average.settle(self._parameters)
        return running.begin(self._parameters), 0

    def _check_states(self, expected: States, got: States) -> None:
        for name in expected.keys() | got.keys():
            checkpoint.check_shapes(self._path, name, got.get(name, {}), expected.get(name, {}))

    def _taken(self, running: RunningPhase, states: States, number: int) -> tuple[Step, States]:
        """A step that is paid for, and the states after it."""
        prepared, phase = self._run.prepared, running.phase
        self._run.ledger.begin_step()
        self._kept = None
        prepared.model.train(not evaluates(phase.pipeline.statistic))
        self._released = None  # no long vector stands beside the next step's
        release, states = running.step(states, number, self._parameters)
        self._released = release

        def update(optimizer: torch.optim.Optimizer | None) -> bool:
            return self._update(running, states, release, optimizer)

        space = prepared.space if phase.pipeline.statistic is None else None
        number = self.reached + 1
        rate = self._plan.sampler.rate
        return Step(number, rate, phase.name, release, space, self._parameters, update), states

    def _update(
        self,
        running: RunningPhase,
        states: States,
        release: Release,
        optimizer: torch.optim.Optimizer | None,
    ) -> bool:
        """What a release does to the model; a learning rate is set where the run made the
        optimizer, and a user's own stays as it is."""
        chosen = self.optimizer.use(optimizer)
        if self.optimizer.made_here:
            self._settings.set_learning_rate(chosen, self.reached, self._plan.steps)
        kept = running.update(chosen, self._parameters, states, release)
        if running.phase.selective_update is not None:
            self._kept = kept
        return kept

    def _finished(self, step: Step, seconds: float) -> None:
        """The step is over: average and notes."""
        step.close()
        folder, overall = self._run.folder, self.reached
        self._average.see(self._parameters, overall, self._plan.steps)
        self.reached = overall + 1
        if folder is not None:
            if self._kept is not None:
                folder.decision(overall, self._kept)
            folder.note_privately("times.jsonl", {"step": overall, "seconds": round(seconds, 4)})

    def _stands(self, phase: int, step: int, states: States, left: int) -> None:
        """Evaluate and keep a checkpoint: at the end of a block, or where the run is stopped."""
        run, metrics = self._run, None
        self._ranks.follow(replicated(run.prepared.model))  # other machines may round otherwise
        if self.stopping:
            run.ledger.close()
        if self.reached in self._marks or left == 0 or self.stopping:
            with self._average.applied(self._parameters):
                metrics = run.prepared.said(
                    lambda: evaluated(run.prepared, run.ledger.ledger, self.reached)
                )
            metrics |= shown(self._released, self.optimizer.now)
        if run.folder is not None and metrics is not None:
            run.folder.metric(metrics)
        if run.folder is not None or run.prepared.sharded:
            weights = {n: t.detach() for n, t in self._tensors.items()} | self._average.state()
            weights |= {n: t for n, t in self._point.weights.items() if n.startswith(INITIAL)}
            here = Checkpoint(phase, step, weights, (*self._past, states), self.optimizer.state())
            here = checkpoint.gathered(here, keep=run.folder is not None)
            if run.folder is not None:
                checkpoint.write(self._path, here, run.ledger.ledger)
        if metrics is not None:
            self._told(metrics)

    def _ahead(self) -> list[int]:
        """The steps of each phase that the run may still take: left in the plan, and affordable."""
        point, phases = self._point, self._plan.phases
        ahead = [phase.steps if i >= point.phase else 0 for i, phase in enumerate(phases)]
        ahead[point.phase] -= point.step
        left = affordable(self._plan, self._run.ledger.ledger.charged, ahead)
        for i, steps in enumerate(ahead):
            ahead[i] = min(steps, left)
            left -= ahead[i]
        return ahead

    def _is_over(self) -> bool:
        """Whether the run is to stop: on every rank, where one of them says so."""
        self.stopping = self._ranks.total(self.stopping) > 0
        return self.stopping

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


def _sharded(stored: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights, initial weights and averages of a checkpoint, sharded as the weights are."""
    found = {}
    for name, value in stored.items():
        like = tensors.get(name.rpartition("/")[2], value)
        found[name] = sharded_as(value, like)
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


def _placed_as(expected: States, states: States) -> States:
    """The same states where the stages keep them: numbers that the host reads, on the host."""
    return {
        name: {key: value.to(expected[name][key].device) for key, value in state.items()}
        for name, state in states.items()
    }


def _copy(values: Mapping[str, Tensor], tensors: Mapping[str, Tensor | nn.Parameter]) -> None:
    for name, tensor in tensors.items():
        tensor.data.copy_(values[name])
