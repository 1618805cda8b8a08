"""Queries: words, phrases, exclusion, prefixes, scripts without spaces; and where a text matches."""

from __future__ import annotations

import sqlite3

import pytest

from pipelines.browsing.query import marks, match_expression, parse, spaced

TEXTS = {
    "english": "So, what do you think? Don't panic: crème brûlée.",
    "chinese": "我们明天去北京参加会议。",
    "japanese": "今日は天気がいいですね。",
    "korean": "서울에서 만나요.",
    "thai": "ขอบคุณมากครับ",
    "hindi": "नमस्ते दुनिया",
    "german": "Die Straße ist groß.",
    "mixed": "我用Python写的 ＡＢＣ",
}


@pytest.fixture(scope="module")
def table() -> sqlite3.Connection:
    from pipelines.browsing.index import _TABLES

    database = sqlite3.connect(":memory:")
    database.executescript(_TABLES)
    for number, text in enumerate(TEXTS.values()):
        database.execute(
            "INSERT INTO search (rowid, body, facets) VALUES (?, ?, ?)", (number, spaced(text), "f")
        )
    return database


def found(table: sqlite3.Connection, text: str) -> set[str]:
    expression = match_expression(parse(text), [])
    rows = table.execute("SELECT rowid FROM search WHERE search MATCH ?", (expression,)).fetchall()
    return {list(TEXTS)[number] for (number,) in rows}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("think", {"english"}),
        ("THINK", {"english"}),
        ("creme brulee", {"english"}),
        ("don't", {"english"}),
        ('"what do you"', {"english"}),
        ('"do what you"', set()),
        ("thin", {"english"}),  # still being typed
        ("thin ", set()),  # a whole word
        ("北京", {"chinese"}),
        ("京", {"chinese"}),
        ("京北", set()),
        ("天気", {"japanese"}),
        ("天", {"japanese", "chinese"}),
        ("天 -明", {"japanese"}),
        ("서울", {"korean"}),
        ("คุณมาก", {"thai"}),
        ("दुनिया", {"hindi"}),
        ("strasse", set()),
        ("groß", {"german"}),
        ("python", {"mixed"}),
        ("abc", {"mixed"}),
        ('think AND "brûlée', {"english"} & set()),  # AND is a word, no operator
        ("what NEAR(", set()),
    ],
)
def test_a_query_finds_the_texts_that_have_its_words(
    table: sqlite3.Connection, text: str, names: set[str]
) -> None:
    assert found(table, text) == names


@pytest.mark.parametrize(
    "text", ['"', "-", "*", "()", "a:b", "'", "NOT", '""', "^x", "{a} : b", "\0", "\ud800"]
)
def test_no_query_is_a_syntax_error(table: sqlite3.Connection, text: str) -> None:
    expression = match_expression(parse(text), [["f"]])
    assert expression is not None
    table.execute("SELECT count(*) FROM search WHERE search MATCH ?", (expression,)).fetchone()


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("So, what do you think?", "THINK what", ["what", "think"]),
        ("crème brûlée", "brulee", ["brûlée"]),
        ("crème brûlée", "brul", ["brûlée"]),
        ("我们明天去北京", "北京", ["北京"]),
        ("서울에서", "서울", ["서울"]),
        ("a b a", '"a b"', ["a b"]),
        ("नमस्ते दुनिया", "दुनिया", ["दुनिया"]),
        ("\U0001f600 word", "word", ["word"]),
        ("word", "-word", []),
    ],
)
def test_the_places_of_a_match_are_marked(text: str, query: str, marked: list[str]) -> None:
    assert [text[start:end] for start, end in marks(text, parse(query))] == marked
