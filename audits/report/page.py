"""The report as one page that needs nothing but a browser: no network, no script, all escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from dpigu.audits.report.figures import figures
from dpigu.audits.report.membership import membership_section
from dpigu.audits.report.texts import CAPTIONS, CSS, HOW, POWERLESS, RULER, STYLES, WORDS
from dpigu.audits.wording import down, p_text, up


def page(data: Mapping[str, Any]) -> str:
    """The whole HTML document of a report's data."""
    tone, mark, short = POWERLESS if data["powerless"] else STYLES[data["verdict"]]
    drawn = figures(data)
    title = f"{data['verdict']}: {data['subject']}"
    body = [
        f'<header class="verdict"><h1>{mark} {escape(data["headline"])}</h1>'
        f'<p class="short">{escape(short)}</p><p>{escape(data["sentence"])}</p></header>',
        _how(data),
        _ruler(drawn),
        _numbers(data),
        _as_numbers(data["as_claimed"]),
        _section("What was audited", _card(_facts(data))),
        _pictures(drawn),
        _estimates(data),
        _deciders(data),
        membership_section(data["membership"]),
        _section("What was assumed", _card(_list(data["assumptions"]))),
        _section("What was checked", _card(_checks(data["checks"]))),
        _section("How to reproduce", _reproduce(data["reproduce"])),
        _section("Words", _card(_words())),
        "<footer>An audit looks for evidence against a claim of differential privacy. It can "
        "contradict a claim and never prove one. This report is about real records: keep it "
        f"where the training data may lie. Schema {escape(data['schema'])}.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{CSS}:root{{--tone:{tone}}}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _how(data: Mapping[str, Any]) -> str:
    text = HOW.get(data["command"], "") if data["p_value"] is not None else ""
    return f'<p class="how">{escape(text)}</p>' if text else ""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>' if content else ""


def _ruler(drawn: Mapping[str, str]) -> str:
    if "ruler" not in drawn:
        return ""
    label = "Claim, lower bound and ceiling on one scale of ε"
    return _section(
        "The claim against the evidence",
        f'<figure class="card ruler"><div role="img" aria-label="{label}">{drawn["ruler"]}</div>'
        f"<figcaption>{escape(RULER)}</figcaption></figure>",
    )


def _numbers(data: Mapping[str, Any]) -> str:
    """The figures of the verdict, each with what it means."""
    if data["p_value"] is None:
        return ""
    at = f"{100 * data['confidence']:g}%"
    cards = [
        ("Claim", f"ε = {data['claim_epsilon']:.4g}", f"at δ = {data['delta']:g}"),
        (
            "p-value at the claim",
            p_text(data["p_value"]),
            f"The claim is contradicted below {1 - data['confidence']:.3g}.",
        ),
        (
            "Lower bound",
            f"ε ≥ {down(data['lower_bound'])}",
            f"At {at} confidence, at least so much leaks.",
        ),
        ("Ceiling", f"ε = {down(data['ceiling'])}", "The most this audit could have shown."),
    ]
    if data["guesses"] is not None:
        right, all_ = data["correct"], data["guesses"]
        note = "Right guesses, at the number of guesses that the lower bound comes from."
        if data["lower_bound"] == 0:
            note = "The best count of those planned; chance alone does so well too often to count."
        cards.append(("Guesses", f"{right} of {all_}", f"{right / all_:.0%} right. {note}"))
    return f'<section><h2>In numbers</h2><div class="grid">{_number_cards(cards)}</div></section>'


def _as_numbers(found: Mapping[str, Any] | None) -> str:
    """What the observations of crafted gradients say of noise and clipping."""
    if found is None:
        return ""
    cards = [
        ("Noise", f"below {up(found['noise'])}", "of what the run claims, on average."),
        (
            "One record's reach",
            f"above {down(found['reach'])}",
            "of the clipping bound: how far a record moves the sum that is released.",
        ),
    ]
    if found["epsilon"] is not None:
        note = "In a mechanism of the form that the run claims. Of others, see the lower bound."
        cards.append(("Then", f"ε ≥ {down(found['epsilon'])}", note))
    how = (
        f"All limits together hold at {100 * found['confidence']:g}% confidence, whatever the data "
        "are; what they add only weakens them."
    )
    return _section(
        "The releases as numbers",
        f'<div class="grid">{_number_cards(cards)}</div><p class="how">{escape(how)}</p>',
    )


def _number_cards(cards: Iterable[tuple[str, str, str]]) -> str:
    return "".join(
        f'<div class="card"><h3>{escape(name)}</h3><div class="number">{escape(value)}</div>'
        f"<p>{escape(note)}</p></div>"
        for name, value, note in cards
    )


def _facts(data: Mapping[str, Any]) -> str:
    rows = [("subject", data["subject"]), *((f["name"], f["value"]) for f in data["facts"])]
    return f"<dl>{''.join(f'<dt>{escape(n)}</dt><dd>{escape(v)}</dd>' for n, v in rows)}</dl>"


def _pictures(drawn: Mapping[str, str]) -> str:
    cards = "".join(
        f'<figure class="card"><h3>{escape(title)}</h3>'
        f'<div role="img" aria-label="{escape(title)}">{drawn[name]}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for name, (title, caption) in CAPTIONS.items()
        if name in drawn
    )
    return _section("In pictures", f'<div class="grid wide">{cards}</div>' if cards else "")


def _estimates(data: Mapping[str, Any]) -> str:
    if data["estimates"] is None:
        return ""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{escape(value)}</td>'
        f"<td>{escape(interval)}</td></tr>"
        for name, value, interval in estimate_rows(data["estimates"])
    )
    head = "<tr><th>estimate</th><th>value</th><th>interval</th></tr>"
    note = f"<p>{escape(data['estimates']['note'])}</p>"
    return _section("Estimates beside the verdict", _card(f"<table>{head}{rows}</table>{note}"))


