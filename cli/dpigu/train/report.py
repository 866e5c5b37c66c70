"""What `dpigu train` says: the plan before, and what the run reached and cost after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpigu.cli.shared.output import print_fields

if TYPE_CHECKING:
    from dpigu.dpcore import Plan
    from dpigu.trainers import Recipe, Run


def plan_lines(recipe: Recipe, plan: Plan) -> list[str]:
    """Phases, σ and the target; in a second line why this accountant, if nobody named one."""
    from dpigu.cli.shared.recipes import declared_records
    from dpigu.trainers.calibration import accountant_for

    settings = recipe.settings
    phases = ", then ".join(f"{phase.name} {phase.steps} steps" for phase in plan.phases)
    if not plan.private:
        return [f"plan       {phases}; no noise: NOT PRIVATE"]
    sigmas = dict.fromkeys(f"{p.pipeline.noiser.noise_multiplier:.5g}" for p in plan.phases)
    line = f"plan       {phases}; σ = {', '.join(sigmas)}"
    if noisers := [
        phase.selective_update.pipeline.noiser
        for phase in plan.phases
        if phase.selective_update is not None
    ]:
        each = dict.fromkeys(f"{noiser.noise_multiplier:.5g}" for noiser in noisers)
        line += f", at every look {', '.join(each)},"
    if settings.epsilon is not None:
        calibrated = settings.noise_multiplier is None
        line += f"{' calibrated to' if calibrated else ', within'} ε ≤ {settings.epsilon:g}"
    sampler = settings.sampler(declared_records(recipe))
    accountant, why = accountant_for(plan, sampler, settings)
    line += f" at δ = {settings.delta:g} ({accountant.upper()})"
    if settings.accountant != "auto":
        return [line]
    less = "; --accountant prv takes longer and needs less noise" if accountant == "rdp" else ""
    return [line, f"accountant {accountant.upper()}: {why}{less}"]


def length_line(recipe: Recipe) -> str:
    """The plan's steps, for a user who gave none: where they come from."""
    from dpigu.cli.shared.recipes import declared_records

    records = declared_records(recipe)
    epochs = recipe.plan.steps * recipe.settings.sampler(records).rate
    return (
        f"steps      {recipe.plan.steps}, {epochs:.3g} epochs: the default for {records} records "
        f"of {Path(recipe.data).stem}; --epochs or --steps changes it"
    )


def report(run: Run, out: Path, seconds: float) -> None:
    """What the run reached, what it cost, and where everything lies."""
    from dpigu.audits.canaries.planting import PLAN

    summary = run.summary
    audited = (out / "private" / PLAN).is_file()
    print_fields(
        [
            ("run", f"{summary['preset']} on {summary['data']}, model {summary['model']}"),
            *_reached(summary),
            *_measured(summary),
            *_privacy(summary),
            ("folder", str(out)),
            ("statement", str(out / "public" / "STATEMENT.txt")),
            ("picture", str(out / "public" / "run.png")),
            ("time", f"{seconds:.0f} s"),
            ("next", f"dpigu explain {out} says what was promised, and what was not"),
            *([("audit", f"dpaudit model {out}")] if audited else []),
        ]
    )


def _reached(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The task's metrics and the user's, and what one answer for all records would make."""
    from dpigu.trainers.tasks.metrics import titled, told

    found = []
    for name in summary["metrics"]:
        line = f"{told(name, summary[f'test_{name}'])} of held-out records, at the last step"
        if (known := summary["baselines"].get(name)) is not None:
            line += f"; {known['answer']} alone makes {told(name, known['value'])}"
        found.append((titled(name), line))
    return found


def _measured(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What phases measured on training records, noised and charged."""
    return [
        (name, f"{told['estimate']:.2%}, {told['low']:.2%} to {told['high']:.2%}, noised")
        for name, told in summary["statistics"].items()
    ]


def _privacy(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    from dpigu.accountants.base import rounded_up

    steps = f"{summary['steps']} steps"
    if summary["repeated_steps"]:
        steps += f", {summary['repeated_steps']} of them repeated or lost to an interruption,"
    steps += f" at rate {summary['rate']:.6g} ({summary['epochs']:.4g} epochs)"
    if summary["stopped_early"]:
        by = "at the budget" if summary["epsilon_is"] == "claim" else "by choice"
        taken = summary["steps"] - summary["repeated_steps"]
        steps += f", stopped {by} after {taken} of {summary['planned_steps']} planned"
    if not summary["private"]:
        return [("privacy", f"NOT PRIVATE: {summary['why_not_private']}"), ("steps", steps)]
    target = summary["target_epsilon"]
    spent = rounded_up(summary["epsilon"])
    claim = f"ε = {spent}" + (f" (target {target:g})" if target else "")
    if summary["epsilon_is"] != "claim":
        claim = f"ε = {rounded_up(summary['claimed_epsilon'])}, of which {spent} spent so far"
    claim += f" at δ = {summary['delta']:g}, {summary['accountant'].upper()} accountant, "
    lines = [("privacy", f"{claim}{summary['adjacency']} adjacency")]
    if (told := summary.get("unit")) is not None:
        from dpigu.dpcore import Unit

        unit = Unit(**told)
        lines.append(("unit", f"all records of one {unit.name}; its row is {unit.row}"))
    if summary["accountant_note"]:
        lines.append(("note", summary["accountant_note"]))
    counted = "records" if summary.get("unit") is None else "units"
    if summary["delta"] > 1 / summary["records"]:
        lines.append(("warning", f"δ is above one over the {summary['records']} {counted}"))
    sigmas = dict.fromkeys(f"{phase['noise_multiplier']:.5g}" for phase in summary["phases"])
    lines.append(("noise", f"σ = {', '.join(sigmas)}, {steps}"))
    if selective_updates := [
        phase["selective_update"] for phase in summary["phases"] if phase["selective_update"]
    ]:
        each = dict.fromkeys(
            f"σ = {selective_update['noise_multiplier']:.5g} at rate {selective_update['rate']:.6g}"
            for selective_update in selective_updates
        )
        lines.append(("looks", f"one at every step, charged too: {', '.join(each)}"))
    return lines
