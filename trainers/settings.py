"""How a plan is run: budget, sampling, optimizer, engine and device. All of it public."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from dpigu.dpcore import ConfigurationError, PoissonSampler, Release, Space
from dpigu.dpcore.registry.configuration import check_types
from dpigu.trainers.distributed import own, sharded_as
from dpigu.trainers.optim import OPTIMIZERS, Average, NoiseAware
from torch import Tensor, nn

from dpigu.names import AveragingName, EngineName, OptimizerName, ScheduleName

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Optimizer = OptimizerFactory | torch.optim.Optimizer
"""What makes a run's optimizer, or the user's own."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every public choice of a run beside its plan, its data and its model.

    Args:
        epsilon: the target ε; the noise is calibrated to it unless `noise_multiplier` is given,
            and training stops before a step that would pass it.
        delta: the target δ.
        accountant: who states ε: rdp, prv or pld. auto takes rdp, about 10% looser and much
            quicker, where the run is short (`dpigu.trainers.calibration.accountant_for`).
        noise_multiplier: factor on the plan's noise multipliers, in place of calibrating.
        expected_batch: rate × declared records; give this or `rate`.
        rate: the Poisson sampling rate.
        epochs: steps × rate, in place of the plan's steps, which then say how its phases share
            them.
        optimizer: sgd, adam, adam-bc (Adam without the noise's part of its second moment), muon
            or shampoo (along a matrix's singular directions).
        learning_rate: the peak learning rate.
        schedule: constant, or falling to 0 over all steps, linear or cosine.
        warmup: the share of the steps over which the learning rate rises from 0 to that.
        momentum: of sgd, muon and shampoo.
        weight_decay: of any optimizer.
        average: what is evaluated and kept: the last weights (none), their moving average (ema),
            or their mean over the last steps (tail).
        average_decay: of ema.
        average_share: of the steps, for tail.
        engine: auto takes the fast engine where it applies, else materialises rows.
        physical_batch: records in a microbatch; auto chooses it from public shapes.
        device: auto takes a GPU where there is one.
        data_on_device: keep all records on the device, if they fit; otherwise they stay on the
            host, and microbatches are sent.
        workers: processes that read records ahead, where those are not in memory.
        autocast: forward and backward in bfloat16; sums and noise never are.
        seed: public initialisation only; noise and sampling never use it.
        evaluations: how often ε and held-out metrics are taken.
        diagnostics: also record training metrics, which are private: the run then claims nothing.

    Examples:
        >>> Settings(expected_batch=256).sampler(records=1024).rate
        0.25
    """

    epsilon: float | None = None
    delta: float = 1e-5
    accountant: Literal["auto", "prv", "pld", "rdp"] = "auto"
    noise_multiplier: float | None = None
    expected_batch: float | None = None
    rate: float | None = None
    epochs: float | None = None
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.5
    schedule: ScheduleName = "constant"
    warmup: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    average: AveragingName = "none"
    average_decay: float = 0.9999
    average_share: float = 0.25
    engine: EngineName = "auto"
    physical_batch: Literal["auto"] | int = "auto"
    device: str = "auto"
    data_on_device: bool = False
    workers: int = 0
    autocast: bool = False
    seed: int = 0
    evaluations: int = 10
    diagnostics: bool = False

    def __post_init__(self) -> None:
        check_types(self, "settings")
        for name, allowed, expected in (
            ("epsilon", self.epsilon is None or 0 < self.epsilon < math.inf, "above 0"),
            ("delta", 0 < self.delta < 1, "between 0 and 1"),
            ("rate", self.rate is None or 0 < self.rate <= 1, "above 0 and at most 1"),
            ("epochs", self.epochs is None or 0 < self.epochs < math.inf, "above 0"),
            (
                "expected_batch",
                self.expected_batch is None or 0 < self.expected_batch < math.inf,
                "above 0",
            ),
            (
                "noise_multiplier",
                self.noise_multiplier is None or 0 <= self.noise_multiplier < math.inf,
                "at least 0",
            ),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("momentum", 0 <= self.momentum < 1, "at least 0 and below 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("warmup", 0 <= self.warmup < 1, "at least 0 and below 1"),
            ("average_decay", 0 <= self.average_decay < 1, "at least 0 and below 1"),
            ("average_share", 0 < self.average_share <= 1, "above 0 and at most 1"),
            ("physical_batch", self.physical_batch == "auto" or self.physical_batch >= 1, "≥ 1"),
            ("evaluations", self.evaluations >= 1, "at least 1"),
            ("workers", self.workers >= 0, "at least 0"),
            ("seed", 0 <= self.seed < 2**63, "at least 0"),
        ):
            if not allowed:
                raise ConfigurationError(
                    "a value out of range",
                    where=f"settings.{name}",
                    got=getattr(self, name),
                    expected=expected,
                )

    def sampler(self, records: int) -> PoissonSampler:
        """The sampler over the declared number of records."""
        if (self.rate is None) == (self.expected_batch is None):
            raise ConfigurationError(
                "give the sampling rate or the expected batch, and not both",
                where="settings",
                got=f"rate {self.rate}, expected_batch {self.expected_batch}",
            )
        if self.rate is not None:
            return PoissonSampler(self.rate, records)
        assert self.expected_batch is not None
        if not 0 < self.expected_batch <= records:
            raise ConfigurationError(
                "the expected batch must lie between 0 and the declared number of records",
                where="settings.expected_batch",
                got=self.expected_batch,
                expected=f"at most {records}",
            )
        return PoissonSampler(self.expected_batch / records, records)

    def torch_device(self) -> torch.device:
        """The device, with `auto` resolved."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return torch.empty(0, device=self.device).device
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(
                "this device is not to be had here",
                where="settings.device",
                got=self.device,
                remedy="Use auto or cpu.",
            ) from error

    @property
    def precision(self) -> torch.dtype | None:
        """The dtype of forward and backward; None for the weights' own."""
        return torch.bfloat16 if self.autocast else None

    def factory(self) -> OptimizerFactory:
        """Makes the optimizer."""
        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        if self.optimizer in ("sgd", "muon", "shampoo"):
            options["momentum"] = self.momentum
        return partial(OPTIMIZERS[self.optimizer], **options)

    def averager(self, stored: Mapping[str, Tensor] | None = None) -> Average:
        """The average of the weights, from the start or from what a checkpoint holds."""
        return Average(self.average, self.average_decay, self.average_share, stored)

    def set_learning_rate(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
        """Set every group's learning rate for a step of the whole plan; let a constant one be."""
        if self.schedule == "constant" and self.warmup == 0:
            return
        share = {
            "constant": 1.0,
            "linear": 1 - step / steps,
            "cosine": (1 + math.cos(math.pi * step / steps)) / 2,
        }[self.schedule]
        if self.warmup > 0:
            share *= min(1.0, (step + 1) / (self.warmup * steps))
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * share


def masked_step(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    space: Space,
    release: Release,
) -> None:
    """One step of any optimizer on the released gradient: post-processing.

    Off the support, weights and the optimizer's state stay bit for bit what they were; a
    state that the step creates starts at 0 there. Parameters of the optimizer that do not train
    have no gradient, whatever was left on them, so that it moves none of them.
    """
    gradients = space.split(release.gradient.value)
    supports = space.split(release.support_D)
    before: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        for stranger in group["params"]:
            stranger.grad = None  # what somebody else left there was never released
    for name, parameter in parameters.items():
        parameter.grad = sharded_as(gradients[name].to(parameter.dtype), parameter)
        before[name] = [t.clone() for t in _held(optimizer, parameter)]
    if isinstance(optimizer, NoiseAware):
        variances = space.split(release.gradient.variance)
        optimizer.know_noise({p: sharded_as(variances[name], p) for name, p in parameters.items()})
    optimizer.step()
    for name, parameter in parameters.items():
        support = own(sharded_as(supports[name], parameter))
        for i, tensor in enumerate(_held(optimizer, parameter)):
            old = before[name][i] if i < len(before[name]) else torch.zeros_like(tensor)
            tensor.copy_(torch.where(support, tensor, old))
        parameter.grad = None


def _held(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> list[Tensor]:
    """What this rank holds of the weights, and of the optimizer's state with one entry a weight."""
    state = optimizer.state.get(parameter, {}).values()
    alike = [v for v in state if torch.is_tensor(v) and v.shape == parameter.shape]
    return [own(t.data) for t in (parameter, *alike)]
