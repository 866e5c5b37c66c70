"""What a stage is: small protocols, one for each kind, that say what a stage may read.

A stage is a frozen dataclass with keyword-only options. It keeps no values itself: its state
is a mapping of names to tensors, returned by `init` and `update` and handed back on every
call. The function that sees a private row cannot return state, and the one that returns
state sees only released values. Functions of one record are written for one record; the
kernel maps them over the batch, so that no stage can mix two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from dpigu.dpcore.grammar.spaces import Grouping, Released, Space
from dpigu.dpcore.grammar.values import Affine, Clock, PhaseContext, Reads, Record, Release, State
from dpigu.dpcore.noise import LawName
from torch import Tensor


@runtime_checkable
class Stateful(Protocol):
    """A stage that learns from released values."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        """The state at the start of a phase."""
        ...

    def update(self, state: State, release: Release, reads: Reads) -> State:
        """The state after a step; `reads` shows the other stages as they were before it."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Importance of every coordinate, learnt from released gradients."""

    def score(self, state: State) -> Tensor:
        """One score a coordinate, length D; larger is more important."""
        ...


@runtime_checkable
class MaskScheduler(Protocol):
    """The support at every step, from scores and the clock.

    `monotone`: the support never loses a coordinate. `live`: it changes over a phase.
    """

    @property
    def monotone(self) -> bool: ...
    @property
    def live(self) -> bool: ...
    def support(self, state: State, clock: Clock) -> Tensor:
        """The live coordinates at this step: boolean, length D."""
        ...


@runtime_checkable
class Subspace(Protocol):
    """Directions that gradients keep to, learnt from released or public ones."""

    def basis(self, state: State) -> Tensor:
        """An orthonormal basis: D × K."""
        ...


@runtime_checkable
class Views(Protocol):
    """Augmented views of one record, whose gradients are averaged before its row is made."""

    @property
    def count(self) -> int: ...
    def views(self, x: Tensor) -> Tensor:
        """So many views of one record, one above the other; drawn from torch's generator."""
        ...


@runtime_checkable
class Statistic(Protocol):
    """What a record's row is, if not its gradient. No optimizer steps in such a phase, unless it is
    a `TrainingStatistic`."""

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        """The space of the rows, from the parameters' and the shape of a record."""
        ...

    def row_of(self, state: State, record: Record) -> Tensor:
        """One record's row."""
        ...

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        """The model's buffers that it sets, with their shapes, from the shape of a record."""
        ...

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        """New values for the buffers that it sets, from a release."""
        ...


@runtime_checkable
class TrainingStatistic(Statistic, Protocol):
    """A statistic that says where the loss falls: its phase trains weights, as one of gradients."""

    def gradient(self, state: State, release: Release) -> Released:
        """The gradient, length D, as far as a release tells it; `state` is that after the step."""
        ...


@runtime_checkable
class RowMap(Protocol):
    """One row in, one row out."""

    def output_space(self, space: Space) -> Space:
        """The space of the rows that it gives."""
        ...

    def row(self, state: State, g_D: Tensor) -> Tensor:
        """The map of one record's row."""
        ...


@runtime_checkable
class AffineRowMap(RowMap, Protocol):
    """A row map that declares itself diagonal and affine, which the fast engine can use."""

    def affine(self, state: State) -> Affine:
        """The weight and shift for which row(state, g) = weight ⊙ g − shift."""
        ...


@runtime_checkable
class Clipper(Protocol):
    """From a record's norms to its factors; the kernel caps them at the declared bound."""

    @property
    def groups(self) -> Grouping:
        """How coordinates are grouped: one norm and one factor for each of G groups."""
        ...

    def joint_bound(self, state: State) -> Tensor:
        """The joint bound C on the norm of one clipped row: float64, no dimensions."""
        ...

    def factors(self, state: State, norms_G: Tensor) -> Tensor:
        """One factor a group for a record with these norms (float64)."""
        ...


@runtime_checkable
class Query(Protocol):
    """A further bounded statistic of one record, noised jointly with the gradient.

    Its own noise has the standard deviation noise_ratio × the gradient's multiplier × bound.
    """

    @property
    def size(self) -> int | Literal["groups"]:
        """The length of its vector; "groups" is one number for each group of the clipper."""
        ...

    @property
    def bound(self) -> float: ...
    @property
    def noise_ratio(self) -> float: ...
    def vector(self, state: State, norms_G: Tensor, reads: Reads) -> Tensor:
        """The statistic of one record from its norms: length `size`, norm ≤ `bound`."""
        ...


