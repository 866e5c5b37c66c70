"""What the runs on text read, and how: SST-2 and the E2E descriptions, as the user has them."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dpigu.trainers.data.files import data_folder
from numpy.typing import NDArray
from safetensors.numpy import load
from tokenizers import Tokenizer
from torch import Tensor

import dpigu

DELTA = 1e-5
BYTES, PAD = 257, 256
"""The vocabulary of bytes, and what pads it."""


def asked(says: str | None, *epsilons: float) -> argparse.Namespace:
    """What every run is told: where the data is, and the ε of each run."""
    parser = argparse.ArgumentParser(
        description=says, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="where sst2/ and e2e/ lie; or DPIGU_DATA")
    parser.add_argument(
        "--epsilon", type=float, nargs="+", default=epsilons, help="one run each; inf: no noise"
    )
    parser.add_argument("--out", type=Path, help="a folder for the run folders")
    return parser.parse_args()


def trained(
    plan: dpigu.Plan,
    free: dpigu.Plan,
    epsilon: float,
    out: Path | None,
    *given: Any,
    **settings: Any,
) -> Mapping[str, Any]:
    """The summary of a run at this ε, or of one without clipping and noise."""
    private = epsilon < math.inf
    chosen = dpigu.Settings(epsilon=epsilon if private else None, delta=DELTA, **settings)
    folder = None if out is None else out / f"{epsilon:g}"
    run = dpigu.train(plan if private else free, *given, chosen, out=folder, progress=False)
    return run.summary


def claim(summary: Mapping[str, Any]) -> str:
    """What a run claims."""
    epsilon = summary["claimed_epsilon"]
    return "no noise, no claim" if epsilon is None else f"ε = {epsilon:.3f}, δ = {DELTA:g}"


def sst2(folder: Path | None, split: str) -> tuple[list[str], NDArray[np.int64]]:
    """Sentences and their labels, 1 for praise (Socher et al. 2013)."""
    lines = (data_folder(folder) / "sst2" / f"{split}.tsv").read_text().splitlines()
    sentences, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    return list(sentences), np.array(labels, dtype=np.int64)


def word_vectors() -> tuple[Tensor, Tokenizer]:
    """The table of static vectors, 32,000 × 256, that the wheel of `wordllama` ships, and its
    tokenizer; none of its code runs."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise SystemExit("The vectors come with a package: pip install wordllama")
    files = Path(spec.origin).parent
    weights = load((files / "weights" / "l2_supercat_256.safetensors").read_bytes())
    table = torch.from_numpy(weights["embedding.weight"].astype(np.float32))
    text = (files / "tokenizers" / "l2_supercat_tokenizer_config.json").read_text()
    return table, Tokenizer.from_str(text)


def descriptions(folder: Path | None, name: str) -> list[str]:
    """Sentences that describe a restaurant (Novikova et al. 2017)."""
    with (data_folder(folder) / "e2e" / name).open(newline="") as file:
        return [row["ref"] for row in csv.DictReader(file)]


def as_bytes(sentences: list[str], length: int) -> NDArray[np.int64]:
    """Every sentence as its first `length` bytes, padded."""
    ids = np.full((len(sentences), length), PAD, dtype=np.int64)
    for row, sentence in zip(ids, sentences, strict=True):
        found = np.frombuffer(sentence.encode()[:length], dtype=np.uint8)
        row[: len(found)] = found
    return ids
