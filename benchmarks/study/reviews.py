"""Sentences of film reviews (SST-2) as hashed words and pairs of words: sparse rows, many columns.

A coordinate is 1/√(how many are set) where a word or a pair of neighbours falls on it, 0 elsewhere.
Where one falls is CRC-32 of its letters: a public constant, so no vocabulary is read from records.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, State
from dpigu.trainers.data import Data, DataSpec, Tensors
from dpigu.trainers.data.files import data_folder
from dpigu.trainers.data.scaling import Scaling
from torch import Tensor, nn

COLUMNS = 2**13


def reviews() -> Data:
    """Return 6,920 sentences, and the test split without those that equal one of them."""
    (train_x, train_y), (test_x, test_y) = _split("train"), _split("test")
    known = {row.numpy().tobytes() for row in train_x}
    other = torch.tensor([row.numpy().tobytes() not in known for row in test_x])
    spec = DataSpec("reviews", len(train_x), 2, (COLUMNS,), Scaling())
    return Data(spec, Tensors(train_x, train_y), Tensors(test_x[other], test_y[other]))


def without_bias(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A linear model whose rows are of words alone: a bias would be half of a row's norm."""
    return nn.Linear(shape[0], outputs, bias=False)


@dataclass(frozen=True, kw_only=True)
class PublicWords:
    """How often a column's words are in 872 sentences that are taken to be public.

    s_j = Σ x_j² over the sentences of SST-2's dev split, for every class alike; of no label

    Errors: `ValueError` unless the model is `without_bias`.
    Privacy: reads sentences that are neither in the training nor in the test split, and nothing of
    a record.
    """

    def init(self, context: PhaseContext, reads: Reads) -> State:
        energy_D = public_energy()
        classes, rest = divmod(context.space.size, len(energy_D))
        if rest:
            raise ValueError(f"got {context.space.size} weights, expected some for each word alone")
        return {"score_D": energy_D.repeat(classes).to(context.weights_D.device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def score(self, state: State) -> Tensor:
        return state["score_D"]


@lru_cache(1)
def public_energy() -> Tensor:
    """Σ x_j² of every column over SST-2's dev split, which is taken to be public."""
    return _split("dev")[0].square().sum(0, dtype=torch.float64)


def _split(name: str) -> tuple[Tensor, Tensor]:
    lines = (data_folder(None) / "sst2" / f"{name}.tsv").read_text().splitlines()
    pairs = [line.rsplit("\t", 1) for line in lines]
    x = torch.stack([_row(sentence) for sentence, _ in pairs])
    return x, torch.tensor([int(label) for _, label in pairs])


def _row(sentence: str) -> Tensor:
    words = sentence.split()
    said = {*words, *(" ".join(pair) for pair in pairwise(words))}
    at = sorted({zlib.crc32(text.encode()) % COLUMNS for text in said})
    x_D = torch.zeros(COLUMNS)
    x_D[at] = len(at) ** -0.5
    return x_D
