"""Optimizers that step along a matrix's singular directions; post-processing, like every one.

A weight of more than two dimensions is a matrix of its first by the rest; a vector is one column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from dpigu.trainers.optim.base import NoiseInformed, ParameterWise
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)


def as_matrix(weight: Tensor) -> Tensor:
    """First dimension by the rest; a vector, or a number, is one column."""
    return weight.reshape(weight.shape[0], -1) if weight.dim() > 1 else weight.reshape(-1, 1)


def orthogonalised(m_RC: Tensor, iterations: int) -> Tensor:
    """About U Vᵀ of m = U S Vᵀ, by Newton–Schulz: singular values of 0.01 ‖m‖ and more come near 1.

    X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, from m/‖m‖_F, on the shorter side; 0 stays 0
    """
    a, b, c = QUINTIC
    x_RC = m_RC if m_RC.shape[0] <= m_RC.shape[1] else m_RC.T
    x_RC = x_RC / torch.linalg.matrix_norm(x_RC).clamp(min=torch.finfo(x_RC.dtype).tiny)
    for _ in range(iterations):
        square_RR = x_RC @ x_RC.T
        x_RC = a * x_RC + (b * square_RR + c * square_RR @ square_RR) @ x_RC
    turned: Tensor = x_RC if m_RC.shape[0] <= m_RC.shape[1] else x_RC.T
    return turned


class Muon(ParameterWise):
    """Momentum, with every singular value of it brought to about 1.

    m ← μ·m + ĝ,  θ ← θ − η·√max(1, R/C) · orthogonalised(m), for a matrix of R × C

    Noise spreads over all singular directions alike, and the gradient keeps to few; what m tells
    of a direction's size is lost, so η is small and falls. torch.optim.Muon is the same for
    matrices, in bfloat16 and with Nesterov's momentum, and takes nothing but matrices.

    Args:
        parameters: as for any optimizer of torch.
        lr: η. momentum: μ, in [0, 1). iterations: of Newton–Schulz.
        weight_decay: times θ, added to the gradient.

    Source: after Kim and Fan 2026, DP-Muon (arXiv 2605.12994), heavy-ball momentum, whose bound for
    each matrix is `per-group` as clipper; Jordan et al. 2024, Muon, whose polynomial and scale
    these are. Not here: the Taylor polynomials of DP-Muon, the correction of DP-MuonBC.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        iterations: int = 5,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "iterations": iterations}
        super().__init__(parameters, {**options, "weight_decay": weight_decay})

    def move(self, parameter: nn.Parameter, gradient: Tensor, group: Mapping[str, Any]) -> None:
        moved = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        moved.mul_(group["momentum"]).add_(gradient)
        m_RC = as_matrix(moved)
        scale = math.sqrt(max(1.0, m_RC.shape[0] / m_RC.shape[1]))
        step_RC = orthogonalised(m_RC, group["iterations"])
        parameter.sub_(group["lr"] * scale * step_RC.reshape(parameter.shape))


class Shampoo(NoiseInformed):
    """A preconditioner for each side of a matrix, from released gradients without their noise.

    θ ← θ − η · L^−¼ m R^−¼,  m = moving mean of ĝ;  L, R = moving means of ĝ ĝᵀ − N, ĝᵀ ĝ − N′

    N and N′ are diagonal and known: a coordinate's noise has variance v and is independent of the
    others, so E ĝ ĝᵀ = G Gᵀ + diag(Σ_c v). Under DP they would be all that L and R see, and
    Shampoo would be SGD. Eigenvalues below φ times the mean of N are raised to it: what is left of
    noise after the subtraction. Without noise this is Shampoo with moving means. A side longer
    than `longest` is left alone, and then the other takes the exponent −½.

    Args:
        parameters: as for any optimizer of torch.
        lr: η. momentum: memory of m. decay: memory of L and R. floor: φ, above 0.
        refresh: steps between new roots. longest: the longest side that is preconditioned.
        weight_decay: times θ, added to the gradient.

    Errors: `RunError` for a step without `know_noise`.

    Source: Gupta, Koren and Singer 2018 (arXiv 1802.09568); the subtraction is that of Tang,
    Shpilevskiy and Lécuyer 2023, DP-AdamBC (arXiv 2312.14334), for matrices: ours.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.9,
        decay: float = 0.99,
        floor: float = 0.1,
        refresh: int = 10,
        longest: int = 512,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "decay": decay, "floor": floor}
        options |= {"refresh": refresh, "longest": longest, "weight_decay": weight_decay}
        super().__init__(parameters, options)

    def move(self, parameter: nn.Parameter, gradient: Tensor, group: Mapping[str, Any]) -> None:
        g_RC = as_matrix(gradient)
        v_RC = as_matrix(self.variance(parameter))
        state = self.state[parameter]
        if not state:
            state["step"], state["exp_avg"] = 0, torch.zeros_like(parameter)
        state["exp_avg"].lerp_(gradient, 1 - group["momentum"])
        for side, g_SK, v_SK in (("left", g_RC, v_RC), ("right", g_RC.T, v_RC.T)):
            if 1 < len(g_SK) <= group["longest"]:
                self._learn(state, side, g_SK, v_SK.sum(1), group)
        sides = [side for side in ("left", "right") if side in state]
        if state["step"] % group["refresh"] == 0:
            for side in sides:
                state[f"{side}_root"] = self._root(state, side, len(sides), group)
        state["step"] += 1
        step_RC = as_matrix(state["exp_avg"] / (1 - group["momentum"] ** state["step"]))
        if "left" in sides:
            step_RC = _square(state["left_root"]) @ step_RC
        if "right" in sides:
            step_RC = step_RC @ _square(state["right_root"])
        parameter.sub_(group["lr"] * step_RC.reshape(parameter.shape))

    def _learn(
        self, state: dict[str, Any], side: str, g_SK: Tensor, v_S: Tensor, group: Mapping[str, Any]
    ) -> None:
        """The moving means of one side: of ĝ ĝᵀ − N, and of the mean of N."""
        if side not in state:
            state[side] = g_SK.new_zeros(len(g_SK) ** 2)
            state[f"{side}_noise"] = g_SK.new_zeros(())
        share = 1 - group["decay"]
        state[side].lerp_((g_SK @ g_SK.T - torch.diag(v_S)).flatten(), share)
        state[f"{side}_noise"].lerp_(v_S.mean(), share)

    def _root(
        self, state: Mapping[str, Any], side: str, sides: int, group: Mapping[str, Any]
    ) -> Tensor:
        """The inverse root, −¼ where both sides have one and −½ where one has, above the floor."""
        corrected = 1 - group["decay"] ** (state["step"] + 1)
        values_S, vectors_SS = torch.linalg.eigh(_square(state[side]) / corrected)
        least = (group["floor"] * state[f"{side}_noise"] / corrected).clamp(min=1e-12)
        power_S = values_S.clamp(min=least) ** (-0.5 / sides)
        root_SS: Tensor = (vectors_SS * power_S) @ vectors_SS.T
        return root_SS.flatten()


def _square(flat: Tensor) -> Tensor:
    """A side's matrix, which is kept flat: it has no entry a weight, and must not look as if."""
    size = math.isqrt(len(flat))
    return flat.reshape(size, size)
