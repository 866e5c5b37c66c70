"""Off the support, weights and optimizer state stay bit for bit what they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    DenseRows,
    Driver,
    PhaseContext,
    Pipeline,
    Release,
    Space,
)
from dpigu.mechanisms import Flat, Gaussian, Random, TopK
from dpigu.trainers.engines import trainable
from dpigu.trainers.settings import masked_step
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

pytestmark = pytest.mark.numerical

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
}


def releases(space: Space, ratio: float, seed: int, steps: int) -> list[Release]:
    stages = Pipeline(
        clipper=Flat(bound=1.0), noiser=Gaussian(), scorer=Random(), scheduler=TopK(ratio=ratio)
    )
    pipeline = BoundPipeline(stages, space)
    states = pipeline.begin(PhaseContext(space, torch.zeros(space.size), steps, seed))
    driver = Driver(pipeline, expected_batch=2.0, relative_error=0.0)
    found = []
    for step in range(steps):
        opened = driver.open(states, Clock(step, steps))
        release, states = opened.release([DenseRows(torch.randn(2, space.size))])
        found.append(release)
    return found


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@given(ratio=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_frozen_weights_and_their_state_do_not_move(name: str, ratio: float, seed: int) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    parameters = dict(model.named_parameters())
    space = Space.of(trainable(model))
    optimizer = OPTIMIZERS[name](list(parameters.values()))
    start = space.join({n: p.detach() for n, p in parameters.items()}).clone()
    for release in releases(space, ratio, seed, steps=3):
        masked_step(optimizer, parameters, space, release)
    now = space.join({n: p.detach() for n, p in parameters.items()})
    support_D = release.support_D
    assert torch.equal(now[~support_D], start[~support_D])
    assert not torch.equal(now[support_D], start[support_D])
    for key in ("momentum_buffer", "exp_avg", "exp_avg_sq", "square_avg"):
        if key in optimizer.state[parameters["0.weight"]]:
            state_D = space.join({n: optimizer.state[p][key] for n, p in parameters.items()})
            assert not state_D[~support_D].any(), key
