"""mypy --strict refuses pipelines that break the grammar, before anything runs.

One mypy run over all snippets; each must give its error on its own line and no other.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import Bounded, PrivacyError, Released

from tests.laws.test_messages import quoted_from_mypy

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from torch import Tensor
from dpigu.dpcore import (
    BoundPipeline, Bounded, Clipper, Clock, Kernel, MaskScheduler, Noiser, Phase, Pipeline, Plan,
    PoissonSampler, PostMap, Query, Reads, Release, Released, RowMap, Scorer, Space, State,
)
from dpigu.mechanisms import AffineRestorer, Coherent, Flat, Gaussian, GroupStandardizer, TopK

C, N, S = Flat(bound=1.0), Gaussian(), Space.flat("one", 3)

@dataclass(frozen=True, kw_only=True)
class LeakyRow:
    def output_space(self, space: Space) -> Space:
        return space
    def row(self, state: State, g_D: Tensor) -> tuple[Tensor, State]:
        return g_D, {"seen": g_D}

@dataclass(frozen=True, kw_only=True)
class RowReader:
    def output_space(self, space: Space) -> Space:
        return space
    def row(self, state: State, g_BD: Tensor, neighbours: Tensor) -> Tensor:
        return g_BD

@dataclass(frozen=True, kw_only=True)
class TensorPost:
    def output_space(self, space: Space) -> Space:
        return space
    def apply(self, state: State, released: Tensor, reads: Reads) -> Tensor:
        return released

@dataclass(frozen=True, kw_only=True)
class RowClipper:
    def joint_bound(self, state: State) -> Tensor:
        return state["bound"]
    def clip(self, g_D: Tensor) -> Tensor:
        return g_D

@dataclass(frozen=True, kw_only=True)
class RawScorer:
    def score(self, state: State, g_BD: Tensor) -> Tensor:
        return g_BD.mean(0)

@dataclass(frozen=True, kw_only=True)
class RecordSupport:
    monotone: bool = False
    live: bool = True
    def support(self, state: State, clock: Clock, g_D: Tensor) -> Tensor:
        return g_D != 0

@dataclass(frozen=True, kw_only=True)
class RecordNoiser:
    noise_multiplier: float = 1.0
    def sample(self, normal_K: Tensor, rows_BK: Tensor) -> Tensor:
        return normal_K / len(rows_BK)

@dataclass(frozen=True, kw_only=True)
class LaplaceNoiser:
    noise_multiplier: float = 1.0
    law: Literal["laplace"] = "laplace"
"""
SNIPPETS = {
    "a noiser in the clipper's slot": ("Pipeline(clipper=N, noiser=N)", r'"clipper".*"Gaussian"'),
    "a clipper in the noiser's slot": ("Pipeline(clipper=C, noiser=C)", r'"noiser".*"Flat"'),
    "two clippers": ("Pipeline(clipper=(C, C), noiser=N)", r'"clipper".*tuple\[Flat, Flat\]'),
    "no clipper": ("Pipeline(noiser=N)", r"Missing positional argument \"clipper\""),
    "no noiser": ("Pipeline(clipper=C)", r"Missing positional argument \"noiser\""),
    "a stage after the clipper": (
        "Pipeline(C, GroupStandardizer(), N)",
        r"Argument 2.*GroupStandardizer.*Noiser",
    ),
    "a post map among the rows": (
        "Pipeline(C, N, rows=(AffineRestorer(),))",
        r"AffineRestorer.*RowMap",
    ),
    "a row map among the posts": (
        "Pipeline(C, N, posts=(GroupStandardizer(),))",
        r"GroupStandardizer.*PostMap",
    ),
    "a scorer that schedules": (
        "Pipeline(C, N, scheduler=Coherent())",
        r'"Coherent".*MaskScheduler',
    ),
    "rows as a list": ("Pipeline(C, N, rows=[GroupStandardizer()])", r'"list\['),
    "a row map that returns state": ("Pipeline(C, N, rows=(LeakyRow(),))", r"LeakyRow.*RowMap"),
    "a row map that sees other records": (
        "Pipeline(C, N, rows=(RowReader(),))",
        r"RowReader.*RowMap",
    ),
    "a post map on tensors": ("Pipeline(C, N, posts=(TensorPost(),))", r"TensorPost.*PostMap"),
    "a clipper that sees rows": (
        "Pipeline(clipper=RowClipper(), noiser=N)",
        r'"RowClipper".*Clipper',
    ),
    "a released value out of a tensor": (
        "x: Released = Tensor()",
        r'Incompatible types.*"Tensor".*"Released"',
    ),
    "a released value without its variance": (
        "Released(Tensor())",
        r"Missing positional.*variance",
    ),
    "a bounded value noised by hand": (
        "def f(b: Bounded) -> Released: return b",
        r'Incompatible return value.*"Bounded".*"Released"',
    ),
    "a sensitivity typed twice": ("Gaussian(bound=1.0)", r'Unexpected keyword argument "bound"'),
    "a positional option": ("Flat(1.0)", r"Too many positional arguments"),
    "a stage that is assigned to": ("C.bound = 2.0", r'Property "bound".*read-only'),
    "an event typed by hand": (
        "Plan((Phase('a', Pipeline(C, N), 1),), event=None)",
        r'Unexpected keyword argument "event"',
    ),
    "a phase without steps": ("Phase('a', Pipeline(C, N))", r"Missing positional.*steps"),
    "a scorer that sees rows": ("Pipeline(C, N, scorer=RawScorer())", r'"RawScorer".*Scorer'),
    "a support of the record's own": (
        "Pipeline(C, N, scheduler=RecordSupport())",
        r'"RecordSupport".*MaskScheduler',
    ),
    "noise for each record": ("Pipeline(C, RecordNoiser())", r'"RecordNoiser".*Noiser'),
    "a law that the kernel does not draw": (
        "Pipeline(C, LaplaceNoiser())",
        r'"LaplaceNoiser".*Noiser',
    ),
    "two noisers": ("Pipeline(C, (N, N))", r"tuple\[Gaussian, Gaussian\].*Noiser"),
    "a noiser that divides": (
        "Gaussian(divisor=8.0)",
        r'Unexpected keyword argument "divisor"',
    ),
    "noise with a seed": (
        "Kernel(BoundPipeline(Pipeline(C, N), S), expected_batch=8.0, relative_error=0.0, seed=0)",
        r'Unexpected keyword argument "seed"',
    ),
    "a sampler without the declared records": (
        "PoissonSampler(0.1)",
        r"Missing positional.*records",
    ),
}
LEGAL = "Pipeline(C, N, scorer=Coherent(), scheduler=TopK(), rows=(GroupStandardizer(),))"


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What mypy says, by line: the snippets follow the head, one a line, the legal one last."""
    path = tmp_path_factory.mktemp("types") / "snippets.py"
    lines = [snippet for snippet, _ in SNIPPETS.values()]
    path.write_text(HEAD + "\n".join([*lines, LEGAL]) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        # mypy's cache may name the folder of an earlier run with the same snippets
        if match := re.match(rf".*{re.escape(path.name)}:(\d+): error: (.*)", line):
            number = int(match[1])
            found[number] = found.get(number, "") + match[2] + "\n"
    return found


FIRST = HEAD.count("\n") + 1


@pytest.mark.parametrize("name", SNIPPETS)
def test_mypy_refuses(name: str, messages: dict[int, str]) -> None:
    snippet, words = SNIPPETS[name]
    said = messages.get(FIRST + list(SNIPPETS).index(name), "")
    assert re.search(words, said), f"{snippet}\n{said or 'mypy said nothing'}"


def test_mypy_takes_the_legal_one_and_the_head(messages: dict[int, str]) -> None:
    assert FIRST + len(SNIPPETS) not in messages
    assert not [line for line in messages if line < FIRST]


def test_what_types_cannot_stop_construction_does() -> None:
    """The mint is private by name only to mypy; at run time it is checked."""
    with pytest.raises(PrivacyError, match="only the kernel can make a Released value"):
        Released(torch.zeros(1), torch.zeros(1))
    with pytest.raises(PrivacyError, match="only the kernel can make a Bounded value"):
        Bounded(torch.zeros(1), torch.zeros(()))


def test_the_guarantees_quote_what_mypy_says(messages: dict[int, str]) -> None:
    said = "".join(messages.values()).replace("has incompatible type ", "")
    assert [quote for quote in quoted_from_mypy() if quote not in said] == []
