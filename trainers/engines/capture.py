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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.engines.layers import (
    KNOWN,
    Formed,
    Statistic,
    Summed,
    Workspace,
    own_dims,
    seen_by,
    viewed,
)
from dpigu.trainers.engines.records import LossOfOne, Tree, count_of, device_of
from dpigu.trainers.engines.recurrent import unrolled
from dpigu.trainers.engines.rules import no_rules_of_users
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

Finish = Callable[[str, Statistic], None]


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


def _first(v: Any, dim: int | None, records: int) -> Any:
    """Records first, also where v is the same for every record."""
    if v is None:
        return None
    return v.expand(records, *v.shape) if dim is None else v.movedim(dim, 0)


class _SideBySide(torch.autograd.Function):
    """A map of every record by itself; its rule under vmap gets them all, records first.

    `at` is the record's number: mapped even where x is the same for every record.
    """

    @staticmethod
    def forward(x: Tensor, at: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
        raise NotImplementedError("a known layer has a rule under vmap alone")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise NotImplementedError("a known layer has a rule under vmap alone")

    @staticmethod
    def vmap(info: Any, dims: Any, x: Tensor, at: Tensor, rule: Any) -> tuple[Any, int]:
        x_B = _first(x, dims[0], info.batch_size)
        if torch._C._functorch.is_functorch_wrapped_tensor(x_B):  # the model's own vmap
            return _SideBySide.apply(x_B, at, rule), 0  # type: ignore[no-untyped-call]  # torch's
        return rule(x_B), 0


class _Attention(torch.autograd.Function):
    """Scaled dot-product attention of every record by itself: records join the batch."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rule: Any) -> Tensor:
        out: Tensor = rule(q, k, v, mask)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing that is differentiated comes by here."""

    @staticmethod
    def vmap(info: Any, dims: Any, *given: Any) -> tuple[Any, int]:
        *tensors, rule = given
        side = [_first(v, d, info.batch_size) for v, d in zip(tensors, dims, strict=False)]
        if any(torch._C._functorch.is_functorch_wrapped_tensor(v) for v in side if v is not None):
            return _Attention.apply(*side, rule), 0  # type: ignore[no-untyped-call]  # torch's
        out = rule(*(v if v is None else v.flatten(0, -4) for v in side))
        return out.unflatten(0, side[0].shape[:-3]), 0


class _Fused(TorchFunctionMode):
    """Attention without dropout stays fused under vmap."""

    def __torch_function__(
        self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if f is F.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return f(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    **options: Any,
) -> Tensor:
    """The function of that name, a record at a time."""
    attention = F.scaled_dot_product_attention
    lead = query.shape[:-3]
    alike = all(v.dim() >= 3 and v.shape[:-3] == lead for v in (query, key, value))
    if not alike or dropout_p:
        return attention(query, key, value, attn_mask, dropout_p, **options)
    if attn_mask is not None:
        mask = attn_mask[None] if attn_mask.dim() == 2 else attn_mask
        attn_mask = mask.expand(*lead, *mask.shape[-3:])

    def rule(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return attention(q, k, v, mask, **options)

    out: Tensor = _Attention.apply(query, key, value, attn_mask, rule)  # type: ignore[no-untyped-call]  # torch's
    return out


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
        held = {n for names in known(loss.model, beside).values() for n in names.values()}
        return cls(loss, frozenset(name for name in trainable if name not in held))

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
        """One forward and backward of `share` × the losses; `finish` gets every statistic.

        It gets that of a parameter as soon as backward has passed its last use, so that what
        the layer read can be let go.
        """
        records, model = count_of(x_B), self.loss.model
        fixed = {name: self._laid_out(w.detach()) for name, w in weights.items()}
        x_B = tree_map(self._laid_out, x_B)
        anchor = torch.zeros((), device=device_of(x_B), requires_grad=True)
        apart = {
            name: fixed[name].expand(records, *fixed[name].shape).requires_grad_()
            for name in weights
            if name in self.apart and name in wanted
        }
        layers = known(model, self.apart)
        expected: Counter[str] = Counter()
        found: dict[str, list[Statistic]] = defaultdict(list)
        reached: set[str] = set()

        def consume(path: str, read: _Read, b: Tensor) -> None:
            module = model.get_submodule(path)
            seen = seen_by(read.take(path), b, read.records * read.fold, workspace)
            for local, name in layers[path].items():
                if name not in wanted:
                    continue
                statistic = KNOWN[type(module)][local](module, seen)
                found[name].append(statistic if read.fold == 1 else viewed(statistic, read.fold))
                if len(found[name]) == expected[name]:
                    finish(name, _sum(found.pop(name)))
                    reached.add(name)

        def rule(path: str, own: int | None, x_B: Tensor) -> Tensor:
            """A known layer on all records at once."""
            module = model.get_submodule(path)
            lead = x_B.shape[: x_B.dim() - own] if own is not None else x_B.shape[:1]
            x = x_B if own is None else x_B.flatten(0, len(lead) - 1)
            out = type(module).forward(module, x)
            names = [name for name in layers[path].values() if name in wanted]
            if names and torch.is_grad_enabled():
                fold = 1 if own is None else lead[1:].numel()
                read = _Read(len(x_B), fold, x, x._version)
                expected.update(names)
                out = _Tap.apply(out, anchor)  # type: ignore[no-untyped-call]  # torch's
                out.register_hook(lambda b: consume(path, read, b))
            shaped: Tensor = out if own is None else torch.unflatten(out, 0, lead)
            return shaped

        def one(at: Tensor, own: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
            with unrolled(model), _ruled(model, layers, fixed, rule, at), _Fused():
                return self.loss({**fixed, **own}, x, y)

        at_B = torch.arange(records, device=device_of(x_B))
        with torch.enable_grad(), ExitStack() as stack:
            stack.enter_context(no_rules_of_users())
            mapped = torch.func.vmap(one, randomness="different")
            losses_B = mapped(at_B, apart, x_B, y_B)
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
                finish(name, Formed(g_B.reshape(records, -1)))
                reached.add(name)
        for name, uses in found.items():  # an output that the loss does not depend on adds 0
            finish(name, _sum(uses))
            reached.add(name)
        if silent := set(wanted) - reached:
            raise _silent(model, silent)

    def _laid_out(self, v: Tensor) -> Tensor:
        """A copy of an image or its filters: one channel reads as either format."""
        if self.memory_format == torch.contiguous_format or v.dim() != 4:
            return v
        return v.clone(memory_format=self.memory_format)


def known(model: nn.Module, apart: Collection[str]) -> Mapping[str, Mapping[str, str]]:
    """The layers of a known type, by path: their names for their parameters, and the model's.

    A subclass may compute something else, and so may a layer with a forward of its own or with
    parameters beside the type's. One that holds a parameter of `apart` is left to vmap.
    """
    canonical = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for path, module in model.named_modules():
        rows = KNOWN.get(type(module))
        held = {local: p for local, p in module._parameters.items() if p is not None}
        if rows is None or not set(held) <= set(rows):
            continue
        if any(hasattr(module, local) and local not in module._parameters for local in rows):
            continue
        if "forward" in vars(module) or getattr(module, "track_running_stats", False):
            continue
        names = {local: canonical[id(p)] for local, p in held.items()}
        if not set(names.values()) & set(apart):
            found[path] = names
    return found


@contextmanager
def _ruled(
    model: nn.Module,
    layers: Mapping[str, Mapping[str, str]],
    fixed: Mapping[str, Tensor],
    rule: Callable[[str, int | None, Tensor], Tensor],
    at: Tensor,
) -> Iterator[None]:
    """Known layers follow their rule wherever they are called with their own weights."""

    def forward_of(path: str, module: nn.Module) -> Callable[..., Tensor]:
        def forward(*args: Any, **kwargs: Any) -> Tensor:
            ours = all(
                module._parameters[local] is fixed.get(name, module._parameters[local])
                for local, name in layers[path].items()
            )
            if not ours or kwargs or len(args) != 1:
                plain: Tensor = type(module).forward(module, *args, **kwargs)
                return plain
            own = own_dims(module, args[0])
            side = _SideBySide.apply
            out: Tensor = side(args[0], at, lambda x_B: rule(path, own, x_B))  # type: ignore[no-untyped-call]  # torch's
            return out

        return forward

    modules = {path: model.get_submodule(path) for path in layers}
    try:
        for path, module in modules.items():
            module.forward = forward_of(path, module)
        yield
    finally:
        for module in modules.values():
            vars(module).pop("forward", None)


def _sum(uses: list[Statistic]) -> Statistic:
    return uses[0] if len(uses) == 1 else Summed(uses)


def _silent(model: nn.Module, names: Collection[str]) -> ModelError:
    return ModelError(
        "trainable parameters get no gradient from the loss",
        where=type(model).__name__,
        got=sorted(names),
        remedy="Use them in forward, or call requires_grad_(False) on them.",
    )
