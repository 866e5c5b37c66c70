"""`import dpigu` is quick, names all that is public, and is all that README and plugins need."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dpigu
from dpigu import accountants, audits, dpcore, mechanisms, trainers

ROOT = Path(__file__).resolve().parents[1]
SHOWN = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
PLUGIN = [*(ROOT / "examples" / "dpigu-plugin").rglob("*.py")]


def test_every_public_name_is_there_and_belongs_to_one_room() -> None:
    rooms = (dpcore, mechanisms, accountants, trainers, audits)
    named = [name for room in rooms for name in room.__all__]
    assert sorted([*named, "__version__"]) == sorted(dpigu.__all__)
    for name in dpigu.__all__:
        assert getattr(dpigu, name) is not None
    assert dir(dpigu) == sorted(dpigu.__all__)


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="no public name 'guarded_factors'"):
        dpigu.guarded_factors  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    heavy = "import dpigu, sys; print(*({'torch', 'numpy', 'scipy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", [*SHOWN, *PLUGIN], ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_shown_imports_from_the_public_face_alone(path: Path) -> None:
    code = path.read_text()
    if path.suffix == ".md":
        code = "\n".join(re.findall(r"```python\n(.*?)```", code, re.DOTALL))
    assert re.findall(r"(?:from|import) dpigu\.\S+", code) == []


def test_the_table_of_the_core_is_that_of_its_imports() -> None:
    tree = ast.parse(Path(dpcore.__file__).read_text())
    declared = {
        (node.module.removeprefix("dpigu.dpcore."), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dpigu.dpcore.")
        for alias in node.names
    }
    table = {(room, name) for room, names in dpcore._ROOMS.items() for name in names}
    assert table == declared and sorted(name for _, name in table) == dpcore.__all__


def test_noise_by_rdp_loads_neither_torch_nor_a_library_of_accountants() -> None:
    asked = "account noise --epsilon 4 --rate 0.17 --steps 20 --delta 1e-5 --accountant rdp"
    code = (
        "import atexit, sys; from dpigu.cli.dpigu.main import main; "
        "slow = {'torch', 'dp_accounting', 'scipy.stats'}; "
        "atexit.register(lambda: print(sorted(slow & set(sys.modules)))); "
        f"main({asked.split()!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "σ = 1.3267" in done.stdout and done.stdout.splitlines()[-1] == "[]"
