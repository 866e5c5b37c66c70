"""The fast exact engine: norms and clipped sums layer by layer, without the B × D matrix.

One forward and one backward, mapped over records, stop at the layers' outputs (`capture`). From
what passes there, each parameter's squared norms and clipped sums are formed the cheapest exact
way (`layers`), for the affine transform z = w ⊙ g − s of the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from dpigu.dpcore import (
    AffineRowMap,
    BoundPipeline,
    ModelError,
    RowMap,
    Rows,
    Space,
    State,
    Transform,
)
from dpigu.dpcore.devices import unwritten
from dpigu.dpcore.grammar.stages import name_of, weighs_by_parameter
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.trainers.engines.capture import Capture
from dpigu.trainers.engines.checked import checked
from dpigu.trainers.engines.layers import (
    GRAM_ERROR,
    AffineSlice,
    NormMethod,
    ParameterRows,
    Workspace,
    choose,
    viewed,
)
from dpigu.trainers.engines.records import Tree, users_errors
from dpigu.trainers.engines.rows import Norms, RowEngine
from torch import Tensor
from torch.utils._pytree import tree_map


def reason_against(transform: Transform) -> str | None:
    """Why the fast engine cannot take this transform, or None if it can."""
    for stage, _ in transform.maps:
        if not isinstance(stage, AffineRowMap):
            return f"{type(stage).__name__} is not a diagonal affine map of a row"
    if transform.output != transform.space:
        return "the rows live in another space than the parameters"
    return None


def reason_against_pipeline(pipeline: BoundPipeline) -> str | None:
    """Why the fast engine cannot serve this pipeline, or None if it can."""
    stages = pipeline.stages
    if stages.statistic is not None:
        return f"{name_of(stages.statistic)} is not a gradient"
    maps: tuple[tuple[RowMap, State], ...] = tuple((p.stage, {}) for p in stages.of("row"))
    return reason_against(Transform(pipeline.space, pipeline.output, maps, None))


@dataclass(frozen=True)
class GhostRows:
    """The rows of one microbatch, in parts: one way a parameter, None where z is 0."""

    parts: tuple[tuple[int, NormMethod | None], ...]
    valid_B: Tensor
    group_count: int

    def norm_upper_bounds(self) -> Tensor:
        total_BG = torch.zeros(
            len(self.valid_B), self.group_count, dtype=torch.float64, device=self.valid_B.device
        )
        for _, way in self.parts:
            if way is not None:
                total_BG += way.squares_BG
        size = sum(size for size, _ in self.parts)
        upper_BG = total_BG.sqrt_() * (1 + (size + 64) * UNIT_ROUNDOFF)
        upper_BG += (size + 1) ** 0.5 * 2.0**-500
        upper_BG = torch.where(upper_BG.isnan(), torch.inf, upper_BG)
        return torch.where(self.valid_B[:, None], upper_BG, torch.inf)

    def weighted_sum(self, factors_BG: Tensor) -> Tensor:
        valid_B = (factors_BG != 0).any(1)
        every = valid_B.device.type == "cpu" and bool(valid_B.all())
        live_B = None if every else valid_B
        sizes = [size for size, _ in self.parts]
        total_K = unwritten(sum(sizes), factors_BG.device)
        for (_, way), out_P in zip(self.parts, torch.split(total_K, sizes), strict=True):
            if way is None:
                out_P.zero_()
            else:
                way.sum(factors_BG, live_B, out_P)
        return total_K


class GhostEngine(RowEngine):
    """Rows that are never all in memory, for affine transforms and any clipper.

    Errors: `ModelError` for a model whose records have no rows of their own, for a transform
    that is not affine (`reason_against`), and for weights that leave a parameter out.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._capture: Capture | None = None
        self._prepared: tuple[Transform, dict[str, AffineSlice | None]] | None = None
        self._choices: dict[str, str] = {}
        self._workspace = Workspace()
        self._groups = _groups(self._space, self.norms)

    @property
    def relative_error(self) -> float:
        return GRAM_ERROR + 2 * (self.physical_batch + 16) * UNIT_ROUNDOFF

    def choices(self) -> Mapping[str, str]:
        """The way that each parameter's rows went in the last microbatch, and why."""
        apart = frozenset() if self._capture is None else self._capture.apart
        return {
            name: f"{choice}; differentiated a record at a time" if name in apart else choice
            for name, choice in self._choices.items()
        }

    @property
    def memory_format(self) -> torch.memory_format:
        """The format in which images pass through the model."""
        return torch.contiguous_format if self._capture is None else self._capture.memory_format

    def rows(
        self,
        weights: Mapping[str, Tensor],
        x_B: Tree,
        y_B: Tree,
        valid_B: Tensor,
        transform: Transform,
    ) -> Rows:
        if missing := set(self._space.names) - set(weights):
            raise ModelError(
                "weights are missing for trainable parameters",
                where="GhostEngine.rows",
                got=sorted(missing),
                remedy="Give every parameter that requires a gradient.",
            )
        if self.parts is not None:
            x_B, y_B = tree_map(lambda v_BP: v_BP.flatten(0, 1), (x_B, y_B))
        if self._capture is None:
            self._capture = checked(self._loss_of_one, weights, self._space.names, x_B, y_B)
        diagonals = self._diagonals(transform, valid_B.device)
        live = {name for name, diagonal in diagonals.items() if diagonal is not None}
        ways: dict[str, NormMethod] = {}
        self._choices = dict.fromkeys(self._space.names, "none: frozen at this step")

        def finish(name: str, rows: ParameterRows) -> None:
            diagonal = diagonals[name]
            assert diagonal is not None
            if self.parts is not None:
                rows = viewed(rows, self.parts)
            ways[name], self._choices[name] = choose(rows, diagonal, self._workspace)

        if live:
            share = 1.0 / (self.parts or 1)
            self._watch.begin(transform)
            with users_errors(self.model, "on records"):
                self._capture.collect(
                    weights, x_B, y_B, self._workspace, live, finish=finish, share=share
                )
            self._watch.check()
        parts = tuple(
            (at.stop - at.start, ways[name] if name in live else None)
            for name, at, _ in self._space.blocks()
        )
        return GhostRows(parts, valid_B, self.norms.count)

    def _diagonals(
        self, transform: Transform, device: torch.device
    ) -> dict[str, AffineSlice | None]:
        """The transform on every parameter: once a step, for all its microbatches."""
        if self._prepared is None or self._prepared[0] is not transform:
            if reason := reason_against(transform):
                raise ModelError(
                    f"the fast engine does not apply: {reason}",
                    where="GhostEngine",
                    remedy="Use the materialising engine.",
                )
            self._prepared = (transform, self._prepare(transform, device))
        return self._prepared[1]

    def _prepare(self, transform: Transform, device: torch.device) -> dict[str, AffineSlice | None]:
        whole = transform.composed()
        by_parameter = all(weighs_by_parameter(stage) for stage, _ in transform.maps)
        on_host = device.type == "cpu"  # elsewhere, looking at values would wait for the device
        diagonals: dict[str, AffineSlice | None] = {}
        for name, at, _ in self._space.blocks():
            groups_P, group, by_output = self._groups[name]
            weight = None if whole is None else whole.weight_D[at]
            shift = None if whole is None or whole.shift_D is None else whole.shift_D[at]
            support = None if transform.support_D is None else transform.support_D[at]
            scale: Tensor | None = None
            if by_parameter and weight is not None:
                scale, weight = weight[0], None
            if on_host and shift is not None and not bool(shift.any()):
                shift = None
            if on_host and support is not None:
                if not bool(support.any()):
                    diagonals[name] = None
                    continue
                support = None if bool(support.all()) else support
            if shift is not None and support is not None:
                shift = shift * support
            diagonals[name] = AffineSlice(
                weight,
                scale,
                support,
                shift,
                None if groups_P is None else groups_P.to(device),
                group,
                self.norms.count,
                by_output,
            )
        return diagonals


def _groups(space: Space, norms: Norms) -> dict[str, tuple[Tensor | None, int, bool]]:
    """For each parameter its coordinates' groups, or the one group of all; and whether every
    group is a union of entries along the first dimension."""
    found: dict[str, tuple[Tensor | None, int, bool]] = {}
    for name, at, shape in space.blocks():
        if norms.groups_K is None:
            found[name] = (None, 0, True)
            continue
        groups = norms.groups_K[at].cpu()
        if bool((groups == groups[0]).all()):
            found[name] = (None, int(groups[0]), True)
            continue
        rows = groups.view(shape[0], -1)
        found[name] = (groups, 0, bool((rows == rows[:, :1]).all()))
    return found
