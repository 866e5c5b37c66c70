"""The grammar of private pipelines, their kernel, and the registry of stages.

A name is loaded when it is first used: accounting alone needs neither torch nor the kernel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "dpigu.dpcore":
    raise ImportError("import dpigu.dpcore, or take what you need from dpigu")

if TYPE_CHECKING:
    from dpigu.dpcore.adjacency import Adjacency
    from dpigu.dpcore.claim import CalibratedPlan, Ledger, Mechanism
    from dpigu.dpcore.driver import Driver, MakeReleaser, OpenStep, Releaser
    from dpigu.dpcore.errors import (
        AccountingError,
        BudgetError,
        ConfigurationError,
        DataError,
        DpiguError,
        GrammarError,
        ModelError,
        PrivacyError,
        RegistryError,
        RunError,
    )
    from dpigu.dpcore.grammar.bound_pipeline import BoundPipeline, States, StepContext
    from dpigu.dpcore.grammar.pipeline import Pipeline
    from dpigu.dpcore.grammar.plan import Phase, Plan, SelectiveUpdate
    from dpigu.dpcore.grammar.spaces import Bounded, Released, Space
    from dpigu.dpcore.grammar.stages import (
        AffineRowMap,
        Clipper,
        Decision,
        Factorisation,
        MaskScheduler,
        Noiser,
        Point,
        PostMap,
        Query,
        RowMap,
        Scorer,
        Stateful,
        Statistic,
        Subspace,
        Views,
    )
    from dpigu.dpcore.grammar.values import (
        Affine,
        Clock,
        PhaseContext,
        Reads,
        Record,
        Release,
        State,
        View,
    )
    from dpigu.dpcore.kernel import Kernel
    from dpigu.dpcore.noise import NoiseSource, ReproducibleNoise, SystemNoise
    from dpigu.dpcore.ranks import Ranks
    from dpigu.dpcore.registry.configuration import plan_from_dict, plan_to_dict
    from dpigu.dpcore.registry.description import Guarantee, describe
    from dpigu.dpcore.registry.entries import Entry, lookup, register
    from dpigu.dpcore.rows import DenseRows, Engine, Rows, Transform
    from dpigu.dpcore.sampling import PoissonSampler
    from dpigu.dpcore.unit import Unit

_ROOMS: dict[str, tuple[str, ...]] = {
    "adjacency": ("Adjacency",),
    "claim": (
        "CalibratedPlan",
        "Ledger",
        "Mechanism",
    ),
    "driver": (
        "Driver",
        "MakeReleaser",
        "OpenStep",
        "Releaser",
    ),
    "errors": (
        "AccountingError",
        "BudgetError",
        "ConfigurationError",
        "DataError",
        "DpiguError",
        "GrammarError",
        "ModelError",
        "PrivacyError",
        "RegistryError",
        "RunError",
    ),
    "grammar.bound_pipeline": (
        "BoundPipeline",
        "States",
        "StepContext",
    ),
    "grammar.pipeline": ("Pipeline",),
    "grammar.plan": (
        "Phase",
        "Plan",
        "SelectiveUpdate",
    ),
    "grammar.spaces": (
        "Bounded",
        "Released",
        "Space",
    ),
    "grammar.stages": (
        "AffineRowMap",
        "Clipper",
        "Decision",
        "Factorisation",
        "MaskScheduler",
        "Noiser",
        "Point",
        "PostMap",
        "Query",
        "RowMap",
        "Scorer",
        "Stateful",
        "Statistic",
        "Subspace",
        "Views",
    ),
    "grammar.values": (
        "Affine",
        "Clock",
        "PhaseContext",
        "Reads",
        "Record",
        "Release",
        "State",
        "View",
    ),
    "kernel": ("Kernel",),
    "noise": (
        "NoiseSource",
        "ReproducibleNoise",
        "SystemNoise",
    ),
    "ranks": ("Ranks",),
    "registry.configuration": (
        "plan_from_dict",
        "plan_to_dict",
    ),
    "registry.description": (
        "Guarantee",
        "describe",
    ),
    "registry.entries": (
        "Entry",
        "lookup",
        "register",
    ),
    "rows": (
        "DenseRows",
        "Engine",
        "Rows",
        "Transform",
    ),
    "sampling": ("PoissonSampler",),
    "unit": ("Unit",),
}
"""Where each name is defined, as above; held against it by tests/test_public_face.py."""

__all__ = [
    "AccountingError",
    "Adjacency",
    "Affine",
    "AffineRowMap",
    "BoundPipeline",
    "Bounded",
    "BudgetError",
    "CalibratedPlan",
    "Clipper",
    "Clock",
    "ConfigurationError",
    "DataError",
    "Decision",
    "DenseRows",
    "DpiguError",
    "Driver",
    "Engine",
    "Entry",
    "Factorisation",
    "GrammarError",
    "Guarantee",
    "Kernel",
    "Ledger",
    "MakeReleaser",
    "MaskScheduler",
    "Mechanism",
    "ModelError",
    "NoiseSource",
    "Noiser",
    "OpenStep",
    "Phase",
    "PhaseContext",
    "Pipeline",
    "Plan",
    "Point",
    "PoissonSampler",
    "PostMap",
    "PrivacyError",
    "Query",
    "Ranks",
    "Reads",
    "Record",
    "RegistryError",
    "Release",
    "Released",
    "Releaser",
    "ReproducibleNoise",
    "RowMap",
    "Rows",
    "RunError",
    "Scorer",
    "SelectiveUpdate",
    "Space",
    "State",
    "Stateful",
    "States",
    "Statistic",
    "StepContext",
    "Subspace",
    "SystemNoise",
    "Transform",
    "Unit",
    "View",
    "Views",
    "describe",
    "lookup",
    "plan_from_dict",
    "plan_to_dict",
    "register",
]


def __getattr__(name: str) -> Any:
    for module, names in _ROOMS.items():
        if name in names:
            value = getattr(importlib.import_module(f"dpigu.dpcore.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"dpigu.dpcore has no name {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
