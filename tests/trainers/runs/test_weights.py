"""Weights on the disk: a tied tensor is there once, and comes back under all of its names."""

from __future__ import annotations

import torch
from dpigu.trainers.runs.weights import packed, unpacked
from safetensors.torch import load
from torch import nn


def tied() -> nn.Module:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False), nn.Linear(5, 5))
    net[1].weight = net[0].weight
    net.register_buffer("part", net[2].weight.detach()[:2])
    return net


def test_what_is_packed_comes_back() -> None:
    net, other = tied(), tied()
    stored = packed(net)
    assert "1.weight" not in load(stored)
    other.load_state_dict(unpacked(stored, other))
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    assert other[1].weight is other[0].weight


def test_a_model_that_ties_nothing_takes_the_weights_of_one_that_does_not() -> None:
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(unpacked(packed(net), other))
    assert torch.equal(other.weight, net.weight)
