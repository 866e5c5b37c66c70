"""The processes of torch.distributed as ranks: what they tell each other, and how one ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from dpigu.dpcore import DpiguError, RunError
from torch import Tensor
from torch.nn.functional import pad

T = TypeVar("T")

# torch renames them; the old names warn where the new ones are there
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Processes:
    """All processes of the default group, which speak through a group of their own.

    Numbers, objects and what lies on the host pass through gloo, and what lies on a GPU through
    the default group's NCCL. Sums, noised sums and weights travel in the clear: whoever can read
    the network between the ranks can read private sums.

    Errors: `RunError` from every method, in one line, once another rank has ended, and from
    `agreed` once the first has failed; the first rank's own error there, and any other of torch,
    as it is.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._group: dist.ProcessGroup | None = dist.new_group(backend="gloo")

    def total(self, count: int) -> int:
        return self._reduced(count, dist.ReduceOp.SUM)

    def most(self, count: int) -> int:
        return self._reduced(count, dist.ReduceOp.MAX)

    def summed(self, sum_K: Tensor) -> Tensor:
        own_S = sum_K.new_empty(-(-len(sum_K) // self.size))
        padded = pad(sum_K, (0, len(own_S) * self.size - len(sum_K)))
        with self._together(sum_K) as group:
            _reduce_scatter(own_S, padded, group=group)
        return own_S

    def joined(self, own_S: Tensor, size: int) -> Tensor:
        all_K = own_S.new_empty(len(own_S) * self.size)
        with self._together(own_S) as group:
            all_gather(all_K, own_S, group=group)
        return all_K[:size]

    def agreed(self, say: Callable[[], T]) -> T:
        said: list[Any] = [None]
        refused: Exception | None = None
        if self.rank == 0:
            try:
                said = [say()]
            except Exception as error:  # others' code may raise anything, and nobody may wait
                refused, said = error, [_Refused(_own(error))]
        try:
            with self._together() as group:
                dist.broadcast_object_list(said, src=0, group=group)
        finally:
            if refused is not None:
                raise refused
        if isinstance(said[0], _Refused):
            raise said[0].error()
        return cast(T, said[0])

    def first(self, do: Callable[[], T]) -> T | None:
        done: list[T] = []
        self.agreed(lambda: done.append(do()))
        return done[0] if done else None

    def follow(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            with self._together(whole) as group:
                dist.broadcast(whole.view(-1).view(torch.uint8), src=0, group=group)
            tensor.detach().copy_(whole)

    def leave(self) -> None:
        group, self._group = self._group, None
        if group is not None and dist.is_initialized():
            dist.destroy_process_group(group)

    def _reduced(self, count: int, by: Any) -> int:
        told = torch.tensor(count)
        with self._together() as group:
            dist.all_reduce(told, by, group=group)
        return int(told)

    @contextmanager
    def _together(self, tensor: Tensor | None = None) -> Iterator[dist.ProcessGroup | None]:
        """The group that a tensor passes through, with the end of a rank as one clear error."""
        if self._group is None:
            raise self._ended()
        try:
            yield self._group if tensor is None or tensor.device.type == "cpu" else None
        except RuntimeError as error:
            self.leave()  # whoever waits for this rank hears of it too
            if not _of_communication(error):
                raise
            raise self._ended() from error

    def _ended(self) -> RunError:
        return _ended(self.rank, self.size)


@contextmanager
def told_of_ends() -> Iterator[None]:
    """The end of a rank as one clear error, where torch itself speaks with the others.

    Errors: `RunError`.
    """
    try:
        yield
    except RuntimeError as error:
        if not _of_communication(error):
            raise
        raise _ended(dist.get_rank(), dist.get_world_size()) from error


def _of_communication(error: RuntimeError) -> bool:
    """Whether the others cannot be reached: torch's errors of that kind, and gloo's, which have
    none and name the file of gloo that they come from."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _ended(rank: int, size: int) -> RunError:
    return RunError(
        "another rank has ended",
        where=f"rank {rank} of {size}",
        remedy="Its own last line says why. What was charged stays charged; resume the run, "
        "with any number of ranks.",
    )


def _own(error: Exception) -> DpiguError:
    """An error of ours, as it is; for any other, that the first rank failed."""
    if isinstance(error, DpiguError):
        return error
    return RunError(
        "the first rank failed",
        got=type(error).__name__,
        remedy="Its own last line says why. What was charged stays charged.",
    )


class _Refused:
    """A mistake that the first rank found, on its way to the others."""

    def __init__(self, error: DpiguError) -> None:
        self._kind = type(error)
        self._told = {
            "problem": error.problem,
            "where": error.where,
            "got": error.got if error.got is None else str(error.got),
            "expected": error.expected if error.expected is None else str(error.expected),
            "remedy": error.remedy,
        }

    def error(self) -> DpiguError:
        return self._kind(**self._told)  # type: ignore[arg-type]
