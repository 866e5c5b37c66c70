"""The statement of a run: a page about its privacy that its owner can publish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Context
from typing import Any

from dpigu.accountants.base import stated
from dpigu.accountants.profile import most_true_positives
from dpigu.dpcore.unit import Unit
from dpigu.trainers.runs.folder import printable

FALSE_POSITIVES = (0.001, 0.01, 0.1)
"""The false-positive rates at which a statement bounds what a test for one record finds."""

PROFILE = (
    " Both bound the same mechanism: the claim's accountant, {}, is looser, so the profile may be "
    "below the claim at the same δ, and the claim stays what was fixed before the run."
)


def statement(summary: Mapping[str, Any]) -> str:
    """What a run's owner can publish: a paragraph, then what a strict reader asks for.

    These are the questions of NIST SP 800-226: the unit, the parameters and what they mean, how
    records were sampled, what else was released, what was not charged.
    """
    lines = [_paragraph(summary)]
    if summary["private"]:
        lines += ["", *_lines(summary)]
    return "".join(printable(line) + "\n" for line in lines)


def _paragraph(summary: Mapping[str, Any]) -> str:
    if not summary["private"]:
        return (
            f"This model was trained with {summary['preset']} and makes no claim of differential "
            f"privacy: {summary['why_not_private']}."
        )
    return (
        "This model was trained with differential privacy: "
        f"{_claim(summary)} at δ = {summary['delta']:g} under {summary['adjacency']} adjacency of "
        f"single {_counted(summary)}, by {summary['preset']} over {_steps(summary)}, each "
        f"on a Poisson sample taken at rate {summary['rate']:.6g} of {summary['records']} declared "
        f"{_counted(summary)}, with Gaussian noise of {_noise(summary['phases'])} times the "
        "clipping norm. "
        f"{_looks(summary['phases'])}{_turns(summary['phases'])}"
        f"ε was computed by the {summary['accountant'].upper()} accountant of dpigu "
        f"{summary['versions']['dpigu']} from the ledger of the steps that ran, all "
        f"phases included. Held-out data is treated as public{_public(summary)}. Choices "
        "made by looking at the training data before this run are not charged. Noise and "
        "sampling used the operating system's entropy and were not stored."
    )


def _lines(summary: Mapping[str, Any]) -> list[str]:
    """One line for each question that the paragraph leaves."""
    delta, records, one = summary["delta"], summary["records"], _one(summary)
    found = []
    if delta > 1 / records:
        found.append(
            f"WARNING: δ = {delta:g} is above 1/{records}, one over the number of "
            f"{_counted(summary)}: a mechanism that publishes some {one} whole can have this δ."
        )
    relation = {
        "add-or-remove-one": f"with and without one {one}",
        "replace-one": f"that differ in one {one}'s value",
    }[summary["adjacency"]]
    profile = summary["privacy_profile"]
    powers = [
        f"{_percent(most_true_positives(profile, rate))} at {100 * rate:g}%"
        for rate in FALSE_POSITIVES
    ]
    points = [f"{stated(epsilon)} at {at:g}" for at, epsilon in profile]
    claimed_by = summary["accountant"].upper()
    tuned = summary["tuned"]
    found += [
        _unit(summary, relation),
        f"Trade-off: a test for one {one} has at most these true positives at these false "
        f"positives: {_listed(powers)}.",
        f"Profile: ε at δ, all at once, by PLD: {', '.join(points)}."
        + ("" if claimed_by == "PLD" else PROFILE.format(claimed_by)),
        f"Sampling: Poisson, every {one} by itself, {_anew(summary['phases'])}.",
        f"Released: {', '.join(summary['released'])}.",
        f"Tuning: {'not stated' if tuned is None else tuned}; it is not charged.",
    ]
    if (planted := summary["canaries"]) is not None:
        found.append(
            f"Canaries: {planted['count']} of the kind {planted['kind']} were planted for an audit "
            f"of this claim, each put in or left out by a fair coin; the model learnt from those "
            "put in beside the records, under the same protection."
        )
    if summary["common_inputs"]:
        found.append(
            "Held-out split: that records with equal inputs on both sides are of different people "
            "is the owner's word; it was not checked."
        )
    for name, told in summary["statistics"].items():
        found.append(
            f"Measured with noise and charged: {name}, {told['estimate']:.1%} "
            f"({told['low']:.1%} to {told['high']:.1%} with {told['confidence']:.0%} confidence)."
        )
    if (weights := summary.get("weights")) is not None:
        found.append(
            f"Weights: it started from {weights['name']}, from {weights['source']} (SHA-256 "
            f"{weights['sha256']}), which {weights['declared_by']} declared public; what made them "
            "is neither protected nor charged here, and nothing checked it."
        )
    if summary["lineage"]:
        found.append(_lineage(summary))
    if summary["budget"] is not None:
        found.append(
            f"Budget: this run and others on the same {_counted(summary)} keep one (ε, δ) "
            f"together, in budget {summary['budget'][:12]}."
        )
    else:
        found.append("Other runs: what else was released of these records is not charged here.")
    return found


def _one(summary: Mapping[str, Any]) -> str:
    return "record" if summary["unit"] is None else "unit"


def _counted(summary: Mapping[str, Any]) -> str:
    return f"{_one(summary)}s"


def _unit(summary: Mapping[str, Any], relation: str) -> str:
    """What the unit is, and what of it is used at a step."""
    if summary["unit"] is None:
        return (
            f"Unit: one record. Outputs are compared on data sets {relation}; a person with "
            "several records is protected less."
        )
    unit = Unit(**summary["unit"])
    return (
        f"Unit: all records of one {unit.name}. Its row at a step is {unit.row}, drawn anew every "
        f"time from that unit's alone, and clipped once. Outputs are compared on data sets "
        f"{relation}; whoever has records under several ids is protected less."
    )


def _lineage(summary: Mapping[str, Any]) -> str:
    """What the claim composes with: the runs that the weights come from."""
    runs = _listed(f"{a['run'][:12]} on {a['data']}" for a in summary["lineage"])
    both = summary["together"]
    if both["epsilon"] is None:
        return (
            f"Lineage: it started from weights of run {runs}, where {both['note']}; the claim "
            "covers what this run added and nothing of that."
        )
    return (
        f"Lineage: it started from weights of run {runs}. On the same records that is together "
        f"ε = {stated(both['epsilon'])} at δ = {summary['delta']:g} by "
        f"{both['accountant'].upper()}, "
        "if each was fixed before the others were seen."
    )


def _claim(summary: Mapping[str, Any]) -> str:
    """The ε that is claimed and, where somebody stopped the run, what was spent so far."""
    if summary["epsilon_is"] == "claim":
        return f"ε = {stated(summary['epsilon'])}"
    return (
        f"ε = {stated(summary['claimed_epsilon'])}, fixed before the run (it was stopped by "
        "choice; "
        f"spent so far: ε = {stated(summary['epsilon'])}),"
    )


def _steps(summary: Mapping[str, Any]) -> str:
    phases = summary["phases"]
    if len(phases) == 1:
        return f"{summary['steps']} steps"
    return (
        f"{summary['steps']} steps (" + _listed(f"{p['name']} {p['steps']}" for p in phases) + ")"
    )


def _noise(parts: Sequence[Mapping[str, Any]]) -> str:
    """The noise multiplier, or each phase's where they differ."""
    by_name = {part["name"]: f"{part['noise_multiplier']:.5g}" for part in parts}
    if len(set(by_name.values())) == 1:
        return next(iter(by_name.values()))
    return _listed(f"{sigma} ({name})" for name, sigma in by_name.items())


