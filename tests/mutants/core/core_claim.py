"""Bugs planted in what keeps a claim apart from others: overlap, settings, lineage."""

from __future__ import annotations

from dpigu.dpcore.registry import configuration
from dpigu.trainers.data import overlap
from dpigu.trainers.lifecycle import lineage

from tests.mutants.core.core_table import KernelMutant
from tests.trainers import test_settings
from tests.trainers.data import test_overlap
from tests.trainers.lifecycle import test_lineage

SHARES = "elif np.isin(found, own).any():"

MUTANTS = (
    KernelMutant(
        "a shared record that is seen only at its own place",
        overlap,
        "refuse_shared",
        ((SHARES, "elif (found == own).any():"),),
        test_overlap.law_one_shared_record_is_enough,
        test_overlap.SHARED,
    ),
    KernelMutant(
        "splits that are refused only where all is shared",
        overlap,
        "refuse_shared",
        ((SHARES, "elif np.isin(found, own).all():"),),
        test_overlap.law_one_shared_record_is_enough,
        test_overlap.SHARED,
    ),
    KernelMutant(
        "a message that counts the shared records",
        overlap,
        "refuse_shared",
        (('f"the {name} split shares records', 'f"the {name} split shares records 1'),),
        test_overlap.law_one_shared_record_is_enough,
        test_overlap.SHARED,
    ),
    KernelMutant(
        "settings that take anything",
        configuration,
        "check_types",
        (("value = typed(", "value = (lambda value, hint, where: value)("),),
        test_settings.law_a_value_of_another_type_is_refused,
        test_settings.STRANGERS,
    ),
    KernelMutant(
        "words that are not looked up",
        configuration,
        "typed",
        (("value in typing.get_args(option)", "isinstance(value, str)"),),
        test_settings.law_a_value_of_another_type_is_refused,
        test_settings.STRANGERS,
    ),
    KernelMutant(
        "lineage that a module forgets",
        lineage,
        "remember",
        (("_modules[model] = lineage", "pass"),),
        test_lineage.law_what_comes_from_a_run_is_known,
        test_lineage.CHANGES,
    ),
    KernelMutant(
        "lineage that a copy forgets",
        lineage,
        "remember",
        (("_tensors[digest] = lineage", "pass"),),
        test_lineage.law_what_comes_from_a_run_is_known,
        test_lineage.CHANGES,
    ),
)
