"""Bugs planted in the ledger and the run folder."""

from __future__ import annotations

from dpigu.dpcore.claim import Ledger
from dpigu.trainers.runs import LedgerFile, RunFolder, checkpoint, disk
from dpigu.trainers.runs.lock import Lock
from hypothesis import strategies as st

from tests.crash import folder_laws
from tests.mutants.core.core_table import KernelMutant
from tests.trainers.runs import test_ledger as ledger

CHAIN = " or number != self.lines or before != self.digest"
FLUSH = "if flush:\n                    os.fsync(file)"
CUT = "dict.fromkeys(range(len(self.charged)), self.head.block)"

MUTANTS = (
    KernelMutant(
        "a ledger whose lines do not chain",
        Ledger,
        "after",
        ((CHAIN, ""),),
        ledger.law_a_changed_ledger_never_counts_less,
        {"deeds": ledger.DEEDS, "damage": ledger.damages()},
    ),
    KernelMutant(
        "a ledger that is numbered and does not chain",
        Ledger,
        "after",
        ((" or before != self.digest", ""),),
        ledger.law_a_changed_ledger_never_counts_less,
        {"deeds": ledger.DEEDS, "damage": ledger.damages()},
    ),
    KernelMutant(
        "a line cut short that counts nothing",
        Ledger,
        "cut",
        ((CUT, "{}"),),
        ledger.law_a_torn_line_counts,
        {"deeds": ledger.DEEDS, "cut": st.floats(0, 1, exclude_max=True)},
    ),
    KernelMutant(
        "unused steps that count",
        Ledger,
        "_after_unused",
        (("self.mechanism: -steps", "self.mechanism: 0"),),
        ledger.law_what_was_paid_is_read,
        {"deeds": ledger.DEEDS},
    ),
    KernelMutant(
        "a ledger that is not flushed",
        disk,
        "append",
        ((FLUSH, "pass"),),
        folder_laws.law_what_is_paid_is_flushed,
    ),
    KernelMutant(
        "a lock that is shared",
        Lock,
        "__init__",
        (("fcntl.LOCK_EX", "fcntl.LOCK_SH"),),
        folder_laws.law_one_process_at_a_time,
    ),
    KernelMutant(
        "a configuration that nobody holds against the ledger",
        RunFolder,
        "configuration",
        (("!= self.ledger().head.configuration", "== ''"),),
        folder_laws.law_an_edited_configuration_is_refused,
    ),
    KernelMutant(
        "a ledger shorter than its checkpoint",
        checkpoint,
        "_check_ledger",
        (("if lines > ledger.lines or ledger.digests[lines - 1] != digest", "if False"),),
        folder_laws.law_a_shorter_ledger_is_refused,
    ),
    KernelMutant(
        "a checkpoint read without its digest",
        checkpoint,
        "read",
        (("hashlib.sha256(body).hexdigest().encode() != digest", "not digest"),),
        folder_laws.law_a_damaged_checkpoint_is_refused,
    ),
    KernelMutant(
        "what was paid ahead is used again after a kill",
        LedgerFile,
        "__init__",
        (("self._prepaid = 0", "self._prepaid = self.ledger.open_steps"),),
        folder_laws.law_what_was_paid_ahead_is_lost_in_a_kill,
    ),
    KernelMutant(
        "an interrupt that takes back the step it interrupted",
        LedgerFile,
        "close",
        (("self.ledger.unused(self._prepaid)", "self.ledger.unused(self._prepaid + 1)"),),
        folder_laws.law_an_interrupt_takes_back_only_what_never_began,
    ),
)
