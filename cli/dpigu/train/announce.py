"""What `dpigu train` says before it spends: the budget, and what the steps will take."""

from __future__ import annotations

import click
from dpigu.accountants.base import rounded_up
from dpigu.trainers.callbacks import Callback
from dpigu.trainers.session import Session


class Announcement(Callback):
    """Prints the budget, and time and memory of the steps to come."""

    def on_begin(self, session: Session) -> None:
        left = session.steps - session.reached
        if session.epsilon is not None:
            claim = f"ε = {rounded_up(session.epsilon)} at δ = {session.delta:g}, fixed now"
            spent = session.spent
            before = f"; {rounded_up(spent)} of it is spent" if session.reached and spent else ""
            click.echo(f"budget     {claim}{before}")
        cost = session.expected_cost()
        if cost is not None:
            steps = f"about {lasting(cost.seconds)} for {left} steps"
            memory = f"{cost.bytes / 2**20:,.0f} MiB of memory"
            click.echo(f"expected   {steps}, {memory}, by trial steps on made-up records")


def lasting(seconds: float) -> str:
    """A duration in two figures: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 6000 else f"{seconds / 3600:.2g} h"
