"""The messages that the bug zoo's table quotes are those that are printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import DenseRows, DpiguError, Kernel, Phase, Pipeline, Plan, Released
from dpigu.mechanisms import Flat, Gaussian, Unclipped
from dpigu.trainers.engines.checked import refuse_batch_statistics
from torch import nn

from tests.laws.test_sensitivity import Misshapen
from tests.mutants import broken_boundary, broken_public, broken_rows
from tests.mutants.table import MUTANTS
from tests.support.laws.strategies import opened
from tests.support.zoo.strange_stages import Warm

assert broken_boundary and broken_public and broken_rows
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"


def zoo() -> list[list[str]]:
    """The cells of the bug zoo's table: bug, refused, law and check, audit."""
    section = DOCUMENT.read_text().split("## The bug zoo")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


def quoted_from_mypy() -> list[str]:
    """What mypy is quoted with; `"Got"; expected "Slot"` stands for its whole line."""
    return [q for row in zoo() for q in re.findall(r"`mypy: ([^`]+)`", row[1])]


def _one_factor() -> None:
    here = opened(Plan((Phase("main", Pipeline(Misshapen(), Gaussian()), 1),)))
    rows = DenseRows(torch.ones(3, 24), here.pipeline.space.groups("parameter"), 3)
    found = Kernel(here.pipeline, expected_batch=4.0, relative_error=0.0)
    found.release(here.states, here.context, [rows])


REFUSED: tuple[Callable[[], object], ...] = (
    lambda: Pipeline(clipper=Unclipped(), noiser=Gaussian()),
    lambda: Pipeline(clipper=Flat(bound=1.0), noiser=Warm()),
    lambda: Released(torch.zeros(1), torch.zeros(1)),
    lambda: refuse_batch_statistics(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))),
    _one_factor,
)


def printed(make: Callable[[], object]) -> str:
    with pytest.raises(DpiguError) as caught:
        make()
    return str(caught.value)


def test_a_quoted_refusal_is_what_is_printed() -> None:
    """Each is quoted, whole or up to its `…`, and nothing else is."""
    cells = " ".join(row[1] for row in zoo())
    quoted = [q for q in re.findall(r"`([^`]+)`", cells) if ": " in q and "mypy: " not in q]
    lines = [printed(make) for make in REFUSED]
    assert len(quoted) == len(lines)
    for quote in quoted:
        start = quote.removesuffix("…")
        assert any(line.startswith(start) if start != quote else line == quote for line in lines)


QUOTED_CHECKS = sorted({q for row in zoo() for q in re.findall(r'`([\w-]+)`: "([^"]+)"', row[2])})


@pytest.mark.parametrize(("check", "words"), QUOTED_CHECKS)
def test_a_quoted_check_says_so(check: str, words: str) -> None:
    """tests/mutants/test_stages.py holds every broken stage to what it is said to print."""
    assert any(words in mutant.says for mutant in MUTANTS if mutant.by == check)


def test_the_table_is_read() -> None:
    assert len(zoo()) > 15 and all(len(row) == 4 for row in zoo())
    assert len(quoted_from_mypy()) > 8 and len(QUOTED_CHECKS) > 6
