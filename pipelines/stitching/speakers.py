"""The speakers of one recording, from the turns and voices of all its shards. Pure and deterministic.

A person has one name in all of a recording, because all of it is clustered at once, however it was cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from actors.records import Row, SegmentRow
from actors.speakers.actor import channels_are_speakers
from actors.speakers.assignment import SpeakerTurn, Turns, with_speakers
from actors.speakers.base import THRESHOLDS
from actors.speakers.clustering import Bounds
from pipelines.stitching.voices import joined_spans, tell_apart

# Seconds of a pause after which a speaker whom nobody interrupted begins a new turn.
_PAUSE = 1.5
_DIGITS = 3  # decimals of seconds


@dataclass(frozen=True)
class KnownVoice:
    """A voice with a name: a unit vector of the model that the recordings' voices come from."""

    name: str
    embedding: np.ndarray


@dataclass(frozen=True)
class SpeakerSettings:
    """How speakers are told apart.

    Attributes:
        bounds: on their number, unless the manifest has its own.
        threshold: similarity above which two voices are one person; None: that of the model.
        channel: the setting `audio.channel`.
        known: voices with names.
        known_threshold: similarity from which a speaker gets a known name.
    """

    bounds: Bounds = field(default_factory=Bounds)
    threshold: float | None = None
    channel: str = "mix"
    known: tuple[KnownVoice, ...] = ()
    known_threshold: float = 0.6


@dataclass
class Speaker:
    """A speaker of a recording.

    Attributes:
        speaker: S1, S2 ... in order of appearance.
        turns: when.
        centroid: what the voice sounds like, a unit vector; None where channels are speakers.
        quality: mean similarity of the voice's windows with it.
        model: that the centroid comes from.
        name: of the known voice that matches.
        score: similarity with it.
    """

    speaker: str
    turns: list[SpeakerTurn] = field(default_factory=list)
    centroid: np.ndarray | None = None
    quality: float | None = None
    model: str | None = None
    name: str | None = None
    score: float | None = None

    @property
    def duration(self) -> float:
        """Seconds of speech."""
        return sum(turn.end - turn.start for turn in self.turns)


def find_speakers(
    rows: Sequence[Row], segments: Sequence[SegmentRow], settings: SpeakerSettings
) -> tuple[list[SegmentRow], list[Speaker] | None]:
    """Find the speakers of a recording and give its segments and words theirs.

    Args:
        rows: its SHARD rows, in order.
        segments: all of its segments, in order.
        settings: how.

    Returns:
        The segments, and the speakers in order of appearance; None where speakers were not asked for.
    """
    if channels_are_speakers(rows[0], settings.channel):
        return _by_channel(segments)
    if all(row.get("speaker_model") is None for row in rows):
        return list(segments), None
    speakers = _by_voice(rows, settings)
    turns = Turns([turn for speaker in speakers for turn in speaker.turns])
    return [with_speakers(segment, turns) for segment in segments], speakers


def transcript_speakers(speakers: Sequence[Speaker] | None) -> list[Row] | None:
    """The column `speakers` of a transcript."""
    if speakers is None:
        return None
    return [
        {
            "speaker": speaker.speaker,
            "name": speaker.name,
            "score": None if speaker.score is None else round(speaker.score, 4),
            "duration": round(speaker.duration, _DIGITS),
        }
        for speaker in speakers
    ]


def _by_channel(segments: Sequence[SegmentRow]) -> tuple[list[SegmentRow], list[Speaker]]:
    """Each channel is a speaker, without any model."""
    speakers: dict[int | None, Speaker] = {}
    result: list[SegmentRow] = []
    for segment in segments:
        if not segment["text"]:
            result.append(segment)
            continue
        channel = segment.get("channel")
        speaker = speakers.setdefault(channel, Speaker(f"S{len(speakers) + 1}"))
        speaker.turns.append(SpeakerTurn(segment["start"], segment["end"], speaker.speaker))
        words = [{**word, "speaker": speaker.speaker} for word in segment.get("words") or []]
        result.append({**segment, "speaker": speaker.speaker, "words": words})  # type: ignore[typeddict-item]
    return result, list(speakers.values())


def _by_voice(rows: Sequence[Row], settings: SpeakerSettings) -> list[Speaker]:
    model = next(row["speaker_model"] for row in rows if row.get("speaker_model"))
    threshold = settings.threshold or THRESHOLDS.get(model.split()[0], 0.5)
    spoken = tell_apart(rows, threshold, _bounds(rows[0], settings.bounds))
    spans = joined_spans(spoken.spans, _PAUSE)
    speakers = []
    for number, label in enumerate(sorted(spans, key=lambda label: (spans[label][0], label)), 1):
        name = f"S{number}"
        turns = [SpeakerTurn(round(start, _DIGITS), round(end, _DIGITS), name) for start, end in spans[label]]
        speakers.append(Speaker(name, turns, spoken.centroids[label], spoken.qualities.get(label), model))
    return _named(speakers, settings)


def _named(speakers: list[Speaker], settings: SpeakerSettings) -> list[Speaker]:
    """Speakers with the names of known voices: the best pairs first, each name at most once."""
    pairs = sorted(
        (
            (-float(known.embedding @ speaker.centroid), speaker.speaker, known.name)
            for speaker in speakers
            for known in settings.known
            if speaker.centroid is not None and len(known.embedding) == len(speaker.centroid)
        ),
    )
    names: dict[str, tuple[str, float]] = {}
    for negative, speaker, name in pairs:
        taken = {known for known, _ in names.values()}
        if -negative >= settings.known_threshold and speaker not in names and name not in taken:
            names[speaker] = (name, -negative)
    return [
        replace(speaker, name=names[speaker.speaker][0], score=names[speaker.speaker][1])
        if speaker.speaker in names
        else speaker
        for speaker in speakers
    ]


def _bounds(row: Row, bounds: Bounds) -> Bounds:
    """The bounds of a recording: those of its row in the manifest, if it has any."""
    try:
        metadata = json.loads(row.get("metadata") or "{}")
    except ValueError:
        return bounds
    count, least, most = (
        _whole_number(metadata.get(name)) for name in ("speakers", "speakers_min", "speakers_max")
    )
    if count is not None:
        return Bounds(count, count)
    maximum = most if most is not None else bounds.maximum
    minimum = least if least is not None else bounds.minimum
    return Bounds(minimum if maximum is None else min(minimum, maximum), maximum)


def _whole_number(value: object) -> int | None:
    """A number of speakers from 1 to 100; None for anything else, as the column may mean something else."""
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100 else None
