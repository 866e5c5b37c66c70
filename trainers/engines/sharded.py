"""What the fast engine does with a model of FSDP2, whose weights no rank has all of.

Rows are formed by the known layers alone: they need what a layer read and its output's gradient,
and never all weights at once. FSDP's own backward is the referee in the place of `vmap(grad)`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from dpigu.dpcore import AffineRowMap, ConfigurationError, ModelError, Phase
from dpigu.dpcore.grammar.stages import public_records_of
from dpigu.trainers.distributed import whole
from dpigu.trainers.engines.capture import Capture
from dpigu.trainers.engines.guards import reseeded
from dpigu.trainers.engines.layers import ParameterRows, Workspace
from dpigu.trainers.engines.layers.parameter_rows import from_layout
from dpigu.trainers.engines.records import LossOfOne, MadeUp, Tree, device_of, each
from torch import Tensor, nn

RECORDS = 2
AGREEMENT = 1e-2
"""How far a made-up record's row may be from FSDP's gradient, relatively: rounding, no more."""
NOISE = 1e-5
"""The same relative to the record's whole gradient: some rows are zero but for rounding."""
WHY_NOT_WHOLE = "no rank has all weights of a model of FSDP2 to differentiate by"


def refuse_whole_rows(phase: Phase) -> None:
    """An error for a phase that wants rows whole, or weights elsewhere than where they are.

    Errors: `ConfigurationError`.
    """
    pipeline = phase.pipeline
    reasons = {
        "a statistic": pipeline.statistic is not None,
        "a gradient at another point": pipeline.point is not None,
        "a selective update": phase.selective_update is not None,
        "gradients of public records": any(public_records_of(p.stage) for p in pipeline.placed),
        "a row map that is not diagonal and affine": not all(
            isinstance(p.stage, AffineRowMap) for p in pipeline.of("row")
        ),
    }
    wanted = [what for what, wants in reasons.items() if wants]
    if wanted:
        raise ConfigurationError(
            f"this phase needs {' and '.join(wanted)}, and {WHY_NOT_WHOLE}",
            where=f"phase {phase.name}",
            remedy="Give a model that is not sharded, or a plan without it.",
        )


def gradient_of_one(
    loss: LossOfOne, names: Collection[str], x: Tree, y: Tree
) -> dict[str, Tensor | None]:
    """A record's gradient by FSDP's own backward; None for a parameter that it does not reach.

    All ranks give the same record: the mean over the ranks is then its gradient.
    """
    parameters = dict(loss.model.named_parameters())
    with torch.enable_grad():
        total = loss({}, x, y)
    if not total.requires_grad:
        return dict.fromkeys(names)
    total.backward()  # type: ignore[no-untyped-call]  # torch's
    found: dict[str, Tensor | None] = {}
    for name in names:
        gradient = parameters[name].grad
        found[name] = None if gradient is None else whole(gradient)
        parameters[name].grad = None
    return found


def checked_sharded(
    loss: LossOfOne, weights: Mapping[str, Tensor], names: Collection[str], x_B: Tree, y_B: Tree
) -> Capture:
    """How the rows of a sharded model are collected, held against FSDP's gradient of each record.

    Dropout is off meanwhile: under vmap it draws other masks.

    Errors: `ModelError` for a parameter that no known layer has, or whose rows do not agree.
    """
    exact, model = replace(loss, autocast=None), loss.model
    capture = Capture.of(exact, names, ())
    _refuse("no layer that the fast engine knows has these parameters", model, capture.apart)
    training = model.training
    model.eval()
    try:
        made_up = MadeUp.fitting(exact, weights, x_B, y_B)
        with reseeded(device_of(x_B), seed=0):
            apart = _disagreeing(capture, weights, names, made_up)
    finally:
        model.train(training)
    _refuse("the rows of these parameters are not FSDP's gradient", model, apart)
    return replace(capture, loss=loss)


@torch.no_grad()
def _disagreeing(
    capture: Capture, weights: Mapping[str, Tensor], names: Collection[str], made_up: MadeUp
) -> set[str]:
    """The parameters whose rows on made-up records differ from FSDP's gradients."""
    x_M, y_M = made_up(RECORDS)
    found: dict[str, Tensor] = {}

    def keep(name: str, rows: ParameterRows) -> None:
        found[name] = from_layout(rows.block(0, RECORDS), rows.layout)

    capture.collect(weights, x_M, y_M, Workspace(), names, finish=keep)
    apart: set[str] = set()
    for i, (x, y) in enumerate(zip(each(x_M), each(y_M), strict=True)):
        gradients = gradient_of_one(capture.loss, names, x, y)
        expected = {name: g for name, g in gradients.items() if g is not None}
        length = sum(float(g.square().sum()) for g in expected.values()) ** 0.5
        for name in names:
            true_P = expected[name].flatten() if name in expected else 0 * found[name][i]
            allowed = AGREEMENT * float(true_P.norm()) + NOISE * length
            if not float((found[name][i] - true_P).norm()) <= allowed:
                apart.add(name)
    return apart


def _refuse(problem: str, model: nn.Module, names: Collection[str]) -> None:
    if names:
        raise ModelError(
            problem,
            where=f"{type(model).__name__}, sharded by FSDP2",
            got=sorted(names),
            remedy="Call requires_grad_(False) on them, or give a model that is not sharded.",
        )
