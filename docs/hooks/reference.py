"""The pages of the reference: every public name, read from the code without running it."""

from __future__ import annotations

import functools
from pathlib import Path

import griffe

import examples

PARTS = {
    "errors": ("Errors", ("dpcore.errors", "audits.evidence", "audits.conformance.check")),
    "data": ("Data and models", ("trainers.data", "trainers.models", "trainers.tasks")),
    "training": ("Training", ("trainers",)),
    "stages": ("Stages and presets", ("mechanisms",)),
    "accounting": ("Accounting", ("accountants", "dpcore.claim", "dpcore.adjacency")),
    "auditing": ("Auditing", ("audits",)),
    "grammar": ("Plans and grammar", ("dpcore",)),
}
"""Page, title, and the modules whose public names it has: the first page that fits has a name."""
ROOMS = (
    *("dpcore", "mechanisms", "accountants", "trainers", "audits"),
    *("trainers.integrations.huggingface", "audits.conformance"),
)


def pages(root: Path) -> dict[str, str]:
    """Markdown by file, for mkdocstrings to fill.

    Errors: `ValueError` for public names without a docstring, an example or a page.
    """
    names = public_names(root)
    if bare := [name for name, found in names.items() if not found.docstring]:
        raise ValueError(f"public names without a docstring: {', '.join(bare)}")
    shown = {part: examples.examples(part) for part in PARTS}
    parts = {part: [_head(part, title)] for part, (title, _) in PARTS.items()}
    bare = []
    for name, found in names.items():
        part = _part(found)
        parts[part].append(f"::: {found.path}\n    options:\n      heading: {name}\n")
        if example := shown[part].get(name):
            parts[part].append(f"Example:\n\n```pycon\n{example}```\n")
        elif found.docstring is None or ">>>" not in found.docstring.value:
            bare.append(name)
    if bare:
        raise ValueError(f"public names without an example: {', '.join(bare)}")
    return {f"reference/{part}.md": "\n".join(lines) for part, lines in parts.items()}


def _head(part: str, title: str) -> str:
    """A page's title, and what its examples share."""
    shared = examples.shared(part)
    return f"# {title}\n\nThe examples on this page begin with\n\n```pycon\n{shared}```\n"


@functools.cache
def public_names(root: Path) -> dict[str, griffe.Object]:
    """What `dpigu.__all__` lists, each with where it is defined.

    Errors: `ValueError` for a name that no room has.
    """
    package = griffe.load(
        "dpigu", search_paths=[str(root / ".links")], try_relative_path=False, resolve_aliases=True
    )
    found = {}
    for name in package["__all__"].value.elements:
        name = name.strip("'\"")
        if name != "__version__":
            found[name] = _find(package, name)
    return found


def _find(package: griffe.Object, name: str) -> griffe.Object:
    for room in ROOMS:
        if name in (package[room].exports or ()):
            target = package[room][name]
            target = target.final_target if target.is_alias else target
            # A function in a module of its own name: the module is found first.
            return target[name] if target.is_module else target
    raise ValueError(f"no room exports the public name {name}")


def _part(found: griffe.Object) -> str:
    module = found.module.path.removeprefix("dpigu.")
    for part, (_, prefixes) in PARTS.items():
        if any(module == p or module.startswith(f"{p}.") for p in prefixes):
            return part
    raise ValueError(f"no page of the reference takes {found.path}")


def settings_table(root: Path) -> str:
    """The fields of `Settings` with type, default and meaning."""
    found = public_names(root)["Settings"]
    assert isinstance(found, griffe.Class)
    return _table(("setting", "default", "meaning"), _options(found))


def stages_tables(root: Path) -> str:
    """A table for each kind of stage: its name, options with defaults, and first line."""
    rows: dict[str, list[list[str]]] = {}
    for found in public_names(root).values():
        for decorator in found.decorators if isinstance(found, griffe.Class) else ():
            call = str(decorator.value)
            if call.startswith("register("):
                kind, name = (part.strip(" '\"") for part in call[9:-1].split(","))
                options = "<br>".join(f"`{o} = {d}`" for o, d, _ in _options(found))
                said = (found.docstring.value if found.docstring else "").split("\n\n")[0]
                line = f"[`{name}`](reference/stages.md#{found.path})"
                rows.setdefault(kind, []).append([line, options, " ".join(said.split())])
    heads = ("stage", "options", "what it does")
    return "\n\n".join(f"### {kind}\n\n{_table(heads, rows[kind])}" for kind in sorted(rows))


def _options(found: griffe.Class) -> list[list[str]]:
    """The fields of a dataclass: name, default, meaning."""
    said = {}
    for section in found.docstring.parse("google", warnings=False) if found.docstring else ():
        if section.kind is griffe.DocstringSectionKind.parameters:
            said = {p.name: " ".join(p.description.split()) for p in section.value}
    return [
        [p.name, "required" if p.default is None else str(p.default), said.get(p.name, "")]
        for p in found.parameters
        if p.name != "self"
    ]


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])
