"""One training step of each library: what the benchmark times. Peers are optional.

Every contender gets a fresh copy of the net and one batch. A step takes a microbatch size and
brings the weights to the next ones, noise and SGD included.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    Driver,
    PhaseContext,
    Reads,
    Rows,
    Space,
    States,
    Transform,
)
from dpigu.mechanisms import PRESETS
from dpigu.trainers.engines import GhostEngine, MaterialisingEngine, Norms, trainable
from dpigu.trainers.tasks.losses import cross_entropy
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.nets import Net
from benchmarks.peers.jax_contender import SEQUENTIAL, compiled

Step = Callable[[int], None]
Prepare = Callable[[Net, int], Step]
BOUND, MULTIPLIER, RATE = 0.5, 1.0, 0.1
STEPS = 100


@dataclass(frozen=True)
class Contender:
    """One way to take a step.

    Args:
        pipeline: non-private, dpsgd or adadpigu.
        engine: the library's own name for how it clips.
        library: torch, dpigu, opacus, backpack or jax_privacy.
        prepare: from net and batch to the step.
        needs: the package that must be installed.
        matrices: how many B × D matrices in float32 it holds at once.
        nets: the nets that it can take, all if empty.
    """

    pipeline: str
    engine: str
    library: str
    prepare: Prepare
    needs: str = "torch"
    matrices: int = 0
    nets: tuple[str, ...] = ()

    def takes(self, net: str) -> bool:
        """Whether it is installed and can run this net."""
        there = importlib.util.find_spec(self.needs) is not None
        return there and (not self.nets or net in self.nets)


def pieces(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


def non_private(memory_format: torch.memory_format = torch.contiguous_format) -> Prepare:
    """The plain step; in channels last, the format that the fast engine chooses by itself."""

    def prepare(net: Net, batch: int) -> Step:
        model = net.make()
        model.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's
        x, y = net.batch(batch)
        x = x.contiguous(memory_format=memory_format) if x.dim() == 4 else x
        optimizer = torch.optim.SGD(model.parameters(), RATE)

        def step(microbatch: int) -> None:
            optimizer.zero_grad()
            for x_B, y_B in pieces(x, y, microbatch):
                (F.cross_entropy(model(x_B), y_B, reduction="sum") / batch).backward()
            optimizer.step()

        return step

    return prepare


def ours(preset: str, fast: bool) -> Prepare:
    """The last phase of a preset, in the kernel: guards, noise, posts, updates and SGD."""

    def prepare(net: Net, batch: int) -> Step:
        model = net.make()
        x, y = net.batch(batch)
        values = trainable(model)
        phase = last_phase(preset, model)
        pipeline, space = phase.pipeline, phase.pipeline.space
        make = GhostEngine if fast else MaterialisingEngine
        engine = make(model, cross_entropy, Norms(None, 1), batch)
        driver = Driver(pipeline, expected_batch=batch, relative_error=engine.relative_error)
        valid_B = torch.ones(batch, dtype=torch.bool)

        def rows(transform: Transform, microbatch: int) -> Iterator[Rows]:
            given = {name: p.detach() for name, p in values.items()}
            for x_B, y_B in pieces(x, y, microbatch):
                yield engine.rows(given, x_B, y_B, valid_B[: len(x_B)], transform)

        @torch.no_grad()
        def step(microbatch: int) -> None:
            opened = driver.open(phase.states, phase.clock)
            release, _ = opened.release(rows(opened.context.transform, microbatch))
            for name, g in space.split(release.gradient.value).items():
                values[name].sub_(RATE * g.to(values[name]))

        return step

    return prepare


@dataclass(frozen=True)
class LastPhase:
    """The last phase of a preset, bound to a model, before its first step."""

    pipeline: BoundPipeline
    states: States
    clock: Clock


def last_phase(preset: str, model: nn.Module) -> LastPhase:
    """With the states of the phases before it as if they had learnt something."""
    values = trainable(model)
    space = Space.of(values)
    weights_D = space.join({n: p.detach() for n, p in values.items()})
    *before, last = PRESETS[preset].plan(STEPS).phases
    views: Reads = {}
    for phase in before:
        pipeline = BoundPipeline(phase.pipeline, space, views)
        states = pipeline.begin(PhaseContext(space, weights_D, phase.steps, 0))
        views = pipeline.views(_as_if_learnt(states, space.size))
    pipeline = BoundPipeline(last.pipeline, space, views)
    states = pipeline.begin(PhaseContext(space, weights_D, last.steps, 0))
    return LastPhase(pipeline, states, Clock(0, last.steps))


def _as_if_learnt(states: Mapping[str, Mapping[str, Tensor]], size: int) -> States:
    """The states of an earlier phase with scores that rank something."""
    draw = torch.Generator().manual_seed(0)
    return {
        name: {
            key: torch.rand(size, generator=draw, dtype=v.dtype)
            if v.is_floating_point() and v.numel() == size
            else v
            for key, v in state.items()
        }
        for name, state in states.items()
    }


def opacus(mode: str) -> Prepare:
    """Opacus's plain DP-SGD: per-record gradients by hooks, or ghost clipping."""

    def prepare(net: Net, batch: int) -> Step:
        from opacus import PrivacyEngine
        from torch.utils.data import DataLoader, TensorDataset

        model = net.make()
        x, y = net.batch(batch)
        loader = DataLoader(TensorDataset(x, y), batch_size=batch)
        made = PrivacyEngine(accountant="rdp").make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), RATE),
            data_loader=loader,
            criterion=nn.CrossEntropyLoss(),
            noise_multiplier=MULTIPLIER,
            max_grad_norm=BOUND,
            poisson_sampling=False,
            grad_sample_mode=mode,
        )
        module, optimizer = made[0], made[1]
        criterion = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

        def step(microbatch: int) -> None:
            optimizer.zero_grad()
            parts = list(pieces(x, y, microbatch))
            for k, (x_B, y_B) in enumerate(parts):
                optimizer.signal_skip_step(k + 1 < len(parts))
                criterion(module(x_B), y_B).backward()
                optimizer.step()
                optimizer.zero_grad()

        return step

    return prepare


