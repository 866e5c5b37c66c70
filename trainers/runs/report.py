"""What a run says of itself: metrics, summary, statement, picture, configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from dpigu.dpcore import NoiseSource, RunError
from dpigu.dpcore.registry.configuration import options_of, plan_to_dict
from dpigu.dpcore.stages import public_records_of
from dpigu.trainers.prepare import PreparedRun
from dpigu.trainers.runs.folder import RunFolder, statement, versions, write_whole
from dpigu.trainers.runs.picture import draw
from safetensors.torch import save_file
from torch import Tensor, nn


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch: int = 1000) -> float:
    """The share of records whose largest output is their label."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    right = sum(
        int(torch.eq(model(x_B.to(device)).argmax(1).cpu(), y_B.cpu()).sum())
        for x_B, y_B in zip(torch.split(x, batch), torch.split(y, batch), strict=True)
    )
    model.train(was_training)
    return right / len(y)


def evaluated(prepared: PreparedRun, charged: Sequence[int], step: int) -> dict[str, Any]:
    """ε so far and accuracy on held-out records, which are outside the claim."""
    if not all(bool(p.isfinite().all()) for p in prepared.model.parameters()):
        raise RunError(
            "the weights are no longer finite",
            where=f"step {step}",
            remedy="Lower the learning rate; the steps so far stay charged.",
        )
    spent = prepared.epsilon(charged).value if prepared.claims else None
    held_out = accuracy(prepared.model, prepared.data.test_x, prepared.data.test_y)
    return {"step": step, "epsilon": spent, "test_accuracy": held_out}


def summarise(
    prepared: PreparedRun, charged: Sequence[int], reached: int, noise: NoiseSource
) -> dict[str, Any]:
    """The summary: what was claimed, spent and reached. Accuracy is the last step's."""
    settings = prepared.settings
    why = _why_not_private(prepared, noise)
    spent = prepared.epsilon(charged) if not why else None
    last = prepared.plan.phases[-1].pipeline.noiser.noise_multiplier
    return {
        "preset": prepared.labels.get("preset", "custom"),
        "data": prepared.labels.get("data", prepared.data.spec.name),
        "model": prepared.labels.get("model", type(prepared.model).__name__),
        "private": not why,
        "why_not_private": why,
        "epsilon": spent.value if spent else None,
        "target_epsilon": settings.epsilon,
        "delta": settings.delta,
        "accountant": spent.accountant if spent else settings.accountant,
        "accountant_note": spent.note if spent else "",
        "adjacency": str(prepared.plan.adjacency),
        "noise_multiplier": last,
        "phases": _phases(prepared, charged),
        "public_data": prepared.labels.get("public", "given") if _reads_public(prepared) else None,
        "rate": prepared.sampler.rate,
        "records": prepared.sampler.records,
        "expected_batch": prepared.sampler.expected_batch,
        "steps": sum(charged),
        "repeated_steps": sum(charged) - reached,
        "planned_steps": prepared.plan.steps,
        "stopped_early": reached < prepared.plan.steps,
        "test_accuracy": accuracy(prepared.model, prepared.data.test_x, prepared.data.test_y),
        "seed": settings.seed,
        "versions": versions(),
    }


def finish(prepared: PreparedRun, folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Write the model, the picture, the statement, and last the summary."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in prepared.model.state_dict().items()}
    save_file(tensors, folder.public / "model.safetensors")
    draw(folder.metrics(), summary, folder.public / "run.png")
    if prepared.settings.diagnostics:
        data = prepared.data
        inside = accuracy(prepared.model, data.train_x, data.train_y)
        folder.note_privately("diagnostics.jsonl", {"train_accuracy": inside})
    write_whole(folder.public / "STATEMENT.txt", statement(summary))
    folder.write_json("summary.json", summary)


def configuration(prepared: PreparedRun) -> dict[str, Any]:
    """The run as plain data: enough to run it again, or to go on with it.

    The plan has its noise already, so the factor on it is 1.
    """
    spec, settings = prepared.data.spec, prepared.settings
    if prepared.plan.private:
        settings = replace(settings, noise_multiplier=1.0)
    return {
        "preset": prepared.labels.get("preset", "custom"),
        "data": {
            "name": prepared.labels.get("data", spec.name),
            "records": spec.records,
            "classes": spec.classes,
            "shape": list(spec.shape),
            "scaling": options_of(spec.scaling),
            **{
                name: prepared.labels[name]
                for name in ("features", "public")
                if name in prepared.labels
            },
        },
        "model": {"name": prepared.labels.get("model", type(prepared.model).__name__)},
        "settings": options_of(settings),
        "plan": plan_to_dict(prepared.plan),
    }


def _phases(prepared: PreparedRun, charged: Sequence[int]) -> list[dict[str, Any]]:
    """Each phase's charged steps and noise, and those of its looks, one a step."""
    found = []
    for phase, steps in zip(prepared.plan.phases, charged, strict=True):
        selective_update = None
        if phase.selective_update is not None:
            sigma = phase.selective_update.pipeline.noiser.noise_multiplier
            rate = phase.selective_update.sampler(prepared.sampler).rate
            selective_update = {"noise_multiplier": sigma, "rate": rate}
        sigma = phase.pipeline.noiser.noise_multiplier
        found.append(
            {
                "name": phase.name,
                "steps": steps,
                "noise_multiplier": sigma,
                "selective_update": selective_update,
            }
        )
    return found


def _reads_public(prepared: PreparedRun) -> bool:
    pipelines = [pipeline for phase in prepared.plan.phases for pipeline in phase.pipelines]
    return any(public_records_of(p.stage) for pipeline in pipelines for p in pipeline.placed)


def _why_not_private(prepared: PreparedRun, noise: NoiseSource) -> str:
    if not prepared.plan.private:
        return "no noise was drawn"
    if not noise.private:
        return "its noise can be drawn again by whoever knows the seed"
    if prepared.settings.diagnostics:
        return "diagnostics on training records were switched on"
    return ""
