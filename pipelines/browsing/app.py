"""The routes of `scriptorium browse`, as one ASGI application."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from actors.errors import ScriptoriumError
from actors.redaction import redacted
from pipelines import __version__
from pipelines.browsing import guard
from pipelines.browsing.audio import AudioStore, byte_range
from pipelines.browsing.library import Library, Stale
from pipelines.browsing.searching import Search
from pipelines.export.documents.formats import DOCUMENTS
from pipelines.flags import FLAGS
from pipelines.serving.page import static_file
from pipelines.serving.web.errors import Problem

FOLDER = Path(__file__).parent / "page"
# Seconds after which a look at the page looks for new transcripts.
_REFRESH_SECONDS = 30.0
_MAX_QUERY = 500
_MAX_TEXT = 20_000
_MAX_VALUES = 100
Values = Annotated[tuple[str, ...], Query(max_length=_MAX_VALUES)]


class Correction(BaseModel):
    """What a segment should say."""

    recording_id: str
    number: int = Field(ge=0)
    text: str = Field(max_length=_MAX_TEXT)
    before: str = Field(max_length=10 * _MAX_TEXT)


class Browser:
    """The application without a listening socket.

    Args:
        library: the transcripts.
        audio: their audio; closed by the caller.
        port: that it listens on.
        editor: name that corrections are stored with; None: nothing can be corrected.
    """

    def __init__(self, library: Library, audio: AudioStore, port: int, editor: str | None) -> None:
        self._library, self._audio, self._port = library, audio, port
        self._editor = editor
        self._refreshed = time.monotonic()
        self.api = self._routes()

    def _routes(self) -> FastAPI:
        api = FastAPI(
            title="Scriptorium browser",
            version=__version__,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            exception_handlers={
                Problem: _problem,
                HTTPException: _http_exception,
                RequestValidationError: _invalid,
                ScriptoriumError: _failed,
            },
        )

        @api.get("/")
        def page() -> Response:
            return static_file("index.html", FOLDER)

        @api.get(guard.ENTRANCE + "{token}")
        def enter(token: str) -> Response:
            # The middleware has checked the token. It does not stay in the address, where it would get into
            # the history and into links. What follows `#` stays.
            answer = RedirectResponse("../", 303, {"cache-control": "no-store"})
            name = guard.cookie_name(self._port)
            answer.set_cookie(name, token, path="/", httponly=True, samesite="strict")
            return answer

        @api.get("/page/{name}")
        def static(name: str) -> Response:
            return static_file(name, FOLDER)

        @api.get("/favicon.ico")
        def icon() -> Response:
            return static_file("favicon.ico")

        @api.get("/api/overview")
        def overview() -> dict[str, Any]:
            self._refresh_soon()
            return {
                "out": redacted(self._library.out),
                "editor": self._editor,
                "flags": {name: about for group in FLAGS.values() for name, about in group.items()},
                "formats": [{"name": form.name, "about": form.about} for form in DOCUMENTS.values()],
                **self._library.overview(),
            }

        @api.get("/api/search")
        def search(
            q: Annotated[str, Query(max_length=_MAX_QUERY)] = "",
            language: Values = (),
            speaker: Values = (),
            flag: Values = (),
            status: Values = (),
            below: Annotated[float | None, Query(ge=0, le=1)] = None,
            corrected: bool = False,
            after: Annotated[int, Query(ge=0, lt=1 << 62)] = 0,
        ) -> dict[str, Any]:
            begun = time.perf_counter()
            wanted = Search(q, language, speaker, flag, status, below, corrected, after)
            found = self._library.search(wanted)
            return {**found, "milliseconds": round(1000 * (time.perf_counter() - begun), 1)}

        @api.get("/api/transcript")
        def transcript(id: str) -> dict[str, Any]:
            found = self._library.transcript(id)
            if found is None:
                raise _no_recording(id)
            return found

        @api.get("/api/audio")
        def audio(request: Request, id: str, decoded: bool = False) -> Response:
            return self._send_audio(request, id, decoded)

        @api.get("/api/download")
        def download(id: str, format: str) -> Response:
            if format not in DOCUMENTS:
                raise Problem(400, f"there is no format {format[:50]!r}: give one of {', '.join(DOCUMENTS)}")
            found = self._library.document(id, format)
            if found is None:
                raise _no_recording(id)
            name, content = found
            disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
            return Response(content, 200, {"content-disposition": disposition}, "application/octet-stream")

        @api.post("/api/corrections")
        def correct(correction: Correction) -> dict[str, Any]:
            if self._editor is None:
                raise Problem(403, "this page was started with --read-only", "read_only")
            try:
                found = self._library.correct(**correction.model_dump(), who=self._editor)
            except Stale:
                raise Problem(
                    409, "somebody else corrected this segment: load the transcript again", "stale"
                ) from None
            if found is None:
                raise _no_recording(correction.recording_id)
            return found

        return api

    def _send_audio(self, request: Request, recording_id: str, decoded: bool) -> Response:
        source = self._library.source(recording_id)
        if source is None:
            raise _no_recording(recording_id)
        media = self._audio.media(source, decoded)
        headers = {
            "accept-ranges": "bytes",
            "content-type": media.type,
            "cache-control": "private, no-cache",
            "x-decoded": str(int(media.is_decoded)),
        }
        try:
            asked = byte_range(request.headers.get("range"), media.size)
        except ValueError:
            return Response(status_code=416, headers={**headers, "content-range": f"bytes */{media.size}"})
        first, last = asked or (0, media.size - 1)
        headers["content-length"] = str(last + 1 - first)
        if asked:
            headers["content-range"] = f"bytes {first}-{last}/{media.size}"
        status = 206 if asked else 200
        if request.scope.get("is_head"):
            return Response(None, status, headers)
        blocks = self._audio.read(source, media, first, last)
        # The first bytes are read before the answer begins, so that a file that is gone has a status.
        begun = next(blocks, b"")

        def body() -> Iterator[bytes]:
            yield begun
            yield from blocks

        return StreamingResponse(body(), status, headers)

    def _refresh_soon(self) -> None:
        """Look for new transcripts in the background, if that was not done lately."""
        if time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            threading.Thread(target=self._library.refresh, name="refresh", daemon=True).start()


def _no_recording(recording_id: str) -> Problem:
    return Problem(404, f"there is no transcript of {recording_id[:200]!r}", "not_found")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return JSONResponse(error.body, error.status, error.headers)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, str(error.detail))
    return JSONResponse(problem.body, error.status_code, dict(error.headers or {}))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    problem = Problem(400, f"{first['loc'][-1]}: {first['msg']}", "invalid_value")
    return JSONResponse(problem.body, 400)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ScriptoriumError)
    problem = Problem(502, redacted(error.message), getattr(error, "code", None) or "failed")
    return JSONResponse(problem.body, 502)