def estimate_rows(estimates: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and interval of each estimate, as text."""
    area = estimates["auc"]
    rows = [("AUC", f"{area['value']:.3f}", f"{area['low']:.3f} to {area['high']:.3f}")]
    for at in estimates["tpr"]:
        interval = f"{at['low']:.2%} to {at['high']:.2%}"
        rows.append((f"TPR at {at['fpr']:.1%} FPR", f"{at['value']:.2%}", interval))
    if "if_gaussian" in estimates:
        fit = estimates["if_gaussian"]
        value = "∞" if fit["epsilon"] is None else f"{fit['epsilon']:.3f}"
        rows.append(("ε, if the noise were Gaussian", value, f"μ = {fit['mu']:.3f}; no bound"))
    return rows


def _deciders(data: Mapping[str, Any]) -> str:
    """The tests that may decide, and how they share the confidence."""
    if not data["tests"]:
        return ""
    rows = "".join(
        f"<tr><td>{escape(test['name'])}</td><td>{escape(test['rejects'])}</td>"
        f'<td class="n">{p_text(test["p_value"])}</td><td class="n">{test["share"]:.0%}</td></tr>'
        for test in data["tests"]
    )
    count, grid = len(data["tests"]), len(data["grid"])
    note = (
        f"{count} tests may decide, those of guesses at {grid} numbers of guesses fixed before "
        f"training. They share the error of {1 - data['confidence']:.3g}: trying more gains "
        "nothing."
    )
    head = (
        '<tr><th>test</th><th>contradicts</th><th class="n">p-value</th>'
        "<th>share of the error</th></tr>"
    )
    table = f"<table>{head}{rows}</table>"
    return _section("Which tests decide", _card(f"{table}<p>{escape(note)}</p>"))


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _checks(checks: Iterable[Mapping[str, str]]) -> str:
    items = ""
    for check in checks:
        failed = check["name"] == "failed"
        mark = '<b class="no">✗</b>' if failed else '<b class="yes">✓</b>'
        items += f"<li>{mark}<b>{escape(check['name'])}</b>: {escape(check['result'])}</li>"
    return f'<ul class="checks">{items}</ul>' if items else ""


def _reproduce(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return f"<pre>{escape(text)}</pre>" if text else ""


def _words() -> str:
    return f"<dl>{''.join(f'<dt>{escape(n)}</dt><dd>{escape(v)}</dd>' for n, v in WORDS)}</dl>"
