"""Turns and voices for rows: each shard of a batch gets who speaks when, and what they sound like."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np

from actors.config.speakers import SpeakersConfig
from actors.errors import FatalError
from actors.process import watchdog
from actors.records import SAMPLING_RATE, Row
from actors.speakers import create_speakers
from actors.speakers.turn_finding import Region, Turn, VoiceWindow, find_turns, regions_of, voice_windows

STAGE = "speakers"
FAILED = "speakers_failed"
# Chunks of ten seconds, and windows, that are prepared at once: 41 MB and 25 MB.
_CHUNKS, _WINDOWS = 64, 256
_DIGITS = 4  # decimals of seconds: a sample is 0.00006 s

log = logging.getLogger(__name__)


@dataclass
class _Found:
    """A region of a row with its turns and windows."""

    row: int
    channel: int | None
    region: Region
    turns: list[Turn]
    windows: list[VoiceWindow]


class SpeakerActor:
    """Finds turns and voices; the output has one row for each input row, in order.

    Reads: `status`, `channel`, `channels`, `segments[].samples`, `start`, `channel`. Adds: `turns` (start and
    end in seconds of the recording, channel, `track`, a number of a speaker that holds for a while, and
    `stretch`, a number of turns with short pauses between them), `voices` (pieces of stretches in which
    nobody else speaks, with their embedding as float16), `speaker_model`.
    Where channels are speakers (`channel: each`), nothing is added. A row that fails gets the flag
    `speakers_failed` and keeps its text.

    Args:
        config: settings of speakers.
        channel: the setting `audio.channel`.
    """

    def __init__(self, config: SpeakersConfig, channel: str = "mix") -> None:
        self.config, self._channel = config, channel
        self.backend = create_speakers(config)
        self.model = f"{self.backend.model} {self.backend.revision}"

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Turn DECODED rows into DECODED rows with turns and voices."""
        wanted = [number for number, row in enumerate(rows) if self._is_wanted(row)]
        result = list(rows)
        for number, found in zip(wanted, self._find([rows[number] for number in wanted]), strict=True):
            result[number] = {**rows[number], **found}
        return result

    def _is_wanted(self, row: Row) -> bool:
        if row["status"] == "error" or not row["segments"]:
            return False
        return not channels_are_speakers(row, self._channel)

    def _find(self, rows: list[Row]) -> list[dict[str, Any]]:
        try:
            return self._columns(rows)
        except (FatalError, ImportError):
            raise
        except Exception:  # costs the speakers of the row that shows it, never its text
            if len(rows) > 1:
                return [columns for row in rows for columns in self._find([row])]
            log.exception("speakers of shard %s failed", rows[0].get("shard_id"))
            return [{"flags": [*(rows[0].get("flags") or []), FAILED]}]

    def _columns(self, rows: list[Row]) -> list[dict[str, Any]]:
        found = [
            _Found(number, channel, region, [], [])
            for number, row in enumerate(rows)
            for channel, region in _regions(row)
        ]
        self._find_turns(found)
        embeddings = self._embed(found)
        columns: list[dict[str, Any]] = [
            {"turns": [], "voices": [], "speaker_model": self.model} for _ in rows
        ]
        for part in found:
            row = columns[part.row]
            row["turns"] += [
                {
                    "start": round(turn.start / SAMPLING_RATE, _DIGITS),
                    "end": round(turn.end / SAMPLING_RATE, _DIGITS),
                    "channel": part.channel,
                    "track": turn.track,
                    "stretch": turn.stretch,
                }
                for turn in part.turns
            ]
            row["voices"] += [
                {
                    "start": round(window.spans[0][0] / SAMPLING_RATE, _DIGITS),
                    "end": round(window.spans[-1][1] / SAMPLING_RATE, _DIGITS),
                    "seconds": round(
                        sum(end - start for start, end in window.spans) / SAMPLING_RATE, _DIGITS
                    ),
                    "stretch": window.stretch,
                    "embedding": next(embeddings).astype("<f2").tobytes(),
                }
                for window in part.windows
            ]
        return columns

    def _find_turns(self, found: Sequence[_Found]) -> None:
        chunks = (chunk for part in found for chunk in part.region.chunks())
        activities = self._run(self.backend.activities, chunks, _CHUNKS)
        tracks = dict.fromkeys((part.row for part in found), 0)
        stretches = dict(tracks)
        for part in found:
            active = np.stack([next(activities) for _ in part.region.chunk_numbers])
            part.turns = find_turns(part.region, active, tracks[part.row], stretches[part.row])
            for turn in part.turns:
                tracks[part.row] = max(tracks[part.row], turn.track + 1)
                stretches[part.row] = max(stretches[part.row], turn.stretch + 1)
            part.windows = voice_windows(part.turns)

    def _embed(self, found: Sequence[_Found]) -> Iterator[np.ndarray]:
        windows = (part.region.window(window) for part in found for window in part.windows)
        return self._run(self.backend.embed, windows, _WINDOWS)

    def _run(self, model: Any, waves: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
        device = self.backend.device
        on_gpu = device is not None and device.type == "cuda"
        source = iter(waves)
        while group := list(islice(source, size)):
            seconds = sum(len(wave) for wave in group) / SAMPLING_RATE
            limit = watchdog.call_limit(None, on_gpu, seconds)
            with watchdog.limited(limit, f"finding speakers in {seconds:.0f} s"):
                results = model(np.stack(group))
            yield from results


def channels_are_speakers(row: Row, channel: str) -> bool:
    """Whether each channel or track of a recording counts as a speaker, without any model.

    Args:
        row: of the plan or later.
        channel: the setting `audio.channel`; the row's own takes precedence.
    """
    return (row.get("channel") or channel) == "each" and (row.get("channels") or 2) > 1


def _regions(row: Row) -> Iterator[tuple[int | None, Region]]:
    """The regions of each channel of a row."""

    def channel_of(segment: Row) -> int:
        return -1 if segment.get("channel") is None else segment["channel"]

    ordered = sorted(row["segments"], key=lambda segment: (channel_of(segment), segment["start"]))
    for channel, segments in groupby(ordered, channel_of):
        pieces = [
            (round(segment["start"] * SAMPLING_RATE), np.frombuffer(segment["samples"], "<i2"))
            for segment in segments
        ]
        for region in regions_of(pieces):
            yield None if channel < 0 else channel, region
