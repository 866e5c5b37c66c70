"""SST-2 with a small transformer that is trained privately from scratch.

Words go to one of 2,048 rows of an embedding by a fixed hash, so no vocabulary is made of private
sentences. The model is BERT's from a configuration: one layer, width 32.

    python examples/text/sst2_transformer.py --data-dir DATA --epsilon 8 inf
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
import transformers
from datasets import Dataset
from files import asked, claim, sst2, trained
from numpy.typing import NDArray

import dpigu

RECORDS, STEPS, ROWS, LENGTH = 6_920, 100, 2_048, 32


def main() -> None:
    args = asked(__doc__, 8.0, math.inf)
    data = dpigu.data_from(
        train=tokenised(*sst2(args.data_dir, "train")),
        test=tokenised(*sst2(args.data_dir, "dev")),
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
            small_bert(),
            accountant="prv",
            expected_batch=512,
            optimizer="adam",
            learning_rate=3e-3,
            evaluations=1,
        )
        print(
            f"{claim(found)}: accuracy {found['test_accuracy']:.2%}",
            flush=True,
        )


def tokenised(sentences: list[str], labels: NDArray[np.int64]) -> Dataset:
    """A row of the embedding for each word, by a public hash; row 0 pads."""
    ids = [[1 + zlib.crc32(word.encode()) % (ROWS - 1) for word in s.split()] for s in sentences]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def small_bert() -> torch.nn.Module:
    """Untrained, without dropout."""
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=ROWS,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


if __name__ == "__main__":
    main()
