"""Three leaks of published AdaDPIGU code, shown: what was claimed, and what an audit finds.

    python examples/published_adadpigu.py [--out FOLDER]

Each leak is the same training loop with one line wrong, written as such code is published. All
claim ε = 4. The audit plants crafted records by coin flips, trains once, looks only at what the
method publishes (its noised sums, its statistics, its mask), and guesses which records were in.
dpigu's presets of the same method are trained on the same data, and pass the same audits.

The loop claims what it likes: it stands outside the kernel, which refuses every one of these lines.
"""

from __future__ import annotations

import argparse
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from dpigu.audits import AuditReport, combined_test, judge
from dpigu.audits.canaries.observations import increment
from dpigu.dpcore import PoissonSampler, Release, StepContext
from dpigu.mechanisms import adadpigu, adadpigu_paper
from dpigu.trainers import Data, DataSpec, Settings, Tensors, load_data, train
from dpigu.trainers.calibration import noise_factor
from dpigu.trainers.data import Scaling
from published_pictures import draw, table
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

DELTA, CONFIDENCE = 1e-5, 0.95
BATCH, BOUND, RATIO, RATE, MOMENTUM = 256, 0.5, 0.6, 0.5, 0.9
PRETRAINING = 0.2
FRAME, HIDDEN = 4, 32
UNSEEN = 1e-6
"""The score of a canary without a live weight: the audit should rather abstain on it."""


def framed_digits() -> Data:
    """scikit-learn's digits, 0 to 1, in a black frame of four pixels, as MNIST's have one."""
    digits = load_data("digits")
    spec = DataSpec("framed digits", digits.spec.records, 10, (1, 16, 16), Scaling(16))
    train_x, test_x = (
        nn.functional.pad((x + 1) / 2, [FRAME] * 4) for x in (digits.train_x, digits.test_x)
    )
    return Data(spec, Tensors(train_x, digits.train_y), Tensors(test_x, digits.test_y))


def new_model() -> nn.Sequential:
    """A small net; every call gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(256, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))


# The audit's records, and what it observes ------------------------------------------------------


class Canaries:
    """m crafted records, each in training if its coin says so, and what was seen of each.

    A canary's gradient lies on weights of the frame that are its own: an image with ink there
    has such a gradient. It joins batches at the training's rate, as every record does, and has
    norm C at the clipper. Three observations at what is published give each canary a score:

    - noised sums: how likely it was in each batch, were the noise √B too small;
    - statistics: how far its weights' moving mean ever is from 0, summed over the steps;
    - mask: how many of its weights are live when the main phase starts.

    dpigu's trainer takes it as an observer.
    """

    def __init__(self, count: int, sampler: PoissonSampler, sigma: float) -> None:
        self.coins_m = torch.tensor([secrets.randbits(1) for _ in range(count)])
        self._sampler, self._suspected = sampler, sigma / math.sqrt(BATCH)
        frame = nn.functional.pad(torch.zeros(8, 8), [FRAME] * 4, value=1.0).bool()
        of_the_frame = frame.flatten().repeat(HIDDEN).nonzero()[:, 0]
        mixed = of_the_frame[torch.randperm(len(of_the_frame))]
        self._own_mK = mixed[: len(mixed) // count * count].view(count, -1)
        self._alpha_D: Tensor | None = None
        self.observations = {
            observed: torch.zeros(count) for observed in ("noised sums", "statistics", "mask")
        }

    def rows(self, support_D: Tensor) -> Tensor:
        """This step's sample of the canaries that are in, a row each."""
        heads = self.coins_m.nonzero()[:, 0]
        joins = heads[torch.as_tensor(self._sampler.draw(len(heads)))]
        row_BD = torch.zeros(len(joins), len(support_D))
        return row_BD.scatter_(1, self._own_mK[joins], BOUND * self._units(support_D)[joins])

    def observe(self, phase: str, noised_D: Tensor, alpha_D: Tensor, support_D: Tensor) -> None:
        """Take in what a step published: its noised sum, the moving mean after it, the mask."""
        unit_mK = self._units(support_D) * self._sampler.expected_batch / BOUND
        seen_m = (unit_mK * noised_D.float()[self._own_mK]).sum(1)
        self.observations["noised sums"] += increment(seen_m, self._sampler.rate, self._suspected)
        if phase == "main":
            mean_m = (unit_mK * alpha_D.float()[self._own_mK]).sum(1).abs()
            self.observations["statistics"] += torch.where(unit_mK.any(1), mean_m, UNSEEN)
            if not self.observations["mask"].any():
                self.observations["mask"] += support_D[self._own_mK].sum(1)

    def extra_rows(self, phase: str, context: StepContext) -> Tensor:
        """For dpigu's trainer: the rows before the clipper."""
        return self.rows(context.support_D)

    def see(self, phase: str, release: Release) -> None:
        """For dpigu's trainer: all that a step made public; α is the mean of what it released."""
        update_D = release.gradient.value
        if self._alpha_D is None or phase == "pretraining":
            self._alpha_D = torch.zeros_like(update_D)
        self._alpha_D = self._alpha_D + 0.1 * release.support_D * (update_D - self._alpha_D)
        self.observe(phase, release.noised.value, self._alpha_D, release.support_D)

    def _units(self, support_D: Tensor) -> Tensor:
        """The canaries' directions on their own live weights, of norm 1 (or 0)."""
        live_mK = support_D[self._own_mK].float()
        return live_mK / live_mK.norm(dim=1, keepdim=True).clamp(min=1)


