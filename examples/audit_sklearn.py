"""Audit a scikit-learn model that was trained elsewhere: plant canaries, train, score, judge.

    python examples/audit_sklearn.py [FOLDER]

A decision tree learns its records by heart, so a claim of ε = 1 is contradicted.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.tree import DecisionTreeClassifier

import dpigu


def table(path: Path) -> Path:
    """The digits as a table: sixty-four columns and a label."""
    x, y = load_digits(return_X_y=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"p{i}" for i in range(x.shape[1])), "y"])
        rows.writerows([*record, label] for record, label in zip(x, y, strict=True))
    return path


def read(path: Path) -> tuple[list[list[float]], list[int]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("p")]
    return [[float(row[n]) for n in names] for row in rows], [int(row["y"]) for row in rows]


def main(folder: Path) -> dpigu.Verdict:
    planted = dpigu.plant(table(folder / "digits.csv"), 300, folder / "audit", target="y")

    # somebody else's training, on the file that has the canaries of heads
    model = DecisionTreeClassifier(random_state=0).fit(*read(planted.train))

    # the model's probability of each canary's own label, whether it was in or not
    x, y = read(planted.canaries)
    with (folder / "scores.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["canary", "probability"])
        every = model.predict_proba(x)
        rows.writerows((i, every[i, label]) for i, label in enumerate(y))

    audit = dpigu.audit_planted(
        folder / "audit", folder / "scores.csv", claim_epsilon=1.0, delta=1e-5
    )
    print(audit.report.headline)
    print(audit.report.sentence)
    return audit.report.verdict


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("sklearn-audit")
    place.mkdir(parents=True, exist_ok=True)
    main(place)
