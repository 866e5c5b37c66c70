"""A small causal language model on the E2E descriptions: LoRA under DP on a frozen base.

The base is a GPT-2 of two layers and width 64 over bytes, pre-trained here for 120 steps
without privacy on the sentences of SST-2, which this run takes to be public: film reviews, so it
knows English spelling and nothing of restaurants. The adapters (rank 8 on every linear layer) are
all that trains on the descriptions. A record is one description; about eight of them describe the
same restaurant, and the claim is for one.

    python examples/text/e2e_lora.py --data-dir DATA --epsilon 8 inf
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import peft
import torch
import transformers
from dpigu.trainers.evaluation import measure
from files import BYTES, PAD, as_bytes, asked, claim, descriptions, sst2, trained
from numpy.typing import NDArray
from torch import Tensor, nn

import dpigu

RECORDS, LENGTH, HELD_OUT, STEPS = 4_672, 128, 200, 30


def main() -> None:
    args = asked(__doc__, 8.0, math.inf)
    base = pretrained(torch.from_numpy(as_bytes(sst2(args.data_dir, "train")[0], LENGTH)))
    train, test = (
        as_bytes(descriptions(args.data_dir, name), LENGTH)
        for name in ("devset.csv", "testset_w_refs.csv")
    )
    test = test[:: len(test) // HELD_OUT][:HELD_OUT]
    data = dpigu.data_from(
        train=records(train),
        test=records(test),
        records=RECORDS,
        classes=BYTES,
        task="causal-lm",
        name="e2e",
    )
    print(f"base, nothing trained: perplexity {perplexity(base, data):.3} a byte", flush=True)
    for epsilon in args.epsilon:
        found = trained(
            dpigu.dpsgd(STEPS),
            dpigu.non_private(STEPS),
            epsilon,
            args.out,
            data,
            adapted(base),
            accountant="prv",
            expected_batch=96,
            optimizer="adam",
            learning_rate=5e-3,
            schedule="linear",
            evaluations=1,
        )
        told = f"perplexity {found['test_perplexity']:.2f} a byte"
        print(f"{claim(found)}: {told}", flush=True)


def records(ids: NDArray[np.int64]) -> tuple[dict[str, Any], Any]:
    """Tokens by name with their mask, and the tokens as targets; padding counts for nothing."""
    real = ids != PAD
    x = {"input_ids": ids, "attention_mask": real.astype("int64")}
    return x, ids * real - 100 * ~real


def pretrained(ids_NT: Tensor) -> nn.Module:
    """The base, trained on public sentences by plain Adam."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=BYTES, n_embd=64, n_layer=2, n_head=4, n_positions=LENGTH,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=PAD, eos_token_id=PAD,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        ids = ids_NT[torch.randint(len(ids_NT), (16,))]
        loss = model(input_ids=ids, labels=torch.where(ids == PAD, -100, ids)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def adapted(base: nn.Module) -> nn.Module:
    """A copy of the base, frozen, with fresh adapters."""
    torch.manual_seed(1)
    layers = ["c_attn", "c_proj", "c_fc"]
    config = peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=layers, fan_in_fan_out=True, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(copy.deepcopy(base), config)


def perplexity(model: nn.Module, data: dpigu.Data) -> float | None:
    """On held-out records."""
    return measure(model, data, data.spec.task.metrics).values["perplexity"]


if __name__ == "__main__":
    main()
