"""The ledger of a run at work: every step is paid for on the disk before it releases anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dpigu.dpcore import Ranks, RunError
from dpigu.dpcore.claim import Ending, Head, Ledger, read_ledger
from dpigu.dpcore.ranks import ALONE
from dpigu.trainers.runs import disk

Payment = Callable[[Ledger], None]
"""Told of the ledger as it will be, before a block is paid for; it refuses by raising."""


class LedgerFile:
    """What a run pays with: blocks of steps, each flushed to the disk before its first release.

    Only the holder of the folder's lock may make one. Where several ranks train, the first one
    writes, and no other goes on before a line is on the disk; all of them know the same ledger.

    Args:
        path: the ledger, with its head; None keeps it in memory, for a run without a folder.
        head: the head, where there is no file.
        before_paying: asked before every block, with the ledger as it will be; a budget file
            puts the block down here, or refuses.
        ranks: who pays together; path, head and `before_paying` are the first one's.
    """

    def __init__(
        self,
        path: Path | None,
        head: Head | None = None,
        before_paying: Payment | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._path, self._ask, self._ranks = path, before_paying, ranks
        text = ranks.agreed(lambda: _begun(path, head))
        self.ledger = read_ledger(text, str(path))
        self._size = len(text)
        self._ended = text.endswith(b"\n")
        self._prepaid = 0
        self._process = os.getpid()

    @property
    def prepaid(self) -> int:
        """Steps that are paid for and have not begun."""
        return self._prepaid

    def pay(self, mechanism: str, steps: int) -> None:
        """Pay for the next block of steps of a mechanism.

        Raises: RunError if the ledger cannot be written; no step may begin then.
        """
        self._refuse_fork()
        assert self._prepaid == 0
        mended, mark = self._mended()
        line = mended.charge(mechanism, steps)
        self._append(mark + line + b"\n", mended.after(line), self._ask)
        self._prepaid = steps

    def begin_again(self) -> None:
        """Charge the rest of a period that was cut short: the steps to come begin a new one.

        A factorisation's past sums died with the process that had them. The rest costs nothing
        more, since a part of a period is charged as the whole; the steps to come do.
        """
        mended, text = self._mended()
        mechanism = mended.head.mechanisms[mended.mechanism]
        rest = -mended.charged[mended.mechanism] % mechanism.period
        while rest > 0:
            line = mended.rest(mechanism.name, min(rest, mended.head.block))
            mended, text = mended.after(line), text + line + b"\n"
            rest -= mended.open_steps
        if mended.steps > self.ledger.steps:
            self._append(text, mended)

    def begin_step(self) -> None:
        """Use one of the steps that are paid for; before its release."""
        self._refuse_fork()
        if self._prepaid < 1:
            raise RunError("a step that nothing has paid for", where=self.ledger.where)
        self._prepaid -= 1

    def _refuse_fork(self) -> None:
        """An error in a process that was forked from the one that opened the ledger."""
        if os.getpid() != self._process:
            raise RunError(
                "a forked process goes on with a run that another one pays for",
                where=self.ledger.where,
                got=f"process {os.getpid()}",
                expected=f"process {self._process}",
                remedy="Take steps in the process that began the run.",
            )

    def close(self) -> None:
        """Take back what was paid for and never began."""
        if self._prepaid:
            line = self.ledger.unused(self._prepaid)
            self._prepaid = 0
            self._append(line + b"\n", self.ledger.after(line))

    def end(self, how: Ending) -> None:
        """Write down how the run ended."""
        self.close()
        mended, mark = self._mended()
        line = mended.end(how)
        self._append(mark + line + b"\n", mended.after(line))

    def _mended(self) -> tuple[Ledger, bytes]:
        """The ledger once a line that a crash cut short is ended and marked, and what does that."""
        if self.ledger.last != "cut":
            return self.ledger, b""
        mark = self.ledger.torn()
        return self.ledger.after(mark), mark + b"\n"

    def _append(self, text: bytes, after: Ledger, ask: Payment | None = None) -> None:
        if not self._ended:
            text = b"\n" + text
        self._ranks.first(lambda: self._write(text, after, ask))
        self.ledger, self._size, self._ended = after, self._size + len(text), True

    def _write(self, text: bytes, after: Ledger, ask: Payment | None) -> None:
        if ask is not None:
            ask(after)
        if self._path is not None:
            if not self._is_ours():
                raise RunError(
                    "the ledger was changed while the run was at work", where=str(self._path)
                )
            disk.append(self._path, text, flush=True)

    def _is_ours(self) -> bool:
        """Whether the file is as this process left it."""
        return self._path is None or (
            self._path.is_file() and self._path.stat().st_size == self._size
        )


def _begun(path: Path | None, head: Head | None) -> bytes:
    """The ledger so far: in a file, or a new one's head."""
    if path is not None:
        return disk.read(path)
    assert head is not None
    return head.line() + b"\n"
