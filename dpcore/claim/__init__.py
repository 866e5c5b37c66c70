"""What a run claims: a calibrated plan, the ledger of what ran, and events as plain data."""

from dpigu.dpcore.claim.calibrated import CalibratedPlan
from dpigu.dpcore.claim.events import event_from_dict, event_to_dict
from dpigu.dpcore.claim.ledger import Ending, Head, Ledger, Mechanism, composed, read_ledger

__all__ = [
    "CalibratedPlan",
    "Ending",
    "Head",
    "Ledger",
    "Mechanism",
    "composed",
    "event_from_dict",
    "event_to_dict",
    "read_ledger",
]
