"""Precision: a bound's products run in the precision of their types, whatever a process allows."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from dpigu.dpcore import DenseRows, PrivacyError
from dpigu.dpcore.precision import EMULATED, EXACT, full_precision, refuse_emulated_products
from dpigu.trainers.engines.layers import norm_methods
from torch import Tensor

from tests.support.laws.strategies import dpsgd, opened

WANTED = [exact for _, _, exact in EXACT]


def switches() -> list[object]:
    return [getattr(owner, name) for owner, name, _ in EXACT]


@pytest.fixture(params=["high", "medium", "set one by one"])
def coarse(request: pytest.FixtureRequest) -> Iterator[list[object]]:
    """A process that allows coarse products, by the old switch or the new ones."""
    before = switches()
    if request.param == "set one by one":
        coarsest = ("tf32", "bf16", True, True, True)
        for (owner, name, _), value in zip(EXACT, coarsest, strict=True):
            setattr(owner, name, value)
    else:
        torch.set_float32_matmul_precision(request.param)
    yield switches()
    for (owner, name, _), value in zip(EXACT, before, strict=True):
        setattr(owner, name, value)


def test_inside_all_is_exact_and_outside_as_it_was(coarse: list[object]) -> None:
    assert coarse != WANTED
    with full_precision():
        assert switches() == WANTED
    assert switches() == coarse
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert switches() == coarse


class Watched(DenseRows):
    """Rows that note how products are computed where their norms and sums are."""

    def norm_upper_bounds(self) -> Tensor:
        SEEN.append(switches())
        return super().norm_upper_bounds()

    def weighted_sum(self, factors_BG: Tensor) -> Tensor:
        SEEN.append(switches())
        return super().weighted_sum(factors_BG)


SEEN: list[list[object]] = []


def test_the_kernel_asks_for_norms_and_sums_at_full_precision(coarse: list[object]) -> None:
    """And a model runs as its user allowed."""
    here, forward = opened(dpsgd()), []

    def batch() -> Iterator[DenseRows]:
        for _ in range(2):
            forward.append(switches())
            yield Watched(torch.ones(3, 24))

    SEEN.clear()
    here.kernel().release(here.states, here.context, batch())
    assert SEEN == [WANTED] * 4 and forward == [coarse] * 2 and switches() == coarse


def test_the_engines_norms_are_taken_at_full_precision(
    coarse: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    form = SimpleNamespace(of=lambda *_: seen.append(switches()))
    monkeypatch.setattr(norm_methods, "Form", form)
    norm_methods.choose(
        SimpleNamespace(), SimpleNamespace(shift_P=torch.zeros(1)), norm_methods.Workspace()
    )  # type: ignore[arg-type]  # read by nobody
    assert seen == [WANTED] and switches() == coarse


@pytest.mark.parametrize("name", EMULATED)
def test_emulated_products_are_refused_where_they_would_be_used(name: str) -> None:
    with pytest.raises(PrivacyError, match="products are emulated"):
        refuse_emulated_products(torch.device("cuda"), {name: "1"})
    for device, value in (("cuda", "0"), ("cuda", ""), ("cpu", "1")):
        refuse_emulated_products(torch.device(device), {name: value})
    refuse_emulated_products(torch.device("cuda"), {})
