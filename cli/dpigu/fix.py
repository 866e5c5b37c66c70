"""`dpigu fix`: what of a model mixes records, and what to put in its place."""

from __future__ import annotations

from typing import Any

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import COUNT, json_option
from dpigu.cli.shared.output import print_json, printable


@main.command()
@click.argument("model", metavar="MODULE:FACTORY")
@click.option("--data", metavar="NAME", help="A data set whose shape and classes it is made for.")
@click.option("--classes", type=COUNT, help="Likewise, classes alone.")
@click.option("--groups", type=COUNT, help="Groups of channels over images  [default: 16]")
@json_option("the changes")
def fix(
    model: str, data: str | None, classes: int | None, groups: int | None, as_json: bool
) -> None:
    """List what `dpigu.fix` replaces in a model, so that every record stands apart.

    Batch normalisation becomes group normalisation, and so on: the page docs/from-opacus.md has
    the table. Nothing is written: the last line says what to add to the model's factory.

    \b
    Examples:
      dpigu fix my_models:resnet --data cifar10
      dpigu fix my_models:resnet --classes 10 --groups 8
    """
    from dpigu.trainers.models.mixing import GROUPS, fix
    from dpigu.trainers.models.registry import model_of

    made = model_of(model, _offered(data, classes))
    changes = fix(made, GROUPS if groups is None else groups)
    if as_json:
        print_json({"model": model, "changes": [change._asdict() for change in changes]})
        return
    if not changes:
        click.echo("nothing to change: no module of a known kind mixes records")
        return
    for change in changes:
        click.echo(printable(str(change)))
    chosen = "" if groups is None else f", groups={groups}"
    click.echo(printable(f"in {model}, before it returns: dpigu.fix(model{chosen})"))


def _offered(data: str | None, classes: int | None) -> dict[str, Any]:
    """What a factory may ask for: the constants of a named data set, or the classes."""
    from dpigu.dpcore import DataError
    from dpigu.dpcore.errors import did_you_mean
    from dpigu.trainers import SPECS

    if data is None:
        return {} if classes is None else {"classes": classes, "outputs": classes}
    if data not in SPECS:
        raise DataError(
            "this data set has no constants that are known without its records",
            where="data",
            got=data,
            expected=", ".join(SPECS),
            remedy=did_you_mean(data, SPECS),
        )
    spec = SPECS[data]
    return {"shape": spec.shape, "classes": spec.classes, "outputs": spec.outputs}
