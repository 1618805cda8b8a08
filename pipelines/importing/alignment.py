"""Word times of corrected texts: the run's own aligner on the audio of their segments, here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.aligner import AlignerActor
from actors.audio.clips import decode_samples
from actors.config import AudioConfig
from actors.errors import FatalError, RetryableError, RowError
from actors.process.isolation import Child
from actors.records import SAMPLING_RATE, Row, SegmentRow, WordRow
from pipelines.config import RunConfig
from pipelines.corrections.words import CERTAIN
from pipelines.importing.changes import Change
from pipelines.output.transcript_reader import audio_sources


class WordAligner:
    """Aligns changed segments. The model is loaded, and the audio is decoded, when the first one comes.

    Args:
        out: the output directory, whose plan knows where the audio is.
        config: the settings of the run; None: nothing is aligned.
    """

    def __init__(self, out: str, config: RunConfig | None) -> None:
        self._out = out
        self._config = config if config is not None and config.aligner.backend != "none" else None
        self._actor: AlignerActor | None = None
        self._child: Child | None = None
        self.problems: list[str] = []

    def words(self, row: Row, changes: Sequence[Change]) -> list[list[WordRow] | None]:
        """The words of each change, with times of the recording; None where they cannot be aligned."""
        if self._config is None or not changes:
            return [None] * len(changes)
        try:
            segments = self._segments(row, changes)
            if self._actor is None:
                self._actor = AlignerActor(self._config.aligner, self._config.guards)
        except (RowError, RetryableError, FatalError) as error:
            self.problems.append(f"{row['recording_id']}: {error}")
            if isinstance(error, FatalError):
                self._config = None
            return [None] * len(changes)
        aligned = self._actor.align([segment for segment in segments if segment["text"]])
        found = iter(aligned)
        words: list[list[WordRow] | None] = []
        for segment in segments:
            if not segment["text"]:
                words.append([])
                continue
            made, failure = next(found)
            if failure is not None:
                self.problems.append(f"{row['recording_id']}: {failure}")
            is_timed = any(word["start"] is not None for word in made["words"])
            words.append([_certain(word) for word in made["words"]] if is_timed else None)
        return words

    def close(self) -> None:
        """End the process that decodes."""
        if self._child is not None:
            self._child.close()

    def _segments(self, row: Row, changes: Sequence[Change]) -> list[SegmentRow]:
        assert self._config is not None
        audio: AudioConfig = self._config.audio
        if self._child is None:
            self._child = Child(audio.max_memory)
        planned = audio_sources(self._out, [row["recording_id"]]).get(row["recording_id"])
        source = planned or {"audio": row["audio"]}
        made: list[SegmentRow] = []
        for change in changes:
            segment = row["segments"][change.number]
            first, last = (round(segment[name] * SAMPLING_RATE) for name in ("start", "end"))
            samples: Any = b""
            if change.text:
                samples = self._child.call(
                    f"{decode_samples.__module__}:{decode_samples.__name__}",
                    {**source, **_origin(segment["flags"] or ())},
                    first,
                    last,
                    audio.retries,
                    timeout=audio.timeout,
                )
            made.append(
                {
                    "start": segment["start"],
                    "end": segment["end"],
                    "channel": None,
                    "samples": samples,
                    "language": change.language or segment["language"] or row["language"],
                    "text": change.text,
                    "flags": [],
                }
            )
        return made


def _origin(flags: Sequence[str]) -> dict[str, str]:
    """The channel and the track of a segment, as `decode_samples` takes them."""
    named = {name: value for name, _, value in (flag.partition(":") for flag in flags)}
    return {name: named[name] for name in ("channel", "track") if named.get(name, "").isdigit()}


def _certain(word: WordRow) -> WordRow:
    return {**word, "confidence": CERTAIN, "speaker": None}
