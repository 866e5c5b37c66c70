"""The carriers' gradients restore an orthogonal projection of a weight matrix's gradient."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import GrammarError, Phase, Pipeline, Plan, Space
from dpigu.dpcore.grammar.values import View
from dpigu.mechanisms import Gaussian, Unclipped
from dpigu.mechanisms.rows.low_rank import LowRank, LowRankRestorer, carriers_in, matrix_rank
from dpigu.trainers.runs import Checkpoint, checkpoint
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, normal, release_of, steps_of
from tests.support.linear import applied, true_variance

pytestmark = pytest.mark.numerical

MODEL = Space(
    ("conv.weight", "conv.bias", "out.weight", "out.bias"), ((4, 2, 3, 3), (4,), (5, 8), (5,))
)
RANKS, SEEDS = st.integers(1, 4), st.integers(0, 99)


def started(rank, seed, steps=2):
    """The row map after some released gradients."""
    row = LowRank(rank=rank)
    state = row.init(context(MODEL, seed=seed), {})
    for step in range(steps):
        state = row.update(state, release_of(normal(MODEL.size, seed=seed + step)), {})
    return row, state


def restored(row, state, g_D):
    """row, then back: a vector of the model's space."""
    reads = {"low-rank": View(row, state)}
    return applied(LowRankRestorer(), reads, row.row(state, g_D)).value


@given(RANKS, SEEDS, st.integers(0, 3))
def test_carriers_are_orthonormal_from_the_start(rank, seed, steps):
    _, state = started(rank, seed, steps)
    for left_PR, right_RQ in carriers_in(state):
        eye_RR = torch.eye(left_PR.shape[1], dtype=torch.float64)
        for gram_RR in (left_PR.T @ left_PR, right_RQ @ right_RQ.T):
            torch.testing.assert_close(gram_RR, eye_RR, rtol=0, atol=1e-12)


@given(RANKS, SEEDS)
def test_a_row_is_the_gradient_of_its_carriers(rank, seed):
    """Of ⟨G, L R⟩ with respect to L and R, by automatic differentiation; the rest as it is."""
    row, state = started(rank, seed)
    g_D = normal(MODEL.size, seed=seed + 7)
    z = row.output_space(MODEL).split(row.row(state, g_D))
    blocks, carriers = MODEL.split(g_D), iter(carriers_in(state))
    for name, shape in zip(MODEL.names, MODEL.shapes, strict=True):
        if not matrix_rank(shape, rank):
            assert torch.equal(z[name], blocks[name])
            continue
        left_PR, right_RQ = (x.clone().requires_grad_() for x in next(carriers))
        weight = (blocks[name].reshape(shape[0], -1) * (left_PR @ right_RQ)).sum()
        want = torch.autograd.grad(weight, (left_PR, right_RQ))
        for side, gradient in zip(("left", "right"), want, strict=True):
            torch.testing.assert_close(z[f"{name}.{side}"], gradient)


@given(RANKS, SEEDS)
def test_restoring_is_the_orthogonal_projection_that_carriers_can_express(rank, seed):
    """G − (I − L Lᵀ) G (I − Rᵀ R) for each matrix; the rest comes back exactly."""
    row, state = started(rank, seed)
    g_D = normal(MODEL.size, seed=seed + 7)
    back_D = restored(row, state, g_D)
    torch.testing.assert_close(restored(row, state, back_D), back_D, rtol=0, atol=1e-12)
    torch.testing.assert_close((g_D - back_D) @ back_D, g_D.new_zeros(()), rtol=0, atol=1e-11)
    carriers = iter(carriers_in(state))
    for name, g in MODEL.split(g_D).items():
        back, shape = MODEL.split(back_D)[name], tuple(g.shape)
        if not matrix_rank(shape, rank):
            assert torch.equal(back, g)
            continue
        left_PR, right_RQ = next(carriers)
        g_PQ = g.reshape(shape[0], -1)
        missed_PQ = g_PQ - left_PR @ left_PR.T @ g_PQ
        missed_PQ = missed_PQ - missed_PQ @ right_RQ.T @ right_RQ
        want_PQ = g_PQ - missed_PQ
        torch.testing.assert_close(back.reshape(shape[0], -1), want_PQ, rtol=0, atol=1e-12)


