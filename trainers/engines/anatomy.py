"""Which module gives which parameter's rows, and one pass that collects them all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.engines.layers import KNOWN, Statistic, Summed, Workspace, seen_by
from dpigu.trainers.engines.layers.fallback import Axes, vjp_rows
from dpigu.trainers.engines.tape import Call, Loss, run
from torch import Tensor, nn


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

    @cached_property
    def by_product(self) -> Mapping[str, str]:
        """The parameters whose rows come from a module's vector-Jacobian product, and which."""
        return {
            name: path or "the model"
            for path, unit in self.units.items()
            if not unit.known
            for name in unit.names.values()
        }

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
        reached: set[str] = set()

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
                        reached.add(name)
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
                if unit.known or not call.gradients:
                    continue
                module = model.get_submodule(path)
                for local, g in _by_product(
                    module, path, unit, call, axes, weights, autocast
                ).items():
                    uses[unit.names[local]].append(g)
        for name, found in uses.items():
            if name in wanted:
                finish(name, found[0] if len(found) == 1 else Summed(found))
                reached.add(name)
        if silent := sorted(set(wanted) - reached):
            raise ModelError(
                "trainable parameters get no gradient from the loss",
                where=type(model).__name__,
                got=silent,
                remedy="Use them in forward, or call requires_grad_(False) on them.",
            )


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
