"""Sentences of film reviews (SST-2) as hashed words and pairs of words: sparse rows, many columns.

A coordinate is 1/√(how many are set) where a word or a pair of neighbours falls on it, 0 elsewhere.
Where one falls is CRC-32 of its letters: a public constant, so no vocabulary is read from records.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

import torch
from dpigu.dpcore import DataError
from dpigu.trainers.data import Data, DataSpec, Tensors
from dpigu.trainers.data.files import data_folder
from dpigu.trainers.data.scaling import Scaling
from torch import Tensor, nn

COLUMNS = 2**13


def reviews() -> Data:
    """Return 6,920 sentences, and the test split without those that equal one of them."""
    (train_x, train_y), (test_x, test_y) = labelled("train"), labelled("test")
    known = {row.numpy().tobytes() for row in train_x}
    other = torch.tensor([row.numpy().tobytes() not in known for row in test_x])
    spec = DataSpec("reviews", len(train_x), 2, (COLUMNS,), Scaling())
    return Data(spec, Tensors(train_x, train_y), Tensors(test_x[other], test_y[other]))


def without_bias(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A linear model whose rows are of words alone: a bias would be half of a row's norm."""
    return nn.Linear(shape[0], outputs, bias=False)


def public_sentences() -> Data:
    """Return the 872 sentences of the dev split, which are taken to be public, without labels."""
    x, _ = labelled("dev")
    spec = DataSpec("reviews-dev", len(x), 2, (COLUMNS,), Scaling())
    none = Tensors(x[:0], torch.zeros(0, dtype=torch.long))
    return Data(spec, Tensors(x, torch.zeros(len(x), dtype=torch.long)), none)


def labelled(name: str) -> tuple[Tensor, Tensor]:
    """The sentences of a split (train, dev or test) and their labels."""
    path = data_folder(None) / "sst2" / f"{name}.tsv"
    if not path.is_file():
        raise DataError(
            "SST-2 is missing",
            where=str(path),
            expected="a sentence, a tab and its label (0 or 1) on every line",
            remedy="Name the folder in which `sst2` lies: DPIGU_DATA=FOLDER.",
        )
    lines = path.read_text().splitlines()
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
