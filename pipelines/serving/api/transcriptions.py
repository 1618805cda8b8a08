"""`POST /v1/audio/transcriptions`, compatible with OpenAI's clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from actors.records import Row
from pipelines.serving.api import responses
from pipelines.serving.api.form_request import FormRequest, parse_form
from pipelines.serving.inference.partial_text import PartialTranscript
from pipelines.serving.inference.transcriber import TranscriptionRequest
from pipelines.serving.service import ClientGone, Service, while_connected
from pipelines.serving.web.errors import CLIENT_CLOSED_REQUEST
from pipelines.serving.web.forms.bodies import read_form
from pipelines.serving.web.forms.fields import with_known_names
from pipelines.serving.web.forms.uploads import StoredUpload
from pipelines.serving.web.sse import DONE, KEEP_ALIVE, KEEP_ALIVE_SECONDS, EventStream, event
from pipelines.serving.web.tolerance import Tolerance

# An extension: how much of the file is recognised.
PROGRESS = "transcript.progress"


async def create_transcription(http_request: Request, service: Service) -> Response:
    """Handle one request."""
    tolerance = Tolerance(service.config.serve.lenient)
    response = await _respond(http_request, service, tolerance)
    response.headers.update(tolerance.headers)
    return response


async def _respond(http_request: Request, service: Service, tolerance: Tolerance) -> Response:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.requests.admit())
        fields = await stack.enter_async_context(read_form(http_request))
        fields = with_known_names(http_request.query_params.multi_items(), fields)
        form = parse_form(fields, service, tolerance)
        upload = await stack.enter_async_context(service.uploads.store(form.file, form.file.filename or ""))
        # The json and text formats do not show words, nor their flags.
        words = form.response_format not in ("json", "text")
        speakers = form.response_format in ("verbose_json", "diarized_json")
        request = TranscriptionRequest(
            *(upload.path, form.language, form.context),
            words=words,
            speakers=speakers,
            progress=form.stream and form.progress,
        )
        if form.stream:
            texts = stream_texts(service, http_request, upload, request)
            return EventStream(_events(texts, form), stack.pop_all())
        try:
            row = await while_connected(http_request, service.transcript(http_request, upload, request))
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
    if form.response_format == "json":
        return JSONResponse(responses.json_body(row))
    if form.response_format == "verbose_json":
        # In a thread: the cues of a long recording take a second of computing.
        return JSONResponse(await asyncio.to_thread(responses.verbose_json_body, row, form.granularities))
    if form.response_format == "diarized_json":
        return JSONResponse(await asyncio.to_thread(responses.diarized_json_body, row))
    media_type = responses.MEDIA_TYPES[form.response_format]
    text = await asyncio.to_thread(responses.text_body, row, form.response_format)
    return Response(text, media_type=media_type)


async def stream_texts(
    service: Service, http_request: Request, upload: StoredUpload, request: TranscriptionRequest
) -> AsyncGenerator[PartialTranscript | Row | None]:
    """Transcribe a file and yield its text while it grows.

    Yields:
        A PartialTranscript whenever the text has grown; None after KEEP_ALIVE_SECONDS without news; at the
        end the TRANSCRIPT row.

    Raises:
        Problem: the file has no transcript.
    """
    texts: asyncio.Queue[PartialTranscript] = asyncio.Queue()
    work = asyncio.create_task(service.transcript(http_request, upload, request, texts.put_nowait))
    next_text = asyncio.create_task(texts.get())
    try:
        while True:
            await asyncio.wait(
                {work, next_text}, timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if next_text.done():
                yield next_text.result()
                next_text = asyncio.create_task(texts.get())
            elif work.done():
                yield work.result()
                return
            else:
                yield None
    finally:
        for task in (next_text, work):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _events(
    texts: AsyncGenerator[PartialTranscript | Row | None], form: FormRequest
) -> AsyncGenerator[bytes]:
    """Text deltas while segments are recognised, then the whole text.

    OpenAI does not stream `verbose_json`; here the last event contains its fields.
    """
    sent = ""
    async with aclosing(texts):
        async for update in texts:
            if update is None:
                yield KEEP_ALIVE
                continue
            if isinstance(update, PartialTranscript) and update.done is not None:
                yield event({"type": PROGRESS, "seconds": update.done, "duration": update.total})
            text = update.text if isinstance(update, PartialTranscript) else update["text"]
            # The final text may be longer than the partial texts, or differ from them.
            if len(text) > len(sent) and text.startswith(sent):
                yield event({"type": "transcript.text.delta", "delta": text[len(sent) :]})
                sent = text
            if not isinstance(update, PartialTranscript):
                verbose = form.response_format == "verbose_json"
                extra = (
                    await asyncio.to_thread(responses.verbose_json_body, update, form.granularities)
                    if verbose
                    else {}
                )
                if form.response_format == "diarized_json":
                    for segment in await asyncio.to_thread(responses.diarized_segments, update):
                        yield event(segment)
                done = {"type": "transcript.text.done", "text": update["text"], "usage": _usage(update)}
                yield event({**extra, **done})
    yield DONE


def _usage(row: Row) -> Row:
    # OpenAI's event type requires token counts; this server does not bill by token.
    return {
        "type": "tokens",
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "seconds": round(row["duration"], 3),
    }
