"""SST-2 on static word embeddings that a package ships: their mean, and a linear model under DP.

The table (32,000 × 256, frozen) and its tokenizer come in the wheel of `wordllama` (MIT licence);
nothing is downloaded. A sentence's vector depends on that sentence alone, so the privacy of the
run is that of DP-SGD on the 514 weights of the linear model.

    pip install wordllama
    python examples/text/sst2_vectors.py --data-dir DATA --epsilon 1 2 4 inf
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from files import asked, claim, sst2, trained, word_vectors
from torch import Tensor

import dpigu

RECORDS = 6_920


def main() -> None:
    args, embed = asked(__doc__, 1.0, 2.0, 4.0, math.inf), vectors()
    train, test = sst2(args.data_dir, "train"), sst2(args.data_dir, "dev")
    data = dpigu.data_from(
        train=(embed(train[0]), train[1]),
        test=(embed(test[0]), test[1]),
        records=RECORDS,
        classes=2,
        name="sst2",
    )
    for epsilon in args.epsilon:
        model = torch.nn.Linear(256, 2)
        torch.nn.init.zeros_(model.weight)
        found = trained(
            dpigu.dpsgd(120),
            dpigu.non_private(120),
            epsilon,
            args.out,
            data,
            model,
            accountant="prv",
            expected_batch=1_024,
            learning_rate=4.0,
            evaluations=1,
        )
        print(
            f"{claim(found)}: accuracy {found['test_accuracy']:.2%}",
            flush=True,
        )


def vectors() -> Callable[[list[str]], Tensor]:
    """From sentences to the mean of their tokens' vectors, in length 1: N × 256."""
    table, tokenizer = word_vectors()

    def embed(sentences: list[str]) -> Tensor:
        ids = (tokenizer.encode(s, add_special_tokens=False).ids for s in sentences)
        means = torch.stack([table[torch.tensor(i)].mean(0) for i in ids])
        return torch.nn.functional.normalize(means)

    return embed


if __name__ == "__main__":
    main()
