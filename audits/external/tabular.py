"""Models of scikit-learn from .skops files: only types that skops trusts by itself are made."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from dpigu.audits.external.records import Records
from dpigu.audits.external.signals import label_odds, squared_error
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError, ModelError

SKOPS = ".skops"


def tabular_scores(path: Path, records: Records, signal: str) -> Reals:
    """A score of every record: log odds of its label, or its squared error, negated; shape (N,).

    The model sees `x` as it stands in the file, a row a record, without any scaling.

    Args:
        signal: margin, for a classifier with `predict_proba`; squared-error, for a regression.

    Raises: DataError for no such file; ModelError without skops, for a file with types that skops
        does not trust, for another signal, or a model that cannot score these records.
    """
    if signal not in ("margin", "squared-error") or records.named:
        raise ModelError(
            "a tabular model takes one table, and tells by its label or its error",
            where=str(path),
            got=signal,
            expected="margin or squared-error, with x in the files",
        )
    model, x_ND = _read(path), records.inputs["x"].reshape(records.count, -1)
    try:
        if signal == "squared-error":
            return squared_error(model.predict(x_ND).reshape(records.y.shape), records.y)
        every_NK, classes_K = model.predict_proba(x_ND), np.asarray(model.classes_)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"the model cannot score these records: {str(error).splitlines()[0]}", where=str(path)
        ) from error
    at_NK = records.y[:, None] == classes_K
    if not at_NK.any(1).all():
        raise DataError("a label is none of the model's classes", where=str(path))
    return label_odds(np.clip(np.where(at_NK, every_NK, 0.0).sum(1), 0.0, 1.0))


def _read(path: Path) -> Any:
    """The model of a file, where skops trusts every type in it."""
    if not path.is_file():
        raise DataError("there is no such file", where=str(path))
    try:
        skops = importlib.import_module("skops.io")
    except ImportError as error:
        raise ModelError(
            "models in .skops files need skops", remedy="Install the extra: dpigu[skops]."
        ) from error
    try:
        if strange := skops.get_untrusted_types(file=path):
            raise ModelError(
                "the file holds types that skops does not trust, and is not opened",
                where=str(path),
                got=", ".join(strange),
                remedy="Score the records with the model yourself: `dpaudit scores`.",
            )
        return skops.load(path)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"this is no model of scikit-learn by skops: {str(error).splitlines()[0]}",
            where=str(path),
        ) from error
