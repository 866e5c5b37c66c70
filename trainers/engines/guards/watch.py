"""A watch over a model and its loss: nothing may change while they look at records."""

from __future__ import annotations

from dpigu.dpcore import ModelError
from dpigu.trainers.engines.guards.kept import Kept
from torch import nn


class Watch:
    """Sees to it that a model and its loss keep nothing while they look at records.

    Args:
        model, loss: what is watched.
        values: also compare what tensors hold, for code that vmap does not watch over. Under
            vmap a record cannot be written into a tensor that outlives it, and the count of
            writes tells whether anything was.
    """

    def __init__(self, model: nn.Module, loss: object, *, values: bool) -> None:
        self._model, self._loss, self._values = model, loss, values
        self._step: object = None
        self._before: Kept | None = None

    def begin(self, step: object) -> None:
        """Note everything, unless this step has begun already."""
        if self._before is None or step is not self._step:
            self._step, self._before = step, self._now()

    def check(self) -> None:
        """An error with the name of what is another thing than when the step began.

        Errors: `ModelError`.
        """
        assert self._before is not None
        changed = self._before.differs(self._now())
        if changed is None:
            return
        self._before = None
        buffers = {f"model.{name}" for name, _ in self._model.named_buffers()}
        what = "a buffer" if changed in buffers else "something that it keeps"
        raise ModelError(
            f"the model changed {what} while it looked at records, and nothing noised that",
            where=changed.removeprefix("model."),
            remedy="Keep nothing of the inputs in forward; release it in a statistic phase.",
        )

    def _now(self) -> Kept:
        return Kept.of(self._model, self._loss, values=self._values)
