"""DP-AdamBC is Adam without the noise's part of its second moment, and the schedules warm up."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import ConfigurationError, RunError, Space
from dpigu.trainers import Settings
from dpigu.trainers.optim.optimizers import AdamBC
from dpigu.trainers.runs import Checkpoint, checkpoint
from dpigu.trainers.settings import masked_step
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.laws.stage_steps import normal, release_of

pytestmark = pytest.mark.numerical

SIZE = 50


def parameter(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(normal(SIZE, seed=seed))


def run(
    optimizer: torch.optim.Optimizer,
    weight: nn.Parameter,
    gradients: list[Tensor],
    variance: float,
    support_D: Tensor | None = None,
) -> Tensor:
    """The weights after these released gradients."""
    space = Space.flat("w", SIZE)
    for g_D in gradients:
        release = release_of(g_D, torch.full((SIZE,), variance, dtype=torch.float64), support_D)
        masked_step(optimizer, {"w": weight}, space, release)
    return weight.detach().clone()


@given(st.integers(0, 1000), st.floats(0.0, 0.1), st.integers(1, 6))
def test_without_noise_it_is_adam(seed: int, decay: float, steps: int) -> None:
    gradients = [normal(SIZE, seed=seed + t) for t in range(steps)]
    one, other = parameter(), parameter()
    ours = run(AdamBC([one], lr=0.1, weight_decay=decay), one, gradients, 0.0)
    torchs = run(torch.optim.Adam([other], lr=0.1, weight_decay=decay), other, gradients, 0.0)
    torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-7)


@given(st.integers(0, 1000), st.floats(0.01, 2.0), st.floats(0.01, 1.0), st.integers(1, 5))
def test_a_step_is_the_formula(seed: int, variance: float, floor: float, steps: int) -> None:
    """With a constant variance v: θ − η·m̂/√max(v̂ − v, φ·v) (arXiv 2312.14334, Algorithm 1)."""
    gradients = [normal(SIZE, seed=seed + t) for t in range(steps)]
    weight = parameter()
    expected = weight.detach().clone()
    m = v = torch.zeros(SIZE).double()
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        kept = torch.clamp(v / (1 - 0.999**t) - variance, min=floor * variance)
        expected -= 0.1 * (m / (1 - 0.9**t)) / (kept.sqrt() + 1e-8)
    found = run(AdamBC([weight], lr=0.1, floor=floor), weight, gradients, variance)
    torch.testing.assert_close(found, expected)


def steps_taken(make: type, signal: float) -> tuple[float, float]:
    """Mean last steps of Adam or AdamBC where the gradient is `signal` in one half and a tenth
    of it in the other, under noise of deviation 1; after 2000 steps, from fixed seeds."""
    weight = nn.Parameter(torch.zeros(SIZE).double())
    optimizer = make([weight], lr=1.0, betas=(0.99, 0.999))
    mean_D = torch.where(torch.arange(SIZE) < SIZE // 2, signal, signal / 10).double()
    run(optimizer, weight, [mean_D + normal(SIZE, seed=t) for t in range(2000)], 1.0)
    moved = weight.detach()
    return float(-moved[: SIZE // 2].mean()), float(-moved[SIZE // 2 :].mean())


def test_it_tells_loud_from_quiet_coordinates_where_adam_sees_noise_alone() -> None:
    """Adam without noise moves all coordinates alike; under noise it moves them in proportion
    to the gradient, 1 to 10 here. With the noise taken off the ratio falls below half of that
    (the floor keeps it from 1)."""
    loud, quiet = steps_taken(torch.optim.Adam, 1.0)
    assert loud / quiet > 6
    loud, quiet = steps_taken(AdamBC, 1.0)
    assert loud / quiet < 4.5


def test_frozen_weights_and_their_moments_do_not_move() -> None:
    weight, support_D = parameter(), torch.arange(SIZE) % 2 == 0
    start = weight.detach().clone()
    optimizer = AdamBC([weight], lr=0.1)
    now = run(optimizer, weight, [normal(SIZE, seed=t) for t in range(3)], 0.5, support_D)
    assert torch.equal(now[~support_D], start[~support_D])
    assert not torch.equal(now[support_D], start[support_D])
    for key in ("exp_avg", "exp_avg_sq", "variance_avg"):
        assert not optimizer.state[weight][key][~support_D].any()
        assert optimizer.state[weight][key][support_D].all()


def test_it_goes_on_from_a_checkpoint_as_if_it_had_not_stopped() -> None:
    gradients = [normal(SIZE, seed=t) for t in range(6)]
    whole = parameter()
    expected = run(AdamBC([whole], lr=0.1), whole, gradients, 0.3)
    weight = parameter()
    optimizer = AdamBC([weight], lr=0.1)
    run(optimizer, weight, gradients[:4], 0.3)
    stand = Checkpoint(0, 4, {"w": weight.detach()}, (), optimizer.state_dict())
    stored = checkpoint.encoded(stand, {})
    fresh = nn.Parameter(weight.detach().clone())
    again = AdamBC([fresh], lr=0.1)
    start = Checkpoint(0, 0, {}, (), again.state_dict())
    point = checkpoint.decoded(stored, start, torch.device("cpu"))
    again.load_state_dict(dict(point.optimizer))
    assert torch.equal(run(again, fresh, gradients[4:], 0.3), expected)


def test_a_step_without_the_noise_s_variance_is_refused() -> None:
    weight = parameter()
    weight.grad = torch.ones(SIZE).double()
    with pytest.raises(RunError, match="variance of the noise is not known"):
        AdamBC([weight], lr=0.1).step()


def test_the_settings_make_it() -> None:
    weight = parameter()
    optimizer = Settings(optimizer="adam-bc", learning_rate=0.3, weight_decay=0.1).factory()(
        [weight]
    )
    assert isinstance(optimizer, AdamBC)
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


# Schedules


def rates(steps: int, **options: object) -> list[float]:
    settings = Settings(learning_rate=2.0, **options)  # type: ignore[arg-type]  # plain options
    optimizer = settings.factory()([parameter()])
    found = []
    for step in range(steps):
        settings.set_learning_rate(optimizer, step, steps)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@given(st.integers(1, 200), st.floats(0.0, 0.99))
def test_warmup_rises_to_the_schedule_and_then_follows_it(steps: int, warmup: float) -> None:
    for schedule in ("constant", "linear", "cosine"):
        plain = rates(steps, schedule=schedule)
        warm = rates(steps, schedule=schedule, warmup=warmup)
        for step, (a, b) in enumerate(zip(plain, warm, strict=True)):
            share = min(1.0, (step + 1) / (warmup * steps)) if warmup else 1.0
            assert b == pytest.approx(a * share)


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_out_of_range_is_named(warmup: float) -> None:
    with pytest.raises(ConfigurationError, match=r"settings\.warmup"):
        Settings(warmup=warmup)
