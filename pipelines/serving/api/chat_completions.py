"""`POST /v1/chat/completions` with audio in it, answered as vLLM's own server answers for this model family: `language X<asr_text>...`.

A last message of the assistant is the beginning of the answer (vLLM's `continue_final_message`), and what follows is answered. Its
`language X<asr_text>` forces the language; what stands behind that is text from which the model goes on, where the audio is one segment.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, BinaryIO

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from actors.text.languages import name_of
from pipelines.serving.api.transcriptions import texts_of
from pipelines.serving.inference.partial_text import PartialTranscript
from pipelines.serving.inference.transcriber import TranscriptionRequest
from pipelines.serving.service import (
    ClientGone,
    Service,
    checked_language,
    checked_prompt,
    checked_temperature,
    while_connected,
)
from pipelines.serving.web import audio_url
from pipelines.serving.web.errors import GONE, wrong
from pipelines.serving.web.sse import DONE, KEEP_ALIVE, EventStream, event
from pipelines.serving.web.uploads import COPIES, Kept, body_of, bytes_of_base64, bytes_of_data_uri, json_of

Row = dict[str, Any]

# As much of an answer's beginning as names the language, and the text behind it.
_BEGINNING = re.compile(r"\s*language\s+([^\s<>]{1,40})\s*<asr_text>(.*)", re.DOTALL)


@dataclass(frozen=True)
class Beginning:
    """What the client says that the answer begins with."""

    language: str  # ISO code
    text: str

    def rest(self, text: str) -> str:
        """What a transcript has behind it."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.text, text, strict=False)))
        return text[same:]


@dataclass(frozen=True)
class Question:
    """What a chat asks about its audio."""

    model: str
    context: str | None
    beginning: Beginning | None
    stream: bool

    def answered(self, language: str | None, text: str) -> str:
        """A transcript (language as ISO code) as the model writes it, from where the client left off."""
        if self.beginning is not None:
            return self.beginning.rest(text)
        return f"language {name_of(language) or 'None'}<asr_text>{text}"


