"""The ranking gives every method the same, and its intervals are Student's."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from dpigu.mechanisms import PRESETS
from scipy.stats import t as student

from benchmarks.ranking.__main__ import BUDGETS, DATA, RESULTS, best, cells, trials
from benchmarks.ranking.picture import Ranked, in_order, table
from benchmarks.study.cells import Cell, measure
from benchmarks.study.store import Store

SHARED = ("steps", "expected_batch", "momentum", "delta")


def row(preset: str, epsilon: float | None, *accuracies: float) -> Ranked:
    return Ranked("digits", preset, epsilon, 0.5, accuracies, 2.0)


@pytest.mark.parametrize("name", DATA)
def test_every_method_has_the_same_trials_steps_and_batch(name):
    for preset in PRESETS:
        tried = trials(name, preset)
        rates = [cell.options["learning_rate"] for cell in tried]
        assert rates == pytest.approx([rates[0], 2 * rates[0], 4 * rates[0]])
        assert all(cell.validation for cell in tried)
        finals = [cell for _, cell in cells(name, preset, 1.0)]
        assert not any(cell.validation for cell in finals)
        assert len(finals) == (1 if preset == "non-private" else len(BUDGETS))
        own = PRESETS[preset].training
        for key in SHARED:
            values = {cell.options[key] for cell in (*tried, *finals)}
            assert len(values) == 1
            assert key in own or values == {trials(name, "dpsgd")[0].options[key]}


def test_plain_sgd_takes_what_the_rate_and_momentum_come_to():
    plain, other = (trials("digits", preset)[1].options for preset in ("doppler", "dpsgd"))
    assert plain["learning_rate"] == pytest.approx(other["learning_rate"] / (1 - 0.9))


def test_the_best_trial_is_that_of_the_highest_validation_accuracy(tmp_path):
    store = Store(tmp_path, "ranking")
    for cell, accuracy in zip(trials("digits", "dpsgd"), (0.8, 0.9, 0.7), strict=True):
        assert best(store, "digits", "dpsgd") is None
        store.add(cell, {"seed": 0, "accuracy": accuracy})
    assert best(store, "digits", "dpsgd") == 1.0


def test_the_interval_is_students():
    """Of 1, 2, 3: the 97.5% quantile of two degrees of freedom is 4.302653 (any table of t)."""
    found = row("dpsgd", 4.0, 1.0, 2.0, 3.0)
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert math.isnan(row("dpsgd", 4.0, 1.0).half_width)


def test_the_order_is_that_of_the_larger_budget():
    rows = [row("a", 1.0, 90.0), row("a", 4.0, 91.0), row("b", 1.0, 80.0), row("b", 4.0, 95.0)]
    rows.append(row("non-private", None, 93.0))
    assert in_order(rows, BUDGETS) == ["b", "non-private", "a"]
    shown = table(rows, BUDGETS).splitlines()[2:]
    assert [line.split("`")[1] for line in shown] == ["b", "non-private", "a"]


AGAIN = ("dpsgd", "adadpigu", "dpsgd-centred")


def at_four(preset: str, kept: Store) -> Cell:
    factor = best(kept, "digits", preset)
    assert factor is not None
    return next(cell for epsilon, cell in cells("digits", preset, factor) if epsilon == 4.0)


def test_what_is_measured_anew_agrees_with_the_kept_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of today, on whatever machine this is, against the mean of five on digits at ε = 4, by
    a standard deviation that is pooled over three presets: Student's t of 12 degrees of freedom.
    Right ones fail once in 10⁵ times, if runs are about normal; with a fiftieth of the budget one
    fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = Store(RESULTS, "ranking")
    chosen = {preset: at_four(preset, kept) for preset in AGAIN}
    found = {
        preset: [run["accuracy"] for run in kept.runs(cell.name)] for preset, cell in chosen.items()
    }
    pooled = math.sqrt(statistics.mean(map(statistics.variance, found.values())))
    widest = student.isf(1e-5 / (2 * len(AGAIN)), sum(len(own) - 1 for own in found.values()))

    def away(cell: Cell, preset: str) -> float:
        own = found[preset]
        apart = measure(cell, 7, None)["accuracy"] - statistics.mean(own)
        return float(apart / (pooled * math.sqrt(1 + 1 / len(own))))

    apart = {preset: away(cell, preset) for preset, cell in chosen.items()}
    assert max(map(abs, apart.values())) < widest, apart
    assert away(replace(chosen["dpsgd"], epsilon=0.08), "dpsgd") < -widest
