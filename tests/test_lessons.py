"""A lesson that fails or prints what its page does not show is refused; outputs can be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOOD = "# A lesson\n\n```python\nx = 2\n```\n\n```python\nprint(x)\n```\n\n```text\n2\n```\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    import lessons

    return lessons.run


def test_blocks_share_their_names_and_run_in_a_folder_of_their_own(run, tmp_path: Path) -> None:
    page = tmp_path / "lesson.md"
    page.write_text(GOOD.replace("x = 2\n", 'x = 2\nopen("made.txt", "w").close()\n'))
    run(page, write=False)
    assert [path.name for path in tmp_path.iterdir()] == ["lesson.md"]


@pytest.mark.parametrize(
    ("mutant", "error"),
    [
        (GOOD.replace("print(x)", "print(y)"), NameError),
        (GOOD.replace("\n```text\n2\n```\n", ""), ValueError),
        (GOOD.replace("print(x)", "x"), ValueError),
    ],
    ids=["a name that is not there", "an output that is not shown", "nothing where one is shown"],
)
def test_a_lesson_that_is_out_of_date_is_refused(
    run, mutant: str, error: type[Exception], tmp_path: Path
) -> None:
    page = tmp_path / "lesson.md"
    page.write_text(mutant)
    with pytest.raises(error):
        run(page, write=False)
    assert page.read_text() == mutant


def test_written_outputs_are_those_of_the_run(run, tmp_path: Path) -> None:
    page = tmp_path / "lesson.md"
    page.write_text(GOOD.replace("x = 2", "x = 3"))
    run(page, write=True)
    assert page.read_text() == GOOD.replace("x = 2", "x = 3").replace("\n2\n", "\n3\n")


def test_every_lesson_is_listed_and_imports_from_the_public_face_alone() -> None:
    index = (ROOT / "docs" / "learn" / "index.md").read_text()
    for page in (ROOT / "docs" / "learn").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index
        assert "dpigu." not in "".join(
            line for line in page.read_text().splitlines() if line.startswith("from dpigu.")
        )
