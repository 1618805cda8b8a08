"""What clients send: bodies with a limit that holds while they arrive, forms, and the files in them as files of ours."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from pipelines.serving.web.errors import Problem, busy, wrong

# Fields that are no files stay in memory while the request does, with four bytes a character where there is one emoji: 4 MiB in all.
MAX_FIELDS = 20
MAX_FIELD = 48 << 10  # bytes of each: the longest prompt has 40,000
MAX_JSON = 64 << 20  # bytes of a JSON body, which has to be in memory to be read
PARSED = 4 * MAX_JSON  # bytes that may be in memory because of bodies that are read ...
COPIES = 3  # ... each so many times: the body, its text, the audio in it
# Marks that begin or part values in a JSON body: audio is one long text, and each value takes far more memory than its bytes.
MAX_VALUES = 20_000
_CHARSETS = (
    b"utf-8",
    b"utf8",
    b"us-ascii",
    b"iso-8859-1",
)  # of forms; Python has codecs that take seconds for one (punycode)
_PIECE = 1 << 18  # characters of base64 decoded at once: a thread holds back all others as long
_SMALL = 1 << 18  # bytes of a body that may stay in memory while it arrives
_STALL = 30.0  # seconds without a byte after which a body is given up
_COPY = 1 << 20
_ROOM_LATER = 30.0  # seconds after which a client may ask again whom the disk had no room for


def limited(receive: Receive, headers: dict[str, str], most: int, seconds: float) -> Receive:
    """`receive` that refuses a body of more than `most` bytes, or one that takes too long, without reading the rest.

    Raises:
        Problem: 400, 413 at once where the header tells the length, else while reading; 408 from the returned function.
    """
    length = headers.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit()):
            raise wrong(f"content-length is {length[:40]!r}, which is no number")
        if int(length) > most:
            raise _too_large(most)
    deadline = time.monotonic() + seconds
    read, complete = 0, False

    async def guarded() -> Message:
        nonlocal read, complete
        if complete:  # what comes now is only whether the client is still there
            return await receive()
        try:
            async with asyncio.timeout(min(_STALL, max(0.0, deadline - time.monotonic()))):
                message = await receive()
        except TimeoutError:
            raise Problem(
                408,
                f"the body did not arrive within {seconds:g} s",
                "upload_timeout",
                headers={"connection": "close"},
            ) from None
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if read > most:
                raise _too_large(most)
        return message

    return guarded


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The multipart form of a request.

    Raises:
        Problem: 400 where it is none; 503 where the disk is full.
    """
    if (
        not request.headers.get("content-type", "")
        .lower()
        .startswith(("multipart/form-data", "application/x-www-form-urlencoded"))
    ):
        raise wrong("the body must be multipart/form-data with a `file`", code="unsupported_media_type")
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8").lower()
    if charset not in _CHARSETS:
        raise wrong(
            f"the form's charset must be utf-8, not {charset.decode('latin-1')[:40]!r}", code="invalid_form"
        )
    try:
        with room():
            form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD)
    except HTTPException as error:
        raise wrong(f"the form cannot be read: {error.detail}", code="invalid_form") from None
    except UnicodeError:
        raise wrong(
            "the form cannot be read: a name or value in it is not UTF-8", code="invalid_form"
        ) from None
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def body_of(request: Request) -> AsyncIterator[tuple[BinaryIO, int]]:
    """A JSON body as a file, which is on the disk unless it is small, and its bytes: what is still under way takes no memory.

    Raises:
        Problem: 413 where it is more than MAX_JSON, whatever type its header says it has; 503 where the disk is full.
    """
    size = 0
    with tempfile.SpooledTemporaryFile(_SMALL) as file:
        with room():
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_JSON:
                    raise _too_large(MAX_JSON)
                file.write(chunk)
        file.seek(0)
        yield cast(BinaryIO, file), size


