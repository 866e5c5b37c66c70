"""One forward and one backward that stop at the layers' outputs and keep what passes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from dpigu.dpcore import ModelError
from dpigu.trainers.engines.layers import KNOWN
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

Loss = Callable[[Tensor, Tensor], Tensor]


class _Tap(torch.autograd.Function):
    """The identity, as a tensor of its own that shares the memory.

    It gives the first trainable layer's output a place in the graph, and a later operation in
    place cannot cut the hook off, as it does from an output that is a view.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, anchor: Tensor) -> Tensor:
        return out.data

    @staticmethod
    def backward(ctx: Any, *b: Tensor) -> tuple[Tensor | None, None]:
        return (b[0] if ctx.needs_input_grad[0] else None), None


class Output(NamedTuple):
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


@dataclass
class Call:
    """One call of a module: its inputs, and the gradient of each output.

    Args:
        leaves, spec: args and kwargs, flattened.
        outputs: what each output leaf was; None where it was no real tensor.
        gradients: of the outputs that got one, by position.
    """

    leaves: list[Any]
    spec: TreeSpec
    outputs: list[Output | None]
    versions: tuple[int, ...]
    gradients: dict[int, Tensor] = field(default_factory=dict)

    def inputs(self, where: str) -> list[Any]:
        """The inputs as the module saw them, without their graph."""
        if self.versions != _versions(self.leaves):
            raise ModelError(
                "an input of a layer was changed in place after the layer read it",
                where=where,
                remedy="Use the operation that returns a new tensor, such as x = x + y.",
            )
        return [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]

    def gradient(self, at: int) -> Tensor:
        """The gradient of an output; zero if the loss does not depend on it."""
        if at in self.gradients:
            return self.gradients[at]
        output = self.outputs[at]
        assert output is not None
        return torch.zeros(output.shape, dtype=output.dtype, device=output.device)

    def forget(self) -> None:
        """Let go of the tensors."""
        self.leaves, self.gradients = [], {}


Tape = Mapping[str, Sequence[Call]]
Consumer = Callable[[str, Call], None]
"""Called with a module's path and call as soon as backward knows the gradient of its output."""


def _versions(leaves: Sequence[Any]) -> tuple[int, ...]:
    return tuple(leaf._version for leaf in leaves if isinstance(leaf, Tensor))


def is_real(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


@contextmanager
def recording(
    model: nn.Module, paths: Sequence[str], anchor: Tensor, consume: Consumer | None
) -> Iterator[Tape]:
    """Keep every call of the modules at these paths, and tie their outputs to the anchor."""
    tape: dict[str, list[Call]] = {path: [] for path in paths}

    def store(path: str, call: Call, at: int) -> Callable[[Tensor], None]:
        def hook(b: Tensor) -> None:
            call.gradients[at] = b
            if consume is not None:
                consume(path, call)

        return hook

    def hook_at(path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            leaves, spec = tree_flatten((args, kwargs))
            outputs, shape = tree_flatten(output)
            for at, leaf in enumerate(outputs):
                if is_real(leaf):  # a known layer's backward never needs its output
                    own = leaf if type(module) in KNOWN else leaf.clone()
                    outputs[at] = _Tap.apply(own, anchor)  # type: ignore[no-untyped-call]  # torch's
            met = [Output(v.shape, v.dtype, v.device) if is_real(v) else None for v in outputs]
            call = Call(leaves, spec, met, _versions(leaves))
            for at, leaf in enumerate(outputs):
                if is_real(leaf):
                    leaf.register_hook(store(path, call, at))
            tape[path].append(call)
            return tree_unflatten(outputs, shape)

        return hook

    handles = [
        model.get_submodule(path).register_forward_hook(hook_at(path), with_kwargs=True)
        for path in paths
    ]
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def run(
    model: nn.Module,
    loss: Loss,
    weights: Mapping[str, Tensor],
    x_B: Tensor,
    y_B: Tensor,
    paths: Sequence[str],
    autocast: torch.dtype | None,
    consume: Consumer | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tape:
    """Forward and backward at these weights; no gradient of a parameter is ever formed."""
    fixed = {name: w.detach() for name, w in weights.items()}
    if memory_format == torch.channels_last:  # copied: one input channel reads as either format
        fixed = {
            n: w.clone(memory_format=memory_format) if w.dim() == 4 else w for n, w in fixed.items()
        }
        x_B = x_B.contiguous(memory_format=memory_format) if x_B.dim() == 4 else x_B
    anchor = torch.zeros((), device=x_B.device, requires_grad=True)
    device = x_B.device.type
    with torch.enable_grad(), recording(model, paths, anchor, consume) as tape:
        with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
            outputs = functional_call(model, fixed, (x_B.detach(),))
        total = loss(outputs, y_B).sum()
        if not total.requires_grad:
            raise ModelError(
                "the loss depends on no trainable parameter",
                where=type(model).__name__,
                remedy="Use them in forward without detaching, or train other parameters.",
            )
        torch.autograd.grad(total, anchor, allow_unused=True)
    return tape
