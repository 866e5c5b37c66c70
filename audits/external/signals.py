"""What a model's outputs on a record say of its membership: one number a record, high for "in".

A signal reads outputs, targets and perhaps a reference model's; it never reads a coin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError
from numpy.typing import ArrayLike
from scipy.special import logit

LEAST = 1e-300  # a probability of 0 has no logarithm
LOWEST = 0.2
"""The share of a record's tokens that min-k looks at: those the model finds least likely."""


def label_odds(probability: ArrayLike) -> Reals:
    """log p − log(1 − p) of each record's own label, shape (N,): the margin, from predictions.

    Source: Carlini et al. 2022, "Membership Inference Attacks From First Principles".
    """
    p_N = np.asarray(probability, dtype=np.float64)
    if not ((p_N >= 0) & (p_N <= 1)).all():
        raise DataError("a probability must lie in [0, 1]", where="probability")
    return np.asarray(logit(np.clip(p_N, LEAST, 1 - 2.0**-53)))


def squared_error(prediction: ArrayLike, target: ArrayLike) -> Reals:
    """−Σ (prediction − target)² of each record, shape (N,) from (N,) or (N, …)."""
    a, b = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError("predictions and targets must pair up", got=a.shape, expected=b.shape)
    return np.asarray(-np.square(a - b).reshape(len(a), -1).sum(1))


def log_likelihood(log_probabilities: ArrayLike) -> Reals:
    """The mean log-probability of each record's tokens: −log of its perplexity; (N, T) to (N,).

    NaN stands where a record has no token.
    """
    return _mean(_tokens(log_probabilities))


def min_k(log_probabilities: ArrayLike, share: float = LOWEST) -> Reals:
    """The mean log-probability of each record's least likely tokens, `share` of them; to (N,).

    At least one token. Source: Shi et al. 2024, "Detecting Pretraining Data from Large Language
    Models" (Min-K% Prob).
    """
    tokens_NT = _tokens(log_probabilities)
    count_N = np.isfinite(tokens_NT).sum(1)
    kept_N = np.maximum(1, np.floor(share * count_N)).astype(int)
    sorted_NT = np.sort(tokens_NT, axis=1)  # NaN last
    first_NT = np.arange(tokens_NT.shape[1])[None, :] < kept_N[:, None]
    return _mean(np.where(first_NT, sorted_NT, np.nan))


def exposure(member: ArrayLike, others: ArrayLike) -> Reals:
    """log₂(n + 1) − log₂(rank) of each planted record among n that were not, shape of `member`.

    Source: Carlini et al. 2019, "The Secret Sharer", with the canaries left out as the candidates.
    """
    in_n, out_n = np.asarray(member, dtype=np.float64), np.sort(np.asarray(others, np.float64))
    above_n = len(out_n) - np.searchsorted(out_n, in_n, side="left")
    return np.asarray(np.log2(len(out_n) + 1) - np.log2(above_n + 1))


def _as_given(score: ArrayLike) -> Reals:
    return np.asarray(score, dtype=np.float64)


@dataclass(frozen=True)
class Signal:
    """A signal by the columns of a file that it is made of.

    Args:
        columns: their names. made: the signal from them. what: of what, for reports.
    """

    columns: tuple[str, ...]
    made: Callable[..., Reals]
    what: str

    def of(self, columns: Mapping[str, Any]) -> Reals:
        """The signal, less a column `reference`: the same by a model that saw none of the records.

        Source of the calibration: Watson, Guo, Cormode and Sablayrolles 2022.
        """
        values = self.made(*(columns[name] for name in self.columns))
        if "reference" in columns:
            values = values - np.asarray(columns["reference"], dtype=np.float64)
        return values


SIGNALS: Mapping[str, Signal] = {
    "score": Signal(("score",), _as_given, "scores as given"),
    "probability": Signal(("probability",), label_odds, "log odds of the label"),
    "squared-error": Signal(("prediction", "target"), squared_error, "squared error, negated"),
    "log-likelihood": Signal(("log_probabilities",), log_likelihood, "log-likelihood a token"),
    "min-k": Signal(("log_probabilities",), min_k, "log-likelihood of the least likely fifth"),
}
"""By name; where none is chosen, the first whose columns are there."""


def signal_for(names: Iterable[str], chosen: str | None = None) -> Signal:
    """The signal that was chosen, or the first that these columns make.

    Raises: DataError where none can be made.
    """
    there = set(names)
    for name, signal in SIGNALS.items():
        if chosen in (None, name) and there.issuperset(signal.columns):
            return signal
    wanted = SIGNALS.values() if chosen is None else (SIGNALS[chosen],)
    raise DataError(
        "no signal can be made of these columns",
        got=", ".join(sorted(there)) or "nothing",
        expected="; or ".join(", ".join(signal.columns) for signal in wanted),
    )


def _tokens(log_probabilities: ArrayLike) -> Reals:
    tokens_NT = np.asarray(log_probabilities, dtype=np.float64)
    if tokens_NT.ndim != 2 or not np.isfinite(tokens_NT).any(1).all():
        raise DataError("every record needs a token, one row a record", where="log_probabilities")
    return tokens_NT


def _mean(tokens_NT: Reals) -> Reals:
    return np.asarray(np.nanmean(tokens_NT, axis=1))
