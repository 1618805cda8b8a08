"""`POST /v1/audio/transcriptions`, as OpenAI's clients call it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipelines.serving.api import responses
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
from pipelines.serving.web.errors import GONE, wrong
from pipelines.serving.web.sse import DONE, KEEP_ALIVE, KEEP_ALIVE_SECONDS, EventStream, event
from pipelines.serving.web.uploads import Kept, form_of

Row = dict[str, Any]


@dataclass(frozen=True)
class FormRequest:
    """What a form asks for, checked."""

    file: UploadFile
    language: str | None
    context: str | None
    form: str
    granularities: tuple[str, ...]
    stream: bool


async def transcriptions(request: Request, service: Service) -> Response:
    """Answer one request."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.requests.take())
        order = checked(await stack.enter_async_context(form_of(request)), service)
        kept = await stack.enter_async_context(service.shelf.keep(order.file, order.file.filename or ""))
        # The formats without words do not show what became of them either.
        wish = TranscriptionRequest(
            kept.path, order.language, order.context, words=order.form not in ("json", "text")
        )
        if order.stream:
            return EventStream(_events(texts_of(service, request, kept, wish), order), stack.pop_all())
        try:
            row = await while_connected(request, service.transcript(request, kept, wish))
        except ClientGone:
            return Response(status_code=GONE)
    if order.form in ("json", "verbose_json"):
        return JSONResponse(
            responses.short(row) if order.form == "json" else responses.verbose(row, order.granularities)
        )
    return Response(responses.plain(row, order.form), media_type=responses.MEDIA_TYPES[order.form])


def checked(form: FormData, service: Service) -> FormRequest:
    """The order in a form.

    Raises:
        Problem: 400 or 404, with the field that is wrong.
    """
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise wrong(
            "file is missing: a multipart part named `file`, with a file name",
            "file",
            "missing_required_parameter",
        )
    service.checked_model(form.get("model"))
    checked_temperature(form.get("temperature"))
    form_name = form.get("response_format") or "json"
    if form_name not in responses.FORMATS:
        raise wrong(
            f"response_format must be one of {', '.join(responses.FORMATS)}, not {str(form_name)[:40]!r}",
            "response_format",
        )
    granularities = [*form.getlist("timestamp_granularities[]"), *form.getlist("timestamp_granularities")]
    for granularity in granularities:
        if granularity not in responses.GRANULARITIES:
            raise wrong("timestamp_granularities[] must be word or segment", "timestamp_granularities[]")
    if granularities and form_name != "verbose_json":
        raise wrong(
            "timestamp_granularities[] wants response_format=verbose_json", "timestamp_granularities[]"
        )
    if form.getlist("include[]") or form.getlist("include"):
        raise wrong(
            "include[] is not offered: verbose_json has a confidence for each segment",
            "include[]",
            "unsupported_value",
        )
    stream = _flag(form.get("stream"))
    if stream and form_name not in ("json", "text", "verbose_json"):
        raise wrong("stream=true wants response_format json, text or verbose_json", "stream")
    return FormRequest(
        file,
        checked_language(form.get("language")),
        checked_prompt(form.get("prompt")),
        str(form_name),
        tuple(str(granularity) for granularity in granularities) or ("segment",),
        stream,
    )


async def texts_of(
    service: Service, request: Request, kept: Kept, wish: TranscriptionRequest
) -> AsyncGenerator[PartialTranscript | Row | None]:
    """What is known of the text, each time it has grown; None where nothing happened for a while; at last the TRANSCRIPT row.

    Raises:
        Problem: there is none.
    """
    texts: asyncio.Queue[PartialTranscript] = asyncio.Queue()
    work = asyncio.create_task(service.transcript(request, kept, wish, texts.put_nowait))
    coming = asyncio.create_task(texts.get())
    try:
        while True:
            await asyncio.wait(
                {work, coming}, timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if coming.done():
                yield coming.result()
                coming = asyncio.create_task(texts.get())
            elif work.done():
                yield work.result()
                return
            else:
                yield None
    finally:
        for task in (coming, work):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _events(
    texts: AsyncGenerator[PartialTranscript | Row | None], order: FormRequest
) -> AsyncGenerator[bytes]:
    """Deltas as segments are recognised, then all of it; with `verbose_json`, which OpenAI does not stream, the last event has what that has."""
    told = ""
    async with aclosing(texts):
        async for found in texts:
            if found is None:
                yield KEEP_ALIVE
                continue
            text = found.text if isinstance(found, PartialTranscript) else found["text"]
            if len(text) > len(told) and text.startswith(
                told
            ):  # all of it may have more than was told on the way
                yield event({"type": "transcript.text.delta", "delta": text[len(told) :]})
                told = text
            if not isinstance(found, PartialTranscript):
                more = responses.verbose(found, order.granularities) if order.form == "verbose_json" else {}
                yield event(
                    {**more, "type": "transcript.text.done", "text": found["text"], "usage": _tokens(found)}
                )
    yield DONE


def _tokens(row: dict[str, Any]) -> dict[str, Any]:
    # The type of OpenAI's event knows tokens only; they are nobody's bill here.
    return {
        "type": "tokens",
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "seconds": round(row["duration"], 3),
    }


def _flag(value: Any) -> bool:
    text = str(value or "false").strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise wrong("stream must be true or false", "stream")
    return text in ("true", "1")
