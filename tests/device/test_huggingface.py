"""Models of `transformers` on a device: the host waits for nothing, in full and with adapters.

An attention mask is given: without one the library looks at the positions in every call.
"""

from __future__ import annotations

import pytest
import torch
from dpigu.mechanisms import dpsgd
from dpigu.trainers.data.making import data_from

from tests.support.depth import DEEP
from tests.support.device.watched_runs import HELD, N, settings_for, watched
from tests.support.zoo.hf_zoo import CAUSAL, LENGTH, VOCABULARY, made

CASES = [("gpt2", True), *((name, False) for name in CAUSAL)] if DEEP else [("gpt2", True)]


@pytest.mark.deep
@pytest.mark.parametrize(("name", "lora"), CASES)
def test_a_language_model_waits_for_nothing(name: str, lora: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCABULARY, (N + HELD, LENGTH), generator=draw)
    train, test = ids[:N], ids[N:]
    data = data_from(
        train=({"input_ids": train, "attention_mask": torch.ones_like(train)}, train),
        test=({"input_ids": test, "attention_mask": torch.ones_like(test)}, test),
        records=N,
        classes=VOCABULARY,
        task="causal-lm",
    )
    for step in watched(dpsgd(2), data, made(name, lora), settings_for(physical_batch=8)):
        assert not step.counts.mixed
        assert not step.number or not step.counts.waits
