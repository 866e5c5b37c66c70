"""Checks of stages that learn: plain state, and nothing in it but what was released."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from dpigu.audits.conformance.check import Broken, Refused, Subject, check, for_all, kind_of
from dpigu.audits.conformance.harness import Harness, each_step
from dpigu.audits.conformance.scenario import LAYERS, WIDE, Scenario, scenarios
from dpigu.audits.conformance.snapshots import bits
from dpigu.dpcore import AffineRowMap, Release, State, Stateful, States
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor


def learns(stage: object) -> bool:
    """Whether a stage has a state."""
    return isinstance(stage, Stateful)


@check(
    "state-is-plain",
    guards="A state can be stored, shown and compared: tensors by name, the same ones each step.",
    remedy="Return from `update` a mapping with the names, shapes and dtypes that `init` gave.",
    applies=learns,
)
def state_is_plain(subject: Subject) -> None:
    def plain(scenario: Scenario) -> None:
        first = None
        for harness in each_step(subject, scenario):
            layout = _layout(harness.state)
            first = first or layout
            if layout != first:
                raise Broken(
                    "its state changes its layout", after=harness.done, got=layout, expected=first
                )

    for_all(plain, share=0.5, scenario=scenarios())


def _layout(state: State) -> dict[str, str]:
    if not isinstance(state, Mapping):
        raise Broken("its state is not a mapping of names to tensors", got=type(state).__name__)
    for key, tensor in state.items():
        if not isinstance(key, str) or "\t" in key:
            raise Broken("a state is named by strings without tabs", got=key)
        if type(tensor) is not Tensor or tensor.requires_grad:
            raise Broken(
                f"the state {key!r} is not a plain tensor without gradient",
                got=type(tensor).__name__,
            )
    return {key: f"{tuple(t.shape)} of {t.dtype}" for key, t in state.items()}


@check(
    "state-round-trips",
    guards="A run that is resumed from its checkpoint continues exactly as if it had not stopped.",
    remedy="Keep all that a stage knows in the tensors of its state.",
    applies=learns,
)
def state_round_trips(subject: Subject) -> None:
    def round_trip(scenario: Scenario) -> None:
        harness, release = Harness(subject, scenario), Harness(subject, scenario).step()
        for _ in range(scenario.steps):
            states = _stored(harness.states)
            if bits(states) != bits(harness.states):
                raise Broken("its state is another after a checkpoint", after=harness.done)
            continued, resumed = (
                harness.pipeline.updated(s, harness.pipeline.open(s, harness.clock), release)
                for s in (harness.states, states)
            )
            if bits(continued) != bits(resumed):
                raise Broken("it continues differently after a checkpoint", after=harness.done)
            harness.step()

    for_all(round_trip, share=0.2, scenario=scenarios(steps=(1, 3)))


def _stored(states: States) -> States:
    """The states as a checkpoint keeps them: tensors by name, in the format of safetensors."""
    return {
        name: load(save({key: tensor.clone().contiguous() for key, tensor in state.items()}))
        for name, state in states.items()
    }


@check(
    "state-stays-a-number",
    guards="One bad step does not spoil every later one: a state is never NaN.",
    remedy="Guard divisions and roots in `update`: a released value can be 0, large or negative.",
    applies=learns,
)
def state_stays_a_number(subject: Subject) -> None:
    def numbers(scenario: Scenario, size: float) -> None:
        for loud in (False, True):
            harness = Harness(subject, scenario, loud=loud)
            for _ in range(scenario.steps):
                harness.step(
                    size * torch.ones(3, harness.pipeline.space.size, dtype=scenario.dtype)
                )
                for key, tensor in harness.state.items():
                    if bool(tensor.isnan().any()):
                        raise Broken(f"the state {key!r} is NaN", after=harness.done, got=tensor)

    sizes = st.sampled_from((0.0, 1.0, 1e-30, -1e30, float("nan")))
    for_all(numbers, share=0.3, scenario=scenarios(), size=sizes)


@check(
    "reads-released-only",
    guards="With the same released values, other private rows leave no trace in anything that a "
    "stage gives: states, scores, supports, bounds, maps.",
    remedy="Compute them from the `state`, `release` and `reads` that the function is given.",
    applies=lambda stage: kind_of(stage) != "noiser",
)
def reads_released_only(subject: Subject) -> None:
    def same(scenario: Scenario) -> None:
        one, other = Harness(subject, scenario, loud=True), Harness(subject, scenario, loud=True)
        if not one.pipeline.stages.private:
            return
        for step in range(scenario.steps):
            traces = []
            for which, harness in enumerate((one, other)):
                harness.show_records(which, step)
                harness.step(_rows(scenario, which, step, harness.pipeline.space.size))
                traces.append(_trace(harness))
            for name, value in traces[0].items():
                if value != traces[1][name]:
                    if name == NOISED and _nearly(one.last, other.last):
                        raise Refused("the noise does not hide the rows")  # once in 2²³
                    raise Broken(
                        f"{name} depends on private rows, and not only on what was released",
                        after=step + 1,
                    )

    for_all(same, share=0.2, scenario=scenarios(steps=(1, 2, 5)))
    for_all(
        same, share=0.04, scenario=scenarios((LAYERS,), steps=(60,))
    )  # what refreshes now and then
    for_all(same, share=0.04, scenario=scenarios((WIDE,), steps=(2,)))


def _rows(scenario: Scenario, which: int, step: int, size: int) -> Tensor:
    """Two data sets as far apart as they can be: sizes, signs, and a record that is not finite."""
    g_BD = scenario.rows(which, step, size=size, count=3 + 2 * which)
    if which == 1:
        g_BD = 100 * g_BD.abs() + scenario.scale
        g_BD[step % 4, 0] = float("nan")
        return g_BD[: 5 * (step % 3)]
    return g_BD


NOISED = "the noised sum"


def _nearly(one: Release, other: Release) -> bool:
    """Whether two noised sums differ by no more than the rows that the noise should hide."""
    a_K, b_K = one.noised.value, other.noised.value
    return bool(((a_K - b_K).abs() <= 2.0**-20 * a_K.abs().max()).all())


def _trace(harness: Harness) -> dict[str, object]:
    """All that the harness shows after a step, bit for bit."""
    pipeline, stage, state, release = harness.pipeline, harness.stage, harness.state, harness.last
    found = {"the support of the step": bits(release.support_D)}
    found[NOISED] = bits((release.noised, list(release.queries.items())))
    found["the released gradient"] = bits(release.gradient)
    for name, own in harness.states.items():
        found |= {f"the state {key!r} of {name}": bits(t) for key, t in own.items()}
    found["the support"] = bits(harness.opened().context.support_D)
    found["the bound"] = bits(pipeline.bound(harness.states))
    if harness.kind == "scorer":
        found["the score"] = bits(stage.score(state))
    if isinstance(stage, AffineRowMap):
        found["the affine map"] = bits(stage.affine(state))
    if harness.kind == "point":
        weights_D = harness.scenario.context().weights_D
        found["the point"] = bits(stage.at(state, weights_D, harness.opened().context.support_D))
    if harness.kind in ("row", "post"):
        found["the output space"] = bits(stage.output_space(harness.input_space))
    return found
