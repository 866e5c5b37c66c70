"""Every name that an option takes stands for something, and there is nothing without a name."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from dpigu.accountants import ACCOUNTANTS
from dpigu.audits.canaries import KINDS
from dpigu.trainers.optim import OPTIMIZERS
from dpigu.trainers.tasks import TASKS

from dpigu import names


@pytest.mark.parametrize(
    ("listed", "made"),
    [
        (names.ACCOUNTANT_NAMES, ACCOUNTANTS),
        (names.OPTIMIZER_NAMES, OPTIMIZERS),
        (names.CANARY_NAMES, KINDS),
        (names.TASK_NAMES, TASKS),
    ],
    ids=["accountants", "optimizers", "canaries", "tasks"],
)
def test_a_list_and_its_registry_agree(listed: tuple[str, ...], made: Collection[str]) -> None:
    assert listed == tuple(made)
