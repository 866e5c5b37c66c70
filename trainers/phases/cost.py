"""What a run will take: time and memory, from trial steps on made-up records."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from dpigu.dpcore import DpiguError, SystemNoise
from dpigu.dpcore.grammar.stages import evaluates
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.phases.phase import RunningPhase


class Cost(NamedTuple):
    """What steps take: seconds, and the most bytes that are held at once."""

    seconds: float
    bytes: int


def expected_cost(prepared: PreparedRun, steps: Sequence[int]) -> Cost | None:
    """Time and memory of so many steps of each phase; None where processes train together,
    or where a stage refuses what made-up records release.

    seconds = Σ steps · (one + (⌈E/M⌉ − 1) · (two − one)),  with E the expected batch, M records a
    microbatch, and one and two the time of trial steps of one and of two microbatches

    Made-up records go through the phase's own engine and a kernel, so nothing is read of the data
    and nothing is spent. What reading records, looks at updates and evaluations take is not in it.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        return None
    try:
        return Cost(_seconds(prepared, steps), _most_bytes(prepared.device))
    except DpiguError:  # stages that want other releases than a trial without data gives
        return None


def _seconds(prepared: PreparedRun, steps: Sequence[int]) -> float:
    seconds, earlier = 0.0, dict[str, Any]()
    parameters = {n: p for n, p in prepared.model.named_parameters() if p.requires_grad}
    for phase, count in zip(prepared.plan.phases, steps, strict=True):
        running = RunningPhase(prepared, phase, earlier, SystemNoise(), None)
        states = running.begin(parameters)
        prepared.model.train(not evaluates(phase.pipeline.statistic))
        took = []
        for pieces in (1, 1, 2):
            began = time.monotonic()
            states = running.trial(states, pieces, parameters)
            if prepared.device.type == "cuda":
                torch.cuda.synchronize(prepared.device)
            took.append(time.monotonic() - began)
        more = math.ceil(prepared.sampler.expected_batch / running.microbatch) - 1
        seconds += count * (took[1] + more * max(0.0, took[2] - took[1]))
        earlier = dict(running.pipeline.views(states))
    return seconds


def _most_bytes(device: torch.device) -> int:
    """The most that the process has held so far: on the device, or in memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else 1024 * held
