"""`dpigu plugin new`: a package with one stage, its tests and its entry point."""

from __future__ import annotations

import re
from pathlib import Path

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.dpigu.plugin.examples import EXAMPLES, Example

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)+")
"""A distribution whose first word is a namespace: acme-careful has the stage acme/careful."""


@main.group()
def plugin() -> None:
    """Stages of your own, as packages.

    \b
    Example:
      dpigu plugin new acme-careful --kind clipper
    """


@plugin.command()
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(tuple(EXAMPLES)),
    default="row",
    show_default=True,
    help="What the stage is.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder to make  [default: NAME]",
)
def new(name: str, kind: str, out: Path | None) -> None:
    """Write a package with a stage that works, its tests, and an entry point.

    NAME is the distribution's, such as acme-careful; its first word is the namespace, so the
    stage is acme/careful. The stage is a small one that passes every conformance check: change it.

    \b
    Example:
      dpigu plugin new acme-careful --kind clipper
    """
    if not NAME.fullmatch(name):
        raise click.BadParameter(
            "give words joined by '-', such as acme-careful", param_hint="NAME"
        )
    folder = out if out is not None else Path(name)
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} is there already, and not empty.")
    for path, text in package(name, kind).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    stage = stage_of(name)
    click.echo(f"{folder} has the {kind} {stage}. Next:")
    click.echo(f"  cd {folder} && pip install --no-deps -e . && python -m pytest")
    click.echo(f"  dpigu stages check {stage}")


def stage_of(name: str) -> str:
    """The registered name of a distribution's stage: acme/careful of acme-careful."""
    namespace, _, rest = name.partition("-")
    return f"{namespace}/{rest}"


def package(name: str, kind: str) -> dict[str, str]:
    """The files of a package with a stage of a kind, by their paths."""
    module, stage = name.replace("-", "_"), stage_of(name)
    cls = "".join(word.capitalize() for word in name.split("-")[1:])
    return {
        "pyproject.toml": _PROJECT.format(
            name=name, stage=stage, module=module, cls=cls, kind=kind
        ),
        "README.md": _README.format(name=name, stage=stage, module=module, cls=cls, kind=kind),
        f"{module}/__init__.py": f'"""A {kind} for dpigu."""\n\n'
        f'from {module}.stages import {cls}\n\n__all__ = ["{cls}"]\n',
        f"{module}/stages.py": source(EXAMPLES[kind], kind, stage, cls),
        "tests/test_stages.py": _TESTS.format(module=module, cls=cls),
        "tests/conftest.py": _CONFTEST,
    }


def source(example: Example, kind: str, stage: str, cls: str) -> str:
    """The module of a stage."""
    names = ", ".join([*filter(None, [example.names]), "register"])
    torch = "import torch\n" if "torch." in example.body else ""
    tensor = "from torch import Tensor\n" if "Tensor" in example.body else ""
    return _STAGE.format(
        imports=example.imports,
        outside="\n" + torch + tensor if torch or tensor else "",
        names=names,
        kind=kind,
        stage=stage,
        cls=cls,
        says=example.says,
        body=example.body,
    )


_STAGE = '''"""A {kind}: change it to your own."""

from __future__ import annotations

{imports}from dataclasses import dataclass
{outside}
from dpigu import {names}


@register("{kind}", "{stage}")
@dataclass(frozen=True, kw_only=True)
class {cls}:
    """{says}
    """
{body}'''

_PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
description = "A {kind} for dpigu"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["dpigu"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points."dpigu.stages"]
"{stage}" = "{module}.stages:{cls}"

[tool.setuptools]
packages = ["{module}"]

[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = "-q --strict-markers"
"""

_README = """# {name}

The {kind} `{stage}` for dpigu.

    pip install --no-deps -e .
    python -m pytest                  # the conformance suite on the stage
    dpigu stages check {stage}

The stage is `{cls}` in `{module}/stages.py`. A function that sees a record sees one, keeps nothing
and changes nothing in place; what the stage learns goes through `update`, which sees released
values only.
"""

_TESTS = '''"""The stage keeps the rules of its kind."""

from {module} import {cls}

from dpigu import parametrize_with_checks


@parametrize_with_checks([{cls}()])
def test_the_stage_passes_every_check(stage, check):
    check(stage)
'''

_CONFTEST = '''"""Hypothesis for this suite: the same examples every time, and 25 of each."""

from hypothesis import settings

settings.register_profile("quick", max_examples=25, derandomize=True)
settings.load_profile("quick")
'''