# The method, as published -----------------------------------------------------------------------


def released(clean_D: Tensor, noised_D: Tensor) -> Tensor:
    """What may be looked at."""
    return noised_D


def before_noise(clean_D: Tensor, noised_D: Tensor) -> Tensor:
    """The leak of the scores and of the statistics: the gradient before the noise."""
    return clean_D


def once_on_the_sum(count: int, size: int, std: float) -> Tensor:
    """One draw of σC on the sum, whatever the number of records."""
    return std * torch.randn(size)


def per_record_then_averaged(count: int, size: int, std: float) -> Tensor:
    """The leak of the noise: σC/B for each record, and the mean of them. √B too small."""
    return BATCH * (std / BATCH * torch.randn(count, size)).mean(0)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A version of the code: where scores and statistics come from, how noise is drawn, and where
    the audit observations, chosen before it is trained."""

    name: str
    observed: str
    scores: Callable[[Tensor, Tensor], Tensor] = released
    statistics: Callable[[Tensor, Tensor], Tensor] = released
    noise: Callable[[int, int, float], Tensor] = once_on_the_sum


LEAKS = (
    Published(name="scores before noise", observed="mask", scores=before_noise),
    Published(name="statistics before noise", observed="statistics", statistics=before_noise),
    Published(
        name="noise per record, averaged",
        observed="noised sums",
        noise=per_record_then_averaged,
    ),
)


def run_published(
    version: Published, data: Data, steps: int, sigma: float, canaries: Canaries
) -> float:
    """Train by the published loop (arXiv 2507.06525, Algorithms 1 and 2); held-out accuracy."""
    model, sampler = new_model(), PoissonSampler(BATCH / data.spec.records, data.spec.records)
    parameters = list(model.parameters())
    weights_D = nn.utils.parameters_to_vector(parameters).detach()
    velocity_D = torch.zeros_like(weights_D)
    score_D, alpha_D = torch.zeros_like(weights_D), torch.zeros_like(weights_D)
    beta_D, support_D = torch.ones_like(weights_D), torch.ones_like(weights_D).bool()
    first_main = round(PRETRAINING * steps)
    for step in range(steps):
        main = step >= first_main
        if step == first_main:
            least = score_D.topk(int(RATIO * len(score_D))).values[-1]
            support_D = (score_D >= least) & (score_D > 0)
        batch = torch.as_tensor(sampler.draw(len(data.train_y)))
        g_BD = record_gradients(model, data.train_x[batch], data.train_y[batch]) * support_D
        scale_D = beta_D.sqrt() + 1e-8 if main else torch.ones_like(beta_D)
        z_BD = torch.cat([(g_BD - alpha_D) / scale_D * support_D, canaries.rows(support_D)])
        z_BD = z_BD * (BOUND / z_BD.norm(dim=1).clamp(min=BOUND))[:, None]
        noise_D = version.noise(len(z_BD), len(weights_D), sigma * BOUND) * support_D
        clean_D = z_BD.sum(0) / BATCH
        noised_D = clean_D + noise_D / BATCH
        update_D = (noised_D * scale_D + alpha_D) * support_D
        if main:
            seen_D = version.statistics(clean_D, noised_D) * scale_D + alpha_D
            beta_D = 0.999 * beta_D + 0.001 * (seen_D - alpha_D) ** 2
            alpha_D = 0.9 * alpha_D + 0.1 * seen_D
        else:
            score_D += version.scores(clean_D, noised_D).abs()
        velocity_D = MOMENTUM * velocity_D + update_D
        weights_D = weights_D - RATE * velocity_D * support_D
        nn.utils.vector_to_parameters(weights_D, parameters)
        canaries.observe("main" if main else "pretraining", noised_D, alpha_D, support_D)
    with torch.no_grad():
        return float((model(data.test_x).argmax(1) == data.test_y).float().mean())


def record_gradients(model: nn.Module, x_B: Tensor, y_B: Tensor) -> Tensor:
    """Every record's gradient, flattened: B × D."""
    named = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, parameters, x[None]), y[None])

    rows = vmap(grad(loss), in_dims=(None, 0, 0))(named, x_B, y_B)
    g_BD: Tensor = torch.cat([g.flatten(1) for g in rows.values()], dim=1)
    return g_BD


