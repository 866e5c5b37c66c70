"""One pass over a microbatch, a record at a time: what layers read, and their output gradients.

The losses are `vmap` of `LossOfOne`: model and loss meet one record. A layer of a known type
maps every position by itself, so its rule under vmap lays the records side by side and runs
torch's own layer once; there the input a is noted, and the gradient b of the output as soon as
backward knows it. Every other trainable parameter gets a copy a record (a view, no memory),
and autograd gives its gradient a record. Σ_i loss_i depends on record i through loss_i alone,
so its gradient at record i's part of an output is loss_i's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.distributed import is_sharded, kind_of
from dpigu.trainers.engines.guards import no_rules_of_users
from dpigu.trainers.engines.layers import (
    Formed,
    ParameterRows,
    Summed,
    Workspace,
    own_dims,
    rows_of,
    seen_by,
    viewed,
)
from dpigu.trainers.engines.records import LossOfOne, Tree, count_of, device_of
from dpigu.trainers.engines.vmap_rules.recurrent import unrolled
from dpigu.trainers.engines.vmap_rules.side_by_side import Fused, SideBySide
from torch import Tensor, nn
from torch.utils._pytree import tree_map

Finish = Callable[[str, ParameterRows], None]


class _Tap(torch.autograd.Function):
    """The identity, as a tensor of its own that shares the memory.

    It gives the first layer's output a place in the graph, and a later operation in place
    cannot cut the hook off, as it does from an output that is a view.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, anchor: Tensor) -> Tensor:
        return out.data

    @staticmethod
    def backward(ctx: Any, *b: Tensor) -> tuple[Tensor | None, None]:
        return (b[0] if ctx.needs_input_grad[0] else None), None


@dataclass
class _Read:
    """What one call of a layer read; `fold` inputs of its own a record, side by side."""

    records: int
    fold: int
    x: Tensor | None
    version: int

    def take(self, where: str) -> Tensor:
        """The input as the layer saw it; let go of here."""
        x, self.x = self.x, None
        assert x is not None
        if x._version != self.version:
            raise ModelError(
                "an input of a layer was changed in place after the layer read it",
                where=where,
                remedy="Use the operation that returns a new tensor, such as x = x + y.",
            )
        return x.detach()


class Layer(NamedTuple):
    """A layer of a known type: its names for its parameters, and the model's."""

    module: nn.Module
    names: Mapping[str, str]


