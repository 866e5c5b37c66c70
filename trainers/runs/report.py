"""What a run says of itself: metrics, summary, statement, picture, configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from dpigu.accountants.profile import DELTAS, privacy_profile
from dpigu.dpcore import NoiseSource, Release, RunError
from dpigu.dpcore.claim import Ledger
from dpigu.dpcore.grammar.stages import public_records_of
from dpigu.dpcore.registry.configuration import options_of
from dpigu.trainers.calibration import claimed_epsilon, claimed_event, epsilon_of_ledger
from dpigu.trainers.data.declared import plain
from dpigu.trainers.distributed import kind_of, whole
from dpigu.trainers.evaluation import measure
from dpigu.trainers.lifecycle.lineage import Lineage, together
from dpigu.trainers.lifecycle.prepare import PreparedRun
from dpigu.trainers.runs import disk
from dpigu.trainers.runs.folder import SUMMARY, RunFolder, versions
from dpigu.trainers.runs.identity import described, name_of_callable, structure_of
from dpigu.trainers.runs.picture import drawn
from dpigu.trainers.runs.statement import statement
from dpigu.trainers.runs.weights import MODEL
from dpigu.trainers.tasks import Measured
from dpigu.trainers.tasks.metrics import titled

HELD_OUT = "test_"
"""In front of the name of a metric on held-out records."""
OF_DATA = ("features", "public", "test", "target", "columns")
"""The labels that say how the data was read."""
SAID = ("tuned", "weights")
"""The labels that are the user's word, which the statement quotes."""
OPTIMIZER = ("optimizer", "learning_rate", "momentum", "weight_decay")
"""The settings that say nothing where the user gives an optimizer."""


def evaluated(prepared: PreparedRun, ledger: Ledger, step: int) -> dict[str, Any]:
    """ε so far and the metrics on held-out records, which are outside the claim."""
    if not all(bool(whole(p.detach()).isfinite().all()) for p in prepared.model.parameters()):
        raise RunError(
            "the weights are no longer finite",
            where=f"step {step}",
            remedy="Lower the learning rate; the steps so far stay charged.",
        )
    spent = epsilon_of_ledger(ledger).value if prepared.claims else None
    return {"step": step, "epsilon": spent, **held_out(prepared).values}


