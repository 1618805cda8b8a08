"""One shard of a recording to segments of samples: fetch, decode, cut. Whatever is wrong with the file ends in the row, never in an exception."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from actors.audio.decoding import Decoded, decode_span
from actors.audio.header_facts import duration_is_estimated
from actors.audio.probing import probe
from actors.audio.pts import longest_believable
from actors.audio.sources import AudioFile, open_audio
from actors.audio.timeline import SampleReader
from actors.config import AudioConfig, SegmenterConfig
from actors.errors import RowError, as_row_error
from actors.process.isolation import Child
from actors.records import SAMPLING_RATE, Probe, Span
from actors.segmentation.energy import find_cut, segment

Row = dict[str, Any]

_REACH = 2.5  # seconds on both sides of a nominal shard border in which the cut is looked for
_BEYOND = 3600.0  # seconds that a recording may go on beyond its header's duration
_LOST = 0.5  # seconds of audio whose loss makes a shard partial
_SHORT = 1.0  # seconds that a file may end before its header says (and 1 % of the duration)
_FRAME_SECONDS = 0.025  # about what one undecodable packet costs


class Decoder:
    """Decodes rows in a child process (`audio.isolate`), so that a crash, a hang or a memory blow-up costs one row."""

    def __init__(self, audio: AudioConfig, segmenter: SegmenterConfig) -> None:
        self.audio, self.segmenter = audio, segmenter
        self._child = Child(audio.max_memory)

    def __call__(self, rows: list[Row]) -> list[Row]:
        """PLAN rows to DECODED rows, in order; never raises for a bad file."""
        return [self._decode(row) for row in rows]

    def __reduce__(self) -> tuple[type, tuple[AudioConfig, SegmenterConfig]]:
        return type(self), (self.audio, self.segmenter)

    def probe(self, uri: str, scan: bool, timeout: float) -> Probe:
        """What `actors.audio.probing.probe` says about a file, found out in the same child process.

        Raises:
            RowError: a code that names what is wrong with the file; decode_timeout after `timeout` seconds.
        """
        if not self.audio.isolate:
            return probe(uri, scan, self.audio.retries)
        found: Probe = self._child.call(
            "actors.audio.probing:probe", uri, scan, self.audio.retries, timeout=timeout
        )
        return found

    def close(self) -> None:
        """End the child process."""
        self._child.close()

    def _decode(self, row: Row) -> Row:
        if not self.audio.isolate:
            return decode_shard(row, self.audio, self.segmenter)
        for final in (False, True):
            try:
                return self._child.call(
                    "actors.decoder:decode_apart", row, self.audio, self.segmenter, timeout=self.audio.timeout
                )
            except Exception as error:
                # A crash is tried once more: the child may have been ended by somebody else.
                if final or getattr(error, "code", None) != "decoder_crashed":
                    return failed(row, error)
        raise AssertionError("unreachable")


def decode_shard(row: Row, audio: AudioConfig, segmenter: SegmenterConfig) -> Row:
    """Decode the shard that a PLAN row describes and cut it into segments.

    Returns:
        The DECODED row: all of `row`, an outcome (`status`, `error_*`, `flags`, `decoded_start`, `decoded_end` in seconds of the recording) and
        `segments` of {start, end, channel, samples}. Never raises for a bad file: that is a row with status "error".
    """
    return _with_samples(_decode(row, audio, segmenter), bytes)


def decode_apart(row: Row, audio: AudioConfig, segmenter: SegmenterConfig) -> Row:
    """`decode_shard` for a caller in another process, who gets the samples as memoryviews: 19 MB in ten minutes are not copied for the journey."""
    return _with_samples(_decode(row, audio, segmenter), pickle.PickleBuffer)


def _with_samples(row: Row, form: Callable[[memoryview], Any]) -> Row:
    return {
        **row,
        "segments": [{**segment, "samples": form(segment["samples"])} for segment in row["segments"]],
    }


def _decode(row: Row, audio: AudioConfig, segmenter: SegmenterConfig) -> Row:
    try:
        with open_audio(row["audio"], audio.retries) as file:
            _same_object(row, file)
            return _decode_open(row, file, audio, segmenter)
    except Exception as error:
        return failed(row, error)


def failed(row: Row, error: BaseException) -> Row:
    """The DECODED row of a shard that could not be decoded."""
    code, message = as_row_error(error)
    start = float(row.get("start") or 0.0)
    outcome = {
        "status": "error",
        "error_stage": "decode",
        "error_code": code,
        "error_message": message,
        "flags": [],
    }
    return {**row, **outcome, "decoded_start": start, "decoded_end": start, "segments": []}


def border(recording: SampleReader, nominal: float) -> int | None:
    """The sample (at 16 kHz) at which the shards on both sides of `nominal` seconds part; None where the recording has ended before.

    Both neighbours work it out for themselves from the same few seconds, decoded in the same way: they agree without knowing of each other.
    """
    start = max(0, round((nominal - _REACH) * SAMPLING_RATE))
    span = decode_span(recording, start, round((nominal + _REACH) * SAMPLING_RATE), "each")
    if span.end <= start:
        return None
    return start + find_cut(span.samples, round(nominal * SAMPLING_RATE) - start)


def _decode_open(row: Row, file: AudioFile, audio: AudioConfig, segmenter: SegmenterConfig) -> Row:
    recording = SampleReader(file)
    planned_end = row.get("end")
    start: int | None = 0 if row["start"] <= 0 else border(recording, row["start"])
    end = None if planned_end is None else border(recording, planned_end)
    flags = ["several_audio_streams"] if recording.audio_streams > 1 else []
    if start is None:
        place = _true_end(recording, round(row["start"] * SAMPLING_RATE)) / SAMPLING_RATE
        return _outcome(row, "no_speech", [*flags, "beyond_end"], place, place, [])
    decoded = _decode_channels(
        recording, start, end, row.get("channel") or audio.channel, _limit(row, file, recording)
    )
    flags += decoded.flags
    lost = _lost_seconds(decoded)
    if decoded.losses.broken or (decoded.ended and _ended_early(row, file, recording, decoded)):
        flags.append("truncated")
    # Neighbours that are reached by a seek go by the stamps, and may stand elsewhere than where this shard ends.
    apart = (
        decoded.losses.apart >= _LOST and (row["start"] > 0 or planned_end is not None) and recording.sought
    )
    if apart:
        flags.append("stamps_unreliable")
    segments = _segments(decoded, segmenter)
    status = "ok" if segments else "no_speech"
    if "truncated" in flags or apart or lost >= _LOST:
        status = "partial"
    return _outcome(row, status, flags, decoded.start / SAMPLING_RATE, decoded.end / SAMPLING_RATE, segments)


def _limit(row: Row, file: AudioFile, recording: SampleReader) -> int:
    """The sample that must not be passed: a header may be wrong by so much; a guess by all that the file has bytes for."""
    planned = max(row.get("duration") or 0.0, row.get("end") or 0.0, row["start"])
    if duration_is_estimated(file, recording.format):
        planned = max(planned, longest_believable(file.size))
    return round((planned + _BEYOND) * SAMPLING_RATE)


def _decode_channels(
    recording: SampleReader, start: int, end: int | None, channel: str, limit: int
) -> Decoded:
    decoded = decode_span(recording, start, end, channel, limit)
    if "phase_cancelled" in decoded.flags:  # the mix is silence, one channel alone is not
        alone = decode_span(recording, start, end, "left", limit)
        return Decoded(
            alone.samples,
            [None],
            alone.start,
            alone.end,
            alone.ended,
            alone.losses,
            [*alone.flags, "phase_cancelled"],
        )
    return decoded


def _segments(decoded: Decoded, config: SegmenterConfig) -> list[Row]:
    regions: list[list[Span] | None] = [None] * len(decoded.channels)
    if config.backend == "silero" and decoded.samples.size:
        from actors.segmentation.silero import find_speech

        regions = list(find_speech(list(decoded.samples), config))
    segments: list[Row] = []
    for channel, samples, speech in zip(decoded.channels, decoded.samples, regions, strict=True):
        for span in segment(samples, config, speech):
            segments.append(
                {
                    "start": (decoded.start + span.start) / SAMPLING_RATE,
                    "end": (decoded.start + span.end) / SAMPLING_RATE,
                    "channel": channel,
                    "samples": np.ascontiguousarray(samples[span.start : span.end], "<i2")
                    .view(np.uint8)
                    .data,
                }
            )
    return segments


def _outcome(row: Row, status: str, flags: list[str], start: float, end: float, segments: list[Row]) -> Row:
    outcome = {
        "status": status,
        "error_stage": None,
        "error_code": None,
        "error_message": None,
        "flags": flags,
    }
    return {**row, **outcome, "decoded_start": start, "decoded_end": end, "segments": segments}


def _same_object(row: Row, file: AudioFile) -> None:
    """Raises: RowError audio_changed where the object is not the one that was planned."""
    planned, size = row.get("etag"), row.get("audio_bytes")
    if planned and planned != file.etag:
        raise RowError(
            f"planned as {planned} ({size} bytes), now {file.etag} ({file.size} bytes): plan it again",
            "audio_changed",
        )


def _lost_seconds(decoded: Decoded) -> float:
    return max(
        decoded.losses.filled if decoded.losses.errors else 0.0, decoded.losses.errors * _FRAME_SECONDS
    )


def _ended_early(row: Row, file: AudioFile, recording: SampleReader, decoded: Decoded) -> bool:
    """Whether the file ended noticeably before its header said it would."""
    duration = row.get("duration")
    if duration is None or not recording.duration_is_its_own or duration_is_estimated(file, recording.format):
        return False
    return decoded.end / SAMPLING_RATE < duration - max(_SHORT, 0.01 * duration)


def _true_end(recording: SampleReader, nominal: int) -> int:
    """Where a recording that ends before `nominal` does end."""
    return min(nominal, decode_span(recording, nominal, nominal + 1).end)
