"""The nets that the benchmark runs, and batches of made-up records for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from dpigu.trainers.data import SPECS
from dpigu.trainers.models.registry import build_model
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY, LENGTH, WIDTH, HEADS = 1000, 128, 128, 4


def mlp() -> nn.Module:
    """Three layers of width 2048 over 784 inputs."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 2048),
        nn.ReLU(),
        nn.Linear(2048, 2048),
        nn.ReLU(),
        nn.Linear(2048, 10),
    )


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each after a norm and around a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (f(y).unflatten(2, (HEADS, -1)).transpose(1, 2) for f in self.projections())
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value


class Transformer(nn.Module):
    """An encoder of two blocks over 128 tokens; classifies their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.table(x))).mean(1))


class Wide(nn.Module):
    """A pre-activation residual block with group norm (Zagoruyko and Komodakis 2016)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(16, channels), nn.GroupNorm(16, out)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        same = channels == out and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        return self.short(y) + self.conv2(F.relu(self.norm2(self.conv1(y))))


def wrn() -> nn.Module:
    """WRN-16-4 with group norm: 2.7 million parameters."""
    blocks: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for out, stride in ((64, 1), (128, 2), (256, 2)):
        blocks += [Wide(channels, out, stride), Wide(out, out, 1)]
        channels = out
    end = [nn.GroupNorm(16, channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, *end, nn.Linear(channels, 10))


@dataclass(frozen=True)
class Net:
    """A model and its made-up records; `tokens` for integer inputs."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: int = 0

    def make(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build()

    def batch(self, records: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(1)
        if self.tokens:
            x = torch.randint(self.tokens, (records, *self.shape), generator=draw)
        else:
            x = torch.randn((records, *self.shape), generator=draw)
        return x, torch.randint(10, (records,), generator=draw)


NETS: Mapping[str, Net] = {
    "mnist": Net(lambda: build_model("paper-mnist-cnn", SPECS["mnist"], 0), (1, 28, 28)),
    "cifar": Net(lambda: build_model("paper-cifar-cnn", SPECS["cifar10"], 0), (3, 32, 32)),
    "mlp": Net(mlp, (784,)),
    "transformer": Net(Transformer, (LENGTH,), VOCABULARY),
    "wrn": Net(wrn, (3, 32, 32)),
}
