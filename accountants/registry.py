"""The accountants by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from dpigu.accountants.base import Accountant
from dpigu.accountants.pld import PLD
from dpigu.accountants.prv import PRV
from dpigu.accountants.renyi_orders.rdp import RDP
from dpigu.dpcore.errors import AccountingError

ACCOUNTANTS: Mapping[str, Accountant] = MappingProxyType(
    {accountant.name: accountant for accountant in (RDP(), PRV(), PLD())}
)
"""The accountants by name; a mapping that cannot be changed."""


def get_accountant(name: str) -> Accountant:
    """The accountant called `name`: 'rdp', 'prv' or 'pld'.

    Raises:
        AccountingError: an unknown name, with the nearest known one.

    Examples:
        >>> from dp_accounting import GaussianDpEvent
        >>> round(get_accountant("pld").epsilon(GaussianDpEvent(1.0), 1e-5).value, 2)
        4.38
    """
    if name in ACCOUNTANTS:
        return ACCOUNTANTS[name]
    nearest = difflib.get_close_matches(name.lower(), ACCOUNTANTS, n=1, cutoff=0.0)[0]
    raise AccountingError(
        "there is no accountant of this name",
        where="accountant",
        got=name,
        expected=" or ".join(ACCOUNTANTS),
        remedy=f"Did you mean '{nearest}'?",
    )
