"""The table of planted bugs: each is stopped where the table says, and the document shows it.

`make test` plants what takes less than a second, and some of the others; `make deep` plants all.
"""

from __future__ import annotations

import pytest

from benchmarks.audits.bug_table import PAGE, section, table
from tests.mutants.test_core_mutants import MUTANTS as CORE
from tests.support.depth import DEEP
from tests.support.planted.bug import LAW, NOBODY, Bug
from tests.support.planted.rows import BUGS

SHARE = 8
PLANTED = [bug for bug in BUGS if bug.stopped is not None]
DEAR = [bug for bug in PLANTED if bug.dear]
TRIED = [bug for bug in PLANTED if DEEP or not bug.dear or DEAR.index(bug) % SHARE == 0]


@pytest.mark.deep
@pytest.mark.parametrize("bug", TRIED, ids=lambda bug: bug.name)
def test_a_planted_bug_is_stopped_where_the_table_says(bug: Bug) -> None:
    assert bug.stopped is not None
    assert bug.says.split(" (")[0] in bug.stopped()


def test_a_bug_that_a_law_stops_is_planted_in_the_core() -> None:
    laws = {mutant.bug: mutant.law.__name__ for mutant in CORE}
    for bug in BUGS:
        if bug.stopper == LAW:
            assert laws[bug.name] == bug.says


def test_there_are_at_least_45_and_each_has_one_name() -> None:
    names = [bug.name for bug in BUGS]
    assert len(set(names)) == len(names) >= 45
    assert sum(bug.stopper == NOBODY for bug in BUGS) == 5


def test_the_page_shows_the_table() -> None:
    assert section(PAGE.read_text()) == table()
