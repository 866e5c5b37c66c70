"""A small stage of every kind, to start one's own from: each passes the conformance suite."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """A stage to copy: the public names that it needs, what it says of itself, and its body."""

    names: str
    says: str
    body: str
    imports: str = ""


_SAME_SPACE = """
    def output_space(self, space: Space) -> Space:
        return space
"""

EXAMPLES = {
    "scorer": Example(
        "PhaseContext, Reads, Release, State",
        """The size of the last released gradient.

    s_j = |ĝ_j|

    Privacy: no bound needed; reads released gradients only.""",
        """
    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"score_D": torch.zeros_like(context.weights_D, dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"score_D": release.gradient.value.abs()}

    def score(self, state: State) -> Tensor:
        return state["score_D"]
""",
    ),
    "scheduler": Example(
        "Clock, PhaseContext, Reads, Release, State",
        """The first coordinates train, more of them at every step, all at the last.

    Privacy: reads the clock and public sizes only; noise is drawn on the whole support.""",
        """
    monotone: ClassVar[bool] = True
    live: ClassVar[bool] = True

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"place_D": torch.arange(context.space.size, device=context.weights_D.device)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def support(self, state: State, clock: Clock) -> Tensor:
        place_D = state["place_D"]
        count = max(1, len(place_D) * (clock.step + 1) // clock.steps)
        return place_D < count
""",
        "from typing import ClassVar\n",
    ),
    "subspace": Example(
        "PhaseContext, Reads, Release, State",
        """The first coordinates, as directions.

    Args:
        size: K; min(K, D) directions are given.

    Privacy: no bound needed; reads public sizes only.""",
        """
    size: int = 4

    def init(self, context: PhaseContext, reads: Reads) -> State:
        size_D, device = context.space.size, context.weights_D.device
        basis_DK = torch.eye(size_D, min(self.size, size_D), dtype=torch.float64, device=device)
        return {"basis_DK": basis_DK}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return state

    def basis(self, state: State) -> Tensor:
        return state["basis_DK"]
""",
    ),
    "views": Example(
        "",
        """A record and its negative.

    Privacy: one record's views are its own, and their mean gradient is clipped as one row.""",
        """
    count: ClassVar[int] = 2

    def views(self, x: Tensor) -> Tensor:
        return torch.stack([x, -x])
""",
        "from typing import ClassVar\n",
    ),
    "statistic": Example(
        "Record, Release, Space, State",
        """The mean of a record's input: one number, which sets nothing in the model.

    Privacy: no bound of its own, the clipper comes after it; reads the record alone.""",
        """
    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return Space.flat("mean input", 1)

    def row_of(self, state: State, record: Record) -> Tensor:
        return record.x.to(torch.float64).mean()[None]

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        return {}
""",
        "from collections.abc import Mapping\n",
    ),
    "row": Example(
        "Space, State",
        """No coordinate of a record's row is larger than a limit.

    z_j = τ · tanh(g_j / τ)

    Args:
        limit: τ, above 0.

    Privacy: no bound of its own, the clipper comes after it; reads the row alone.""",
        f"""
    limit: float = 1.0
{_SAME_SPACE}
    def row(self, state: State, g_D: Tensor) -> Tensor:
        return self.limit * torch.tanh(g_D / self.limit)
""",
    ),
    "clipper": Example(
        "State",
        """A row longer than the bound is cut to it.

    factor = min(1, C/‖z‖₂)

    Args:
        bound: C, above 0.

    Privacy: declares C; reads the record's own norm; the kernel caps the factor.""",
        """
    bound: float = 1.0
    groups: ClassVar[Literal["all"]] = "all"

    def joint_bound(self, state: State) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        return (self.bound / norms_G).clamp(max=1)
""",
        "from typing import ClassVar, Literal\n",
    ),
    "query": Example(
        "Reads, State",
        """Whether a row is longer than 1: ½ if it is, else −½.

    Privacy: bound ½; reads the record's own norm; noised jointly with the gradient.""",
        """
    noise_ratio: float = 20.0
    size: ClassVar[int] = 1
    bound: ClassVar[float] = 0.5

    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        return torch.where(torch.linalg.vector_norm(norms_G) > 1, 0.5, -0.5)[None]
""",
        "from typing import ClassVar\n",
    ),
    "noiser": Example(
        "",
        """The Gaussian mechanism: the kernel draws the law that this names.

    Args:
        noise_multiplier: σ, in units of the bound; the trainer scales it to the target ε.

    Privacy: the event is the law's own; the kernel draws σ times the clipper's bound.""",
        """
    law: ClassVar[Literal["gaussian"]] = "gaussian"
    noise_multiplier: float = 1.0
""",
        "from typing import ClassVar, Literal\n",
    ),
    "post": Example(
        "Reads, Released, Space, State",
        """Halves what was released.

    Privacy: post-processing of the released vector and of its public variance.""",
        f"""{_SAME_SPACE}
    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        return released.derive(released.value / 2, released.variance / 4)
""",
    ),
    "point": Example(
        "State",
        """The gradient is taken where frozen weights count as half.

    Privacy: computed from released weights and the public support.""",
        """
    def at(self, state: State, weights_D: Tensor, support_D: Tensor) -> Tensor:
        return torch.where(support_D, weights_D, weights_D / 2)
""",
    ),
    "factorisation": Example(
        "",
        """Each step's noise takes half of that of the step before away again.

    Privacy: a public matrix; the kernel scales the noise by it, and charges the whole phase.""",
        """
    bands: ClassVar[int] = 2

    def coefficients(self, steps: int) -> tuple[float, ...]:
        return (1.0, 0.5)
""",
        "from typing import ClassVar\n",
    ),
    "decision": Example(
        "Released",
        """Keeps an update if what was released of it is not above a limit.

    Args:
        most: the limit, in the unit of what is released.

    Privacy: reads a released value only; the look that it comes from is charged.""",
        """
    most: float = 0.0

    def accepts(self, released: Released) -> bool:
        return bool(torch.all(released.value <= self.most))
""",
    ),
}
"""By kind. A kind of stage without an example is missed by the tests."""
