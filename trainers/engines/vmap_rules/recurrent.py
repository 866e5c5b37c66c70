"""Recurrent layers step by step: torch's fused ones have no rule under vmap.

    RNN   h' = φ(W_ih x + b_ih + W_hh h + b_hh)
    LSTM  (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh,  c' = σ(f) c + σ(i) tanh g,
          h' = W_hr (σ(o) tanh c')                                (W_hr where proj_size is set)
    GRU   r = σ(x_r + h_r), z = σ(x_z + h_z), n = tanh(x_n + r h_n),  h' = (1 − z) n + z h

Source: the documentation of torch.nn.RNN, LSTM and GRU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, ...]
TYPES = (nn.RNN, nn.LSTM, nn.GRU)


@contextmanager
def unrolled(model: nn.Module) -> Iterator[None]:
    """Every recurrent layer of the model runs step by step, in operations that vmap maps."""
    layers = [m for m in model.modules() if isinstance(m, nn.RNNBase) and type(m) in TYPES]
    layers = [layer for layer in layers if "forward" not in vars(layer)]
    try:
        for layer in layers:
            layer.forward = _forward_of(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _forward_of(layer: nn.RNNBase) -> Any:
    def forward(x: Any, hx: Any = None) -> Any:
        if not isinstance(x, Tensor):  # a packed sequence
            return type(layer).forward(layer, x, hx)
        return run(layer, x, hx)

    return forward


def run(layer: nn.RNNBase, x: Tensor, hx: Tensor | State | None = None) -> tuple[Tensor, Any]:
    """Outputs and last states, as the layer's own forward gives them for a tensor."""
    batched = x.dim() == 3
    x_TBI = x if batched else x.unsqueeze(1)
    if batched and layer.batch_first:
        x_TBI = x_TBI.transpose(0, 1)
    ways = 2 if layer.bidirectional else 1
    parts = 2 if isinstance(layer, nn.LSTM) else 1
    given = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    lasts: list[State] = []
    for depth in range(layer.num_layers):
        outputs = []
        for way in range(ways):
            at = depth * ways + way
            state = tuple((v if batched else v.unsqueeze(1))[at] for v in given)
            state = state or _zeros(layer, x_TBI, parts)
            out, last = _direction(layer, x_TBI, state, depth, backwards=way == 1)
            outputs.append(out)
            lasts.append(last)
        x_TBI = torch.cat(outputs, 2)
        if layer.dropout and layer.training and depth < layer.num_layers - 1:
            x_TBI = F.dropout(x_TBI, layer.dropout)
    ends = tuple(torch.stack([last[k] for last in lasts]) for k in range(parts))
    if not batched:
        x_TBI, ends = x_TBI.squeeze(1), tuple(end.squeeze(1) for end in ends)
    elif layer.batch_first:
        x_TBI = x_TBI.transpose(0, 1)
    return x_TBI, ends if parts == 2 else ends[0]


def _zeros(layer: nn.RNNBase, x_TBI: Tensor, parts: int) -> State:
    sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)[:parts]
    return tuple(x_TBI.new_zeros(x_TBI.shape[1], size) for size in sizes)


def _direction(
    layer: nn.RNNBase, x_TBI: Tensor, state: State, depth: int, *, backwards: bool
) -> tuple[Tensor, State]:
    """One layer in one direction: every step's output, and the last state."""
    end = f"_l{depth}" + ("_reverse" if backwards else "")

    def weight(name: str) -> Tensor | None:
        return getattr(layer, name + end, None)

    w_hh, b_hh, w_hr = weight("weight_hh"), weight("bias_hh"), weight("weight_hr")
    w_ih = weight("weight_ih")
    assert w_ih is not None and w_hh is not None
    into_TBG = F.linear(x_TBI, w_ih, weight("bias_ih"))
    steps = range(len(into_TBG))
    outputs: list[Tensor] = []
    for t in reversed(steps) if backwards else steps:
        state = _step(layer, into_TBG[t], F.linear(state[0], w_hh, b_hh), state)
        if w_hr is not None:
            state = (F.linear(state[0], w_hr), *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _step(layer: nn.RNNBase, x: Tensor, h: Tensor, state: State) -> State:
    """The next state from both parts of the gates."""
    if isinstance(layer, nn.LSTM):
        i, f, g, o = (x + h).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    if isinstance(layer, nn.GRU):
        (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, -1), h.chunk(3, -1)
        z = (x_z + h_z).sigmoid()
        n = (x_n + (x_r + h_r).sigmoid() * h_n).tanh()
        return ((1 - z) * n + z * state[0],)
    return ((x + h).tanh() if layer.nonlinearity == "tanh" else (x + h).relu(),)