def shown(release: Release | None, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What the last step says beside the metrics: shares and a learning rate, None if unknown.

    `support` is the share of live coordinates, `clipped` the released share of records that were
    longer than the bound, where the pipeline has the query `clipped-count`.
    """
    count = None if release is None else release.queries.get("clipped-count")
    return {
        "learning_rate": float(optimizer.param_groups[0]["lr"]),
        "support": None if release is None else float(release.support_D.double().mean()),
        "clipped": None if count is None else min(1.0, max(0.0, 0.5 - float(count.value[0]))),
    }


def held_out(prepared: PreparedRun) -> Measured:
    """The metrics on held-out records, as `test_` and their names, and their baselines."""
    found = measure(prepared.model, prepared.data, prepared.metrics, "held-out")
    return Measured({HELD_OUT + name: v for name, v in found.values.items()}, found.baselines)


def summarise(
    prepared: PreparedRun,
    ledger: Ledger,
    reached: int,
    lineage: Lineage = (),
    budget: str | None = None,
    statistics: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The summary: what was claimed, spent and reached. Metrics are the last step's.

    Everything about privacy is the ledger's word.

    Args:
        lineage: the runs that the weights started from.
        budget: the name of the budget that the run kept.
        statistics: what phases report of their releases, by phase.
    """
    head, why = ledger.head, ledger.head.not_private
    spent = epsilon_of_ledger(ledger) if not why else None
    both = together(lineage, ledger) if lineage and not why else None
    metrics, baselines = held_out(prepared)
    return {
        "preset": prepared.labels.get("preset", "custom"),
        "data": prepared.labels.get("data", prepared.data.spec.name),
        "model": prepared.labels.get("model", kind_of(prepared.model).__name__),
        "private": not why,
        "why_not_private": why,
        "epsilon": spent.value if spent else None,
        "epsilon_is": "claim" if ledger.complete else "spent so far",
        "claimed_epsilon": claimed_epsilon(ledger) if not why else None,
        "together": both
        and {"epsilon": both.value, "accountant": both.accountant, "note": both.note},
        "lineage": [ancestor.to_dict() for ancestor in lineage],
        "budget": budget,
        "tuned": prepared.labels.get("tuned"),
        "weights": prepared.labels.get("weights"),
        "released": released(prepared),
        "target_epsilon": head.epsilon,
        "delta": head.delta,
        "accountant": spent.accountant if spent else head.accountant,
        "accountant_note": spent.note if spent else "",
        "adjacency": str(head.adjacency),
        "noise_multiplier": head.mechanisms[-1].noise_multiplier,
        "phases": phases_of(ledger),
        "public_data": prepared.labels.get("public", "given") if _reads_public(prepared) else None,
        "rate": prepared.sampler.rate,
        "records": head.records,
        "unit": None if head.unit is None else vars(head.unit),
        "common_inputs": prepared.data.spec.common_inputs,
        "expected_batch": prepared.sampler.expected_batch,
        "steps": sum(ledger.ran),
        "repeated_steps": sum(ledger.ran) - reached,
        "planned_steps": prepared.plan.steps,
        "epochs": sum(ledger.ran) * prepared.sampler.rate,
        "planned_epochs": prepared.plan.steps * prepared.sampler.rate,
        "stopped_early": reached < prepared.plan.steps,
        "task": prepared.data.spec.task.name,
        "metrics": list(prepared.metrics),
        **metrics,
        "baselines": baselines,
        "statistics": dict(statistics or {}),
        "seed": prepared.settings.seed,
        "versions": versions(),
    }


def released(prepared: PreparedRun) -> list[str]:
    """What a run makes public beside its model: covered by the claim, or of held-out records."""
    found = [
        "the state of every stage and of the optimizer (checkpoint)",
        "the configuration",
        "the ledger",
    ]
    if prepared.metrics:
        names = " and ".join(titled(name) for name in prepared.metrics)
        found.insert(
            1, f"held-out {names} {min(prepared.settings.evaluations, prepared.plan.steps)} times"
        )
    if any(phase.selective_update is not None for phase in prepared.plan.phases):
        found.append("which updates were kept")
    return found


def profiled(ledger: Ledger) -> list[list[float]]:
    """The claim's privacy profile, pairs (δ, ε); empty where nothing is claimed."""
    head = ledger.head
    if head.not_private:
        return []
    deltas = (*DELTAS, head.delta)
    return [list(at) for at in privacy_profile(claimed_event(ledger), deltas, head.adjacency)]


def inside(prepared: PreparedRun) -> dict[str, float | None]:
    """The metrics on training records, which are private; none unless diagnostics are on."""
    if not prepared.settings.diagnostics:
        return {}
    found = measure(prepared.model, prepared.data, prepared.metrics, "training")
    return {f"train_{name}": value for name, value in found.values.items()}


def finish(
    folder: RunFolder,
    summary: Mapping[str, Any],
    model: bytes,
    diagnostics: Mapping[str, float | None],
) -> dict[str, Any]:
    """Write the model, the picture, the statement, and last the summary, with its profile."""
    profile, canaries = profiled(folder.ledger()), folder.canaries()
    summary = {**summary, "privacy_profile": profile, "canaries": canaries}
    disk.write_whole(folder.public / MODEL, model)
    disk.write_whole(folder.public / "run.png", drawn(folder.metrics(), summary))
    if diagnostics:
        folder.note_privately("diagnostics.jsonl", diagnostics)
    disk.write_whole(folder.public / "STATEMENT.txt", statement(summary).encode())
    folder.write_json(SUMMARY, summary)
    return summary


def configuration(
    prepared: PreparedRun, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """What runs, as plain data: the calibrated plan, and everything else by name and option.

    Args:
        optimizer: of the user's own, in place of the one in the settings.
    """
    spec, settings = prepared.data.spec, options_of(prepared.settings)
    table: dict[str, Any] = {
        "preset": prepared.labels.get("preset", "custom"),
        "data": {
            "name": prepared.labels.get("data", spec.name),
            "records": spec.records,
            **({} if spec.classes is None else {"classes": spec.classes}),
            "shape": plain(spec.shape),
            "scaling": options_of(spec.scaling),
            "task": spec.task.name,
            "targets": plain(spec.target),
            **({} if spec.weight_bound is None else {"weight_bound": spec.weight_bound}),
            **({} if spec.unit is None else {"unit": vars(spec.unit)}),
            **({"common_inputs": True} if spec.common_inputs else {}),
            **{name: prepared.labels[name] for name in OF_DATA if name in prepared.labels},
        },
        "model": {
            "name": prepared.labels.get("model", kind_of(prepared.model).__name__),
            "structure": structure_of(prepared.model),
        },
        "loss": {"name": name_of_callable(prepared.loss)},
    }
    if own := [name for name in prepared.metrics if name not in spec.task.metrics]:
        table["metrics"] = own
    table |= {key: prepared.labels[key] for key in SAID if key in prepared.labels}
    if optimizer is not None:
        table["optimizer"] = described(optimizer)
        settings = {k: v for k, v in settings.items() if k not in OPTIMIZER}
    return {**table, "settings": settings, "calibrated": prepared.plan.to_dict()}


def phases_of(ledger: Ledger) -> list[dict[str, Any]]:
    """Each mechanism's steps and noise, and those of its looks, one a step. Where a period was cut,
    more steps are charged than ran."""
    return [
        {
            "name": mechanism.name,
            "steps": steps,
            "noise_multiplier": mechanism.noise_multiplier,
            "period": mechanism.period,
            "turns": mechanism.turns or mechanism.period,
            "selective_update": None
            if mechanism.look_rate is None
            else {
                "noise_multiplier": mechanism.look_noise_multiplier,
                "rate": mechanism.look_rate,
            },
        }
        for mechanism, steps in zip(ledger.head.mechanisms, ledger.ran, strict=True)
    ]


def _reads_public(prepared: PreparedRun) -> bool:
    pipelines = [pipeline for phase in prepared.plan.phases for pipeline in phase.pipelines]
    return any(public_records_of(p.stage) for pipeline in pipelines for p in pipeline.placed)


def why_not_private(prepared: PreparedRun, noise: NoiseSource) -> str:
    """Why a run can make no claim; empty if it can."""
    if not prepared.plan.private:
        return "no noise was drawn"
    if not noise.private:
        return "its noise can be drawn again by whoever knows the seed"
    if prepared.settings.diagnostics:
        return "diagnostics on training records were switched on"
    return ""
