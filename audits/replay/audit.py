"""The replay of a run: what is published besides the releases must not depend on one record.

A run is trained twice from coupled draws, on data and on the same data with one record less, and
the second is given the first's releases. Then everything else that it publishes is computed from
equal values, so it must be equal bit for bit: states, weights, the optimizer's state, checkpoints,
metrics, configuration, ledger, statement, summary. No statistics are involved.

Source: after arXiv 2602.17454 (auditing by replay of coupled runs).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from dpigu.audits.replay.compare import Leak, leaks, public_files
from dpigu.audits.replay.coupling import coupled
from dpigu.audits.replay.tape import Move, Published, Tape, of_release, taped
from dpigu.audits.verdict import Judged, Verdict
from dpigu.dpcore import DataError, Release, States
from dpigu.trainers import Data, Run, Tensors
from dpigu.trainers.runs import report

SCHEMA = "dpigu/audit-replay/1"
Training = Callable[[Data, Path], Run | None]
"""Trains on data into a run folder, from the start, the same way every time it is called."""
ASSUMPTIONS = (
    "The made-up records and the small model stand for the real ones; code that acts on other "
    "values alone is not seen.",
    "What is not in the run's public folder, its releases, its model or its output is not looked "
    "at; neither is time.",
)


@dataclass(frozen=True, kw_only=True)
class ReplayAudit(Judged):
    """What a replay found: CONTRADICTED if anything but the releases told the two runs apart.

    Args:
        releases: how many there were, and `touched`: in how many the record was.
        furthest: the largest share of what one record may move a release that it moved one.
        compared: how many published things were compared, and `leaks`: what differed.
    """

    releases: int
    touched: int
    furthest: float
    compared: int
    leaks: tuple[Leak, ...]
    assumptions: tuple[str, ...] = field(default=ASSUMPTIONS)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "schema": SCHEMA,
            **dataclasses.asdict(self),
            **self.told(),
            "assumptions": list(self.assumptions),
        }


def audit_replay(train: Training, data: Data) -> ReplayAudit:
    """Whether anything that a run publishes knows more of one record than its releases do.

    Args:
        train: trains a fresh model with `dpigu.train` or a `dpigu.Session` into the folder that
            it is given. A few steps are enough.
        data: the first run's; the second lacks the last record. That one should be far out.

    Returns: CONTRADICTED where something published differs though the releases are equal, or
        where one record moves a noised sum by more than the declared sensitivity. INVALID AUDIT
        where the record was in no batch, or where the run differs from itself.
    Raises: DpiguError as the training does.
    """
    whole = data.train
    if not isinstance(whole, Tensors):
        raise DataError("a replay wants records in memory", where=data.spec.name)
    less = dataclasses.replace(data, train=Tensors(whole.x[:-1], whole.y[:-1]))
    key, tape = secrets.token_bytes(32), Tape()
    first = _published(train, data, key, tape.record)
    second = _published(train, less, key, tape.play)
    found = [*leaks(first, second)]
    found += [*_too_far(tape.moves), *_missing(tape)]
    if found:
        again = Tape(noised=tape.noised)
        control = _published(train, data, key, again.play)
        unsteady = {leak.what for leak in leaks(first, control)}
        found = [leak for leak in found if leak.what not in unsteady]
        if not found:
            return _audited(tape, len(first), (), "differs from itself, trained again alike")
    touched = any(move.moved > 0 for move in tape.moves)
    invalid = "" if touched or found else "never drew the record into a batch"
    return _audited(tape, len(first), tuple(found), invalid)


def _published(
    train: Training, data: Data, key: bytes, passed: Callable[..., Any]
) -> dict[str, Any]:
    """Everything that one run publishes, by name."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"

        def before(number: int) -> None:
            found.update(public_files(out, f"before release {number}"))

        def after(number: int, release: Release, states: States) -> None:
            found.update(of_release(number, release, states))

        printed = io.StringIO()
        with (
            coupled(key),
            taped(passed, before, after),
            mock.patch.object(report, "drawn", _undrawn),
            contextlib.redirect_stdout(printed),
        ):
            run = train(data, out)
        found |= public_files(out, "at the end")
        if run is not None:
            found |= _of_run(run)
        found["standard output"] = printed.getvalue().replace(place, "")
    return found


def _undrawn(*drawn_from: object) -> bytes:
    """What the run's picture is drawn from, in its place: drawing takes most of a small run."""
    return repr(drawn_from).encode()


def _of_run(run: Run) -> Published:
    """The model and the summary that a run returns."""
    model = {f"the model: {name}": value.clone() for name, value in run.model.state_dict().items()}
    return {**model, "the summary": dict(run.summary)}


def _too_far(moves: list[Move]) -> list[Leak]:
    return [
        Leak(
            f"noised sum {number}",
            f"one record moves it by {move.moved:.4g}, where {move.allowed:.4g} is allowed",
        )
        for number, move in enumerate(moves, start=1)
        if not move.moved <= move.allowed
    ]


def _missing(tape: Tape) -> list[Leak]:
    if not tape.extra and len(tape.moves) == len(tape.noised):
        return []
    drawn = f"{len(tape.noised)} and {len(tape.moves) + tape.extra}"
    return [Leak("the draws of noise", f"{drawn}, or of other lengths, in the two runs")]


def _audited(tape: Tape, compared: int, found: tuple[Leak, ...], invalid: str) -> ReplayAudit:
    moves = tape.moves
    touched = sum(move.moved > 0 for move in moves)
    furthest = max((move.moved / move.allowed for move in moves), default=0.0)
    if found:
        verdict = Verdict.CONTRADICTED
        sentence = (
            "What is published does not follow from the releases: with one record less, the same "
            f"draws and equal releases, {len(found)} of {compared} published things differ. First "
            f"of them: {found[0].what} ({found[0].detail})."
        )
    elif invalid:
        verdict = Verdict.INVALID_AUDIT
        sentence = f"This replay cannot support a verdict: the run {invalid}. Replay it again."
    else:
        verdict = Verdict.NOT_CONTRADICTED
        sentence = (
            f"One record was in {touched} of {len(moves)} releases and moved each by "
            f"{furthest:.1%} of what is allowed at most; given equal releases, all {compared} "
            "published things are the same, bit for bit. Other data may take other paths."
        )
    return ReplayAudit(
        verdict=verdict,
        sentence=sentence,
        releases=len(moves),
        touched=touched,
        furthest=furthest,
        compared=compared,
        leaks=found,
    )
