"""A law of the ranks stops a bug that is planted in all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.dpcore import Kernel
from dpigu.dpcore.noise.correlated import Correlation
from dpigu.trainers.lifecycle import prepare
from dpigu.trainers.phases.slots import Slots
from dpigu.trainers.runs import LedgerFile

from tests.mutants.core.core_table import KernelMutant
from tests.support.laws.strategies import dpsgd
from tests.support.rank_groups import RankGroup
from tests.trainers.distributed import cases
from tests.trainers.distributed import test_ends as ends
from tests.trainers.distributed import test_kernel_on_ranks as kernel
from tests.trainers.distributed import test_sampling_on_ranks as sampling


@dataclass(frozen=True)
class Bugged:
    """A group whose ranks all have a bug."""

    group: RankGroup
    bug: str

    def __call__(self, case: Callable[..., Any], *given: Any) -> list[Any]:
        return self.group(cases.with_bug, self.bug, case, *given)

    def same(self, case: Callable[..., Any], *given: Any) -> list[Any]:
        return self.group.same(cases.with_bug, self.bug, case, *given)


def as_one(group: RankGroup) -> None:
    kernel.law_as_one_process(group, dpsgd(), 0, torch.eye(24)[:6].double(), torch.arange(6))


DRAW = "sampler.draw(len(self.record_N), step)"
SCALED = "noise_multiplier=noiser.noise_multiplier * ratio"
MUTANTS = (
    KernelMutant(
        "every rank samples all slots",
        Slots,
        "part",
        (("self.record_N[rank::size]", "self.record_N"),),
        sampling.law_every_record_joins_with_the_rate,
    ),
    KernelMutant(
        "a rank that samples at another rate",
        Slots,
        "sample",
        ((DRAW, f"{DRAW}[: None if torch.distributed.get_rank() else -1]"),),
        sampling.law_every_record_joins_with_the_rate,
    ),
    KernelMutant(
        "places drawn on every rank",
        prepare,
        "prepare",
        (("ranks.agreed(lambda: Slots.drawn(", "(Slots.drawn("),),
        sampling.law_every_record_joins_with_the_rate,
    ),
    KernelMutant(
        "a rounding margin for the rows of one rank",
        Kernel,
        "_sums",
        (("self.ranks.total(count)", "count"),),
        kernel.law_the_cap_on_a_batch_counts_the_rows_of_all_ranks,
    ),
    KernelMutant(
        "an encoder's numbers computed on every rank",
        Correlation,
        "__init__",
        (
            (
                "ranks.agreed(lambda: _numbers(factorisation, turns, steps))",
                "_numbers(factorisation, turns, steps)",
            ),
        ),
        kernel.law_all_ranks_encode_with_the_numbers_of_the_first,
    ),
    KernelMutant(
        "noise for the grid on one rank's coordinates",
        Kernel,
        "_mint",
        (("coordinates=len(support_K)", "coordinates=len(value_K)"),),
        as_one,
    ),
    KernelMutant(
        "half of the noise",
        Kernel,
        "_mint",
        ((SCALED, f"{SCALED} / 2"),),
        as_one,
    ),
    KernelMutant(
        "ranks that go on before the ledger is on the disk",
        LedgerFile,
        "_append",
        (
            (
                "self._ranks.first(lambda: self._write(text, after, ask))",
                "self._ranks.rank or self._write(text, after, ask)",
            ),
        ),
        ends.law_no_rank_opens_a_step_that_is_not_paid_for,
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_the_law_stops_the_bug(mutant: KernelMutant, four: RankGroup, tmp_path: Path) -> None:
    group = Bugged(four, mutant.bug)
    with pytest.raises(AssertionError):
        if mutant.law is ends.law_no_rank_opens_a_step_that_is_not_paid_for:
            mutant.law(group, tmp_path / "run")
        else:
            mutant.law(group)
