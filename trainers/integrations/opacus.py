"""`make_private`: a session from what a training script has, for those who come from Opacus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from dpigu.dpcore import ConfigurationError, Phase, Pipeline, Plan
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers.callbacks import Callback
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.data.making import data_from
from dpigu.trainers.engines import Loss
from dpigu.trainers.session import Session
from dpigu.trainers.settings import Settings
from dpigu.trainers.tasks import Task
from torch import nn
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)


def make_private(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data_loader: DataLoader[Any],
    *,
    test: DataLoader[Any],
    delta: float,
    epochs: float,
    clipping_norm: float,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    loss: Loss | None = None,
    task: str | Task | None = None,
    records: int | None = None,
    classes: int | None = None,
    common_inputs: bool = False,
    out: Path | str | None = None,
    budget: Path | str | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    **settings: Any,
) -> Session:
    """A session of DP-SGD on a loader's records, its batch size as the expected batch.

        with dpigu.make_private(model, optimizer, loader, test=test, …) as session:
            for step in session:
                step.apply()

    Every record is drawn by itself with probability batch size / records; the loader's own order,
    `shuffle` and `drop_last` say nothing. Records are read from its data set, by index.

    Args:
        model: trained in place.
        optimizer: of its parameters; `step.apply()` steps it.
        data_loader: of a map-style data set, whatever `dpigu.data_from` takes.
        test: likewise, of held-out records; these are public.
        delta: δ of the claim.
        epochs: steps × expected batch / records.
        clipping_norm: the bound C on the norm of each record's gradient.
        epsilon: the target ε; or
        noise_multiplier: σ, in units of C. With both, training stops at the target.
        loss: of one record, as a mean or a sum over a batch of one; None takes the task's own.
        task: its name; integer labels, one a record, are a classification.
        records: the declared number of training records, which is public; None takes the length
            of the loader's data set to be.
        classes: the declared number of classes; None takes the width of the model's output.
        common_inputs: your word that records with equal inputs are of different people.
        out, budget, callbacks, progress: as for `dpigu.Session`.
        settings: any other field of `dpigu.Settings`, such as accountant or physical_batch.

    Errors: `ConfigurationError` for a loader without a batch size or with sampling of its own;
        `DataError` for records that do not fit one another.
    """
    batch = _batch_of(data_loader)
    data = data_of(model, data_loader, test, task, records, classes, common_inputs)
    chosen = Settings(
        epsilon=epsilon,
        delta=delta,
        noise_multiplier=noise_multiplier,
        expected_batch=min(batch, data.spec.records),
        epochs=epochs,
        **settings,
    )
    pipeline = Pipeline(Flat(bound=clipping_norm), Gaussian())
    return Session(
        Plan((Phase("main", pipeline, 1),)),
        data,
        model,
        chosen,
        out=out,
        loss=loss,
        optimizer=optimizer,
        callbacks=callbacks,
        budget=budget,
        progress=progress,
    )


def data_of(
    model: nn.Module,
    train: DataLoader[Any],
    test: DataLoader[Any],
    task: str | Task | None,
    records: int | None,
    classes: int | None,
    common_inputs: bool,
) -> Data:
    """The records of two loaders beside their declared constants."""
    inside, held_out = _whole(train), _whole(test)
    if classes is None and task in (None, "classification"):
        classes = _width(model, held_out[0])
    return data_from(
        train=inside,
        test=held_out,
        records=len(inside) if records is None else records,
        classes=classes,
        task=task,
        name=type(train.dataset).__name__,
        common_inputs=common_inputs,
    )


def _whole(loader: DataLoader[Any]) -> Subset[Any]:
    """All that a loader's data set holds, a list too, in its order."""
    inside: Any = loader.dataset
    return Subset(inside, range(len(inside)))


def _batch_of(loader: DataLoader[Any]) -> int:
    """The loader's batch size, if sampling is left to the session."""
    plain = isinstance(loader.sampler, (RandomSampler, SequentialSampler))
    if loader.batch_size is None or not plain:
        raise ConfigurationError(
            "the loader samples by a rule of its own, which no accountant here knows",
            where="data_loader",
            got=type(loader.batch_sampler if plain else loader.sampler).__name__,
            expected="a batch size; every record is drawn by itself with one probability",
        )
    if loader.collate_fn is not default_collate:
        raise ConfigurationError(
            "the loader's collate_fn makes one batch of many records, and no record would stand "
            "apart",
            where="data_loader",
            got=getattr(loader.collate_fn, "__name__", type(loader.collate_fn).__name__),
            remedy="Make records of one shape in the data set, or give data_from's `pad_to`.",
        )
    return loader.batch_size


@torch.no_grad()
def _width(model: nn.Module, record: Any) -> int | None:
    """How many outputs the model has for a held-out record; None where that says nothing."""
    x = record[0] if isinstance(record, (tuple, list)) else None
    if not isinstance(x, torch.Tensor):
        return None
    at = next((p.device for p in model.parameters()), torch.device("cpu"))
    before = model.training
    outputs = model.eval()(x[None].to(at))
    model.train(before)
    return int(outputs.shape[-1]) if isinstance(outputs, torch.Tensor) else None
