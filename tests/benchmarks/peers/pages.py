"""Writes the tables into the README and RESULTS.md, between two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.contestants import FAIR, UNFAIR_TO_OTHERS, UNFAIR_TO_US
from tests.benchmarks.peers.environments import ROOT
from tests.benchmarks.peers.tables import Table, markdown

BEGIN, END = "<!-- make bench-peers -->", "<!-- end of make bench-peers -->"
README, RESULTS = ROOT / "README.md", ROOT / "tests/benchmarks/RESULTS.md"


def write(
    found: Sequence[tuple[str, Table]], machine: Mapping[str, Any], skipped: Mapping[str, str], short: str
) -> None:
    """Replace the tables in both pages.

    Args:
        found: titles and tables.
        machine: when and where they were measured.
        skipped: who could not run, and why.
        short: title of the table for the README.
    """
    tables = dict(found)
    if short in tables:
        _replace(README, markdown(tables.pop(short)))
    _replace(RESULTS, "\n\n".join([_head(machine), *map(_section, tables.items()), *_notes(skipped)]))


def replaced(text: str, body: str) -> str:
    """The text with `body` between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} with {END} behind it")
    return f"{before}{BEGIN}\n{body}\n{END}{after}"


def _replace(page: Path, body: str) -> None:
    page.write_text(replaced(page.read_text(), body))


def _head(machine: Mapping[str, Any]) -> str:
    return f"{machine['date'][:16]}, {machine['cores']} cores, load {machine['load']} at the end."


def _section(titled: tuple[str, Table]) -> str:
    title, table = titled
    return f"{title}:\n\n{markdown(table)}"


def _notes(skipped: Mapping[str, str]) -> list[str]:
    absent = [f"- Not run: {who}: {reason}." for who, reason in skipped.items()]
    points = (("Fair", FAIR), ("Unfair to the others", UNFAIR_TO_OTHERS), ("Unfair to us", UNFAIR_TO_US))
    return ["\n".join([*absent, *(f"- {title}: {point}." for title, some in points for point in some)])]
