"""The fast engine agrees with the materialising one, and its norms are never too small."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.trainers.engines.layers import (
    AffineSlice,
    Factors,
    Workspace,
    costs,
    norm_methods,
    outer_product,
)
from dpigu.trainers.engines.layers.parameter_rows import Layout
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.zoo.ghost_cases import (
    GROUPINGS,
    TRANSFORMS,
    Case,
    pair,
)

pytestmark = pytest.mark.numerical

ACTIVATIONS = (nn.Tanh, nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU)


@st.composite
def images(draw: st.DrawFn) -> Case:
    """A convolutional net: kernel, stride, dilation, groups, padding, norms and heads drawn."""
    channels = first = draw(st.sampled_from([2, 4]))
    size = side = draw(st.integers(5, 8))
    layers: list[Callable[[], nn.Module]] = []
    for _ in range(draw(st.integers(1, 2))):
        options = {
            "kernel_size": draw(st.integers(1, 3)),
            "stride": draw(st.integers(1, 2)),
            "padding": draw(st.integers(0, 2)),
            "dilation": draw(st.integers(1, 2)),
            "groups": draw(st.sampled_from([1, 2])),
            "bias": draw(st.booleans()),
        }
        out = draw(st.sampled_from([2, 4, 6]))
        reach = options["dilation"] * (options["kernel_size"] - 1) + 1
        after = (size + 2 * options["padding"] - reach) // options["stride"] + 1
        if after < 1:
            break
        layers.append(lambda c=channels, o=out, k=options: nn.Conv2d(c, o, **k))
        channels, size = out, after
        norm = draw(st.sampled_from(["none", "group", "instance"]))
        if norm == "group":
            layers.append(lambda c=channels: nn.GroupNorm(2, c))
        elif norm == "instance" and size > 1:
            layers.append(lambda c=channels: nn.InstanceNorm2d(c, affine=True))
        layers.append(draw(st.sampled_from(ACTIVATIONS)))
    flat = channels * size * size
    layers += [nn.Flatten, lambda: nn.Linear(flat, 3)]
    return Case(lambda: nn.Sequential(*(make() for make in layers)), (first, side, side))


@st.composite
def sequences(draw: st.DrawFn) -> Case:
    """Tokens or vectors, with norms, linear layers over positions, and a mean."""
    width, length = draw(st.sampled_from([3, 5])), draw(st.integers(1, 6))
    tokens = draw(st.sampled_from([0, 4]))
    norm = draw(st.sampled_from([nn.LayerNorm, nn.RMSNorm]))
    hidden, bias = draw(st.integers(2, 12)), draw(st.booleans())
    activation = draw(st.sampled_from(ACTIVATIONS))
    mean = draw(st.booleans())
    padding = draw(st.sampled_from([None, 0]))

    def build() -> nn.Module:
        first = [nn.Embedding(tokens, width, padding_idx=padding)] if tokens else []
        body = [norm(width), nn.Linear(width, hidden, bias=bias), activation()]
        end = [_Mean()] if mean else [nn.Linear(hidden, 2)]
        return nn.Sequential(*first, *body, *end)

    return Case(build, (length,) if tokens else (length, width), tokens)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


@given(
    case=st.one_of(images(), sequences()),
    transform=st.sampled_from(TRANSFORMS),
    grouping=st.sampled_from(GROUPINGS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 10**6),
)
def test_both_engines_agree(
    case: Case, transform: str, grouping: Grouping, dtype: torch.dtype, seed: int
) -> None:
    pair(case, transform=transform, grouping=grouping, dtype=dtype, seed=seed).check()


MLP = Case(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (6,))
WIDE = Case(lambda: nn.Sequential(nn.Linear(40, 30), nn.Tanh()), (2, 40))
SEQUENCE = Case(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (9, 6))
TOKENS = Case(lambda: nn.Sequential(nn.Embedding(4, 3), nn.Tanh()), (6,), tokens=4)


def _mutate(monkeypatch: pytest.MonkeyPatch, way: type, factor: float, what: str) -> None:
    """Make one way's norms or sums wrong by a factor."""
    if what == "norm":
        right = way.__dict__["of"].__func__

        def of(cls: type, *given: object) -> object:
            made = right(cls, *given)
            made.squares_BG.mul_(factor**2)
            return made

        monkeypatch.setattr(way, "of", classmethod(of))
    else:
        total = way.sum

        def wrong(self: object, c_BG: Tensor, live_B: Tensor | None, out_P: Tensor) -> None:
            total(self, c_BG, live_B, out_P)
            out_P.mul_(factor)

        monkeypatch.setattr(way, "sum", wrong)


