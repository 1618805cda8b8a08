"""The reference's merging of chunk results; only tests use it, `pipelines.stitching` is our own.

qwen_asr 0.0.6 joins texts without a space ("end.Next"), returns languages as a comma-separated list, and adds
the start of each chunk to its word times, rounded to milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.text.languages import normalize_language_name
from actors.text.parsing import parse_output_compatible

TimedWord = tuple[str, float, float]  # text, start and end in seconds


@dataclass(frozen=True, slots=True)
class CompatibleTranscript:
    """The result of the reference's `transcribe` for one recording."""

    # English names, separated by commas; "" where nothing was said.
    language: str
    text: str
    # None: no times were requested, or no word was aligned.
    time_stamps: list[TimedWord] | None
    # Index and language of the chunks that are aligned.
    aligned_chunks: list[tuple[int, str]]


def merge_languages(languages: Sequence[str | None]) -> str:
    """Join languages with commas.

    They are stripped, empty ones are left out, and equal ones in a row appear once, also with silence between
    them.
    """
    merged: list[str] = []
    for language in languages:
        name = (language or "").strip()
        if name and merged[-1:] != [name]:
            merged.append(name)
    return ",".join(merged)


def offset_words(words: Sequence[TimedWord], offset_seconds: float) -> list[TimedWord]:
    """Shift word times of a chunk to times of the recording, rounded to milliseconds."""
    return [
        (text, round(start + offset_seconds, 3), round(end + offset_seconds, 3)) for text, start, end in words
    ]


def merge_chunks(
    raws: Sequence[str | None],
    offsets: Sequence[float],
    alignments: Sequence[Sequence[TimedWord] | None],
    language: str | None = None,
    with_times: bool = False,
) -> CompatibleTranscript:
    """Merge the chunks of one recording as the reference's `transcribe` does.

    Args:
        raws: the decoded output of each chunk.
        offsets: start of each chunk in seconds.
        alignments: the aligned words of each chunk, relative to its start; None where it was not aligned.
        language: the forced language, in any case.
        with_times: word times were requested.
    """
    forced = normalize_language_name(language) if language else None
    parsed = [parse_output_compatible(raw, forced) for raw in raws]
    aligned = [(i, found) for i, (found, text) in enumerate(parsed) if with_times and text.strip()]
    words = [word for i, _ in aligned for word in offset_words(alignments[i] or (), offsets[i])]
    return CompatibleTranscript(
        language=merge_languages([found for found, _ in parsed]),
        text="".join(text for _, text in parsed),
        time_stamps=words or None,
        aligned_chunks=aligned,
    )
