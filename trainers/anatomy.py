"""Which module gives which parameter's rows: found once, on made-up records, and checked.

Two and three made-up records of the public shape show where every module holds its records.
Then the rows are compared with autograd's gradient of each made-up record. A parameter whose
rows do not agree (its layer's weight is also read directly by another module, say) is given
to the whole model's vector-Jacobian product, and refused if that does not agree either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from dpcore import ModelError
from trainers.engine import trainable
from trainers.layers import KNOWN, Statistic, Summed, Workspace, seen_by
from trainers.layers.fallback import Axes, Axis, vjp_rows
from trainers.layers.statistics import from_layout
from trainers.tape import Call, Loss, Output, run

FOLDING = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm)
"""Layers that may see the records folded with positions: B·k × … ."""
AGREEMENT = 1e-2


@dataclass(frozen=True)
class Unit:
    """A module that gives rows, at every call of it.

    Args:
        known: by its layer type; otherwise by a vector-Jacobian product.
        names: the parameters: the module's name for each, and the model's.
        calls: where each call holds its records.
        mapped: whether vmap can trace it.
    """

    known: bool
    names: Mapping[str, str]
    calls: tuple[Axes, ...]
    mapped: bool = True


@dataclass(frozen=True)
class Anatomy:
    """The units of a model by path."""

    units: Mapping[str, Unit]
    memory_format: torch.memory_format = torch.contiguous_format

    @cached_property
    def shared(self) -> frozenset[str]:
        """The parameters used more than once."""
        uses = Counter(n for u in self.units.values() for n in u.names.values() for _ in u.calls)
        return frozenset(name for name, count in uses.items() if count > 1)

    def statistics(
        self,
        model: nn.Module,
        loss: Loss,
        weights: Mapping[str, Tensor],
        x_B: Tensor,
        y_B: Tensor,
    ) -> dict[str, Statistic]:
        """Every parameter's statistic."""
        found: dict[str, Statistic] = {}
        names = {name for unit in self.units.values() for name in unit.names.values()}
        workspace = Workspace()
        self.collect(model, loss, weights, x_B, y_B, None, workspace, names, found.__setitem__)
        return found

    def collect(
        self,
        model: nn.Module,
        loss: Loss,
        weights: Mapping[str, Tensor],
        x_B: Tensor,
        y_B: Tensor,
        autocast: torch.dtype | None,
        workspace: Workspace,
        wanted: Collection[str],
        finish: Callable[[str, Statistic], None],
    ) -> None:
        """One forward and backward; `finish` gets every wanted parameter's statistic.

        It gets that of a layer used once as soon as backward has passed it, so that what
        the layer saw can be let go.
        """
        paths = tuple(
            p for p, u in self.units.items() if any(n in wanted for n in u.names.values())
        )
        uses: dict[str, list[Statistic]] = defaultdict(list)

        def consume(path: str, call: Call) -> None:
            unit = self.units[path]
            if not unit.known:
                return
            module = model.get_submodule(path)
            seen = seen_by(call.inputs(path)[0], call.gradient(0), len(x_B), workspace)
            for local, name in unit.names.items():
                if name in wanted:
                    statistic = KNOWN[type(module)][local](module, seen)
                    if name in self.shared:
                        uses[name].append(statistic)
                    else:
                        finish(name, statistic)
            call.forget()

        tape = run(model, loss, weights, x_B, y_B, paths, autocast, consume, self.memory_format)
        for path in paths:
            unit, calls = self.units[path], tape[path]
            if len(calls) != len(unit.calls):
                raise ModelError(
                    "a module is called a number of times that depends on the data",
                    where=path or "the model",
                    got=len(calls),
                    expected=len(unit.calls),
                    remedy="Call it the same number of times for every record.",
                )
            for call, axes in zip(calls, unit.calls, strict=True):
                if unit.known:
                    if call.leaves:
                        consume(path, call)
                    continue
                module = model.get_submodule(path)
                for local, g in _by_product(
                    module, path, unit, call, axes, weights, autocast
                ).items():
                    uses[unit.names[local]].append(g)
        for name, found in uses.items():
            if name in wanted:
                finish(name, found[0] if len(found) == 1 else Summed(found))


def _by_product(
    module: nn.Module,
    path: str,
    unit: Unit,
    call: Call,
    axes: Axes,
    weights: Mapping[str, Tensor],
    autocast: torch.dtype | None,
) -> dict[str, Statistic]:
    prefix = f"{path}." if path else ""
    own = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
    own |= {local: weights[name] for local, name in unit.names.items()}
    b = {at: call.gradient(at) for at, axis in enumerate(axes.outputs) if axis is not None}
    leaves = call.inputs(path)
    names = tuple(unit.names)
    return vjp_rows(module, own, names, leaves, call.spec, b, axes, unit.mapped, autocast)


