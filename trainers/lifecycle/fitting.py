"""Whether the data, the model and the pipelines of a run fit each other, before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from dpigu.dpcore import ConfigurationError, DataError, ModelError, Phase, Pipeline
from dpigu.dpcore.grammar.stages import name_of, of_loss, public_records_of
from dpigu.dpcore.unit import called
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.data.sources import form_of, forms_of
from dpigu.trainers.data.units import Split
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def check_tokens(data: Data, model: nn.Module) -> None:
    """An error if an integer input is no row of the model's largest embedding."""
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    if not tables or all(v.is_floating_point() for v in tree_leaves(form_of(data.train)[0])):
        return
    splits: tuple[Split, ...] = ("training", "held-out")
    for split in splits:
        for x_B, _ in data.batches(split):
            for v in filter(_whole, tree_leaves(x_B)):
                if int(v.min()) < 0 or int(v.max()) >= max(tables):
                    raise DataError(
                        f"a {split} token lies outside of every embedding of the model",
                        where=data.spec.name,
                        expected=f"0…{max(tables) - 1}",
                        remedy="Give a model with a row for each token.",
                    )


def _whole(v: Tensor) -> bool:
    return not v.is_floating_point() and v.dtype != torch.bool and v.numel() > 0


def check_needed(phases: Sequence[Phase], public: Data) -> None:
    """An error if public data was given and no stage of the plan would look at it."""
    placed = (p for phase in phases for line in phase.pipelines for p in line.placed)
    if not any(public_records_of(p.stage) for p in placed):
        raise ConfigurationError(
            "no stage of the plan learns from public records",
            where=public.spec.name,
            remedy="Leave out `public`, or take a plan such as gep-public.",
        )


def check_public(pipeline: Pipeline, data: Data, public: Data | None) -> None:
    """An error if a stage wants public records and there are none, or none that fit."""
    wanting = [p.name for p in pipeline.placed if public_records_of(p.stage)]
    if not wanting:
        return
    if public is None:
        raise ConfigurationError(
            "a stage learns from public records, and there is no public data",
            where=wanting[0],
            remedy="Give `public`: records that need no protection.",
        )
    here, there = data.spec, public.spec
    fewer = there.classes is None or here.classes is None or there.classes <= here.classes
    if there.shape != here.shape or there.task != here.task or not fewer:
        raise ConfigurationError(
            "the public data does not fit the private data",
            where=there.name,
            got=f"{there.shape}, {there.classes} classes",
            expected=f"{here.shape}, at most {here.classes} classes",
        )
    (own, _), (theirs, _) = form_of(data.train), form_of(public.train)
    if [v.dtype for v in tree_leaves(own)] != [v.dtype for v in tree_leaves(theirs)]:
        raise ConfigurationError(
            "the public records differ in type from the private ones, so none could be told apart",
            where=there.name,
            got=forms_of(theirs),
            expected=forms_of(own),
            remedy="Give the public records in the private ones' type.",
        )


def check_unit(pipeline: Pipeline, spec: DataSpec) -> None:
    """An error for a statistic that looks at one record's values, where rows are units'."""
    statistic = pipeline.statistic
    if spec.unit is not None and statistic is not None and not of_loss(statistic):
        raise ConfigurationError(
            "this statistic is of one record, and a row is a unit's here",
            where=name_of(statistic),
            got=called(spec.unit),
            remedy="Leave the phase out, or promise privacy by record.",
        )


def check_buffers(pipeline: Pipeline, data: Data, model: nn.Module) -> None:
    """An error if a statistic sets buffers that the model lacks, or has in another shape."""
    if pipeline.statistic is None:
        return
    there = {name: tuple(buffer.shape) for name, buffer in model.named_buffers()}
    for name, shape in pipeline.statistic.fits(data.spec.shape).items():
        if there.get(name) != shape:
            known = [f"{here} {size}" for here, size in there.items()]
            raise ModelError(
                "the model has no such buffer for a statistic to set",
                where=name_of(pipeline.statistic),
                got=", ".join(known) or "a model without buffers",
                expected=f"{name} {shape}",
                remedy="Take a model that has it, such as the preset's own, or change the "
                "statistic's options.",
            )
