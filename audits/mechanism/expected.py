"""What an adversary expects one record to add to a step, computed apart from the kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from dpigu.audits.mechanism.adversary import AdversarialRows
from dpigu.dpcore import OpenStep, StepContext
from torch import Tensor


class Answer(NamedTuple):
    """A query's vector for one record, the ratio of its noise, and its bound."""

    vector: Tensor
    noise_ratio: float
    bound: float


def row_at_the_clipper(context: StepContext, drawn: AdversarialRows) -> Tensor:
    """The record's row at the clipper, whether or not it will be in the batch."""
    if drawn.row_D is not None:
        return drawn.row_D
    return context.transform(drawn.record_D[None])[0]


def expected_share(step: OpenStep, z_K: Tensor) -> tuple[Tensor, dict[str, Answer]]:
    """What one row should add to the sum and to every query, computed apart from the kernel.

    The clipper's own factors, shortened to the bound; 0 for a row that is not finite. Stages are
    asked about the record before the batch's own rows, whether or not it is in the batch, so
    that what they might keep of that tells nothing.
    """
    pipeline, states = step.pipeline, step.states
    stages = pipeline.stages
    z_K = z_K.to(torch.float64)
    if not bool(z_K.isfinite().all()):
        return torch.zeros_like(z_K), {}
    groups_K, count = pipeline.groups
    if groups_K is None:
        norms_G = z_K.norm()[None]
    else:
        norms_G = z_K.new_zeros(count).index_add(0, groups_K, z_K**2).sqrt()
    factors_G = stages.clipper.factors(states[stages.name_in("clipper")], norms_G)
    factors_G = factors_G.to(torch.float64).nan_to_num(0, 0, 0)
    clipped_K = z_K * (factors_G if groups_K is None else factors_G[groups_K])
    answers = {}
    for placed in stages.of("query"):
        query = placed.stage
        vector = query.vector(states[placed.name], norms_G, pipeline.reads(placed, states))
        vector = _within(vector.to(torch.float64), query.bound)
        answers[placed.name] = Answer(vector, query.noise_ratio, query.bound)
    return _within(clipped_K, step.bound), answers


def _within(v: Tensor, bound: float) -> Tensor:
    """The vector, shortened to the bound if it is longer."""
    norm = float(v.norm())
    return v * (bound / norm) if norm > bound else v
