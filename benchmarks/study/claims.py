"""What the paper claims (arXiv 2507.06525): Table 4's accuracies and Table 3's noise."""

from __future__ import annotations

from collections.abc import Mapping

ACCURACY: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "mnist": {
        "adadpigu": (98.06, 98.99),
        "dpsgd": (95.10, 97.25),
        "dpsur": (98.70, 98.95),
        "dpsgd-hf": (98.39, 98.56),
        "dpsgd-ts": (97.87, 98.51),
    },
    "fashion-mnist": {
        "adadpigu": (86.93, 89.92),
        "dpsgd": (79.89, 84.90),
        "dpsur": (89.34, 90.18),
        "dpsgd-hf": (87.96, 89.06),
        "dpsgd-ts": (85.23, 86.92),
    },
    "cifar10": {
        "adadpigu": (70.90, 73.21),
        "dpsgd": (50.53, 58.19),
        "dpsur": (69.40, 71.45),
        "dpsgd-hf": (66.32, 70.04),
        "dpsgd-ts": (56.74, 60.96),
    },
}
"""Table 4: per cent of test records at ε = 2 and 4, by data set and method."""

NOISE: Mapping[str, Mapping[float, float]] = {
    "mnist": {2: 4.64, 4: 2.49, 6: 1.79, 8: 1.45, 10: 1.25, 12: 1.12},
    "cifar10": {2: 3.62, 4: 1.98, 6: 1.45, 8: 1.20, 10: 1.05, 12: 0.95},
}
"""Table 3: σ by data set and the ε that it is said to give."""

BATCH, DELTA, EPOCHS = 1000, 1e-5, 500
"""The figures' batch, the paper's δ, and the released code's default number of epochs."""