def backpack(net: Net, batch: int) -> Step:
    """BackPACK's rows with the published arithmetic of AdaDPIGU: mask, centre, scale, clip."""
    import backpack as library
    from backpack.extensions import BatchGrad

    model = library.extend(net.make())
    criterion = library.extend(nn.CrossEntropyLoss(reduction="sum"))
    x, y = net.batch(batch)
    parameters = list(model.parameters())
    draw = torch.Generator().manual_seed(0)
    masks = [torch.rand(p.shape, generator=draw) < 0.6 for p in parameters]
    means = [torch.zeros_like(p) for p in parameters]
    spreads = [torch.ones_like(p) for p in parameters]

    def step(microbatch: int) -> None:
        totals = [torch.zeros_like(p) for p in parameters]
        for x_B, y_B in pieces(x, y, microbatch):
            model.zero_grad()
            with library.backpack(BatchGrad()):
                criterion(model(x_B), y_B).backward()
            rows = []
            for p, mask, mean, spread in zip(parameters, masks, means, spreads, strict=True):
                rows.append((p.grad_batch * mask - mean) / (spread.sqrt() + 1e-8))
                del p.grad_batch
            norms = torch.stack([row.flatten(1).norm(dim=1) for row in rows]).norm(dim=0)
            factors = (BOUND / norms).clamp(max=1)
            for total, row in zip(totals, rows, strict=True):
                total += torch.einsum("b,b...->...", factors, row)
        with torch.no_grad():
            for p, total, mean, spread in zip(parameters, totals, means, spreads, strict=True):
                noisy = (total + MULTIPLIER * BOUND * torch.randn_like(total)) / batch
                restored = noisy * (spread.sqrt() + 1e-8) + mean
                spread.mul_(0.999).add_(0.001 * (restored - mean) ** 2)
                mean.mul_(0.9).add_(0.1 * restored)
                p -= RATE * restored

    return step


IMAGES = ("mnist", "cifar", "wrn")
LAST = torch.channels_last
CONTENDERS = (
    Contender("non-private", "autograd", "torch", non_private()),
    Contender("non-private", "channels last", "torch", non_private(LAST), nets=IMAGES),
    Contender("dpsgd", "ghost", "dpigu", ours("dpsgd", True)),
    Contender("adadpigu", "ghost", "dpigu", ours("adadpigu", True)),
    Contender("dpsgd", "materialising", "dpigu", ours("dpsgd", False), matrices=4),
    Contender("adadpigu", "materialising", "dpigu", ours("adadpigu", False), matrices=4),
    Contender("dpsgd", "hooks", "opacus", opacus("hooks"), "opacus", 3),
    Contender("dpsgd", "ghost", "opacus", opacus("ghost"), "opacus"),
    Contender("adadpigu", "batch gradients", "backpack", backpack, "backpack", 4, SEQUENTIAL),
    Contender("dpsgd", "compiled", "jax_privacy", compiled, "jax_privacy", 3, SEQUENTIAL),
)
