"""A picture has a panel for what was measured and for what moved; no line goes through a label."""

from __future__ import annotations

from typing import Any

import pytest
from dpigu.trainers.progress import Progress
from dpigu.trainers.runs import picture
from dpigu.trainers.runs.picture import Curves, compared, drawn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

SUMMARY: dict[str, Any] = {
    "private": True,
    "metrics": ["accuracy"],
    "test_accuracy": 0.9,
    "epsilon": 3.2,
    "target_epsilon": 4.0,
    "delta": 1e-5,
    "preset": "adadpigu",
    "data": "digits",
}
LINES = [
    {"step": s, "epsilon": e, "test_accuracy": a, "support": p, "clipped": None}
    for s, e, a, p in ((2, 1.0, 0.3, 0.5), (4, 2.0, 0.8, 0.8), (6, 3.2, 0.9, 1.0))
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    made: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(picture, "Figure", Kept)
    return made


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_what_moved_has_a_panel_and_what_stood_has_none(figures: list[Figure]) -> None:
    still = [{**line, "learning_rate": 0.5} for line in LINES]
    assert drawn(still, SUMMARY).startswith(b"\x89PNG")
    assert titles(figures[0]) == ["held-out accuracy, %", "ε at δ = 1e-05", "live coordinates, %"]
    (curve,) = figures[0].axes[0].get_lines()
    assert list(curve.get_xdata()) == [2, 4, 6]
    assert list(curve.get_ydata()) == pytest.approx([30, 80, 90])


def test_a_run_without_metric_or_claim_is_drawn(figures: list[Figure]) -> None:
    bare = [{"step": line["step"], "epsilon": line["epsilon"]} for line in LINES]
    assert drawn(bare, {**SUMMARY, "metrics": []})
    assert drawn(LINES, {**SUMMARY, "private": False})
    assert drawn([], {**SUMMARY, "private": False, "metrics": []})
    assert titles(figures[0]) == ["ε at δ = 1e-05"]
    assert "ε" not in "".join(titles(figures[1]))


def test_the_baseline_stands_beside_what_was_measured(figures: list[Figure]) -> None:
    baselines = {"accuracy": {"answer": "the largest class", "value": 0.713}}
    known = {**SUMMARY, "baselines": baselines}
    assert drawn(LINES, known)
    assert titles(figures[0])[0] == "held-out accuracy, % (the largest class alone: 71.30%)"
    assert compared([Curves("a", LINES, known), Curves("b", LINES, SUMMARY)])
    assert titles(figures[1])[0] == "held-out accuracy, %"


def test_several_runs_are_told_apart_by_colour_mark_and_stroke(figures: list[Figure]) -> None:
    runs = [Curves(name, LINES, SUMMARY) for name in "abcdefg"]
    assert compared(runs)
    lines = figures[0].axes[0].get_lines()
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == len(runs)
    assert [line.get_label() for line in lines] == [run.name for run in runs]


@pytest.mark.parametrize("spent", [4.0, 3.9996, 3.9, 2.0, 0.5])
def test_no_label_is_struck_by_the_target(spent: float) -> None:
    """In pixels: neither the last ε nor the target's name crosses the target's line."""
    metrics = [
        {"step": s, "epsilon": spent * (s / 100) ** 0.5, "test_accuracy": s / 100}
        for s in range(10, 101, 10)
    ]
    figure = picture.picture(
        [Curves("", metrics, SUMMARY | {"epsilon": spent, "target_epsilon": 4.0})]
    )
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


def test_a_bar_says_of_which_step_its_metrics_are(capsys: pytest.CaptureFixture[str]) -> None:
    """ε of the last evaluation is not that of the steps done since."""
    with Progress(9, show=True) as bar:
        bar.show({"step": 3, "epsilon": 1.2, "test_accuracy": 0.5})
        bar.advance(4)
        (task,) = bar._bar.tasks
        assert task.fields["note"] == "ε 1.200, accuracy 50.00% at step 3"
        bar.show({"step": 9, "epsilon": 1.5, "test_accuracy": 0.75})
        assert task.fields["note"] == "ε 1.500, accuracy 75.00%"
