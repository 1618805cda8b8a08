"""What all routes share: settings, models, places, and working for a client who may leave."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from actors.errors import UsageError
from actors.text.languages import code_of, normalize_language
from pipelines.config import RunConfig
from pipelines.serving.api.responses import model_names
from pipelines.serving.inference.decoder_pool import Budget
from pipelines.serving.inference.model_client import Models
from pipelines.serving.inference.partial_text import OnText
from pipelines.serving.inference.transcriber import NotOnePiece, TooLong, Transcriber, TranscriptionRequest
from pipelines.serving.web.errors import Problem, busy, of_dead_letter, wrong
from pipelines.serving.web.uploads import PARSED, Kept, Shelf

Row = dict[str, Any]
Result = TypeVar("Result")

MAX_PROMPT = 10_000  # characters: background text is read by the model with every segment
_READY = 5.0  # seconds that the models may take to say which they are
_FRESH = 1.0  # seconds for which what they said is good
_LATER = 5.0  # seconds after which a refused client may ask again


class ClientGone(Exception):
    """Nobody waits for the answer any longer."""


class AdmissionLimit:
    """A number of places; whoever comes when all are taken is sent away.

    Args:
        most: places.
        what: they are for, in the plural.
    """

    def __init__(self, most: int, what: str) -> None:
        self.taken, self._most, self._what = 0, most, what

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold a place for the life of a `with` block.

        Raises:
            Problem: 503.
        """
        if self.taken >= self._most:
            raise busy(
                f"{self.taken} {self._what} are in work or waiting, which is all that this server takes",
                _LATER,
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Service:
    """Everything behind the routes. Made in the event loop that serves them.

    Args:
        config: all settings.
        models: the way to the models.
    """

    def __init__(self, config: RunConfig, models: Models) -> None:
        self.config, self.models = config, models
        self.model_names = model_names(config)
        self.transcriber = Transcriber(config, models)
        self.shelf = Shelf()
        self.requests = AdmissionLimit(config.serve.max_requests, "requests")
        self.streams = AdmissionLimit(config.serve.max_streams, "streams")
        self.parsed = Budget(PARSED)
        self.ending = asyncio.Event()
        self._look: asyncio.Task[tuple[bool, float]] | None = None

    async def transcript(
        self, request: Request, kept: Kept, wish: TranscriptionRequest, on_text: OnText | None = None
    ) -> Row:
        """The TRANSCRIPT row of a client's file.

        Raises:
            Problem: it has none, or not in time.
        """
        try:
            async with asyncio.timeout(self.config.serve.timeout):
                row = await self.transcriber.transcribe(wish, on_text)
        except TimeoutError:
            raise Problem(504, f"not finished within {self.config.serve.timeout:g} s", "timeout") from None
        except TooLong as error:
            raise Problem(413, error.message, "audio_too_long", "file") from None
        except NotOnePiece as error:
            raise wrong(error.message, "messages", "audio_in_pieces") from None
        if "error_code" in row:
            raise of_dead_letter(row, kept.path, kept.name)
        request.scope["facts"] |= {
            "audio_seconds": round(row["duration"], 3),
            "outcome": row["status"],
            "text": row["text"],
        }
        return row

    async def ready(self) -> bool:
        """Whether the models answer. All who ask share a look, for anybody may ask, and looks stand in line with batches."""
        if self._look is None or (self._look.done() and time.monotonic() - self._look.result()[1] >= _FRESH):
            self._look = asyncio.create_task(self._looked())
        return (await asyncio.shield(self._look))[0]

    async def _looked(self) -> tuple[bool, float]:
        """Whether the models answer, and when that was known."""
        try:
            async with asyncio.timeout(_READY):
                await self.models.facts()
        except Exception:
            return False, time.monotonic()
        return True, time.monotonic()

    def checked_model(self, name: Any) -> str:
        """The model that a client asks for.

        Raises:
            Problem: 404 where it is another one.
        """
        if not isinstance(name, str) or not name:
            raise wrong(
                f"model is missing; this server has {self._names()}", "model", "missing_required_parameter"
            )
        if name not in self.model_names:
            raise Problem(
                404,
                f"there is no model {name[:100]!r} here; this server has {self._names()}",
                "model_not_found",
                "model",
            )
        return name

    def close(self) -> None:
        """End child processes and remove uploads."""
        self.transcriber.close()
        self.shelf.close()

    def _names(self) -> str:
        return ", ".join(self.model_names)


def checked_language(value: Any) -> str | None:
    """The ISO code of a language that a client names; None where the model is to decide.

    Raises:
        Problem: 400 where the model does not know it.
    """
    if value is not None and not isinstance(value, str):
        raise wrong("language must be a string", "language")
    try:
        return code_of(normalize_language(value))
    except UsageError as error:
        raise wrong(error.message[:500], "language", "unsupported_language") from None


def checked_prompt(value: Any) -> str | None:
    """Background text of a client.

    Raises:
        Problem: 400 where it is too much.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise wrong("prompt must be a string", "prompt")
    if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
        raise wrong("prompt has half a character in it (a lone surrogate)", "prompt")
    if len(value) > MAX_PROMPT:
        raise wrong(
            f"prompt has {len(value):,} characters, at most {MAX_PROMPT:,} are taken",
            "prompt",
            "string_above_max_length",
        )
    return value


def checked_temperature(value: Any) -> None:
    """Refuse to guess.

    Raises:
        Problem: 400 for anything but 0.
    """
    try:
        zero = value is None or value == "" or float(value) == 0
    except (TypeError, ValueError, OverflowError):
        raise wrong("temperature must be a number", "temperature") from None
    if not zero:
        raise wrong(
            "temperature must be 0: a transcript is what is most probable, not a sample", "temperature"
        )


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves.

    Raises:
        ClientGone: it has.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for one in (task, gone):
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await one


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
