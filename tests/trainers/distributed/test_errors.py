"""What a rank says when torch fails while it speaks with the others."""

from __future__ import annotations

import pytest
import torch.distributed as dist
from dpigu.dpcore import RunError
from dpigu.trainers.distributed import Processes

UNREACHABLE = (
    RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"),
    dist.DistNetworkError("the connection was reset"),
    dist.DistBackendError("NCCL communicator was aborted"),
)
OWN = (
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("output tensor size must be equal to world_size times input tensor size"),
)


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> Processes:
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "new_group", lambda backend: object())
    return Processes()


def fails(monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> None:
    def all_reduce(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(dist, "all_reduce", all_reduce)


@pytest.mark.parametrize("error", UNREACHABLE)
def test_who_cannot_be_reached_has_ended(
    error: RuntimeError, first_of_two: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever torch calls it; and there is nobody to speak with from then on."""
    fails(monkeypatch, error)
    for _ in range(2):
        with pytest.raises(RunError, match="another rank has ended"):
            first_of_two.total(1)


@pytest.mark.parametrize("error", OWN)
def test_any_other_error_keeps_its_text(
    error: RuntimeError, first_of_two: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is this rank's own, and the others hear that this rank has ended."""
    fails(monkeypatch, error)
    with pytest.raises(RuntimeError) as caught:
        first_of_two.total(1)
    assert caught.value is error
    with pytest.raises(RunError, match="another rank has ended"):
        first_of_two.total(1)


@pytest.mark.parametrize("error", (ZeroDivisionError("others' code"), RunError("ours")))
def test_an_error_of_the_first_rank_reaches_the_others(
    error: Exception, first_of_two: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a stage of others raises: nobody is left waiting for what will not be said."""
    sent: list[object] = []
    monkeypatch.setattr(dist, "broadcast_object_list", lambda said, **_: sent.extend(said))

    def say() -> int:
        raise error

    with pytest.raises(type(error)) as caught:
        first_of_two.agreed(say)
    assert caught.value is error

    first_of_two.rank = 1
    monkeypatch.setattr(
        dist, "broadcast_object_list", lambda said, **_: said.__setitem__(0, sent[0])
    )
    told = "ours" if isinstance(error, RunError) else "the first rank failed .got ZeroDivision"
    with pytest.raises(RunError, match=told):
        first_of_two.agreed(lambda: 1)


def test_the_first_ranks_own_error_is_not_lost_with_the_others(
    first_of_two: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody is left to hear of it, it is still what this rank says."""

    def unheard(said: list[object], **_: object) -> None:
        raise UNREACHABLE[0]

    monkeypatch.setattr(dist, "broadcast_object_list", unheard)
    with pytest.raises(ZeroDivisionError):
        first_of_two.agreed(lambda: 1 // 0)
    with pytest.raises(RunError, match="another rank has ended"):
        first_of_two.agreed(lambda: 1)
