"""The grammar of private pipelines, their kernel, and the registry of stages."""

from dpcore.adjacency import Adjacency
from dpcore.binding import Binding, Frame, States
from dpcore.description import Guarantee, describe
from dpcore.errors import (
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
from dpcore.kernel import Kernel
from dpcore.noise import NoiseSource, ReproducibleNoise, SystemNoise
from dpcore.pipeline import Pipeline
from dpcore.plan import Phase, Plan
from dpcore.registry import Entry, register
from dpcore.rows import DenseRows, Engine, Rows, Transform
from dpcore.sampling import PoissonSampler
from dpcore.spaces import Bounded, Released, Space
from dpcore.stages import (
    Affine,
    AffineRowMap,
    Clipper,
    Clock,
    Context,
    MaskScheduler,
    Noiser,
    Point,
    PostMap,
    Query,
    Reads,
    Release,
    RowMap,
    Scorer,
    State,
    Stateful,
    View,
)

__all__ = [
    "AccountingError",
    "Adjacency",
    "Affine",
    "AffineRowMap",
    "Binding",
    "Bounded",
    "BudgetError",
    "Clipper",
    "Clock",
    "ConfigurationError",
    "Context",
    "DataError",
    "DenseRows",
    "DpiguError",
    "Engine",
    "Entry",
    "Frame",
    "GrammarError",
    "Guarantee",
    "Kernel",
    "MaskScheduler",
    "ModelError",
    "NoiseSource",
    "Noiser",
    "Phase",
    "Pipeline",
    "Plan",
    "Point",
    "PoissonSampler",
    "PostMap",
    "PrivacyError",
    "Query",
    "Reads",
    "RegistryError",
    "Release",
    "Released",
    "ReproducibleNoise",
    "RowMap",
    "Rows",
    "RunError",
    "Scorer",
    "Space",
    "State",
    "Stateful",
    "States",
    "SystemNoise",
    "Transform",
    "View",
    "describe",
    "register",
]
