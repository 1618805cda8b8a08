"""`POST /v1/chat/completions` with audio, compatible with vLLM's server for this model.

The response is `language X<asr_text>...`.

A final assistant message is the beginning of the response (vLLM's `continue_final_message`), and only the
rest is returned. Its `language X<asr_text>` forces the language. Text behind that is a prefix that the model
continues, which works only if the audio is one segment.
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

from actors.records import Row
from actors.text.languages import name_of
from pipelines.serving.api.transcriptions import stream_texts
from pipelines.serving.inference.partial_text import PartialTranscript
from pipelines.serving.inference.transcriber import TranscriptionRequest
from pipelines.serving.service import ClientGone, Service, while_connected
from pipelines.serving.web import audio_url
from pipelines.serving.web.bodies import JSON_COPIES, parse_json_object, spool_body
from pipelines.serving.web.errors import CLIENT_CLOSED_REQUEST, bad_request
from pipelines.serving.web.parameters import (
    checked_language,
    checked_prompt,
    checked_temperature,
    decode_base64,
    decode_data_uri,
)
from pipelines.serving.web.sse import DONE, KEEP_ALIVE, EventStream, event
from pipelines.serving.web.uploads import StoredUpload

# The beginning of a response: its language, and the text behind it.
_RESPONSE_PREFIX = re.compile(r"\s*language\s+([^\s<>]{1,40})\s*<asr_text>(.*)", re.DOTALL)


@dataclass(frozen=True)
class ResponsePrefix:
    """The beginning of the response, given by the client."""

    language: str  # ISO code
    text: str

    def strip_from(self, text: str) -> str:
        """The part of a transcript behind the prefix."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.text, text, strict=False)))
        return text[same:]


@dataclass(frozen=True)
class ChatRequest:
    """The checked fields of a chat, without its audio."""

    model: str
    context: str | None
    prefix: ResponsePrefix | None
    stream: bool

    def content(self, language: str | None, text: str) -> str:
        """The response for a transcript in the model's format, or the rest of it behind the client's prefix.

        Args:
            language: ISO code.
            text: of the transcript.
        """
        if self.prefix is not None:
            return self.prefix.strip_from(text)
        return f"language {name_of(language) or 'None'}<asr_text>{text}"


async def create_completion(http_request: Request, service: Service) -> Response:
    """Handle one request."""
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.requests.admit())
            chat, upload = await _receive(http_request, service, stack)
            header = {
                "id": f"chatcmpl-{http_request.scope['request_id']}",
                "created": int(time.time()),
                "model": chat.model,
            }
            request = TranscriptionRequest(
                upload.path,
                chat.prefix.language if chat.prefix else None,
                chat.context,
                chat.prefix.text if chat.prefix else "",
                words=False,
            )
            if chat.stream:
                texts = stream_texts(service, http_request, upload, request)
                return EventStream(_events(texts, chat, header), stack.pop_all())
            row = await while_connected(http_request, service.transcript(http_request, upload, request))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    content = chat.content(row["language"], row["text"])
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return JSONResponse({**header, "object": "chat.completion", "choices": [choice], "usage": _usage(row)})


async def _receive(
    http_request: Request, service: Service, stack: AsyncExitStack
) -> tuple[ChatRequest, StoredUpload]:
    """Receive a chat, and store its audio.

    Raises:
        ClientGone: the client has disconnected.
        Problem: see `parse_chat` and `audio_url.fetch`.
    """
    async with spool_body(http_request) as (body, size):
        chat, audio = await while_connected(http_request, _parse_body(body, size, service, stack))
    if isinstance(audio, str):
        audio = await while_connected(http_request, _download(audio, service, stack))
    return chat, audio


async def _parse_body(
    body: BinaryIO, size: int, service: Service, stack: AsyncExitStack
) -> tuple[ChatRequest, StoredUpload | str]:
    """The chat in a body, and its audio as a file or a URL.

    Bodies share a memory budget, and leave memory when this returns.
    """
    async with service.json_memory.reserve(JSON_COPIES * size):
        chat, audio = await asyncio.to_thread(parse_chat, await parse_json_object(body), service)
        if isinstance(audio, str):
            return chat, audio
        return chat, await stack.enter_async_context(service.uploads.store(audio, "audio"))


