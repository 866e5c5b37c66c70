"""A public code has orthonormal rows, costs O(D), and its transpose leads back."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import GrammarError, Space
from dpigu.dpcore.grammar.values import View
from dpigu.mechanisms.rows.codes import Decode, Encode, codes
from hypothesis import given
from hypothesis import strategies as st

from tests.support.laws.stage_steps import context, normal
from tests.support.linear import applied, matrix_of, true_variance

pytestmark = pytest.mark.numerical

SIZES, BLOCKS, SEEDS = st.integers(1, 17), st.integers(1, 6), st.integers(0, 99)


def started(block, size, seed):
    """The code, what a post map reads of it, and its matrix: K × D."""
    row = Encode(block=block)
    state = row.init(context(Space.flat("g", size), seed=seed), {})
    columns = [row.row(state, e_D) for e_D in torch.eye(size, dtype=torch.float64)]
    return row, {"encode": View(row, state)}, torch.stack(columns, dim=1)


@given(SIZES, BLOCKS, SEEDS)
def test_the_rows_of_the_code_are_orthonormal_and_share_no_coordinate(size, block, seed):
    row, _, code_KD = started(block, size, seed)
    count = codes(block, size)
    assert row.output_space(Space.flat("g", size)).size == len(code_KD) == count
    eye_KK = torch.eye(count, dtype=torch.float64)
    torch.testing.assert_close(code_KD @ code_KD.T, eye_KK, rtol=0, atol=1e-12)
    assert bool(((code_KD != 0).sum(0) == 1).all())
    assert int((code_KD != 0).sum(1).max()) <= block


@given(SIZES, BLOCKS, SEEDS)
def test_decoding_is_the_transpose_and_declares_its_variance(size, block, seed):
    _, reads, code_KD = started(block, size, seed)
    matrix_DK = matrix_of(Decode(), reads, len(code_KD))
    torch.testing.assert_close(matrix_DK, code_KD.T)
    variance_K = normal(len(code_KD), seed=seed).square()
    found_D = applied(Decode(), reads, 0 * variance_K, variance_K).variance
    torch.testing.assert_close(found_D, true_variance(Decode(), reads, variance_K))


@given(SIZES, BLOCKS, SEEDS)
def test_a_row_is_never_longer_than_its_gradient(size, block, seed):
    row, reads, _ = started(block, size, seed)
    g_D = normal(size, seed=seed, dtype=torch.float32)
    z_K = row.row(reads["encode"].state, g_D)
    assert z_K.dtype == torch.float32
    assert float(z_K.norm()) <= float(g_D.norm()) * (1 + 1e-6)


def test_blocks_of_one_lose_nothing_and_the_seed_chooses_the_code():
    _, reads, _ = started(1, 9, 0)
    g_D = normal(9, seed=0)
    z_K = Encode(block=1).row(reads["encode"].state, g_D)
    torch.testing.assert_close(applied(Decode(), reads, z_K).value, g_D)
    one, same, other = (started(3, 9, seed)[2] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_code_keeps_its_share_of_a_gradient_that_it_knows_nothing_of():
    """1/n of the energy of a random gradient of 3000 coordinates, within 10%; the draws are
    fixed (one standard deviation is 2.6%)."""
    row = Encode(block=4)
    state = row.init(context(Space.flat("g", 3000)), {})
    g_D = normal(3000, seed=5)
    share = float(row.row(state, g_D).square().sum() / g_D.square().sum())
    assert share == pytest.approx(1 / 4, rel=0.1)


def test_a_block_out_of_range_is_named():
    with pytest.raises(GrammarError, match=r"encode\.block"):
        Encode(block=0)
