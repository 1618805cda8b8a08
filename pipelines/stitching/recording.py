"""The shards of a recording become its transcript or its dead letter."""

from __future__ import annotations

from collections.abc import Sequence

from actors.confidence.calibration import Calibration
from actors.records import Row, SegmentRow
from actors.redaction import redacted_address
from pipelines.stitching import spans
from pipelines.stitching.segments import (
    filled_segments,
    join_texts,
    position,
    remove_overlaps,
    spoken_languages,
    transcript_segment,
)
from pipelines.stitching.speakers import Speaker, SpeakerSettings, find_speakers, transcript_speakers

# Error codes that say nothing about the audio as it is now.
_TRANSIENT_CODES = ("storage_unavailable", "server_unavailable", "audio_changed")


def stitch(
    shards: Sequence[Row], *, config_hash: str, version: str, calibration: Calibration | None = None
) -> Row:
    """The row of `stitch_with_speakers`, with its usual settings of speakers."""
    row, _ = stitch_with_speakers(
        shards, SpeakerSettings(), config_hash=config_hash, version=version, calibration=calibration
    )
    return row


def stitch_with_speakers(
    shards: Sequence[Row],
    settings: SpeakerSettings,
    *,
    config_hash: str,
    version: str,
    calibration: Calibration | None = None,
) -> tuple[Row, list[Speaker]]:
    """Turn all shards of one recording into a TRANSCRIPT row, or a DEAD_LETTER row, which has `error_code`.

    Args:
        shards: SHARD rows of one recording in any order; the latest attempt at each shard counts.
        settings: how speakers are told apart.
        config_hash: of the settings of this run.
        version: of this program.
        calibration: for the confidences; None: they stay as the model has them.

    Returns:
        The row, and the recording's speakers; none for a dead letter and where they were not asked for.
    """
    rows = _latest_attempts(shards)
    segments, overlapped = remove_overlaps(
        sorted((segment for row in rows for segment in filled_segments(row)), key=position)
    )
    text = join_texts(segments)
    errors = [row for row in rows if row["status"] == "error"]
    transient = [
        row
        for row in rows
        if row["status"] in ("error", "partial") and row.get("error_code") in _TRANSIENT_CODES
    ]
    if transient or (errors and not text):
        return _dead_letter(rows, (transient or errors)[0], config_hash, version), []
    segments, speakers = find_speakers(rows, segments, settings)
    end = spans.recording_end(rows)
    lost = spans.lost_spans(rows, segments, end)
    flags = [flag for row in rows for flag in row.get("flags") or []]
    flags += [flag for flag, found in spans.consistency_flags(rows, end).items() if found]
    flags += ["overlap_removed"] if overlapped else []
    flags += ["unreliable"] if any("unreliable" in segment["flags"] for segment in segments) else []
    flags += [f"lost:{start:g}-{end:g}" for start, end in lost] + [
        f"error:{row['error_code']}" for row in errors
    ]
    found = spoken_languages(segments)
    incomplete = bool(lost) or any(row["status"] in ("partial", "error") for row in rows)
    row = {
        "recording_id": rows[0]["recording_id"],
        "audio": redacted_address(rows[0]["audio"]),
        "duration": round(max(0.0, end - spans.window_start(rows)), 6),
        "language": found[0]["language"] if found else None,
        "languages": found,
        "text": text,
        "segments": [
            calibration.apply(transcript_segment(segment)) if calibration else transcript_segment(segment)
            for segment in segments
            if segment["text"] or set(segment["flags"]) - {"speech_unlikely"}
        ],
        "silence": spans.silent_seconds(rows),
        "status": "partial" if incomplete else "ok" if text else "no_speech",
        "flags": list(dict.fromkeys(flags)),
        "metadata": rows[0]["metadata"],
        "provenance": _provenance(rows, config_hash, version)
        | {"calibration": calibration.digest if calibration else None},
        "window": rows[0].get("window"),
        "text_source": _text_source(segments),
        "speakers": transcript_speakers(speakers),
    }
    return row, speakers or []


def _latest_attempts(shards: Sequence[Row]) -> list[Row]:
    """The latest row of each shard, in order."""
    latest = {
        row["index"]: row
        for row in sorted(shards, key=lambda row: (row.get("attempt") or 0, str(row.get("created_at") or "")))
    }
    return [latest[index] for index in sorted(latest)]


def _text_source(segments: Sequence[SegmentRow]) -> str | None:
    """Where the text comes from; None without text."""
    spoken = [segment for segment in segments if segment["text"]]
    if not spoken:
        return None
    return "given" if any("text_given" in segment["flags"] for segment in spoken) else "model"


def _dead_letter(rows: Sequence[Row], failed: Row, config_hash: str, version: str) -> Row:
    return {
        "recording_id": failed["recording_id"],
        "audio": redacted_address(failed["audio"]),
        "error_stage": failed.get("error_stage"),
        "error_code": failed.get("error_code") or "internal_error",
        "error_message": failed.get("error_message"),
        "attempts": max(row.get("attempt") or 1 for row in rows),
        "duration": failed.get("duration"),
        "metadata": failed.get("metadata"),
        "provenance": _provenance(rows, config_hash, version),
        "window": failed.get("window"),
    }


def _provenance(rows: Sequence[Row], config_hash: str, version: str) -> Row:
    first = rows[0]
    models = ("asr_model", "asr_revision", "aligner_model", "aligner_revision")
    newest = max(
        (row for row in rows if row.get("created_at") is not None),
        key=lambda row: row["created_at"],
        default=first,
    )
    return {
        "audio_etag": first.get("etag"),
        **{column: first.get(column) for column in ("audio_bytes", "codec", "sampling_rate", "channels")},
        **{column: next((row[column] for row in rows if row.get(column)), None) for column in models},
        "config_hash": config_hash,
        "version": version,
        "run_id": newest.get("run_id"),
        "created_at": newest.get("created_at"),
        "calibration": None,
    }
