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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from accountants import rdp
from accountants.rdp import RDP
from dpcore import DenseRows, Kernel, Pipeline, Plan, PoissonSampler, SystemNoise, Transform
from dpcore import kernel as kernel_module
from mechanisms import AffineRestorer, EmaStandardizer
from mechanisms.schedulers import LinearUnfreeze, _Ranked
from tests.laws import test_accounting as accounting
from tests.laws import test_execution as execution
from tests.laws import test_inverse as inverse
from tests.laws import test_locality as locality
from tests.laws import test_noise as noise
from tests.laws import test_non_interference as non_interference
from tests.laws import test_sensitivity as sensitivity
from tests.laws import test_support as support
from tests.laws.engines import tasks
from tests.laws.strategies import batches, stages, steps
from trainers import loop, report, setup
from trainers import settings as trainer_settings
from trainers.engine import MaterialisingEngine, PaddedRows
from trainers.folder import RunFolder

Law = Callable[..., None]


@dataclass(frozen=True)
class Mutant:
    """A bug, the function that has it, the edits that plant it, and the law that stops it.

    Args:
        cases: what the law is drawn on; a law with an `out` gets a folder instead.
    """

    bug: str
    owner: type | ModuleType
    function: str
    edits: tuple[tuple[str, str], ...]
    law: Law
    cases: dict[str, SearchStrategy[Any]] = field(default_factory=dict)


TAME = batches(min_size=1, wild=False, dtypes=(torch.float64,))
STEPS = {"here": noise.WITH_QUERIES, "g_BD": batches()}
SIZED = {**STEPS, "size": st.integers(1, 7)}
ROWS = {"here": sensitivity.STEPS, "g_BD": batches(min_size=1)}
WHOLE_STEP = {"here": steps(), "g_BD": batches()}
MAPPED = {"here": steps(), "g_BD": locality.TAME}
COMPOSED = "SelfComposedDpEvent(sampler.event(phase.pipeline.event()), count)"
PLAIN = {"sigma": st.just(2.0), "rate": st.just(1 / 60), "steps": st.just(400)}
NOISED_STD = "std = noiser.noise_multiplier * ratio * guarded.sensitivity"
ADDED = "torch.where(support_K, std * unit_K, 0.0)"
GUARD = "c_BG = c_BG * capped(joint_B, bound)[:, None]"
SUM = "sum_K = rows.weighted_sum(c_BG).detach()"
UPDATE = "return release, binding.updated(states, frame, release)"
CHARGE = "folder.charge(phase.name, step)  # before the release that it pays for"
STEP = "release, states = running.step(states, step, parameters, x, y)"

