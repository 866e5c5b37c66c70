"""The report as one page that needs nothing but a browser: no network, no script, all escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from dpigu.accountants.base import stated
from dpigu.audits.report.figures import figures
from dpigu.audits.report.membership import membership_section
from dpigu.audits.report.texts import (
    BEYOND,
    CAPTIONS,
    CONFIDENTIAL,
    CSS,
    ESTIMATES,
    HOW,
    PAPERS,
    POWERLESS,
    RULER,
    STYLES,
    WHAT_TO_DO,
    WORDS,
)
from dpigu.audits.wording import down, guesses_told, p_text, up


def page(data: Mapping[str, Any]) -> str:
    """The whole HTML document of a report's data."""
    tone, mark = POWERLESS if data["powerless"] else STYLES[data["verdict"]]
    drawn = figures(data)
    title = f"{data['headline']}: {data['subject']}"
    body = [
        f'<header class="verdict"><h1>{mark} {escape(data["headline"])}</h1>'
        f'<p class="short">{escape(data["plainly"])}</p>{_next(data)}'
        f"<p>{escape(data['sentence'])}</p><p>{CONFIDENTIAL}</p></header>",
        _how(data),
        _ruler(drawn, data["beyond_guesses"]),
        _numbers(data),
        _as_numbers(data["as_claimed"]),
        _section("What was audited", _card(_facts(data))),
        _pictures(drawn),
        _estimates(data),
        _deciders(data),
        membership_section(data["membership"]),
        _section("What was assumed", _card(_list(data["assumptions"]))),
        _section("Are the papers in order? No check of privacy", _card(_checks(data["checks"]))),
        _section("How to reproduce", _commands(data["reproduce"])),
        "<footer>An audit looks for evidence against a claim of differential privacy. It can "
        f"contradict a claim and never prove one. Schema {escape(data['schema'])}.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{CSS}:root{{--tone:{tone}}}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _next(data: Mapping[str, Any]) -> str:
    """What to do: with a verdict, or to have power where this design had none."""
    if (advice := data["advice"]) is None:
        return f'<div class="next"><p>{WHAT_TO_DO[data["verdict"]]}</p></div>'
    return (
        f'<div class="next"><p><b>Next:</b> {escape(advice["what"])}.</p>'
        f"{_commands(data['next'])}<p>{escape(advice['why'])}</p></div>"
    )


def _how(data: Mapping[str, Any]) -> str:
    """How it was done, and the words that every number needs."""
    if data["p_value"] is None:
        return ""
    text = HOW.get(data["command"], HOW["scores"])
    words = "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in WORDS)
    return f'<div class="grid wide how"><p>{escape(text)}</p>{_card(f"<dl>{words}</dl>")}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>' if content else ""


def _ruler(drawn: Mapping[str, str], beyond: bool) -> str:
    if "ruler" not in drawn:
        return ""
    label = "Claim, lower bound and ceiling on one scale of ε"
    return _section(
        "The claim against the evidence",
        f'<figure class="card ruler"><div role="img" aria-label="{label}">{drawn["ruler"]}</div>'
        f"<figcaption>{escape(RULER + BEYOND * beyond)}</figcaption></figure>",
    )


def _numbers(data: Mapping[str, Any]) -> str:
    """The figures of the verdict, each with what it means."""
    if data["p_value"] is None:
        return ""
    at = f"{100 * data['confidence']:g}%"
    cards = [
        ("Claim", f"ε = {stated(data['claim_epsilon'])}", f"at δ = {data['delta']:g}"),
        (
            "p-value at the claim",
            p_text(data["p_value"]),
            "If the claim is true, evidence this strong turns up in at most "
            f"{p_text(100 * data['p_value'])}% of audits. CONTRADICTED is said only below "
            f"{100 * (1 - data['confidence']):.3g}%.",
        ),
        (
            "Lower bound",
            f"ε ≥ {down(data['lower_bound'])}",
            f"So much leaks at least, and one can be {at} sure of it.",
        ),
        (
            "Ceiling",
            f"ε = {down(data['ceiling'])}",
            "The largest lower bound that guesses could have given, had every one been right.",
        ),
    ]
    if data["guesses"] is not None:
        most = data["grid"][-1]
        share = f"{most['correct'] / most['guesses']:.0%}"
        cards.append(("Guesses right", share, " ".join(guesses_told(data))))
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
    note = f"<p>{escape(data['estimates']['note'])}</p><p>{escape(ESTIMATES)}</p>"
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
        value = "∞" if fit["epsilon"] is None else down(fit["epsilon"])
        rows.append(("ε, if the noise were Gaussian", value, f"μ = {down(fit['mu'])}; no bound"))
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
    """The checks of the evidence: a cross where one failed, and no mark that looks like a pass."""
    items = ""
    for check in checks:
        failed = check["name"] == "failed"
        mark = '<b class="no">✗</b>' if failed else "<b>·</b>"
        items += f"<li>{mark}<b>{escape(check['name'])}</b>: {escape(check['result'])}</li>"
    return f'<p>{escape(PAPERS)}</p><ul class="checks">{items}</ul>' if items else ""


def _commands(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return f"<pre>{escape(text)}</pre>" if text else ""
