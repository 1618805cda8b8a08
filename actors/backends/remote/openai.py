"""Any server with OpenAI's API as the recogniser: vLLM, SGLang, our own, DashScope's compatible mode. See `openai_wire` for what is said,
and `remote` for what is done where the server does not answer well.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

from actors.backends.remote import openai_protocol
from actors.backends.remote.base import RemoteASR
from actors.backends.remote.retry_policy import Call, TransientError
from actors.config import ASRConfig
from actors.errors import FatalError, RowError
from actors.records import Hypothesis, SegmentRequest


class OpenAIASR(RemoteASR):
    """A recogniser behind HTTP, one request for each segment."""

    def __init__(self, config: ASRConfig) -> None:
        """See `RemoteASR`."""
        self._verbose = True  # transcriptions: until the server refuses
        super().__init__(config)

    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        return lambda before: self._ask(request, before)

    async def _ask(self, request: SegmentRequest, before: int) -> Hypothesis:
        budget = math.ceil(request.duration * self.config.max_tokens_per_second) + self.config.min_tokens
        endpoint = cast(
            openai_protocol.Endpoint, self.remote.endpoint
        )  # the others are for `dashscope_files` and `dashscope_realtime`
        compatible = self.config.compatible
        verbose = self._verbose
        question = openai_protocol.question(
            request, endpoint, self.model, budget, compatible=compatible, verbose=verbose
        )
        self.cost.requests += 1
        self.cost.repeated += before > 0
        self.cost.audio_seconds += request.duration
        if question.body is not None:
            content: dict[str, Any] = {"json": question.body}
        else:
            content = {"data": question.form, "files": {"file": ("segment.wav", question.file, "audio/wav")}}
        answer = await self._send("POST", self.remote.base_url + question.path, **content)
        meaning, said = self._meaning(answer)
        if (
            meaning == "refused"
            and endpoint == "transcriptions"
            and verbose
            and ("verbose_json" in said or "response_format" in said)
        ):
            self._verbose = False  # gpt-4o-transcribe and vLLM have no verbose_json for such models
            return await self._ask(request, before)
        hint = ""
        if (
            question.body
            and "continue_final_message" in question.body
            and ("continue_final_message" in said or "template" in said)
        ):
            hint = "; to force a language the server needs a chat template with assistant turns (vllm serve --chat-template), see the README"
        self._must_be_fine(answer, f"a segment of {request.duration:.1f} s", hint)
        content = self._parsed(answer)
        try:
            hypothesis = openai_protocol.hypothesis(content, request, endpoint, compatible=compatible)
        except openai_protocol.Malformed as error:
            raise TransientError(self._safe(str(error))) from None
        except openai_protocol.Withheld as error:
            raise RowError(
                f"the recognition server refuses a segment of {request.duration:.1f} s: {error}",
                "model_failed",
            ) from None
        counted = openai_protocol.usage(content)
        self.cost.prompt_tokens += counted.prompt
        self.cost.completion_tokens += counted.completion
        return hypothesis

    async def _offered(self) -> set[str]:
        answer = await self._send("GET", self.remote.base_url + "/models")
        meaning, said = self._meaning(answer)
        if answer.status in (401, 402, 403):
            raise FatalError(self._fatal(answer, said))
        if meaning in ("busy", "failing"):
            self._must_be_fine(answer)
        if meaning != "fine":
            return set()
        entries = self._parsed(answer).get("data")
        return (
            {str(entry.get("id")) for entry in entries if isinstance(entry, dict)}
            if isinstance(entries, list)
            else set()
        )
