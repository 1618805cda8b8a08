"""`POST /v1/chat/completions` with audio, compatible with vLLM's server for this model.

The response is `language X<asr_text>...`.

A final assistant message is the beginning of the response (vLLM's `continue_final_message`), and only the
rest is returned. Its `language X<asr_text>` forces the language. Text behind that is a prefix that the model
continues, which works only if the audio is one segment.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from actors.records import Row
from pipelines.serving.api.chat_request import ChatRequest, parse_chat
from pipelines.serving.api.transcriptions import stream_texts
from pipelines.serving.inference.partial_text import PartialTranscript
from pipelines.serving.inference.transcriber import TranscriptionRequest
from pipelines.serving.service import ClientGone, Service, while_connected
from pipelines.serving.web import audio_url
from pipelines.serving.web.errors import CLIENT_CLOSED_REQUEST
from pipelines.serving.web.forms.bodies import JSON_COPIES, parse_json_object, spool_body
from pipelines.serving.web.forms.uploads import StoredUpload
from pipelines.serving.web.sse import DONE, KEEP_ALIVE, EventStream, event
from pipelines.serving.web.tolerance import Tolerance


async def create_completion(http_request: Request, service: Service) -> Response:
    """Handle one request."""
    tolerance = Tolerance(service.config.serve.lenient)
    response = await _respond(http_request, service, tolerance)
    response.headers.update(tolerance.headers)
    return response


async def _respond(http_request: Request, service: Service, tolerance: Tolerance) -> Response:
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.requests.admit())
            chat, upload = await _receive(http_request, service, stack, tolerance)
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
    http_request: Request, service: Service, stack: AsyncExitStack, tolerance: Tolerance
) -> tuple[ChatRequest, StoredUpload]:
    """Receive a chat, and store its audio.

    Raises:
        ClientGone: the client has disconnected.
        Problem: see `parse_chat` and `audio_url.fetch`.
    """
    async with spool_body(http_request) as (body, size):
        chat, audio = await while_connected(http_request, _parse_body(body, size, service, stack, tolerance))
    if isinstance(audio, str):
        audio = await while_connected(http_request, _download(audio, service, stack))
    return chat, audio


async def _parse_body(
    body: BinaryIO, size: int, service: Service, stack: AsyncExitStack, tolerance: Tolerance
) -> tuple[ChatRequest, StoredUpload | str]:
    """The chat in a body, and its audio as a file or a URL.

    Bodies share a memory budget, and leave memory when this returns.
    """
    async with service.json_memory.reserve(JSON_COPIES * size):
        fields = await parse_json_object(body)
        chat, audio = await asyncio.to_thread(parse_chat, fields, service, tolerance)
        if isinstance(audio, str):
            return chat, audio
        return chat, await stack.enter_async_context(service.uploads.store(audio, "audio"))


async def _download(url: str, service: Service, stack: AsyncExitStack) -> StoredUpload:
    serve = service.config.serve
    max_bytes = round(serve.max_upload * 2**20)
    with tempfile.TemporaryFile() as file:
        await audio_url.fetch(url, serve.allowed_uris, max_bytes, serve.upload_timeout, file)
        return await stack.enter_async_context(service.uploads.store(file, "audio"))


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
