"""No rule of a user's own stands between vmap and a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from dpigu.dpcore import ModelError
from torch.autograd import Function


class RuleOfUser(RuntimeError):
    """A rule under vmap that its author wrote: it gets all records at once."""


_ENGINES = __name__.rpartition(".guards.")[0]
OURS = (f"{_ENGINES}.capture", f"{_ENGINES}.vmap_rules.side_by_side")
FSDP = ("torch.distributed.fsdp._fully_shard.", "torch._functorch.autograd_function")
"""FSDP2 marks where weights are gathered and freed by functions that change no value; torch makes
their rules, in a module of its own that holds none for a function that was refused."""
_CHECKPOINTING = "activation checkpointing runs the model again, outside of what was differentiated"


@contextmanager
def no_checkpoints() -> Iterator[None]:
    """Checkpointed parts of a model, and other hooks on what is saved for backward, are refused.

    Errors: `ModelError` where one is met.
    """
    with _watching(lambda cls: None):
        yield


@contextmanager
def no_rules_of_users() -> Iterator[None]:
    """The same, and no `autograd.Function` with a rule of its author's for vmap.

    Errors: `RuleOfUser` where one is met.
    """

    with _watching(_refuse):
        yield


def _refuse(cls: type[Function]) -> None:
    """An error for a class with a rule of its author's, or with torch's made of its forward."""
    own = cls.vmap is not Function.vmap or cls.generate_vmap_rule
    if own and cls.__module__ not in OURS and not cls.__module__.startswith(FSDP):
        raise RuleOfUser(f"{cls.__name__} has a rule of its own under vmap")


@contextmanager
def _watching(refuse: Callable[[type[Function]], None]) -> Iterator[None]:
    """`refuse` sees the class of every `autograd.Function` before it is applied."""
    apply = Function.__dict__["apply"]

    def checked(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        if cls.__module__ == "torch.utils.checkpoint":
            raise RuntimeError(_CHECKPOINTING)
        refuse(cls)
        return apply.__get__(None, cls)(*args, **kwargs)

    Function.apply = classmethod(checked)  # type: ignore[method-assign, assignment]
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(_CHECKPOINTING):
            yield
    except RuntimeError as error:
        if _CHECKPOINTING not in str(error):
            raise
        raise ModelError(
            _CHECKPOINTING,
            where="torch.utils.checkpoint",
            remedy="Switch it off, and give a smaller `physical_batch` if memory is short.",
        ) from error
    finally:
        Function.apply = apply  # type: ignore[method-assign]  # put back
