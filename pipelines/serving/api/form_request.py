"""The form of a transcription request: checks, and what a lenient server ignores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile

from pipelines.serving.api import responses
from pipelines.serving.service import Service
from pipelines.serving.web.errors import Problem, bad_request
from pipelines.serving.web.forms.fields import list_field
from pipelines.serving.web.forms.multipart import FILE_FIELD
from pipelines.serving.web.parameters import (
    checked_language,
    checked_prompt,
    checked_temperature,
    chosen_language,
    with_keywords,
)
from pipelines.serving.web.tolerance import Tolerance

_GRANULARITIES = "timestamp_granularities[]"
_PROGRESS = "progress"
_STREAMED_FORMATS = ("json", "text", "verbose_json", "diarized_json")


@dataclass(frozen=True)
class FormRequest:
    """The checked fields of a transcription form."""

    file: UploadFile
    language: str | None  # ISO code
    context: str | None
    response_format: str
    granularities: tuple[str, ...]
    stream: bool
    progress: bool = False  # whether to stream how much is done


def parse_form(form: FormData, service: Service, tolerance: Tolerance) -> FormRequest:
    """Check the fields of a form.

    Args:
        form: the fields.
        service: the server's shared state.
        tolerance: ignores wrong values if the server is lenient, and gets the warnings.

    Raises:
        Problem: 400 or 404, with the field that is wrong.
    """
    file = form.get(FILE_FIELD)
    if not isinstance(file, UploadFile):
        raise _no_file(form)
    service.requested_model(form.get("model"), tolerance)
    tolerance.checked(lambda: checked_temperature(form.get("temperature")), None)
    response_format = form.get("response_format") or "json"
    if response_format not in responses.FORMATS:
        raise bad_request(
            f"response_format must be one of {', '.join(responses.FORMATS)}, "
            f"not {str(response_format)[:40]!r}",
            "response_format",
        )
    has_speakers = service.config.speakers.backend != "none" or service.config.audio.channel == "each"
    if response_format == "diarized_json" and not has_speakers:
        raise bad_request(
            "response_format=diarized_json: this server has no speaker model; start it with "
            "speakers.backend=campplus",
            "response_format",
            "unsupported_value",
        )
    stream = _stream(form.get("stream"), str(response_format), tolerance)
    granularities = _granularities(form, str(response_format), tolerance)
    included = list_field(form.multi_items(), "include")
    if any(value != _PROGRESS for value in included):
        message = (
            f"include[] must be {_PROGRESS}; logprobs are not supported: verbose_json has a confidence for "
            "each segment and word"
        )
        tolerance.refuse(bad_request(message, "include[]", "unsupported_value"))
    language = chosen_language(form.get("language"), list_field(form.multi_items(), "languages"))
    prompt = with_keywords(form.get("prompt"), list_field(form.multi_items(), "keywords"))
    return FormRequest(
        file,
        tolerance.checked(lambda: checked_language(language), None),
        checked_prompt(prompt, service.config.serve.max_prompt, tolerance),
        str(response_format),
        tuple(granularities) or ("segment",),
        stream,
        _PROGRESS in included,
    )


def _no_file(form: FormData) -> Problem:
    other = next((name for name, value in form.multi_items() if isinstance(value, UploadFile)), None)
    sent = "" if other is None else f"; the file in this form is named {other[:40]!r}"
    return bad_request(
        f"file is missing: send it as the multipart part named `{FILE_FIELD}`{sent}",
        FILE_FIELD,
        "missing_required_parameter",
    )


def _granularities(form: FormData, response_format: str, tolerance: Tolerance) -> list[str]:
    found = list_field(form.multi_items(), "timestamp_granularities")
    found += list_field(form.multi_items(), "timestamp_granularity")
    known = [value for value in found if value in responses.GRANULARITIES]
    if wrong := [value for value in found if value not in known]:
        message = f"{_GRANULARITIES} must be word, segment or cue, not {wrong[0][:40]!r}"
        tolerance.refuse(bad_request(message, _GRANULARITIES))
    if known and response_format != "verbose_json":
        message = f"{_GRANULARITIES} requires response_format=verbose_json"
        tolerance.refuse(bad_request(message, _GRANULARITIES))
    return known


def _stream(value: Any, response_format: str, tolerance: Tolerance) -> bool:
    text = str(value or "false").strip().lower()
    if text not in ("true", "false", "1", "0"):
        tolerance.refuse(bad_request("stream must be true or false", "stream"))
    if text not in ("true", "1"):
        return False
    if response_format not in _STREAMED_FORMATS:
        message = "stream=true requires response_format json, text, verbose_json or diarized_json"
        tolerance.refuse(bad_request(message, "stream"))
        return False
    return True
