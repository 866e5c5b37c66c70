"""How often the quick mechanism audit contradicts what is honest: the table of docs/audits.md.

    python -m benchmarks.audits.audit_calibration --quick --seeds 20 --out FILE
    python -m benchmarks.audits.honest_table [--keep FILE]

Writes the table from the results that are kept; `--keep` takes those of a file in their place.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dpigu.audits.mechanism.report import SHARES

from benchmarks.audits.audit_calibration import CONFIDENCE, allowed, done

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "audits.md"
KEPT = ROOT / "benchmarks" / "results" / "honest-audits.jsonl"
HEAD, TAIL = "<!-- the table of honest audits -->\n", "<!-- the end of the honest audits -->\n"
LEVEL = 1 - CONFIDENCE
PARTS: dict[str, Callable[[dict[str, Any]], float]] = {
    "likelihood ratio": lambda row: row["tests"]["likelihood ratio"],
    "sampler": lambda row: row["sampler"],
    "noise": lambda row: row["noise"],
}
"""The p-values that every audit has, by the test's name in `SHARES`."""


def table(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown: a line a preset, the most audited first, and one for all."""
    names = sorted({row["preset"] for row in rows}, key=lambda n: (-count(rows, n), n))
    lines = [
        "| preset | audits | contradicted | of a correct audit, once in 1,000 more than | by the "
        "likelihood ratio | by the sampler | by the noise | least p | seconds each |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in names:
        lines.append(line(f"`{name}`", [row for row in rows if row["preset"] == name]))
    return "\n".join([*lines, line("all", rows), ""])


def count(rows: Sequence[dict[str, Any]], name: str) -> int:
    """How many audits of a preset there are."""
    return sum(row["preset"] == name for row in rows)


def line(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Counts of some audits: in all, and by each test at its own share of the error."""
    wrong = sum(row["p"] < LEVEL for row in rows)
    parts = [sum(of(row) < LEVEL * SHARES[name] for row in rows) for name, of in PARTS.items()]
    least, seconds = min(row["p"] for row in rows), sum(row["seconds"] for row in rows) / len(rows)
    cells = [title, len(rows), wrong, allowed(len(rows)), *parts, f"{least:.2g}", f"{seconds:.1f}"]
    return f"| {' | '.join(map(str, cells))} |"


def section(page: str) -> str:
    """What stands on a page between the marks."""
    return page.split(HEAD)[1].split(TAIL)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path)
    if (source := parser.parse_args().keep) is not None:
        shutil.copyfile(source, KEPT)
    text = PAGE.read_text()
    before, after = text.split(HEAD)[0], text.split(TAIL)[1]
    PAGE.write_text(before + HEAD + table(done(KEPT)) + TAIL + after)


if __name__ == "__main__":
    main()
