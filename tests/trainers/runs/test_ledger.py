"""What a ledger shows: every charge, in its order, and any line that is not as it was written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from dp_accounting import dp_event, rdp
from dpigu.accountants import get_accountant
from dpigu.dpcore import Phase, Pipeline, Plan, RunError, SelectiveUpdate
from dpigu.dpcore.claim import Head, Ledger, event_from_dict, event_to_dict, read_ledger
from dpigu.mechanisms import ClippedCount, Flat, Gaussian, LossChange, Threshold
from dpigu.trainers import Settings, calibrate
from dpigu.trainers.calibration import epsilon_of_ledger
from hypothesis import given
from hypothesis import strategies as st

PLAN = Plan(
    (
        Phase("first", Pipeline(Flat(bound=1.0), Gaussian(noise_multiplier=2.0)), 5),
        Phase(
            "second",
            Pipeline(Flat(bound=0.5), Gaussian(), queries=(ClippedCount(),)),
            8,
            selective_update=SelectiveUpdate(
                Pipeline(Flat(bound=0.1), Gaussian(noise_multiplier=3.0), statistic=LossChange()),
                Threshold(),
                rate=0.05,
            ),
        ),
    )
)
SETTINGS = Settings(noise_multiplier=0.7, rate=0.1, accountant="rdp", epsilon=50.0)
CALIBRATED = calibrate(PLAN, SETTINGS, 1000)
HEAD = Head(
    run="here",
    configuration="0" * 64,
    delta=1e-5,
    accountant="rdp",
    adjacency=CALIBRATED.adjacency,
    epsilon=None,
    records=1000,
    block=3,
    not_private="",
    mechanisms=CALIBRATED.mechanisms,
)


def text_of(deeds: list[tuple[int, int, int]]) -> tuple[bytes, list[int]]:
    """A ledger of charges (mechanism, steps, unused), and what they come to."""
    ledger, lines, charged = read_ledger(HEAD.line() + b"\n"), [HEAD.line()], [0, 0]
    for mechanism, steps, unused in deeds:
        lines.append(ledger.charge(HEAD.mechanisms[mechanism].name, steps))
        ledger = ledger.after(lines[-1])
        if 0 < unused <= steps:
            lines.append(ledger.unused(unused))
            ledger = ledger.after(lines[-1])
        charged[mechanism] += steps - (unused if unused <= steps else 0)
    return b"\n".join(lines) + b"\n", charged


DEEDS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.integers(0, 3)), max_size=8)


def law_what_was_paid_is_read(deeds: list[tuple[int, int, int]]) -> None:
    """Charges less what was found unused, a mechanism at a time; read twice, the same."""
    text, charged = text_of(deeds)
    assert read_ledger(text).charged == read_ledger(text).charged == tuple(charged)


def law_a_changed_ledger_never_counts_less(
    deeds: list[tuple[int, int, int]], damage: Callable[[bytes], bytes]
) -> None:
    """A changed ledger is refused, or counts at least what it did."""
    text, charged = text_of(deeds)
    damaged = damage(text)
    if damaged == text:
        return
    try:
        found = read_ledger(damaged).charged
    except RunError as error:
        assert "\n" not in str(error)
        return
    assert all(a >= b for a, b in zip(found, charged, strict=True)), (damaged, found, charged)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A line before the last one lost, doubled, changed, swapped, or with a smaller number."""
    kind = draw(st.sampled_from(["lose", "double", "change", "swap", "blank", "less"]))
    at, byte = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 255))

    def damage(text: bytes) -> bytes:
        lines = text.split(b"\n")[:-1]
        if len(lines) < 3:
            return text
        i = 1 + int(at * (len(lines) - 2))
        if kind == "lose":
            del lines[i]
        elif kind == "double":
            lines.insert(i, lines[i])
        elif kind == "swap":
            lines[i - 1], lines[i] = lines[i], lines[i - 1]
        elif kind == "less":
            lines[i] = lines[i].replace(b'"steps": 3', b'"steps": 1')
        elif kind == "blank":
            lines[i] = b"\0" * len(lines[i])
        else:
            j = int(at * len(lines[i]))
            lines[i] = lines[i][:j] + bytes([byte]) + lines[i][j + 1 :]
        return b"\n".join(lines) + b"\n"

    return damage


