"""The wheel installs one name, and lives beside a project that uses the names of our folders."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("dpcore", "mechanisms", "accountants", "trainers", "audits", "cli")

PROJECT = """
import audits, cli, tests, trainers
assert {m.MINE for m in (audits, cli, tests, trainers)} == {"the user's"}
import dpigu
from dpigu import Flat, Gaussian, Phase, Pipeline, Plan
plan = Plan((Phase("main", Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian()), 2),))
data = dpigu.load_data("digits")
settings = dpigu.Settings(noise_multiplier=9.0, expected_batch=16.0, accountant="rdp")
model = dpigu.build_model("linear", data.spec, seed=0)
run = dpigu.train(plan, data, model, settings, progress=False)
from dpigu.cli.dpigu.main import main
try:
    main(["presets"])
except SystemExit as ended:
    assert ended.code == 0
print("epsilon", run.summary["epsilon"], dpigu.__file__)
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what the repository tracks, so that nothing lies about from before."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in (*FOLDERS, "dpigu"):
        run("cp", "-r", ROOT / folder, source / folder, cwd=ROOT)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        run("cp", ROOT / file, source / file, cwd=ROOT)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, source, cwd=source)
    return next(out.glob("dpigu-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are those that are here already."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    packages = next((home / "lib").glob("python*")) / "site-packages"
    (packages / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install")
    run(*pip, "--quiet", "--no-deps", wheel, cwd=home)
    return home / "bin"


def test_the_wheel_holds_one_name_and_every_module(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.partition("/")[0] for n in names if ".dist-info" not in n} == {"dpigu"}
    ours = {f"dpigu/{p.relative_to(ROOT)}" for f in FOLDERS for p in (ROOT / f).rglob("*.py")}
    assert ours <= set(names)
    assert "dpigu/py.typed" in names


def test_a_project_keeps_its_own_names(environment: Path, tmp_path: Path) -> None:
    for name in ("trainers", "cli", "audits", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('MINE = "the user\'s"\n')
    (tmp_path / "main.py").write_text(PROJECT)
    out = run(environment / "python", "main.py", cwd=tmp_path)
    assert str(environment.parent) in out.split()[-1]
    for command in ("dpigu --help", "dpaudit --help", "python -m dpigu --help"):
        name, *arguments = command.split()
        assert run(environment / name, *arguments, cwd=tmp_path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_refuses_its_bare_name(folder: str) -> None:
    bare = f"import sys; sys.path.insert(0, '.'); import {folder}"
    done = subprocess.run(
        [sys.executable, "-c", bare], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"import dpigu.{folder}" in done.stderr.splitlines()[-1]
