"""SST-2 with a small transformer on frozen word vectors that a package ships.

The vectors (32,000 × 256) and their tokenizer come in the wheel of `wordllama` (MIT licence) and
are public. What trains is a map of them to width 32, one layer of a transformer and a linear
head: 16,834 weights. A sentence is cut or padded to 48 tokens.

    pip install wordllama
    python examples/text/sst2_transformer.py --data-dir DATA --epsilon 8 inf

The learning rate was chosen at ε = 8 by the accuracy on the test split of SST-2, less the two
sentences that it shares with the training split: 73.7% at 0.003, 75.9% at 0.01. Nothing trains on
that split; what is reported is of the development split.
"""

from __future__ import annotations

import math

import torch
from files import asked, claim, sst2, trained, word_vectors
from tokenizers import Tokenizer
from torch import Tensor, nn

import dpigu

RECORDS, STEPS, LENGTH, WIDTH = 6_920, 100, 48, 32


class Reader(nn.Module):
    """A transformer's layer over narrowed word vectors, and the mean of what is no padding."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Embedding.from_pretrained(table)
        self.narrow = nn.Linear(table.shape[1], WIDTH)
        self.layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        x = self.layer(self.narrow(self.vectors(ids)), src_key_padding_mask=~real)
        share = real[..., None] / real.sum(-1)[..., None, None].clamp(min=1)
        scores: Tensor = self.head((x * share).sum(-2))
        return scores


def main() -> None:
    args = asked(__doc__, 8.0, math.inf)
    table, tokenizer = word_vectors()
    data = dpigu.data_from(
        train=tokens(tokenizer, *sst2(args.data_dir, "train")),
        test=tokens(tokenizer, *sst2(args.data_dir, "dev")),
        records=RECORDS,
        classes=2,
        name="sst2",
        pad_to=LENGTH,
    )
    for epsilon in args.epsilon:
        torch.manual_seed(0)
        found = trained(
            dpigu.dpsgd(STEPS),
            dpigu.non_private(STEPS),
            epsilon,
            args.out,
            data,
            Reader(table),
            accountant="prv",
            expected_batch=1_024,
            optimizer="adam",
            learning_rate=0.01,
            schedule="cosine",
            evaluations=1,
        )
        print(f"{claim(found)}: accuracy {found['test_accuracy']:.2%}", flush=True)


def tokens(tokenizer: Tokenizer, sentences: list[str], labels: object) -> tuple[object, object]:
    """The tokens of every sentence, without special ones, beside its label."""
    return [tokenizer.encode(s, add_special_tokens=False).ids for s in sentences], labels


if __name__ == "__main__":
    main()
