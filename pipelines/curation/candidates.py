"""What is kept or dropped, with all that is known about it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from actors.guards.languages import doubt
from actors.guards.sound_quality import Signal
from actors.records import Row
from actors.text.syllables import count_syllables
from pipelines.export.datasets.samples import Sample, SampleOptions, samples_of

# Scripts whose characters are syllables or more.
_DENSE = ("zh", "yue", "ja", "ko")
_DENSITY = 3.0
_END = 0.1  # seconds from the end of a recording that count as its end


@dataclass(slots=True)
class Candidate:
    """A segment or a recording.

    Attributes:
        sample: its span and its text.
        status: of its recording.
        audio: address, as the transcript has it.
        etag: of the file with its size; None: not known.
        ends_recording: whether it goes to the end of the recording.
        agreement: with another run; None: not compared.
        signal: None: not measured.
        reasons: why it is dropped; empty: it is kept.
    """

    sample: Sample
    status: str
    audio: str
    etag: str | None
    ends_recording: bool = False
    agreement: float | None = None
    signal: Signal | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def seconds_of_speech(self) -> float:
        """The time from the first to the last word, or all of it."""
        words = self.sample.words
        if words:
            return max(words[-1]["end"] - words[0]["start"], 0.05)
        return max(self.sample.duration, 0.05)

    @property
    def characters_per_second(self) -> float:
        """Letters and digits a second of speech; a character of Chinese, Japanese, Korean counts as three."""
        count = sum(char.isalnum() for char in self.sample.text)
        return count * (_DENSITY if self.sample.language in _DENSE else 1.0) / self.seconds_of_speech

    @property
    def syllables_per_second(self) -> float:
        """Syllables of the text in a second of speech; short texts have fewer than they may have."""
        syllables = count_syllables(self.sample.text, self.sample.language)
        return max(0.0, syllables - 2) / self.seconds_of_speech

    @property
    def speech_share(self) -> float | None:
        """The share of the time that has words; None where no word has times."""
        words = self.sample.words
        if not words or self.sample.duration <= 0:
            return None
        return min(1.0, sum(word["end"] - word["start"] for word in words) / self.sample.duration)

    @property
    def syllable_ratio(self) -> float | None:
        """Syllables of the text for each one that is heard; None where the sound is not known."""
        if self.signal is None:
            return None
        return (count_syllables(self.sample.text, self.sample.language) + 2) / (self.signal.syllables + 2)

    @property
    def language_doubt(self) -> float:
        """See `actors.guards.languages.doubt`."""
        return doubt(self.sample.text, self.sample.language or "")


def candidates(row: Row, unit: Literal["segment", "recording"]) -> Iterator[Candidate]:
    """The candidates of a TRANSCRIPT row; one without text where nothing is said."""
    provenance = row.get("provenance") or {}
    etag, size = provenance.get("audio_etag"), provenance.get("audio_bytes")
    window = row.get("window") or {}
    identity = f"{etag}:{size}:{window.get('start')}:{window.get('end')}" if etag else None
    found = False
    for sample in samples_of(row, SampleOptions(unit=unit, min_duration=0.0)):
        found = True
        sample.flags = list(dict.fromkeys([*sample.flags, *(row["flags"] or ())]))
        ends = sample.end >= (window.get("start") or 0.0) + (row["duration"] or 0.0) - _END
        yield Candidate(sample, row["status"] or "", row["audio"] or "", identity, ends)
    if not found:
        start = window.get("start") or 0.0
        empty = Sample(
            row["recording_id"], row["recording_id"], start, start + (row["duration"] or 0.0), "",
            row["language"], None, None, list(row["flags"] or ()), text_source=row.get("text_source"),
        )  # fmt: skip
        yield Candidate(empty, row["status"] or "", row["audio"] or "", identity)


def voices(row: Row, candidate: Candidate) -> Counter[str]:
    """How many words each speaker has within a candidate."""
    sample = candidate.sample
    return Counter(
        word["speaker"]
        for segment in row["segments"] or ()
        for word in segment["words"] or ()
        if word.get("speaker") and word["start"] is not None and sample.start <= word["start"] < sample.end
    )
