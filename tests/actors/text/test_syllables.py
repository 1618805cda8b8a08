"""Syllables of texts, counted by hand."""

from __future__ import annotations

import pytest

from actors.text.syllables import count_syllables


@pytest.mark.parametrize(
    ("text", "language", "syllables"),
    [
        ("", None, 0),
        ("... !", None, 0),
        ("Hello music.", "en", 4),
        ("fünf Häuser", "de", 3),
        ("merci encore", "fr", 5),
        ("вода шесть", "ru", 3),
        ("καλημέρα", "el", 4),
        ("停止窗户", "zh", 4),
        ("안녕 오늘", "ko", 4),
        ("ともだち", "ja", 4),
        # Small kana belong to the mora before them.
        ("きょう", "ja", 2),
        # A Chinese character is about two moras in Japanese.
        ("友達", "ja", 3.8),
        # Letters of an abbreviation are read one by one.
        ("IBM", "en", 3),
        ("20 apples", "en", 5.4),
    ],
)
def test_syllables_are_counted_by_script(text: str, language: str | None, syllables: float) -> None:
    assert count_syllables(text, language) == pytest.approx(syllables)
