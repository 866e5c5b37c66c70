"""A pipeline bound to a space: its stages' states, and what is public before a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from dpigu.dpcore.devices import to_device
from dpigu.dpcore.errors import PrivacyError
from dpigu.dpcore.grammar.pipeline import RANGE, Pipeline, Placed, in_range
from dpigu.dpcore.grammar.spaces import Released, Space
from dpigu.dpcore.grammar.stages import Stateful, reads_of
from dpigu.dpcore.grammar.values import Clock, PhaseContext, Reads, Release, State, View
from dpigu.dpcore.rows import Transform
from torch import Tensor

States = Mapping[str, State]
"""The state of every stage of a pipeline, by slot."""


@dataclass(frozen=True)
class StepContext:
    """What is fixed, and public, before a step looks at a record."""

    clock: Clock
    support_D: Tensor
    transform: Transform
    versions: Mapping[tuple[str, str], int]
    public_MD: Tensor | None = None
    weights_D: Tensor | None = None

    @property
    def noise_support_K(self) -> Tensor:
        """Where the sum of rows is noised: the support, or all of a space that row maps lead to."""
        output = self.transform.output
        if output == self.transform.space:
            return self.support_D
        return torch.ones(output.size, dtype=torch.bool, device=self.support_D.device)


class BoundPipeline:
    """The stages of one phase in one space; reads and writes released values only.

    Args:
        stages: what is bound.
        space: the layout of the model's trainable parameters.
        earlier: the stages of past phases, as `views` gave them.
        device: where states and sums live.
    """

    def __init__(
        self,
        stages: Pipeline,
        space: Space,
        earlier: Reads | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.device = device if device is not None else torch.device("cpu")
        self.stages = stages
        self.space = space
        self.output = stages.check(space)
        self._earlier = dict(earlier or {})
        # a protocol is slow to look up, and every step asks
        self._learning = {p.name for p in stages.placed if isinstance(p.stage, Stateful)}

    @property
    def groups(self) -> tuple[Tensor | None, int]:
        """The clipper's group of every coordinate of a row, None if all are in one; and G."""
        by = self.stages.clipper.groups
        groups_K = None if by == "all" else self.output.groups(by).to(self.device)
        return groups_K, self.group_count

    @property
    def group_count(self) -> int:
        """G, how many norms the clipper sees of a row."""
        by = self.stages.clipper.groups
        return 1 if by == "all" else self.output.group_count(by)

    def begin(self, context: PhaseContext) -> States:
        """Every stage's state at the start of the phase."""
        states: dict[str, State] = {}
        space = self.space
        for placed in self.stages.placed:
            stage = placed.stage
            own = replace(context, space=space)
            learns = placed.name in self._learning
            states[placed.name] = stage.init(own, self.reads(placed, states)) if learns else {}
            if placed.slot in ("row", "post"):
                space = stage.output_space(space)
        self.bound(states)
        return states

    def open(self, states: States, clock: Clock, public_MD: Tensor | None = None) -> StepContext:
        """The support and the transform of this step, from released and public values."""
        scheduler = self.stages.scheduler
        support_D = None
        if scheduler is not None:
            drawn_D = scheduler.support(states[self.stages.name_in("scheduler")], clock)
            support_D = to_device(drawn_D, self.device)
        maps = tuple((p.stage, states[p.name]) for p in self.stages.of("row"))
        statistic = self.stages.statistic
        source = None
        if statistic is not None:
            source = (statistic, states[self.stages.name_in("statistic")])
        transform = Transform(self.space, self.output, maps, support_D, source)
        if support_D is None:
            support_D = torch.ones(self.space.size, dtype=torch.bool, device=self.device)
        versions = {(name, k): t._version for name, s in states.items() for k, t in s.items()}
        return StepContext(clock, support_D, transform, versions, public_MD)

    def bound(self, states: States) -> Tensor:
        """The clipper's joint bound at this step: one number, where noise is drawn in range.

        It is on the host, where noise is calibrated; one that is learnt on a device is waited for.
        """
        bound = self.stages.clipper.joint_bound(states[self.stages.name_in("clipper")]).cpu()
        if bound.numel() != 1 or (self.stages.private and not in_range(float(bound))):
            raise PrivacyError(
                "noise cannot be calibrated: the clipper's bound is not a number in range",
                where="Pipeline.clipper",
                got=bound.tolist(),
                expected=RANGE,
                remedy="Choose a clipper with a bound, such as flat, or keep its state in range.",
            )
        return bound.to(torch.float64).reshape(())

    def post(self, states: States, released: Released) -> Released:
        """The released vector through every post map."""
        for p in self.stages.of("post"):
            released = p.stage.apply(states[p.name], released, self.reads(p, states))
        return released

    def updated(self, states: States, context: StepContext, release: Release) -> States:
        """Every stage's state after a release; all see the states from before it."""
        after = dict(states)
        for p in self.stages.placed:
            if p.name not in self._learning:
                continue
            state = p.stage.update(states[p.name], release, self.reads(p, states))
            if state.keys() != states[p.name].keys():
                raise PrivacyError(
                    "update must return the tensors that init returned",
                    where=p.name,
                    got=sorted(state),
                    expected=sorted(states[p.name]),
                )
            after[p.name] = state
        for name, state in states.items():
            for key, tensor in state.items():
                if tensor._version != context.versions[name, key]:
                    raise PrivacyError(
                        f"the state {key!r} was assigned in place",
                        where=name,
                        remedy="Return a new tensor from update.",
                    )
        return after

    def reads(self, placed: Placed, states: States) -> Reads:
        """The stages that this one named: this phase's, else an earlier one's."""
        views = self.views(states)
        return {name: views[name] for name in reads_of(placed.stage)}

    def views(self, states: States) -> Reads:
        """What later phases may read, by slot and by name."""
        views = dict(self._earlier)
        for p in self.stages.placed:
            if p.name in states:
                views[p.slot] = views[p.name] = View(p.stage, states[p.name])
        return views
