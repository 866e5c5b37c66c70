"""What ranks do with a model that FSDP2 shards over them; a process alone has the whole model."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from dpigu.dpcore import DpiguError, Phase, Pipeline, Plan, Space, Transform
from dpigu.mechanisms import Flat, Gaussian, LossChange
from dpigu.trainers import Data, DataSpec, Session, Settings, Tensors, recipe_for, train
from dpigu.trainers.data import Scaling
from dpigu.trainers.distributed import all_whole, own
from dpigu.trainers.engines import GhostEngine, Norms, trainable
from dpigu.trainers.engines.layers import ParameterRows, kinds
from dpigu.trainers.engines.layers.kinds import Seen
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F

from tests.support.laws.data import settings_of
from tests.trainers.distributed.cases import OwnShare, no_pictures

WIDTH, TOKENS, LENGTH, RECORDS = 6, 7, 5, 9
EVERYONE = replace(
    settings_of(), expected_batch=None, rate=1.0, physical_batch=2, optimizer="adam", evaluations=1
)
"""Nine records on two ranks, two at a time: three microbatches on one, and two on the other."""


class Adapted(nn.Module):
    """A frozen linear map beside a trainable one of rank 2 (LoRA)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.frozen = nn.Linear(size, size)
        self.down, self.up = nn.Linear(size, 2, bias=False), nn.Linear(2, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.frozen(x) + self.up(self.down(x))
        return added


class Block(nn.Module):
    """Attention and a layer after it, beside what they read."""

    def __init__(self, lora: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q: nn.Module = Adapted(WIDTH) if lora else nn.Linear(WIDTH, WIDTH)
        self.k, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        h = F.scaled_dot_product_attention(self.q(h), self.k(h), h)
        return x + F.gelu(self.out(h))


class Transformer(nn.Module):
    """Two blocks over tokens, and the class of a sequence."""

    def __init__(self, lora: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.ModuleList(Block(lora) for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)
        if lora:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_("down" in name or "up" in name)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x.mean(-2))
        return out


def plain(lora: bool) -> Transformer:
    """The model, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Transformer(lora)


def transformer(lora: bool) -> nn.Module:
    """The same, sharded where several ranks are."""
    return sharded(plain(lora)) if dist.is_initialized() else plain(lora)


def sharded(model: Transformer) -> nn.Module:
    """Its blocks, its head, and what is left: a layer may be a group by itself."""
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model.head)
    fully_shard(model)
    return model


def sequences(records: int = RECORDS) -> Data:
    """Sequences of tokens in three classes, and four that are held out."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randint(TOKENS, (records + 4, LENGTH), generator=draw)
    y = x.sum(1) % 3
    spec = DataSpec("sequences", records, 3, (LENGTH,), Scaling())
    return Data(spec, Tensors(x[:records], y[:records]), Tensors(x[records:], y[records:]))


def plan_of(pipeline: Pipeline, steps: int = 3) -> Plan:
    return Plan((Phase("main", pipeline, steps),))


DPSGD = Pipeline(Flat(bound=1.0), Gaussian())


def noise_of(seed: int) -> OwnShare:
    joined = dist.is_initialized()
    rank, size = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
    return OwnShare(seed, rank, size)


def begun(lora: bool, out: Path, seed: int) -> None:
    """A loop of one's own that stops after two of three steps."""
    given = (plan_of(DPSGD), sequences(), transformer(lora), EVERYONE)
    with no_pictures(), Session(*given, out=out, noise=noise_of(seed)) as session:
        for step in session:
            step.apply()
            if step.number == 2:
                session.stop()


def gone_on(lora: bool, out: Path, seed: int) -> Told:
    """The last step."""
    given = {"data": sequences(), "model": transformer(lora), "noise": noise_of(seed)}
    with no_pictures(), Session.resume(out, **given) as session:
        for step in session:
            step.apply()
    assert session.reached == 3
    return told(session)


def trained(plan: Plan, settings: Settings, records: int = RECORDS) -> Told:
    """A run that nothing is kept of."""
    given = (plan, sequences(records), transformer(False), settings)
    with Session(*given, noise=noise_of(3)) as session:
        for step in session:
            step.apply()
    return told(session)


class Told(NamedTuple):
    """All weights, gathered; how many numbers this rank holds of them; and what the run says."""

    weights: Mapping[str, Tensor]
    held: int
    summary: Mapping[str, Any]


def told(session: Session) -> Told:
    parameters = {n: p.detach() for n, p in session.model.named_parameters()}
    held = sum(own(p).numel() for p in parameters.values())
    return Told(all_whole(parameters), held, dict(session.summary))


def rows(lora: bool) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Norms and a weighted sum of four records' rows on this rank, of the model in both forms."""
    x_B, y_B = sequences().train.read(np.arange(4))
    found = {}
    for form, model in {"whole": plain(lora), "sharded": sharded(plain(lora))}.items():
        weights = {n: p.detach() for n, p in trainable(model).items()}
        space, valid_B = Space.of(weights), torch.ones(4, dtype=torch.bool)
        engine = GhostEngine(model, F.cross_entropy, Norms(None, 1), 4)
        made = engine.rows(weights, x_B, y_B, valid_B, Transform(space, space, (), None))
        factors_BG = torch.linspace(0.5, 1.0, 4, dtype=torch.float64)[:, None]
        found[form] = (made.norm_upper_bounds(), made.weighted_sum(factors_BG))
    return found


class Bare(Transformer):
    """A parameter that no layer holds."""

    def __init__(self) -> None:
        super().__init__(False)
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = super().forward(tokens) * self.scale[:3]
        return out


def refusals() -> list[str]:
    """What is said of each model or plan that a sharded model cannot have."""
    precise = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    parts = Transformer(False)
    fully_shard(parts.head)
    loss = Pipeline(Flat(bound=1.0), Gaussian(), statistic=LossChange())
    tried: list[tuple[nn.Module, Plan, Settings]] = [
        (sharded(Bare()), plan_of(DPSGD), EVERYONE),
        (parts, plan_of(DPSGD), EVERYONE),
        (fully_shard(Transformer(False), mp_policy=precise), plan_of(DPSGD), EVERYONE),
        (sharded(Transformer(False)), plan_of(loss), EVERYONE),
        (sharded(Transformer(False)), plan_of(DPSGD), replace(EVERYONE, engine="one-by-one")),
        (sharded(Transformer(False)), plan_of(DPSGD), replace(EVERYONE, optimizer="muon")),
    ]
    said = []
    for model, plan, settings in tried:
        with pytest.raises(DpiguError) as refused:
            train(plan, sequences(), model, settings, progress=False)
        said.append(str(refused.value))
    return said


def wrong_rule() -> str:
    """What is said of a linear layer whose rule forgets half of the gradient."""
    rule = kinds.KNOWN[nn.Linear]["weight"]

    def half(layer: nn.Module, seen: Seen) -> ParameterRows:
        return rule(layer, replace(seen, b=seen.b / 2))

    rules = {**kinds.KNOWN, nn.Linear: {**kinds.KNOWN[nn.Linear], "weight": half}}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DpiguError) as refused:
        patch.setattr(kinds, "KNOWN", rules)
        trained(plan_of(DPSGD), EVERYONE)
    return str(refused.value)


def preset(name: str) -> Told | str:
    """Three steps of a preset: its end, or what is said of one that is refused."""
    noise = {} if name == "non-private" else {"noise_multiplier": 2.0}
    plan = recipe_for(name, "digits", steps=3, accountant="rdp", **noise).plan
    try:
        return trained(plan, replace(EVERYONE, **noise))
    except DpiguError as error:
        return str(error)


class Dying(Transformer):
    """A rank dies in its next forward after it was told to."""

    def forward(self, tokens: Tensor) -> Tensor:
        if "DIE_NEXT" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(tokens)


class TellsToDie(OwnShare):
    """The second rank's noise tells it to."""

    def words(self, count: int) -> NDArray[np.uint64]:
        if self.rank == 1:
            os.environ["DIE_NEXT"] = "1"
        return super().words(count)


def dying(out: Path) -> None:
    noise = TellsToDie(3, dist.get_rank(), dist.get_world_size())
    model = sharded(Dying(False))
    train(plan_of(DPSGD, 9), sequences(), model, EVERYONE, out=out, noise=noise, progress=False)
