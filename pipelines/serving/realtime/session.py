"""Settings and events of a realtime client, in the format of OpenAI's realtime transcription and its beta."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from actors.segmentation.endpointing import TurnDetection
from pipelines.serving.realtime.events import Event
from pipelines.serving.service import Service
from pipelines.serving.web.errors import bad_request
from pipelines.serving.web.forms.bodies import MAX_VALUES
from pipelines.serving.web.parameters import (
    checked_language,
    checked_prompt,
    chosen_language,
    decode_base64,
    with_keywords,
)
from pipelines.serving.web.tolerance import Tolerance

SAMPLING_RATES = (8000, 16_000, 24_000, 32_000, 44_100, 48_000)  # Hz
_DEFAULT_RATE = 24_000  # Hz, as in OpenAI's API
MAX_APPEND = 4 << 20  # bytes of base64 in one event


@dataclass(frozen=True)
class Session:
    """The settings of a stream."""

    model: str
    language: str | None  # ISO code
    prompt: str | None
    rate: int  # Hz
    turns: TurnDetection


def default_session(service: Service, model: str | None) -> Session:
    """The default settings of a stream.

    Raises:
        Problem: 404 if the server has no such model.
    """
    window = min(service.config.serve.stream_window, service.config.segmenter.max_duration)
    name = service.checked_model(model) if model else service.model_names[0]
    return Session(
        name,
        service.config.asr.language and checked_language(service.config.asr.language),
        None,
        _DEFAULT_RATE,
        TurnDetection(window=window),
    )


def updated_session(session: Session, event: Event, service: Service, tolerance: Tolerance) -> Session:
    """The settings after a `session.update` or `transcription_session.update`.

    Args:
        session: the settings before.
        event: of the client.
        service: the server's shared state.
        tolerance: ignores an unknown language if the server is lenient, and gets the warnings.

    Raises:
        Problem: 400, 404, with the field that is wrong.
    """
    given = _object(event.get("session"), "session")
    if given.get("type") not in (None, "transcription"):
        raise bad_request("session.type must be transcription", "session.type")
    audio = _object(_object(given.get("audio"), "session.audio").get("input"), "session.audio.input")
    for source, format_key, transcription_key in (
        (given, "input_audio_format", "input_audio_transcription"),
        (audio, "format", "transcription"),
    ):
        if source.get(format_key) is not None:
            session = replace(session, rate=_rate(source[format_key]))
        if source.get(transcription_key) is not None:
            session = _with_transcription(
                session, _object(source[transcription_key], transcription_key), service, tolerance
            )
        if "turn_detection" in source:
            session = replace(session, turns=_turns(session.turns, source["turn_detection"]))
    return session


def session_fields(session: Session, beta: bool) -> Event:
    """The `session` object of a server event."""
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


def parse_event(text: str) -> Any:
    """Parse the JSON of a client event.

    Raises:
        Problem: 400 if it is not JSON, or has more than MAX_VALUES values. Events are parsed in the event
            loop, so a slow one would delay all clients.
    """
    if sum(text.count(delimiter) for delimiter in "{[,") > MAX_VALUES:
        raise bad_request(f"an event may have at most {MAX_VALUES:,} values", code="invalid_event")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise bad_request("the message is not JSON", code="invalid_json") from None


def decode_audio(event: Event) -> np.ndarray:
    """Decode the audio of an `input_audio_buffer.append` event: int16, shape (samples,).

    Raises:
        Problem: 400.
    """
    audio = event.get("audio")
    if not isinstance(audio, str):
        raise bad_request("audio must be base64 of 16-bit PCM, mono, little-endian", "audio")
    if len(audio) > MAX_APPEND:
        raise bad_request(f"audio may have at most {MAX_APPEND:,} characters: send smaller chunks", "audio")
    data = decode_base64(audio, "audio")
    if len(data) % 2:
        raise bad_request("audio ends with half a sample: 16-bit PCM has two bytes per sample", "audio")
    return np.frombuffer(data, "<i2")


def _with_transcription(session: Session, given: Event, service: Service, tolerance: Tolerance) -> Session:
    if given.get("model") is not None:
        session = replace(session, model=service.checked_model(given["model"]))
    if "language" in given or "languages" in given:
        chosen = chosen_language(given.get("language"), _strings(given, "languages"))
        language = tolerance.checked(lambda: checked_language(chosen), None)
        session = replace(session, language=language)
    if "prompt" in given or "keywords" in given:
        text = with_keywords(given.get("prompt"), _strings(given, "keywords"))
        prompt = checked_prompt(text, service.config.serve.max_prompt, tolerance)
        session = replace(session, prompt=prompt)
    return session


def _strings(given: Event, name: str) -> list[str]:
    values = given.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise bad_request(f"{name} must be a list of strings", name)
    return values


def _rate(given: Any) -> int:
    if given == "pcm16":
        return _DEFAULT_RATE
    kind, rate = (
        (given.get("type"), given.get("rate", _DEFAULT_RATE)) if isinstance(given, dict) else (given, None)
    )
    if kind != "audio/pcm":
        raise bad_request("the audio format must be pcm16, or {type: audio/pcm, rate: ...}", "format")
    if rate not in SAMPLING_RATES:
        raise bad_request(f"rate must be one of {', '.join(map(str, SAMPLING_RATES))} Hz", "format.rate")
    return int(rate)


def _turns(turns: TurnDetection, given: Any) -> TurnDetection:
    if given is None:
        return replace(turns, detect=False)
    given = _object(given, "turn_detection")
    if given.get("type", "server_vad") not in ("server_vad", "semantic_vad"):
        raise bad_request(
            "turn_detection.type must be server_vad; set turn_detection to null to disable it",
            "turn_detection.type",
        )
    silence = _milliseconds(given, "silence_duration_ms", turns.silence, 200, 5000)
    padding = _milliseconds(given, "prefix_padding_ms", turns.padding, 0, 2000)
    return replace(turns, detect=True, silence=silence, padding=padding)


def _milliseconds(given: Event, name: str, default: float, minimum: int, maximum: int) -> float:
    """A field in milliseconds as seconds; `default` is in seconds, the limits are in milliseconds."""
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
        raise bad_request(f"{name} must be a number from {minimum} to {maximum}", f"turn_detection.{name}")
    return value / 1000


def _object(value: Any, name: str) -> Event:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object", name)
    return value