async def _download(url: str, service: Service, stack: AsyncExitStack) -> StoredUpload:
    serve = service.config.serve
    max_bytes = round(serve.max_upload * 2**20)
    with tempfile.TemporaryFile() as file:
        await audio_url.fetch(url, serve.allowed_uris, max_bytes, serve.upload_timeout, file)
        return await stack.enter_async_context(service.uploads.store(file, "audio"))


def parse_chat(body: Row, service: Service) -> tuple[ChatRequest, bytes | str]:
    """Check a chat.

    Returns:
        The request, and its audio as bytes or as a URL.

    Raises:
        Problem: 400 or 404, with the field that is wrong.
    """
    model = service.checked_model(body.get("model"))
    checked_temperature(body.get("temperature"))
    if body.get("n") not in (None, 1):
        raise bad_request("n must be 1", "n")
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise bad_request("stream must be true or false", "stream")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a non-empty list", "messages", "missing_required_parameter")
    audio: list[bytes | str] = []
    context: list[str] = []
    for message in messages:
        if not isinstance(message, dict):
            raise bad_request("a message must be an object", "messages")
        for part in _parts(message.get("content")):
            if part.get("type") == "text" and message.get("role") in ("system", "developer"):
                context.append(str(part.get("text") or ""))
            elif part.get("type") in ("audio_url", "input_audio"):
                audio.append(_audio(part))
    if len(audio) != 1:
        raise bad_request(
            f"messages must have exactly one `audio_url` or `input_audio` part, not {len(audio)}", "messages"
        )
    prompt = checked_prompt("\n".join(filter(None, context)))
    return ChatRequest(model, prompt, _response_prefix(body, messages), stream), audio[0]


def _response_prefix(body: Row, messages: list[Row]) -> ResponsePrefix | None:
    """The beginning of the response that the client gives; None if there is none."""
    proceed = body.get("continue_final_message")
    if proceed is not None and not isinstance(proceed, bool):
        raise bad_request("continue_final_message must be true or false", "continue_final_message")
    if messages[-1].get("role") != "assistant":
        if proceed:
            raise bad_request(
                "continue_final_message requires a final assistant message", "continue_final_message"
            )
        return None
    prefix = "".join(
        str(part.get("text") or "")
        for part in _parts(messages[-1].get("content"))
        if part.get("type") == "text"
    )
    if proceed is False or not prefix.strip():
        return None
    match = _RESPONSE_PREFIX.fullmatch(checked_prompt(prefix) or "")
    if match is None:
        raise bad_request(
            "a final assistant message must be `language NAME<asr_text>`, optionally followed by text",
            "messages",
        )
    language = checked_language(match[1])
    if language is None:
        raise bad_request("a final assistant message must name a language", "messages")
    return ResponsePrefix(language, match[2].strip())


def _parts(content: Any) -> list[Row]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise bad_request("content must be a string or a list of objects", "messages")
    return content


def _audio(part: Row) -> bytes | str:
    """The audio in a part: its bytes or its URL."""
    kind = part["type"]
    source = part.get(kind)
    if isinstance(source, str):  # short for {"url": ...}
        source = {"url": source, "data": source}
    if not isinstance(source, dict):
        raise bad_request(f"{kind} must be an object", "messages")
    field = "url" if kind == "audio_url" else "data"
    value = source.get(field)
    if not isinstance(value, str):
        raise bad_request(f"{kind} has no {field}", "messages")
    if kind == "input_audio":
        return decode_base64(value, "input_audio")
    return decode_data_uri(value) if value[:5].lower() == "data:" else value


async def _events(
    texts: AsyncGenerator[PartialTranscript | Row | None], chat: ChatRequest, header: Row
) -> AsyncGenerator[bytes]:
    """Chunks while segments are recognised. The language tag is that of the first segment with text."""

    def chunk(delta: Row, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return event({**header, "object": "chat.completion.chunk", "choices": [choice]})

    sent, language = "", None
    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(texts):
        async for update in texts:
            if update is None:
                yield KEEP_ALIVE
                continue
            if isinstance(update, PartialTranscript):
                language, text = update.language, update.text
            else:
                language, text = language if sent else update["language"], update["text"]
            content = chat.content(language, text)
            # The final text may be longer than the partial texts, or differ from them.
            if len(content) > len(sent) and content.startswith(sent):
                yield chunk({"content": content[len(sent) :]})
                sent = content
            if not isinstance(update, PartialTranscript):
                yield chunk({}, "stop")
    yield DONE


def _usage(row: Row) -> Row:
    return {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "seconds": round(row["duration"], 3),
    }
