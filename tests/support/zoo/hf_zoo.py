"""Tiny models of `transformers`, from configurations: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

EXTRA = "the extra hf is not installed: make setup-hf"
hf: Any = pytest.importorskip("transformers", reason=EXTRA)
peft: Any = pytest.importorskip("peft", reason=EXTRA)

VOCABULARY, LENGTH, WIDTH = 24, 6, 8
NAMES = {"vocab_size": VOCABULARY, "max_position_embeddings": 12}
HIDDEN = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
OFF = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def gpt2() -> nn.Module:
    """Causal, with a tied head and weights that lie transposed."""
    sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 12}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=VOCABULARY, **sizes, **off, **ends))


def llama() -> nn.Module:
    """Causal, with rotary positions and fewer keys than queries."""
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return hf.LlamaForCausalLM(hf.LlamaConfig(**NAMES, **HIDDEN, **ends, num_key_value_heads=1))


def bert() -> nn.Module:
    return hf.BertForSequenceClassification(hf.BertConfig(**NAMES, **HIDDEN, **OFF))


def roberta() -> nn.Module:
    config = hf.RobertaConfig(**NAMES, **HIDDEN, **OFF, pad_token_id=1)
    return hf.RobertaForSequenceClassification(config)


def vit() -> nn.Module:
    sizes = {"image_size": 4, "patch_size": 2, "num_channels": 1}
    return hf.ViTForImageClassification(hf.ViTConfig(**HIDDEN, **OFF, **sizes))


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "gpt2": gpt2,
    "llama": llama,
    "bert": bert,
    "roberta": roberta,
    "vit": vit,
}
ADAPTED = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"]}
CAUSAL = ("gpt2", "llama")


def made(name: str, lora: bool, seed: int = 0) -> nn.Module:
    """A model of that name; with LoRA its base is frozen and both factors are random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS[name]()
        if not lora:
            return model
        causal = name in CAUSAL
        targets = ADAPTED.get(name, ["q_proj", "v_proj"] if name == "vit" else ["query", "value"])
        config = peft.LoraConfig(
            r=2,
            target_modules=targets,
            task_type="CAUSAL_LM" if causal else None,
            modules_to_save=None if causal else ["classifier"],
            init_lora_weights=False,
        )
        return peft.get_peft_model(model, config)


def records(name: str, count: int = 4, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Records that the model takes by name, sequences of several lengths padded; and targets."""
    draw = torch.Generator().manual_seed(seed)
    labels_B = torch.randint(2, (count,), generator=draw)
    if name == "vit":
        return {"pixel_values": torch.randn(count, 1, 4, 4, generator=draw)}, labels_B
    ids_BT = torch.randint(2, VOCABULARY, (count, LENGTH), generator=draw)
    length_B = torch.tensor([LENGTH - i % 3 for i in range(count)])
    mask_BT = torch.arange(LENGTH) < length_B[:, None]
    ids_BT = torch.where(mask_BT, ids_BT, 1)
    x: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": mask_BT.long()}
    return x, torch.where(mask_BT, ids_BT, -100) if name in CAUSAL else labels_B
