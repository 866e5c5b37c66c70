"""Finds a model's anatomy once, on made-up records, and checks it against autograd.

Two and three made-up records of the public shape show where every module holds its records.
Then the rows are compared with autograd's gradient of each made-up record. A parameter whose
rows do not agree (its layer's weight is also read directly by another module, say) is given
to the whole model's vector-Jacobian product, and refused if that does not agree either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.engines.anatomy import Anatomy, Unit
from dpigu.trainers.engines.layers import KNOWN
from dpigu.trainers.engines.layers.fallback import Axes, Axis
from dpigu.trainers.engines.layers.parameter_rows import from_layout
from dpigu.trainers.engines.materialising import trainable
from dpigu.trainers.engines.tape import Loss, Output, run
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

FOLDING = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm)
"""Layers that may see the records folded with positions: B·k × … ."""
RECORDS = 4
AGREEMENT = 1e-2
"""How far a made-up record's row may be from autograd's, relatively: rounding, and no more."""
NOISE = 1e-5
"""The same relative to the record's whole gradient: some rows are zero but for rounding."""


@torch.enable_grad()
def anatomy_of(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], x_B: Tensor, y_B: Tensor
) -> Anatomy:
    """The units of a model, from the shapes and dtypes of a batch and none of its values.

    Errors: `ModelError` for a module that mixes records and for rows that cannot be formed.
    """
    refuse_batch_statistics(model)
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    made_up = MadeUp(x_B, y_B, min(tables, default=2))
    with torch.random.fork_rng(devices=_devices(x_B)):
        axes = _axes(model, loss, weights, made_up)
        _refuse_mixing(model, loss, weights, made_up)
        wrong: set[str] = set()
        for _ in range(2):
            units = _settled(model, loss, weights, made_up, _assign(model, axes, wrong))
            anatomy = Anatomy(units, _format(model, loss, weights, made_up))
            bad = _disagreeing(model, loss, weights, made_up, anatomy)
            if not bad:
                return anatomy
            wrong |= bad
    raise ModelError(
        "the rows of these parameters do not agree with autograd's gradient",
        where=type(model).__name__,
        got=sorted(bad),
        remedy="Set dropout inside attention or recurrent modules to 0, or use the "
        "materialising engine.",
    )


def refuse_batch_statistics(model: nn.Module) -> None:
    """An error for normalisation over the batch, in training mode."""
    for path, module in model.named_modules():
        mixes = isinstance(module, _BatchNorm)
        tracks = isinstance(module, _InstanceNorm) and module.track_running_stats
        if (mixes or tracks) and module.training:
            raise ModelError(
                "it keeps statistics of other records, so no record has a gradient of its own",
                where=path or "the model",
                got=type(module).__name__,
                remedy="Normalise within the record, for example with torch.nn.GroupNorm.",
            )


def _devices(x: Tensor) -> list[torch.device]:
    return [x.device] if x.device.type == "cuda" else []


@dataclass(frozen=True)
class MadeUp:
    """Made-up records of a batch's shapes and dtypes, none of its values.

    Args:
        x, y: the batch.
        kinds: how many values an integer may take: the smallest embedding's, else 2.
    """

    x: Tensor
    y: Tensor
    kinds: int

    def __call__(self, records: int) -> tuple[Tensor, Tensor]:
        """Normal inputs or random integers, and zero for integer targets."""
        draw = torch.Generator().manual_seed(0)
        shape = (records, *self.x.shape[1:])
        if self.x.is_floating_point():
            x = torch.randn(shape, generator=draw, dtype=torch.float64)
        else:
            x = torch.randint(self.kinds, shape, generator=draw)
        shape = (records, *self.y.shape[1:])
        if self.y.is_floating_point():
            y = torch.randn(shape, generator=draw, dtype=torch.float64)
        else:
            y = torch.zeros(shape)
        return x.to(self.x), y.to(self.y)


def _axes(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], made_up: MadeUp
) -> dict[str, tuple[Axes, ...]]:
    """Where each call of each module that has parameters below it holds the records."""
    paths = [p for p, m in model.named_modules() if next(m.parameters(), None) is not None]
    two, three = (run(model, loss, weights, *made_up(records), paths, None) for records in (2, 3))
    return {
        path: tuple(
            Axes(
                tuple(_axis(v, w) for v, w in zip(a.leaves, b.leaves, strict=True)),
                tuple(_axis(v, w) for v, w in zip(a.outputs, b.outputs, strict=True)),
            )
            for a, b in zip(two[path], three[path], strict=True)
        )
        for path in paths
    }


