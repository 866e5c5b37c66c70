"""A lesson that fails or prints what its page does not show is refused; outputs can be kept."""

from __future__ import annotations

import base64
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


def test_a_notebook_has_the_pages_text_code_output_and_picture_in_their_order(
    run, tmp_path: Path
) -> None:
    from notebooks import notebook

    page = tmp_path / "lesson.md"
    (tmp_path / "drawn.png").write_bytes(b"picture")
    page.write_text("<!-- extra: hf -->\n" + GOOD + "\n![Words](drawn.png)\n\n[More](../x.md).\n")
    head, title, first, second, end = notebook(page)["cells"]
    assert "docs/learn/lesson.md" in head["source"] and title["source"] == "# A lesson"
    assert (first["source"], first["outputs"]) == ("x = 2", [])
    stream, picture = second["outputs"]
    assert second["source"] == "print(x)" and stream["text"] == "2\n"
    assert base64.b64decode(picture["data"]["image/png"]) == b"picture"
    assert end["source"] == "More (`../x.md`)."
    run(page, write=False)


def test_every_lesson_is_a_notebook_without_fences(run) -> None:
    from notebooks import LEARN, lessons, notebook

    assert {page.name for page in LEARN.glob("*.md")} - {p.name for p in lessons()} == {"index.md"}
    for page in lessons():
        made = "\n".join(cell["source"] for cell in notebook(page)["cells"])
        assert "```python" not in made and "```text" not in made


def test_every_lesson_is_listed_and_imports_from_the_public_face_alone() -> None:
    index = (ROOT / "docs" / "learn" / "index.md").read_text()
    for page in (ROOT / "docs" / "learn").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index
        assert "dpigu." not in "".join(
            line for line in page.read_text().splitlines() if line.startswith("from dpigu.")
        )