MUTANTS = (
    Mutant(
        "noise divided by the batch twice",
        Kernel,
        "_mint",
        ((ADDED, "torch.where(support_K, std * unit_K / self._divisor, 0.0)"),),
        noise.law_scale,
        SIZED,
    ),
    Mutant(
        "noise of σC/B per record, then averaged",
        Kernel,
        "_mint",
        ((ADDED, "torch.where(support_K, std * unit_K / self._divisor**0.5, 0.0)"),),
        accounting.law_charged_is_what_ran,
    ),
    Mutant(
        "noise scaled to one layer's bound",
        Kernel,
        "_mint",
        ((NOISED_STD, NOISED_STD + " / self.binding.space.group_count('layer') ** 0.5"),),
        noise.law_scale,
        SIZED,
    ),
    Mutant(
        "noise without the rounding margin",
        Kernel,
        "_bounded",
        (("bound * (1 + self._margin)", "bound"),),
        noise.law_scale,
        SIZED,
    ),
    Mutant(
        "a query's noise ratio forgotten",
        Kernel,
        "release",
        (("p.stage.noise_ratio", "1.0"),),
        accounting.law_charged_is_what_ran,
    ),
    Mutant(
        "missing clip",
        kernel_module,
        "guarded_factors",
        ((GUARD, "pass"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    Mutant(
        "clip of the mean instead of each record",
        Kernel,
        "release",
        (
            (
                SUM,
                "sum_K = rows.weighted_sum(torch.ones_like(c_BG)).detach()\n"
                "        mean = joint_norm(sum_K[None] / len(c_BG))\n"
                "        sum_K = sum_K * capped(mean, bound)",
            ),
        ),
        sensitivity.law_sensitivity,
        {**sensitivity.MOVES, "g_BD": TAME},
    ),
    Mutant(
        "clipping by the group's bound in every group",
        kernel_module,
        "guarded_factors",
        (("joint_norm(c_BG * norms_BG)", "(c_BG * norms_BG).abs().amax(1)"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    Mutant(
        "norms without upper rounding",
        DenseRows,
        "norm_upper_bounds",
        (("(1 + (size + 4) * UNIT_ROUNDOFF)", "1"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    Mutant(
        "the guard's joint norm without upper rounding",
        kernel_module,
        "joint_norm",
        (("(1 + (v_BG.shape[1] + 4) * UNIT_ROUNDOFF)", "1"),),
        sensitivity.law_joint_norm_is_an_upper_bound,
        {"v_BG": sensitivity.FACTORS},
    ),
    Mutant(
        "the guard's factor without slack for its own rounding",
        kernel_module,
        "capped",
        (("(1 - ROUNDING)", "1"),),
        sensitivity.law_capped_norm_is_within_the_bound,
        {"norm": sensitivity.NORMS, "bound": sensitivity.BOUNDS},
    ),
    Mutant(
        "norms in the rows' own precision",
        DenseRows,
        "norm_upper_bounds",
        (("squares = part.square_()", "squares = part.float().square().double()"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    Mutant(
        "NaN rows that reach the sum",
        kernel_module,
        "guarded_factors",
        (("return torch.where(good_B[:, None], c_BG, 0.0), good_B", "return c_BG, good_B"),),
        sensitivity.law_sensitivity,
        sensitivity.MOVES,
    ),
    Mutant(
        "0 · NaN: weights of zero applied by a product",
        DenseRows,
        "weighted_sum",
        (("part = torch.where((factors != 0).any(1, keepdim=True), part, 0)", "pass"),),
        sensitivity.law_sensitivity,
        sensitivity.MOVES,
    ),
    Mutant(
        "sums in float32",
        Kernel,
        "_zeros",
        (("torch.float64", "torch.float32"),),
        execution.law_microbatches_and_order,
        {
            "here": execution.STEPS,
            "g_BD": TAME,
            "order": st.permutations(range(6)),
            "size": st.integers(1, 3),
        },
    ),
    Mutant(
        "a query without its guard",
        kernel_module,
        "guarded_vectors",
        (("q_BQ * capped(norm_B, bound)[:, None]", "q_BQ"),),
        sensitivity.law_guarded_query,
        ROWS,
    ),
    Mutant(
        "a query of a record that is not alive",
        kernel_module,
        "guarded_vectors",
        (("good_B = good_B & norm_B.isfinite()", "good_B = norm_B.isfinite()"),),
        sensitivity.law_guarded_query,
        ROWS,
    ),
    Mutant(
        "noise added per microbatch",
        Kernel,
        "release",
        ((SUM, SUM + " + self.noise.normal(len(total_K), total_K.device)"),),
        noise.law_once_a_step,
        SIZED,
    ),
    Mutant(
        "noise reused between steps",
        SystemNoise,
        "normal",
        (
            (
                "return torch.from_numpy(system_generator().standard_normal(size))",
                "return torch.from_numpy(np.random.default_rng(0).standard_normal(size))",
            ),
        ),
        noise.law_independent,
    ),
    Mutant(
        "noise replayed after a resume",
        SystemNoise,
        "normal",
        (
            (
                "torch.from_numpy(system_generator().standard_normal(size))",
                "torch.from_numpy(self.__dict__.setdefault('g', np.random.default_rng(0))"
                ".standard_normal(size))",
            ),
        ),
        noise.law_never_replayed,
    ),
    Mutant(
        "noise from the generator that a user seeds",
        SystemNoise,
        "normal",
        (
            (
                "torch.from_numpy(system_generator().standard_normal(size))",
                "torch.randn(size, dtype=torch.float64)",
            ),
        ),
        noise.law_seeds_do_not_touch_it,
    ),
    Mutant(
        "noise that is uniform",
        SystemNoise,
        "normal",
        (("standard_normal(size)", "uniform(-(3**0.5), 3**0.5, size)"),),
        noise.law_normal,
    ),
    Mutant(
        "noise with its tails cut at three deviations",
        SystemNoise,
        "normal",
        (("standard_normal(size)", "standard_normal(size).clip(-3, 3)"),),
        noise.law_normal,
    ),
    Mutant(
        "noise only where some record kept something",
        Kernel,
        "_mint",
        ((ADDED, "torch.where(value_K != 0, std * unit_K, 0.0)"),),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    Mutant(
        "noise off the support too",
        Kernel,
        "_mint",
        ((ADDED, "std * unit_K"),),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    Mutant(
        "posts that move frozen coordinates",
        Kernel,
        "release",
        (("torch.where(support_D, gradient.value, 0)", "gradient.value"),),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    Mutant(
        "frozen coordinates that spend the clipping budget",
        Transform,
        "one",
        (("z = self._live(z)", "pass"),),
        support.law_frozen_coordinates_spend_no_budget,
        WHOLE_STEP,
    ),
    Mutant(
        "a divisor from the realised batch",
        Kernel,
        "release",
        (
            (
                "support_D = frame.support_D",
                "support_D = frame.support_D; self._divisor = count or 1",
            ),
        ),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    Mutant(
        "a divisor from the records that are present",
        setup,
        "prepare",
        (("settings.sampler(data.spec.records)", "settings.sampler(len(data.train_x))"),),
        accounting.law_the_divisor_is_public,
    ),
    Mutant(
        "statistics and scores from un-noised gradients",
        Kernel,
        "release",
        (
            (
                UPDATE,
                "raw_K = total_K / self._divisor if at_home else gradient.value\n"
                "    clear = gradient.derive(raw_K, gradient.variance)\n"
                "    clock, public_MD = frame.clock, frame.public_MD\n"
                "    secret = Release(clear, noised, answers, support_D, clock, public_MD)\n"
                "    return release, binding.updated(states, frame, secret)",
            ),
        ),
        non_interference.law_raw_data_change_no_public_bit,
        {
            "plan": non_interference.PLANS,
            "one": non_interference.RAW,
            "other": non_interference.RAW,
            "seed": st.integers(0, 99),
        },
    ),
    Mutant(
        "rows centred by their own batch",
        Transform,
        "__call__",
        (("return rows", "return rows - rows.mean(0)"),),
        locality.law_others_leave_a_row_alone,
        locality.OTHERS,
    ),
    Mutant(
        "rows weighted by their place in the batch",
        Transform,
        "__call__",
        (("return rows", "return rows * torch.arange(1, len(rows) + 1)[:, None].to(rows.dtype)"),),
        locality.law_rows_move_with_their_records,
        {**MAPPED, "order": st.lists(st.integers(0, 9), min_size=1, max_size=8)},
    ),
    Mutant(
        "rows divided by the realised batch",
        Transform,
        "__call__",
        (("return rows", "return rows / len(rows)"),),
        locality.law_one_by_one_is_batched,
        MAPPED,
    ),
    Mutant(
        "a fast engine that leaves out the shift",
        Transform,
        "affine",
        (("whole.shift_D * support", "torch.zeros_like(support)"),),
        execution.law_engines_agree,
        {"job": execution.jobs(), "engine": st.just("ghost")},
    ),
    Mutant(
        "one factor for the whole batch",
        kernel_module,
        "guarded_factors",
        ((GUARD, "c_BG = c_BG * capped(joint_B, bound).min()"),),
        locality.law_others_leave_a_row_alone,
        locality.OTHERS,
    ),
    Mutant(
        "an engine that mixes records, as batch normalisation does",
        MaterialisingEngine,
        "rows",
        (("transform(g_BD)", "transform(g_BD - g_BD.mean(0))"),),
        locality.law_engine_keeps_records_apart,
        {
            "task": tasks(),
            "engine": st.just("materialising"),
            "at": st.integers(0, 5),
            "poison": st.just(1e3),
        },
    ),
    Mutant(
        "padding that counts as a record",
        PaddedRows,
        "norm_upper_bounds",
        (("torch.where(self.alive_B[:, None], ", "torch.where(self.alive_B[:, None] | True, "),),
        execution.law_engine_keeps_its_contract,
        {"job": execution.jobs(), "engine": st.just("materialising")},
    ),
    Mutant(
        "shuffled batches accounted as Poisson",
        PoissonSampler,
        "draw",
        (
            (
                "return np.flatnonzero(system_generator().random(present) < self.rate)",
                "return np.sort(system_generator().permutation(present)"
                "[: round(self.rate * present)])",
            ),
        ),
        accounting.law_poisson,
    ),
    Mutant(
        "batches from the generator that a user seeds",
        PoissonSampler,
        "draw",
        (("system_generator().random(present)", "np.random.random(present)"),),
        accounting.law_the_sampler_has_no_seed,
    ),
    Mutant(
        "a step the ledger missed",
        RunFolder,
        "charge",
        (("with (self", "if step % 3 == 2:\n        return\n    with (self"),),
        accounting.law_the_ledger_is_ahead,
    ),
    Mutant(
        "a step that runs again and is not charged again",
        RunFolder,
        "charge",
        (
            (
                "with (self",
                "path = self.public / 'ledger.jsonl'\n"
                "    line = json.dumps({'phase': phase, 'step': step})\n"
                "    if path.is_file() and line in path.read_text().splitlines():\n"
                "        return\n    with (self",
            ),
        ),
        accounting.law_the_ledger_is_ahead,
    ),
    Mutant(
        "a ledger written after the release",
        loop,
        "_train",
        ((CHARGE, "pass"), (STEP, STEP + "\n            folder.charge(phase.name, step)")),
        accounting.law_the_ledger_is_ahead,
    ),
    Mutant(
        "an event of one step less",
        Plan,
        "event",
        (
            (
                COMPOSED,
                COMPOSED.replace("count)", "count - 1)"),
            ),
        ),
        accounting.law_charged_is_what_ran,
    ),
    Mutant(
        "an event in which a phase's place counts",
        Plan,
        "event",
        ((COMPOSED, COMPOSED.replace("count)", "count + self.phases.index(phase))")),),
        accounting.law_order_does_not_matter,
        {"sigmas": st.just([1.0, 2.0]), "rate": st.just(0.01)},
    ),
    Mutant(
        "an accountant in which steps are paid back",
        rdp,
        "_composed",
        (("term.count *", "1 / term.count *"),),
        accounting.law_epsilon_grows,
        {"name": st.just("rdp"), **PLAIN},
    ),
    Mutant(
        "an accountant that halves",
        RDP,
        "epsilon",
        (("rdp_epsilon(terms, delta)", "0.5 * rdp_epsilon(terms, delta)"),),
        accounting.law_rdp_is_above_pld,
        PLAIN,
    ),
    Mutant(
        "training accuracy among the public metrics",
        report,
        "evaluated",
        (("setup.data.test_x, setup.data.test_y", "setup.data.train_x, setup.data.train_y"),),
        non_interference.law_two_data_sets_publish_the_same_folder,
    ),
    Mutant(
        "an event that forgets the queries",
        Pipeline,
        "event",
        (
            (
                "precision = 1.0 + sum(query.noise_ratio**-2 for query in self.queries)",
                "precision = 1.0",
            ),
        ),
        accounting.law_a_query_has_its_own_price,
        {"sigma": st.floats(0.1, 10), "ratio": st.floats(0.1, 10)},
    ),
    Mutant(
        "an event of another sampling rate",
        PoissonSampler,
        "event",
        (("PoissonSampledDpEvent(self.rate,", "PoissonSampledDpEvent(self.rate / 2,"),),
        accounting.law_charged_is_what_ran,
    ),
    Mutant(
        "√(β + μ) in the row, √β + μ in the restorer",
        EmaStandardizer,
        "row",
        (
            (
                "return apply(self.affine(state), g_D)",
                "return (g_D - state['alpha_D']) / (state['beta_D'] + self.mu).sqrt()",
            ),
        ),
        inverse.law_a_row_is_its_declared_map,
        {
            "stage": st.just(EmaStandardizer(mu=1.0)),
            "state": st.builds(
                lambda b: {
                    "alpha_D": torch.zeros(24).double(),
                    "beta_D": torch.full((24,), b).double(),
                },
                st.floats(0.1, 4),
            ),
            "g_D": inverse.ROWS,
        },
    ),
    Mutant(
        "a restorer that forgets the shift",
        AffineRestorer,
        "apply",
        (("released.value + shift_D", "released.value"),),
        inverse.law_restoring_inverts,
        {
            "stage": st.just(EmaStandardizer()),
            "restorer": st.just(AffineRestorer(of="ema-standardizer")),
            "state": st.builds(
                lambda a: {
                    "alpha_D": torch.full((24,), a).double(),
                    "beta_D": torch.ones(24).double(),
                },
                st.floats(0.1, 4),
            ),
            "g_D": inverse.ROWS,
        },
    ),
    Mutant(
        "unfreezing that never happens",
        _Ranked,
        "support",
        (("self.ratio_at(clock)", "self.ratio"),),
        support.law_a_live_scheduler_moves,
        {"scheduler": st.just(LinearUnfreeze()), "seed": st.integers(0, 99)},
    ),
    Mutant(
        "a monotone support that loses coordinates",
        _Ranked,
        "support",
        (("return rank_D <", "rank_D = rank_D.roll(clock.step)\n    return rank_D <"),),
        support.law_schedulers_are_as_declared,
        {
            "scheduler": stages("scheduler"),
            "size": st.integers(2, 40),
            "length": st.integers(2, 8),
            "seed": st.integers(0, 99),
        },
    ),
    Mutant(
        "an optimizer whose momentum moves frozen weights",
        trainer_settings,
        "masked_step",
        (("tensor.copy_(torch.where(supports[name], tensor, old))", "pass"),),
        support.law_frozen_weights_stay,
        {
            "scheduler": st.just(LinearUnfreeze(ratio=0.3)),
            "optimizer": st.sampled_from(("sgd", "adam")),
            "seed": st.integers(0, 99),
        },
    ),
)


def plant(patch: pytest.MonkeyPatch, mutant: Mutant) -> None:
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
def test_the_law_stops_the_bug(mutant: Mutant, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, mutant)
        with pytest.raises(AssertionError) as stopped:
            if mutant.cases:
                fails(mutant.law, mutant.cases)
            elif "out" in inspect.signature(mutant.law).parameters:
                mutant.law(out=tmp_path / "run")
            else:
                mutant.law()
    assert mutant.law.__name__ in [entry.name for entry in stopped.traceback]


MODULES = (
    accounting,
    execution,
    inverse,
    locality,
    noise,
    non_interference,
    sensitivity,
    support,
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
