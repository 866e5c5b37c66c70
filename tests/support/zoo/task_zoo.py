"""Small models, records and data sets for the table of tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

N, HELD, WIDTH, VOCABULARY, LENGTH = 40, 12, 6, 11, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N + HELD, WIDTH)).astype(np.float32)
IDS = RNG.integers(0, VOCABULARY, (N + HELD, LENGTH))
IDS[:, :2] = np.stack(np.divmod(np.arange(N + HELD), VOCABULARY), axis=1)  # no two are the same
LABELS = (X[:, 0] > 0).astype(np.int64)


class Tokens(nn.Module):
    """One row of logits a token; with a mask, masked positions are not seen."""

    def __init__(self, outputs: int = VOCABULARY) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, 4), nn.Linear(4, outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        hidden = self.table(input_ids)
        if attention_mask is not None:
            hidden = hidden * attention_mask[..., None]
        return self.head(hidden.cumsum(1))


class Named(Tokens):
    """The same, with its logits in a dict, as Hugging Face's models have them."""

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"logits": super().forward(**inputs)}


class Pooled(Tokens):
    """One row of logits a sequence."""

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(*inputs, **named).mean(1)


class Translator(nn.Module):
    """From source and target tokens to logits of the next target token."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.head = nn.Embedding(VOCABULARY, 4), nn.Linear(4, VOCABULARY)
        self.target = nn.Embedding(VOCABULARY, 4)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.target(target) + self.source(source).mean(1, keepdim=True))


class Two(nn.Module):
    """Numbers and tokens together."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, numbers: Tensor, tokens: Tensor) -> Tensor:
        return self.mix(numbers + self.table(tokens).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(1, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x[..., None])[0][:, -1])


class Branching(nn.Module):
    """vmap cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, 2), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x) if x.sum() > 0 else self.two(x) + 0 * self.one(x)


class Items(Dataset[Any]):
    """A map-style data set of pairs."""

    def __init__(self, *columns: Any) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, i: int) -> Any:
        return tuple(column[i] for column in self.columns)


class Rows(Items):
    """Items are dicts, and several are asked for at once, as in Hugging Face's data sets."""

    def __getitems__(self, at: list[int]) -> list[dict[str, Any]]:
        return [self[i] for i in at]

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": self.columns[0][i].tolist(), "labels": int(self.columns[1][i])}


class Restless(Items):
    """Another record every time."""

    def __getitem__(self, i: int) -> Any:
        return self.columns[0][i] + np.random.normal(size=WIDTH), self.columns[1][i]


def both(*columns: Any) -> dict[str, Any]:
    """The two splits of columns, which may be trees."""
    return {"train": cut(columns, slice(N)), "test": cut(columns, slice(N, None))}


def cut(tree: Any, at: slice) -> Any:
    """A part of every column in a tree."""
    if isinstance(tree, tuple):
        return tuple(cut(part, at) for part in tree)
    if isinstance(tree, dict):
        return {key: cut(part, at) for key, part in tree.items()}
    return tree[at]


def items(kind: Callable[..., Any], *columns: Any) -> dict[str, Any]:
    """The two splits as data sets."""
    return {"train": kind(*(c[:N] for c in columns)), "test": kind(*(c[N:] for c in columns))}


def mapped(folder: Path, *columns: np.ndarray) -> dict[str, Any]:
    """The two splits in memory maps."""
    found = []
    for i, column in enumerate(columns):
        np.save(folder / f"{i}.npy", column)
        found.append(np.load(folder / f"{i}.npy", mmap_mode="r"))
    return both(*found)


def images(folder: Path) -> dict[str, Any]:
    """Two folders of images of two classes."""
    for split, count in (("train", 8), ("test", 3)):
        for label in ("cats", "dogs"):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}.png")
    return {"train": folder / "train", "test": folder / "test"}


def ragged(targets: Callable[[list[int]], Any]) -> dict[str, Any]:
    """Lists of sequences of several lengths, and what is asked of each."""
    sequences = [row[: 2 + i % (LENGTH - 1)].tolist() for i, row in enumerate(IDS)]
    return both(sequences, [targets(s) for s in sequences])


def image_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2))


def linear(outputs: int = 2, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(WIDTH, outputs, **options)


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
    net[2].weight = net[0].weight
    return net


def spoilt(column: np.ndarray, value: float) -> np.ndarray:
    changed = column.copy()
    changed.reshape(-1)[7] = value
    return changed


def bce(outputs: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], y.float())


def regression_and_label(outputs: Tensor, y: dict[str, Tensor]) -> Tensor:
    error = (outputs[:, 0] - y["value"]).square().mean()
    return error + nn.functional.cross_entropy(outputs, y["label"])


def len_parity(sequence: list[int]) -> int:
    return len(sequence) % 2