async def json_of(body: BinaryIO) -> dict[str, Any]:
    """The JSON object in a body; parsed in a thread, because it may be large.

    Raises:
        Problem: 400 where it is none, or has more than MAX_VALUES values.
    """
    try:
        value = await asyncio.to_thread(_parsed, body)
    except (ValueError, RecursionError) as error:
        raise wrong(f"the body is not JSON: {str(error)[:200]}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise wrong(f"the body must be a JSON object, not {type(value).__name__}", code="invalid_json")
    return value


def _parsed(body: BinaryIO) -> Any:
    marks = 0
    while chunk := body.read(_COPY):
        marks += sum(chunk.count(mark) for mark in (b"{", b"[", b","))
        if marks > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values")
    body.seek(0)
    return json.load(body)


@dataclass(frozen=True)
class Kept:
    """A client's file, while it is worked on."""

    path: str  # ours
    name: str  # what the client calls it; data only, never part of a path
    size: int  # bytes


class Shelf:
    """A folder for uploads, which is gone when the server is."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="scriptorium-serve-")

    @asynccontextmanager
    async def keep(self, source: UploadFile | BinaryIO | bytes, name: str) -> AsyncIterator[Kept]:
        """A file with these contents, for the life of a `with` block.

        Raises:
            Problem: 503 where the disk is full.
        """
        with room():
            number, path = tempfile.mkstemp(dir=self._folder)
        os.close(number)
        try:
            with room():
                await asyncio.to_thread(
                    _write, source.file if isinstance(source, UploadFile) else source, path
                )
            if isinstance(source, UploadFile):
                await source.close()  # one copy on the disk is enough
            del source  # and none in memory
            yield Kept(path, name[:200] or "audio", os.path.getsize(path))
        finally:
            # Where the caller was cancelled, the thread still writes: what has no name any more is gone when it is done.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def close(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def names(self) -> list[str]:
        """Of the files that are kept now."""
        return [path.name for path in Path(self._folder).iterdir()]


@contextmanager
def room() -> Iterator[None]:
    """A full disk in this `with` block is a matter of waiting, and not an error of ours.

    Raises:
        Problem: 503.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise busy("the server's disk has no room for this file now", _ROOM_LATER, "disk_full") from None


def _write(source: BinaryIO | bytes, path: str) -> None:
    """Contents into a file that is there: it is not made anew where it was taken away meanwhile."""
    with open(path, "r+b") as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            source.seek(0)
            shutil.copyfileobj(source, file, _COPY)


def bytes_of_data_uri(uri: str) -> bytes:
    """What a `data:` URI holds.

    Raises:
        Problem: 400 where it is not base64.
    """
    comma = uri.find(",")
    if comma < 0 or not uri[:comma].lower().endswith(";base64"):
        raise wrong("a data: URI must be `data:audio/...;base64,...`", "audio_url")
    return bytes_of_base64(uri, "audio_url", comma + 1)


def bytes_of_base64(text: str, param: str, start: int = 0) -> bytes:
    """Decoded base64, from a place of a text on. Piece by piece, so that a thread with much to decode lets others run.

    Raises:
        Problem: 400 where it is not base64.
    """
    try:
        pieces = [
            binascii.a2b_base64(text[place : place + _PIECE], strict_mode=True)
            for place in range(start, len(text), _PIECE)
        ]
    except (binascii.Error, ValueError):
        raise wrong(f"{param} is not base64", param) from None
    # Padding before the end; or too much of it, which the library lets pass.
    if any(len(piece) < _PIECE // 4 * 3 for piece in pieces[:-1]) or (len(text) - start) % 4:
        raise wrong(f"{param} is not base64", param)
    return b"".join(pieces)


def _too_large(most: int) -> Problem:
    # The rest of the body is still under way: the connection cannot be used for anything else.
    return Problem(
        413, f"the body has more than {most / 2**20:g} MiB", "too_large", headers={"connection": "close"}
    )
