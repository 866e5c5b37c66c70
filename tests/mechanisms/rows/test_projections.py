"""Projections lengthen no row, the ways back are their transposes, and two blocks share a bound."""

from __future__ import annotations

import math

import pytest
import torch
from dpigu.dpcore import DenseRows, GrammarError, Phase, Pipeline, Plan, Space
from dpigu.dpcore.grammar.values import View
from dpigu.dpcore.kernel import guarded_factors
from dpigu.mechanisms import Flat, Gaussian, MeanAbsolute, PerGroup, Unclipped
from dpigu.mechanisms.rows.projections import Decompose, Lift, Project, ProjectReleased, Recompose
from dpigu.mechanisms.subspaces import ReleasedSubspace
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import SPACE, context, normal, release_of, steps_of
from tests.support.linear import (
    applied,
    matrix_of,
    orthonormal,
    subspace_reads,
    true_variance,
)

pytestmark = pytest.mark.numerical

SIZES, DIRECTIONS, SEEDS = st.integers(1, 12), st.integers(1, 14), st.integers(0, 99)
SCALES = st.sampled_from((0.25, 1.0, 7.0))
CLOSE = {"rtol": 0, "atol": 1e-12}


def started(row, size, seed):
    """A row map in a space of this size, beside a random subspace; its state and the basis."""
    basis_DK = orthonormal(size, row.size, seed)
    reads = subspace_reads(ReleasedSubspace(size=row.size), basis_DK)
    return row.init(context(Space.flat("g", size)), reads), basis_DK


def view(row, state):
    """What a post map reads of the row map that it undoes."""
    return {type(row).__name__.lower(): View(row, state)}


@given(SIZES, DIRECTIONS, SEEDS)
def test_lifting_a_projection_is_the_orthogonal_projector(size, directions, seed):
    row = Project(size=directions)
    state, basis_DK = started(row, size, seed)
    g_D = normal(size, seed=seed + 1)
    z_K = row.row(state, g_D)
    assert len(z_K) == row.output_space(Space.flat("g", size)).size
    assert float(z_K.norm()) <= float(g_D.norm()) * (1 + 1e-12)
    back_D = applied(Lift(), view(row, state), z_K).value
    torch.testing.assert_close(back_D, basis_DK @ basis_DK.T @ g_D, **CLOSE)
    torch.testing.assert_close(row.row(state, back_D), z_K, **CLOSE)
    torch.testing.assert_close((g_D - back_D) @ back_D, g_D.new_zeros(()), **CLOSE)


@given(SIZES, DIRECTIONS, SEEDS)
def test_projecting_what_was_released_is_the_same_projector(size, directions, seed):
    basis_DK = orthonormal(size, directions, seed)
    reads = subspace_reads(ReleasedSubspace(), basis_DK)
    matrix_DD = matrix_of(ProjectReleased(), reads, size)
    torch.testing.assert_close(matrix_DD, basis_DK @ basis_DK.T, **CLOSE)
    torch.testing.assert_close(matrix_DD @ matrix_DD, matrix_DD, **CLOSE)


@given(SIZES, DIRECTIONS, SCALES, SEEDS)
def test_embedding_and_residual_give_the_row_back_exactly(size, directions, scale, seed):
    row = Decompose(size=directions, residual_scale=scale)
    state, basis_DK = started(row, size, seed)
    g_D = normal(size, seed=seed + 1)
    z = row.row(state, g_D)
    torch.testing.assert_close(applied(Recompose(), view(row, state), z).value, g_D, **CLOSE)
    blocks = row.output_space(Space.flat("g", size)).split(z)
    residual_D = blocks["residual"] / scale
    torch.testing.assert_close(basis_DK.T @ residual_D, 0 * blocks["embedding"], **CLOSE)
    squares = blocks["embedding"].square().sum() + residual_D.square().sum()
    torch.testing.assert_close(squares, g_D.square().sum())