@dataclass(frozen=True)
class Capture:
    """How a model's rows are collected.

    Args:
        loss: the loss of one record.
        apart: the trainable parameters that are differentiated a record at a time, because no
            known layer holds them or because they are read outside of its forward.
        memory_format: how images lie.
    """

    loss: LossOfOne
    apart: frozenset[str]
    memory_format: torch.memory_format = torch.contiguous_format

    @classmethod
    def of(cls, loss: LossOfOne, trainable: Collection[str], beside: Collection[str]) -> Capture:
        """Everything by the known layers, but for the parameters `beside` and their layers."""
        held = {n for layer in known(loss.model, beside).values() for n in layer.names.values()}
        return cls(loss, frozenset(name for name in trainable if name not in held))

    @cached_property
    def layers(self) -> Mapping[str, Layer]:
        """The layers of a known type that hold no parameter of `apart`, by path."""
        return known(self.loss.model, self.apart)

    def collect(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        workspace: Workspace,
        wanted: Collection[str],
        *,
        finish: Finish,
        share: float = 1.0,
    ) -> None:
        """One forward and backward of `share` × the losses; `finish` gets every parameter's rows.

        It gets that of a parameter as soon as backward has passed its last use, so that what
        the layer read can be let go.
        """
        records, model = count_of(x_B), self.loss.model
        given = {} if is_sharded(model) else weights
        fixed = {name: self._laid_out(w.detach()) for name, w in given.items()}
        x_B = tree_map(self._laid_out, x_B)
        apart = {
            name: fixed[name].expand(records, *fixed[name].shape).requires_grad_()
            for name in weights
            if name in self.apart and name in wanted
        }
        anchor = torch.zeros((), device=device_of(x_B), requires_grad=True)
        here = _Pass(self.layers, fixed, anchor, workspace, wanted, finish)

        def one(at: Tensor, own: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
            with unrolled(model), here.ruling(at), Fused():
                return self.loss({**fixed, **own}, x, y)

        at_B = torch.arange(records, device=device_of(x_B))
        with torch.enable_grad(), no_rules_of_users():
            losses_B = torch.func.vmap(one, randomness="different")(at_B, apart, x_B, y_B)
            if not losses_B.requires_grad:
                raise _silent(model, wanted)
            gradients = torch.autograd.grad(
                losses_B,
                [anchor, *apart.values()],
                torch.full_like(losses_B, share),
                allow_unused=True,
            )
        for name, g_B in zip(apart, gradients[1:], strict=True):
            if g_B is not None:
                here.done(name, Formed(g_B.reshape(records, -1)))
        here.finish_the_rest()
        if silent := set(wanted) - here.reached:
            raise _silent(model, silent)

    def _laid_out(self, v: Tensor) -> Tensor:
        """A copy of an image or its filters: one channel reads as either format."""
        if self.memory_format == torch.contiguous_format or v.dim() != 4:
            return v
        return v.clone(memory_format=self.memory_format)


def known(model: nn.Module, apart: Collection[str]) -> Mapping[str, Layer]:
    """The layers of a known type, by path.

    A subclass may compute something else, and so may a layer with a forward of its own or with
    parameters beside the type's. One that holds a parameter of `apart` is left to vmap.
    """
    canonical = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for path, module in model.named_modules():
        rows = rows_of(kind_of(module))
        held = {local: p for local, p in module._parameters.items() if p is not None}
        if rows is None or not set(held) <= set(rows):
            continue
        if any(hasattr(module, local) and local not in module._parameters for local in rows):
            continue
        if "forward" in vars(module) or getattr(module, "track_running_stats", False):
            continue
        names = {local: canonical[id(p)] for local, p in held.items()}
        if not set(names.values()) & set(apart):
            found[path] = Layer(module, names)
    return found


@dataclass
class _Pass:
    """One forward and backward: what every layer read, and the statistics that come of it."""

    layers: Mapping[str, Layer]
    fixed: Mapping[str, Tensor]
    anchor: Tensor
    workspace: Workspace
    wanted: Collection[str]
    finish: Finish
    reached: set[str] = field(default_factory=set)
    _expected: Counter[str] = field(default_factory=Counter)
    _found: dict[str, list[ParameterRows]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def ruling(self, at: Tensor) -> Iterator[None]:
        """Known layers follow their rule wherever they are called with their own weights.

        `at` is the record's number under vmap.
        """
        try:
            for path, (module, _) in self.layers.items():
                module.forward = self._forward_of(path, at)
            yield
        finally:
            for module, _ in self.layers.values():
                vars(module).pop("forward", None)

    def _forward_of(self, path: str, at: Tensor) -> Callable[..., Tensor]:
        module, names = self.layers[path]

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            held = ((module._parameters[local], name) for local, name in names.items())
            ours = all(p is self.fixed.get(name, p) for p, name in held)
            if not ours or kwargs or len(args) != 1:
                plain: Tensor = type(module).forward(module, *args, **kwargs)
                return plain
            own = own_dims(module, args[0])
            side_by_side = SideBySide.apply
            out: Tensor = side_by_side(args[0], at, lambda x_B: self._rule(path, own, x_B))  # type: ignore[no-untyped-call]  # torch's
            return out

        return forward

    def _rule(self, path: str, own: int | None, x_B: Tensor) -> Tensor:
        """A known layer on all records at once; `own` of its dimensions are the layer's."""
        module, names = self.layers[path]
        lead = x_B.shape[: x_B.dim() - own] if own is not None else x_B.shape[:1]
        x = x_B if own is None else x_B.flatten(0, len(lead) - 1)
        out = type(module).forward(module, x)
        read = [name for name in names.values() if name in self.wanted]
        if read and torch.is_grad_enabled():
            fold = 1 if own is None else lead[1:].numel()
            call = _Read(len(x_B), fold, x, x._version)
            self._expected.update(read)
            out = _Tap.apply(out, self.anchor)  # type: ignore[no-untyped-call]  # torch's
            out.register_hook(lambda b: self._consume(path, call, b))
        shaped: Tensor = out if own is None else torch.unflatten(out, 0, lead)
        return shaped

    def _consume(self, path: str, call: _Read, b: Tensor) -> None:
        """What a call of a layer gives, as soon as backward knows the gradient of its output."""
        module, names = self.layers[path]
        seen = seen_by(call.take(path), b, call.records * call.fold, self.workspace)
        kind = rows_of(kind_of(module))
        assert kind is not None
        for local, name in names.items():
            if name not in self.wanted:
                continue
            rows = kind[local](module, seen)
            uses = self._found[name]
            uses.append(rows if call.fold == 1 else viewed(rows, call.fold))
            if len(uses) == self._expected[name]:
                self.done(name, _sum(self._found.pop(name)))

    def finish_the_rest(self) -> None:
        """Parameters with a use that the loss does not depend on, which adds nothing."""
        for name, uses in self._found.items():
            self.done(name, _sum(uses))

    def done(self, name: str, rows: ParameterRows) -> None:
        self.finish(name, rows)
        self.reached.add(name)


def _sum(uses: list[ParameterRows]) -> ParameterRows:
    return uses[0] if len(uses) == 1 else Summed(uses)


def _silent(model: nn.Module, names: Collection[str]) -> ModelError:
    return ModelError(
        "trainable parameters get no gradient from the loss",
        where=type(model).__name__,
        got=sorted(names),
        remedy="Use them in forward, or call requires_grad_(False) on them.",
    )
