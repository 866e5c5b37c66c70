"""AdaDPIGU with any of its parts taken out or exchanged, as plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.dpcore.registry.entries import lookup
from dpigu.mechanisms.clippers.flat import Flat
from dpigu.mechanisms.release.noisers import Gaussian
from dpigu.mechanisms.release.restorers import AffineRestorer
from dpigu.mechanisms.rows.standardizers import GroupStandardizer

PRETRAINING = 0.1
"""The share of the steps that learn the importance, where one is learnt."""


def ablated(
    steps: int,
    *,
    scheduler: str | None = None,
    scorer: str | None = None,
    scorer_options: Mapping[str, Any] | None = None,
    standardizer: bool = False,
    ratio: float = 0.6,
    pretraining: float = PRETRAINING,
    bound: float = 0.1,
) -> Plan:
    """Two phases as AdaDPIGU has them, with the parts that are asked for; one without pretraining.

    Args:
        steps: of both phases together; all are charged.
        scheduler: the mask's schedule by its registered name; None trains every coordinate.
        scorer: what ranks the coordinates, by its registered name; needed with a scheduler.
        scorer_options: of the scorer, where they are not its defaults.
        standardizer: a scale for each layer in the main phase.
        ratio: the share of coordinates live when the main phase starts.
        pretraining: the share of the steps that learn the importance; 0 for one that is public.
        bound: C.
    """
    clipper, noiser = Flat(bound=bound), Gaussian()
    before = max(1, round(pretraining * steps)) if pretraining else 0
    first: dict[str, Any] = {}
    main: dict[str, Any] = {}
    if scheduler is not None:
        scoring = lookup(scorer or "coherent").stage(**scorer_options or {})
        (first if before else main)["scorer"] = scoring
        main["scheduler"] = lookup(scheduler).stage(ratio=ratio)
    if standardizer:
        main |= {
            "rows": (GroupStandardizer(),),
            "posts": (AffineRestorer(of="group-standardizer"),),
        }
    phases = [Phase("main", Pipeline(clipper, noiser, **main), steps - before)]
    if before:
        phases.insert(0, Phase("pretraining", Pipeline(clipper, noiser, **first), before))
    return Plan(tuple(phases))
