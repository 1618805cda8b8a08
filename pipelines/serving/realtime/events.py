"""What a realtime client is told, in the shape of OpenAI's realtime transcription, of today and of its beta. Pure."""

from __future__ import annotations

from typing import Any

from actors.records import SAMPLING_RATE
from pipelines.serving.web.errors import Problem

Event = dict[str, Any]

_PREFIX = "conversation.item.input_audio_transcription"


def seconds(samples: int) -> float:
    """Samples of a stream as seconds, to the millisecond."""
    return round(samples / SAMPLING_RATE, 3)


def started(item: str, start: int) -> Event:
    """Somebody began to speak; `start` in samples of the stream."""
    return {
        "type": "input_audio_buffer.speech_started",
        "audio_start_ms": round(seconds(start) * 1000),
        "item_id": item,
    }


def stopped(item: str, end: int) -> Event:
    """Somebody stopped speaking; `end` in samples of the stream."""
    return {
        "type": "input_audio_buffer.speech_stopped",
        "audio_end_ms": round(seconds(end) * 1000),
        "item_id": item,
    }


def committed(item: str, previous: str | None) -> Event:
    """An utterance is over."""
    return {"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": previous}


def added(item: str, previous: str | None, beta: bool) -> Event:
    """An utterance is an item of the conversation from now on."""
    content = [{"type": "input_audio", "transcript": None}]
    described = {"id": item, "type": "message", "role": "user", "status": "completed", "content": content}
    name = "conversation.item.created" if beta else "conversation.item.added"
    return {"type": name, "previous_item_id": previous, "item": described}


def delta(item: str, text: str, tail: str) -> Event:
    """What is settled by now; `unsettled`, which OpenAI's events have not, is what may follow."""
    return {"type": f"{_PREFIX}.delta", "item_id": item, "content_index": 0, "delta": text, "unsettled": tail}


def completed(item: str, start: int, end: int, found: dict[str, Any], lag: float) -> Event:
    """All of an utterance.

    Args:
        item: its name.
        start: in samples of the stream.
        end: in samples of the stream.
        found: see `utterances.finished`.
        lag: seconds since its end.
    """
    return {
        "type": f"{_PREFIX}.completed",
        "item_id": item,
        "content_index": 0,
        "transcript": found["text"],
        "languages": [{"code": found["language"]}] if found["language"] else [],
        "usage": {"type": "duration", "seconds": seconds(end - start)},
        # From here on what OpenAI's event has not; times in seconds of the stream.
        "start": seconds(start),
        "end": seconds(end),
        "language": found["language"],
        "confidence": found["confidence"],
        "words": [
            {"word": word["text"], "start": word["start"], "end": word["end"]} for word in found["words"]
        ],
        "lag_ms": round(lag * 1000),
    }


def failed(item: str, problem: Problem) -> Event:
    """An utterance has no text."""
    return {"type": f"{_PREFIX}.failed", "item_id": item, "content_index": 0, "error": problem.body["error"]}


def error(problem: Problem, event_id: Any = None) -> Event:
    """What was wrong with something that the client said."""
    return {
        "type": "error",
        "error": {**problem.body["error"], "event_id": event_id if _can_be_sent(event_id) else None},
    }


def _can_be_sent(event_id: Any) -> bool:
    """Whether it is text, without half a character (a lone surrogate), which JSON has a spelling for and UTF-8 has not."""
    return isinstance(event_id, str) and not any("\ud800" <= letter <= "\udfff" for letter in event_id)