async def chat(request: Request, service: Service) -> Response:
    """Answer one request."""
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.requests.take())
            question, kept = await _kept(request, service, stack)
            head = {
                "id": f"chatcmpl-{request.scope['request_id']}",
                "created": int(time.time()),
                "model": question.model,
            }
            begun = question.beginning
            wish = TranscriptionRequest(
                kept.path,
                begun.language if begun else None,
                question.context,
                begun.text if begun else "",
                words=False,
            )
            if question.stream:
                return EventStream(
                    _events(texts_of(service, request, kept, wish), question, head), stack.pop_all()
                )
            row = await while_connected(request, service.transcript(request, kept, wish))
    except ClientGone:
        return Response(status_code=GONE)
    message = {
        "role": "assistant",
        "content": question.answered(row["language"], row["text"]),
        "refusal": None,
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": _usage(row)})


async def _kept(request: Request, service: Service, stack: AsyncExitStack) -> tuple[Question, Kept]:
    """What is asked, and the audio as a file of ours.

    Raises:
        ClientGone: he has left.
        Problem: see `checked`, and `fetching.fetched`.
    """
    async with body_of(request) as (body, size):
        question, audio = await while_connected(request, _asked(body, size, service, stack))
    if isinstance(audio, str):
        audio = await while_connected(request, _fetched(audio, service, stack))
    return question, audio


async def _asked(
    body: BinaryIO, size: int, service: Service, stack: AsyncExitStack
) -> tuple[Question, Kept | str]:
    """The question in a body, and its audio. Large bodies take turns in memory, and are gone from it when this returns."""
    async with service.parsed.take(COPIES * size):
        question, audio = await asyncio.to_thread(checked, await json_of(body), service)
        if isinstance(audio, str):
            return question, audio
        return question, await stack.enter_async_context(service.shelf.keep(audio, "audio"))


async def _fetched(address: str, service: Service, stack: AsyncExitStack) -> Kept:
    serve = service.config.serve
    with tempfile.TemporaryFile() as file:
        await audio_url.fetched(
            address, serve.allowed_uris, round(serve.max_upload * 2**20), serve.upload_timeout, file
        )
        return await stack.enter_async_context(service.shelf.keep(file, "audio"))


def checked(body: Row, service: Service) -> tuple[Question, bytes | str]:
    """The question in a body, and its one piece of audio, or the address of that.

    Raises:
        Problem: 400 or 404, with the field that is wrong.
    """
    model = service.checked_model(body.get("model"))
    checked_temperature(body.get("temperature"))
    if body.get("n") not in (None, 1):
        raise wrong("n must be 1", "n")
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise wrong("stream must be true or false", "stream")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages must be a list with a message in it", "messages", "missing_required_parameter")
    audio: list[bytes | str] = []
    context: list[str] = []
    for message in messages:
        if not isinstance(message, dict):
            raise wrong("a message must be an object", "messages")
        for part in _parts(message.get("content")):
            if part.get("type") == "text" and message.get("role") in ("system", "developer"):
                context.append(str(part.get("text") or ""))
            elif part.get("type") in ("audio_url", "input_audio"):
                audio.append(_audio(part))
    if len(audio) != 1:
        raise wrong(f"one `audio_url` or `input_audio` part is wanted, there are {len(audio)}", "messages")
    return Question(
        model, checked_prompt("\n".join(filter(None, context))), _beginning(body, messages), stream
    ), audio[0]


def _beginning(body: Row, messages: list[Row]) -> Beginning | None:
    """How the client wants the answer to begin; None where he leaves it to the model."""
    proceed = body.get("continue_final_message")
    if proceed is not None and not isinstance(proceed, bool):
        raise wrong("continue_final_message must be true or false", "continue_final_message")
    if messages[-1].get("role") != "assistant":
        if proceed:
            raise wrong(
                "continue_final_message wants a last message of the assistant", "continue_final_message"
            )
        return None
    said = "".join(
        str(part.get("text") or "")
        for part in _parts(messages[-1].get("content"))
        if part.get("type") == "text"
    )
    if proceed is False or not said.strip():
        return None
    match = _BEGINNING.fullmatch(checked_prompt(said) or "")
    if match is None:
        raise wrong(
            "an answer begins with `language NAME<asr_text>`, and the beginning of the text behind it if you like",
            "messages",
        )
    language = checked_language(match[1])
    if language is None:
        raise wrong("an answer cannot be begun without naming a language", "messages")
    return Beginning(language, match[2].strip())


def _parts(content: Any) -> list[Row]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise wrong("content must be a string or a list of objects", "messages")
    return content


def _audio(part: Row) -> bytes | str:
    """The bytes in a part, or the address of them."""
    inner = part.get(part["type"])
    if isinstance(inner, str):  # short for {"url": ...}
        inner = {"url": inner, "data": inner}
    if not isinstance(inner, dict):
        raise wrong(f"{part['type']} must be an object", "messages")
    value = inner.get("url" if part["type"] == "audio_url" else "data")
    if not isinstance(value, str):
        raise wrong(f"{part['type']} holds no {'url' if part['type'] == 'audio_url' else 'data'}", "messages")
    if part["type"] == "input_audio":
        return bytes_of_base64(value, "input_audio")
    return bytes_of_data_uri(value) if value[:5].lower() == "data:" else value


async def _events(
    texts: AsyncGenerator[PartialTranscript | Row | None], question: Question, head: Row
) -> AsyncGenerator[bytes]:
    """Chunks as segments are recognised; the tag says the language of the first one in which something is said."""

    def chunk(delta: Row, finish: str | None = None) -> bytes:
        return event(
            {
                **head,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            }
        )

    told, language = "", None
    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(texts):
        async for found in texts:
            if found is None:
                yield KEEP_ALIVE
                continue
            if isinstance(found, PartialTranscript):
                language, text = found.language, found.text
            else:
                language, text = language if told else found["language"], found["text"]
            answer = question.answered(language, text)
            if len(answer) > len(told) and answer.startswith(
                told
            ):  # all of it may have more than was told on the way
                yield chunk({"content": answer[len(told) :]})
                told = answer
            if not isinstance(found, PartialTranscript):
                yield chunk({}, "stop")
    yield DONE


def _usage(row: Row) -> Row:
    return {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "seconds": round(row["duration"], 3),
    }
