"""One road for built-in stages and plugins; a broken plugin stays alone.

Plugins here are real distributions: a module and a dist-info folder on the path.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from dpigu.dpcore import RegistryError, register
from dpigu.dpcore.grammar.stages import KINDS, name_of
from dpigu.dpcore.registry import entries as registry
from dpigu.dpcore.registry.entries import Entry, entries, lookup
from dpigu.mechanisms import Flat

from tests.support.zoo.strange_stages import Share

ROOT = Path(__file__).resolve().parents[3]
WORKING = """
from dataclasses import dataclass
from dpigu.dpcore import register

@register("noiser", "{name}")
@dataclass(frozen=True, kw_only=True)
class Stage:
    noise_multiplier: float = 1.0
    law: str = "gaussian"
"""


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution of one module with entry points {name: attribute}."""
    monkeypatch.syspath_prepend(tmp_path)

    def plugin(distribution, source, points):
        module = f"{distribution}_plugin"
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (tmp_path / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[dpigu.stages]", *lines]))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return plugin


def broken_of_ours(broken):
    """Names that do not load, but for the stages of plugins that the environment has anyway.

    Their modules are imported already and do not register again in an emptied registry.
    """
    return [e.where for e in broken if "/" not in e.where or e.where == "acme/loud"]


def declare(kind="noiser", name="acme/loud", **parts):
    """Registers a frozen class made of `parts` over a right noiser."""
    whole = {
        "__annotations__": {"noise_multiplier": float},
        "noise_multiplier": 1.0,
        "law": "gaussian",
        **parts,
    }
    cls = type("Loud", (), {key: part for key, part in whole.items() if part is not None})
    return register(kind, name)(dataclass(frozen=True, kw_only=True)(cls))


def test_every_documented_stage_is_registered_under_its_kind():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found, broken = entries()
    built_in = {entry.name: entry for entry in found if entry.distribution == "dpigu"}
    assert broken == []
    assert set(built_in) == set(project["entry-points"]["dpigu.stages"])
    for entry in built_in.values():
        assert isinstance(entry.stage.stage_name, str) and entry.stage.stage_kind == entry.kind


def test_stages_are_listed_by_kind_and_name():
    found, _ = entries()
    order = list(KINDS)
    assert found == sorted(found, key=lambda e: (order.index(e.kind), e.name))


def test_a_stage_knows_its_name():
    assert name_of(Flat(bound=1.0)) == "flat"
    assert lookup("flat") == Entry("clipper", "flat", Flat, "dpigu")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(RegistryError, match=r"got flt, expected flat"):
        lookup("flt")


def test_a_plugin_takes_the_same_road(install):
    install("acme", WORKING.format(name="acme/loud"), {"acme/loud": "Stage"})
    entry = lookup("acme/loud")
    assert (entry.kind, entry.distribution) == ("noiser", "acme")
    assert entry in entries()[0]


def test_loading_is_lazy(install):
    install("acme", WORKING.format(name="acme/loud"), {"acme/loud": "Stage"})
    lookup("flat")
    assert "acme_plugin" not in sys.modules
    lookup("acme/loud")
    assert "acme_plugin" in sys.modules


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise OSError('no such device')", "does not load: OSError: no such device"),
        ("import sys; sys.exit(3)", "does not load: SystemExit: 3"),
        ("def half(:", "does not load: SyntaxError"),
        ("Other = 1", "does not load: AttributeError"),
        ("Stage = 1", "does not register this name"),
        (WORKING.format(name="loud"), "is refused"),
        (WORKING.format(name="acme/other"), "does not register this name"),
    ],
)
def test_a_broken_plugin_is_named_and_takes_no_other_down(install, source, problem):
    install("acme", source, {"acme/loud": "Stage"})
    install("good", WORKING.format(name="good/loud"), {"good/loud": "Stage"})
    with pytest.raises(RegistryError, match=f"acme/loud: the plugin of acme {problem}"):
        lookup("acme/loud")
    found, broken = entries()
    assert broken_of_ours(broken) == ["acme/loud"]
    assert {"flat", "gaussian", "good/loud"} <= {entry.name for entry in found}


