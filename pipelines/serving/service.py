"""State that all routes share: settings, models, admission limits; cancellation of disconnected clients."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request

from actors.records import Row
from pipelines.config import RunConfig
from pipelines.serving.inference.decoder_pool import Budget
from pipelines.serving.inference.model_client import ModelClient
from pipelines.serving.inference.partial_text import OnText
from pipelines.serving.inference.transcriber import (
    AudioTooLong,
    SeveralSegments,
    Transcriber,
    TranscriptionRequest,
)
from pipelines.serving.web.errors import Problem, bad_request, from_dead_letter, unavailable
from pipelines.serving.web.forms.bodies import JSON_MEMORY
from pipelines.serving.web.forms.uploads import StoredUpload, UploadStore
from pipelines.serving.web.tolerance import Tolerance

Result = TypeVar("Result")

# OpenAI's models that transcribe, which many clients have built in. Not the one that tells speakers apart.
OPENAI_MODELS = (
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-transcribe",
    "gpt-live-transcribe",
)

_READY_TIMEOUT = 5.0  # seconds for the models to respond to a readiness check
_READY_MAX_AGE = 1.0  # seconds for which the result of a readiness check is reused
_RETRY_AFTER = 5.0  # seconds after which a refused client may retry


def model_names(config: RunConfig) -> list[str]:
    """Names by which clients may request the model; responses use the first one. It is never a local path."""
    model = config.asr.model
    name = Path(model).name if Path(model).is_dir() or Path(model).is_absolute() else model
    return config.serve.model_names or [name]


def model_aliases(config: RunConfig) -> list[str]:
    """Further names of the model for clients that cannot be changed; none where the settings name it."""
    return [] if config.serve.model_names else list(OPENAI_MODELS)


class ClientGone(Exception):
    """The client has disconnected."""


class AdmissionLimit:
    """Limits how many requests or streams are served at once; further ones are refused.

    Args:
        limit: how many are admitted.
        what: their name for error messages, in the plural.
    """

    def __init__(self, limit: int, what: str) -> None:
        self.admitted, self._limit, self._what = 0, limit, what

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Count one request for the life of a `with` block.

        Raises:
            Problem: 503 if the limit is reached.
        """
        if self.admitted >= self._limit:
            raise unavailable(
                f"the server is at its limit of {self._limit} concurrent {self._what}", _RETRY_AFTER
            )
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1


class Service:
    """Everything behind the routes. It is created in the event loop that serves them.

    Args:
        config: all settings.
        models: client of the deployed models.
    """

    def __init__(self, config: RunConfig, models: ModelClient) -> None:
        self.config, self.models = config, models
        self.model_names = model_names(config)
        self._accepted_names = frozenset([*self.model_names, *model_aliases(config)])
        self.transcriber = Transcriber(config, models)
        self.uploads = UploadStore()
        self.requests = AdmissionLimit(config.serve.max_requests, "requests")
        self.streams = AdmissionLimit(config.serve.max_streams, "streams")
        self.json_memory = Budget(JSON_MEMORY)
        self.draining = asyncio.Event()
        self._ready_check: asyncio.Task[tuple[bool, float]] | None = None

    async def transcript(
        self,
        http_request: Request,
        upload: StoredUpload,
        request: TranscriptionRequest,
        on_text: OnText | None = None,
    ) -> Row:
        """The TRANSCRIPT row of an uploaded file.

        Args:
            http_request: receives fields for the access log.
            upload: the file, for error messages.
            request: what to transcribe, and how.
            on_text: see `Transcriber.transcribe`.

        Raises:
            Problem: the file has no transcript, or not in time.
        """
        timeout = self.config.serve.timeout
        try:
            async with asyncio.timeout(timeout):
                row = await self.transcriber.transcribe(request, on_text)
        except TimeoutError:
            raise Problem(504, f"the request was not finished within {timeout:g} s", "timeout") from None
        except AudioTooLong as error:
            raise Problem(413, error.message, "audio_too_long", "file") from None
        except SeveralSegments as error:
            raise bad_request(error.message, "messages", "audio_in_pieces") from None
        if "error_code" in row:
            raise from_dead_letter(row, upload.path, upload.name)
        http_request.scope["log_fields"] |= {
            "audio_seconds": round(row["duration"], 3),
            "outcome": row["status"],
            "text": row["text"],
        }
        return row

    async def ready(self) -> bool:
        """Whether the models respond.

        Concurrent callers share one check: anyone may ask, and checks queue behind batches.
        """
        check = self._ready_check
        if check is None or (check.done() and time.monotonic() - check.result()[1] >= _READY_MAX_AGE):
            self._ready_check = check = asyncio.create_task(self._check_ready())
        return (await asyncio.shield(check))[0]

    async def _check_ready(self) -> tuple[bool, float]:
        """Whether the models respond, and the time of the result in monotonic seconds."""
        try:
            async with asyncio.timeout(_READY_TIMEOUT):
                await self.models.model_columns()
        except Exception:
            return False, time.monotonic()
        return True, time.monotonic()

    def checked_model(self, name: Any) -> str:
        """The requested model, if the server has it.

        Raises:
            Problem: 400 if the name is missing; 404 if the server has no such model.
        """
        available = ", ".join(self.model_names)
        if not isinstance(name, str) or not name:
            raise bad_request(
                f"model is missing; this server has {available}", "model", "missing_required_parameter"
            )
        if name not in self._accepted_names:
            message = (
                f"there is no model {name[:100]!r} here; this server has {available}. Names that it accepts, "
                "for clients that cannot be changed, are the setting serve.model_names"
            )
            raise Problem(404, message, "model_not_found", "model")
        return name

    def requested_model(self, name: Any, tolerance: Tolerance) -> str:
        """As `checked_model`; a lenient server takes its model if the request names none.

        Raises:
            Problem: see `checked_model`.
        """
        if name is None or name == "":
            return tolerance.checked(lambda: self.checked_model(name), self.model_names[0])
        return self.checked_model(name)

    def close(self) -> None:
        """End child processes and remove uploads."""
        self.transcriber.close()
        self.uploads.close()


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled if the client disconnects.

    Raises:
        ClientGone: the client has disconnected.
    """
    task, disconnected = asyncio.create_task(work), asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for one in (task, disconnected):
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await one


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
