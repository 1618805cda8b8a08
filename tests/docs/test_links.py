"""Links and paths in the documentation lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs import pages

# Paths in the text of a page, such as `actors/text/parsing.py`: the first folder is one of ours.
_OURS = re.compile(r"`((?:actors|pipelines|configs|infra|tests|docs)/[\w./*-]*)`")
# In infra/ paths are relative to the page: `docker/Dockerfile.cpu`, `words.py`.
_FOLDERS = "|".join(path.name for path in (pages.ROOT / "infra").iterdir() if path.is_dir())
_RELATIVE = re.compile(rf"`((?:(?:{_FOLDERS})/)?[\w-]+(?:\.py|\.sh|\.ya?ml|\.json)|(?:{_FOLDERS})/[\w.-]*)`")


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


@pytest.mark.parametrize("page", pages.INFRA, ids=pages.name)
def test_relative_paths_exist(page: Path) -> None:
    names = {path.name for path in page.parent.rglob("*")}
    for path in _RELATIVE.findall(page.read_text()):
        assert (page.parent / path).exists() or path in names, path


def test_paths_in_the_makefile_exist() -> None:
    makefile = (pages.ROOT / "Makefile").read_text()
    for path in re.findall(r"(?<![\w./-])(?:tests|infra|configs)/[\w./-]+", makefile):
        assert (pages.ROOT / path).exists(), path


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in pages.links(pages.README.read_text())}
    assert {pages.name(page) for page in pages.DOCS} <= linked


def test_a_broken_link_is_found() -> None:
    text = "[a](missing.md) and [b](output.md#no-such-heading)"
    assert pages.links(text) == ["missing.md", "output.md#no-such-heading"]
    assert "no-such-heading" not in pages.anchors((pages.ROOT / "docs/output.md").read_text())
