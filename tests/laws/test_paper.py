"""The paper's mathematics (arXiv 2507.06525) as quantities that can be computed.

What holds is tested on random quadratics with known constants; what is false as printed is
shown false by a counterexample, beside the statement that can be proved. docs/theory.md tells
the same in prose.

The quadratics are L(θ) = ½ Σ_j h_j (θ_j − a_j)², so G = max h and min L = 0; expectations over
Gaussian noise are exact, since only second moments occur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dpigu.accountants import get_accountant, paper_sigma
from dpigu.dpcore import Space
from dpigu.mechanisms import MeanAbsolute, RowTopK, TopK
from dpigu.mechanisms.support.schedulers import kept
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from tests.support.laws.stage_steps import context, release_of

pytestmark = pytest.mark.numerical

Vector = NDArray[np.float64]
SEEDS, SIZES = st.integers(0, 10_000), st.integers(1, 30)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ(ε) of the Gaussian mechanism with μ = sensitivity / standard deviation.

    Source: Balle and Wang 2018 (arXiv 1805.06530), Theorem 8.
    """
    return float(
        norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
    )


def top(u: Vector, k: int) -> Vector:
    """The top-k mask of |u|."""
    mask = np.zeros(len(u))
    mask[np.argsort(-np.abs(u), kind="stable")[:k]] = 1
    return mask


def energy_kept(mask: Vector, u: Vector) -> float:
    """α = ‖m ⊙ u‖² / ‖u‖²."""
    return float((mask * u) @ (mask * u) / (u @ u))


# Lemma 14 and Corollary 15: energy kept by top-k


@given(seed=SEEDS, size=SIZES, ratio=st.floats(0.01, 1.0))
def test_lemma_14_energy_kept_by_top_k(seed: int, size: int, ratio: float) -> None:
    """⟨u, m ⊙ u⟩ = α‖u‖², the sorted formula, α ≥ k/d; and RowTopK keeps exactly α."""
    u = np.random.default_rng(seed).standard_t(2, size)
    k = kept(ratio, size)
    mask = top(u, k)
    alpha = energy_kept(mask, u)
    assert u @ (mask * u) == pytest.approx(alpha * (u @ u))
    assert alpha == pytest.approx(np.sort(u**2)[size - k :].sum() / (u**2).sum())
    assert alpha >= k / size - 1e-12
    stage = RowTopK(ratio=ratio)
    state = stage.init(context(Space.flat("u", size)), {})
    row = stage.row(state, torch.from_numpy(u)).numpy()
    assert row @ row == pytest.approx(alpha * (u @ u))


@given(seed=SEEDS, size=st.integers(2, 30), other=SEEDS)
def test_top_k_keeps_more_than_any_other_mask(seed: int, size: int, other: int) -> None:
    u = np.random.default_rng(seed).standard_normal(size)
    k = size // 2
    random = top(np.random.default_rng(other).standard_normal(size), k)
    assert energy_kept(top(u, k), u) >= energy_kept(random, u) - 1e-12


def test_lemma_14_k_over_d_fails_for_a_fixed_mask() -> None:
    """The bound of the lemma's proof needs the top-k mask of u itself; theorem 16 fixes another."""
    u = np.array([0.0, 1.0])
    assert energy_kept(np.array([1.0, 0.0]), u) == 0.0 < 1 / 2


