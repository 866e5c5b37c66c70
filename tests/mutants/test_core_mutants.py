"""Each law of the core stops a bug planted in the core.

A mutant is an edit of the source of one function: the bug zoo and its relatives. The law must
fail on it, within 300 drawn examples, by an AssertionError of its own. Where the source has
changed so that an edit no longer applies, the mutant says so.
"""

from __future__ import annotations

import functools
import inspect
import sys
import textwrap
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from dpigu.dpcore import PrivacyError
from dpigu.dpcore import kernel as kernel_module
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from tests.crash import folder_laws
from tests.laws import test_accounting as accounting
from tests.laws import test_correlated_noise as correlated
from tests.laws import test_endless_noise as endless
from tests.laws import test_inverse as inverse
from tests.laws import test_locality as locality
from tests.laws import test_non_interference as non_interference
from tests.laws import test_sensitivity as sensitivity
from tests.laws import test_support as support
from tests.laws.noise import test_noise as noise
from tests.laws.noise import test_noise_laws as noise_laws
from tests.laws.noise import test_randomness as randomness
from tests.laws.noise import test_rounded_gaussian as rounded_gaussian
from tests.laws.records import test_execution as execution
from tests.laws.records import test_records_apart as records_apart
from tests.mechanisms.clippers import test_group_quantile as group_quantile
from tests.mechanisms.clippers import test_least_error as least_error
from tests.mechanisms.release import test_low_pass as low_pass
from tests.mechanisms.rows import test_geo_clip as geo_clip
from tests.mechanisms.rows import test_mac_adam as mac_adam
from tests.mechanisms.statistics import test_two_points as two_points
from tests.mechanisms.statistics import test_zeroth_order as zeroth_order
from tests.mechanisms.support import test_scorers as scorers
from tests.mutants.core import (
    core_around,
    core_boundary,
    core_claim,
    core_correlated,
    core_ledger,
    core_methods,
    core_noise,
    core_records,
)
from tests.mutants.core.core_table import KernelMutant, Law
from tests.trainers import test_settings as trainer_settings
from tests.trainers.data import test_overlap as overlap
from tests.trainers.lifecycle import test_lineage as lineage
from tests.trainers.optim import test_matrices as matrices
from tests.trainers.runs import test_ledger as ledger

MUTANTS = (
    core_boundary.MUTANTS
    + core_around.MUTANTS
    + core_claim.MUTANTS
    + core_noise.MUTANTS
    + core_ledger.MUTANTS
    + core_records.MUTANTS
    + core_correlated.MUTANTS
    + core_methods.MUTANTS
)


def plant(patch: pytest.MonkeyPatch, mutant: KernelMutant) -> None:
    """Put the edited function in place of the right one, wherever it was imported to."""
    right: FunctionType = vars(mutant.owner)[mutant.function]
    source = textwrap.dedent(inspect.getsource(right))
    for old, new in mutant.edits:
        assert source.count(old) == 1, f"the mutant no longer applies to {right.__qualname__}"
        source = source.replace(old, new)
    made: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + source, right.__globals__, made)
    wrong = functools.wraps(right)(made[mutant.function])
    patch.setattr(mutant.owner, mutant.function, wrong)
    for module in list(sys.modules.values()):
        if vars(module).get(mutant.function) is right:
            patch.setattr(module, mutant.function, wrong)


def fails(law: Law, cases: dict[str, SearchStrategy[Any]]) -> None:
    """Run a law on drawn examples until one breaks it; no shrinking, nothing stored."""
    quickly = settings(
        max_examples=300,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    quickly(given(**cases)(law))()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_the_law_stops_the_bug(mutant: KernelMutant, tmp_path: Path) -> None:
    """The law fails, or the kernel refuses to release anything at all on the law's cases."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, mutant)
        with pytest.raises((AssertionError, PrivacyError)) as stopped:
            if mutant.cases:
                fails(mutant.law, mutant.cases)
            elif "out" in inspect.signature(mutant.law).parameters:
                mutant.law(out=tmp_path / "run")
            else:
                mutant.law()
    assert mutant.law.__name__ in [entry.name for entry in stopped.traceback]


MODULES = (
    accounting,
    correlated,
    endless,
    execution,
    folder_laws,
    geo_clip,
    group_quantile,
    inverse,
    least_error,
    ledger,
    lineage,
    locality,
    low_pass,
    mac_adam,
    matrices,
    noise,
    noise_laws,
    non_interference,
    overlap,
    randomness,
    records_apart,
    rounded_gaussian,
    scorers,
    sensitivity,
    support,
    trainer_settings,
    two_points,
    zeroth_order,
)


def test_every_law_has_a_mutant() -> None:
    laws = {
        name
        for module in MODULES
        for name, law in vars(module).items()
        if name.startswith("law_") and law.__module__ == module.__name__
    }
    assert laws == {mutant.law.__name__ for mutant in MUTANTS}


def test_planting_is_undone() -> None:
    right = kernel_module.capped
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, next(m for m in MUTANTS if m.function == "capped"))
        assert kernel_module.capped is not right
    assert kernel_module.capped is right
