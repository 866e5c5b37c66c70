"""Two groups of processes that every test here uses, and that end with the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rank_groups import RankGroup, rank_group


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankGroup]:
    with rank_group(2, tmp_path_factory.mktemp("two")) as group:
        yield group


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankGroup]:
    with rank_group(4, tmp_path_factory.mktemp("four")) as group:
        yield group
