"""Replays: one run on neighbouring data with every draw coupled, compared bit for bit."""

from dpigu.audits.replay.audit import ReplayAudit, Training, audit_replay
from dpigu.audits.replay.made_up import made_up_training

__all__ = ["ReplayAudit", "Training", "audit_replay", "made_up_training"]
