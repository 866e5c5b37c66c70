"""Mutation testing of the trusted base: cosmic-ray's operators, one forked test run a mutant.

    pip install cosmic-ray
    OMP_NUM_THREADS=1 python -m tests.mutants.run_cosmic_ray OUT.jsonl [module ...]

No file is changed: a fork imports the mutated module from memory, and the module's tests run in
it until one fails. They must pass unmutated, before and after. A mutant that is no Python, or
differs in annotations alone, is left out. Each line of OUT says: module, operator, line, the
line as mutated, and killed, survived or timeout; what stands there is not run again. The result
is in docs/mutation.md.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).resolve().parents[2]
LAWS = [
    f"tests/laws/{name}.py"
    for name in ("test_sensitivity", "noise/test_noise", "test_support", "test_locality")
]
TESTS: dict[str, list[str]] = {
    "dpigu.dpcore.kernel": [
        "tests/laws/test_kernel.py",
        *LAWS,
        "tests/laws/records/test_execution.py",
        "tests/laws/test_non_interference.py",
        "tests/laws/test_accounting.py",
    ],
    "dpigu.dpcore.rows": [
        "tests/laws/test_kernel.py",
        *LAWS,
        "tests/laws/records/test_execution.py",
        "tests/laws/test_inverse.py",
    ],
    "dpigu.dpcore.sampling": ["tests/dpcore/test_plan.py", "tests/laws/test_accounting.py"],
    "dpigu.dpcore.grammar.plan": [
        "tests/mechanisms/statistics/test_selective_update.py",
        "tests/dpcore/test_plan.py",
        "tests/laws/test_accounting.py",
        "tests/dpcore/test_pipeline.py",
    ],
    "dpigu.dpcore.grammar.pipeline": [
        "tests/dpcore/test_pipeline.py",
        "tests/dpcore/test_plan.py",
        "tests/laws/test_accounting.py",
        "tests/laws/test_sensitivity.py",
    ],
    "dpigu.mechanisms.clippers.flat": [
        "tests/mechanisms/clippers/test_boundary.py",
        "tests/laws/test_sensitivity.py",
    ],
    "dpigu.mechanisms.release.noisers": [
        "tests/mechanisms/clippers/test_boundary.py",
        "tests/laws/noise/test_noise.py",
    ],
    "dpigu.accountants.events": [
        "tests/accountants/test_events.py",
        "tests/accountants/test_suite.py",
    ],
    "dpigu.accountants.base": [
        "tests/accountants/test_suite.py",
        "tests/accountants/test_calibrate.py",
    ],
    "dpigu.accountants.renyi_orders.rdp": [
        "tests/accountants/test_suite.py",
        "tests/accountants/test_reference.py",
    ],
    "dpigu.accountants.calibrate": ["tests/accountants/test_calibrate.py"],
}
QUICK = "not pld and not prv and not rdp_grows and not reach_every"
LESS = {"dpigu.dpcore.kernel": " and not engine and not sampler and not scheduler and not weights"}
"""Tests of a module's files that do not touch it."""
SLOW = {"dpigu.accountants.calibrate": "pld or prv"}
"""Tests for what passes the quick ones."""
SECONDS = 60
OURS = {"dpcore", "mechanisms", "accountants", "trainers", "audits", "tests"}
LEFT_OUT = ("core/VariableInserter", "core/VariableReplacer", "core/NoOp")
SWAPS = {
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "MatMul_Add"),
    *("BitAnd_BitOr", "BitOr_BitAnd", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt"),
    *("Eq_NotEq", "NotEq_Eq", "In_NotIn", "NotIn_In", "Is_IsNot", "IsNot_Is"),
}
"""One replacement for each arithmetic or comparison operator, out of all that there are."""


def bare(source: str) -> str:
    """The syntax tree without annotations, which nothing reads at run time here."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None and not isinstance(node, ast.AnnAssign):
                setattr(node, name, None)
    return ast.dump(tree)


def mutants(source: str) -> Iterator[tuple[str, int, str, str]]:
    """Every mutant of a source: operator, line, that line as mutated, the whole as mutated."""
    seen = {bare(source)}
    for name in sorted(operator_names()):
        kind, _, swap = name.partition("Operator_")
        if name in LEFT_OUT or (swap and kind != "core/ReplaceUnary" and swap not in SWAPS):
            continue
        for occurrence in range(1000):
            mutated = mutate_code(source, get_operator(name)(), occurrence)
            if mutated is None:
                break
            try:
                tree = bare(mutated)
            except SyntaxError:
                continue
            if tree in seen:
                continue
            seen.add(tree)
            pairs = zip(source.splitlines(), mutated.splitlines(), strict=False)
            changed = [(i + 1, new) for i, (old, new) in enumerate(pairs) if old != new]
            line, text = changed[0] if changed else (0, "")
            yield name, line, text.strip(), mutated


class FromMemory(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a source in memory."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.source = module, source

    def find_spec(self, fullname: str, path: object, target: object = None) -> object:
        if fullname != self.module:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(path_of(fullname)))

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, str(path_of(self.module)), "exec"), vars(module))


def path_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def verdict(module: str, source: str) -> str:
    """Whether the module's tests notice the mutant."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        sys.meta_path.insert(0, FromMemory(module, source))
        options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
        runs = [(path, QUICK + LESS.get(module, "")) for path in TESTS[module]]
        runs += [(path, SLOW[module]) for path in TESTS[module] if module in SLOW]
        os._exit(int(any(pytest.main([*options, "-k", k, path]) != 0 for path, k in runs)))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "killed"
    return "killed" if os.WEXITSTATUS(status) else "survived"


def warm() -> None:
    """Import what the tests import once, before the forks, and forget our own modules again.

    Hypothesis draws as in the quick profile, and does not shrink what it finds.
    """
    health = [HealthCheck.too_slow]
    drawn: dict[str, Any] = {"max_examples": 25, "derandomize": True, "database": None}
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile(
        "mutants", deadline=None, phases=phases, suppress_health_check=health, **drawn
    )
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    for path in sorted({path for paths in TESTS.values() for path in paths}):
        importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        if name != __name__:
            del sys.modules[name]
    torch.set_num_threads(1)


def main(out: Path, modules: list[str]) -> None:
    warm()
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    for module in modules:
        source = path_of(module).read_text()
        assert verdict(module, source) == "survived", f"{module}: its tests fail unmutated"
        for operator, line, text, mutated in mutants(source):
            row = {"module": module, "operator": operator, "line": line, "text": text}
            if any(row.items() <= before.items() for before in known):
                continue
            result = verdict(module, mutated)
            with out.open("a") as file:
                file.write(json.dumps({**row, "result": result}, ensure_ascii=False) + "\n")
        assert verdict(module, source) == "survived", f"{module}: something else has changed"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(TESTS))
