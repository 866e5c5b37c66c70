"""Repeatable random draws: they depend on a public seed and on nothing private."""

from __future__ import annotations

import hashlib

import torch


def public_generator(*parts: object) -> torch.Generator:
    """A generator on the CPU whose stream is fixed by the parts: a stage's name, a seed, a step.

    The key is 63 bits of BLAKE2b of the parts, so that different stages, seeds and steps have
    streams of their own. Torch's global generator is neither read nor moved. Never for noise,
    sampling or coins: those come from the operating system's entropy.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
