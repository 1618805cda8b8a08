"""Decodes one shard of a recording and cuts it into segments.

A bad file becomes an error row, never an exception.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.audio.decoding import Decoded
from actors.audio.files.slices import file_of
from actors.audio.formats.raw_pcm import with_header
from actors.audio.probing import probe
from actors.audio.recordings.ends import end_sample, ended_early, sample_limit
from actors.audio.recordings.tracks import Tracks, decode_all, decode_others, decode_tracks, open_tracks
from actors.audio.sources import AudioFile, open_audio
from actors.audio.windows import Window
from actors.errors import FatalError, RowError, as_row_error
from actors.process.isolation import Child
from actors.records import SAMPLING_RATE, Probe, Row
from actors.segmentation.energy import find_cut
from actors.segmentation.hybrid import Judged
from actors.segmentation.segmenter import cut_channels, silent_samples, warn_without_vad

if TYPE_CHECKING:
    from actors.config import AudioConfig, SegmenterConfig

# Seconds on both sides of a nominal shard border in which the cut is searched.
_REACH = 2.5
# Seconds of lost audio that make a shard partial.
_MAX_LOST = 0.5
# The flag of segments that may be no speech, and of shards of which something else than silence was dropped.
_UNLIKELY = "speech_unlikely"
# The border that was found last. It costs as much as decoding ten seconds, and the next shard begins there.
_last_border: dict[tuple[Any, ...], int | None] = {}


class Decoder:
    """Decodes rows in a child process (`audio.isolate`): a crash, a hang or a memory blow-up costs one row.

    Args:
        audio: settings of decoding.
        segmenter: settings of segmentation.
        imports: modules that the child process imports, see `Child`.
    """

    def __init__(self, audio: AudioConfig, segmenter: SegmenterConfig, imports: tuple[str, ...] = ()) -> None:
        self.audio, self.segmenter, self._imports = audio, segmenter, imports
        warn_without_vad(segmenter)
        self._child = Child(audio.max_memory, imports=imports)
        # Values alone: for a `Settings` the child would import pydantic, which takes longer than ten clips.
        self._plain_settings = [SimpleNamespace(**settings.model_dump()) for settings in (audio, segmenter)]

    def __call__(self, rows: list[Row], following: Row | None = None) -> list[Row]:
        """Decode PLAN rows to DECODED rows, in order. Never raises for a bad file.

        Args:
            rows: PLAN rows.
            following: the row that is decoded next, if it is known: where it is in the same file, the file
            stays
                open.
        """
        later = [*rows[1:], following]
        return [
            self._decode(row, after is not None and _file_of(after) == _file_of(row))
            for row, after in zip(rows, later, strict=True)
        ]

    def __reduce__(self) -> tuple[type, tuple[AudioConfig, SegmenterConfig, tuple[str, ...]]]:
        return type(self), (self.audio, self.segmenter, self._imports)

    def probe(self, uri: str, scan: bool, timeout: float) -> Probe:
        """Run `actors.audio.probing.probe` in the same child process.

        Args:
            uri: of the file.
            scan: see `probe`.
            timeout: seconds.

        Raises:
            RowError: with the code of what is wrong with the file; decode_timeout after `timeout` seconds.
        """
        if not self.audio.isolate:
            return probe(uri, scan, self.audio.retries)
        found: Probe = self._child.call(
            "actors.audio.probing:probe", uri, scan, self.audio.retries, timeout=timeout
        )
        return found

    def close(self) -> None:
        """Kill the child process for good."""
        self._child.close()

    def _decode(self, row: Row, keep_open: bool) -> Row:
        if not self.audio.isolate:
            return decode_shard(row, self.audio, self.segmenter, keep_open)
        for final in (False, True):
            try:
                return self._child.call(
                    "actors.decoder:decode_for_caller",
                    row,
                    *self._plain_settings,
                    keep_open,
                    timeout=self.audio.timeout,
                )
            except FatalError:
                raise
            except Exception as error:
                # A crash is retried once: something else may have killed the child.
                if final or getattr(error, "code", None) != "decoder_crashed":
                    return failed(row, error)
        raise AssertionError("unreachable")


def _file_of(row: Row) -> str:
    """The file that is read for a row; several recordings may be windows or members of one."""
    return file_of(row.get("location") or row["audio"])


def decode_shard(row: Row, audio: AudioConfig, segmenter: SegmenterConfig, keep_open: bool = False) -> Row:
    """Decode the shard that a PLAN row describes and cut it into segments.

    Args:
        row: the PLAN row.
        audio: settings of decoding.
        segmenter: settings of segmentation.
        keep_open: see `actors.audio.sources.open_audio`.

    Returns:
        The DECODED row: all of `row`, an outcome (`status`, `error_*`, `flags`, `decoded_start`,
        `decoded_end` in seconds of the recording) and `segments` of {start, end, channel, samples}. A bad
        file gives a row with status "error", not an exception.
    """
    return _with_samples(_decode(row, audio, segmenter, keep_open), bytes)


def decode_for_caller(
    row: Row, audio: AudioConfig, segmenter: SegmenterConfig, keep_open: bool = False
) -> Row:
    """`decode_shard` for a caller in another process.

    The caller gets the samples as memoryviews, so that the 19 MB of a shard of ten minutes are not copied to
    be sent.
    """
    return _with_samples(_decode(row, audio, segmenter, keep_open), pickle.PickleBuffer)


def _with_samples(row: Row, form: Callable[[memoryview], Any]) -> Row:
    return {
        **row,
        "segments": [{**segment, "samples": form(segment["samples"])} for segment in row["segments"]],
    }


def _decode(row: Row, audio: AudioConfig, segmenter: SegmenterConfig, keep_open: bool) -> Row:
    try:
        address = row.get("location") or row["audio"]
        with open_audio(address, audio.retries, keep_open=keep_open) as file:
            _require_planned_object(row, file)
            return _decode_open(row, file, audio, segmenter)
    except ImportError:  # of this program, not of the row
        raise
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


def border(tracks: Tracks, nominal: float, window: Window | None = None) -> int | None:
    """The sample (at 16 kHz) at which the shards on both sides of a nominal border meet.

    Both shards compute it from the same few seconds, decoded in the same way, so they get the same result
    without communicating.

    Args:
        tracks: of the file.
        nominal: the planned border in seconds.
        window: the part of the file that the shards belong to; nothing outside of it is looked at.

    Returns:
        The sample; None where the recording ends before the border.
    """
    window = window or Window()
    start = max(window.first_sample, round((nominal - _REACH) * SAMPLING_RATE))
    end = round((nominal + _REACH) * SAMPLING_RATE)
    span = decode_all(tracks, start, min(end, window.end_sample or end))
    if span.end <= start:
        return None
    return start + find_cut(span.samples, round(nominal * SAMPLING_RATE) - start)


def _decode_open(row: Row, file: AudioFile, audio: AudioConfig, segmenter: SegmenterConfig) -> Row:
    file = with_header(file, row.get("raw_format"))
    tracks = open_tracks(file, row.get("track") or audio.track)
    recording = tracks.main
    window, planned_end = Window.of(row), row.get("end")
    start, end = window.first_sample if window.is_first(row["start"]) else None, window.end_sample
    if start is None:
        start = _border_of(row, file, tracks, row["start"], window)
    if not window.is_last(planned_end):
        end = None if planned_end is None else _border_of(row, file, tracks, planned_end, window)
    flags = [*recording.flags, *(["several_audio_streams"] if recording.audio_streams > 1 else [])]
    if start is None:
        true_end = end_sample(recording, round(row["start"] * SAMPLING_RATE)) / SAMPLING_RATE
        status = "no_speech" if window.end is None else "partial"
        return _outcome(row, status, [*flags, "beyond_end"], true_end, true_end, [])
    channel, limit = row.get("channel") or audio.channel, sample_limit(row, recording)
    decoded = decode_tracks(tracks, start, end, channel, limit)
    channels = cut_channels(decoded.samples, segmenter)
    if tracks.others and not any(judged.spans for judged in channels):
        for other in decode_others(file, tracks, (start, end), channel, limit):
            judged_others = cut_channels(other.samples, segmenter)
            if any(judged.spans for judged in judged_others):
                decoded, channels = other, judged_others
                flags.append("silent_track_replaced")
                break
    flags += ["audio_unread"] if tracks.unread and "audio_unread" not in flags else []
    flags += decoded.flags
    window.require_begun(decoded.end / SAMPLING_RATE)
    beyond = decoded.reached_end and window.lacks(decoded.end / SAMPLING_RATE)
    if beyond:
        flags.append("beyond_end")
    if decoded.losses.broken or (decoded.reached_end and ended_early(row, recording, decoded)):
        flags.append("truncated")
    # What was not read is behind the end of the recording.
    unread = tracks.unread or (decoded.reached_end and "audio_unread" in flags)
    # Neighbouring shards that are reached by a seek are positioned by time stamps, which here differ from the
    # positions by which this shard is cut.
    has_neighbours = row["start"] > 0 or planned_end is not None
    unreliable = decoded.losses.max_drift >= _MAX_LOST and has_neighbours and recording.can_seek
    if unreliable:
        flags.append("stamps_unreliable")
    segments = _segments(decoded, channels)
    if any(judged.dropped for judged in channels):
        flags.append(_UNLIKELY)
    silence = silent_samples(channels, decoded.samples.shape[1]) / SAMPLING_RATE
    status = "ok" if segments else "no_speech"
    if "truncated" in flags or beyond or unread or unreliable or decoded.losses.seconds >= _MAX_LOST:
        status = "partial"
    span = (decoded.start / SAMPLING_RATE, decoded.end / SAMPLING_RATE)
    return _outcome(row, status, flags, *span, segments, silence)


def _border_of(row: Row, file: AudioFile, tracks: Tracks, nominal: float, window: Window) -> int | None:
    """`border`, which is not computed twice for neighbouring shards."""
    key = (file.uri, file.etag, row.get("raw_format"), tracks.policy, window, nominal)
    if key not in _last_border:
        found = border(tracks, nominal, window)
        _last_border.clear()
        _last_border[key] = found
    return _last_border[key]


def _segments(decoded: Decoded, channels: list[Judged]) -> list[Row]:
    segments: list[Row] = []
    for channel, samples, judged in zip(decoded.channels, decoded.samples, channels, strict=True):
        for span, unlikely in zip(judged.spans, judged.unlikely, strict=True):
            little_endian = np.ascontiguousarray(samples[span.start : span.end], "<i2")
            segments.append(
                {
                    "start": (decoded.start + span.start) / SAMPLING_RATE,
                    "end": (decoded.start + span.end) / SAMPLING_RATE,
                    "channel": channel,
                    "flags": [_UNLIKELY] if unlikely else [],
                    "samples": little_endian.view(np.uint8).data,
                }
            )
    return segments


def _outcome(
    row: Row,
    status: str,
    flags: list[str],
    start: float,
    end: float,
    segments: list[Row],
    silence: float = 0.0,
) -> Row:
    outcome = {
        "status": status,
        "error_stage": None,
        "error_code": None,
        "error_message": None,
        "flags": flags,
    }
    span = {"decoded_start": start, "decoded_end": end, "silence": silence}
    return {**row, **outcome, **span, "segments": segments}


def _require_planned_object(row: Row, file: AudioFile) -> None:
    """Check that the object is the one that was planned.

    Raises:
        RowError: audio_changed.
    """
    planned, size = row.get("etag"), row.get("audio_bytes")
    if planned and planned != file.etag:
        raise RowError(
            f"planned as {planned} ({size} bytes), now {file.etag} ({file.size} bytes): plan it again",
            "audio_changed",
        )
