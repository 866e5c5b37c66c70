"""Reports: one page that needs no network and shows whatever it is given as text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import asdict
from functools import cache
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dpigu.audits import (
    Membership,
    combined_test,
    guess_grid,
    invalid_audit,
    judge,
    report_data,
    write_report,
)
from dpigu.audits.advice import mechanism
from dpigu.audits.report import figures as drawing
from dpigu.audits.report.page import page
from dpigu.audits.report.texts import PAPERS
from dpigu.audits.statistics import AsClaimed
from dpigu.audits.statistics.combined import accounted_curve
from dpigu.audits.wording import down
from dpigu.cli.shared.screen import show_report
from dpigu.dpcore import Adjacency, PoissonSampler
from PIL import Image

pytestmark = pytest.mark.pictures

EVIL = "</title><script>alert('x')</script><img src=http://evil.test/a onerror=\"x\">&amp;"


def leaking(count: int = 200, shift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    coins = draw.integers(0, 2, count)
    return draw.normal(size=count) + shift * coins, coins


@cache
def data_of(claim: float = 0.1, text: str = "runs/a", shift: float = 2.0) -> dict[str, Any]:
    scores, coins = leaking(shift=shift)
    event = PoissonSampler(1.0, 100).event(dp_accounting.GaussianDpEvent(1.0))
    own = accounted_curve(event, Adjacency.ADD_OR_REMOVE_ONE)
    made = combined_test(
        scores, coins, guess_grid(200), epsilon=claim, delta=1e-5, confidence=0.95, own=own
    )
    report = judge(
        claim_epsilon=claim,
        delta=1e-5,
        p_value=made.p_value,
        lower_bound=made.one_run.lower_bound,
        ceiling=made.one_run.ceiling,
        confidence=0.95,
        against=made.against,
        assumptions=(text,),
        checks=(("coins", text), ("failed", text)),
    )
    return report_data(
        report,
        command="model",
        subject=text,
        facts=((text, text),),
        combined=made,
        scores=scores,
        members=coins,
        as_claimed=AsClaimed(noise=1.01, reach=0.93, epsilon=3.4, confidence=0.95),
        reproduce=(f"dpaudit model {text}",),
        next_steps=(f"dpaudit plant {text}",) if report.advice else (),
    )


@cache
def page_of(text: str = "runs/a") -> str:
    return page(data_of(text=text))


class Strict(HTMLParser):
    """Counts tags, and fails on whatever would leave the page or run."""

    VOID = frozenset({"meta", "br", "path", "use", "rect", "line", "circle", "ellipse"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag not in {"script", "iframe", "object", "embed", "img", "link", "base", "form"}
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in {"href", "src", "xlink:href", "action"}:
                assert value is not None and value.startswith("#"), value
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def strictly(html: str) -> list[str]:
    parser = Strict()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser.tags


def test_a_page_names_no_address_outside_itself() -> None:
    html = page_of()
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import|data:", html)
    assert "default-src 'none'" in html
    assert strictly(html).count("svg") == 5


def test_everything_given_is_shown_as_text() -> None:
    html = page_of(EVIL)
    strictly(html)
    assert "<script" not in html and "<img" not in html
    assert html.count("&lt;script&gt;") >= 6


def test_that_check_sees_a_page_that_does_not_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpigu.audits.report.page.escape", lambda text: text)
    with pytest.raises(AssertionError):
        strictly(page(data_of(text=EVIL)))


def test_the_verdict_comes_first_with_its_sentence_and_numbers() -> None:
    data = data_of()
    text = re.sub(r"<(style|svg).*?</\1>|<[^>]+>", " ", page_of(), flags=re.DOTALL)
    assert data["verdict"] == "CONTRADICTED"
    places = [
        text.index(word)
        for word in ("CONTRADICTED", data["sentence"][:60], "p-value at the claim", "Lower bound")
    ]
    assert places == sorted(places)
    for word in ("Ceiling", "What was assumed", "Are the papers in order?", "How to reproduce"):
        assert word in text


SEEN = r"<(style|svg).*?</\1>|<[^>]+>"
"""What of a page is no text."""


@cache
def powerless() -> dict[str, Any]:
    """Nothing is told, and the claim is one that no guesses could pass."""
    return data_of(claim=3.99977, shift=0.0)


@cache
def powerless_page() -> str:
    return page(powerless())


def test_without_power_the_page_says_so_and_what_to_run_before_all_else() -> None:
    data, html = powerless(), powerless_page()
    assert data["powerless"] and data["advice"] is not None
    told = (data["headline"], data["plainly"], "Next:", data["next"][0], data["sentence"])
    places = [html.index(escape(text), html.index("<body")) for text in told]
    assert places == sorted(places) and places[-1] < html.index("</header>")
    assert "no pass" not in html and "do not count it as a pass" in html
    assert page_of().count("Next:") == 0


def test_the_title_carries_the_verdict_s_first_line() -> None:
    for data, html in ((data_of(), page_of()), (powerless(), powerless_page())):
        assert f"<title>{escape(data['headline'])}: {data['subject']}</title>" in html


@pytest.mark.parametrize("of", [(data_of, page_of), (powerless, powerless_page)])
def test_no_number_of_the_verdict_is_read_with_two_roundings(
    of: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Claim, bound and ceiling: whatever is printed within 0.5% of one of them is one text."""
    data, whole = of[0](), of[1]()
    show_report(data)
    html = re.sub(SEEN, " ", whole, flags=re.DOTALL)
    labels = " ".join(re.findall(r">([^<>]*: [\d.]+)<", whole))
    for text in (html, labels, capsys.readouterr().out, html + labels):
        numbers = set(re.findall(r"(?<![\w.,])\d+(?:\.\d+)?(?![\w.,]*\d|%)", text))
        for key in ("claim_epsilon", "lower_bound", "ceiling"):
            near = {n for n in numbers if abs(float(n) - data[key]) <= 0.005 * data[key] + 1e-9}
            near.discard(repr(data[key]))
            assert len(near) <= 1, (key, near)


