"""One record as the model and the loss meet it: a batch of one in, one number out.

A record is a tree of tensors: a tensor, a tuple or list, or a dict of them. Both engines map
`LossOfOne` over the records of a microbatch; nothing else calls the model while it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from dpigu.dpcore import DpiguError, ModelError
from dpigu.trainers.distributed import freeing, is_sharded, told_of_ends
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

Tree = Any
"""A tensor, a tuple or list of trees, or a dict of them."""
Loss = Callable[[Any, Any], Tensor]
"""Outputs and targets of a batch of one (1 × …) to one number (a vector of length 1 is one)."""


def count_of(tree_B: Tree) -> int:
    """B, how many records a tree of tensors B × … holds."""
    return len(tree_leaves(tree_B)[0])


def device_of(tree: Tree) -> torch.device:
    """Where a tree's tensors live."""
    device: torch.device = tree_leaves(tree)[0].device
    return device


def each(tree_B: Tree) -> Iterator[Tree]:
    """Every record of a tree by itself."""
    for i in range(count_of(tree_B)):
        yield tree_map(lambda v_B, i=i: v_B[i], tree_B)


def name_of_loss(loss: Loss) -> str:
    """What its author calls it."""
    return getattr(loss, "__name__", type(loss).__name__)


def one_number(value: object, loss: Loss) -> Tensor:
    """A record's loss as a tensor without dimensions.

    Errors: `ModelError` for anything but a number and a vector of length 1.
    """
    if isinstance(value, Tensor) and value.shape in ((), (1,)) and value.is_floating_point():
        return value.reshape(())
    got = (
        f"a tensor of shape {tuple(value.shape)}, {value.dtype}"
        if isinstance(value, Tensor)
        else type(value).__name__
    )
    raise ModelError(
        "the loss of one record is not one number",
        where=name_of_loss(loss),
        got=got,
        expected="no dimensions, or one of length 1",
        remedy="Reduce the loss over everything within the record, for example with .mean().",
    )


def called(model: nn.Module, weights: Mapping[str, Tensor], x_B: Tree) -> Any:
    """model(x), model(*xs) or model(**xs) at these weights, its own where one is not given.

    A model of FSDP2 is called at its own: it gathers them itself.
    """
    args, kwargs = ((), x_B) if isinstance(x_B, dict) else (x_B, {})
    args = tuple(args) if isinstance(args, tuple | list) else (args,)
    given = {} if is_sharded(model) else dict(weights)
    with freeing(model):
        return functional_call(model, given, args, kwargs)


@dataclass(frozen=True)
class LossOfOne:
    """The function that is differentiated: loss_of_one(weights, record).

    Args:
        model: called with a batch of one: model(x), model(*xs) or model(**xs).
        loss: called with the outputs and the targets of that batch of one.
        autocast: the dtype of the forward pass, or None for the weights' own.
    """

    model: nn.Module
    loss: Loss
    autocast: torch.dtype | None = None

    def __call__(self, weights: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
        """One record's loss at these weights (the model's own where one is not given)."""
        outputs = self.outputs(weights, x)
        return one_number(self.loss(outputs, tree_map(lambda v: v[None], y)), self.loss)

    def outputs(self, weights: Mapping[str, Tensor], x: Tree) -> Any:
        """What the model gives for one record, in a batch of one."""
        with self._precision(device_of(x)):
            return called(self.model, weights, tree_map(lambda v: v[None], x))

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.autocast, cache_enabled=False)


MadeUpKind = Literal["normal", "zero", "one"]
KINDS: tuple[MadeUpKind, ...] = ("normal", "zero", "one")


@dataclass(frozen=True)
class MadeUp:
    """Public made-up records of a tree's shapes and dtypes, none of its values.

    Args:
        x, y: records' inputs and targets, B × … each.
        tokens: how many values an integer input may take.
        kind: normal numbers and integers below `tokens`, or zeros, or ones. Integer targets
            are zero, so that every number of classes has them.
    """

    x: Tree
    y: Tree
    tokens: int = 2
    kind: MadeUpKind = "normal"

    @classmethod
    def fitting(cls, one: LossOfOne, weights: Mapping[str, Tensor], x: Tree, y: Tree) -> MadeUp:
        """The first kind that the model takes, in a batch of one.

        Errors: `ModelError` if it takes none, with what it said of the first.
        """
        tables = [m.num_embeddings for m in one.model.modules() if isinstance(m, nn.Embedding)]
        said: Exception | None = None
        for kind in KINDS:
            made = cls(x, y, min(tables, default=2), kind)
            (x_1,), (y_1,) = ([*each(tree)] for tree in made(1))
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    one(weights, x_1, y_1)
            except ModelError:
                raise
            except Exception as error:  # whatever a user's code raises
                said = said or error
            else:
                return made
        assert said is not None
        shapes = [tuple(v.shape[1:]) for v in tree_leaves(x)]
        raise ModelError(
            f"the model or the loss cannot take one record of this shape: {first_line(said)}",
            where=type(one.model).__name__,
            got=shapes[0] if len(shapes) == 1 else shapes,
            remedy="Give a model and a loss that take a batch of one record of this data.",
        ) from said

    def __call__(self, records: int) -> tuple[Tree, Tree]:
        """So many records: x and y, the same ones at every call."""
        draw = torch.Generator().manual_seed(0)

        def value(v: Tensor, target: bool) -> Tensor:
            shape = (records, *v.shape[1:])
            if self.kind == "normal" and v.is_floating_point():
                made = torch.randn(shape, generator=draw, dtype=torch.float64)
            elif target or self.kind == "zero":
                made = torch.zeros(shape)
            elif self.kind == "one":
                made = torch.ones(shape)
            else:
                most = 2 if v.dtype == torch.bool else self.tokens
                made = torch.randint(most, shape, generator=draw)
            return made.to(v)

        x = tree_map(lambda v: value(v, False), self.x)
        return x, tree_map(lambda v: value(v, True), self.y)


def first_line(error: BaseException) -> str:
    """What an error says first, or its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def users_errors(model: nn.Module, what: str) -> Iterator[None]:
    """Whatever a user's code raises, as one clear error.

    Errors: `ModelError`, or `RunError` where another rank has ended. Those of this project and of
        memory that is short pass as they are.
    """
    try:
        with told_of_ends():
            yield
    except (DpiguError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"the model or the loss raised {type(error).__name__} {what}: {first_line(error)}",
            where=type(model).__name__,
            remedy="Give a model and a loss that take every record of the data by itself.",
        ) from error