@pytest.mark.parametrize(
    ("case", "transform", "way"),
    [
        (SEQUENCE, "scaled", norm_methods.Form),
        (MLP, "scaled", norm_methods.Ghost),
        (MLP, "none", norm_methods.Ghost),
        (WIDE, "none", norm_methods.Gram),
        (TOKENS, "scaled", norm_methods.Touched),
    ],
)
@pytest.mark.parametrize("what", ["norm", "sum"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_agreement_check_notices_a_wrong_way(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    transform: str,
    way: type,
    what: str,
    dtype: torch.dtype,
) -> None:
    """Norms too small, or sums too large, by 2e-4 in one way fail the check; as they are, pass."""
    pair(case, transform=transform, dtype=dtype).check()
    _mutate(monkeypatch, way, 1 - 2e-4 if what == "norm" else 1 + 2e-4, what)
    with pytest.raises(AssertionError):
        pair(case, transform=transform, dtype=dtype).check()


FEW = Case(
    lambda: nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Tanh(), nn.Linear(4, 3)), (3,)
)
"""A normalisation of two numbers: its gradient cancels to √eps, and rounding does not."""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_error_is_as_large_as_the_condition_and_no_larger(dtype: torch.dtype) -> None:
    """In front of the normalisation, rows may err by over 100 roundings; behind it, by a few."""
    few = pair(FEW, grouping="parameter", dtype=dtype)
    few.check()
    referee = few.referee
    relative_G = (referee.error_BG / referee.norms(referee.row_BK)).amax(0)
    unit = torch.finfo(dtype).eps
    assert relative_G[0] > 100 * unit
    assert relative_G[-1] < 50 * unit


@pytest.mark.parametrize(("case", "way"), [(MLP, "ghost"), (WIDE, "gram"), (TOKENS, "sparse")])
def test_each_way_is_chosen_where_it_is_cheapest(case: Case, way: str) -> None:
    engine = pair(case).engine
    assert next(iter(engine.choices().values())).startswith(way)
    centred = pair(case, transform="centred").engine
    assert all(choice.startswith("form") for choice in centred.choices().values())


def test_one_weight_a_parameter_is_taken_at_its_word() -> None:
    """Only what is declared goes the Gram way; no engine looks for weights that are equal."""
    for transform, way in (("layers", "gram"), ("scaled", "form")):
        both = pair(WIDE, transform=transform)
        assert both.engine.choices()["0.weight"].startswith(way)
        both.check()


def test_convolutions_of_one_position_share_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them in a row, whose patches pass through the same working memory.

    They are wide enough by decree: their norms are taken in float32, where they lie.
    """
    monkeypatch.setattr(outer_product, "WIDE", 0)
    whole = nn.Sequential(nn.Conv2d(2, 60, 3), nn.Tanh(), nn.Conv2d(60, 100, 1), nn.Flatten())
    both = pair(Case(lambda: whole, (2, 3, 3)), transform="scaled", dtype=torch.float32)
    assert sum(way.startswith("ghost") for way in both.engine.choices().values()) == 2
    both.check()


def test_rows_are_formed_in_blocks_and_again_when_they_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same norms and sums, bit by bit, whether rows are stored or formed twice."""
    whole = pair(SEQUENCE, transform="scaled")
    one = dataclasses.replace(costs.CPU, stream=1, store=1)
    monkeypatch.setattr(costs, "CPU", one)
    pieces = pair(SEQUENCE, transform="scaled")
    assert torch.equal(whole.fast.norm_upper_bounds(), pieces.fast.norm_upper_bounds())
    c_BG = whole.factors()
    torch.testing.assert_close(
        whole.fast.weighted_sum(c_BG), pieces.fast.weighted_sum(c_BG), rtol=1e-14, atol=0
    )


def test_a_sum_is_a_vector_of_its_own() -> None:
    """The kernel adds to it in place: the sum of other factors must leave it as it was."""
    both = pair(SEQUENCE, transform="scaled")
    c_BG = both.factors()
    for rows in (both.fast, both.full):
        first = rows.weighted_sum(c_BG)
        kept = first.clone()
        assert not torch.equal(rows.weighted_sum(2 * c_BG), kept)
        assert torch.equal(first, kept)


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_ghost_norms_add_up_over_outputs_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, grouping: Grouping
) -> None:
    """One at a time or two, in groups of channels and of coordinates: the same norms."""
    grouped = Case(lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten()), (4, 3, 3))
    norms = []
    for outputs in (1, 2, 2**30):
        monkeypatch.setattr(costs, "CPU", dataclasses.replace(costs.CPU, outputs=outputs))
        both = pair(grouped, transform="scaled", grouping=grouping)
        both.check()
        norms.append(both.fast.norm_upper_bounds())
    for some in norms:
        torch.testing.assert_close(some, norms[-1], rtol=1e-14, atol=0)


