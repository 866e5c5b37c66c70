"""The part of the report that shows membership inference: escaped, drawn, and in plain words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from dpigu.audits import ATTACKS, Membership, report_data
from dpigu.audits.report.membership import membership_rows, membership_section, strongest
from dpigu.audits.report.page import page
from dpigu.audits.verdict import invalid_audit

EVIL = "<script>alert('x')</script>"


def membership(shift: float = 1.0, records: int = 400) -> dict[str, Any]:
    """Each attack sees a little more than the one before."""
    draw = np.random.default_rng(0)
    member_N = np.arange(records) < records // 2
    scores = {
        name: draw.normal(size=records) + shift * (1 + i / 2) * member_N
        for i, name in enumerate(ATTACKS)
    }
    return Membership(scores=scores, member_N=member_N, shadows=16).to_json()


def whole(data: dict[str, Any]) -> str:
    report = invalid_audit("no coins decided who was in it")
    return page(report_data(report, command="model", subject="runs/a", membership=data))


@pytest.mark.pictures
def test_the_page_shows_every_attack_beside_the_others() -> None:
    data = membership()
    html = whole(data)
    assert html.count("<svg") == 1
    for attack in data["attacks"]:
        assert attack["title"] in html and attack["asks"] in html
        assert f"<b>{attack['auc']['value']:.3f}</b>" in html
    assert data["note"] in html and all(line in html for line in data["assumptions"])
    assert "INVALID AUDIT" in html


def test_a_report_without_it_has_no_such_section() -> None:
    assert membership_section(None) == ""


def test_everything_given_is_shown_as_text() -> None:
    data = membership()
    for key in ("sentence", "note"):
        data[key] = EVIL
    data["assumptions"] = [EVIL]
    for attack in data["attacks"]:
        attack["title"] = attack["asks"] = EVIL
    html = whole(data)
    assert "<script" not in html and html.count("&lt;script&gt;") >= 8


def test_the_sentence_names_the_strongest_and_what_it_finds() -> None:
    data = membership()
    best = strongest(data["attacks"])
    assert best["name"] == "rmia"
    assert "(RMIA)" in data["sentence"] and f"{best['auc']['value']:.1%}" in data["sentence"]
    assert "one in a thousand" in data["sentence"] and f"{best['tpr'][0]['value']:.2%}"
    assert "not told from blind guessing" in membership(shift=0.0, records=60)["sentence"]
    assert "not told from" not in data["sentence"]


def test_a_row_has_each_interval() -> None:
    for title, *cells in membership_rows(membership()):
        assert title and len(cells) == 3
        assert all(re.fullmatch(r"[\d.]+%? \([\d.]+%? to [\d.]+%?\)", cell) for cell in cells)
