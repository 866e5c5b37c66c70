"""Locality: a row depends on its record, its own randomness and released state alone."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import kernel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.exact import same
from tests.support.laws.engines import ENGINES, Task, row_of, tasks
from tests.support.laws.strategies import NOT_FINITE, Opened, batches, steps

pytestmark = pytest.mark.numerical

STEPS = steps(wild=True)
ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5}


def law_others_leave_a_row_alone(here: Opened, g_BD: Tensor, at: int, poison: float) -> None:
    """Whatever the other records are, a row and its factors are the same, bit for bit."""
    at = at % len(g_BD)
    others_BD = torch.full_like(g_BD, poison)
    others_BD[at] = g_BD[at]
    seen = []
    for gradients in (g_BD, others_BD):
        rows = here.rows(gradients)
        norms_BG = rows.norm_upper_bounds()
        pipeline = here.pipeline.stages
        c_BG, _ = kernel.guarded_factors(
            pipeline.clipper,
            here.states[pipeline.name_in("clipper")],
            norms_BG,
            here.pipeline.bound(here.states),
        )
        seen.append((rows.z_BK[at], norms_BG[at], c_BG[at]))
    assert all(same(x, y) for x, y in zip(*seen, strict=True))


def law_rows_move_with_their_records(here: Opened, g_BD: Tensor, order: list[int]) -> None:
    """Permuting, dropping and duplicating records does the same to the rows."""
    index = torch.tensor([i % len(g_BD) for i in order], dtype=torch.int64)
    moved_BK = here.context.transform(g_BD[index])
    close(moved_BK, here.context.transform(g_BD)[index])


def law_one_by_one_is_batched(here: Opened, g_BD: Tensor) -> None:
    """A batch's rows are those of its records taken one at a time."""
    whole_BK = here.context.transform(g_BD)
    for i, g_D in enumerate(g_BD):
        close(here.context.transform(g_D[None])[0], whole_BK[i])


def close(a: Tensor, b: Tensor) -> None:
    """Equal to rounding, relatively to the longest entry of each row."""
    finite = b.isfinite()
    assert torch.equal(finite, a.isfinite())
    tolerance = ROUNDING[b.dtype]
    a, b = torch.where(finite, a, 0).double(), torch.where(finite, b, 0).double()
    scale = b.abs().amax(-1, keepdim=True)
    assert bool(((a - b).abs() <= tolerance * scale + 1e-300).all())


OTHERS = {
    "here": STEPS,
    "g_BD": batches(min_size=1),
    "at": st.integers(0, 5),
    "poison": st.sampled_from((0.0, 1e30, *NOT_FINITE)),
}


@given(**OTHERS)
def test_others_leave_a_row_alone(here: Opened, g_BD: Tensor, at: int, poison: float) -> None:
    law_others_leave_a_row_alone(here, g_BD, at, poison)


TAME = batches(min_size=1, wild=False, dtypes=(torch.float64, torch.float32))


@given(here=steps(), g_BD=TAME, order=st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_rows_move_with_their_records(here: Opened, g_BD: Tensor, order: list[int]) -> None:
    law_rows_move_with_their_records(here, g_BD, order)


@given(here=steps(), g_BD=TAME)
def test_one_by_one_is_batched(here: Opened, g_BD: Tensor) -> None:
    law_one_by_one_is_batched(here, g_BD)


def law_engine_keeps_records_apart(task: Task, engine: str, at: int, poison: float) -> None:
    """Through the whole model: poisoned neighbours change nothing in a record's row or norm."""
    count = len(task.x_B)
    at = at % count
    others = torch.full_like(task.x_B, poison)
    others[at] = task.x_B[at]
    seen = []
    for x_B in (task.x_B, others):
        _, rows = task.rows(engine, task.plain(), x_B=x_B)
        seen.append((rows.norm_upper_bounds()[at], row_of(rows, at, count)))
    assert all(same(x, y) for x, y in zip(*seen, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
@given(task=tasks(), at=st.integers(0, 5), poison=st.sampled_from((0.0, 1e3, *NOT_FINITE)))
def test_an_engine_keeps_records_apart(task: Task, engine: str, at: int, poison: float) -> None:
    law_engine_keeps_records_apart(task, engine, at, poison)
