"""Server events of the realtime API, in the format of OpenAI's realtime transcription and its beta. Pure."""

from __future__ import annotations

from typing import Any, cast

from actors.records import SAMPLING_RATE, SegmentRow
from pipelines.serving.web.errors import Problem
from pipelines.subtitles.cues import cues
from pipelines.subtitles.rendering import cue_rows

Event = dict[str, Any]

_PREFIX = "conversation.item.input_audio_transcription"


def seconds(samples: int) -> float:
    """Convert samples of a stream to seconds, rounded to milliseconds."""
    return round(samples / SAMPLING_RATE, 3)


def started(item: str, start: int) -> Event:
    """Speech has started; `start` in samples of the stream."""
    return {
        "type": "input_audio_buffer.speech_started",
        "audio_start_ms": round(seconds(start) * 1000),
        "item_id": item,
    }


def stopped(item: str, end: int) -> Event:
    """Speech has stopped; `end` in samples of the stream."""
    return {
        "type": "input_audio_buffer.speech_stopped",
        "audio_end_ms": round(seconds(end) * 1000),
        "item_id": item,
    }


def committed(item: str, previous: str | None) -> Event:
    """An utterance has ended."""
    return {"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": previous}


def added(item: str, previous: str | None, beta: bool) -> Event:
    """An utterance has become an item of the conversation."""
    content = [{"type": "input_audio", "transcript": None}]
    message = {"id": item, "type": "message", "role": "user", "status": "completed", "content": content}
    name = "conversation.item.created" if beta else "conversation.item.added"
    return {"type": name, "previous_item_id": previous, "item": message}


def delta(item: str, text: str, tail: str) -> Event:
    """New text that will not change. `unsettled`, an extension, is the text behind it, which may change."""
    return {"type": f"{_PREFIX}.delta", "item_id": item, "content_index": 0, "delta": text, "unsettled": tail}


def completed(item: str, start: int, end: int, segment: dict[str, Any], lag: float) -> Event:
    """The transcript of an utterance.

    Args:
        item: ID of the utterance.
        start: in samples of the stream.
        end: in samples of the stream.
        segment: from `utterances.transcribe_utterance`.
        lag: seconds since the end of the utterance.
    """
    return {
        "type": f"{_PREFIX}.completed",
        "item_id": item,
        "content_index": 0,
        "transcript": segment["text"],
        "languages": [{"code": segment["language"]}] if segment["language"] else [],
        "usage": {"type": "duration", "seconds": seconds(end - start)},
        # The fields below extend OpenAI's event; times are seconds of the stream.
        "start": seconds(start),
        "end": seconds(end),
        "language": segment["language"],
        "confidence": segment["confidence"],
        "words": [
            {
                "word": word["text"],
                "start": word["start"],
                "end": word["end"],
                "confidence": word.get("confidence"),
            }
            for word in segment["words"]
        ],
        "cues": cue_rows(cues([cast(SegmentRow, segment)])),
        "lag_ms": round(lag * 1000),
    }


def failed(item: str, problem: Problem) -> Event:
    """The transcription of an utterance has failed."""
    return {"type": f"{_PREFIX}.failed", "item_id": item, "content_index": 0, "error": problem.body["error"]}


def error(problem: Problem, event_id: Any = None) -> Event:
    """An event of the client was invalid."""
    return {
        "type": "error",
        "error": {**problem.body["error"], "event_id": event_id if _is_encodable(event_id) else None},
    }


def _is_encodable(event_id: Any) -> bool:
    """Whether a value is a string without lone surrogates, which JSON can escape but UTF-8 cannot encode."""
    return isinstance(event_id, str) and not any("\ud800" <= letter <= "\udfff" for letter in event_id)
