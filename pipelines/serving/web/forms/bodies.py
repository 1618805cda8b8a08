"""Request bodies: a size and time limit that holds while they arrive, multipart forms, and JSON."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, BinaryIO, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive

from pipelines.serving.web.errors import Problem, bad_request
from pipelines.serving.web.forms.multipart import FILE_FIELD, FieldTooLarge, FormParser
from pipelines.serving.web.forms.uploads import COPY_BYTES, reporting_full_disk

# Form fields other than files stay in memory during the request. One emoji widens a field to four bytes per
# character: 4 MiB per request in all.
MAX_FIELDS = 20
MAX_FIELD_BYTES = 48 << 10  # per field: the longest prompt has 40,000
MAX_JSON_BYTES = 64 << 20  # of a JSON body, which must be in memory to be parsed
JSON_MEMORY = 4 * MAX_JSON_BYTES  # bytes that all JSON bodies being parsed may occupy together ...
JSON_COPIES = 3  # ... where each counts this many times: the body, its text, and the audio in it
# Delimiters in a JSON body. Audio is one long string; every other value takes far more memory than its bytes.
MAX_VALUES = 20_000
# Charsets of forms. Python has codecs that take seconds for one field (punycode).
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1")
_SPOOL_BYTES = 1 << 18  # of a body that stay in memory while it arrives; larger bodies go to disk
_STALL = 30.0  # seconds without a byte after which the request is aborted


def limit_body(receive: Receive, headers: dict[str, str], max_bytes: int, timeout: float) -> Receive:
    """Wrap `receive` so that it refuses a body that is too large or too slow, without reading the rest.

    Args:
        receive: from the ASGI server.
        headers: of the request, with names in lower case.
        max_bytes: largest body.
        timeout: seconds for the whole body.

    Raises:
        Problem: 400, 413 or 415 immediately if the content-length header is wrong or too large, or the body
            is compressed. The returned function raises 413 while reading, and 408.
    """
    if (encoding := headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
        message = f"the body has content-encoding {encoding[:40]!r}: send it without compression"
        raise Problem(415, message, "unsupported_media_type", headers={"connection": "close"})
    length = headers.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit()):
            raise bad_request(f"content-length is {length[:40]!r}, which is not a number")
        if int(length) > max_bytes:
            raise _too_large(max_bytes)
    deadline = time.monotonic() + timeout
    received, complete = 0, False

    async def limited_receive() -> Message:
        nonlocal received, complete
        if complete:  # any further message only says that the client has disconnected
            return await receive()
        try:
            async with asyncio.timeout(min(_STALL, max(0.0, deadline - time.monotonic()))):
                message = await receive()
        except TimeoutError:
            raise Problem(
                408,
                f"the body did not arrive within {timeout:g} s",
                "upload_timeout",
                headers={"connection": "close"},
            ) from None
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > max_bytes:
                raise _too_large(max_bytes)
        return message

    return limited_receive


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """Parse the form of a request.

    Raises:
        Problem: 400 if the body is not a form, or has too many or too large fields; 503 if the disk is full.
    """
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
        raise bad_request("the body must be multipart/form-data with a `file`", code="unsupported_media_type")
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").lower()
    if charset not in _CHARSETS:
        raise _invalid_form(f"the form's charset must be utf-8, not {charset.decode('latin-1')[:40]!r}")
    try:
        with reporting_full_disk():
            form = await _parse_form(request)
    except FieldTooLarge as error:
        raise bad_request(
            f"the form field {error.field[:100]!r} is larger than {MAX_FIELD_BYTES >> 10} KiB; only the part "
            f"named `{FILE_FIELD}` may be larger",
            error.field[:100],
            "invalid_form",
        ) from None
    except MultiPartException as error:
        raise _invalid_form(f"the form cannot be parsed: {error.message}") from None
    except HTTPException as error:
        raise _invalid_form(f"the form cannot be parsed: {error.detail}") from None
    except UnicodeError:
        raise _invalid_form("the form cannot be parsed: a name or value is not UTF-8") from None
    try:
        yield form
    finally:
        await form.close()


async def _parse_form(request: Request) -> FormData:
    limits: dict[str, Any] = {"max_files": 1, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
    if not request.headers["content-type"].lower().startswith("multipart/form-data"):
        return await request.form(**limits)
    async with aclosing(request.stream()) as stream:
        return await FormParser(request.headers, stream, **limits).parse()


@asynccontextmanager
async def spool_body(request: Request) -> AsyncIterator[tuple[BinaryIO, int]]:
    """Receive a JSON body into a file, and yield the file and its size in bytes.

    The file is on disk unless it is small, so bodies that are still arriving take no memory.

    Raises:
        Problem: 413 above MAX_JSON_BYTES, whatever the content-type header says; 503 if the disk is full.
    """
    size = 0
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
        with reporting_full_disk():
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_JSON_BYTES:
                    raise _too_large(MAX_JSON_BYTES)
                file.write(chunk)
        file.seek(0)
        yield cast(BinaryIO, file), size


async def parse_json_object(body: BinaryIO) -> dict[str, Any]:
    """Parse the JSON object in a body, in a thread because it may be large.

    Raises:
        Problem: 400 if it is not an object or has more than MAX_VALUES values.
    """
    try:
        value = await asyncio.to_thread(_parse_json, body)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not valid JSON: {str(error)[:200]}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise bad_request(f"the body must be a JSON object, not {type(value).__name__}", code="invalid_json")
    return value


def _parse_json(body: BinaryIO) -> Any:
    delimiters = 0
    while chunk := body.read(COPY_BYTES):
        delimiters += sum(chunk.count(delimiter) for delimiter in (b"{", b"[", b","))
        if delimiters > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values")
    body.seek(0)
    return json.load(body)


def _invalid_form(message: str) -> Problem:
    return bad_request(message, code="invalid_form")


def _too_large(max_bytes: int) -> Problem:
    # The rest of the body is still arriving, so the connection cannot be used for another request.
    message = f"the body is larger than {max_bytes / 2**20:g} MiB"
    return Problem(413, message, "too_large", headers={"connection": "close"})
