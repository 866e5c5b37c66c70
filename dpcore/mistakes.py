"""The commonest mistakes, each with the place in docs/mistakes.md that says more about it."""

from __future__ import annotations

from collections.abc import Mapping

PAGE = "docs/mistakes.md"
ANCHORS: Mapping[str, str] = {
    "there is no preset of that name": "a-name-that-does-not-exist",
    "unknown data set": "a-name-that-does-not-exist",
    "there is no stage of that name": "a-name-that-does-not-exist",
    "unknown key": "a-key-that-does-not-exist",
    "the number of records of this data set is not known": "records-are-declared",
    "the numbers of records and classes are public constants": "records-are-declared",
    "a table has no held-out split": "no-held-out-records",
    "there is no held-out record to evaluate on": "no-held-out-records",
    "shares records with the training split": "records-in-both-splits",
    "a column holds no plain numbers": "columns-are-declared",
    "a table does not say which column is the target": "which-column-is-the-target",
    "numbers are missing in a column": "missing-values",
    "input is not finite": "missing-values",
    "the class weights cancel": "weights-of-classes",
    "a private plan needs a target": "no-budget",
    "no noise that could keep it": "epsilon-without-noise",
    "the budget does not pay for a single step": "not-one-step-is-affordable",
    "this run would overspend the budget": "a-budget-that-is-spent",
    "a run is there already": "a-folder-that-is-taken",
    "this is no run folder": "no-run-folder",
    "this run has not finished": "an-unfinished-run",
    "is code that the configuration names": "code-in-a-folder",
    "it keeps statistics of other records": "batch-normalisation",
    "the loss of one record is not one number": "a-loss-of-one-record",
    "and nothing noised that": "a-model-that-remembers",
    "this task has no loss of its own": "a-task-without-a-loss",
    "the optimizer remembers steps from before this run": "a-used-optimizer",
    "the weights are no longer finite": "weights-that-are-not-finite",
    "the device has not enough memory": "out-of-memory",
    "a stage learns from public records, and there is no public data": "no-public-data",
}
"""What a problem says, to the heading that explains it."""


def place_of(problem: str) -> str:
    """Where the documentation says more about a problem; empty where it is none of these."""
    found = (anchor for words, anchor in ANCHORS.items() if words in problem)
    return next((f"{PAGE}#{anchor}" for anchor in found), "")
