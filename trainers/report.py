"""What a run says of itself: metrics, summary, statement, picture, configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dpcore import NoiseSource, RunError
from dpcore.configuration import options_of, plan_to_dict
from dpcore.stages import public_records_of
from trainers.folder import RunFolder, statement, versions, write_whole
from trainers.picture import draw
from trainers.setup import Setup


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch: int = 1000) -> float:
    """The share of records whose largest output is their label."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    right = sum(
        int((model(x_B.to(device)).argmax(1).cpu() == y_B.cpu()).sum())
        for x_B, y_B in zip(x.split(batch), y.split(batch), strict=True)
    )
    model.train(was_training)
    return right / len(y)


def evaluated(setup: Setup, charged: Sequence[int], step: int) -> dict[str, Any]:
    """ε so far and accuracy on held-out records, which are outside the claim."""
    if not all(bool(p.isfinite().all()) for p in setup.model.parameters()):
        raise RunError(
            "the weights are no longer finite",
            where=f"step {step}",
            remedy="Lower the learning rate; the steps so far stay charged.",
        )
    spent = setup.epsilon(charged).value if setup.claims else None
    held_out = accuracy(setup.model, setup.data.test_x, setup.data.test_y)
    return {"step": step, "epsilon": spent, "test_accuracy": held_out}


def summarise(
    setup: Setup, charged: Sequence[int], reached: int, noise: NoiseSource
) -> dict[str, Any]:
    """The summary: what was claimed, spent and reached. Accuracy is the last step's."""
    settings = setup.settings
    why = _why_not_private(setup, noise)
    spent = setup.epsilon(charged) if not why else None
    last = setup.plan.phases[-1].pipeline.noiser.noise_multiplier
    return {
        "preset": setup.labels.get("preset", "custom"),
        "data": setup.labels.get("data", setup.data.spec.name),
        "model": setup.labels.get("model", type(setup.model).__name__),
        "private": not why,
        "why_not_private": why,
        "epsilon": spent.value if spent else None,
        "target_epsilon": settings.epsilon,
        "delta": settings.delta,
        "accountant": spent.accountant if spent else settings.accountant,
        "accountant_note": spent.note if spent else "",
        "adjacency": str(setup.plan.adjacency),
        "noise_multiplier": last,
        "phases": _phases(setup, charged),
        "public_data": setup.labels.get("public", "given") if _reads_public(setup) else None,
        "rate": setup.sampler.rate,
        "records": setup.sampler.records,
        "expected_batch": setup.sampler.expected_batch,
        "steps": sum(charged),
        "repeated_steps": sum(charged) - reached,
        "planned_steps": setup.plan.steps,
        "stopped_early": reached < setup.plan.steps,
        "test_accuracy": accuracy(setup.model, setup.data.test_x, setup.data.test_y),
        "seed": settings.seed,
        "versions": versions(),
    }


def finish(setup: Setup, folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Write the model, the picture, the statement, and last the summary."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in setup.model.state_dict().items()}
    save_file(tensors, folder.public / "model.safetensors")
    draw(folder.metrics(), summary, folder.public / "run.png")
    if setup.settings.diagnostics:
        data = setup.data
        inside = accuracy(setup.model, data.train_x, data.train_y)
        folder.note_privately("diagnostics.jsonl", {"train_accuracy": inside})
    write_whole(folder.public / "STATEMENT.txt", statement(summary))
    folder.write_json("summary.json", summary)


def configuration(setup: Setup) -> dict[str, Any]:
    """The run as plain data: enough to run it again, or to go on with it.

    The plan has its noise already, so the factor on it is 1.
    """
    spec, settings = setup.data.spec, setup.settings
    if setup.plan.private:
        settings = replace(settings, noise_multiplier=1.0)
    return {
        "preset": setup.labels.get("preset", "custom"),
        "data": {
            "name": setup.labels.get("data", spec.name),
            "records": spec.records,
            "classes": spec.classes,
            "shape": list(spec.shape),
            "scaling": options_of(spec.scaling),
            **{name: setup.labels[name] for name in ("features", "public") if name in setup.labels},
        },
        "model": {"name": setup.labels.get("model", type(setup.model).__name__)},
        "settings": options_of(settings),
        "plan": plan_to_dict(setup.plan),
    }


def _phases(setup: Setup, charged: Sequence[int]) -> list[dict[str, Any]]:
    """Each phase's charged steps and noise, and those of its looks, one a step."""
    found = []
    for phase, steps in zip(setup.plan.phases, charged, strict=True):
        look = None
        if phase.look is not None:
            sigma = phase.look.pipeline.noiser.noise_multiplier
            rate = phase.look.sampler(setup.sampler).rate
            look = {"noise_multiplier": sigma, "rate": rate}
        sigma = phase.pipeline.noiser.noise_multiplier
        found.append({"name": phase.name, "steps": steps, "noise_multiplier": sigma, "look": look})
    return found


def _reads_public(setup: Setup) -> bool:
    pipelines = [pipeline for phase in setup.plan.phases for pipeline in phase.pipelines]
    return any(public_records_of(p.stage) for pipeline in pipelines for p in pipeline.placed)


def _why_not_private(setup: Setup, noise: NoiseSource) -> str:
    if not setup.plan.private:
        return "no noise was drawn"
    if not noise.private:
        return "its noise can be drawn again by whoever knows the seed"
    if setup.settings.diagnostics:
        return "diagnostics on training records were switched on"
    return ""