@given(seed=SEEDS, size=st.integers(2, 20))
def test_corollary_15_holds_for_the_mask_of_the_vector_itself(seed: int, size: int) -> None:
    """E‖m(v) ⊙ v‖² = E[α(v)‖v‖²] ≤ max α · E‖v‖², over a finite sample of v."""
    k = max(1, size // 2)
    vs = np.random.default_rng(seed).standard_normal((50, size))
    alphas = np.array([energy_kept(top(v, k), v) for v in vs])
    energies = (vs**2).sum(1)
    kept_energy = np.mean([(top(v, k) * v) @ (top(v, k) * v) for v in vs])
    assert kept_energy == pytest.approx(np.mean(alphas * energies))
    assert kept_energy <= alphas.max() * energies.mean() + 1e-12


@pytest.mark.parametrize("size", [1, 2, 10])
def test_corollary_15_its_supremum_is_always_one(size: int) -> None:
    """The printed sup α(v) ∈ (0, 1) is 1 for every k: the corollary says E‖m⊙v‖² ≤ E‖v‖²."""
    for k in range(1, size + 1):
        sparse = np.zeros(size)
        sparse[0] = 1.0
        assert energy_kept(top(sparse, k), sparse) == 1.0


@given(seed=SEEDS, size=st.integers(2, 30), sigma=st.floats(0.0, 10.0))
def test_equation_6_holds_if_the_mask_is_the_gradients_own(
    seed: int, size: int, sigma: float
) -> None:
    """E‖m ⊙ (g + z)‖² = α‖g‖² + kσ² ≤ α(‖g‖² + dσ²), because α ≥ k/d."""
    g = np.random.default_rng(seed).standard_normal(size)
    k = size // 2
    alpha, square = energy_kept(top(g, k), g), g @ g
    assert alpha * square + k * sigma**2 <= alpha * (square + size * sigma**2) * (1 + 1e-12)


def test_equation_6_fails_for_a_fixed_mask() -> None:
    """Corollary 15 is used there with α of the gradient on another vector, gradient plus noise."""
    g, mask, sigma = np.array([0.1, 1.0]), np.array([1.0, 0.0]), 1.0
    alpha = energy_kept(mask, g)
    masked = alpha * (g @ g) + mask.sum() * sigma**2
    assert masked > 5 * alpha * (g @ g + 2 * sigma**2)


# Definition 4 and Theorem 9: noise for (ε, δ)


@given(epsilon=st.floats(0.01, 0.99), log_delta=st.floats(-12, -2))
def test_the_classical_gaussian_noise_is_enough(epsilon: float, log_delta: float) -> None:
    """σ = S √(2 ln(1.25/δ)) / ε for ε < 1 (Dwork and Roth 2014, Theorem A.1)."""
    delta = 10**log_delta
    sigma = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    assert gaussian_delta(1 / sigma, epsilon) <= delta


def test_definition_4_has_epsilon_inside_the_root() -> None:
    """σ = S √(2 ln(1.25/δ)/ε), as printed, gives δ = 4·10⁻² where 10⁻⁵ is claimed, at ε = 0.1."""
    epsilon, delta = 0.1, 1e-5
    printed = math.sqrt(2 * math.log(1.25 / delta) / epsilon)
    assert gaussian_delta(1 / printed, epsilon) > 100 * delta


@given(log_delta=st.floats(-12, -2), share=st.floats(0.01, 1.0))
def test_theorem_9_holds_at_full_batch_for_small_epsilon(log_delta: float, share: float) -> None:
    """q = T = 1: σ = 2√ln(1/δ)/ε is enough while ε ≤ 8(1 − 1/√2) ln(1/δ).

    By RDP: 1/(2σ²) + √(2 ln(1/δ))/σ ≤ ε there, with the conversion of Proposition 8.
    """
    delta = 10**log_delta
    epsilon = share * 8 * (1 - 1 / math.sqrt(2)) * math.log(1 / delta)
    assert gaussian_delta(1 / paper_sigma(1.0, 1, epsilon, delta), epsilon) <= delta


def test_theorem_9_states_no_range_and_fails_outside_it() -> None:
    """One full-batch step at ε = 100: the printed σ gives δ > ½ where 10⁻⁵ is claimed."""
    sigma = paper_sigma(1.0, 1, 100.0, 1e-5)
    assert gaussian_delta(1 / sigma, 100.0) > 0.5


def test_theorem_9_fails_for_a_run_of_the_papers_size() -> None:
    """q = 1000/60000, T = 2400, ε = 8: a lower bound on the true ε exceeds 8."""
    sigma = paper_sigma(1000 / 60_000, 2400, 8.0, 1e-5)
    step = PoissonSampledDpEvent(1000 / 60_000, GaussianDpEvent(sigma))
    spent = get_accountant("prv").epsilon(SelfComposedDpEvent(step, 2400), 1e-5)
    assert spent.lower is not None and spent.lower > 8.5


# Proposition 8 and Theorem 10: from Rényi to (ε, δ), and amplification by subsampling


@given(sigma=st.floats(0.3, 20.0), order=st.floats(1.01, 200.0), log_delta=st.floats(-12, -1))
def test_proposition_8_holds_for_the_gaussian_mechanism(
    sigma: float, order: float, log_delta: float
) -> None:
    """(α, ε)-RDP gives (ε + log(1/δ)/(α − 1), δ)-DP: the exact δ there is never above."""
    delta = 10**log_delta
    epsilon = order / (2 * sigma**2) + math.log(1 / delta) / (order - 1)
    assert gaussian_delta(1 / sigma, epsilon) <= delta * (1 + 1e-9)


def test_proposition_8_is_not_the_best_conversion() -> None:
    """The accountant's (Canonne, Kamath and Steinke 2020) is smaller on the same Rényi curve."""
    sigma, delta = 1.0, 1e-5
    printed = min(
        order / (2 * sigma**2) + math.log(1 / delta) / (order - 1) for order in np.arange(1.1, 64)
    )
    spent = get_accountant("rdp").epsilon(GaussianDpEvent(sigma), delta).value
    assert spent < printed - 0.2


@given(sigma=st.floats(0.3, 10.0), rate=st.floats(1e-4, 1.0), epsilon=st.floats(1e-3, 8.0))
def test_theorem_10_holds_for_poisson_batches(sigma: float, rate: float, epsilon: float) -> None:
    """δ'(log(1 + q(e^ε − 1))) ≤ q·δ(ε): equal when the record leaves, less when it joins.

    P = (1 − q)N(0, σ²) + qN(1, σ²) against Q = N(0, σ²). P − e^ε'Q = q(N(1, σ²) − e^ε N(0, σ²)),
    point by point. Q − e^ε'P is positive up to where P/Q = e^−ε'.
    """
    delta = gaussian_delta(1 / sigma, epsilon)
    amplified = math.log1p(rate * math.expm1(epsilon))
    ratio = (math.exp(-amplified) - 1 + rate) / rate
    joins = 0.0
    if ratio > 0:
        edge = sigma**2 * math.log(ratio) + 0.5
        mixed = (1 - rate) * norm.cdf(edge / sigma) + rate * norm.cdf((edge - 1) / sigma)
        joins = norm.cdf(edge / sigma) - math.exp(amplified) * mixed
    assert joins <= rate * delta * (1 + 1e-6) + 1e-14


def test_theorem_10_amplifies_little_where_epsilon_is_large() -> None:
    """ε' = O(qε) is for small ε: a tenth of the records at ε = 8 keeps ε' = 5.7."""
    assert math.log1p(0.1 * math.expm1(0.1)) == pytest.approx(0.1 * 0.1, rel=0.06)
    assert math.log1p(0.1 * math.expm1(8.0)) > 5.6


# Theorem 11: masked noise


@given(seed=SEEDS, size=SIZES, ratio=st.floats(0.05, 1.0))
def test_theorem_11_a_fixed_mask_leaves_the_sensitivity(seed: int, size: int, ratio: float) -> None:
    """Clipping after a public mask bounds the masked record by C, whatever r: so μ = C/std."""
    numbers = np.random.default_rng(seed)
    mask = top(numbers.standard_normal(size), kept(ratio, size))
    g = mask * numbers.standard_normal(size) * 10.0 ** numbers.integers(-3, 4)
    clipped = g / max(1.0, float(np.linalg.norm(g)))
    assert np.linalg.norm(clipped) <= 1 + 1e-12
    assert not clipped[mask == 0].any()


@pytest.mark.parametrize(("sigma", "batch"), [(1e-3, 1), (0.5, 1), (1e-4, 1000)])
def test_theorem_11_promises_privacy_for_any_sigma(sigma: float, batch: int) -> None:
    """Its mechanism adds N(0, σ²C²) to a mean of sensitivity C/B: μ = 1/(σB), and no σ is named.

    At μ ≥ 2 it is not (1, 10⁻⁵)-DP; with σ meant as usual it adds B times more noise than
    needed.
    """
    mu = 1 / (sigma * batch)
    assert mu >= 2
    assert gaussian_delta(mu, 1.0) > 0.1


def test_theorem_11_assumes_a_mask_that_algorithm_1_does_not_make() -> None:
    """Scores from clipped gradients before noise: one record decides the mask, with certainty.

    The mask is visible in every release, so no (ε, δ) with δ < 1 covers it.
    """
    others = [torch.tensor([0.6, 0.0, 0.1]), torch.tensor([0.5, 0.0, 0.2])]
    record = torch.tensor([0.0, 1.0, 0.0])
    masks = []
    for batch in (others, [*others, record, record]):
        scorer = MeanAbsolute()
        state = scorer.init(context(Space.flat("three", 3), torch.zeros(3).double()), {})
        state = scorer.update(state, release_of(torch.stack(batch).sum(0)), {})
        masks.append(top(scorer.score(state).numpy(), 1))
    assert masks[0].tolist() == [1, 0, 0] and masks[1].tolist() == [0, 1, 0]
    assert TopK(ratio=0.4).reads == ("scorer",)  # ours reads what was released


# Theorems 13, 16 and 17: descent on smooth losses


@dataclass(frozen=True)
class Quadratic:
    """L(θ) = ½ Σ_j h_j x_j² in x = θ − a, with record i's loss centred at a + offsets_i."""

    h: Vector
    x: Vector
    offsets: Vector

    @classmethod
    def random(cls, seed: int, size: int, records: int = 5) -> Quadratic:
        numbers = np.random.default_rng(seed)
        offsets = numbers.standard_normal((records, size)) * numbers.choice([0.0, 1.0, 5.0])
        h = numbers.uniform(0.05, 2.0, size)
        return cls(h, 3 * numbers.standard_normal(size), offsets - offsets.mean(0))

    @property
    def G(self) -> float:
        return float(self.h.max())

    def loss(self, x: Vector) -> float:
        """L(θ) − min L."""
        return float(0.5 * (self.h * x) @ x)

    def clipped_mean(self, x: Vector, C: float, mask: Vector | None = None) -> Vector:
        """The mean of the records' masked and clipped gradients."""
        g = self.h * (x - self.offsets)
        g = g if mask is None else g * mask
        norms = np.linalg.norm(g, axis=1, keepdims=True)
        return np.asarray((g * np.minimum(1, C / np.maximum(norms, 1e-300))).mean(0))


def alignment(problem: Quadratic, eta: float, C: float, steps: int) -> float:
    """(1/T) Σ_t ⟨∇L(θ_t), ḡ_t⟩ of clipped gradient descent."""
    x, total = problem.x, 0.0
    for _ in range(steps):
        g = problem.clipped_mean(x, C)
        total += float((problem.h * x) @ g)
        x = x - eta * g
    return total / steps


@given(
    seed=SEEDS,
    size=st.integers(1, 8),
    eta=st.floats(0.01, 3.0),
    C=st.floats(0.05, 20.0),
    steps=st.integers(1, 40),
)
def test_theorem_13_repaired(seed: int, size: int, eta: float, C: float, steps: int) -> None:
    """(1/T) Σ ⟨∇L, ḡ⟩ ≤ (L₁ − min L)/(ηT) + ηGC²/2."""
    problem = Quadratic.random(seed, size)
    bound = problem.loss(problem.x) / (eta * steps) + eta * problem.G * C**2 / 2
    assert alignment(problem, eta, C, steps) <= bound * (1 + 1e-9)


def test_theorem_13_as_printed_multiplies_by_eta() -> None:
    """Printed: (1/T)·η·(L₁ − min L) + ηGC²/(2T), with η where the proof has 1/η."""
    problem = Quadratic(np.ones(1), np.array([10.0]), np.zeros((1, 1)))
    eta, C, steps = 0.1, 1.0, 10
    printed = eta * problem.loss(problem.x) / steps + eta * C**2 / (2 * steps)
    assert alignment(problem, eta, C, steps) > 10 * printed


def test_theorem_13_the_second_term_does_not_fall_with_T() -> None:
    """Averaging T copies of ηGC²/2 gives ηGC²/2: x = ±ηC/2 for ever, at Gη = 2, is a cycle."""
    eta, C, steps = 2.0, 1.0, 1000
    problem = Quadratic(np.ones(1), np.array([eta * C / 2]), np.zeros((1, 1)))
    printed_but_for_eta = problem.loss(problem.x) / (eta * steps) + eta * C**2 / (2 * steps)
    assert alignment(problem, eta, C, steps) == pytest.approx(eta * C**2 / 2)
    assert alignment(problem, eta, C, steps) > 100 * printed_but_for_eta


def mean_square_gradient(
    h: Vector, x: Vector, seen: Vector, mask: Vector, variance: Vector, eta: float, steps: int
) -> float:
    """(1/T) Σ_t E‖seen ⊙ ∇L(θ_t)‖² of θ ← θ − η m ⊙ (∇L + noise): exact second moments."""
    second, total = x**2, 0.0
    for _ in range(steps):
        total += float((seen * h**2) @ second)
        second = np.where(mask > 0, (1 - eta * h) ** 2 * second + eta**2 * variance, second)
    return total / steps


@given(
    seed=SEEDS,
    size=st.integers(1, 10),
    sigma=st.floats(0, 5),
    batch=st.integers(1, 100),
    steps=st.integers(1, 200),
)
def test_theorem_16_repaired(seed: int, size: int, sigma: float, batch: int, steps: int) -> None:
    """(1/T) Σ E‖m ⊙ ∇L‖² ≤ (2G/√T)(L₁ − inf over the support) + (1/√T)(σ_m²/B + kσ²/B²).

    η = 1/(G√T), m any fixed mask of k coordinates, σ_m² the records' variance on them: what is
    masked converges, and nothing can be said of the rest.
    """
    numbers = np.random.default_rng(seed)
    h, x = numbers.uniform(0.05, 2.0, size), 3 * numbers.standard_normal(size)
    mask = top(numbers.standard_normal(size), max(1, size // 2))
    spread = numbers.uniform(0, 2, size)
    variance = spread / batch + sigma**2 / batch**2
    G = float(h.max())
    found = mean_square_gradient(h, x, mask, mask, variance, 1 / (G * math.sqrt(steps)), steps)
    start = float(0.5 * (mask * h * x) @ x)
    bound = (2 * G * start + float(mask @ variance)) / math.sqrt(steps)
    assert found <= bound * (1 + 1e-9)


def test_theorem_16_as_printed_forgets_what_is_masked_away() -> None:
    """α_t is no constant: with a fixed mask the other coordinates' gradient never falls.

    h = 1, θ₁ − a = (1, 0.9), the top-1 mask, no noise: the printed bound with α_1 = 0.55 tends
    to 0 like 1/√T, the average squared gradient stays above 0.81.
    """
    h, x, mask, steps = np.ones(2), np.array([1.0, 0.9]), np.array([1.0, 0.0]), 10_000
    assert (top(x, 1) == mask).all()
    found = mean_square_gradient(h, x, np.ones(2), mask, np.zeros(2), 1 / math.sqrt(steps), steps)
    printed = 2 / (energy_kept(mask, x) * math.sqrt(steps)) * 0.5 * float(x @ x)
    assert found > 0.81 > 20 * printed


def expected_descent(
    problem: Quadratic, mask: Vector, C: float, eta: float, noise_variance: float
) -> tuple[float, float]:
    """E⟨∇L, g̃⟩, and (1/η) E[L_t − L_{t+1}], for g̃ = masked clipped mean + masked noise."""
    x, g = problem.x, problem.clipped_mean(problem.x, C, mask)
    aligned = float((problem.h * x) @ g)
    after = problem.loss(x - eta * g) + 0.5 * eta**2 * noise_variance * float(mask @ problem.h)
    return aligned, (problem.loss(x) - after) / eta


@given(
    seed=SEEDS,
    size=st.integers(1, 10),
    sigma=st.floats(0, 5),
    batch=st.integers(1, 100),
    eta=st.floats(0.01, 3.0),
    C=st.floats(0.05, 20.0),
)
def test_theorem_17_repaired(
    seed: int, size: int, sigma: float, batch: int, eta: float, C: float
) -> None:
    """E⟨∇L, g̃⟩ ≤ (1/η) E[L_t − L_{t+1}] + (Gη/2)(C² + kσ²C²/B²), with the noise of Algorithm 2."""
    problem = Quadratic.random(seed, size)
    mask = top(np.random.default_rng(seed).standard_normal(size), max(1, size // 2))
    aligned, fall = expected_descent(problem, mask, C, eta, (sigma * C / batch) ** 2)
    k = float(mask.sum())
    bound = fall + problem.G * eta / 2 * (C**2 + k * (sigma * C / batch) ** 2)
    assert aligned <= bound + 1e-9 * (abs(bound) + abs(aligned) + abs(fall))


@given(seed=SEEDS, size=st.integers(2, 10), batch=st.integers(2, 100))
def test_theorem_17_fails_with_the_noise_that_it_states(seed: int, size: int, batch: int) -> None:
    """N(0, σ²C²I) on the mean has energy kσ²C² on the mask, and the bound allows α d σ²C²/B.

    The proof divides by B because it averages one noise a record, which is σC/√B: that is
    neither what the theorem states nor Algorithm 2's σC/B.
    """
    sigma, C, eta = 10.0, 1.0, 0.5
    x = 5 + np.random.default_rng(seed).random(size)
    problem = Quadratic(np.ones(size), x, np.zeros((1, size)))
    k = size // 2
    mask = top(x, k)
    alpha = energy_kept(mask, x)
    assume(k > 1.1 * alpha * size / batch)
    aligned, fall = expected_descent(problem, mask, C, eta, (sigma * C) ** 2)
    printed = fall + eta / 2 * (C**2 + alpha * size * (sigma * C) ** 2 / batch)
    assert aligned > printed


def test_theorem_17_fails_for_a_mask_that_keeps_little() -> None:
    """Even with Algorithm 2's noise: α d is no bound on k once the mask misses the gradient."""
    size, sigma, C, eta, batch = 100, 10.0, 1.0, 0.5, 2
    x = np.zeros(size)
    x[-1] = 1.0
    problem = Quadratic(np.ones(size), x, np.zeros((1, size)))
    mask = np.ones(size)
    mask[-1] = 0
    aligned, fall = expected_descent(problem, mask, C, eta, (sigma * C / batch) ** 2)
    alpha = energy_kept(mask, x)
    assert alpha == 0.0
    assert aligned > fall + eta / 2 * (C**2 + alpha * size * (sigma * C) ** 2 / batch)