def law_a_torn_line_counts(deeds: list[tuple[int, int, int]], cut: float) -> None:
    """Cut anywhere in its last line, a ledger counts no less; so it does once that is mended."""
    text, charged = text_of(deeds)
    begins = text[:-1].rfind(b"\n") + 1
    if not begins:
        return
    before = read_ledger(text[:begins]).charged
    torn = text[: begins + 1 + int(cut * (len(text) - begins - 1))]
    found = read_ledger(torn)
    assert all(a >= b for a, b in zip(found.charged, charged, strict=True))
    assert found.charged != before or torn == text
    if found.last == "cut":
        mended = read_ledger(torn + b"\n" + found.torn() + b"\n")
        assert mended.charged == found.charged
        assert mended.after(mended.charge("first", 1)).steps == found.steps + 1


@given(deeds=DEEDS)
def test_what_was_paid_is_read(deeds: list[tuple[int, int, int]]) -> None:
    law_what_was_paid_is_read(deeds)


@given(deeds=DEEDS, damage=damages())
def test_a_changed_ledger_never_counts_less(
    deeds: list[tuple[int, int, int]], damage: Callable[[bytes], bytes]
) -> None:
    law_a_changed_ledger_never_counts_less(deeds, damage)


@given(deeds=DEEDS, cut=st.floats(0, 1, exclude_max=True))
def test_a_torn_line_counts(deeds: list[tuple[int, int, int]], cut: float) -> None:
    law_a_torn_line_counts(deeds, cut)


def test_the_head_comes_back_exactly() -> None:
    assert read_ledger(HEAD.line() + b"\n").head == HEAD


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "of another format (got 99, expected 1)"),
        ({"mechanisms": [{}]}, "head cannot be read"),
        ({"adjacency": "friends"}, "head cannot be read"),
        (None, "no whole head"),
    ],
)
def test_a_head_that_cannot_be_read_is_one_line(change: dict[str, Any] | None, says: str) -> None:
    text = b"" if change is None else json.dumps(json.loads(HEAD.line()) | change).encode() + b"\n"
    with pytest.raises(RunError) as caught:
        read_ledger(text, "run/public/ledger.jsonl")
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [0, -1, 4, 1.5, True, "2", None])
def test_a_block_is_a_whole_number_of_steps_that_the_head_allows(steps: Any) -> None:
    ledger = read_ledger(HEAD.line() + b"\n")
    with pytest.raises(RunError, match="line 1: the ledger is damaged"):
        ledger.after(ledger.charge("first", steps))


@pytest.mark.parametrize("steps", [0, -2, 3])
def test_no_more_comes_back_than_was_paid_just_before(steps: int) -> None:
    ledger = read_ledger(HEAD.line() + b"\n")
    ledger = ledger.after(ledger.charge("first", 2))
    with pytest.raises(RunError, match="line 2: the ledger is damaged"):
        ledger.after(ledger.unused(steps))
    once = ledger.after(ledger.unused(1))
    with pytest.raises(RunError, match="damaged"):
        once.after(once.unused(1))


def rebuilt(told: Any) -> Any:
    """An event from JSON by dp_accounting alone: what docs/ledger.md shows."""
    if isinstance(told, dict):
        fields = {key: rebuilt(value) for key, value in told.items() if key != "type"}
        return getattr(dp_event, told["type"])(**fields)
    return [rebuilt(item) for item in told] if isinstance(told, list) else told


def test_dp_accounting_alone_computes_epsilon_from_the_event() -> None:
    """The exported event gives the same ε without a line of ours."""
    ledger: Ledger = read_ledger(text_of([(0, 3, 0), (0, 2, 0), (1, 3, 1), (1, 3, 0)])[0])
    told = json.loads(json.dumps(event_to_dict(ledger.event)))
    theirs = rdp.RdpAccountant(orders=[1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
    theirs.compose(rebuilt(told))
    ours = epsilon_of_ledger(ledger).value
    assert ours is not None
    assert ours <= theirs.get_epsilon(1e-5) * (1 + 1e-9)
    assert math.isclose(ours, theirs.get_epsilon(1e-5), rel_tol=0.02)
    assert event_from_dict(told) == ledger.event
    assert get_accountant("rdp").epsilon(rebuilt(told), 1e-5).value == ours
