"""The contract between kernel and engine, and the rows that stand in memory whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from dpigu.dpcore.errors import PrivacyError
from dpigu.dpcore.grammar.spaces import Space
from dpigu.dpcore.grammar.stages import AffineRowMap, RowMap, Statistic
from dpigu.dpcore.grammar.values import Affine, State
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-53


def of_shape(given: Tensor, shape: torch.Size, what: str) -> Tensor:
    """`given`, refused unless it has this shape: broadcasting would mix records or repeat one."""
    if given.shape != shape:
        raise PrivacyError(
            f"{what} of the wrong shape", where="Kernel", got=(*given.shape,), expected=(*shape,)
        )
    return given


class Rows(Protocol):
    """Some records' rows, after support and row maps: anything that answers two questions."""

    def norm_upper_bounds(self) -> Tensor:
        """Norms of every row in every group, n_BG, float64: never less than the true ones,
        rounding included. A record that is padding, or whose row is not finite, has inf."""
        ...

    def weighted_sum(self, factors_BG: Tensor) -> Tensor:
        """Σ_i factors_i z_i, length K, float64; records of factor 0 removed before any product.
        A vector of its own: what other records sum to is added to it in place."""
        ...


class Engine(Protocol):
    """Makes rows, and states how far its sums may be from exact ones."""

    @property
    def relative_error(self) -> float:
        """A public constant e: ‖computed − exact‖ ≤ e · Σ_i (bound on row i's clipped norm)."""
        ...


@dataclass(frozen=True)
class Transform:
    """Support, row maps, support again: what turns a record's gradient into its row.

    Support is applied before the maps and after each one that stays in the parameters' space:
    a standardizer that moves a frozen coordinate off zero must not spend the clipping budget,
    nor the next map's. `support_D` is None when it holds every coordinate. `statistic` is what
    the row is before all this, with its state, where it is not the gradient.
    """

    space: Space
    output: Space
    maps: tuple[tuple[RowMap, State], ...]
    support_D: Tensor | None
    statistic: tuple[Statistic, State] | None = None

    def one(self, g_D: Tensor) -> Tensor:
        """One record's row z_K from its gradient g_D."""
        z, space = self._supported(g_D), self.space
        for stage, state in self.maps:
            z, space = stage.row(state, z), stage.output_space(space)
            if space == self.space:
                z = self._supported(z)
        return z

    def __call__(self, g_BD: Tensor) -> Tensor:
        """Every record's row, each computed from its own gradient alone (vmap)."""
        if not self.maps and self.support_D is None:
            return g_BD
        rows: Tensor = torch.func.vmap(self.one)(g_BD)
        return rows

    def _supported(self, z_D: Tensor) -> Tensor:
        return z_D if self.support_D is None else torch.where(self.support_D, z_D, 0)

    def composed(self) -> Affine | None:
        """The row maps as one diagonal affine map; None without any, or if one is not affine.

        The support has no part in it: what it sets to zero before the maps, it sets to zero
        again after them.
        """
        whole: Affine | None = None
        for stage, state in self.maps:
            if not isinstance(stage, AffineRowMap):
                return None
            here = stage.affine(state)
            whole = here if whole is None else here.after(whole)
        return whole

    def affine(self, device: torch.device) -> Affine | None:
        """Row maps and support as one diagonal affine map, or None if a map is not affine."""
        whole = self.composed()
        if whole is None and self.maps:
            return None
        if self.support_D is None:
            support = torch.ones(self.space.size, dtype=torch.float64, device=device)
        else:
            support = self.support_D.to(torch.float64)
        if whole is None:
            return Affine(support)
        shift = None if whole.shift_D is None else whole.shift_D * support
        return Affine(whole.weight_D * support, shift)


@dataclass(frozen=True)
class DenseRows:
    """Rows z_BK held in memory, in any floating type: the reference every engine must match.

    Norms and sums run in float64. Squares of float32 rows are exact there, so a computed norm
    is within (K + 2)·2⁻⁵³ of the true one, relatively; what underflows is below √K·2⁻⁵³⁶.
    The sum of b rows is within b·2⁻⁵³ of Σ‖row‖ (Higham 2002, eq. 4.4).
    """

    z_BK: Tensor
    groups_K: Tensor | None = None
    group_count: int = 1
    block: int = 32

    def norm_upper_bounds(self) -> Tensor:
        rows, size = self.z_BK.shape
        squares_BG = torch.zeros(
            rows, self.group_count, dtype=torch.float64, device=self.z_BK.device
        )
        for start, part in self._blocks():
            squares = part.square_()
            if self.groups_K is None:
                squares_BG[start : start + len(part), 0] = squares.sum(1)
            else:
                squares_BG[start : start + len(part)].index_add_(1, self.groups_K, squares)
        upper_BG = squares_BG.sqrt_() * (1 + (size + 4) * UNIT_ROUNDOFF)
        upper_BG += (size + 1) ** 0.5 * 2.0**-536 if self.z_BK.dtype == torch.float64 else 0.0
        return torch.where(upper_BG.isnan(), torch.inf, upper_BG)

    def weighted_sum(self, factors_BG: Tensor) -> Tensor:
        total_K = torch.zeros(self.z_BK.shape[1], dtype=torch.float64, device=self.z_BK.device)
        for start, part in self._blocks():
            factors = factors_BG[start : start + len(part)]
            part = torch.where((factors != 0).any(1, keepdim=True), part, 0)
            if self.groups_K is None:
                total_K += factors[:, 0] @ part
            else:
                total_K += (factors[:, self.groups_K] * part).sum(0)
        return total_K

    def _blocks(self) -> Iterable[tuple[int, Tensor]]:
        """Blocks of rows in float64, small enough to stay in cache."""
        for start in range(0, len(self.z_BK), self.block):
            yield start, self.z_BK[start : start + self.block].to(torch.float64, copy=True)
