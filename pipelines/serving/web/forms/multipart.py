"""Multipart forms as clients send them: files of any size, in a part that need not have a file name.

Starlette takes a part for a file only if it has `filename`. Some clients send none, or only `filename*`
(RFC 5987), which forms may not have, and which aiohttp sends for names that are not ASCII.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

FILE_FIELD = "file"
# The value of `filename*`: a charset, a language that may be empty, and a percent-encoded name.
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*\"?[\w.-]*'[\w-]*'([^;\"\s]*)", re.IGNORECASE)
_ANY_EXTENDED_NAME = re.compile(rb";\s*filename\*", re.IGNORECASE)


# Browsers never use them, and RFC 7578 deprecates the header.
_ENCODED = "header content-transfer-encoding"
_ENCODINGS = (b"base64", b"quoted-printable")


class FieldTooLarge(MultiPartException):
    """A field other than the file is too large to be held in memory."""

    def __init__(self, field: str) -> None:
        super().__init__(f"the field {field!r} is too large")
        self.field = field


class FormParser(MultiPartParser):
    """Starlette's parser, for which the part `file` and any part with `filename*` are files."""

    _is_complete = False

    async def parse(self) -> FormData:
        """See `MultiPartParser`.

        Raises:
            MultiPartException: the form cannot be parsed, or is cut off.
        """
        form = await super().parse()
        if not self._is_complete:
            await form.close()
            raise MultiPartException("it ends before its closing boundary")
        return form

    def on_end(self) -> None:
        """See `MultiPartParser`."""
        self._is_complete = True

    def on_headers_finished(self) -> None:
        """See `MultiPartParser`."""
        part = self._current_part
        for name, value in part.item_headers:
            if name.lower() == b"content-transfer-encoding" and value.strip().lower() in _ENCODINGS:
                encoding = value.strip().decode("latin-1")
                raise MultiPartException(f"a part has the {_ENCODED}: {encoding}; send its bytes as they are")
        disposition = part.content_disposition or b""
        options = parse_options_header(disposition)[1]
        if b"filename" in options:
            super().on_headers_finished()
            return
        named = options.get(b"name") == FILE_FIELD.encode()
        if named or (b"name" in options and _ANY_EXTENDED_NAME.search(disposition)):
            part.content_disposition = disposition + b'; filename=""'
        super().on_headers_finished()
        if part.file is not None:
            extended = _EXTENDED_NAME.search(disposition)
            part.file.filename = (
                unquote_to_bytes(extended[1]).decode("utf-8", "replace") if extended else FILE_FIELD
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """See `MultiPartParser`.

        Raises:
            FieldTooLarge: the part is not a file, and too large.
        """
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            raise FieldTooLarge(part.field_name)
        super().on_part_data(data, start, end)
