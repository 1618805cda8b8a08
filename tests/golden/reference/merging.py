"""The reference's joining of chunk results, for the compatibility mode: what `pipelines.stitching` does better.

qwen_asr 0.0.6 joins texts without a space ("end.Next"), gives languages as a comma list, and adds each chunk's start to its word
times, rounded to milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.text.languages import normalize_language_name
from actors.text.parsing import parse_output_compatible

TimedWord = tuple[str, float, float]  # text, start and end in seconds


@dataclass(frozen=True, slots=True)
class CompatibleTranscript:
    """What the reference's `transcribe` answers for one recording."""

    language: str  # comma list of English names, "" when nothing was said
    text: str
    time_stamps: list[TimedWord] | None  # None: not asked for, or no word was aligned
    aligned_chunks: list[tuple[int, str]]  # which chunks the aligner is asked about, and in which language


def merge_languages(languages: Sequence[str | None]) -> str:
    """Join languages with commas: stripped, without empty ones, and each once where it follows itself (silence between or not)."""
    merged: list[str] = []
    for language in languages:
        name = (language or "").strip()
        if name and merged[-1:] != [name]:
            merged.append(name)
    return ",".join(merged)


def offset_words(words: Sequence[TimedWord], offset_seconds: float) -> list[TimedWord]:
    """Word times relative to a chunk, as times of the recording: shifted, then rounded to milliseconds."""
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
    """Join the chunks of one recording as the reference's `transcribe` does.

    Args:
        raws: the decoded string of each chunk.
        offsets: where each begins, in seconds.
        alignments: the aligner's words of each chunk, relative to it; None where it was not asked.
        language: the forced language, any case.
        with_times: whether word times were asked for.
    """
    forced = normalize_language_name(language) if language else None
    parsed = [parse_output_compatible(raw, forced) for raw in raws]
    aligned = [(i, said) for i, (said, text) in enumerate(parsed) if with_times and text.strip()]
    words = [word for i, _ in aligned for word in offset_words(alignments[i] or (), offsets[i])]
    return CompatibleTranscript(
        language=merge_languages([said for said, _ in parsed]),
        text="".join(text for _, text in parsed),
        time_stamps=words or None,
        aligned_chunks=aligned,
    )
