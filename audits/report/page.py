"""The report as one page that needs nothing but a browser: no network, no script, all escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from dpigu.audits.report.figures import figures
from dpigu.audits.report.membership import membership_section
from dpigu.audits.wording import down, p_text, up

STYLES = {
    "CONTRADICTED": ("#b91c1c", "✗", "The claim does not hold up."),
    "NOT CONTRADICTED": ("#1e40af", "○", "Nothing found against the claim; that is no proof."),
    "INVALID AUDIT": ("#a16207", "!", "This audit cannot answer the question."),
}
POWERLESS = ("#a16207", "○", "Hardly anything could have been found.")

CSS = """
:root{color-scheme:light;--ink:#111827;--soft:#4b5563;--line:#e5e7eb;--card:#fff;--back:#f6f7f9}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
 overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:16px}
header.verdict{border-radius:14px;padding:22px;color:#fff;background:var(--tone)}
.verdict h1{margin:0;font-size:clamp(1.5rem,5vw,2.3rem);line-height:1.15;letter-spacing:.01em}
.verdict .short{font-size:1.1rem;font-weight:600;margin:.35rem 0 .6rem}
.verdict p{margin:.3rem 0;max-width:70ch}
h2{font-size:1.2rem;margin:1.8rem 0 .6rem}
h3{font-size:1rem;margin:0 0 .3rem}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,165px),1fr))}
.wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.number{font-size:1.7rem;font-weight:700;line-height:1.2}
.card p,figcaption{margin:.25rem 0 0;color:var(--soft);font-size:.92rem}
figure{margin:0}
svg{display:block;width:100%;height:auto}
.ruler svg{max-width:640px;margin:0 auto}
.how{max-width:75ch;margin:1rem 2px 0}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.35rem 1rem;margin:0}
dt{color:var(--soft)}dd{margin:0}
ul{margin:.2rem 0;padding-left:1.2rem}
li{margin:.25rem 0}
ul.checks{list-style:none;padding:0}
ul.checks li{padding-left:1.6rem;text-indent:-1.6rem}
ul.checks b:first-child{display:inline-block;width:1.6rem;text-indent:0}
.yes{color:#15803d}.no{color:#b91c1c}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.35rem .5rem .35rem 0;border-bottom:1px solid var(--line);
 vertical-align:top;overflow-wrap:normal}
.n{white-space:nowrap}
pre{background:#111827;color:#f9fafb;padding:12px 14px;border-radius:10px;overflow-x:auto;
 white-space:pre-wrap;font-size:.88rem;margin:.4rem 0}
details{margin:.5rem 0}summary{cursor:pointer;font-weight:600}
footer{color:var(--soft);font-size:.85rem;margin:2rem 0 1rem}
@media(max-width:480px){main{padding:10px}dl{grid-template-columns:1fr;gap:0 0}
 dt{margin-top:.5rem;font-size:.88rem}.card{padding:12px}header.verdict{padding:16px}}
@media print{body{background:#fff;font-size:11pt}main{padding:0;max-width:none}
 header.verdict{background:#fff;color:var(--tone);border:2px solid var(--tone)}
 pre{background:#fff;color:var(--ink);border:1px solid var(--line)}
 .number{font-size:1.2rem}.wide{grid-template-columns:1fr 1fr}
 .card,figure,tr,li,dd{break-inside:avoid}h2,h3,summary{break-after:avoid}thead{display:table-header-group}
 details::details-content{display:block;content-visibility:visible}}
@page{margin:15mm}
"""

CAPTIONS = {
    "scores": (
        "Scores",
        "How trained-on each record looks to the model. The more the two heaps come apart, the "
        "more the model gives away about who was in it.",
    ),
    "roc": (
        "Who can be found, at what price",
        "For every rate of wrongly accused records, how many of the trained ones are found. Only "
        "what rises above the dashed line, where blind guesses lie, says anything. The band is the "
        "interval of each point.",
    ),
    "tradeoff": (
        "Errors that the claim demands",
        "Whoever tries to tell who was in must err: accuse wrongly or miss. The claim says that "
        "no test can enter the grey corner below its limit. The accountant's limit, where it is "
        "drawn, is what the noise and the steps that ran allow, which is never more; the run's "
        "own accounting is tested against it. The dashed line is blind guessing. What was observed "
        "is an estimate, with its interval as a band; the tests decide.",
    ),
    "bounds": (
        "What each number of guesses shows",
        "The audit guesses only where it is surest. How often was fixed before training; the "
        "dotted line is the most that perfect guesses would have shown, the dashed one the claim. "
        "The lower bound of the audit is the highest of the points.",
    ),
}

HOW = {
    "model": (
        "How it was done: before training, records of the auditor's (canaries) were put in or left "
        "out by flipping a coin for each. Afterwards the audit guessed, from what training "
        "released alone, which had been in. If the claim holds, such guesses can be right only so "
        "often; more right guesses than that are evidence against it."
    ),
    "scores": (
        "How it was done: whether a record was in was decided by a coin. The audit guessed from "
        "the scores alone which had been in. If the claim holds, such guesses can be right only so "
        "often; more right guesses than that are evidence against it."
    ),
}

WORDS = (
    (
        "ε (epsilon)",
        "how much one record may change what training releases. At ε = 0 no test could tell "
        "whether a record was in; a good guesser's odds can grow by a factor of e^ε: about 1.1 "
        "at 0.1, 2.7 at 1, 55 at 4.",
    ),
    ("δ (delta)", "a small probability with which that promise may fail."),
    ("canary", "a record planted by a coin flip, so that chance alone decided if it trained."),
    (
        "p-value at the claim",
        "were the claim true, evidence this strong would turn up at most this often. The verdict "
        "is CONTRADICTED only below the error that was fixed beforehand.",
    ),
    ("lower bound", "at the confidence, the true ε is no smaller than this."),
    ("ceiling", "the largest lower bound that this audit could have given, all guesses right."),
    ("no power", "the ceiling is below 1.25 times the claim: hardly anything could contradict it."),
)


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
        f'<div class="card ruler" role="img" aria-label="{label}">{drawn["ruler"]}</div>',
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
        cards.append(("Guesses", f"{right} of {all_}", f"{right / all_:.0%}. {note}"))
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
