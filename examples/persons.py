"""Privacy by person, two ways, at one claim: rows of persons, or rows of records and a group bound.

The records are scikit-learn's 1,500 training digits, dealt to persons by a declared rule, K to
each: `mixed` deals them one by one in an order that says nothing, so that a person has digits of
all kinds; `alike` deals them sorted by their label, so that a person has K times nearly the same.
Both ways have the same rate, the same steps and so the same number of gradients, and the same
(ε, δ) for a whole person; the held-out digits are nobody's.

    python examples/persons.py --per-person 2 5 10
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

import dpigu

RATE, STEPS, CLIPPING_NORM, DELTA = 0.2, 60, 0.2, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-person", type=int, nargs="+", default=[2, 5, 10], help="K")
    parser.add_argument("--epsilon", type=float, default=8.0, help="of a person")
    parser.add_argument("--runs", type=int, default=3, help="of each kind: their mean is told")
    args = parser.parse_args()
    digits = dpigu.load_data("digits")
    for each in args.per_person:
        noise = group_noise(each, args.epsilon)
        told = accuracy(digits, args.runs, noise_multiplier=noise)
        print(f"K = {each}, by record: {told}, σ = {noise:.2f}", flush=True)
        for rule in ("mixed", "alike"):
            told = accuracy(by_person(digits, each, rule), args.runs, epsilon=args.epsilon)
            print(f"K = {each}, by person, {rule}: {told}", flush=True)


def accuracy(data: dpigu.Data, runs: int, **budget: float) -> str:
    """Of a linear model on held-out digits: the mean of so many runs, and their range."""
    settings = dpigu.Settings(
        **budget, delta=DELTA, rate=RATE, accountant="pld", learning_rate=0.5, momentum=0.9,
        evaluations=1,
    )  # fmt: skip
    found = []
    for _ in range(runs):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        plan = dpigu.dpsgd(STEPS, bound=CLIPPING_NORM)
        run = dpigu.train(plan, data, model, settings, progress=False)
        found.append(run.summary["test_accuracy"])
    return f"{statistics.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})"


def by_person(digits: dpigu.Data, each: int, rule: str) -> dpigu.Data:
    """The same records, protected by person: so many to each, the last ones dealt as they come."""
    order = np.arange(len(digits.train))
    if rule == "alike":
        order = np.argsort(digits.train_y.numpy(), kind="stable")
    owner_N = np.empty_like(order)
    owner_N[order] = np.arange(len(order)) // each
    return dpigu.data_from(
        train=(digits.train_x, digits.train_y),
        test=(digits.test_x, digits.test_y),
        records=int(owner_N.max()) + 1,
        classes=10,
        name="digits by person",
        units=owner_N,
        records_per_unit=each,
    )


def group_noise(each: int, epsilon: float) -> float:
    """A noise multiplier that keeps ε for a person of so many records, the smallest to 1%."""

    def enough(sigma: float) -> bool:
        step = PoissonSampledDpEvent(RATE, GaussianDpEvent(sigma))
        found = dpigu.group_epsilon(SelfComposedDpEvent(step, STEPS), each, DELTA).value
        return found is not None and found <= epsilon

    low, high = 0.5, 1.0
    while not enough(high):
        low, high = high, 2 * high
    while high > 1.01 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


if __name__ == "__main__":
    main()
