"""Hugging Face's models under vmap: their attention asks no mask what it holds.

`transformers` drops a padding mask that turns out to hide nothing, which vmap cannot follow: the
question is about a value. Its attention is exchangeable, so a model is given one of this project:
the same fused attention, with every mask built in full. Outputs are the same.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

NAME = "dpigu-sdpa"
EXCHANGED = f"attention {NAME}: the library's sdpa, every padding mask in full"
UNCACHED = "use_cache off: keys and values are kept for no later call"


def adapted(model: nn.Module) -> tuple[str, ...]:
    """Bring the `transformers` models in a module to what vmap can follow; say what was done.

    The implementations sdpa and eager are exchanged. Another one stays, and so does a model that
    cannot exchange its own.
    """
    if "transformers" not in sys.modules:
        return ()
    from transformers import PreTrainedModel

    done = []
    for part in model.modules():
        if not isinstance(part, PreTrainedModel):
            continue
        if part.config._attn_implementation in ("sdpa", "eager") and _exchangeable(part):
            _register()
            part.set_attn_implementation(NAME)
            done.append(EXCHANGED)
        if getattr(part.config, "use_cache", False):
            part.config.use_cache = False
            done.append(UNCACHED)
    return tuple(dict.fromkeys(done))


def _exchangeable(model: Any) -> bool:
    return bool(model._supports_sdpa and model._can_set_attn_implementation())


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(NAME, sdpa_attention_forward)
    AttentionMaskInterface.register(NAME, _full_mask)


def _full_mask(*args: Any, **given: Any) -> Any:
    """The library's mask, 1 × 1 × T × T for one record; left out only where no padding is."""
    from transformers.masking_utils import sdpa_mask

    if given.get("attention_mask") is not None:
        given |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return sdpa_mask(*args, **given)
