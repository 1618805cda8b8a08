"""Transcripts in the response formats of OpenAI's transcription API. Pure."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from actors.records import Row
from actors.text.languages import name_of
from actors.text.speaker_turns import split_at_speakers
from pipelines.subtitles.cues import cues
from pipelines.subtitles.rendering import cue_rows, srt, vtt

FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
# `cue` is an extension: the cues of the formats srt and vtt.
GRANULARITIES = ("segment", "word", "cue")
MEDIA_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


def json_body(row: Row) -> Row:
    """The `json` format of a TRANSCRIPT row."""
    return {"text": row["text"], "languages": _languages(row), "usage": usage(row["duration"])}


def verbose_json_body(row: Row, granularities: Sequence[str], duration: float | None = None) -> Row:
    """The `verbose_json` format. It extends OpenAI's with status, flags, and the language of each segment.

    Args:
        row: TRANSCRIPT.
        granularities: which of GRANULARITIES to list.
        duration: seconds; None for the duration in the row.
    """
    seconds = row["duration"] if duration is None else duration
    body: Row = {
        "task": "transcribe",
        "language": (name_of(row["language"]) or "").lower(),
        "duration": round(seconds, 3),
        "text": row["text"],
        "languages": _languages(row),
        "status": row["status"],
        "flags": row["flags"],
        "usage": usage(seconds),
    }
    if row.get("speakers") is not None:
        body["speakers"] = row["speakers"]
    if "word" in granularities:
        body["words"] = [
            {
                "word": word["text"],
                "start": word["start"],
                "end": word["end"],
                "confidence": word.get("confidence"),
                "speaker": word.get("speaker"),
            }
            for segment in row["segments"]
            for word in segment["words"]
        ]
    if "cue" in granularities:
        body["cues"] = cue_rows(cues(row["segments"], duration=seconds or None))
    if "segment" in granularities:
        body["segments"] = [_segment(number, segment) for number, segment in enumerate(row["segments"])]
    return body


def diarized_json_body(row: Row) -> Row:
    """The `diarized_json` format: what each speaker says, one turn after the other.

    Speakers are called A, B ... in order of appearance, as by OpenAI, or by the names of known voices.
    """
    segments = diarized_segments(row)
    return {
        "task": "transcribe",
        "duration": round(row["duration"], 3),
        "text": row["text"],
        "segments": segments,
        "usage": usage(row["duration"]),
    }


def diarized_segments(row: Row) -> list[Row]:
    """The `segments` of `diarized_json`: segments cut where the speaker changes.

    A turn whose speaker is not known, as where several people speak at once, has the speaker `unknown`.
    """
    names = {
        speaker["speaker"]: speaker["name"] or _letters(number)
        for number, speaker in enumerate(row.get("speakers") or [])
    }
    parts = [part for segment in row["segments"] for part in split_at_speakers(segment) if part["text"]]
    return [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{number:03d}",
            "start": round(part["start"], 3),
            "end": round(part["end"], 3),
            "text": part["text"],
            "speaker": names.get(part.get("speaker") or "", "unknown"),
        }
        for number, part in enumerate(parts, 1)
    ]


def _letters(number: int) -> str:
    """A, B ... Z, AA, AB ... for 0, 1 ..."""
    letters = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def text_body(row: Row, response_format: str) -> str:
    """The formats that are not JSON: text, srt, vtt."""
    if response_format == "text":
        return f"{row['text']}\n"
    made = cues(row["segments"], duration=row["duration"] or None)
    return srt(made) if response_format == "srt" else vtt(made)


def usage(seconds: float) -> Row:
    """The duration of the audio in OpenAI's `usage` format."""
    return {"type": "duration", "seconds": round(seconds, 3)}


def _languages(row: Row) -> list[Row]:
    return [{"code": entry["language"]} for entry in row["languages"]]


def _segment(number: int, segment: Row) -> Row:
    confidence = segment["confidence"]
    data = segment["text"].encode()
    return {
        "id": number,
        "seek": round(segment["start"] * 100),  # OpenAI counts in frames of 10 ms
        "start": round(segment["start"], 3),
        "end": round(segment["end"], 3),
        "text": segment["text"],
        "tokens": [],  # clients do not have the vocabulary
        "temperature": 0.0,
        "avg_logprob": round(math.log(confidence), 4) if confidence else 0.0,
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 3) if data else 0.0,
        "no_speech_prob": 0.0 if segment["text"] else 1.0,
        "language": segment["language"],
        "confidence": confidence,
        "min_confidence": segment.get("min_confidence"),
        "language_confidence": segment.get("language_confidence"),
        "flags": segment["flags"],
        "speaker": segment.get("speaker"),
    }
