"""OpenAPI schemas of request and response bodies that the routes parse and write themselves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.serving.api import responses

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_FLAGS: Schema = {"type": "array", "items": _TEXT}
_EVENTS: Schema = {"description": "server-sent events, as in OpenAI's API"}
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
    media_types = {"json": "application/json", "events": "text/event-stream", **responses.MEDIA_TYPES}
    return {
        "description": description,
        "content": {media_types[name]: {"schema": schema} for name, schema in schemas.items()},
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
    status: _content(description, json=_ERROR)
    for status, description in {
        400: "invalid request",
        401: "missing or unknown API key",
        403: "request from a page of a site that serve.cors_origins does not list",
        404: "unknown model",
        408: "the body did not arrive in time",
        413: "body too large, or audio too long",
        421: "not a name of this server",
        429: "rate limit exceeded",
        500: "internal server error",
        503: "server overloaded or shutting down: retry after `retry-after` seconds",
        504: "the request was not finished in time",
    }.items()
}

NOT_READY = _content("shutting down, or the models do not respond", json=_object({"status": _TEXT}))

_USAGE = _object({"type": {"const": "duration"}, "seconds": _SECONDS})
_CONFIDENCE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_SPEAKER = {"type": ["string", "null"], "description": "S1, S2 ... in order of appearance"}
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
    "confidence": _CONFIDENCE,
    "min_confidence": _CONFIDENCE,
    "language_confidence": _CONFIDENCE,
    "flags": _FLAGS,
    "speaker": _SPEAKER,
}
_JSON_FIELDS = {"text": _TEXT, "languages": _list({"code": _LANGUAGE}), "usage": _USAGE}
_VERBOSE_FIELDS = {
    "task": {"const": "transcribe"},
    "language": {"type": "string", "description": "English name, in lower case"},
    "duration": _SECONDS,
    "status": {"type": "string", "enum": ["ok", "partial", "no_speech"]},
    "flags": _FLAGS,
    "words": _list(
        {
            "word": _TEXT,
            "start": _SECONDS,
            "end": _SECONDS,
            "confidence": _CONFIDENCE,
            "speaker": _SPEAKER,
        }
    ),
    "speakers": _list(
        {
            "speaker": _TEXT,
            "name": {"type": ["string", "null"]},
            "score": {"type": ["number", "null"]},
            "duration": _SECONDS,
        }
    ),
    "cues": _list({"start": _SECONDS, "end": _SECONDS, "text": _TEXT, "vtt": _TEXT}),
    "segments": _list(_SEGMENT),
}
_DIARIZED = _object(
    {
        "task": {"const": "transcribe"},
        "duration": _SECONDS,
        "text": _TEXT,
        "segments": _list(
            {
                "type": {"const": "transcript.text.segment"},
                "id": _TEXT,
                "start": _SECONDS,
                "end": _SECONDS,
                "text": _TEXT,
                "speaker": _TEXT,
            }
        ),
        "usage": _USAGE,
    }
)
TRANSCRIPTION = _content(
    "the transcript in the requested format; with `stream`, events that end with `[DONE]`",
    json={"anyOf": [_object(_JSON_FIELDS | _VERBOSE_FIELDS, optional=list(_VERBOSE_FIELDS)), _DIARIZED]},
    text=_TEXT,
    srt=_TEXT,
    vtt=_TEXT,
    events=_EVENTS,
)
COMPLETION = _content(
    "the transcript in the model's format, `language X<asr_text>...`; "
    "with `stream`, events that end with `[DONE]`",
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
                        "description": "data: URI, or an allowed http(s) URL",
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


def transcription_body(models: Sequence[str]) -> dict[str, Any]:
    """The request body of a transcription, for a server with these models."""
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _object(
                    {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "audio or video in any container that FFmpeg supports",
                        },
                        "model": _model(models),
                        "language": {
                            "type": "string",
                            "description": "ISO code or English name; by default detected per segment",
                        },
                        "prompt": {
                            "type": "string",
                            "description": "background text, such as names and rare words in the recording",
                        },
                        "languages[]": {
                            "type": ["array", "string"],
                            "items": _TEXT,
                            "description": "one is like `language`; with several, the model detects it",
                        },
                        "keywords[]": {
                            "type": ["array", "string"],
                            "items": _TEXT,
                            "description": "added to the prompt",
                        },
                        "response_format": {
                            "type": "string",
                            "enum": list(responses.FORMATS),
                            "default": "json",
                        },
                        "timestamp_granularities[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": list(responses.GRANULARITIES)},
                            "description": "only with `verbose_json`; default: segment",
                        },
                        "stream": {
                            "type": "string",
                            "enum": ["true", "false", "1", "0"],
                            "default": "false",
                            "description": "send the text as server-sent events while it is recognised",
                        },
                        "include[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": ["progress"]},
                            "description": "with `stream`: events `transcript.progress` with the `seconds` "
                            "that are recognised and the `duration`",
                        },
                        "temperature": {"type": "number", "enum": [0]},
                    },
                    optional=(
                        "include[]",
                        "language",
                        "prompt",
                        "languages[]",
                        "keywords[]",
                        "response_format",
                        "timestamp_granularities[]",
                        "stream",
                        "temperature",
                    ),
                )
            }
        },
    }


def completion_body(models: Sequence[str]) -> dict[str, Any]:
    """The request body of a chat completion, for a server with these models."""
    messages: Schema = {
        "type": "array",
        "minItems": 1,
        "items": _object(
            {"role": _TEXT, "content": {"anyOf": [_TEXT, {"type": "array", "items": {"anyOf": _PARTS}}]}},
            optional=("content",),
        ),
        "description": "exactly one `audio_url` or `input_audio` part in all messages; system text is the "
        "context; a final assistant message, `language NAME<asr_text>`, is the beginning of the response",
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
                            "description": "false: ignore a final assistant message",
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
