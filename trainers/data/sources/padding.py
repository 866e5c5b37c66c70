"""Sequences brought to a declared length, with the mask of what is real made for the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from dpigu.trainers.engines.records import Tree
from dpigu.trainers.tasks.losses import IGNORED
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

MASK = "attention_mask"
ZEROS = (MASK, "token_type_ids")
"""Inputs of a dict that are padded by 0, whatever the padding token is."""


@dataclass(frozen=True)
class Padding:
    """Brings the first axis of every input and target of a record to one length; the rest is cut.

    Inputs that are integers are padded by `token`, other ones by 0; integer targets by −100,
    which no loss counts. The mask is true where there is something: it becomes the last input of
    the model, or its `attention_mask` where inputs go by name, unless they have one.

    Args:
        length: T, declared.
        token: the padding token.
    """

    length: int
    token: int = 0

    def inputs(self, x: Tree) -> Tree:
        """A record's inputs, T × … each, with the mask (T,)."""
        real = next((len(v) for v in tree_leaves(x) if v.dim()), 0)
        mask = torch.arange(self.length) < real
        if isinstance(x, dict):
            padded = {k: self._to(v, 0 if k in ZEROS else self.token) for k, v in x.items()}
            return {**padded, MASK: padded.get(MASK, mask)}
        padded = tree_map(lambda v: self._to(v, self.token), x)
        return (*padded, mask) if isinstance(padded, tuple) else (padded, mask)

    def targets(self, y: Tree) -> Tree:
        """A record's targets: those that have an axis, T × … each."""
        return tree_map(lambda v: self._to(v, IGNORED), y)

    def _to(self, v: Tensor, token: int) -> Tensor:
        if not v.dim():
            return v
        filler = token if not (v.is_floating_point() or v.dtype == torch.bool) else 0
        found = v.new_full((self.length, *v.shape[1:]), filler)
        count = min(len(v), self.length)
        found[:count] = v[:count]
        return found
