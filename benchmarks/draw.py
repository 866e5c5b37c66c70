"""Pictures and table of what `benchmarks.step` measured (`python -m benchmarks.draw`).

Reads benchmarks/results/NET-BATCH.json; writes docs/pictures/step-NET.png and the part of
docs/speed.md between its two markers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "speed.md"
PICTURES = ROOT / "docs" / "pictures"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
NETS = {
    "mnist": "the paper's MNIST net",
    "cifar": "the paper's CIFAR net",
    "mlp": "MLP, 3 layers of width 2048",
    "transformer": "transformer encoder, 128 tokens",
    "wrn": "WRN-16-4 with group norm",
}
LINES = {
    ("non-private", "torch", "autograd"): ("0.45", "-"),
    ("non-private", "torch", "channels last"): ("0.45", ":"),
    ("dpsgd", "dpigu", "ghost"): ("#E69F00", "-"),
    ("adadpigu", "dpigu", "ghost"): ("#D55E00", "-"),
    ("dpsgd", "dpigu", "materialising"): ("#E69F00", ":"),
    ("adadpigu", "dpigu", "materialising"): ("#D55E00", ":"),
    ("dpsgd", "opacus", "hooks"): ("#0072B2", ":"),
    ("dpsgd", "opacus", "ghost"): ("#0072B2", "-"),
    ("adadpigu", "backpack", "batch gradients"): ("#009E73", "-"),
    ("dpsgd", "jax_privacy", "compiled"): ("#CC79A7", "-"),
}
"""A colour that colour-blind eyes tell apart (Okabe and Ito 2008) and a stroke for each line."""
MARKS = {"torch": "o", "dpigu": "D", "opacus": "s", "backpack": "^", "jax_privacy": "v"}
"""A mark for each library, for print in grey."""
Result = Mapping[str, Any]
Key = tuple[str, str, str]


def results(folder: Path = RESULTS) -> list[Result]:
    """Every result, in a file NET-BATCH.json, by net and batch."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*-*.json")]
    return sorted(read, key=lambda r: (list(NETS).index(r["net"]), r["batch"]))


def key(row: Mapping[str, Any]) -> Key:
    return row["pipeline"], row["library"], row["engine"]


def table(found: Iterable[Result]) -> str:
    """One table a net and batch, with what the machine was doing."""
    parts = []
    for r in found:
        clock = "" if r["clock"] == "wall" else ", CPU time"
        parts.append(f"### {NETS[r['net']]}, batch {r['batch']}\n")
        head = ("pipeline", "library, engine", "microbatch", "seconds", "ratio", "to best", "MiB")
        parts.append("| " + " | ".join(head) + " |")
        parts.append("|---|---|--:|--:|--:|--:|--:|")
        for row in r["rows"]:
            peak = row["peak_bytes"]
            cells = [
                row["pipeline"],
                f"{row['library']}, {row['engine']}",
                str(row["physical_batch"]),
                f"{row['seconds']:.3f}",
                f"{row['ratio']:.2f}",
                f"{row['ratio_best']:.2f}",
                "" if peak is None else f"{peak / 2**20:.0f}",
            ]
            ours = row["pipeline"] == "adadpigu" and key(row)[1:] == ("dpigu", "ghost")
            parts.append("| " + " | ".join(f"**{c}**" if ours else c for c in cells) + " |")
        before, after = r["load"]
        parts.append("")
        parts += [f"Left out: {reason}." for reason in r["left_out"]]
        parts.append(
            f"`{r['command']}`: {r['rounds']} rounds{clock}; load average {before} before, "
            f"{after} after.\n"
        )
    return "\n".join(parts)


def machine(found: Sequence[Result]) -> str:
    """What it ran on; an error if the results are of several machines."""
    described = {json.dumps(r["machine"], sort_keys=True) for r in found}
    if len(described) != 1:
        raise SystemExit(f"the results are of {len(described)} machines or versions: {described}")
    about = found[0]["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads, "
        f"{about['memory_gib']} GiB, Linux, Python {about['python']}; {versions}.\n"
    )


def picture(net: str, found: Sequence[Result], path: Path) -> None:
    """Time and memory against the batch, both on logarithmic axes."""
    style: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 4.2), dpi=130, layout="constrained")
        time, memory = figure.subplots(1, 2)
        _lines(time, found, "seconds", 1.0)
        _lines(memory, found, "peak_bytes", 2.0**-20)
        time.set_ylabel("seconds a step")
        memory.set_ylabel("peak memory, MiB")
        handles, labels = time.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5)
        figure.suptitle(f"One training step: {NETS[net]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _lines(axes: Axes, found: Sequence[Result], what: str, unit: float) -> None:
    for line, (colour, dash) in LINES.items():
        points = [
            (r["batch"], row[what] * unit)
            for r in found
            for row in r["rows"]
            if key(row) == line and row[what] is not None
        ]
        if points:
            pipeline, library, engine = line
            label = f"{pipeline}, {library} {engine}"
            width = 2.2 if library == "dpigu" and engine == "ghost" else 1.3
            batches, values = zip(*points, strict=True)
            (drawn,) = axes.plot(batches, values, dash, marker=MARKS[library], ms=4.5, lw=width)
            drawn.set(color=colour, label=label)
    ticks = sorted({r["batch"] for r in found})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [str(batch) for batch in ticks])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("batch")
    axes.grid(alpha=0.25)


def main() -> None:
    found = results()
    if not found:
        raise SystemExit(f"no results in {RESULTS}: run make bench")
    for net in NETS:
        if of_net := [r for r in found if r["net"] == net]:
            picture(net, of_net, PICTURES / f"step-{net}.png")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    text = f"{before}{BEGIN}\n\n{machine(found)}\n{table(found)}\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
