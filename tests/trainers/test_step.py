"""An epoch is a number of steps: each ends once, where the number of steps says it does."""

from __future__ import annotations

from dpigu.dpcore import PoissonSampler
from dpigu.trainers import Step
from dpigu.trainers.calibration import steps_of
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(0.001, 1.0), st.integers(1, 12))
def test_every_epoch_ends_once_and_the_last_one_with_the_run(rate: float, epochs: int) -> None:
    steps = steps_of(epochs, PoissonSampler(rate, records=1000))
    ends = [Step(n + 1, rate, "main", None, None, {}, None).ends_epoch for n in range(steps)]
    assert [epoch for epoch in ends if epoch is not None] == list(range(1, epochs + 1))
    assert ends[-1] == epochs
