"""HTTP to a recognition server: requests with the key, and what a response that is no good one means."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx2

from actors.backends.remote import openai_protocol
from actors.backends.remote.retry_policy import TransientError
from actors.config import RemoteConfig
from actors.errors import FatalError, RowError

Meaning = Literal["fine", "busy", "failing", "fatal", "refused"]
# Error codes about accounts and addresses, with any status: another request would get the same response.
FATAL_CODES = {
    "model_not_found",
    "modelnotfound",
    "insufficient_quota",
    "invalid_api_key",
    "invalidapikey",
    "accessdenied",
    "arrearage",
    "commoditynotpurchased",
    "prepaidbilloverdue",
    "postpaidbilloverdue",
    "billing_hard_limit_reached",
    "account_deactivated",
}
# A thousand times the size of the response for a segment.
MAX_RESPONSE_BYTES = 8 << 20
_MAX_MESSAGE = 300  # characters of a server's message that are repeated


@dataclass(frozen=True)
class Response:
    """An HTTP response; its header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class RemoteServer:
    """One recognition server, as seen over HTTP; to be used in one event loop.

    Args:
        remote: settings of the server.
        model: name of the model on the server.
        url_ending: what `remote.base_url` should end with, for messages.

    Raises:
        FatalError: the key has characters that no key has.
    """

    def __init__(self, remote: RemoteConfig, model: str, url_ending: str) -> None:
        self.remote, self.model, self.url_ending = remote, model, url_ending
        self._client: httpx2.AsyncClient | None = None
        self._key = os.environ.get(remote.key_variable, "").strip()
        if not self._key.isascii() or not self._key.isprintable():
            raise FatalError(
                f"the key in the environment variable {remote.key_variable} has characters that no key has"
            )

    async def open(self) -> None:
        """Make the connection pool; `send` needs it."""
        concurrency = self.remote.concurrency
        self._client = httpx2.AsyncClient(
            timeout=self.remote.timeout,
            # Without TLS no certificates have to be read. But responses of DashScope's files API name further
            # hosts.
            verify=self.remote.base_url.startswith("https:") or self.remote.endpoint == "dashscope-files",
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def send(
        self,
        method: str,
        url: str,
        *,
        with_key: bool = True,
        headers: Mapping[str, str] | None = None,
        **content: Any,
    ) -> Response:
        """Send a request and return its response, with any status.

        Args:
            method: HTTP method.
            url: the full URL.
            with_key: send the key; only right for the server of the settings.
            headers: further headers.
            content: the body and the query, as httpx takes them.

        Raises:
            TransientError: there was no response, or an incomplete or endless one.
        """
        assert self._client is not None
        headers = {**(headers or {}), **(self.authorization() if with_key else {})}
        try:
            async with (
                asyncio.timeout(self.remote.timeout),
                self._client.stream(method, url, headers=headers, **content) as response,
            ):
                data = bytearray()
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > MAX_RESPONSE_BYTES:
                        raise TransientError(f"the response is longer than {MAX_RESPONSE_BYTES >> 20} MiB")
                return Response(response.status_code, response.headers, bytes(data))
        except TimeoutError:
            raise TransientError(f"no complete response within {self.remote.timeout:g} s") from None
        except httpx2.HTTPError as error:
            raise TransientError(f"{type(error).__name__}: {error}".rstrip(": ")) from None

    def authorization(self) -> dict[str, str]:
        """The header with the key; nothing where there is no key."""
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    def raise_for_error(self, response: Response, subject: str = "", hint: str = "") -> None:
        """Raise the error that a response stands for; return where it is a good one.

        Args:
            response: the response.
            subject: the segment or task that the request was about; empty: a refusal concerns every request.
            hint: what to do where the server refuses.

        Raises:
            FatalError: the server refuses every request.
            RowError: the server refuses `subject`.
            TransientError: another attempt may succeed.
        """
        meaning, message = self.meaning(response)
        if meaning == "fatal" or (meaning == "refused" and not subject):
            raise FatalError(self.fatal_message(response, message))
        if meaning == "refused":
            raise RowError(
                f"the recognition server refuses {subject}: {self.without_key(message)}{hint}", "model_failed"
            )
        if meaning != "fine":
            wait = retry_after(response.headers, datetime.now(UTC))
            raise TransientError(self.without_key(message), wait, busy=meaning == "busy")

    def meaning(self, response: Response) -> tuple[Meaning, str]:
        """See `meaning_of`."""
        of_dashscope = self.remote.endpoint.startswith("dashscope")
        return meaning_of(response.status, response.data, of_dashscope=of_dashscope)

    def json(self, response: Response) -> dict[str, Any]:
        """The JSON object in a response.

        Raises:
            TransientError: there is none.
        """
        try:
            return openai_protocol.parse_json(response.data)
        except openai_protocol.Malformed as error:
            raise TransientError(self.without_key(str(error))) from None

    def fatal_message(self, response: Response, message: str) -> str:
        """What is wrong for every request, and what to do.

        Args:
            response: the response that says so.
            message: what the server says about it.
        """
        if response.status in (401, 402, 403):
            variable = self.remote.key_variable
            key = (
                f"the key in {variable} was sent"
                if self._key
                else f"no key was sent, as {variable} is not set in this process"
            )
            advice = (
                f"{key}; "
                "asr.remote.key_variable names the variable, and on a cluster it must be set on its nodes"
            )
        elif 300 <= response.status < 400:
            # Without the query, which may hold a secret.
            location = response.headers.get("location", "").partition("?")[0] or "nowhere"
            advice = f"it redirects to {location}: set asr.remote.base_url to where the server really is"
        else:
            advice = (
                f"is {self.model!r} the server's name of the model (asr.model), and is asr.remote.base_url "
                f"right, with its {self.url_ending}?"
            )
        url = self.remote.base_url
        return f"the recognition server at {url} refuses every request: {self.without_key(message)}; {advice}"

    def without_key(self, text: str) -> str:
        """A server's message, cut to a bounded length and without the key, which servers may repeat."""
        return (text.replace(self._key, "***") if self._key else text)[:_MAX_MESSAGE]


def meaning_of(status: int, data: bytes, *, of_dashscope: bool = False) -> tuple[Meaning, str]:
    """What an HTTP status means for the client, and what the server says about it, in one line.

    - `busy`: the server asks to come later; not a failure.
    - `failing`: another attempt may succeed.
    - `fatal`: every request will get this response.
    - `refused`: this request will get this response again.

    DashScope uses `insufficient_quota` also for limits that pass within a minute, OpenAI for an account
    without money.
    """
    if 200 <= status < 300:
        return "fine", ""
    text, code = _error_of(data)
    message = f"HTTP {status}: {text}" if text else f"HTTP {status}"
    final = code.lower() in FATAL_CODES and not (of_dashscope and code.lower() == "insufficient_quota")
    if final or status in (401, 402, 403, 404, 405, 501) or 300 <= status < 400:
        return "fatal", message
    if status == 429:
        return "busy", message
    return ("failing" if status >= 500 or status in (408, 409, 425) else "refused"), message


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a server asks to wait; None where it does not, or where the value is invalid.

    The value is a number or a date (RFC 9110, 10.2.3).

    Args:
        headers: of the response; names in lower case, or a mapping that ignores case.
        now: the time, with its time zone.
    """
    value = (headers.get("retry-after") or "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):  # TypeError: a date without a time zone
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _error_of(data: bytes) -> tuple[str, str]:
    """Message (as one line) and code in the body of an error response, in any of the shapes in use."""
    try:
        body = json.loads(data)
    except ValueError:
        return "", ""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(inner, dict):
        return " ".join(str(inner).split()), ""
    message = inner.get("message") or inner.get("detail") or ""
    return " ".join(str(message).split()).encode(errors="replace").decode(), str(inner.get("code") or "")
