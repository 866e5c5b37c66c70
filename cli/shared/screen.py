"""An audit's report in a terminal: the verdict first, and all of it on one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from dpigu.audits.wording import down, guesses_told, p_text, up
from dpigu.cli.shared.output import print_fields

COLOURS = {"CONTRADICTED": "red", "NOT CONTRADICTED": "green", "INVALID AUDIT": "yellow"}
POWERLESS = "yellow"
WIDTH = 96
_NAME = 13


def show_verdict(told: Mapping[str, Any]) -> None:
    """Print what an audit found, in its colour, before anything else."""
    colour = POWERLESS if told.get("powerless") else COLOURS[told["verdict"]]
    click.secho(told["headline"], fg=colour, bold=True)
    if told.get("powerless"):
        click.secho(told["plainly"], fg=colour, bold=True)
    if (advice := told.get("advice")) is not None:
        click.echo(textwrap.fill(f"Next: {advice['what']}.", WIDTH))
        for line in told["next"]:
            click.echo(f"  {line}")
        click.echo(textwrap.fill(advice["why"], WIDTH) + "\n")
    click.echo(textwrap.fill(told["sentence"], WIDTH) + "\n")


def show_report(data: Mapping[str, Any], page: Path | None = None) -> None:
    """Print the data of a report (`report_data`), and where its page is."""
    from dpigu.audits.report import estimate_rows

    show_verdict(data)
    fields: list[tuple[str, str]] = []
    if data["p_value"] is not None:
        fields += _numbers(data)
    fields += [(fact["name"], fact["value"]) for fact in data["facts"]]
    if data["as_claimed"] is not None:
        fields += wrapped("as numbers", as_numbers(data["as_claimed"]))
    if data["tests"]:
        each = "; ".join(f"{t['name']}: p = {p_text(t['p_value'])}" for t in data["tests"])
        fields.append(("tests", each))
    if data["estimates"] is not None:
        said = [f"{n} {v} ({i})" for n, v, i in estimate_rows(data["estimates"])]
        fields += wrapped("estimates", ["; ".join(said)])
    if data["membership"] is not None:
        fields += wrapped("membership", _membership(data["membership"]))
    fields += wrapped("assumed", data["assumptions"])
    checks = [check for check in data["checks"] if check["name"] != "failed"]
    fields += wrapped("checked", ["; ".join(f"{c['name']}: {c['result']}" for c in checks)])
    failed = (check["result"] for check in data["checks"] if check["name"] == "failed")
    fields += wrapped("failed", failed)
    if page is not None:
        fields.append(("report", str(page)))
    if fields:
        print_fields(fields)


def _numbers(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    from dpigu.accountants.base import stated

    at = f"{100 * data['confidence']:g}% confidence"
    rows = [
        ("claim", f"ε = {stated(data['claim_epsilon'])} at δ = {data['delta']:g}"),
        ("p-value", f"{p_text(data['p_value'])} at the claim, all tests together"),
        ("lower bound", f"ε ≥ {down(data['lower_bound'])} at {at}"),
        ("ceiling", f"ε = {down(data['ceiling'])}, had every guess been right"),
    ]
    if data["guesses"] is not None:
        rows += wrapped("guesses", guesses_told(data))
    return rows


def as_numbers(found: Mapping[str, Any]) -> list[str]:
    """What observations of crafted gradients say of noise and clipping."""
    lines = [
        f"noise below {up(found['noise'])} of the claimed; a record moves the sum by more than "
        f"{down(found['reach'])} of the clipping bound"
    ]
    if found["epsilon"] is not None:
        lines.append(f"then ε ≥ {down(found['epsilon'])}, in a mechanism of the form it claims")
    return lines


def _membership(data: Mapping[str, Any]) -> list[str]:
    """A sentence, and a line for each attack."""
    from dpigu.audits.report import membership_head, membership_rows

    names = membership_head(data)[1:]
    lines = [
        f"{title}: " + "; ".join(f"{n} {v}" for n, v in zip(names, values, strict=True))
        for title, *values in membership_rows(data)
    ]
    return [data["sentence"], *lines, "Estimates: they decide nothing."]


def wrapped(name: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    """Lines that stay within the screen, the name beside the first."""
    lines = [line for text in texts for line in textwrap.wrap(text, WIDTH - _NAME)]
    return [(name if i == 0 else "", line) for i, line in enumerate(lines)]
