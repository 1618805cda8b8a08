"""What the OpenAPI description says of bodies and answers that our own code reads and writes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.serving.api import responses

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_FLAGS: Schema = {"type": "array", "items": _TEXT}
_EVENTS: Schema = {"description": "server-sent events, as OpenAI sends them"}
_LANGUAGE: Schema = {"type": ["string", "null"], "description": "ISO code"}


def _object(properties: dict[str, Schema], optional: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _list(properties: dict[str, Schema]) -> Schema:
    return {"type": "array", "items": _object(properties)}


def _content(description: str, **schemas: Schema) -> dict[str, Any]:
    kinds = {"json": "application/json", "events": "text/event-stream", **responses.MEDIA_TYPES}
    return {
        "description": description,
        "content": {kinds[kind]: {"schema": schema} for kind, schema in schemas.items()},
    }


_ERROR = _object(
    {
        "error": _object(
            {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            }
        )
    }
)

ERRORS: dict[int | str, dict[str, Any]] = {
    code: _content(what, json=_ERROR)
    for code, what in {
        400: "what was asked for cannot be",
        401: "no key, or an unknown one",
        403: "a page of another site asked, and it is not among serve.cors_origins",
        404: "no such model",
        408: "the body did not arrive in time",
        413: "too many bytes, or too much audio",
        421: "that is not a name of this server",
        429: "too often",
        500: "an error of ours",
        503: "all places are taken: again after `retry-after` seconds",
        504: "not finished in time",
    }.items()
}

NOT_READY = _content("draining, or the models do not answer", json=_object({"status": _TEXT}))

_USAGE = _object({"type": {"const": "duration"}, "seconds": _SECONDS})
_SEGMENT = {
    "id": {"type": "integer"},
    "seek": {"type": "integer"},
    "start": _SECONDS,
    "end": _SECONDS,
    "text": _TEXT,
    "tokens": {"type": "array", "maxItems": 0},
    "temperature": {"const": 0},
    "avg_logprob": {"type": "number", "maximum": 0},
    "compression_ratio": _SECONDS,
    "no_speech_prob": {"type": "number", "minimum": 0, "maximum": 1},
    "language": _LANGUAGE,
    "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "flags": _FLAGS,
}
# What `json` has of it, and what `verbose_json` has besides.
_SHORT = {"text": _TEXT, "languages": _list({"code": _LANGUAGE}), "usage": _USAGE}
_MORE = {
    "task": {"const": "transcribe"},
    "language": {"type": "string", "description": "English name, in lower case"},
    "duration": _SECONDS,
    "status": {"type": "string", "enum": ["ok", "partial", "no_speech"]},
    "flags": _FLAGS,
    "words": _list({"word": _TEXT, "start": _SECONDS, "end": _SECONDS}),
    "segments": _list(_SEGMENT),
}
TRANSCRIPTION = _content(
    "the transcript, in the format asked for; with `stream`, events that end with `[DONE]`",
    json=_object(_SHORT | _MORE, optional=list(_MORE)),
    text=_TEXT,
    srt=_TEXT,
    vtt=_TEXT,
    events=_EVENTS,
)
COMPLETION = _content(
    "the transcript as the model writes it, `language X<asr_text>...`; with `stream`, events that end with `[DONE]`",
    json=_object(
        {
            "id": _TEXT,
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": _TEXT,
            "choices": _list(
                {
                    "index": {"const": 0},
                    "message": _object(
                        {"role": {"const": "assistant"}, "content": _TEXT, "refusal": {"type": "null"}}
                    ),
                    "finish_reason": {"const": "stop"},
                    "logprobs": {"type": "null"},
                }
            ),
            "usage": {"type": "object"},
        }
    ),
    events=_EVENTS,
)

_PARTS = [
    _object({"type": {"const": "text"}, "text": _TEXT}),
    _object(
        {
            "type": {"const": "audio_url"},
            "audio_url": _object(
                {
                    "url": {
                        "type": "string",
                        "format": "uri",
                        "description": "data: URI, or an allowed http(s) address",
                    }
                }
            ),
        }
    ),
    _object(
        {
            "type": {"const": "input_audio"},
            "input_audio": _object({"data": {"type": "string", "format": "byte"}}),
        }
    ),
]


def form(models: Sequence[str]) -> dict[str, Any]:
    """The body of a transcription, for a server with these models."""
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _object(
                    {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "any container that FFmpeg's libraries know, video included",
                        },
                        "model": _model(models),
                        "language": {
                            "type": "string",
                            "description": "ISO code or English name; without it the model decides, segment by segment",
                        },
                        "prompt": {
                            "type": "string",
                            "description": "words and names that the recording is about",
                        },
                        "response_format": {
                            "type": "string",
                            "enum": list(responses.FORMATS),
                            "default": "json",
                        },
                        "timestamp_granularities[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": list(responses.GRANULARITIES)},
                            "description": "with `verbose_json`; segments without it",
                        },
                        "stream": {
                            "type": "string",
                            "enum": ["true", "false", "1", "0"],
                            "default": "false",
                            "description": "server-sent events: text as it comes",
                        },
                        "temperature": {"type": "number", "enum": [0]},
                    },
                    optional=(
                        "language",
                        "prompt",
                        "response_format",
                        "timestamp_granularities[]",
                        "stream",
                        "temperature",
                    ),
                )
            }
        },
    }


def question(models: Sequence[str]) -> dict[str, Any]:
    """The body of a chat, for a server with these models."""
    messages: Schema = {
        "type": "array",
        "minItems": 1,
        "items": _object(
            {"role": _TEXT, "content": {"anyOf": [_TEXT, {"type": "array", "items": {"anyOf": _PARTS}}]}},
            optional=("content",),
        ),
        "description": "one `audio_url` or `input_audio` part in all of them; system text is the context; a last message of the assistant, "
        "`language NAME<asr_text>`, is how the answer begins",
    }
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": _object(
                    {
                        "model": _model(models),
                        "messages": messages,
                        "continue_final_message": {
                            "type": "boolean",
                            "description": "false: a last message of the assistant means nothing",
                        },
                        "stream": {"type": "boolean"},
                        "temperature": {"type": "number", "enum": [0]},
                    },
                    optional=("continue_final_message", "stream", "temperature"),
                )
            }
        },
    }


def _model(models: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(models), "description": "one of `GET /v1/models`"}
