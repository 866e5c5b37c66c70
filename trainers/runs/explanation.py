"""A run in plain words: what was promised, to whom, how, and what was not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpigu.accountants.base import rounded_up
from dpigu.accountants.profile import most_true_positives
from dpigu.dpcore.unit import Unit
from dpigu.trainers.runs.folder import printable

FALSE_ALARMS = 0.01
"""The share of those left out whom the guesser of the explanation takes to be in."""


def explanation(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sentences by heading, from a run's summary; a reader needs to know nothing of privacy.

    A run that claims nothing has one heading, and says why.
    """
    if not summary["private"]:
        why = printable(summary["why_not_private"])
        return {
            "Nothing was promised": [
                f"This run claims no differential privacy: {why}.",
                "Its model may tell anything about its training records. Share the folder only as "
                "you would share the records.",
            ]
        }
    parts = {
        "What was promised": _promised(summary),
        "To whom": _whom(summary),
        "Of what": _what(summary),
        "How it was kept": _how(summary),
        "What was not promised": _not(summary),
    }
    return {title: [printable(line) for line in lines] for title, lines in parts.items()}


def _promised(summary: Mapping[str, Any]) -> list[str]:
    claim, delta, one = summary["claimed_epsilon"], summary["delta"], _one(summary)
    factor = math.exp(claim)
    lines = [
        f"ε = {rounded_up(claim)} at δ = {delta:g}, fixed before the first step.",
        f"Whatever somebody computes from what was published, every result is at most e^ε = "
        f"{_up(factor)} times as likely (and {delta:g} more) as if any one {one} had been left "
        "out, or put in.",
    ]
    profile = summary["privacy_profile"]
    if profile:
        found = most_true_positives(profile, FALSE_ALARMS)
        lines.append(
            f"In guesses: somebody who knows all other records, and takes {FALSE_ALARMS:.0%} of "
            f"the {one}s that were left out to be in, finds at most {_up(100 * found)}% of those "
            "that were in."
        )
    if summary["epsilon_is"] != "claim":
        lines.append(
            f"The run was stopped by somebody who saw results, after ε = "
            f"{rounded_up(summary['epsilon'])} was spent. That is no smaller claim: when to stop "
            "was itself learnt from the records."
        )
    if delta > 1 / summary["records"]:
        lines.append(
            f"WARNING: δ is above one over the {summary['records']} {one}s, so a program that "
            f"publishes some {one} whole could say the same."
        )
    return lines


def _whom(summary: Mapping[str, Any]) -> list[str]:
    records = f"{summary['records']:,}"
    if summary["unit"] is None:
        return [
            f"To each of the {records} declared training records by itself.",
            "A person with several records is promised less, roughly so many times ε.",
        ]
    unit = Unit(**summary["unit"])
    return [
        f"To each of the {records} declared units: all records of one {unit.name} together.",
        f"Whoever has records under several values of {unit.name} is promised less.",
    ]


def _what(summary: Mapping[str, Any]) -> list[str]:
    released = ", ".join(summary["released"])
    return [
        f"Of everything in public/, all together: the model, {released}.",
        "Of whatever anybody computes from it later, without end and at no further cost.",
    ]


def _how(summary: Mapping[str, Any]) -> list[str]:
    noise = sorted({f"{phase['noise_multiplier']:.3g}" for phase in summary["phases"]})
    one, turns = _one(summary), _turns(summary)
    return [
        f"In each of {summary['steps']} steps every {one} took part with probability "
        f"{summary['rate']:.2%}{', on average,' if turns else ','} by a coin of its own.",
        *turns,
        f"What it contributed was cut to a fixed length, and noise of {' or '.join(noise)} times "
        "that length was added to the sum. Only the noised sum went on.",
        f"ε was computed by the {summary['accountant'].upper()} accountant from the ledger of the "
        "steps that ran: `dpigu account ledger` repeats it.",
    ]


def _turns(summary: Mapping[str, Any]) -> list[str]:
    """A line for each phase whose steps share their noise."""
    return [
        f"In {phase['name']} they took turns: each in one step at most of {_turn(phase)} in a "
        f"row, with probability {_turn(phase) * summary['rate']:.2%}. The noise of these steps "
        "is correlated, so that later ones take some of it away again; they are charged as one."
        for phase in summary["phases"]
        if phase.get("period", 1) > 1
    ]


def _start(summary: Mapping[str, Any]) -> list[str]:
    """A line about weights that were declared public, if the run started from some."""
    if (weights := summary.get("weights")) is None:
        return []
    return [
        f"Anything about what made the weights that it started from: {weights['name']}, from "
        f"{weights['source']} (SHA-256 {weights['sha256']}). That they are public is the word of "
        f"{weights['declared_by']}."
    ]


def _turn(phase: Mapping[str, Any]) -> int:
    """In how many steps a record has one turn."""
    return int(phase.get("turns", phase["period"]))


def _not(summary: Mapping[str, Any]) -> list[str]:
    tuned = summary["tuned"]
    tuning = "nobody said how the settings were chosen" if tuned is None else f"said was: {tuned}"
    lines = [
        "That nothing is learnt about a person: what holds for people in general may be learnt "
        "from others, and then holds for them too.",
        "Anything about private/, which depends on the records: do not publish it.",
        "Anything about held-out records, which count as public.",
        f"That choices made by looking at the training records are paid for ({tuning}).",
        "Anything against code that runs in the training process, or whoever sees its memory.",
    ]
    if summary["public_data"] is not None:
        lines.append(f"Anything about the public records ({summary['public_data']}).")
    lines += _start(summary)
    if summary["budget"] is None:
        lines.append("That other runs on the same records are counted: each adds its own ε.")
    else:
        lines.append("That runs outside this run's budget are counted: each adds its own ε.")
    if summary["lineage"]:
        lines.append(
            "That what earlier runs on its weights spent is within this ε: STATEMENT.txt says what "
            "they are together."
        )
    return lines


def _one(summary: Mapping[str, Any]) -> str:
    return "record" if summary["unit"] is None else "unit"


def _up(value: float) -> str:
    """A number to three digits, rounded up."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    scaled = math.ceil(value * 10**digits) / 10**digits
    return f"{scaled:,.{digits}f}" if value < 1e6 else f"{value * 1.01:.2e}"
