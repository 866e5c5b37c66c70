"""Run folders without a run."""

from __future__ import annotations

from pathlib import Path

from dpigu.trainers.runs import RunFolder


def bare(path: Path) -> RunFolder:
    """A folder with its two rooms and nothing in them that a step would leave."""
    folder = RunFolder.begin(path, claimed=True)
    folder.finish_begin(path)
    folder.release()
    return folder
