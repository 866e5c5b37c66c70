"""Evidence where no coins can be tossed: members against made-up records, beside a baseline.

Each row is a member or a made-up record, by a fair coin; nobody trained on the made-up ones. If
the making is c-close, P_made(x) ≥ e^−c·P_real(x) for every x, and the model is ε-DP, then an
accused row is a member with probability at most e^(c+ε)/(1 + e^(c+ε)), whatever came before. With
δ > 0 this fails as the one-run audit's bound does, at 2δ: a row that c tells from the made-up ones
is a member with probability up to 1, where a fair coin's is ½.

So scores of the model bound c + ε from below, and scores of a classifier that never saw the model
bound c. Their difference speaks of ε if that classifier is as good as any, which nobody can
prove: it is an estimate under that assumption, and no bound.

Source: Kazmi et al. 2024, "PANORAMIA: Privacy Auditing of Machine Learning Models without
Retraining" (arXiv 2402.09477).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dpigu.audits.statistics import Reals, check_confidence, guess_grid, one_run_epsilon
from dpigu.audits.wording import down, percent
from dpigu.dpcore import DataError
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class BeyondBaseline:
    """What a model's scores tell beyond a baseline's.

    Args:
        together: c + ε is at least this. baseline: c is at least this; both hold at `confidence`.
    """

    together: float
    baseline: float
    confidence: float

    @property
    def epsilon(self) -> float:
        """The difference, 0 or more: of ε if no classifier without the model does better."""
        return max(0.0, self.together - self.baseline)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Lines of a report."""
        both = f"at {percent(self.confidence)} confidence"
        return (
            ("without the model", f"c ≥ {down(self.baseline)}: what tells members from made-up"),
            ("with the model", f"c + ε ≥ {down(self.together)}, {both} both"),
            ("difference", f"{down(self.epsilon)}, of ε only if no baseline is better: no bound"),
        )


def beyond_baseline(
    scores: ArrayLike,
    baseline: ArrayLike,
    members: ArrayLike,
    *,
    delta: float,
    confidence: float = 0.95,
) -> BeyondBaseline:
    """Bounds on c + ε by the model's scores and on c by the baseline's, half of the error each.

    Args:
        scores, baseline: one a row, higher for "member". members: 1, or 0 where it was made up.
        delta: the model's δ; the baseline, which never saw the model, has none.

    Each takes the best of a grid of guess counts, among which its error is divided; only "in" is
    guessed, the highest scores first.
    Raises: DataError where the three do not pair up or are no numbers.
    """
    check_confidence(confidence)
    in_n = np.asarray(members)
    found = []
    sides = (("scores", scores, min(2 * delta, 1.0)), ("baseline", baseline, 0.0))
    for name, values, slack in sides:
        s_n = np.asarray(values, dtype=np.float64)
        if s_n.ndim != 1 or s_n.shape != in_n.shape or np.isnan(s_n).any():
            raise DataError("one number a row is needed", where=name, got=s_n.shape)
        found.append(_most(s_n, in_n, slack, (1 - confidence) / 2))
    together, alone = found
    return BeyondBaseline(together=together, baseline=alone, confidence=confidence)


def _most(scores_n: Reals, members_n: NDArray[np.int64], delta: float, error: float) -> float:
    """The largest ln(q/(1 − q)) that some number of accusations rejects, as the one-run audit."""
    order = np.lexsort((members_n, -scores_n))  # of equal scores the made-up ones first
    right_n, m = np.cumsum(members_n[order]), len(order)
    grid = guess_grid(m)
    level = 1 - error / len(grid)
    return max(one_run_epsilon(m, r, int(right_n[r - 1]), delta, level) for r in grid)
