"""The pages of the documentation, read as Markdown: links, headings, tables, code blocks, lines of prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
INFRA = sorted((ROOT / "infra").rglob("*.md"))
PAGES = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", *DOCS, *INFRA]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name(path: Path) -> str:
    """A page's path in the repository, as a test's id."""
    return path.relative_to(ROOT).as_posix()


def code_blocks(text: str, language: str) -> list[str]:
    """The content of the fenced blocks in one language."""
    return [body for kind, body in _FENCE.findall(text) if kind == language]


def without_code(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def prose(text: str) -> Iterator[str]:
    """Lines that are neither code nor rows of tables."""
    for line in without_code(text).splitlines():
        if not line.startswith(("|", "    ")):
            yield line


def links(text: str) -> list[str]:
    """Targets of the Markdown links of a page."""
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(text))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    _, _, rest = text.partition(f"# {heading}\n")
    assert rest, heading
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str) -> list[list[str]]:
    """The cells of all table rows in a text, without heads."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|---"):
            rows.pop()
        elif line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def commands(text: str) -> list[str]:
    """The command lines of the console blocks: lines after `$ `, with their continuations."""
    found = []
    for block in code_blocks(text, "console"):
        joined = re.sub(r"\\\n\s*", " ", block)
        found += [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]
    return found
