"""The study's commands: `python -m benchmarks.study --help`."""

from __future__ import annotations

import fnmatch
import json
from contextlib import closing
from functools import partial
from pathlib import Path

import click
import torch
from dpigu.audits.workers import Workers, spread
from dpigu.cli.shared.options import worker_count
from dpigu.trainers.data import SPECS
from dpigu.trainers.data.features.registry import feature_spec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.study import sparse
from benchmarks.study.cells import loaded, mean_and_spread, measure_one_of
from benchmarks.study.draw import draw
from benchmarks.study.features import cost_of_features
from benchmarks.study.jpeg import cost_of_jpeg
from benchmarks.study.report import write
from benchmarks.study.simulate import Trial, simulated
from benchmarks.study.store import RESULTS, Store
from benchmarks.study.tables import CHOSEN, ONCE, TABLES, TRIALS, masked, trials
from benchmarks.study.theory import predict
from benchmarks.study.windows import compared as windows_compared

_PATH = click.Path(path_type=Path)


def _run(
    table: str,
    only: str,
    seeds: tuple[int, ...],
    data_dir: Path | None,
    workers: Workers,
    results: Path,
) -> Store:
    """Run what is missing of a table's cells, each run in one thread of a worker."""
    store = Store(results, table)
    cells = [cell for cell in TABLES[table]() if fnmatch.fnmatch(cell.name, only)]
    if not cells:
        raise click.ClickException(f"no cell of {table} is called {only}")
    todo = [(cell, seed) for cell in cells for seed in store.missing(cell, seeds)]
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    results.mkdir(parents=True, exist_ok=True)
    work = spread(
        partial(measure_one_of, todo, data_dir), range(len(todo)), workers, results / "workers.log"
    )
    with Progress(*columns, TimeElapsedColumn(), console=screen) as bar, closing(work) as finished:
        task = bar.add_task(table, total=len(todo))
        for at, run in finished:
            cell, _ = todo[at]
            store.add(cell, run)
            epsilon = "–" if run["epsilon"] is None else f"{run['epsilon']:.3f}"
            bar.console.print(
                f"{table} {cell.name} seed {run['seed']}: {run['accuracy']:.2%}, ε {epsilon}, "
                f"{run['cpu_seconds']:.0f} s"
            )
            bar.advance(task)
    return store


@click.group(help="The tables and figures of docs/results.md. Every cell resumes where it was.")
def main() -> None:
    pass


def _command(table: str) -> click.Command:
    """The command that measures a table."""

    @click.option("--only", default="*", help="cells by name, with * for anything")
    @click.option("--seeds", default=None, help="seeds to run, as 0,1,2")
    @click.option("--data-dir", type=_PATH, default=None, help="folder of the data sets")
    @click.option(
        "--workers",
        type=worker_count,
        default=2,
        show_default=True,
        help="runs at a time, a thread each; or `ray`, a cluster",
    )
    @click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
    def command(
        only: str, seeds: str | None, data_dir: Path | None, workers: Workers, results: Path
    ) -> None:
        default = "0" if table in ONCE else "0,1,2"
        numbers = tuple(int(seed) for seed in (seeds or default).split(","))
        store = _run(table, only, numbers, data_dir, workers, results)
        for cell in TABLES[table]():
            if runs := store.runs(cell.name):
                mean, spread = mean_and_spread(runs)
                more = "" if spread is None else f" ± {spread:.2%}"
                click.echo(f"{cell.name}: {mean:.2%}{more} over {len(runs)} seeds")

    return click.command(table, help=TABLES[table].__doc__)(command)


for _table in TABLES:
    main.add_command(_command(_table))


@main.command(help="Keep the best trial on validation records of every method that has all.")
@click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
def choose(results: Path) -> None:
    store = Store(results, "tune")
    best = {}
    for name in dict.fromkeys(cell.name.rpartition("/")[0] for cell in TABLES["tune"]()):
        runs = [store.runs(f"{name}/{trial}") for trial in range(TRIALS)]
        if all(runs):
            scores = [mean_and_spread(found)[0] for found in runs]
            trial = scores.index(max(scores))
            options = trials(*name.split("/"))[trial]
            best[name] = {"options": options, "validation_accuracy": scores[trial]}
            click.echo(f"{name}: {best[name]}")
    CHOSEN.write_text(json.dumps(best, indent=1) + "\n")