def _axis(two: object, three: object) -> Axis | None:
    """The one dimension that grows from 2k to 3k."""
    if not (isinstance(two, Tensor | Output) and isinstance(three, Tensor | Output)):
        return None
    a, b = two.shape, three.shape
    grown = [d for d in range(len(a)) if a[d] != b[d]] if len(a) == len(b) else []
    if len(grown) != 1 or 3 * a[grown[0]] != 2 * b[grown[0]]:
        return None
    return Axis(grown[0], a[grown[0]] // 2)


def _assign(
    model: nn.Module, axes: Mapping[str, tuple[Axes, ...]], whole: set[str]
) -> dict[str, Unit]:
    """Every trainable parameter to its layers, to the nearest module that can, or to the model."""
    modules = dict(model.named_modules())
    canonical = {id(p): name for name, p in model.named_parameters()}
    holders: dict[str, list[tuple[str, str]]] = {name: [] for name in trainable(model)}
    for path, module in modules.items():
        for local, p in module._parameters.items():
            if p is not None and canonical[id(p)] in holders:
                holders[canonical[id(p)]].append((path, local))
    names: dict[tuple[str, bool], dict[str, str]] = defaultdict(dict)
    for name, held in holders.items():
        if name not in whole and all(_is_known(modules[p], local, axes[p]) for p, local in held):
            for path, local in held:
                names[path, True][local] = name
            continue
        path = ""
        if name not in whole and len(held) == 1:
            path = held[0][0]
            while path and not _is_separable(axes[path]):
                path = path.rpartition(".")[0]
        names[path, False][name.removeprefix(f"{path}." if path else "")] = name
    units: dict[str, Unit] = {}
    for (path, known), given in names.items():
        if path in units:
            known, given = False, {**given, **units[path].names}
        units[path] = Unit(known, given, axes[path])
    return units


def _is_known(module: nn.Module, local: str, calls: Sequence[Axes]) -> bool:
    """A layer of a known type with such a parameter, called with its records first."""
    if local not in KNOWN.get(type(module), ()) or not calls:
        return False
    for axes in calls:
        if len(axes.inputs) != 1 or len(axes.outputs) != 1:
            return False
        into, out = axes.inputs[0], axes.outputs[0]
        if into is None or out is None or into.dim != 0 or into != out:
            return False
        if into.fold != 1 and not isinstance(module, FOLDING):
            return False
    return True


def _is_separable(calls: Sequence[Axes]) -> bool:
    """A module that is called, and whose every output holds the records."""
    return bool(calls) and all(None not in axes.outputs for axes in calls)


def _settled(
    model: nn.Module,
    loss: Loss,
    weights: Mapping[str, Tensor],
    made_up: MadeUp,
    units: dict[str, Unit],
) -> dict[str, Unit]:
    """The units, with those that vmap cannot trace taken record by record."""
    for path, unit in units.items():
        if not unit.known:
            alone = Anatomy({path: unit})
            try:
                alone.statistics(model, loss, weights, *made_up(2))
            except RuntimeError:
                units[path] = replace(unit, mapped=False)
    return units


def _format(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], made_up: MadeUp
) -> torch.memory_format:
    """Channels last where it is fast: two-dimensional convolutions in float32 on a CPU.

    Pooling and patches move half the memory. A model that calls `view` on an image
    cannot have it.
    """
    images = any(isinstance(m, nn.Conv2d) for m in model.modules()) and made_up.x.dim() == 4
    x = made_up.x
    if not images or x.dtype != torch.float32 or x.device.type != "cpu":
        return torch.contiguous_format
    try:
        run(model, loss, weights, *made_up(2), ("",), None, None, torch.channels_last)
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last


def _refuse_mixing(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], made_up: MadeUp
) -> None:
    """An error if one made-up record's loss depends on another record."""
    inputs, targets = made_up(3)
    losses = []
    for other in (1, 2):
        torch.manual_seed(0)
        with torch.no_grad():
            outputs = functional_call(model, dict(weights), (inputs[[0, other]],))
            losses.append(loss(outputs, targets[:2]))
    if len(losses[0]) != 2 or not torch.allclose(
        losses[0][0], losses[1][0], rtol=1e-3, equal_nan=True
    ):
        raise ModelError(
            "one record's loss depends on the other records of its batch",
            where=type(model).__name__,
            remedy="Take every statistic within one record.",
        )


def _disagreeing(
    model: nn.Module,
    loss: Loss,
    weights: Mapping[str, Tensor],
    made_up: MadeUp,
    anatomy: Anatomy,
) -> set[str]:
    """The parameters whose rows on made-up records differ from autograd's gradients."""
    inputs, targets = made_up(RECORDS)
    torch.manual_seed(0)
    rows = anatomy.statistics(model, loss, weights, inputs, targets)
    torch.manual_seed(0)
    free = {n: w.detach().clone().requires_grad_(n in rows) for n, w in weights.items()}
    losses = loss(functional_call(model, free, (inputs,)), targets)
    bad = set()
    for i in range(RECORDS):
        expected = torch.autograd.grad(
            losses[i], [free[n] for n in rows], allow_unused=True, retain_graph=True
        )
        whole = torch.stack([g.norm() for g in expected if g is not None]).norm()
        for (name, statistic), g in zip(rows.items(), expected, strict=True):
            row = from_layout(statistic.block(i, i + 1), statistic.layout)[0]
            true = torch.zeros_like(row) if g is None else g.flatten().to(row)
            if not (row - true).norm() <= AGREEMENT * true.norm() + NOISE * whole:
                bad.add(name)
    return bad
