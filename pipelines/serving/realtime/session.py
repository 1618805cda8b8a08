"""What a realtime client sets and says, checked. The shapes are those of OpenAI's realtime transcription, of today and of its beta."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from actors.segmentation.endpointing import Turns
from pipelines.serving.realtime.events import Event
from pipelines.serving.service import Service, checked_language, checked_prompt
from pipelines.serving.web.errors import wrong
from pipelines.serving.web.uploads import MAX_VALUES, bytes_of_base64

RATES = (8000, 16_000, 24_000, 32_000, 44_100, 48_000)  # Hz
_DEFAULT_RATE = 24_000  # OpenAI's
MAX_APPEND = 4 << 20  # bytes of base64 in one event


@dataclass(frozen=True)
class Session:
    """The settings of a stream."""

    model: str
    language: str | None  # ISO code
    prompt: str | None
    rate: int  # Hz
    turns: Turns


def first(service: Service, model: str | None) -> Session:
    """The settings of a stream that has not set any.

    Raises:
        Problem: 404 for a model that is not here.
    """
    window = min(service.config.serve.stream_window, service.config.segmenter.max_duration)
    name = service.checked_model(model) if model else service.model_names[0]
    return Session(
        name,
        service.config.asr.language and checked_language(service.config.asr.language),
        None,
        _DEFAULT_RATE,
        Turns(window=window),
    )


def updated(session: Session, event: Event, service: Service) -> Session:
    """The settings after a `session.update` (or `transcription_session.update`).

    Raises:
        Problem: 400, 404, with the field that is wrong.
    """
    given = _object(event.get("session"), "session")
    if given.get("type") not in (None, "transcription"):
        raise wrong("session.type must be transcription: this server does not talk", "session.type")
    audio = _object(_object(given.get("audio"), "session.audio").get("input"), "session.audio.input")
    for source, format_key, transcription_key in (
        (given, "input_audio_format", "input_audio_transcription"),
        (audio, "format", "transcription"),
    ):
        if source.get(format_key) is not None:
            session = replace(session, rate=_rate(source[format_key]))
        if source.get(transcription_key) is not None:
            session = _with_transcription(
                session, _object(source[transcription_key], transcription_key), service
            )
        if "turn_detection" in source:
            session = replace(session, turns=_turns(session.turns, source["turn_detection"]))
    return session


def described(session: Session, beta: bool) -> Event:
    """The settings as a client reads them."""
    turns = session.turns
    detection = {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": round(turns.padding * 1000),
        "silence_duration_ms": round(turns.silence * 1000),
    }
    transcription = {"model": session.model, "language": session.language, "prompt": session.prompt or ""}
    if beta:
        return {
            "input_audio_format": "pcm16",
            "input_audio_transcription": transcription,
            "turn_detection": detection if turns.detect else None,
        }
    source = {
        "format": {"type": "audio/pcm", "rate": session.rate},
        "transcription": transcription,
        "turn_detection": detection if turns.detect else None,
        "noise_reduction": None,
    }
    return {"type": "transcription", "audio": {"input": source}}


def event_of(text: str) -> Any:
    """What a client says, parsed.

    Raises:
        Problem: 400 where it is not JSON, or has so many values that all other clients would wait for it: an event is parsed where they are served.
    """
    if sum(text.count(mark) for mark in "{[,") > MAX_VALUES:
        raise wrong(f"an event may have at most {MAX_VALUES:,} values", code="invalid_event")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise wrong("the message is not JSON", code="invalid_json") from None


def samples_of(event: Event) -> np.ndarray:
    """The audio in an `input_audio_buffer.append`: int16, shape (samples,).

    Raises:
        Problem: 400.
    """
    audio = event.get("audio")
    if not isinstance(audio, str):
        raise wrong("audio must be base64 of 16-bit PCM, mono, little-endian", "audio")
    if len(audio) > MAX_APPEND:
        raise wrong(f"one append may have {MAX_APPEND:,} characters: send smaller pieces", "audio")
    data = bytes_of_base64(audio, "audio")
    if len(data) % 2:
        raise wrong("audio has half a sample at its end: 16-bit PCM has two bytes for each", "audio")
    return np.frombuffer(data, "<i2")


def _with_transcription(session: Session, given: Event, service: Service) -> Session:
    if given.get("model") is not None:
        session = replace(session, model=service.checked_model(given["model"]))
    if "language" in given:
        session = replace(session, language=checked_language(given["language"]))
    if "prompt" in given:
        session = replace(session, prompt=checked_prompt(given["prompt"]))
    return session


def _rate(given: Any) -> int:
    if given == "pcm16":
        return _DEFAULT_RATE
    kind, rate = (
        (given.get("type"), given.get("rate", _DEFAULT_RATE)) if isinstance(given, dict) else (given, None)
    )
    if kind != "audio/pcm":
        raise wrong("the audio format must be pcm16, or {type: audio/pcm, rate: ...}", "format")
    if rate not in RATES:
        raise wrong(f"rate must be one of {', '.join(map(str, RATES))} Hz", "format.rate")
    return int(rate)


def _turns(turns: Turns, given: Any) -> Turns:
    if given is None:
        return replace(turns, detect=False)
    given = _object(given, "turn_detection")
    if given.get("type", "server_vad") not in ("server_vad", "semantic_vad"):
        raise wrong("turn_detection.type must be server_vad, or turn_detection null", "turn_detection.type")
    silence = _milliseconds(given, "silence_duration_ms", turns.silence, 200, 5000)
    padding = _milliseconds(given, "prefix_padding_ms", turns.padding, 0, 2000)
    return replace(turns, detect=True, silence=silence, padding=padding)


def _milliseconds(given: Event, name: str, usual: float, least: int, most: int) -> float:
    value = given.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise wrong(f"{name} must be a number from {least} to {most}", f"turn_detection.{name}")
    return value / 1000


def _object(value: Any, name: str) -> Event:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(f"{name} must be an object", name)
    return value