def test_a_name_that_two_distributions_claim_names_both_and_takes_no_other_down(install):
    install("acme", WORKING.format(name="acme/loud"), {"acme/loud": "Stage"})
    install("rival", WORKING.format(name="acme/loud"), {"acme/loud": "Stage"})
    with pytest.raises(RegistryError) as caught:
        lookup("acme/loud")
    assert set(caught.value.got) == {"acme", "rival"}
    assert lookup("flat").stage is Flat
    found, broken = entries()
    assert broken_of_ours(broken) == ["acme/loud"]
    assert "acme/loud" not in {entry.name for entry in found}


def test_a_name_is_unique_across_kinds():
    declare("noiser", "acme/one")
    with pytest.raises(RegistryError, match="two stages have the same name"):
        register("query", "acme/one")(Share)


def test_the_same_class_may_be_registered_again():
    """As a notebook does when a cell runs twice."""
    first, again = declare(), declare()
    assert first is not again and lookup("acme/loud").stage is again


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: declare("noise"),
            "register('noise', 'acme/loud'): there is no such kind of stage "
            "(got noise, expected noiser).",
        ),
        (
            lambda: declare(name="loud"),
            "register('noiser', 'loud'): a name outside dpigu needs a namespace "
            "(got loud, expected acme/loud). "
            "Put your distribution's name and a slash before it.",
        ),
        (
            lambda: declare(name="acme/Loud noise"),
            "register('noiser', 'acme/Loud noise'): a name has lower-case letters, digits, '-' "
            "and '.', after an optional namespace (got acme/Loud noise, expected like acme/topk).",
        ),
        (
            lambda: declare("scorer"),
            "register('scorer', 'acme/loud'): a scorer needs the function score "
            "(got Loud, expected def score(self, state)).",
        ),
        (
            lambda: declare("scorer", score=lambda self, s: s["score_D"]),
            "register('scorer', 'acme/loud'): score has other arguments than a scorer is called "
            "with (got (self, s), expected (self, state)).",
        ),
        (
            lambda: declare(law=None),
            "register('noiser', 'acme/loud'): a noiser declares ['law'] (got Loud).",
        ),
        (
            lambda: declare(update=lambda self, state, release: state),
            "register('noiser', 'acme/loud'): a noiser needs the function init "
            "(got Loud, expected def init(self, context, reads)).",
        ),
        (
            lambda: declare(affine=lambda self: None),
            "register('noiser', 'acme/loud'): affine has other arguments than a noiser is called "
            "with (got (self), expected (self, state)).",
        ),
        (
            lambda: declare(noise_multiplier=None, __annotations__={}),
            "register('noiser', 'acme/loud'): a noiser declares ['noise_multiplier'] (got Loud).",
        ),
        (
            lambda: register("noiser", "acme/loud")(object),
            "register('noiser', 'acme/loud'): a stage must be a frozen dataclass (got object). "
            "Decorate the class with @dataclass(frozen=True, kw_only=True), below register.",
        ),
        (
            lambda: register("noiser", "acme/loud")(dataclass(kw_only=True)(type("L", (), {}))),
            "register('noiser', 'acme/loud'): a stage must be a frozen dataclass (got L). "
            "Decorate the class with @dataclass(frozen=True, kw_only=True), below register.",
        ),
        (
            lambda: register("noiser", "acme/loud")(
                dataclass(frozen=True)(type("L", (), {"__annotations__": {"a": int}}))
            ),
            "register('noiser', 'acme/loud'): options are keyword-only (got ['a']). "
            "Decorate the class with @dataclass(frozen=True, kw_only=True).",
        ),
    ],
)
def test_kind_name_signature_and_frozenness_are_checked(make, line):
    with pytest.raises(RegistryError) as caught:
        make()
    assert str(caught.value) == line
    assert "acme/loud" not in registry._registered
