"""The picture of a run shows no label with a line through it."""

from __future__ import annotations

from typing import Any

import pytest
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs.picture import picture
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

SUMMARY: dict[str, Any] = {
    "metrics": ["accuracy"],
    "private": True,
    "delta": 1e-5,
    "preset": "dpsgd",
    "data": "digits",
    "test_accuracy": 0.9,
}


@pytest.mark.parametrize("spent", [4.0, 3.9996, 3.9, 2.0, 0.5])
def test_no_label_is_struck_by_the_target(spent: float) -> None:
    """In pixels: neither the last ε nor the target's name crosses the target's line."""
    metrics = [
        {"step": s, "epsilon": spent * (s / 100) ** 0.5, "test_accuracy": s / 100}
        for s in range(10, 101, 10)
    ]
    figure = picture(metrics, SUMMARY | {"epsilon": spent, "target_epsilon": 4.0})
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[-1]
    _, line = axes.transData.transform((0.0, 4.0))
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(labels) == 2
    for label in labels:
        box = Annotation.get_window_extent(label)
        assert not box.y0 <= line <= box.y1, label.get_text()


def test_a_finished_bar_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2, show=True) as bar:
        (task,) = bar._bar.tasks
        assert task.start_time is not None
        task.start_time -= 65
        bar.advance(2)
    assert "0:01:0" in capsys.readouterr().err
