"""Who stops each planted bug: the table of docs/audits.md.

    python -m benchmarks.audits.bug_table [--plant]

Writes the table; with --plant it plants each bug first, and ends with 1 if one is stopped
elsewhere than the table says. Minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.support.planted.bug import LAW, NOBODY
from tests.support.planted.rows import BUGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audits.md"
HEAD, TAIL = "<!-- the table of planted bugs -->\n", "<!-- the end of the table -->\n"


def table() -> str:
    """The table in Markdown."""
    rows = ["| planted | stopped by | which |", "|---|---|---|"]
    for bug in BUGS:
        says = f"`{bug.says}`" if bug.stopper == LAW else bug.says
        rows.append(f"| {bug.name} | {bug.stopper} | {says} |")
    seen = sum(bug.stopper != NOBODY for bug in BUGS)
    rows += ["", f"{len(BUGS)} bugs: {seen} are stopped, {len(BUGS) - seen} nobody can see.", ""]
    return "\n".join(rows)


def section(page: str) -> str:
    """What stands on a page between the marks."""
    return page.split(HEAD)[1].split(TAIL)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plant", action="store_true", help="plant each bug first; minutes")
    passed = 0
    if parser.parse_args().plant:
        for bug in BUGS:
            if bug.stopped is not None and bug.says.split(" (")[0] not in (by := bug.stopped()):
                print(f"{bug.name}: {by or 'not stopped'}", flush=True)
                passed += 1
    text = PAGE.read_text()
    before, after = text.split(HEAD)[0], text.split(TAIL)[1]
    PAGE.write_text(before + HEAD + table() + TAIL + after)
    sys.exit(passed > 0)


if __name__ == "__main__":
    main()
