"""What a plan guarantees, and how each guarantee is held."""

from __future__ import annotations

import math
from typing import NamedTuple

from dpigu.dpcore.grammar.pipeline import Pipeline
from dpigu.dpcore.grammar.plan import Phase, Plan
from dpigu.dpcore.grammar.stages import AffineRowMap, Stateful, name_of, public_records_of
from dpigu.dpcore.noise import LAWS
from dpigu.dpcore.registry.entries import OWN_PACKAGE


class Guarantee(NamedTuple):
    """A statement and how it is held: enforced, checked or declared."""

    statement: str
    held: str
    by: str


def describe(plan: Plan) -> list[Guarantee]:
    """Every guarantee of a plan, phase by phase.

    *enforced*: by the kernel, whatever the stages do. *checked*: by laws and by the
    conformance suite. *declared*: by a plugin, and trusted.

    Examples:
        >>> import dpigu
        >>> {line.held for line in describe(dpigu.dpsgd(10))}
        {'enforced'}
    """
    if not plan.private:
        return [Guarantee("no privacy: no noise is drawn, and ε is undefined", "enforced", "Plan")]
    return [guarantee for phase in plan.phases for guarantee in _phase(phase)]


def _phase(phase: Phase) -> list[Guarantee]:
    lines = _pipeline(phase.name, phase.pipeline)
    lines.append(
        Guarantee(
            f"{phase.name}: {phase.steps} steps are charged as {phase.pipeline.event()}",
            "enforced",
            "dpigu.dpcore.grammar.plan.Plan.event",
        )
    )
    if phase.selective_update is not None:
        own, share = phase.selective_update.rate, phase.selective_update.share
        shared = "the plan's rate" if share == 1 else f"{share:g} of the plan's rate"
        rate = shared if own is None else f"rate {own:g}"
        lines += _pipeline(f"{phase.name}, selective update", phase.selective_update.pipeline)
        lines.append(
            Guarantee(
                f"{phase.name}: every update is looked at, at {rate}, and every look is charged "
                f"as {phase.selective_update.pipeline.event()}, kept or not",
                "enforced",
                "dpigu.dpcore.grammar.plan.Phase.event",
            )
        )
    return lines


def _pipeline(name: str, pipeline: Pipeline) -> list[Guarantee]:
    sigma, law_name = pipeline.noiser.noise_multiplier, pipeline.noiser.law
    law = LAWS[law_name]
    try:
        bound = f"{float(pipeline.clipper.joint_bound({})):g}"
    except KeyError:  # it stands in the clipper's state
        bound = "its released bound"
    lines = [
        Guarantee(
            f"{name}: every record's row has norm at most C = {bound}",
            "enforced",
            "dpigu.dpcore.kernel.guarded_factors",
        ),
        Guarantee(
            f"{name}: noise of {sigma:g} · C is drawn once a step on the whole support",
            "enforced",
            "dpigu.dpcore.kernel.Kernel.release",
        ),
        Guarantee(f"{name}: the noise is {law.says}", law.held, f"dpigu.dpcore.noise, {law_name}"),
        Guarantee(
            f"{name}: sums are divided by the expected batch, a public number",
            "enforced",
            "dpigu.dpcore.kernel.Kernel.release",
        ),
    ]
    if pipeline.factorisation is not None:
        lines.append(
            Guarantee(
                f"{name}: a record joins one step in {pipeline.bands}, and all its encoded sums "
                f"{'of the phase ' if pipeline.endless else ''}together are within the sensitivity",
                "enforced",
                "dpigu.dpcore.noise.correlated",
            )
        )
    for query in pipeline.queries:
        share = query.noise_ratio**-2 / (1 + math.fsum(q.noise_ratio**-2 for q in pipeline.queries))
        lines.append(
            Guarantee(
                f"{name}: {name_of(query)} has norm at most {query.bound:g} and "
                f"takes {share:.1%} of the precision",
                "enforced",
                "dpigu.dpcore.kernel.guarded_vectors",
            )
        )
    for placed in pipeline.placed:
        own = type(placed.stage).__module__.startswith(OWN_PACKAGE + ".")
        if placed.slot in ("statistic", "views"):
            lines.append(
                Guarantee(
                    f"{name}: {placed.name} looks at each record by itself",
                    "enforced",
                    "trainers (vmap)",
                )
            )
        if placed.slot == "row":
            kind = "affine" if isinstance(placed.stage, AffineRowMap) else "not affine"
            lines.append(
                Guarantee(
                    f"{name}: {placed.name} maps each record's row by itself ({kind})",
                    "enforced",
                    "dpigu.dpcore.rows.Transform (vmap)",
                )
            )
        if public_records_of(placed.stage):
            lines.append(
                Guarantee(
                    f"{name}: {placed.name} learns from public records, which are not protected",
                    "declared",
                    "whoever gives the public data",
                )
            )
        elif isinstance(placed.stage, Stateful):
            lines.append(
                Guarantee(
                    f"{name}: {placed.name} keeps state from released values only",
                    "checked" if own else "declared",
                    "laws and conformance" if own else type(placed.stage).__module__,
                )
            )
    return lines
