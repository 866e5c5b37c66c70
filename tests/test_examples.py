"""The examples in the docstrings of public names run and give what they say."""

from __future__ import annotations

import doctest
import sys

import pytest

import dpigu


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False, exclude_empty=True)
    found = []
    for name in sorted({*dpigu.__all__} - {"__version__"}):
        public = getattr(dpigu, name)
        module = sys.modules.get(getattr(public, "__module__", ""))
        if module is not None and callable(public):
            found += finder.find(public, name, module=module, globs={**vars(module)})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_an_example_gives_what_it_says(test: doctest.DocTest) -> None:
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.attempted and not result.failed


def test_there_are_examples() -> None:
    assert len(examples()) >= 17