@given(st.integers(1, 6), DIRECTIONS, SCALES, SEEDS)
def test_the_declared_variance_is_that_of_the_noise(size, directions, scale, seed):
    """Also for noise that differs from coordinate to coordinate."""
    project, decompose = Project(size=directions), Decompose(size=directions, residual_scale=scale)
    cases = [(Lift(), project, min(directions, size)), (ProjectReleased(), None, size)]
    cases.append((Recompose(), decompose, min(directions, size) + size))
    for post, row, length in cases:
        if row is None:
            reads = subspace_reads(ReleasedSubspace(), orthonormal(size, directions, seed))
        else:
            reads = view(row, started(row, size, seed)[0])
        variance_K = normal(length, seed=seed).square()
        found = applied(post, reads, torch.zeros_like(variance_K), variance_K).variance
        torch.testing.assert_close(found, true_variance(post, reads, variance_K), **CLOSE)


@given(st.floats(0.1, 10), st.floats(0.1, 10), SCALES, st.floats(0.01, 100), SEEDS)
def test_each_block_is_clipped_to_its_own_bound_and_the_row_to_the_joint_one(
    first, second, scale, length, seed
):
    """C₁ on the embedding, C₂ on the residual: ‖z‖ ≤ √(C₁² + λ²C₂²), whatever the record."""
    row = Decompose(size=2, residual_scale=scale)
    state, _ = started(row, 8, seed)
    space = row.output_space(Space.flat("g", 8))
    joint = math.hypot(first, scale * second)
    clipper = PerGroup(bound=joint, groups="parameter", weights=(first, scale * second))
    clipping = clipper.init(context(space), {})
    z_BK = torch.func.vmap(lambda g_D: row.row(state, g_D))(length * normal(5, 8, seed=seed))
    groups_K = space.groups("parameter")
    rows = DenseRows(z_BK, groups_K, 2)
    bound = clipper.joint_bound(clipping)
    c_BG, _ = guarded_factors(clipper, clipping, rows.norm_upper_bounds(), bound)
    clipped_BK = c_BG[:, groups_K] * z_BK
    assert float(clipped_BK.norm(dim=1).max()) <= joint
    assert float(clipped_BK[:, :2].norm(dim=1).max()) <= first * (1 + 1e-9)
    assert float(clipped_BK[:, 2:].norm(dim=1).max()) / scale <= second * (1 + 1e-9)
    short_B = (z_BK[:, :2].norm(dim=1) <= first) & (z_BK[:, 2:].norm(dim=1) <= scale * second)
    torch.testing.assert_close(clipped_BK[short_B], z_BK[short_B], rtol=1e-9, atol=0)


@given(SEEDS, st.sampled_from((torch.float32, torch.float64)))
def test_rows_keep_their_dtype_and_each_record_its_own_row(seed, dtype):
    g_BD = normal(3, 6, seed=seed, dtype=dtype)
    for row in (Project(size=2), Decompose(size=2)):
        state, _ = started(row, 6, seed)
        z_BK = torch.func.vmap(lambda g_D, row=row, state=state: row.row(state, g_D))(g_BD)
        assert z_BK.dtype == dtype
        alone_BK = torch.stack([row.row(state, g_D) for g_D in g_BD])
        torch.testing.assert_close(z_BK, alone_BK)


def silent(**slots):
    """A pipeline that adds no noise and clips nothing, so that what is released is exact."""
    return Pipeline(clipper=Unclipped(), noiser=Gaussian(noise_multiplier=0.0), **slots)


def rows_of(step, context):
    return normal(4, SPACE.size, seed=step)


def test_a_phase_that_projects_releases_the_projection_to_the_subspace_of_the_phase_before():
    """`subspace` names the stage of the first phase, which learnt from three released gradients."""
    plan = Plan(
        (
            Phase("learn", silent(subspace=ReleasedSubspace(size=3)), 3),
            Phase("use", silent(rows=(Project(size=3),), posts=(Lift(),)), 2),
        )
    )
    steps = list(steps_of(plan, SPACE, rows_of))
    history_TD = torch.stack([release.gradient.value for _, _, release, _ in steps[:3]])
    span_DK = torch.linalg.qr(history_TD.T).Q
    for at, (_, _, release, _) in enumerate(steps[3:], start=3):
        want_D = span_DK @ span_DK.T @ rows_of(at, None).mean(0)
        torch.testing.assert_close(release.gradient.value, want_D, rtol=0, atol=1e-9)
        assert len(release.noised.value) == 3


