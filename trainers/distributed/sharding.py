"""Models of FSDP2 (`torch.distributed.fsdp.fully_shard`): every rank holds a part of each weight.

Between calls a weight is a DTensor, of which a rank holds its own rows. FSDP's hooks gather the
weights of one `fully_shard`ed module where it is called, in forward and again in backward, and
free them afterwards. So all ranks must call such a model equally often, and none of them alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from dpigu.dpcore import ModelError, Ranks
from dpigu.trainers.distributed.processes import all_gather, told_of_ends
from dpigu.trainers.distributed.start import check_same
from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 holds a module's weights."""
    # a module can be one of FSDP's only where that was imported, which takes a while
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def kind_of(module: nn.Module) -> type[nn.Module]:
    """The class that a module's author wrote: FSDP2 puts one of its own in front of it."""
    kind: Any = type(module)
    at = kind._orig_cls_mro_index if is_sharded(module) else 0
    written: type[nn.Module] = kind.__mro__[at]
    return written


def own(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, in the same memory: all of one that is not sharded."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered if its rows are sharded: all ranks must ask for it.

    torch's `full_tensor` ends the process where another rank has ended.
    """
    if not _is_dtensor(tensor):
        return tensor
    held: Any = tensor
    part_R, size = held.to_local().detach(), held.device_mesh.size()
    rows = -(-len(tensor) // size)  # as `chunk` cuts: the last ones have fewer
    padded_R = part_R.new_zeros(rows, *tensor.shape[1:])
    padded_R[: len(part_R)] = part_R
    gathered: Tensor = part_R.new_empty(size * rows, *tensor.shape[1:])
    with told_of_ends():
        all_gather(gathered, padded_R, group=held.device_mesh.get_group())
    return gathered[: len(tensor)]


def sharded_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that every rank has all of, held as `like` is held; nothing is sent."""
    if _is_dtensor(tensor) or not _is_dtensor(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    held: Any = like
    return distribute_tensor(tensor, held.device_mesh, held.placements, src_data_rank=None)


@torch.no_grad()
def all_whole(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """All of every tensor, gathered one at a time; nothing where it is not to be kept.

    By name: what was read from a file lies in another order on every rank.
    """
    return {name: t for name, t in ((n, whole(tensors[n])) for n in sorted(tensors)) if keep}


@contextmanager
def freeing(model: nn.Module) -> Iterator[None]:
    """What a call without a backward gathered is freed; after an error the model is as before it.

    Where there is a backward, FSDP frees what was gathered at its end.
    """
    if not is_sharded(model):
        yield
        return
    root: Any = model
    try:
        yield
    except BaseException:
        root.reset_iter_state()
        raise
    if not torch.is_grad_enabled():
        for module in filter(is_sharded, root.modules()):
            module.reshard()


def replicated(model: nn.Module) -> list[Tensor]:
    """The parameters and buffers that every rank has all of."""
    return [t for t in (*model.parameters(), *model.buffers()) if not _is_dtensor(t)]


def refuse_other_sharding(model: nn.Module, ranks: Ranks) -> None:
    """An error for a model that is sharded in another way than by `fully_shard` over all ranks.

    Errors: `ModelError`; `RunError` where it is sharded on some of the ranks.
    """
    check_same(ranks, "way of sharding the model", is_sharded(model))
    parameters: dict[str, Any] = dict(model.named_parameters())
    fully = [n for n, p in parameters.items() if _is_dtensor(p) and len(p.placements) == 1]
    fully = [n for n in fully if parameters[n].placements[0].is_shard(0)]
    fully = [n for n in fully if parameters[n].device_mesh.size() == ranks.size]
    if not is_sharded(model) and not any(map(_is_dtensor, parameters.values())):
        return
    if not is_sharded(model) or len(fully) < len(parameters):
        raise ModelError(
            "parts of the model are not sharded over all ranks",
            where=kind_of(model).__name__,
            got=sorted(set(parameters) - set(fully)) or "its parts alone",
            remedy="Call fully_shard(model) after the calls for its parts, without a mesh.",
        )
    if not hasattr(model, "reset_iter_state"):
        raise ModelError(
            "FSDP2 of this torch does not follow vmap",
            where=f"torch {torch.__version__}",
            remedy="Take torch 2.13 or later.",
        )
    for path, module in model.named_modules():
        policy = cast(Any, module)._get_fsdp_state()._mp_policy if is_sharded(module) else None
        if policy is not None and (policy.param_dtype or policy.output_dtype):
            raise ModelError(
                "FSDP2 computes in another precision than the weights'",
                where=path or kind_of(model).__name__,
                remedy="Leave out `mp_policy`; `settings.autocast` computes in bfloat16.",
            )


def _is_dtensor(tensor: Tensor) -> bool:
    return hasattr(tensor, "device_mesh")
