"""Honest audits that contradicted, looked at again with fresh draws and ten times as many.

    python -m benchmarks.audits.second_look [--runs 1000]

Each such audit is repeated as it was, for the situation that its likelihood ratio decided by. A
rule from fresh runs of that situation is then counted on as many fresh runs a side as asked for,
and its sampler's draws are tested again. Were something wrong, ten times the evidence would be
far below the p-value of the first look. Some 20 seconds of processor each.
"""

from __future__ import annotations

import argparse

from dpigu.audits.mechanism.adversary import SITUATIONS
from dpigu.audits.mechanism.audit import DECLARED, QUICK, RATE, in_turns
from dpigu.audits.mechanism.distinguishers import LIKELIHOOD, rule
from dpigu.audits.mechanism.report import SHARES
from dpigu.audits.mechanism.sampling import audit_sampler
from dpigu.audits.mechanism.short_runs import short_runs
from dpigu.audits.mechanism.traces import SPACE
from dpigu.audits.statistics import ErrorCounts
from dpigu.dpcore import Kernel, PoissonSampler
from dpigu.mechanisms import PRESETS

from benchmarks.audits.audit_calibration import CONFIDENCE, STEPS, audited, done
from benchmarks.audits.honest_table import KEPT, LEVEL

TRAIN = 100


def kernel_again(name: str, seed: int, runs: int) -> str:
    """The likelihood ratio's situation of an audit, then and now."""
    then = audited(name, seed, quick=True).tests[0]
    plan = PRESETS[name].plan(STEPS).scaled_noise(1.0)
    short_run = next(r for r in short_runs(plan, SPACE, Kernel, None) if r.name == then.short_run)
    situation = next(s for s in SITUATIONS if s.name == then.situation)
    sides = [
        [short_run.run(situation, present) for _ in range(TRAIN + runs)]
        for present in (False, True)
    ]
    without, with_ = sides
    level = (1 - CONFIDENCE) * SHARES["likelihood ratio"]
    fixed = rule(LIKELIHOOD, without[:TRAIN], with_[:TRAIN], level=level)
    now = ErrorCounts(
        false_positives=int(fixed.guesses(without[TRAIN:]).sum()),
        false_negatives=int((~fixed.guesses(with_[TRAIN:])).sum()),
        runs=runs,
    )
    wrong = now.false_positives + now.false_negatives
    return (
        f"{then.situation}: p = {then.p_value:.3g} with {then.runs} runs a side, "
        f"p = {now.p_value(then.mu, fixed.criterion):.3g} with {runs} fresh ones ({wrong} wrong)"
    )


def sampler_again(name: str, draws: int) -> str:
    """The tests of the sampler, on fresh draws."""
    turns = in_turns(PRESETS[name].plan(STEPS), PoissonSampler(RATE, DECLARED))
    return f"p = {audit_sampler(turns, draws=draws).p_value:.3g} with {draws} fresh batches"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    for row in done(KEPT):
        if row["p"] >= LEVEL:
            continue
        told = f"{row['preset']}, seed {row['seed']}, p = {row['p']:.3g}:"
        if row["tests"]["likelihood ratio"] < LEVEL * SHARES["likelihood ratio"]:
            print(told, kernel_again(row["preset"], row["seed"], runs), flush=True)
        if row["sampler"] < LEVEL * SHARES["sampler"]:
            again = sampler_again(row["preset"], 10 * QUICK.draws)
            print(told, f"the sampler: p = {row['sampler']:.3g}, then {again}", flush=True)


if __name__ == "__main__":
    main()
