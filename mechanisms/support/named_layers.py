"""A support of whole parameters, chosen by their names."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import torch
from dpigu.dpcore import Clock, GrammarError, PhaseContext, Reads, Release, State, register
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("scheduler", "named-layers")
@dataclass(frozen=True, kw_only=True)
class NamedLayers:
    """The last layers, and the parameters whose names match: linear probing by default.

    support = {j : j in one of the last n layers, or the name of its parameter matches}

    A layer is a module that holds parameters, in the order of the model. Frozen parameters
    get no noise and do not move, so the rest of the model stays as it was initialised or loaded.

    Args:
        last: n, how many layers from the end, at least 0.
        names: patterns of parameter names, as in a shell: "head.*", "*.bias".

    State: `support_D`, boolean, which no step changes.

    Errors: `GrammarError` if nothing is live or a pattern matches nothing; it lists the names.

    Source: Abadi et al. 2016 (arXiv 1607.00133), section 5.3, trains the layers after features
    learnt from public data.
    Privacy: reads the names of the parameters only, which are public; noise is drawn on all of
    the support; checked by tests/mechanisms/support/test_named_layers.py.
    """

    last: int = 1
    names: tuple[str, ...] = ()
    monotone: ClassVar[bool] = True
    live: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.last >= 0, self, "last", "at least 0")

    def init(self, context: PhaseContext, reads: Reads) -> State:
        space = context.space
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in space.names))
        tail = set(modules[max(0, len(modules) - self.last) :])
        support_D = torch.zeros(space.size, dtype=torch.bool, device=context.weights_D.device)
        for name, at, _ in space.blocks():
            support_D[at] = name.rpartition(".")[0] in tail or any(
                fnmatchcase(name, pattern) for pattern in self.names
            )
        useless = [p for p in self.names if not any(fnmatchcase(n, p) for n in space.names)]
        if useless or not bool(support_D.any()):
            raise GrammarError(
                "a pattern matches no parameter" if useless else "no parameter is live",
                where=f"{name_of(self)}.names",
                got=useless or list(self.names),
                expected=f"one of {', '.join(space.names)}",
            )
        return {"support_D": support_D}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def support(self, state: State, clock: Clock) -> Tensor:
        return state["support_D"]
