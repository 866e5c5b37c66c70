"""What a conformance check is: its name, what it guards, and how a stage fails it."""

from __future__ import annotations

import dataclasses
import functools
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
from dpigu.dpcore import DpiguError, Entry, GrammarError
from dpigu.dpcore.grammar.stages import kinds_of, name_of
from dpigu.dpcore.registry import dataclass_from, options_of
from hypothesis.errors import Flaky, HypothesisException, Unsatisfiable
from hypothesis.strategies import SearchStrategy
from torch import Tensor


@dataclass(frozen=True)
class Subject:
    """A stage under test, and the stages that it needs beside it in a pipeline."""

    stage: Any
    beside: tuple[Any, ...] = ()

    @property
    def kind(self) -> str:
        return kind_of(self.stage)


class Broken(Exception):
    """A stage broke a check: what it did, on which example."""

    def __init__(
        self,
        problem: str,
        *,
        got: object = None,
        expected: object = None,
        remedy: str = "",
        **example: object,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.got = got
        self.expected = expected
        self.remedy = remedy
        self.example = example


class Refused(Exception):
    """A stage refuses an example, as it may refuse a space it is not for."""


class ConformanceError(DpiguError):
    """A stage that fails a check: which, what it guards, the smallest counterexample, the remedy.

    Attributes:
        check: the name of the check.
        guards: what the check guards, in one sentence.
        example: the counterexample, as Hypothesis shrank it.
    """

    def __init__(self, check: Check, stage: object, broken: Broken) -> None:
        self.check = check.name
        self.guards = check.guards
        self.example = dict(broken.example)
        super().__init__(
            broken.problem,
            where=f"{described(stage)} fails {check.name}",
            got=broken.got,
            expected=broken.expected,
            remedy=broken.remedy or check.remedy,
        )

    @property
    def detail(self) -> str:
        """What the check guards, the counterexample and the remedy, a line each."""
        lines = [("guards", self.guards)]
        lines += [(key, shown(value)) for key, value in self.example.items()]
        lines += [
            (label, shown(value))
            for label, value in (("got", self.got), ("expected", self.expected))
            if value is not None
        ]
        lines += [("remedy", self.remedy)] if self.remedy else []
        width = max(len(label) for label, _ in lines)
        return "\n".join(f"  {label:<{width}}  {text}" for label, text in lines)

    def _line(self) -> str:
        return f"{self.where}: {self.problem}\n{self.detail}"


@dataclass(frozen=True)
class Check:
    """A small named property that a stage must have.

    Args:
        name: in the words of the property.
        guards: one sentence, what goes wrong without it.
        remedy: what to do about a stage that fails.
        applies: whether a stage is one that it is about, by kind and declarations alone.
        body: raises `Broken` if the stage does not have the property.
        beside: the stages that the stage needs in its pipeline.
    """

    name: str
    guards: str
    remedy: str
    applies: Callable[[Any], bool]
    body: Callable[[Subject], None]
    beside: tuple[Any, ...] = ()

    def __call__(self, stage: object) -> None:
        """Check a stage; `ConformanceError` with the smallest counterexample if it fails."""
        try:
            self.body(Subject(stage, self.beside))
        except Broken as broken:
            if (place := _place(stage, broken.__cause__)) is not None:
                broken.example["in"] = place
            raise ConformanceError(self, stage, broken) from broken.__cause__


def check(
    name: str, *, guards: str, remedy: str, applies: Callable[[Any], bool]
) -> Callable[[Callable[[Subject], None]], Check]:
    """Make a check of a function; `suite` collects those of its modules."""
    return functools.partial(Check, name, guards, remedy, applies)


CRASHED = "Mend that function; a stage may refuse a space with a GrammarError from `init`."
MAPPED = (
    "A function of one record is mapped over the batch: write it with torch functions alone, with "
    "no `.item()`, no `float()` and no branch on values (torch.where chooses)."
)


def for_all(
    test: Callable[..., None], *, share: float = 1.0, **strategies: SearchStrategy[Any]
) -> None:
    """Run a test on examples from Hypothesis; `Broken` with the smallest one that fails.

    Examples are as many as the active profile says (times `share`), derandomised if it says so;
    nothing is read from or written to a database. A stage that refuses an example with a
    `DpiguError` is asked another; one that refuses them all has failed.
    """
    examples = max(1, round(share * hypothesis.settings.default.max_examples))  # type: ignore[union-attr]  # there is always a default profile
    found: list[Broken] = []
    refusals: list[Refused] = []

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        print_blob=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(**strategies)
    def one(**drawn: Any) -> None:
        try:
            test(**drawn)
        except Refused as refusal:
            refusals.append(refusal)
            hypothesis.reject()
        except HypothesisException:
            raise
        except Broken as broken:
            broken.example = {**drawn, **broken.example}
            found.append(broken)
            raise
        except Exception as error:  # a plugin's stage may fail in any way
            what = f"it raises {type(error).__name__}: {first_line(error)}"
            found.append(Broken(what, remedy=MAPPED if "vmap" in what else CRASHED, **drawn))
            raise found[-1] from error

    try:
        one()
    except Flaky:
        found[-1].problem += " (and not when it is asked again: it keeps something between calls)"
        raise found[-1] from None
    except Unsatisfiable:
        if not refusals:
            raise
        raise Broken("it refuses every example", got=str(refusals[-1])) from refusals[-1]


def _place(stage: object, error: BaseException | None) -> str | None:
    """Where in the stage's own file an error came from."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    own = getattr(sys.modules.get(type(stage).__module__), "__file__", None)
    inside = [frame for frame in frames if frame.filename == own]
    if not inside:
        return None
    return f"{inside[-1].name}, {Path(inside[-1].filename).name} line {inside[-1].lineno}"


def kind_of(stage: object) -> str:
    """The kind that a stage is registered under, else the one whose functions it has."""
    kind = getattr(stage, "stage_kind", None) or next(iter(kinds_of(stage)), None)
    if kind is None:
        raise GrammarError(
            "this is no stage: it has the functions of no kind",
            where="conformance",
            got=type(stage).__name__,
            remedy="See the table of kinds in the documentation.",
        )
    return str(kind)


def of_kind(*kinds: str) -> Callable[[Any], bool]:
    """Whether a stage is of one of these kinds."""
    return lambda stage: kind_of(stage) in kinds


def described(stage: object) -> str:
    """A stage with its options: flat(bound=1.0)."""
    options = options_of(stage) if dataclasses.is_dataclass(stage) else {}
    return f"{name_of(stage)}({', '.join(f'{k}={v!r}' for k, v in options.items())})"


def example_of(entry: Entry, options: Mapping[str, Any] | None = None) -> Any:
    """A registered stage with these options; a number without a default is 1."""
    given = dict(options or {})
    hints = typing.get_type_hints(entry.stage)
    for field in dataclasses.fields(entry.stage):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in given and hints[field.name] in (int, float):
            given[field.name] = 1
    return dataclass_from(entry.stage, given, entry.name)


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), "")


def shown(value: object, limit: int = 300) -> str:
    """A value on one line, tensors as lists of numbers."""
    if isinstance(value, Tensor):
        value = value.detach().tolist()
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
