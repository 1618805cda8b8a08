"""Links and paths in the documentation lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs import pages

# Paths in the text of a page, such as `actors/text/parsing.py`: the first folder is one of ours.
_OURS = re.compile(r"`((?:actors|pipelines|configs|infra|tests|docs)/[\w./*-]*)`")


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_links_resolve(page: Path) -> None:
    text = page.read_text()
    for link in pages.links(text):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        if anchor:
            assert anchor in pages.anchors(file.read_text()), link


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_paths_exist(page: Path) -> None:
    for path in _OURS.findall(page.read_text()):
        assert list(pages.ROOT.glob(path.rstrip("/"))), path


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in pages.links(pages.README.read_text())}
    assert {pages.name(page) for page in pages.DOCS} <= linked


def test_a_broken_link_is_found() -> None:
    text = "[a](missing.md) and [b](output.md#no-such-heading)"
    assert pages.links(text) == ["missing.md", "output.md#no-such-heading"]
    assert "no-such-heading" not in pages.anchors((pages.ROOT / "docs/output.md").read_text())
