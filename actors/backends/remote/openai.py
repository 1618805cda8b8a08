"""Any server with OpenAI's API as the recogniser: vLLM, SGLang, our own server, DashScope's compatible mode.

`openai_protocol` and `transcriptions_protocol` have the requests and responses, `base` what happens where
the server does not respond well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

from actors.backends.remote import openai_protocol, transcriptions_protocol
from actors.backends.remote.base import RemoteASR
from actors.backends.remote.retry_policy import Call, TransientError
from actors.backends.remote.transcriptions_protocol import FORMS, Form
from actors.config import ASRConfig
from actors.errors import FatalError, RowError
from actors.records import Hypothesis, SegmentRequest

# Fields of a transcription request that ask for more than a text, as servers name them in their refusals.
_FORM_FIELDS = ("verbose_json", "response_format", "granularit", "logprobs")


class OpenAIASR(RemoteASR):
    """A recogniser behind HTTP, with one request for each segment."""

    def __init__(self, config: ASRConfig) -> None:
        """See `RemoteASR`."""
        # `transcriptions` only: the form of the requests, and whether the server has accepted it.
        self._form: Form = FORMS[0]
        self._form_is_accepted = False
        # vLLM and SGLang have the field, also for `transcriptions`; until the server refuses it.
        self.takes_repetition_penalty = config.remote.endpoint in ("chat", "transcriptions")
        super().__init__(config)

    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        return lambda before: self._attempt(request, before, self._form)

    async def _attempt(self, request: SegmentRequest, before: int, form: Form) -> Hypothesis:
        # The other endpoints belong to `dashscope_files` and `dashscope_realtime`.
        is_transcription = self.remote.endpoint == "transcriptions"
        http_request = self._build(request, form)
        self.total_usage.count_request(request.duration, repeated=before > 0)
        if http_request.body is not None:
            content: dict[str, Any] = {"json": http_request.body}
        else:
            file = ("segment.wav", http_request.file, "audio/wav")
            content = {"data": http_request.form, "files": {"file": file}}
        response = await self.server.send("POST", self.remote.base_url + http_request.path, **content)
        meaning, message = self.server.meaning(response)
        if meaning == "refused" and request.repetition_penalty != 1 and "repetition_penalty" in message:
            self.takes_repetition_penalty = False
            return await self._attempt(dataclasses.replace(request, repetition_penalty=1.0), before, form)
        if is_transcription and meaning == "refused" and self._is_about_form(message) and form != FORMS[-1]:
            # gpt-4o-transcribe, and vLLM for such models, have no verbose_json; others have no words.
            return await self._attempt(request, before, FORMS[FORMS.index(form) + 1])
        subject = f"a segment of {request.duration:.1f} s"
        self.server.raise_for_error(response, subject, _hint(http_request, message))
        body = self.server.json(response)
        try:
            hypothesis = self._parse(body, request)
        except openai_protocol.Malformed as error:
            raise TransientError(self.server.without_key(str(error))) from None
        except openai_protocol.Withheld as error:
            raise RowError(f"the recognition server refuses {subject}: {error}", "model_failed") from None
        self._form, self._form_is_accepted = form, True
        counts = openai_protocol.token_counts(body)
        self.total_usage.prompt_tokens += counts.prompt
        self.total_usage.completion_tokens += counts.completion
        return hypothesis

    def _build(self, request: SegmentRequest, form: Form) -> openai_protocol.HTTPRequest:
        endpoint, compatible = self.remote.endpoint, self.config.compatible
        if endpoint == "transcriptions":
            return transcriptions_protocol.build_request(request, self.model, form, compatible=compatible)
        max_tokens = math.ceil(request.duration * self.config.max_tokens_per_second) + self.config.min_tokens
        return openai_protocol.build_request(
            request,
            cast(openai_protocol.Endpoint, endpoint),
            self.model,
            max_tokens,
            compatible=compatible,
        )

    def _parse(self, body: dict[str, Any], request: SegmentRequest) -> Hypothesis:
        endpoint, compatible = self.remote.endpoint, self.config.compatible
        if endpoint == "transcriptions":
            return transcriptions_protocol.parse_response(body, request, compatible=compatible)
        return openai_protocol.parse_response(
            body, request, cast(openai_protocol.Endpoint, endpoint), compatible=compatible
        )

    def _is_about_form(self, message: str) -> bool:
        """Whether a server may have refused what it is asked for, not the segment.

        Until it has accepted a form, nobody knows: servers call the field, or the feature, by many names.
        """
        return not self._form_is_accepted or any(field in message for field in _FORM_FIELDS)

    async def _list_models(self) -> set[str]:
        response = await self.server.send("GET", self.remote.base_url + "/models")
        meaning, message = self.server.meaning(response)
        if response.status in (401, 402, 403):
            raise FatalError(self.server.fatal_message(response, message))
        if meaning in ("busy", "failing"):
            self.server.raise_for_error(response)
        if meaning != "fine":
            return set()
        entries = self.server.json(response).get("data")
        if not isinstance(entries, list):
            return set()
        return {str(entry.get("id")) for entry in entries if isinstance(entry, dict)}


def _hint(request: openai_protocol.HTTPRequest, message: str) -> str:
    """What to do where a server cannot continue an assistant turn."""
    continues = request.body is not None and "continue_final_message" in request.body
    if continues and ("continue_final_message" in message or "template" in message):
        return (
            "; to force a language the server needs a chat template with assistant turns "
            "(vllm serve --chat-template), see the README"
        )
    return ""
