"""Bugs planted around the kernel: rows, engines, sampler, ledger, accountants, stages."""

from __future__ import annotations

import torch
from dpigu.accountants.renyi_orders import rdp
from dpigu.accountants.renyi_orders.rdp import RDP
from dpigu.dpcore import Pipeline, Plan, PoissonSampler, Transform
from dpigu.dpcore import kernel as kernel_module
from dpigu.dpcore.claim import ledger
from dpigu.mechanisms import AffineRestorer, EmaStandardizer
from dpigu.mechanisms.support.schedulers import LinearUnfreeze, _Ranked
from dpigu.trainers import settings as trainer_settings
from dpigu.trainers.engines import MaterialisingEngine, PaddedRows
from dpigu.trainers.loop import Loop
from dpigu.trainers.runs import LedgerFile, report
from hypothesis import strategies as st

from tests.laws import test_accounting as accounting
from tests.laws import test_inverse as inverse
from tests.laws import test_locality as locality
from tests.laws import test_non_interference as non_interference
from tests.laws import test_support as support
from tests.laws.records import test_execution as execution
from tests.mutants.core.core_table import KernelMutant
from tests.support.laws.engines import tasks
from tests.support.laws.strategies import stages, steps

MAPPED = {"here": steps(), "g_BD": locality.TAME}
COMPOSED = "math.ceil(count / phase.period)"
PAID = "math.ceil(count / mechanism.period)"
PLAIN = {"sigma": st.just(2.0), "rate": st.just(1 / 60), "steps": st.just(400)}
GUARD = "c_BG = c_BG * capped(joint_B, bound)[:, None]"
HELD_OUT = 'prepared.metrics, "held-out"'
APPEND = 'self._append(mark + line + b"\\n", mended.after(line), self._ask)'
PAY = "self._run.ledger.pay(phase.name, block)"
STEP = "step, states = self._taken(running, states, number)"
LATE = """
            if self._run.ledger.prepaid == 0:
                self._run.ledger.pay(phase.name, block)
                self._run.ledger._prepaid = 0"""

