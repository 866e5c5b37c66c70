"""Products at the precision that a bound is certified for, whatever the process allows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from dpigu.dpcore.errors import PrivacyError

EXACT: tuple[tuple[Any, str, object], ...] = (
    (torch.backends.cuda.matmul, "fp32_precision", "ieee"),
    (torch.backends.mkldnn.matmul, "fp32_precision", "ieee"),  # type: ignore[attr-defined]  # set at import
    (torch.backends.cuda.matmul, "allow_fp16_accumulation", False),
    (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", False),
    (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
)
"""What torch offers to make products faster and coarser (TF32, bfloat16), and its exact value."""
EMULATED = ("CUBLAS_EMULATE_DOUBLE_PRECISION", "CUBLAS_EMULATE_SINGLE_PRECISION")
"""Variables that make cuBLAS compute products out of those of smaller types."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Norms and sums inside are computed in the precision of their types.

    Global switches are set aside and put back. As a decorator it does so on every call.
    """
    before = [getattr(owner, name) for owner, name, _ in EXACT]
    for owner, name, exact in EXACT:
        setattr(owner, name, exact)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(EXACT, before, strict=True):
            setattr(owner, name, value)


def refuse_emulated_products(
    device: torch.device, environment: Mapping[str, str] = os.environ
) -> None:
    """A `PrivacyError` where products on a device are emulated: no error is certified there."""
    for name in EMULATED:
        if device.type == "cuda" and environment.get(name, "0") not in ("", "0"):
            raise PrivacyError(
                "products are emulated, and no bound is certified for their error",
                where=name,
                got=environment[name],
                remedy=f"Unset {name}.",
            )