def _turns(phases: Sequence[Mapping[str, Any]]) -> str:
    """A sentence about noise that is correlated across steps, where it is."""
    found = [phase for phase in phases if phase["period"] > 1]
    if not found:
        return ""
    turns = _listed(f"{phase['turns']} ({phase['name']})" for phase in found)
    whole = [phase["name"] for phase in found if phase["turns"] < phase["period"]]
    overlap = f" (of {_listed(whole)}: all steps, as if nothing were sampled)" if whole else ""
    return (
        f"Each was in one step at most of so many in a row: {turns}, at so many times that rate; "
        f"the noise of these steps is correlated, and the steps of one period{overlap}, or a part "
        "of them, are charged as one release. "
    )


def _anew(phases: Sequence[Mapping[str, Any]]) -> str:
    """When the coins are tossed: at every step, or at those where it is a record's turn."""
    turns = [phase["name"] for phase in phases if phase["period"] > 1]
    return "anew for every step" + (f", or for every turn ({_listed(turns)})" if turns else "")


def _looks(phases: Sequence[Mapping[str, Any]]) -> str:
    """A sentence about the looks at updates, where there are any."""
    selective_updates = [
        {"name": phase["name"], **phase["selective_update"]}
        for phase in phases
        if phase["selective_update"]
    ]
    if not selective_updates:
        return ""
    rates = _listed(
        dict.fromkeys(f"{selective_update['rate']:.6g}" for selective_update in selective_updates)
    )
    return (
        f"Every update was looked at, on a Poisson sample of its own at rate {rates}, with "
        f"Gaussian noise of {_noise(selective_updates)} times the look's own clipping norm; every "
        "look is charged, whether the update was kept or not. "
    )


def _public(summary: Mapping[str, Any]) -> str:
    """What else counts as public, and so was neither protected nor charged."""
    named = summary["public_data"]
    return "" if named is None else f", and so are the records that stages learnt from ({named})"


def _percent(share: float) -> str:
    """A share as a percentage to three digits, rounded up."""
    digits = Context(prec=3, rounding=ROUND_CEILING).create_decimal(100 * share)
    return f"{float(digits):.3g}%"


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
