"""Table 3: what the paper's noise gives, and what its claims would pay for. Accounting alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dpigu.accountants import get_accountant, max_steps_within
from dpigu.trainers.data import SPECS

from benchmarks.study.claims import BATCH, DELTA, EPOCHS, NOISE


def table3() -> list[dict[str, Any]]:
    """What Table 3's σ gives at a batch of 1000: ε after 500 epochs, and the epochs of its ε."""
    found = []
    for data, sigmas in NOISE.items():
        rate = BATCH / SPECS[data].records
        for claimed, sigma in sigmas.items():

            def event(steps: int, rate: float = rate, sigma: float = sigma) -> Any:
                sampled = PoissonSampledDpEvent(rate, GaussianDpEvent(sigma))
                return SelfComposedDpEvent(sampled, steps)

            steps = round(EPOCHS / rate)
            row: dict[str, Any] = {"dataset": data, "sigma": sigma, "claimed_epsilon": claimed}
            for name in ("rdp", "prv"):
                value = get_accountant(name).epsilon(event(steps), DELTA).value
                assert value is not None
                row[f"{name}_epsilon"] = round(value, 8)  # beyond it, a processor's rounding
            for name in ("rdp", "pld"):
                fit = max_steps_within(event, 4 * steps, claimed, DELTA, name)
                row[f"{name}_epochs"] = fit * rate
            found.append(row)
    return found


def table3_text(found: Iterable[Mapping[str, Any]]) -> str:
    """Table 3 with ε and the epochs that it implies."""
    lines = [
        "| data | ε claimed | σ | ε after 500 epochs, RDP | the same, PRV | epochs that the claim "
        "pays for, RDP | the same, PLD |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['dataset']} | {r['claimed_epsilon']} | {r['sigma']} | {r['rdp_epsilon']:.2f} | "
        f"{r['prv_epsilon']:.2f} | {r['rdp_epochs']:.0f} | {r['pld_epochs']:.0f} |"
        for r in found
    ]
    return "\n".join(lines)