def test_the_picture_of_guesses_shows_what_power_needs_and_what_canaries_can() -> None:
    data, drawn = powerless(), powerless_page()
    assert "needed for power: 5<" in drawn and "the claim: 4<" in drawn
    assert f"most with any canaries: {down(data['limit'])}<" in drawn
    assert data["limit"] >= max(row["ceiling"] for row in data["grid"])
    beyond = drawing._svg(drawing._bounds, data | {"beyond_guesses": True})
    assert "needed for power" not in beyond and "the claim: 4<" in beyond


def test_guesses_are_told_by_their_overall_rate() -> None:
    """The best of the planned counts never stands alone: it reads as the attacker's rate."""
    data, all_ = powerless(), powerless()["grid"][-1]
    card = powerless_page().split("<h3>Guesses right</h3>")[1].split("</p>")[0]
    assert f">{all_['correct'] / all_['guesses']:.0%}<" in card
    assert f"{all_['correct']} of {all_['guesses']} right" in card
    assert f"best of {len(data['grid'])} planned counts" in card
    assert "the lower bound comes from those" in page_of()


def test_checks_of_papers_do_not_look_like_a_pass() -> None:
    html = powerless_page()
    assert "✓" not in html and "No check of privacy" in html and PAPERS in html
    assert html.count("✗") == 1


def test_an_invalid_audit_has_a_page_too() -> None:
    report = invalid_audit("no coins decided who was in it", checks=(("failed", "no coins"),))
    data = report_data(report, command="model", subject="runs/a")
    html = page(data)
    strictly(html)
    assert "INVALID AUDIT" in html and "no coins" in html and "<svg" not in html


def test_the_data_are_plain_and_the_same_each_time(tmp_path: Path) -> None:
    data = data_of()
    assert data == data_of.__wrapped__()
    write_report(tmp_path, data)
    refuse = pytest.fail
    stored = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert stored == data
    assert (tmp_path / "report.html").read_text() == page_of()
    for name in ("report.json", "report.html"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_the_schema_page_names_every_key() -> None:
    """What report.json holds is what docs/report-schema.md documents, and nothing else."""
    text = (Path(__file__).parents[3] / "docs" / "report-schema.md").read_text()
    documented = set(re.findall(r"^\| `([\w.\[\]]+)` \|", text, flags=re.MULTILINE))
    membership = Membership(scores={"loss": np.arange(4.0)}, member_N=np.arange(4) > 1, shadows=0)
    data = data_of() | {"membership": membership.to_json(), "advice": asdict(mechanism())}
    assert data["schema"] in text
    assert keys(data) <= documented
    assert documented - keys(data) <= {"kind", "score"}  # of `dpaudit model` alone


def keys(value: Any, path: str = "") -> set[str]:
    """Every path of keys, a list's items as []."""
    if isinstance(value, dict):
        paths = {f"{path}.{key}".strip(".") for key in value}
        return paths.union(*(keys(v, f"{path}.{key}".strip(".")) for key, v in value.items()))
    if isinstance(value, list):
        return set().union(*(keys(item, f"{path}[]") for item in value))
    return set()


WIDTHS = (390, 1280)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here to draw the page")
def test_a_browser_draws_it_for_a_phone_and_a_desk(tmp_path: Path) -> None:
    """Nothing is wider than a window of 390 or 1280 pixels, and the verdict's red is seen."""
    inside = escape(page_of(), quote=True)
    frames = "".join(
        f'<iframe width="{w}" height="800" srcdoc="{inside}"></iframe>' for w in WIDTHS
    )
    script = (
        "<script>onload=()=>{document.title=Array.from(document.querySelectorAll('iframe'),"
        "f=>f.contentDocument.documentElement.scrollWidth).join()}</script>"
    )
    (tmp_path / "probe.html").write_text(f"<!doctype html><body>{frames}{script}</body>")
    (tmp_path / "report.html").write_text(page_of())
    title = re.search(r"<title>([\d,]+)</title>", browse(tmp_path, "probe.html", "--dump-dom"))
    assert title is not None
    wide = map(int, title[1].split(","))
    assert all(w <= most for w, most in zip(wide, WIDTHS, strict=True))
    shot = tmp_path / "shot.png"
    browse(tmp_path, "report.html", f"--screenshot={shot}", "--window-size=390,900")
    with Image.open(shot) as image:
        colours = image.convert("RGB").getcolors(maxcolors=2**24)
    assert colours is not None
    red = sum(count for count, colour in colours if colour == (185, 28, 28))
    assert red > 0.03 * 390 * 900


def browse(folder: Path, name: str, *options: str) -> str:
    """What chromium, without a network and with a fresh profile, prints."""
    assert CHROMIUM is not None
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    more = "--disable-component-update --disable-sync --hide-scrollbars"
    profile = f"--user-data-dir={folder / 'profile'}-{len(options)}"
    command = [CHROMIUM, *flags.split(), *more.split(), profile, *options]
    done = subprocess.run(
        [*command, f"file://{folder / name}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
