"""Averages of the weights are what they say, stand in while they are looked at, and survive."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import ConfigurationError
from dpigu.trainers import Settings
from dpigu.trainers.optim.averaging import Average
from dpigu.trainers.runs import Checkpoint, checkpoint
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.laws.stage_steps import normal

pytestmark = pytest.mark.numerical

COUNTS = st.integers(1, 40)
KINDS = ("none", "ema", "tail")


def model() -> dict[str, nn.Parameter]:
    return {"a": nn.Parameter(torch.zeros(3)), "b.weight": nn.Parameter(torch.zeros(2, 2))}


def walk(average: Average, steps: int, first: int = 0, last: int | None = None) -> Tensor:
    """Weights of a made-up run, seen by the average; all of parameter a's, T × 3."""
    parameters, seen = model(), []
    for step in range(first, steps if last is None else last):
        for k, p in enumerate(parameters.values()):
            p.data.copy_(normal(p.numel(), seed=2 * step + k).reshape(p.shape))
        average.see(parameters, step, steps)
        seen.append(parameters["a"].detach().clone())
    return torch.stack(seen)


def shown(average: Average) -> Tensor:
    parameters = model()
    parameters["a"].data.fill_(7.0)
    with average.applied(parameters):
        inside = parameters["a"].detach().clone()
    assert bool((parameters["a"] == 7.0).all())
    return inside


@given(COUNTS, st.floats(0.01, 1.0))
def test_tail_is_the_mean_of_the_last_steps(steps: int, share: float) -> None:
    average = Average("tail", 0.9, share)
    seen = walk(average, steps)
    torch.testing.assert_close(shown(average), seen[-max(1, round(share * steps)) :].mean(0))


@given(COUNTS, st.floats(0.0, 0.99))
def test_ema_is_the_recursion_with_its_warm_up(steps: int, decay: float) -> None:
    average = Average("ema", decay, 0.5)
    seen = walk(average, steps)
    expected = seen[0]
    for k, weights in enumerate(seen[1:], 1):
        d = min(decay, (1 + k) / (10 + k))
        expected = d * expected + (1 - d) * weights
    torch.testing.assert_close(shown(average), expected)


def test_none_and_a_tail_that_has_not_begun_show_the_weights_themselves() -> None:
    for average in (Average("none", 0.9, 0.5), Average("tail", 0.9, 0.5)):
        walk(average, 10, last=5)
        assert bool((shown(average) == 7.0).all())
        assert average.state() == {}


@pytest.mark.parametrize("kind", ["ema", "tail"])
def test_weights_that_stand_still_are_their_own_average_bit_for_bit(kind: str) -> None:
    """So a frozen parameter is averaged to itself."""
    average, parameters = Average(kind, 0.97, 1.0), model()
    parameters["a"].data.copy_(normal(3, seed=0))
    for step in range(20):
        average.see(parameters, step, 20)
    assert torch.equal(shown(average), parameters["a"].detach())


def test_the_average_is_closer_to_the_centre_of_a_noisy_walk() -> None:
    """Of 40 independent normal vectors the mean of the last 20 is far shorter than the last."""
    for kind, share in (("tail", 0.5), ("ema", 0.5)):
        average = Average(kind, 0.9999, share)
        seen = walk(average, 40)
        assert float(shown(average).norm()) < 0.6 * float(seen.norm(dim=1).mean())


@pytest.mark.parametrize("kind", KINDS)
@given(stop=st.integers(1, 19))
def test_it_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(kind: str, stop: int) -> None:
    whole, first = (Average(kind, 0.9, 0.6) for _ in range(2))
    walk(whole, 20)
    walk(first, 20, last=stop)
    weights = {name: p.detach() for name, p in model().items()} | first.state()
    point = Checkpoint(0, stop, weights, (), {"state": {}, "param_groups": []})
    loaded = checkpoint.decoded(checkpoint.encoded(point, {}), point, torch.device("cpu"))
    second = Average(kind, 0.9, 0.6, loaded.weights)
    walk(second, 20, first=stop)
    assert torch.equal(shown(second), shown(whole))


def test_what_is_forgotten_starts_afresh() -> None:
    average, other = Average("ema", 0.9, 0.5), Average("ema", 0.9, 0.5)
    walk(average, 20, last=10)
    average.reset()
    for one in (average, other):
        walk(one, 20, first=10)
    assert torch.equal(shown(average), shown(other))


def test_settling_puts_the_average_into_the_model_and_holds_no_tie_to_it() -> None:
    average, parameters = Average("tail", 0.9, 1.0), model()
    walk(average, 5)
    expected = shown(average)
    average.settle(parameters)
    assert torch.equal(parameters["a"].detach(), expected)
    parameters["a"].data.zero_()
    assert torch.equal(shown(average), expected)


def test_the_settings_make_it_and_refuse_what_is_out_of_range() -> None:
    average = Settings(average="tail", average_share=0.1).averager()
    seen = walk(average, 30)
    torch.testing.assert_close(shown(average), seen[-3:].mean(0))
    for option in ({"average_decay": 1.0}, {"average_share": 0.0}):
        with pytest.raises(ConfigurationError, match=r"settings\.average"):
            Settings(**option)
