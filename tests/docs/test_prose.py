"""The shape of the pages: a short README, lines of prose that fit on a screen."""

from pathlib import Path

import pytest

from tests.docs import pages

LONGEST_LINE = 200


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(pages.README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_lines_of_prose_have_at_most_200_characters(page: Path) -> None:
    long = [line for line in pages.prose(page.read_text()) if len(line) > LONGEST_LINE]
    assert not long


@pytest.mark.parametrize("page", pages.DOCS, ids=pages.name)
def test_a_page_says_for_whom_it_is(page: Path) -> None:
    title, blank, reader = page.read_text().splitlines()[:3]
    assert title.startswith("# ")
    assert blank == ""
    assert reader.startswith("*For ")
