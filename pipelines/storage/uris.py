"""Addresses as strings: local files are absolute paths without `file://`, all others keep their scheme."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

_WINDOWS = re.compile(r"[A-Za-z]:[\\/](?!/)|\\\\[^\\]")
_SCHEME = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(uri: str) -> bool:
    """Whether `uri` is anything but a path on this machine."""
    return "://" in uri and not uri.startswith(("file://", "local://"))


def absolute(uri: str) -> str:
    """The absolute form of an address.

    A local path becomes absolute and normalised, without `file://` and `~`. A URI only loses its trailing
    slash, and its scheme, which is case-insensitive, is in lower case afterwards.
    """
    uri = _with_lower_scheme(uri)
    if is_remote(uri):
        return uri.rstrip("/")
    return os.path.abspath(os.path.expanduser(_local(uri)))


def join(base: str, *names: str) -> str:
    """Join `names` to `base`; an absolute name or a URI replaces what precedes it, as in `os.path.join`."""
    for name in names:
        if "://" in name or name.startswith("/") or _is_file_uri(name):
            base = name
        elif is_remote(base):
            base = f"{base.rstrip('/')}/{name}"
        else:
            base = os.path.join(_local(base), name)
    return base


def is_windows_path(path: str) -> bool:
    """Whether a path has a drive or a server as on Windows, such as C:\\a.wav or \\\\server\\share\\a.wav."""
    return _WINDOWS.match(path.strip()) is not None


def parent(uri: str) -> str:
    """The folder that holds `uri`."""
    if not is_remote(uri):
        return os.path.dirname(absolute(uri))
    scheme, _, path = _without_query(uri).rstrip("/").partition("://")
    return f"{scheme}://{path.rpartition('/')[0]}"


def name_of(uri: str) -> str:
    """The last part of an address, without the query of an http URL."""
    return _without_query(uri).rstrip("/").rpartition("/")[2]


def _with_lower_scheme(uri: str) -> str:
    return _SCHEME.sub(lambda found: found[0].lower(), uri, count=1)


def _local(uri: str) -> str:
    """The path of a local address.

    `file:///a%20b`, `file://localhost/a%20b` and `file:/a%20b` name `/a b`. Many tools write file URIs
    without encoding, so a file whose name has a `%` itself comes first.
    """
    if uri.startswith("local://"):
        return uri[len("local://") :]
    if not _is_file_uri(uri):
        return uri
    path = uri[len("file:") :]
    if path.startswith("//"):
        path = path[2:]
        host, slash, rest = path.partition("/")
        path = slash + rest if host.lower() == "localhost" else path
    if "%" in path and not os.path.lexists(path):
        decoded = unquote(path, errors="surrogateescape")
        if "\0" not in decoded and os.path.lexists(decoded):
            return decoded
    return path


def _is_file_uri(uri: str) -> bool:
    return uri[: len("file:/")].lower() == "file:/"


def _without_query(uri: str) -> str:
    return uri.partition("?")[0] if uri.startswith(("http://", "https://")) else uri