def anatomy_of(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], x_B: Tensor, y_B: Tensor
) -> Anatomy:
    """The units of a model, from the shapes and dtypes of a batch and none of its values.

    Errors: `ModelError` for a module that mixes records and for rows that cannot be formed.
    """
    refuse_batch_statistics(model)
    with torch.random.fork_rng(devices=_devices(x_B)):
        axes = _axes(model, loss, weights, x_B, y_B)
        _refuse_mixing(model, loss, weights, x_B, y_B)
        wrong: set[str] = set()
        for _ in range(2):
            units = _settled(model, loss, weights, x_B, y_B, _assign(model, axes, wrong))
            anatomy = Anatomy(units, _format(model, loss, weights, x_B, y_B))
            bad = _disagreeing(model, loss, weights, x_B, y_B, anatomy)
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


def made_up(v: Tensor, records: int, seed: int) -> Tensor:
    """Made-up values of the same shape and dtype: normal, or zero for integers."""
    shape = (records, *v.shape[1:])
    if not v.is_floating_point():
        return torch.zeros(shape, dtype=v.dtype, device=v.device)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(v)


def _axes(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], x: Tensor, y: Tensor
) -> dict[str, tuple[Axes, ...]]:
    """Where each call of each module that has parameters below it holds the records."""
    paths = [p for p, m in model.named_modules() if next(m.parameters(), None) is not None]
    two, three = (
        run(model, loss, weights, made_up(x, n, 0), made_up(y, n, 1), paths, None) for n in (2, 3)
    )
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
        if name not in whole and all(_is_known(modules[p], axes[p]) for p, _ in held):
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


def _is_known(module: nn.Module, calls: Sequence[Axes]) -> bool:
    """A layer of a known type, called with its records first and one input."""
    if type(module) not in KNOWN or not calls:
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
    x: Tensor,
    y: Tensor,
    units: dict[str, Unit],
) -> dict[str, Unit]:
    """The units, with those that vmap cannot trace taken record by record."""
    for path, unit in units.items():
        if not unit.known:
            alone = Anatomy({path: unit})
            try:
                alone.statistics(model, loss, weights, made_up(x, 2, 0), made_up(y, 2, 1))
            except RuntimeError:
                units[path] = replace(unit, mapped=False)
    return units


def _format(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], x: Tensor, y: Tensor
) -> torch.memory_format:
    """Channels last where it is fast: two-dimensional convolutions in float32 on a CPU.

    Pooling and patches move half the memory. A model that calls `view` on an image
    cannot have it.
    """
    images = any(isinstance(m, nn.Conv2d) for m in model.modules()) and x.dim() == 4
    if not images or x.dtype != torch.float32 or x.device.type != "cpu":
        return torch.contiguous_format
    try:
        run(
            model,
            loss,
            weights,
            made_up(x, 2, 0),
            made_up(y, 2, 1),
            ("",),
            None,
            None,
            torch.channels_last,
        )
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last


def _refuse_mixing(
    model: nn.Module, loss: Loss, weights: Mapping[str, Tensor], x: Tensor, y: Tensor
) -> None:
    """An error if one made-up record's loss depends on another record."""
    losses = []
    for other in (1.0, 3.0):
        torch.manual_seed(0)
        inputs = made_up(x, 2, 0)
        inputs[1] = inputs[1] * other
        with torch.no_grad():
            outputs = functional_call(model, dict(weights), (inputs,))
            losses.append(loss(outputs, made_up(y, 2, 1)))
    if len(losses[0]) != 2 or not torch.allclose(losses[0][0], losses[1][0], rtol=1e-3):
        raise ModelError(
            "one record's loss depends on the other records of its batch",
            where=type(model).__name__,
            remedy="Take every statistic within one record.",
        )


def _disagreeing(
    model: nn.Module,
    loss: Loss,
    weights: Mapping[str, Tensor],
    x: Tensor,
    y: Tensor,
    anatomy: Anatomy,
) -> set[str]:
    """The parameters whose rows on two made-up records differ from autograd's gradients."""
    inputs, targets = made_up(x, 2, 0), made_up(y, 2, 1)
    torch.manual_seed(0)
    rows = anatomy.statistics(model, loss, weights, inputs, targets)
    torch.manual_seed(0)
    free = {n: w.detach().clone().requires_grad_(n in rows) for n, w in weights.items()}
    with torch.enable_grad():
        losses = loss(functional_call(model, free, (inputs,)), targets)
    bad = set()
    for i in range(2):
        expected = torch.autograd.grad(
            losses[i], [free[n] for n in rows], allow_unused=True, retain_graph=True
        )
        for (name, statistic), g in zip(rows.items(), expected, strict=True):
            row = from_layout(statistic.block(i, i + 1), statistic.layout)[0]
            true = torch.zeros_like(row) if g is None else g.flatten().to(row)
            if not (row - true).norm() <= AGREEMENT * true.norm() + 1e-12:
                bad.add(name)
    return bad