@given(
    inputs=st.integers(1, 300),
    outputs=st.integers(1, 6),
    spread=st.floats(0, 30),
    scale=st.floats(-30, 30),
    live=st.floats(0.05, 1),
    seed=st.integers(0, 10**6),
)
def test_a_ghost_norm_in_single_precision_is_never_too_small(
    inputs: int, outputs: int, spread: float, scale: float, live: float, seed: int
) -> None:
    """Against float64, with values spread over 60 decades, whose squares leave float32."""
    _check_ghost(inputs, outputs, spread, scale, live, seed)


def _check_ghost(
    inputs: int, outputs: int, spread: float, scale: float, live: float, seed: int
) -> None:
    way, exact = _ghost(inputs, outputs, spread, scale, live, seed)
    upper = way.squares_BG[:, 0].sqrt()
    assert bool((upper * (1 + 1e-14) >= exact).all())
    a_BI, b_BO = (v.flatten(1).double() for v in (way.rows.left(0, 3), way.rows.b_BqOT))
    largest = a_BI.abs().amax(1) * b_BO.abs().amax(1)
    assert bool((upper <= exact * (1 + 1e-5) + 1e-15 * largest).all())


def _ghost(
    inputs: int, outputs: int, spread: float, scale: float, live: float, seed: int
) -> tuple[norm_methods.Ghost, Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def values(*shape: int) -> Tensor:
        size = 10.0 ** (scale / 2 + spread * (torch.rand(shape, generator=draw) - 0.5))
        return (torch.randn(shape, generator=draw) * size).float().clamp(-1e30, 1e30)

    a_BI, b_BO = values(3, inputs), values(3, outputs)
    w_OI = torch.rand(outputs, inputs, generator=draw, dtype=torch.float64)
    w_OI = torch.where(torch.rand(w_OI.shape, generator=draw) < live, w_OI + 0.1, 0)
    diagonal = AffineSlice(w_OI.flatten())
    layout = Layout((1, outputs, inputs, 1), False)
    wide = outer_product.WIDE
    try:
        outer_product.WIDE = 0
        statistic = Factors(
            layout, lambda lo, hi: a_BI[lo:hi, None, :, None], b_BO[:, None, :, None]
        )
        way = norm_methods.Ghost.of(statistic, diagonal, Workspace())
    finally:
        outer_product.WIDE = wide
    z_BOI = w_OI * b_BO.double()[:, :, None] * a_BI.double()[:, None, :]
    exact = [math.hypot(*z.flatten().tolist()) for z in z_BOI]
    return way, torch.tensor(exact, dtype=torch.float64)


@pytest.mark.parametrize("mutant", ["no margin", "no scaling"])
def test_the_bound_needs_its_margin_and_its_scaling(
    monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """Without the margin some norm is too small; without scaling, squares underflow."""
    if mutant == "no margin":
        right, margin = outer_product._weighted_squares, 1 + (outer_product.TERMS + 16) * 2.0**-23
        monkeypatch.setattr(
            outer_product, "_weighted_squares", lambda *given: right(*given) / margin
        )
    else:
        plain = lambda v, *_: (v.square(), torch.ones(len(v), dtype=torch.float64))  # noqa: E731
        monkeypatch.setattr(outer_product, "_scaled_squares", plain)
    with pytest.raises(AssertionError):
        for seed in range(20):
            _check_ghost(250, 4, 1.0, 0.0 if mutant == "no margin" else -60.0, 1.0, seed)
