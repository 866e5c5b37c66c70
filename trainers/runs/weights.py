"""A model's weights as a safetensors file: a tensor under several names is stored once.

A tied weight (an embedding that is also the head) is one tensor under several names, which
safetensors refuses. The file has it under the first one; the model knows the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from dpigu.trainers.distributed import all_whole, own
from safetensors.torch import load, save
from torch import Tensor, nn

MODEL = "model.safetensors"


def packed(model: nn.Module, *, keep: bool = True) -> bytes:
    """The weights and buffers of a model, all of them; of none where they are not to be kept."""
    tensors = model.state_dict()
    firsts = {n: tensors[n] for n, first in _first_names(tensors).items() if n == first}
    kept = all_whole(firsts, keep=keep)
    return save({name: t.detach().cpu().clone().contiguous() for name, t in kept.items()})


def unpacked(data: bytes, model: nn.Module) -> dict[str, Tensor]:
    """The state that `packed` stored, with every name that this model has for a tensor.

    Errors: `SafetensorError` for what is no such file.
    """
    stored = load(data)
    firsts = _first_names(model.state_dict())
    shared = {name: stored[first] for name, first in firsts.items() if first in stored}
    return stored | shared


def _first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """For every name, the first one of those that mean the same tensor."""
    seen: dict[tuple[object, ...], str] = {}
    return {name: seen.setdefault(_place(t), name) for name, t in tensors.items()}


def _place(t: Tensor) -> tuple[object, ...]:
    """Where a tensor lies: equal for two names of one tensor, and only for them."""
    t = own(t)
    if not t.numel():
        return (id(t),)
    return t.device, t.untyped_storage().data_ptr(), t.storage_offset(), t.shape, t.stride()
