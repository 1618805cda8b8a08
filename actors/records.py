"""Records between stages and models: typed rows, and small frozen values for models. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

# A row of one of the job's tables, by column name; `pipelines.schema` has the columns.
Row = dict[str, Any]


class WordTimes(TypedDict):
    """What every word has: seconds from the start of the recording, characters in the segment's text."""

    text: str
    # None: the word stands in a given text, but is not said.
    start: float | None
    end: float | None
    char_start: int
    char_end: int


class WordRow(WordTimes, total=False):
    """A word in a row. A missing field is null in the tables."""

    confidence: float | None  # 0..1
    speaker: str | None


class CandidateRow(TypedDict):
    """A text that the repair of a segment tried and rejected."""

    source: str
    text: str
    language: str | None
    confidence: float | None
    flags: list[str]


class PartRow(TypedDict):
    """A part of a segment's given text: see `actors.text.given_text.spoken_text.Part`."""

    kind: Any
    start: int
    end: int
    text: str


class SegmentRow(TypedDict, total=False):
    """A segment in a row. Each stage adds its fields; only decoded and recognised segments have samples."""

    start: float  # seconds from the start of the recording
    end: float
    channel: int | None
    samples: bytes  # mono int16, little-endian, 16 kHz
    language: str | None  # ISO code; None where nothing was said
    text: str
    raw: str | None
    confidence: float | None
    flags: list[str]
    words: list[WordRow]
    word_source: str  # "aligner" or "none"
    min_confidence: float | None
    language_confidence: float | None
    # Until words are made: see `actors.confidence.token_spans`.
    token_ends: list[int] | None
    token_log_probabilities: list[float | None] | None
    candidates: list[CandidateRow] | None
    speaker: str | None
    # Of a given text, until words are made: see `actors.text.given_text.spoken_text.Part`.
    parts: list[PartRow] | None


SAMPLING_RATE = 16_000  # Hz: the only rate of the models


@dataclass(frozen=True, slots=True)
class Span:
    """A span of audio in samples at 16 kHz, end exclusive."""

    start: int
    end: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return (self.end - self.start) / SAMPLING_RATE


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """One input of a recogniser: a mono int16 waveform at 16 kHz and what is known about it."""

    waveform: np.ndarray  # int16, shape (samples,)
    language: str | None = None  # the model's English name ("German"); None: the model decides
    context: str = ""
    # For streams: raw output that is settled already, which the model continues.
    prefix: str = ""
    # For streams: how many tokens at the end of the output a later one may change.
    unsettled_tokens: int = 0
    # The model's English names of the languages that are expected; empty: all.
    languages: tuple[str, ...] = ()
    # Divides the logits of tokens that the answer already has; 1: none. For backends that can.
    repetition_penalty: float = 1.0
    # What the segment has already, such as `speech_unlikely`.
    flags: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / SAMPLING_RATE


@dataclass(frozen=True, slots=True)
class ServerJudgement:
    """What a Whisper-type server says about a part of its text; None: nothing."""

    no_speech_probability: float | None = None  # `no_speech_prob`
    compression_ratio: float | None = None
    mean_log_probability: float | None = None  # `avg_logprob`


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The output of a recogniser for one segment."""

    text: str
    language: str | None  # English name; None where nothing was said
    raw: str = ""  # the decoded output before parsing, including the request's prefix
    confidence: float | None = None  # exp(mean log-probability of the generated tokens), 0..1
    tokens: int = 0  # generated tokens
    flags: tuple[str, ...] = ()
    # For streams: `raw` without its unsettled tokens, in whole characters, and never shorter than the prefix.
    settled: str = ""
    language_confidence: float | None = None  # probability of the language tag; None where it was forced
    # Where the tokens end in `text`, and their log-probabilities: see `actors.confidence.token_spans`.
    token_ends: tuple[int, ...] = ()
    token_log_probabilities: tuple[float | None, ...] = ()
    # What a Whisper-type server says about each part of its text.
    server_judgements: tuple[ServerJudgement, ...] = ()
    # What the repair tried and rejected.
    candidates: tuple[CandidateRow, ...] = ()
    # Seconds of audio that the repair decoded again.
    repair_seconds: float = 0.0
    # Parts of the segment in different languages, which become segments of their own; empty: it is one.
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a segment, in samples from its start, and what was said in it."""

    span: Span
    hypothesis: Hypothesis


@dataclass(frozen=True, slots=True)
class AlignmentRequest:
    """One input of an aligner: a waveform and its text, cut into the aligner's units."""

    waveform: np.ndarray  # int16, shape (samples,)
    units: tuple[str, ...]
    language: str | None = None

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / SAMPLING_RATE


class AlignedTimes(list[tuple[float, float]]):
    """The start and end of each unit of an `AlignmentRequest`, in seconds from the start of its waveform."""

    # How many of them, counted singly, were out of order and had to be repaired.
    repaired: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts from the header of an audio file."""

    duration: float | None  # None where the header has none
    codec: str
    container: str
    sampling_rate: int
    channels: int
    size_bytes: int
    etag: str  # the store's etag, or a digest of size and modification time
    flags: tuple[str, ...] = field(default=())


# Channels of a track other than None have numbers from `_TRACK_CHANNELS` times its number plus 1 on.
_TRACK_CHANNELS = 1000


def track_channel(track: int, channel: int | None) -> int:
    """The number, as a segment's `channel`, of a channel of one of several tracks.

    Args:
        track: number of the track, from 0.
        channel: number of the channel in it, from 0; None for a mix of its channels.
    """
    return _TRACK_CHANNELS * (track + 1) + (0 if channel is None else channel + 1)


def channel_flags(number: int | None) -> list[str]:
    """The flags `track:N` and `channel:N` of a segment, by its `channel`."""
    if number is None:
        return []
    if number < _TRACK_CHANNELS:
        return [f"channel:{number}"]
    track, channel = divmod(number, _TRACK_CHANNELS)
    return [f"track:{track - 1}", *([f"channel:{channel - 1}"] if channel else [])]