@main.command(help="Shares of energy and spreads that the theory of masks and scales needs.")
@click.option("--data-dir", type=_PATH, default=None, help="folder of the data sets")
@click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
def theory(data_dir: Path | None, results: Path) -> None:
    write(results / "theory.json", predict(masked(), data_dir))


@main.command(help="Shares of energy that supports of sparse rows keep.")
@click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
def shares(results: Path) -> None:
    write(results / "shares.json", sparse.shares())


@main.command(help="What the labels of sparse rows' public records say, without privacy.")
def public_labels() -> None:
    for strength, accuracy in sparse.public_labels().items():
        click.echo(f"C = {strength:g}: {accuracy:.1%}")


@main.command(help="What a further compression by JPEG costs a model that is not private.")
@click.option("--data-dir", type=_PATH, default=None, help="folder of the data sets")
@click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
def jpeg(data_dir: Path | None, results: Path) -> None:
    write(results / "jpeg.json", cost_of_jpeg(data_dir))


@main.command(help="What the features of the strongest rows cost, in time of a processor.")
@click.option("--data-dir", type=_PATH, default=None, help="folder of the data sets")
@click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
def features(data_dir: Path | None, results: Path) -> None:
    torch.set_num_threads(1)
    write(results / "features.json", cost_of_features(data_dir))


@main.command(help="What the windows do that responses to patches are averaged over.")
@click.option("--data-dir", type=_PATH, default=None, help="folder of the data sets")
@click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
def windows(data_dir: Path | None, results: Path) -> None:
    write(results / "windows.json", windows_compared(data_dir))


@main.command(help="Score settings of a linear model on features, each as ε,STEPS,RATE,C.")
@click.argument("settings", nargs=-1, required=True)
@click.option(
    "--data",
    type=click.Choice(list(SPECS)),
    default="cifar10",
    show_default=True,
    help="a data set's name",
)
@click.option("--features", default="layered-patches", show_default=True, help="that are vectors")
@click.option("--batch", default=12500.0, show_default=True, help="expected records of a step")
@click.option("--as-is", is_flag=True, help="do not take the mean off")
@click.option("--draws", default=1, show_default=True, help="of the noise, for each setting")
@click.option("--data-dir", type=_PATH, default=None, help="folder of the data sets")
def simulate(
    settings: tuple[str, ...],
    data: str,
    features: str,
    batch: float,
    as_is: bool,
    draws: int,
    data_dir: Path | None,
) -> None:
    try:
        trials = [Trial.of(text) for text in settings] * draws
    except ValueError as error:
        expected = "expected ε,STEPS,RATE,C, as 4,80,6,1"
        raise click.ClickException(f"got {' '.join(settings)}, {expected}: {error}") from error
    if len(shape := feature_spec(SPECS[data], features).shape) != 1:
        numbers = "×".join(map(str, shape))
        raise click.ClickException(
            f"--features: got {features}, of {numbers}; expected vectors, as even-scattering"
        )
    records = loaded(data, None, features, data_dir, True)
    if not 0 < batch <= (whole := len(records.train_x) + len(records.test_x)):
        raise click.ClickException(f"--batch: got {batch:g}, expected at most {whole} records")
    found = simulated(records, batch, trials, centred=not as_is)
    for text, accuracy in zip(settings * draws, found, strict=True):
        click.echo(f"{text}: {accuracy:.2%}")


@main.command(name="draw", help="Fill docs/results.md, its data files and its pictures.")
@click.option("--results", type=_PATH, default=RESULTS, help="folder of the result files")
def draw_all(results: Path) -> None:
    draw(results)


if __name__ == "__main__":
    main()