# The evidence -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One audit: what was trained, by which look it was audited, and what came out."""

    version: str
    observed: str
    leaky: bool
    accuracy: float
    report: AuditReport
    scores_m: Tensor
    coins_m: Tensor


def findings(epsilon: float, steps: int, count: int) -> Iterator[Finding]:
    """Train every version; audit each leak by the look planned for it, the presets by all."""
    data = framed_digits()
    settings = Settings(
        epsilon=epsilon, delta=DELTA, accountant="prv", expected_batch=BATCH, learning_rate=RATE
    )
    sampler = settings.sampler(data.spec.records)
    presets = {
        "adadpigu-paper": adadpigu_paper(steps, bound=BOUND, pretraining=PRETRAINING, ratio=RATIO),
        "adadpigu": adadpigu(steps, bound=BOUND, pretraining=PRETRAINING),
    }
    sigma = noise_factor(presets["adadpigu-paper"], sampler, settings)
    settings = replace(settings, noise_multiplier=sigma, evaluations=1)
    for version in LEAKS:
        canaries = Canaries(count, sampler, sigma)
        accuracy = run_published(version, data, steps, sigma, canaries)
        yield audited(version.name, version.observed, True, accuracy, canaries, epsilon)
    for name, plan in presets.items():
        canaries = Canaries(count, sampler, sigma)
        run = train(plan, data, new_model(), settings, observer=canaries, progress=False)
        for observed in canaries.observations:
            accuracy = run.summary["test_accuracy"]
            yield audited(f"dpigu {name}", observed, False, accuracy, canaries, epsilon)


def audited(
    version: str,
    observed: str,
    leaky: bool,
    accuracy: float,
    canaries: Canaries,
    epsilon: float,
) -> Finding:
    """The two one-run tests of `dpaudit model`, at three numbers of guesses."""
    scores_m, coins_m = canaries.observations[observed], canaries.coins_m
    grid = [len(coins_m) * quarters // 4 for quarters in (1, 2, 3)]
    combined = combined_test(
        scores_m.numpy(), coins_m.numpy(), grid, epsilon=epsilon, delta=DELTA, confidence=CONFIDENCE
    )
    report = judge(
        claim_epsilon=epsilon,
        delta=DELTA,
        p_value=combined.p_value,
        lower_bound=combined.one_run.lower_bound,
        ceiling=combined.one_run.ceiling,
        confidence=CONFIDENCE,
        assumptions=(),
    )
    return Finding(
        version=version,
        observed=observed,
        leaky=leaky,
        accuracy=accuracy,
        report=report,
        scores_m=scores_m,
        coins_m=coins_m,
    )


def main(arguments: list[str] | None = None) -> list[Finding]:
    """Train, audit, print the table, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the table and the pictures")
    parser.add_argument("--epsilon", type=float, default=4.0, help="the claim (default: 4)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--canaries", type=int, default=1500)
    given = parser.parse_args(arguments)
    found = []
    for finding in findings(given.epsilon, given.steps, given.canaries):
        found.append(finding)
        print(
            f"{finding.report.verdict}: {finding.version}, by its {finding.observed}",
            flush=True,
        )
    print("\n" + table(found, given.epsilon))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "leak-table.md").write_text(table(found, given.epsilon) + "\n")
        draw(found, given.epsilon, given.out)
    return found


if __name__ == "__main__":
    main()
