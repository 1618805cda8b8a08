"""Transcripts in the shapes of OpenAI's transcription API. Pure."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.text.languages import name_of
from pipelines.config import RunConfig
from pipelines.serving.api import subtitles

Row = dict[str, Any]

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = ("segment", "word")
MEDIA_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


def model_names(config: RunConfig) -> list[str]:
    """What clients may call the model, the first being its name in answers; never a path of this machine."""
    model = config.asr.model
    own = Path(model).name if Path(model).is_dir() or Path(model).is_absolute() else model
    return config.serve.model_names or [own]


def short(row: Row) -> Row:
    """The `json` format."""
    return {"text": row["text"], "languages": _languages(row), "usage": usage(row["duration"])}


def verbose(row: Row, granularities: Sequence[str], duration: float | None = None) -> Row:
    """The `verbose_json` format; what OpenAI's has not is added: the status, flags, and the language of each segment.

    Args:
        row: TRANSCRIPT.
        granularities: out of GRANULARITIES, what to list.
        duration: seconds; None: the row's.
    """
    seconds = row["duration"] if duration is None else duration
    answer: Row = {
        "task": "transcribe",
        "language": (name_of(row["language"]) or "").lower(),
        "duration": round(seconds, 3),
        "text": row["text"],
        "languages": _languages(row),
        "status": row["status"],
        "flags": row["flags"],
        "usage": usage(seconds),
    }
    if "word" in granularities:
        answer["words"] = [
            {"word": word["text"], "start": word["start"], "end": word["end"]}
            for segment in row["segments"]
            for word in segment["words"]
        ]
    if "segment" in granularities:
        answer["segments"] = [_segment(number, segment) for number, segment in enumerate(row["segments"])]
    return answer


def plain(row: Row, form: str) -> str:
    """The formats that are no JSON: text, srt, vtt."""
    if form == "text":
        return f"{row['text']}\n"
    return subtitles.srt(row["segments"]) if form == "srt" else subtitles.vtt(row["segments"])


def usage(seconds: float) -> Row:
    """How much audio that was, as OpenAI says it."""
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
        "tokens": [],  # of a vocabulary that clients do not have
        "temperature": 0.0,
        "avg_logprob": round(math.log(confidence), 4) if confidence else 0.0,
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 3) if data else 0.0,
        "no_speech_prob": 0.0 if segment["text"] else 1.0,
        "language": segment["language"],
        "confidence": confidence,
        "flags": segment["flags"],
    }
