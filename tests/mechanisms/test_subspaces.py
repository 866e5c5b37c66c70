"""A subspace is an orthonormal basis, of the released or the public gradients and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dpigu.dpcore import Clock, ConfigurationError, GrammarError, Phase, Pipeline, Plan, Space
from dpigu.mechanisms import PRESETS, Flat, Gaussian
from dpigu.mechanisms.rows.projections import Lift, Project
from dpigu.mechanisms.subspaces import PublicSubspace, ReleasedSubspace, principal, shares
from dpigu.trainers import Settings, Tensors, build_model, load_data, train
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, normal, release_of
from tests.support.linear import orthonormal

pytestmark = pytest.mark.numerical

SIZES = st.integers(1, 12)


def learnt(stage, g_TD, start=None):
    """The state after these released gradients."""
    state = start if start is not None else stage.init(context(Space.flat("g", g_TD.shape[1])), {})
    for g_D in g_TD:
        state = stage.update(state, release_of(g_D), {})
    return state


def projector(basis_DK):
    return basis_DK @ basis_DK.T


@given(
    SIZES,
    st.integers(1, 14),
    st.floats(0, 1),
    st.lists(st.sampled_from((0.0, 1e-9, 1.0, 1e9)), max_size=6),
    st.integers(0, 99),
)
def test_the_basis_is_orthonormal_whatever_was_released(size, directions, decay, scales, seed):
    """Also before anything is, after nothing but zeros, and after the same gradient again."""
    stage = ReleasedSubspace(size=directions, decay=decay)
    g_TD = torch.tensor(scales, dtype=torch.float64)[:, None] * normal(size, seed=seed)
    basis_DK = stage.basis(learnt(stage, g_TD))
    assert tuple(basis_DK.shape) == (size, min(directions, size))
    eye_KK = torch.eye(basis_DK.shape[1], dtype=torch.float64)
    torch.testing.assert_close(basis_DK.T @ basis_DK, eye_KK, rtol=0, atol=1e-12)


@given(st.integers(3, 12), st.integers(1, 3), st.floats(0.1, 1), st.integers(0, 99))
def test_with_room_for_all_gradients_it_is_their_decayed_second_moment(size, steps, decay, seed):
    """U diag(s²) Uᵀ = Σ_t γ^(T−t) ĝ_t ĝ_tᵀ, to the weight of the faint directions."""
    stage, g_TD = ReleasedSubspace(size=size, decay=decay), normal(steps, size, seed=seed)
    state = learnt(stage, g_TD)
    found_DD = (state["basis_DK"] * state["strength_K"] ** 2) @ state["basis_DK"].T
    weight_T = decay ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)
    want_DD = (g_TD.T * weight_T) @ g_TD
    torch.testing.assert_close(found_DD, want_DD, rtol=0, atol=1e-10 * float(want_DD.norm()))


@given(SIZES, st.integers(1, 5), st.integers(0, 99))
def test_with_one_direction_and_no_memory_it_is_the_last_released_gradient(size, steps, seed):
    stage, g_TD = ReleasedSubspace(size=1, decay=0.0), normal(steps, size, seed=seed)
    (column_D,) = stage.basis(learnt(stage, g_TD)).T
    unit_D = g_TD[-1] / g_TD[-1].norm()
    torch.testing.assert_close((column_D @ unit_D).abs(), torch.ones((), dtype=torch.float64))


def test_many_steps_find_what_noisy_gradients_have_in_common():
    """A mean of length 1 under noise of length √200 a step: 400 steps leave 90% of it inside.

    The draws are fixed; a direction that noise alone chose would hold about √(4/200) = 14%.
    """
    mean_D = orthonormal(200, 1, seed=3)[:, 0]
    stage = ReleasedSubspace(size=4, decay=1.0)
    state = learnt(stage, mean_D + normal(400, 200, seed=4) * 0.5)
    assert float((stage.basis(state).T @ mean_D).norm()) > 0.9
    assert float((stage.basis(learnt(stage, normal(400, 200, seed=4))).T @ mean_D).norm()) < 0.4


def test_it_starts_at_directions_from_the_public_seed():
    stage, space = ReleasedSubspace(size=2), Space.flat("g", 9)
    one, same, other = (stage.init(context(space, seed=s), {})["basis_DK"] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(projector(one), projector(other))


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 14), st.integers(0, 99))
def test_principal_directions_are_the_top_eigenspace_of_the_second_moment(
    size, records, directions, seed
):
    """No K directions hold more of Σ‖g‖² than the K largest eigenvalues, and these hold that."""
    g_MD, spare_DK = normal(records, size, seed=seed), orthonormal(size, directions, seed + 1)
    basis_DK = principal(g_MD.float(), spare_DK)
    eye_KK = torch.eye(min(directions, size), dtype=torch.float64)
    torch.testing.assert_close(basis_DK.T @ basis_DK, eye_KK, rtol=0, atol=1e-12)
    g_MD = g_MD.float().double()
    values_D = torch.linalg.eigvalsh(g_MD.T @ g_MD).flip(0)
    most = values_D[: basis_DK.shape[1]].sum()
    torch.testing.assert_close((g_MD @ basis_DK).square().sum(), most)


@given(st.integers(1, 12), st.data())
def test_every_group_of_coordinates_has_its_own_directions(size, data):
    """Block diagonal, orthonormal, and each block the principal directions of its own part."""
    directions = data.draw(st.integers(1, size))
    groups = data.draw(st.integers(1, directions))
    g_MD = normal(5, size, seed=size)
    stage = PublicSubspace(size=directions, groups=groups)
    start = dataclasses.replace(context(Space.flat("g", size)), public_MD=g_MD)
    state = stage.init(start, {})
    basis_DK, rest_DK = stage.basis(state), stage.basis(state).clone()
    eye_KK = torch.eye(directions, dtype=torch.float64)
    torch.testing.assert_close(basis_DK.T @ basis_DK, eye_KK, rtol=0, atol=1e-12)
    parts = shares(size, directions, groups)
    assert len(parts) == groups
    for rows, columns in parts:
        own_DK = principal(g_MD[:, rows], state["spare_DK"][rows, columns])
        assert torch.equal(basis_DK[rows, columns], own_DK)
        rest_DK[rows, columns] = 0
    assert not bool(rest_DK.any())


def test_gep_of_public_gradients_has_the_authors_constants():
    """Three groups; bounds 5 to 2; each block has the noise of √2 multipliers of its own bound."""
    (phase,) = PRESETS["gep-public"].plan(4).phases
    pipeline = phase.pipeline
    (decompose,), clipper = pipeline.rows, pipeline.clipper
    assert (pipeline.subspace.groups, pipeline.subspace.every) == (3, 1)
    bounds_G = clipper.init(context(decompose.output_space(Space.flat("g", 40))), {})["bounds_G"]
    embedding, residual = float(bounds_G[0]), float(bounds_G[1]) / decompose.residual_scale
    assert embedding / residual == pytest.approx(5 / 2)
    joint = float(clipper.joint_bound({}))
    assert joint == pytest.approx(2**0.5 * embedding)
    assert joint / decompose.residual_scale == pytest.approx(2**0.5 * residual)


def test_public_directions_are_refreshed_every_so_many_steps():
    stage, space = PublicSubspace(size=2, public_records=4, every=3), Space.flat("g", 8)
    state = stage.init(
        dataclasses.replace(context(space), public_MD=normal(4, 8, seed=0)),
        {},
    )
    changed = []
    for step in range(7):
        release = dataclasses.replace(
            release_of(normal(8, seed=step), clock=Clock(step, 7)),
            public_MD=normal(4, 8, seed=10 + step),
        )
        after = stage.update(state, release, {})
        changed.append(not torch.equal(after["basis_DK"], state["basis_DK"]))
        state = after
    assert changed == [False, False, True, False, False, True, False]
    want_DK = principal(normal(4, 8, seed=15), state["spare_DK"])
    assert torch.equal(state["basis_DK"], want_DK)


def test_without_public_records_there_is_no_public_subspace():
    with pytest.raises(GrammarError, match=r"no public gradients.*released-subspace"):
        PublicSubspace().init(context(Space.flat("g", 4)), {})


def test_a_run_shows_it_public_gradients_and_refuses_without_public_data():
    stage = PublicSubspace(size=4, public_records=8, every=1)
    pipeline = Pipeline(
        clipper=Flat(bound=0.5),
        noiser=Gaussian(),
        subspace=stage,
        rows=(Project(size=4),),
        posts=(Lift(),),
    )
    data, plan = load_data("digits"), Plan((Phase("main", pipeline, 2),))
    settings = Settings(epsilon=4.0, expected_batch=16.0, accountant="rdp")
    model = build_model("digits-cnn", data.spec, 0)
    with pytest.raises(ConfigurationError, match="public"):
        train(plan, data, model, settings, progress=False)
    public = dataclasses.replace(data, train=Tensors(data.test_x[:50], data.test_y[:50]))
    run = train(plan, data, model, settings, public=public, progress=False)
    assert run.summary["steps"] == 2


@pytest.mark.parametrize(
    ("stage", "options", "name"),
    [
        (ReleasedSubspace, {"size": 0}, "size"),
        (ReleasedSubspace, {"decay": 1.5}, "decay"),
        (PublicSubspace, {"size": 0}, "size"),
        (PublicSubspace, {"size": 2, "groups": 3}, "groups"),
        (PublicSubspace, {"public_records": 0}, "public_records"),
        (PublicSubspace, {"every": 0}, "every"),
    ],
)
def test_an_option_out_of_range_is_named(stage, options, name):
    with pytest.raises(GrammarError, match=rf"\.{name}"):
        stage(**options)
