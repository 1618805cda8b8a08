"""The routes, as one ASGI application. It is independent of the web server, and of Ray."""

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
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp

from pipelines import __version__
from pipelines.config import RunConfig
from pipelines.serving import openapi, page
from pipelines.serving.api import chat_completions, transcriptions
from pipelines.serving.inference.model_client import ModelClient
from pipelines.serving.openapi import ERRORS
from pipelines.serving.realtime import websocket
from pipelines.serving.service import Service, model_aliases, model_names
from pipelines.serving.web.errors import CLIENT_CLOSED_REQUEST, Problem
from pipelines.serving.web.middleware import AccessMiddleware
from pipelines.serving.web.tolerance import WARNING_HEADER

log = logging.getLogger(__name__)


_STARTED = int(time.time())


class Application:
    """The server without a listening socket.

    Args:
        config: all settings.
        make_client: makes the client of the models; called in the event loop that serves.
        behind_proxy: see `AccessMiddleware`.
    """

    def __init__(
        self, config: RunConfig, make_client: Callable[[], ModelClient], behind_proxy: bool = False
    ) -> None:
        self.config = config
        self.service: Service | None = None
        self._make_client = make_client
        self._access = AccessMiddleware(self._routes(), config.serve, behind_proxy)
        self._asgi = self._with_cors(self._access)

    @property
    def asgi(self) -> ASGIApp:
        """The ASGI application for a web server."""
        return self._asgi

    @property
    def active(self) -> int:
        """How many requests and streams are being served."""
        return self.service.requests.admitted + self.service.streams.admitted if self.service else 0

    def start_draining(self) -> None:
        """Refuse new requests and end streams. Requests that have begun are finished."""
        self._access.draining = True
        if self.service:
            self.service.draining.set()

    @asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        self.service = Service(self.config, self._make_client())
        try:
            yield
        finally:
            self.service.close()

    def _with_cors(self, app: AccessMiddleware) -> ASGIApp:
        # CORS wraps the access checks, so that pages of allowed sites can read error responses as well.
        origins = self.config.serve.cors_origins
        if not origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # OpenAI's client sends additional headers
            expose_headers=["retry-after", "x-request-id", WARNING_HEADER],
        )

    def _running_service(self) -> Service:
        assert self.service is not None, "routes are called between startup and shutdown"
        return self.service

    def _routes(self) -> FastAPI:
        api = FastAPI(
            title="Scriptorium",
            version=__version__,
            summary="Transcription with word times, compatible with OpenAI's API",
            docs_url=None,  # FastAPI's page loads scripts from other hosts
            redoc_url=None,
            lifespan=self._lifespan,
            exception_handlers={
                Problem: _problem,
                HTTPException: _http_exception,
                ClientDisconnect: _client_disconnect,
                Exception: _internal_error,
            },
        )

        names = [*model_names(self.config), *model_aliases(self.config)]
        # For the description only: the middleware has checked the key by then.
        authenticated = [Security(HTTPBearer(auto_error=False))] if self.config.serve.api_keys else []

        @api.get("/health", include_in_schema=False)
        @api.get("/healthz", tags=["server"], summary="Liveness: the server is running")
        async def healthz() -> dict[str, str]:
            return {"status": "ok", "version": __version__}

        @api.get(
            "/readyz",
            tags=["server"],
            summary="Readiness: the models respond and the server accepts requests",
            responses={503: openapi.NOT_READY},
        )
        async def readyz() -> JSONResponse:
            if self._access.draining:
                return JSONResponse({"status": "draining"}, 503, {"retry-after": "5"})
            service = self._running_service()
            if not await service.ready():
                return JSONResponse({"status": "models do not respond"}, 503, {"retry-after": "5"})
            requests, streams = service.requests.admitted, service.streams.admitted
            return JSONResponse({"status": "ready", "requests": requests, "streams": streams})

        @api.get(
            "/v1/models",
            tags=["OpenAI"],
            summary="List the models",
            responses=ERRORS,
            dependencies=authenticated,
        )
        async def list_models() -> dict[str, Any]:
            return {"object": "list", "data": [_model(name) for name in self._running_service().model_names]}

        @api.get(
            "/v1/models/{name:path}",
            tags=["OpenAI"],
            summary="Describe one model",
            responses=ERRORS,
            dependencies=authenticated,
        )
        async def get_model(name: str = Path(json_schema_extra={"enum": [*names]})) -> dict[str, Any]:
            return _model(self._running_service().checked_model(name))

        @api.post(
            "/v1/audio/transcriptions",
            tags=["OpenAI"],
            summary="Transcribe a file",
            responses={200: openapi.TRANSCRIPTION, **ERRORS},
            response_class=Response,
            dependencies=authenticated,
            openapi_extra={"requestBody": openapi.transcription_body(names)},
        )
        async def create_transcription(request: Request) -> Response:
            return await transcriptions.create_transcription(request, self._running_service())

        @api.post(
            "/v1/chat/completions",
            tags=["OpenAI"],
            summary="Transcribe a file as a chat completion: `language X<asr_text>...`",
            responses={200: openapi.COMPLETION, **ERRORS},
            response_class=Response,
            dependencies=authenticated,
            openapi_extra={"requestBody": openapi.completion_body(names)},
        )
        async def create_completion(request: Request) -> Response:
            return await chat_completions.create_completion(request, self._running_service())

        @api.websocket("/v1/realtime")
        async def realtime(socket: WebSocket) -> None:
            await websocket.serve_stream(socket, self._running_service())

        @api.websocket("/{path:path}")
        async def unknown_stream(socket: WebSocket) -> None:
            raise Problem(404, _no_such_path(socket), "not_found")

        serve = self.config.serve
        page.add_routes(
            api, lambda: self._running_service().model_names, serve.max_prompt, bool(serve.api_keys)
        )
        return api


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "scriptorium"}


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return JSONResponse(error.body, error.status, error.headers)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    message, code = str(error.detail), None
    if error.status_code == 404:
        message, code = _no_such_path(request), "not_found"
    elif error.status_code == 405:
        allowed = headers.get("Allow", "")
        headers["Allow"] = "GET, HEAD" if allowed == "GET" else allowed
        message = f"{request.url.path[:100]!r} does not support {request.method}, but {headers['Allow']}"
        code = "method_not_allowed"
    return JSONResponse(Problem(error.status_code, message, code).body, error.status_code, headers)


def _no_such_path(connection: HTTPConnection) -> str:
    kind = "WebSocket at" if connection.scope["type"] == "websocket" else "path"
    return f"there is no {kind} {connection.scope['path'][:100]!r} here; this server has {_ROUTES}"


async def _client_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)  # before the whole body arrived


async def _internal_error(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this response, and the middleware logs it.
    message = f"internal server error; see request {request.scope.get('request_id')} in the log"
    return JSONResponse(Problem(500, message, "internal_error").body, 500)


_ROUTES = (
    "POST /v1/audio/transcriptions, POST /v1/chat/completions, GET /v1/models, the WebSocket /v1/realtime, "
    "GET /healthz, GET /readyz and the description at GET /docs. It does not offer translations: "
    "a transcript is in the language that was spoken"
)