MUTANTS = (
    KernelMutant(
        "rows centred by their own batch",
        Transform,
        "__call__",
        (("return rows", "return rows - rows.mean(0)"),),
        locality.law_others_leave_a_row_alone,
        locality.OTHERS,
    ),
    KernelMutant(
        "rows weighted by their place in the batch",
        Transform,
        "__call__",
        (("return rows", "return rows * torch.arange(1, len(rows) + 1)[:, None].to(rows.dtype)"),),
        locality.law_rows_move_with_their_records,
        {**MAPPED, "order": st.lists(st.integers(0, 9), min_size=1, max_size=8)},
    ),
    KernelMutant(
        "rows divided by the realised batch",
        Transform,
        "__call__",
        (("return rows", "return rows / len(rows)"),),
        locality.law_one_by_one_is_batched,
        MAPPED,
    ),
    KernelMutant(
        "a fast engine that leaves out the shift",
        Transform,
        "affine",
        (("whole.shift_D * support", "torch.zeros_like(support)"),),
        execution.law_engines_agree,
        {"job": execution.jobs(), "engine": st.just("ghost")},
    ),
    KernelMutant(
        "one factor for the whole batch",
        kernel_module,
        "guarded_factors",
        ((GUARD, "c_BG = c_BG * capped(joint_B, bound).min()"),),
        locality.law_others_leave_a_row_alone,
        locality.OTHERS,
    ),
    KernelMutant(
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
    KernelMutant(
        "padding that counts as a record",
        PaddedRows,
        "norm_upper_bounds",
        (("torch.where(self.valid_B[:, None], ", "torch.where(self.valid_B[:, None] | True, "),),
        execution.law_engine_keeps_its_contract,
        {"job": execution.jobs(), "engine": st.just("materialising")},
    ),
    KernelMutant(
        "shuffled batches accounted as Poisson",
        PoissonSampler,
        "draw",
        (
            (
                "return block[coins(self.block_rate, len(block))]",
                "return np.sort(np.random.default_rng().permutation(present)"
                "[: round(self.rate * present)])",
            ),
        ),
        accounting.law_poisson,
    ),
    KernelMutant(
        "batches from the generator that a user seeds",
        PoissonSampler,
        "draw",
        (("coins(self.block_rate, len(block))", "np.random.random(len(block)) < self.block_rate"),),
        accounting.law_the_sampler_has_no_seed,
    ),
    KernelMutant(
        "a step the ledger missed",
        LedgerFile,
        "pay",
        ((APPEND, "self.ledger.steps % 3 == 2 or " + APPEND),),
        accounting.law_the_ledger_is_ahead,
    ),
    KernelMutant(
        "a step that runs again and is not charged again",
        Loop,
        "steps",
        (
            (
                PAY,
                "pays = self._run.ledger\n"
                "                if pays.ledger.steps <= self.reached:\n"
                "                    pays.pay(phase.name, block)\n"
                "                pays._prepaid = block",
            ),
        ),
        accounting.law_the_ledger_is_ahead,
    ),
    KernelMutant(
        "a ledger written after the release",
        Loop,
        "steps",
        ((PAY, "self._run.ledger._prepaid = block"), (STEP, STEP + LATE)),
        accounting.law_the_ledger_is_ahead,
    ),
    KernelMutant(
        "an event of one step less",
        ledger,
        "composed",
        ((PAID, PAID + " - 1"),),
        accounting.law_charged_is_what_ran,
    ),
    KernelMutant(
        "an event in which a phase's place counts",
        Plan,
        "event",
        ((COMPOSED, COMPOSED + " + self.phases.index(phase)"),),
        accounting.law_order_does_not_matter,
        {"sigmas": st.just([1.0, 2.0]), "rate": st.just(0.01)},
    ),
    KernelMutant(
        "an accountant in which steps are paid back",
        rdp,
        "composed_rdp",
        (("term.count *", "1 / term.count *"),),
        accounting.law_epsilon_grows,
        {"name": st.just("rdp"), **PLAIN},
    ),
    KernelMutant(
        "an accountant that halves",
        RDP,
        "epsilon",
        (("rdp_epsilon(terms, delta)", "0.5 * rdp_epsilon(terms, delta)"),),
        accounting.law_rdp_is_above_pld,
        PLAIN,
    ),
    KernelMutant(
        "training accuracy among the public metrics",
        report,
        "held_out",
        ((HELD_OUT, 'prepared.metrics, "training"'),),
        non_interference.law_two_data_sets_publish_the_same_folder,
    ),
    KernelMutant(
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
    KernelMutant(
        "an event of another sampling rate",
        PoissonSampler,
        "event",
        (("PoissonSampledDpEvent(self.block_rate,", "PoissonSampledDpEvent(self.rate / 2,"),),
        accounting.law_charged_is_what_ran,
    ),
    KernelMutant(
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
    KernelMutant(
        "a restorer that forgets the shift",
        AffineRestorer,
        "apply",
        (("moved_P + shift_D[here]", "moved_P"),),
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
    KernelMutant(
        "unfreezing that never happens",
        _Ranked,
        "support",
        (("self.ratio_at(clock)", "self.ratio"),),
        support.law_a_live_scheduler_moves,
        {"scheduler": st.just(LinearUnfreeze()), "seed": st.integers(0, 99)},
    ),
    KernelMutant(
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
    KernelMutant(
        "an optimizer whose momentum moves frozen weights",
        trainer_settings,
        "masked_step",
        (("tensor.copy_(torch.where(support, tensor, old))", "pass"),),
        support.law_frozen_weights_stay,
        {
            "scheduler": st.just(LinearUnfreeze(ratio=0.3)),
            "optimizer": st.sampled_from(("sgd", "adam")),
            "seed": st.integers(0, 99),
        },
    ),
)
