"""Which runs a model's weights come from: what the claim of the next run composes with.

A model that `train` has trained, or `load_run` has loaded, is known again within the process: by
the module, and by its trained tensors, so also in a copy, behind another head, or after
`load_state_dict`. The folder of a run keeps its lineage for later processes. Weights that were
saved and loaded by other means carry none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from dpigu.accountants import Epsilon, get_accountant
from dpigu.accountants.budgets.filters import counts_of, event_of, terms_of
from dpigu.accountants.events import Term, flatten
from dpigu.dpcore import RunError
from dpigu.dpcore.claim import Ledger
from dpigu.dpcore.unit import RECORD, called
from dpigu.trainers.distributed import own
from torch import Tensor, nn


@dataclass(frozen=True)
class Ancestor:
    """A run whose weights another one started from.

    Args:
        run: its name, as in its ledger.
        data: the name of its data.
        not_private: why it claims nothing; empty if it does.
        releases: all that it released, as canonical terms.
        unit: what its unit of privacy is called.
    """

    run: str
    data: str
    not_private: str
    releases: tuple[Term, ...]
    unit: str = RECORD

    @classmethod
    def of(cls, ledger: Ledger, data: str) -> Ancestor:
        """The run of a ledger."""
        why = ledger.head.not_private
        releases = () if why else flatten(ledger.event)
        return cls(ledger.head.run, data, why, releases, called(ledger.head.unit))

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Ancestor:
        """The inverse of `to_dict`."""
        releases = tuple(Term(float(q), float(z), int(n)) for q, z, n in table["releases"])
        unit = table.get("unit", RECORD)
        return cls(table["run"], table["data"], table["not_private"], releases, unit)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        releases = [[term.rate, term.noise_multiplier, term.count] for term in self.releases]
        return {**vars(self), "releases": releases}


Lineage = tuple[Ancestor, ...]

_modules: WeakKeyDictionary[nn.Module, Lineage] = WeakKeyDictionary()
_training: WeakSet[nn.Module] = WeakSet()
_tensors: dict[bytes, Lineage] = {}


def lineage_of(model: nn.Module) -> Lineage:
    """The runs that a model's weights are known to come from, each once."""
    found = [*_modules.get(model, ())]
    for digest in telling_tensors(model):
        found += _tensors.get(digest, ())
    return tuple({ancestor.run: ancestor for ancestor in found}.values())


def remember(model: nn.Module, lineage: Lineage, before: frozenset[bytes] = frozenset()) -> None:
    """Know a model again by its module, and by the tensors that were not there `before`.

    What it was known to come from already, it still comes from.
    """
    lineage = tuple({a.run: a for a in (*_modules.get(model, ()), *lineage)}.values())
    _modules[model] = lineage
    for digest in telling_tensors(model) - before:
        _tensors[digest] = lineage


def begin_training(model: nn.Module, lineage: Lineage, run: str) -> None:
    """One run at a time trains a model, and the first step finds it as the run was made for it.

    Args:
        lineage, run: where the weights came from when the run was made, and its own name.

    Raises: RunError if another run is training it, or has since this one was made.
    """
    since = {a.run for a in lineage_of(model)} - {a.run for a in lineage} - {run}
    if model in _training or since:
        raise RunError(
            "another run is training this model"
            if model in _training
            else "another run has trained this model since this one was made",
            where=type(model).__name__,
            remedy="Train it in one run after the other, each made when the last has ended.",
        )
    _training.add(model)


def end_training(model: nn.Module) -> None:
    """Let another run train it."""
    _training.discard(model)


def telling_tensors(model: nn.Module) -> frozenset[bytes]:
    """Digests of the parameters that say something: not those of one value throughout.

    Frozen ones count: they may be what another run has trained. Of a sharded parameter it is this
    rank's part, so that weights gathered from it are not known again.
    """
    parts = [own(p.detach()) for p in model.parameters()]
    return frozenset(_digest(part) for part in parts if _telling(part))


def together(lineage: Lineage, ledger: Ledger) -> Epsilon:
    """ε of a run and of all that its weights come from, if it was all on the same records.

    It holds where the runs were fixed beforehand: a run that was chosen after seeing another
    wants a budget file.
    """
    head = ledger.head
    own = Ancestor.of(ledger, "")
    why = [a.not_private for a in (*lineage, own) if a.not_private]
    if why:
        return Epsilon(None, None, None, head.accountant, why[0])
    if len({ancestor.unit for ancestor in (*lineage, own)}) > 1:
        note = "the runs protect different units, so that their ε do not compose"
        return Epsilon(None, None, None, head.accountant, note)
    terms = terms_of(counts_of(_all_releases((*lineage, own))))
    return get_accountant(head.accountant).epsilon(event_of(terms), head.delta, head.adjacency)


def _all_releases(lineage: Lineage) -> Iterable[Term]:
    return (term for ancestor in lineage for term in ancestor.releases)


def _telling(tensor: Tensor) -> bool:
    return tensor.numel() > 1 and bool((tensor != tensor.reshape(-1)[0]).any())


@torch.no_grad()
def _digest(tensor: Tensor) -> bytes:
    whole = tensor.detach().cpu().contiguous()
    digest = hashlib.blake2b(str(whole.dtype).encode(), digest_size=16)
    digest.update(whole.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()
