"""Words of a corrected text without the aligner: those that stayed keep their times. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from actors.records import WordRow
from actors.text.alignment_units import Unit, locate_units
from actors.text.languages import name_of

# Of a word that a person wrote or left as it was: he has read it.
CERTAIN = 1.0


def carried_words(words: Sequence[WordRow], text: str, language: str | None) -> list[WordRow]:
    """The words of a new text, with the times of those that were in the old one.

    Args:
        words: of the old text.
        text: the new one.
        language: ISO code.

    Returns:
        Words in order. New ones have no times; a changed one takes those of the word in whose place it is.
    """
    units = units_of(text, language)
    old = [_key(word["text"]) for word in words]
    new = [_key(text[unit.char_start : unit.char_end]) for unit in units]
    origin: dict[int, int] = {}
    for step in Levenshtein.opcodes(old, new):
        # One word in the place of one: nothing else can be there. Of several, none can be told.
        if step.tag == "equal" or (step.tag == "replace" and step.src_end - step.src_start == 1):
            origin.update(
                zip(range(step.dest_start, step.dest_end), range(step.src_start, step.src_end), strict=True)
            )
    return [
        _word(text, unit, words[origin[number]] if number in origin else None)
        for number, unit in enumerate(units)
    ]


def units_of(text: str, language: str | None) -> list[Unit]:
    """The words of a text: the aligner's units, or those between spaces where its tokenizer is missing."""
    try:
        return locate_units(text, name_of(language))
    except ModuleNotFoundError:
        return locate_units(text, None)


def _word(text: str, unit: Unit, before: WordRow | None) -> WordRow:
    return {
        "text": text[unit.char_start : unit.char_end],
        "start": before["start"] if before else None,
        "end": before["end"] if before else None,
        "char_start": unit.char_start,
        "char_end": unit.char_end,
        "confidence": CERTAIN,
        "speaker": before.get("speaker") if before else None,
    }


def _key(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum()) or text