def size_of(query: Query, groups: int) -> int:
    """The length of a query's vector beside a clipper of so many groups."""
    return groups if query.size == "groups" else query.size


@runtime_checkable
class Noiser(Protocol):
    """Names a law of noise and its multiplier; the kernel draws it, and the law has its event."""

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over the bound C of one record."""
        ...

    @property
    def law(self) -> LawName:
        """The law's name in `dpigu.dpcore.noise.LAWS`."""
        ...


@runtime_checkable
class Factorisation(Protocol):
    """Noise that is correlated across the steps of a phase: a lower triangular Toeplitz encoder C,
    of b bands unless it is `Endless`.

    The kernel releases the encoded sums (C G)_t with independent noise, and decodes what it
    released: x_t = G_t + (C⁻¹ z)_t.
    """

    @property
    def bands(self) -> int:
        """b: a record that joins a step joins none of the b − 1 steps after it."""
        ...

    def coefficients(self, steps: int) -> tuple[float, ...]:
        """The b numbers of C's first column, for a phase of so many steps; the first above 0.

        Their length is of no account: noise is scaled by it.
        """
        ...


@runtime_checkable
class Endless(Factorisation, Protocol):
    """A factorisation whose column falls as a few exponentials do, over the whole phase.

    c_0 = 1,  c_k = Σ_i ω_i θ_i^{k−1}

    A row is in the encoded sums of all later steps, so that the turns of a record overlap, and the
    steps of a phase are charged as one release. `coefficients` gives as many numbers as steps.
    """

    def buffers(self, steps: int) -> tuple[tuple[float, float], ...]:
        """(ω_i, θ_i), by which the kernel keeps the past in as many vectors."""
        ...


@runtime_checkable
class PostMap(Protocol):
    """Released in, released out."""

    def output_space(self, space: Space) -> Space:
        """The space of the vector that it gives."""
        ...

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        """The map of the released vector and of its known variance."""
        ...


@runtime_checkable
class Point(Protocol):
    """Where the gradient is taken: weights computed from released values."""

    def at(self, state: State, weights_D: Tensor, support_D: Tensor) -> Tensor:
        """The weights at which this step's rows are taken, length D."""
        ...


@runtime_checkable
class Decision(Protocol):
    """Whether an update is kept, from what a look at it released."""

    def accepts(self, released: Released) -> bool:
        """True to keep the update, False to take it back."""
        ...


KINDS: Mapping[str, type] = {
    "scorer": Scorer,
    "scheduler": MaskScheduler,
    "subspace": Subspace,
    "views": Views,
    "statistic": Statistic,
    "row": RowMap,
    "clipper": Clipper,
    "query": Query,
    "noiser": Noiser,
    "factorisation": Factorisation,
    "post": PostMap,
    "point": Point,
    "decision": Decision,
}


def reads_of(stage: object) -> tuple[str, ...]:
    """The names of the stages whose state this stage reads; none unless it says so."""
    return tuple(getattr(stage, "reads", ()))


def asks_of(stage: object) -> tuple[str, ...]:
    """The names of the queries whose answers this stage learns from; none unless it says so."""
    return tuple(getattr(stage, "asks", ()))


def public_records_of(stage: object, clock: Clock | None = None) -> int:
    """How many public records' gradients this stage wants at a step; none unless it says.

    `public_records` is the number at every step, or the most where `public_records_at` gives it.
    """
    at = getattr(stage, "public_records_at", None)
    if clock is not None and at is not None:
        return int(at(clock))
    return int(getattr(stage, "public_records", 0))


def asks_weights(stage: object) -> bool:
    """Whether a release is to say where its step stood; not unless a stage says so."""
    return bool(getattr(stage, "asks_weights", False))


def evaluates(stage: object) -> bool:
    """Whether a statistic looks at the model as it predicts, in evaluation mode; not by default."""
    return bool(getattr(stage, "evaluates", False))


def kinds_of(stage: object) -> tuple[str, ...]:
    """The kinds whose functions this object has."""
    return tuple(kind for kind, protocol in KINDS.items() if isinstance(stage, protocol))


def name_of(stage: object) -> str:
    """The registered name of a stage, or the name of its class."""
    return str(getattr(stage, "stage_name", type(stage).__name__))


def weighs_by_parameter(stage: object) -> bool:
    """Whether an affine row map has one weight a parameter, which no engine looks for."""
    return bool(getattr(stage, "weighs_by_parameter", False))


def of_loss(stage: object) -> bool:
    """Whether a statistic reads a record's loss or gradient alone, so that it is a unit's too."""
    return bool(getattr(stage, "of_loss", False))