@given(st.integers(1, 2), SEEDS)
def test_the_declared_variance_is_that_of_the_noise(rank, seed):
    row, state = started(rank, seed)
    reads = {"low-rank": View(row, state)}
    variance_K = normal(row.output_space(MODEL).size, seed=seed).square()
    found_D = applied(LowRankRestorer(), reads, 0 * variance_K, variance_K).variance
    want_D = true_variance(LowRankRestorer(), reads, variance_K)
    torch.testing.assert_close(found_D, want_D, rtol=0, atol=1e-12)


def test_carriers_come_to_hold_the_principal_directions_of_the_history():
    """Released gradients of rank one: what they have in common passes whole."""
    space = Space(("w",), ((9, 12),))
    g_D = (normal(9, seed=1)[:, None] * normal(12, seed=2)).reshape(-1)
    row = LowRank(rank=1)
    state = row.init(context(space), {})
    assert float((restored(row, state, g_D) - g_D).norm()) > 0.1 * float(g_D.norm())
    for _ in range(3):
        state = row.update(state, release_of(g_D), {})
    torch.testing.assert_close(restored(row, state, g_D), g_D, rtol=0, atol=1e-10)


def test_the_space_says_what_a_row_holds_and_keeps_what_carriers_would_not_shrink():
    """A 4 × 18 kernel at rank 2 has 44 coordinates, 5 × 8 has 26; at rank 4 both stay whole."""
    space = LowRank(rank=2).output_space(MODEL)
    assert dict(zip(space.names, space.shapes, strict=True)) == {
        "conv.weight.left": (4, 2),
        "conv.weight.right": (2, 18),
        "out.weight.left": (5, 2),
        "out.weight.right": (2, 8),
        "conv.bias": (4,),
        "out.bias": (5,),
    }
    whole = LowRank(rank=4).output_space(MODEL)
    assert whole.size == MODEL.size and set(whole.names) == set(MODEL.names)


def test_a_phase_releases_the_restored_mean():
    pipeline = Pipeline(
        clipper=Unclipped(),
        noiser=Gaussian(noise_multiplier=0.0),
        rows=(LowRank(rank=1),),
        posts=(LowRankRestorer(),),
    )
    plan, before = Plan((Phase("main", pipeline, 3),)), None
    rows = {t: normal(4, MODEL.size, seed=t) for t in range(3)}
    for t, (_, _, release, states) in enumerate(steps_of(plan, MODEL, lambda t, context: rows[t])):
        if before is not None:
            want_D = restored(LowRank(rank=1), before, rows[t].mean(0))
            torch.testing.assert_close(release.gradient.value, want_D, rtol=0, atol=1e-12)
        before = states["low-rank"]


def test_its_state_comes_back_from_a_checkpoint():
    _, state = started(2, 0)
    states = ({"low-rank": state},)
    point = Checkpoint(0, 2, {}, states, {"state": {}, "param_groups": []})
    stored = checkpoint.encoded(point, {})
    back = checkpoint.decoded(stored, point, torch.device("cpu")).states[0]["low-rank"]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), RANKS)
def test_carriers_are_smaller_than_their_matrix_or_there_are_none(shape, rank):
    found = matrix_rank(tuple(shape), rank)
    rows, columns = shape[0], math.prod(shape[1:])
    if found:
        assert len(shape) > 1 and found <= rank and found * (rows + columns) < rows * columns
    elif len(shape) > 1:
        assert min(rank, rows, columns) * (rows + columns) >= rows * columns


def test_a_rank_out_of_range_is_named():
    with pytest.raises(GrammarError, match=r"low-rank\.rank"):
        LowRank(rank=0)
