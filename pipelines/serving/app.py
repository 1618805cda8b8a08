"""The routes, as one ASGI application. It does not know whether Ray or somebody else runs the models, or who listens."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Path, Request, Security, WebSocket
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from pipelines import __version__
from pipelines.config import RunConfig
from pipelines.serving import openapi, page
from pipelines.serving.api import chat_completions
from pipelines.serving.api import transcriptions as openai_audio
from pipelines.serving.api.responses import model_names
from pipelines.serving.inference.model_client import Models
from pipelines.serving.openapi import ERRORS
from pipelines.serving.realtime import websocket
from pipelines.serving.service import Service
from pipelines.serving.web.errors import GONE, Problem
from pipelines.serving.web.middleware import AccessMiddleware

log = logging.getLogger(__name__)


class Application:
    """The server without anybody who listens: `asgi` is what a web server runs.

    Args:
        config: all settings.
        models: makes the way to the models; called in the loop that serves.
        fronted: see `AccessMiddleware`.
    """

    def __init__(self, config: RunConfig, models: Callable[[], Models], fronted: bool = False) -> None:
        self.config = config
        self.service: Service | None = None
        self._make_models = models
        self._api = self._routes()
        self.door = AccessMiddleware(self._api, config.serve, fronted)
        self._outside = self._with_cors(self.door)

    @property
    def asgi(self) -> ASGIApp:
        """What a web server runs."""
        return self._outside

    @property
    def busy(self) -> int:
        """Requests and streams in work."""
        return self.service.requests.taken + self.service.streams.taken if self.service else 0

    def begin_to_end(self) -> None:
        """Take in nothing more, and let streams come to an end; what is in work goes on."""
        self.door.draining = True
        if self.service:
            self.service.ending.set()

    @asynccontextmanager
    async def _life(self, api: FastAPI) -> AsyncIterator[None]:
        self.service = Service(self.config, self._make_models())
        try:
            yield
        finally:
            self.service.close()

    def _with_cors(self, door: AccessMiddleware) -> ASGIApp:
        # Around the door: what it refuses must be readable to a page of another site as well.
        origins = self.config.serve.cors_origins
        if not origins:
            return door
        return CORSMiddleware(
            door,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # OpenAI's client sends headers of its own
            expose_headers=["retry-after", "x-request-id"],
        )

    def _open(self) -> Service:
        assert self.service is not None, "routes are called between start and end"
        return self.service

    def _routes(self) -> FastAPI:
        api = FastAPI(
            title="Scriptorium",
            version=__version__,
            summary="Transcription with word times, in the shape of OpenAI's API",
            docs_url=None,  # ours asks nobody else for its scripts
            redoc_url=None,
            lifespan=self._life,
            exception_handlers={
                Problem: _problem,
                HTTPException: _http_problem,
                ClientDisconnect: _left,
                Exception: _defect,
            },
        )

        names = model_names(self.config)
        # For the description only: the door has looked at the key by then.
        keyed = [Security(HTTPBearer(auto_error=False))] if self.config.serve.api_keys else []

        @api.get("/healthz", tags=["server"], summary="Whether the server runs")
        async def healthz() -> dict[str, str]:
            return {"status": "ok", "version": __version__}

        @api.get(
            "/readyz",
            tags=["server"],
            summary="Whether the models answer and the server takes requests",
            responses={503: openapi.NOT_READY},
        )
        async def readyz() -> JSONResponse:
            if self.door.draining:
                return JSONResponse({"status": "draining"}, 503, {"retry-after": "5"})
            service = self._open()
            if not await service.ready():
                return JSONResponse({"status": "models do not answer"}, 503, {"retry-after": "5"})
            return JSONResponse(
                {"status": "ready", "requests": service.requests.taken, "streams": service.streams.taken}
            )

        @api.get("/v1/models", tags=["OpenAI"], summary="The models", responses=ERRORS, dependencies=keyed)
        async def models() -> dict[str, Any]:
            return {"object": "list", "data": [_model(name) for name in self._open().model_names]}

        @api.get(
            "/v1/models/{name:path}",
            tags=["OpenAI"],
            summary="One model",
            responses=ERRORS,
            dependencies=keyed,
        )
        async def model(name: str = Path(json_schema_extra={"enum": [*names]})) -> dict[str, Any]:
            return _model(self._open().checked_model(name))

        @api.post(
            "/v1/audio/transcriptions",
            tags=["OpenAI"],
            summary="A file to text",
            responses={200: openapi.TRANSCRIPTION, **ERRORS},
            response_class=Response,
            dependencies=keyed,
            openapi_extra={"requestBody": openapi.form(names)},
        )
        async def transcriptions(request: Request) -> Response:
            return await openai_audio.transcriptions(request, self._open())

        @api.post(
            "/v1/chat/completions",
            tags=["OpenAI"],
            summary="A file to text, as chat: `language X<asr_text>...`",
            responses={200: openapi.COMPLETION, **ERRORS},
            response_class=Response,
            dependencies=keyed,
            openapi_extra={"requestBody": openapi.question(names)},
        )
        async def completions(request: Request) -> Response:
            return await chat_completions.chat(request, self._open())

        @api.websocket("/v1/realtime")
        async def stream(socket: WebSocket) -> None:
            await websocket.realtime(socket, self._open())

        page.add_routes(api, lambda: self._open().model_names)
        return api


_SINCE = int(time.time())


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _SINCE, "owned_by": "scriptorium"}


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return JSONResponse(error.body, error.status, error.headers)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message, code = _USUAL.get(error.status_code, (str(error.detail), None))
    return JSONResponse(
        Problem(error.status_code, message, code).body, error.status_code, dict(error.headers or {})
    )


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)  # he left before all of his body was here


async def _defect(request: Request, error: Exception) -> Response:
    # Starlette raises it once more after this answer, for the door to log.
    number = request.scope.get("request_id")
    return JSONResponse(
        Problem(500, f"an error of ours; our log has it under {number}", "internal_error").body, 500
    )


_USUAL = {
    404: ("there is nothing at this address", "not_found"),
    405: ("this method is not possible here", "method_not_allowed"),
}
