"""Canary sentences in a language model: plant them, train, and read their exposure.

    python examples/audit_sentences.py [FOLDER]

A small character model reads a text with two hundred made-up sentences, half of them by coins, and
many times over. What it remembers of them contradicts a claim of ε = 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import dpigu

NONE = -100


class Characters(nn.Module):
    """Logits of each next character, by a GRU."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(128, width), nn.Linear(width, 128)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.embedding(x))[0])


def text(path: Path) -> Path:
    """A hundred lines that any text may have."""
    kinds = [f"Room {i} is on floor {i % 7} of the house." for i in range(100)]
    path.write_text("\n".join(kinds))
    return path


def tokens(lines: list[str]) -> tuple[Tensor, Tensor]:
    """Characters and those that come next, a row a line, padded."""
    codes = [torch.tensor([0, *line.encode("ascii")]) for line in lines]
    rows = nn.utils.rnn.pad_sequence(codes, batch_first=True, padding_value=NONE)
    return rows[:, :-1].clamp(min=0), rows[:, 1:]


def trained(lines: list[str], epochs: int) -> Characters:
    """Somebody else's training, without any privacy."""
    model, (x, y) = Characters(), tokens(lines)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            logits = model(x[batch])
            nn.functional.cross_entropy(logits.flatten(0, 1), y[batch].flatten()).backward()
            optimizer.step()
    return model


def log_probabilities(model: Characters, lines: list[str]) -> np.ndarray:
    """Of every character of each line, NaN beyond its end."""
    x, y = tokens(lines)
    with torch.no_grad():
        each = model(x).log_softmax(-1).gather(-1, y.clamp(min=0)[..., None])[..., 0]
    return np.asarray(each.masked_fill(y == NONE, torch.nan))


def main(folder: Path, canaries: int = 200, epochs: int = 60) -> dpigu.Verdict:
    planted = dpigu.plant(text(folder / "text.txt"), canaries, folder / "audit")
    model = trained(planted.train.read_text().splitlines(), epochs)
    scored = log_probabilities(model, planted.canaries.read_text().splitlines())
    np.savez(folder / "scores.npz", canary=np.arange(canaries), log_probabilities=scored)
    audit = dpigu.audit_planted(
        folder / "audit", folder / "scores.npz", claim_epsilon=1.0, delta=1e-5
    )
    print(audit.report.headline)
    print(audit.report.sentence)
    for fact in audit.data["facts"]:
        print(f"{fact['name']}: {fact['value']}")
    return audit.report.verdict


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("sentences-audit")
    place.mkdir(parents=True, exist_ok=True)
    main(place)