def test_what_is_released_in_a_subspace_never_turns_it():
    """Why `released-subspace` has to learn in a phase before, or beside a residual."""
    subspace = ReleasedSubspace(size=3)
    plan = Plan(
        (Phase("both", silent(subspace=subspace, rows=(Project(size=3),), posts=(Lift(),)), 6),)
    )
    bases = [
        states["released-subspace"]["basis_DK"] for *_, states in steps_of(plan, SPACE, rows_of)
    ]
    first, last = bases[0] @ bases[0].T, bases[-1] @ bases[-1].T
    torch.testing.assert_close(first, last, rtol=0, atol=1e-6)
    free = Plan(
        (
            Phase(
                "both",
                silent(subspace=subspace, rows=(Decompose(size=3),), posts=(Recompose(),)),
                6,
            ),
        )
    )
    turned = [
        states["released-subspace"]["basis_DK"] for *_, states in steps_of(free, SPACE, rows_of)
    ]
    assert not torch.allclose(turned[0] @ turned[0].T, turned[-1] @ turned[-1].T, atol=0.1)


def test_a_decomposed_phase_releases_the_whole_gradient_whatever_the_subspace():
    pipeline = silent(
        subspace=ReleasedSubspace(size=1, decay=0.0),
        rows=(Decompose(size=1, residual_scale=3.0),),
        posts=(Recompose(),),
    )
    for at, (_, _, release, _) in enumerate(
        steps_of(Plan((Phase("all", pipeline, 4),)), SPACE, rows_of)
    ):
        torch.testing.assert_close(release.gradient.value, rows_of(at, None).mean(0), **CLOSE)


def test_the_row_map_takes_over_what_the_subspace_learnt():
    subspace, row = ReleasedSubspace(size=2), Project(size=2)
    state = subspace.init(context(SPACE), {})
    followed = row.init(context(SPACE), {"subspace": (subspace, state)})
    state = subspace.update(state, release_of(normal(SPACE.size, seed=1)), {})
    followed = row.update(followed, None, {"subspace": (subspace, state)})
    assert torch.equal(followed["basis_DK"], state["basis_DK"])


def test_another_size_than_the_subspaces_is_refused():
    reads = subspace_reads(ReleasedSubspace(size=4), orthonormal(9, 4, 0))
    for row in (Project(size=3), Decompose(size=5)):
        with pytest.raises(GrammarError, match=r"size.*expected 4"):
            row.init(context(Space.flat("g", 9)), reads)


def test_rows_that_have_left_the_parameters_space_are_refused():
    reads = subspace_reads(ReleasedSubspace(size=4), orthonormal(9, 4, 0))
    with pytest.raises(GrammarError, match=r"another space.*5 coordinates, expected 9"):
        Project(size=4).init(context(Space.flat("g", 5)), reads)


def test_a_stage_without_a_basis_is_refused():
    reads = {"subspace": (MeanAbsolute(), {})}
    with pytest.raises(GrammarError, match=r"no basis.*mean-abs.*released-subspace"):
        Project(size=3).init(context(Space.flat("g", 9)), reads)


def test_lifting_what_nothing_projected_is_refused():
    pipeline = Pipeline(
        clipper=Flat(bound=1.0),
        noiser=Gaussian(),
        subspace=ReleasedSubspace(size=2),
        rows=(Project(size=2),),
        posts=(Lift(), Lift()),
    )
    with pytest.raises(GrammarError, match="no row map has coded these rows"):
        pipeline.check(SPACE)


@pytest.mark.parametrize("options", [{"size": 0}, {"residual_scale": 0.0}, {"reads": ()}])
def test_an_option_out_of_range_is_named(options):
    (name,) = options
    with pytest.raises(GrammarError, match=rf"decompose\.{name}"):
        Decompose(**options)
